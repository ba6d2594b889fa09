"""The report page: everything a sceptic needs is on it, and what is missing or damaged is named, never hidden."""

import base64
import json
import math
import re

import numpy as np
import pytest
from invented_ablation import ARMS, CLAIMS, make_folder, synthetic_records
from matplotlib.colors import to_rgb
from page_reader import Page, assert_well_formed

from ablations.harness.judging.verdict import judge
from ablations.harness.store.files import write_json
from ablations.harness.store.records import read_records
from reports.charts.style import number
from reports.page import main
from reports.pages.page import write_page


def test_every_claim_is_shown_with_verdict_estimate_interval_and_every_seed(finished):
    page = Page(write_page(finished))
    verdicts = json.loads((finished / "verdicts.json").read_text())
    assert {verdict["verdict"] for verdict in verdicts} == {"reproduced", "contradicted", "undecided"}
    assert page.markup.count("<article") == len(verdicts) == len(CLAIMS)
    cards = page.markup.split("<article")[1:]
    for card, verdict in zip(cards, verdicts, strict=True):
        assert f'<span class="word {verdict["verdict"]}">{verdict["verdict"]}</span>' in card
        assert verdict["claim"] in card
        assert f"<strong>{number(verdict['estimate'])}" in card
        for test in verdict["tests"]:
            if "counted exactly" not in test["rule"]:
                low, high = map(number, test["interval"])
                assert f"95 % interval {low} to {high} {test['unit']}" in card
        assert card.count("<circle") == sum(len(test["values"]) for test in verdict["tests"])
        thresholds, sides = (re.findall(f'class="{name}" x1?="(.*?)"', card) for name in ("threshold", "side"))
        upward = [test["side"] == "at least" for test in verdict["tests"]]
        assert [at == side for at, side in zip(thresholds, sides, strict=True)] == upward
    for verdict in verdicts:
        for key in ("says", "why", "published", "notes_value", "source", "scale", "rule"):
            assert verdict[key] in page.text
    assert "needs at most 5 points" in page.source  # the title of the strip; its label has no room for units
    assert "no number printed" in page.text
    assert "262,144 counted exactly" in page.text


def test_the_rest_of_the_page(finished):
    page = Page(write_page(finished))
    images = page.all("img")
    assert len(images) == 5
    entries = json.loads((finished / "ablation.json").read_text())["figures"]
    for image, entry in zip(images, [each for each in entries if each["file"].endswith(".png")], strict=True):
        content = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
        assert content == (finished / entry["file"]).read_bytes()
        assert entry["caption"] in page.text
    for text in ("--budget laptop --data digits --seeds 8", "test set read once", "ImageNet and ResNet-200", "0a1b2c3"):
        assert text in page.text
    assert "Arm vgg_bn, seed 4 is diverged: the loss was NaN in epoch 3." in page.text
    broken = sum(math.isnan(value) for value in read_records(finished).values())
    assert f"values, of which {broken} are not finite because their run diverged" in page.text
    assert "7 of 8" in page.text
    assert "vgg_bn-digits-s4-0a1b2c3d4e5f" in page.text
    assert "8.35 \u00b1 0.24" in page.text  # 8.0 + 0.1 * seed over eight seeds
    assert "incomplete" not in page.text


def test_the_table_of_arms_shows_only_differences(finished):
    source = write_page(finished).read_text(encoding="utf-8")
    table = source.split('aria-label="Arms"')[1].split("</table>")[0]
    assert all(name in table for name in ("network", "depth", "norm", "last survival", *ARMS))
    assert ">width<" not in table  # the same everywhere
    assert "epochs" not in table
    assert "290,474" in table
    assert table.count(">not set<") == 4 + 4


def test_texts_are_escaped_and_the_structure_is_sound(finished):
    page = Page(write_page(finished))
    assert page.all("b") == []
    assert "<script>alert('arm')</script>" in page.text
    assert_well_formed(page)
    assert all(image["width"] and image["height"] for image in page.all("img"))


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return np.dot((0.2126, 0.7152, 0.0722), linear)


def test_contrast_is_aa_in_light_and_dark(finished):
    source = write_page(finished).read_text(encoding="utf-8")
    schemes = [
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", source, re.S)
    ]
    assert len(schemes) == 2
    for colours in schemes:
        pairs = [(text, ground) for text in ("ink", "quiet", "link") for ground in ("page", "card", "side")]
        pairs += [(word, f"{word}-bg") for word in ("reproduced", "contradicted", "undecided")]
        for pair in pairs:
            dark, light = sorted(luminance(colours[name]) for name in pair)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, pair


def test_same_files_same_bytes_and_a_small_page(finished):
    first = write_page(finished).read_bytes()
    assert write_page(finished).read_bytes() == first
    assert len(first) < 8e6
    assert [path.name for path in finished.iterdir() if path.name.endswith(".tmp")] == []
    assert str(finished).encode() not in first


