"""The page in a real browser, where one is installed: charts appear, keys work, nothing fails, nothing is fetched."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess

import pytest
from invented_ablation import make_folder
from invented_surfaces import LOSS, bowl, holed, rough

from ablations.harness.files import write_json
from reports.charts import surface_3d
from reports.page import write_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="neither chromium nor google-chrome is installed"),
]

# Runs inside the page, before its own scripts: collects what fails, waits for the charts, uses them, tells the result.
DRIVER = """
const errors = [];
addEventListener("error", (event) => errors.push(String(event.message)));
addEventListener("unhandledrejection", (event) => errors.push(String(event.reason)));
addEventListener("securitypolicyviolation", (event) => errors.push(event.violatedDirective + " " + event.blockedURI));
const complain = console.error;
console.error = (...words) => { errors.push(words.join(" ")); complain(...words); };
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
addEventListener("load", async () => {
  const charts = [...document.querySelectorAll(".chart")];
  for (let i = 0; i < 100 && charts.some((chart) => !chart.querySelector(".main-svg")); i++) await pause(100);
  await pause(500);
  const press = async (chart, key) => {
    chart.focus();
    chart.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    await pause(300);
  };
  const told = { errors };
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
  told.lost = [...document.querySelectorAll("a[href^='#']")].filter((a) => !document.querySelector(a.hash)).length;
  document.querySelector("a[href='#runs']").click();
  await pause(100);
  told.followed = location.hash === "#runs" && scrollY > 0;
  told.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  const fetched = performance.getEntriesByType("resource").map((entry) => entry.name);
  told.fetched = fetched.filter((name) => !/^(data|blob):/.test(name));
  parent.postMessage(told, "*");
});
"""
FRAME = """<!doctype html><iframe src="driven.html" width="{width}" height="900"></iframe><pre id="told"></pre><script>
addEventListener("message", (event) => { document.querySelector("#told").textContent = JSON.stringify(event.data); });
</script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished ablation with two charts of lines and one of surfaces."""
    folder = make_folder(tmp_path_factory.mktemp("browser"), seeds=range(3))
    summary = json.loads((folder / "ablation.json").read_text())
    surfaces = [("smooth", bowl((21, 21))), ("rough <b>", rough((21, 21))), ("holed", holed())]
    summary["figures"].append(surface_3d(surfaces, LOSS, folder, "surfaces", "Surfaces", "Cap.")._asdict())
    write_json(folder / "ablation.json", summary)
    return folder


def browse(folder, page, *flags, width=1280):
    """What the driver tells of the page, `width` pixels wide, and what the browser says of it on its console.

    The page lies in a frame, because a headless window cannot be as narrow as a phone.
    """
    script = hashlib.sha256(DRIVER.encode()).digest()
    page = page.replace("script-src ", f"script-src 'sha256-{base64.b64encode(script).decode()}' ", 1)
    page = page.replace("<title>", f"<script>{DRIVER}</script><title>", 1)
    (folder / "driven.html").write_text(page, encoding="utf-8")
    (folder / "frame.html").write_text(FRAME.replace("{width}", str(width)), encoding="utf-8")
    words = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader", "--enable-logging=stderr", "--disable-background-networking",
        "--window-size=1400,1000",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=60000", "--dump-dom", *flags,
        (folder / "frame.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=True)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    found = re.search(r'<pre id="told">(.+?)</pre>', done.stdout, re.S)
    assert found, console
    return json.loads(html.unescape(found[1])), console


def test_charts_appear_and_answer_to_keys(folder):
    told, console = browse(folder, write_page(folder).read_text(encoding="utf-8"))
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
    told, _ = browse(folder, page, "--blink-settings=preferredColorScheme=0", width=390)
    assert told["errors"] == []
    assert told["colour"] == "#ececee"
    first, second = told["domains"]
    assert first["y"][0] >= second["y"][1], "one below the other"
    assert told["wide"] <= 0, "nothing sticks out"
    assert all(abs(chart["width"] - chart["room"]) <= 2 for chart in told["charts"])


def test_a_chart_that_plotly_cannot_draw_says_so(folder):
    page = write_page(folder).read_text(encoding="utf-8")
    assert page.count('"data":[{"type":"scatter"') == 2
    told, _ = browse(folder, page.replace('"data":[{"type":"scatter"', '"data":[null,{"type":"scatter"', 1))
    assert "This chart could not be drawn" in told["charts"][0]["text"]
    assert told["charts"][1]["svg"] > 0
