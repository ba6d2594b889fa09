"""The page in a real browser, where one is installed: charts appear, keys work, nothing fails, nothing is fetched."""

import json
import re

import pytest
from browser import DARK, browse, in_a_browser
from invented_ablation import make_folder
from invented_surfaces import LOSS, holed, rough

from ablations.harness.store.files import write_json
from reports.charts.interactive import surface_3d
from reports.pages.page import write_page

pytestmark = [pytest.mark.slow, in_a_browser]

# Waits for the charts and uses them.
STEPS = """
  const charts = [...document.querySelectorAll(".chart")];
  for (let i = 0; i < 100 && charts.some((chart) => !chart.querySelector(".main-svg")); i++) await pause(100);
  await pause(500);
  const press = async (chart, key) => {
    chart.focus();
    chart.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    await pause(300);
  };
  told.charts = charts.map((chart) => ({
    svg: chart.querySelectorAll(".main-svg").length, canvas: chart.querySelectorAll("canvas").length,
    text: chart.innerText, width: chart.querySelector(".main-svg")?.clientWidth, room: chart.clientWidth,
  }));
  const lines = charts.find((chart) => chart.data?.[0]?.type === "scatter");
  if (lines) {
    told.focused = (lines.focus(), document.activeElement === lines);
    told.before = [...lines.layout.xaxis.range];
    await press(lines, "+");
    told.zoomed = [...lines.layout.xaxis.range];
    await press(lines, "0");
    told.reset = [...lines.layout.xaxis.range];
    await press(lines, "1");
    told.hidden = lines.data.filter((trace) => trace.visible === "legendonly").map((trace) => trace.name);
  }
  const views = charts.find((chart) => chart.data?.[0]?.type === "surface");
  if (views) {
    const eye = (view) => JSON.stringify(views.layout[view].camera.eye);
    const first = eye("scene");
    await press(views, "ArrowLeft");
    told.turned = first !== eye("scene");
    told.together = eye("scene") === eye("scene2");
    await press(views, "0");
    told.back = JSON.parse(first).x.toFixed(6) === views.layout.scene.camera.eye.x.toFixed(6);
    told.domains = ["scene", "scene2"].map((view) => views.layout[view].domain);
  }
  told.colour = views._fullLayout.font.color;
  document.querySelector("a[href='#runs']").click();
  await pause(100);
  told.followed = location.hash === "#runs" && scrollY > 0;
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished ablation with two charts of lines and one of surfaces."""
    folder = make_folder(tmp_path_factory.mktemp("browser"), seeds=range(3))
    summary = json.loads((folder / "ablation.json").read_text())
    surfaces = [("rough <b>", rough()), ("holed", holed())]
    summary["figures"].append(surface_3d(surfaces, LOSS, folder, "surfaces", "Surfaces", "Cap.")._asdict())
    write_json(folder / "ablation.json", summary)
    return folder


def test_charts_appear_and_answer_to_keys(folder):
    told, console = browse(folder, write_page(folder).read_text(encoding="utf-8"), STEPS)
    assert told["errors"] == []
    assert [line for line in console if re.search("Uncaught|Refused|violates|ERR_|Failed", line)] == []
    assert told["fetched"] == []
    assert len(told["charts"]) == 3
    assert all(chart["svg"] and abs(chart["width"] - chart["room"]) <= 2 for chart in told["charts"])
    assert [chart["canvas"] > 0 for chart in told["charts"]] == [False, False, True]
    assert "rough <b>" in told["charts"][2]["text"]
    assert told["colour"] == "#1c1d20"
    assert told["focused"]
    low, high = told["before"]
    assert low < told["zoomed"][0] < told["zoomed"][1] < high
    assert told["reset"] == pytest.approx(told["before"])
    assert set(told["hidden"]) == {"preact_resnet"}
    assert len(told["hidden"]) == 2, "the line and its band"
    assert told["turned"]
    assert told["together"]
    assert told["back"]
    first, second = told["domains"]
    assert first["x"][1] <= second["x"][0], "beside each other"
    assert told["lost"] == 0
    assert told["followed"]


def test_dark_and_narrow(folder):
    page = write_page(folder).read_text(encoding="utf-8")
    told, _ = browse(folder, page, STEPS, DARK, width=390)
    assert told["errors"] == []
    assert told["colour"] == "#ececee"
    first, second = told["domains"]
    assert first["y"][0] >= second["y"][1], "one below the other"
    assert told["wide"] <= 0, "nothing sticks out"
    assert all(abs(chart["width"] - chart["room"]) <= 2 for chart in told["charts"])