@pytest.mark.parametrize("name", ["verdicts.json", "ablation.json", "records.csv", "figures/reordering.png"])
@pytest.mark.parametrize(
    "damage", [None, lambda b: b[: len(b) // 2], lambda b: b"\xff" + b, lambda b: b"", lambda b: b"null"]
)
def test_a_missing_or_damaged_file_is_named_and_the_rest_shown(edit, name, damage):
    folder, _ = edit
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if damage is not None:
        (folder / name).write_bytes(damage(content))
    page = Page(write_page(folder))
    assert "This report is incomplete" in page.text
    assert name in page.text
    assert ("RL1" in page.text) == (name != "verdicts.json")
    assert ("--budget laptop" in page.text) == (name != "ablation.json")
    assert "Nothing that was planned is missing" not in page.text
    assert len(page.all("img")) == {"ablation.json": 0, "figures/reordering.png": 4}.get(name, 5)
    assert str(folder) not in page.source


@pytest.mark.parametrize(
    ("name", "change", "notice"),
    [
        ("ablation.json", lambda a: a.pop("arms"), 'ablation.json holds no list named "arms"'),
        ("ablation.json", lambda a: a["arms"][1].pop("recipe"), "ablation.json, arm 2 is damaged"),
        ("ablation.json", lambda a: a.update(foreign={"run": "mine"}), "ablation.json, network 1 is damaged"),
        ("ablation.json", lambda a: a.update(foreign=[3]), "ablation.json, network 1 is damaged"),
        ("ablation.json", lambda a: a["runs"][0].update(state="odd"), "run 1 is damaged and left out: 'odd'"),
        ("ablation.json", lambda a: a["runs"][0].update(train_seconds=math.nan), "is damaged: NaN is not JSON"),
        ("ablation.json", lambda a: a["figures"][0].update(file="../x.png"), "../x.png lies outside the folder"),
        ("verdicts.json", lambda v: v[0].update(verdict="proved"), "'proved' is none of reproduced"),
        ("verdicts.json", lambda v: v[1].update(tests=[]), "claim 2 is damaged and left out: it has no test"),
        ("verdicts.json", lambda v: v[1].pop("why"), "claim 2 is damaged and left out: it has no 'why'"),
        ("verdicts.json", lambda v: v.__setitem__(2, 7), "claim 3 is damaged"),
        ("verdicts.json", lambda v: v[0]["tests"][0]["values"].update({"0": 10**400}), "claim 1 is damaged"),
    ],
)  # fmt: skip
def test_a_damaged_entry_is_named_and_the_others_shown(edit, name, change, notice):
    folder, edit_json = edit
    edit_json(name, change)
    page = Page(write_page(folder))
    assert notice in page.text
    assert "RL6" in page.text


def test_missing_seeds_are_named_once(edit):
    folder, edit_json = edit
    edit_json("ablation.json", lambda a: a["seeds"].extend([8, 9]))
    edit_json(
        "ablation.json", lambda a: a["runs"].append({**a["runs"][0], "arm": "vgg", "seed": 8, "state": "missing"})
    )
    page = Page(write_page(folder)).text
    assert "Arm vgg, seed 8 is missing." in page
    assert "Arm vgg has no records of seed 9." in page
    assert "Arm vgg_bn has no records of seed 8, 9." in page


def test_too_little_evidence_is_shown_as_such(tmp_path):
    page = Page(write_page(make_folder(tmp_path, seeds=range(1), diverged=())))
    assert "no interval from seed 0 alone" in page.text
    assert "undecided" in page.text


def test_diverged_seeds_are_named_beside_the_dots(edit):
    folder, _ = edit
    records = synthetic_records(range(4), diverged=(("vgg", 1),))
    write_json(folder / "verdicts.json", judge(CLAIMS[:1], records, [0, 1, 2, 3], "laptop", "digits"))
    page = Page(write_page(folder))
    assert "No finite value: seed 1." in page.text
    assert "no estimate" in page.text


def test_command_line(edit, capsys):
    folder, _ = edit
    assert main([str(folder)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert main([str(folder / "nowhere")]) == 2
    assert capsys.readouterr().err == f"{folder / 'nowhere'} is not a folder\n"


def test_what_an_experiment_cannot_see_is_told_where_it_is_judged(edit):
    """Needs that do not hold, stuck runs, amended rules, who agrees, when rules were fixed, and checks apart."""
    finished, _ = edit
    verdicts = json.loads((finished / "verdicts.json").read_text())
    first, last = verdicts[0], verdicts[-1]
    test = first["tests"][0]
    need = {
        **test,
        "says": "loss of the plain network",
        "unit": "nats",
        "met": False,
        "met_by": "--budget short would do",
    }
    again = {"verdict": "reproduced", "why": "seven seeds agree", "estimate": 1.0, "interval": [0, 2], "unit": ""}
    first |= {
        "verdict": "out of reach", "needs": [need], "stuck": [{"arm": "vgg", "seed": 3}], "without_stuck": again,
        "amended": [{"date": "2026-01-31", "was": "5 %", "now": "10 %", "why": "A pilot showed more noise."}],
        "out_of_sight": "RL1 cannot be contradicted with 7 seeds; 8 can say either",
        "rules": {"commit": "0a1b2c", "date": "2026-01-30T12:00", "uncommitted_changes": True, "before_runs": False},
    }  # fmt: skip
    for each in first["tests"]:
        each["outcome"] = "out of reach"
    verdicts[1]["agrees_with"] = "notes"
    verdicts[1]["notes_value"] = "one point"
    last["kind"] = "check"
    write_json(finished / "verdicts.json", verdicts)
    page = Page(write_page(finished))
    assert_well_formed(page)
    card, *_, check = page.markup.split("<article")[1:]
    assert '<span class="word out of reach">out of reach</span>' in card
    assert all(words in card for words in ("loss of the plain network", "not met", "--budget short"))
    assert all(words in card for words in ("vgg seed 3: ended near guessing", "seven seeds agree"))
    assert "from 5 % to 10 %. A pilot showed more noise." in card
    assert "8 can say either" in card
    assert "commit 0a1b2c of 2026-01-30, after some of the runs that it judges; the script has changes" in card
    assert "with the notes, not the paper" in page.text
    assert page.markup.index('id="checks"') < page.markup.index(f"claim-{last['claim']}")
    assert "1 out of reach" in page.text
    assert f"{last['verdict']}</span>" in check
    experiments = sum(each["verdict"] == "reproduced" for each in verdicts[:-1])
    assert (f"{experiments} reproduced" in page.text) == bool(experiments)
