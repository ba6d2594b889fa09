"""The evidence that lies in files: every folder <script>/<budget>-<data> of a finished ablation, and its verdicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ablations.harness.declare.scale import BUDGETS, scale_order
from ablations.harness.store.files import PAGE
from reports.pages.claim_cards import claim_card
from reports.pages.reading import Json, one_of, read_ablation, read_each, read_json, read_records

Scale = tuple[str, str]  # budget and data


@dataclass(frozen=True)
class Finished:
    """A finished ablation, as far as the files of its folder could be read.

    origin: "own run" or "published"; ablation: its ablation.json; verdicts: the claims that were judged; link: the
    address of its page for the index, "" if it has none.
    """

    origin: str
    folder: Path
    ablation: Json
    verdicts: list[Json]
    link: str = ""

    @property
    def script(self) -> str:
        """The ablation's name."""
        return self.folder.parent.name

    @property
    def where(self) -> str:
        """Data and budget in words, or the folder's name where no verdict says or it is not named after them."""
        scales = {(verdict["budget"], verdict["data"]) for verdict in self.verdicts}
        usual = [scale for scale in scales if self.folder.name == "-".join(scale)]
        return in_words(usual[0]) if usual else self.folder.name


def find(root: Path, origin: str, problems: list[str]) -> list[Finished]:
    """Every folder of an ablation below `root`, by name; what is missing or damaged in it is added to `problems`."""
    trials = []
    for folder in sorted(root.glob("*/*/")):
        if folder.name.startswith("."):
            continue
        found: list[str] = []
        trials.append(_trial(origin, folder, found))
        problems += [f"{folder.parent.name}/{folder.name} ({origin}): {problem}" for problem in found]
    return trials


def _trial(origin: str, folder: Path, problems: list[str]) -> Finished:
    """What the files of one folder say."""
    # An installation holds the published verdicts and nothing else.
    verdicts_alone = origin == "published" and not (folder / "ablation.json").exists()
    elsewhere: list[str] = [] if verdicts_alone else problems
    ablation = read_ablation(folder, elsewhere)
    judged = read_json(folder / "verdicts.json", list, problems) or []
    verdicts = read_each(judged, _verdict, "verdicts.json, claim", problems)
    read_records(folder, elsewhere)
    if not (folder / PAGE).is_file():
        elsewhere.append(f"{PAGE} is missing; python -m reports.page with this folder writes it.")
    return Finished(origin, folder, ablation, verdicts)


def _verdict(entry: Json) -> Json:
    """One verdict for a cell: its word, its scale, and the test that decided it, which is the first of its outcome."""
    card = claim_card(entry)
    for key in ("claim", "says", "source", "data"):
        if not isinstance(entry[key], str):
            raise ValueError(f"its {key} is {entry[key]!r}, which is no text")
    deciding = [test for test in card["tests"] if test["outcome"] == card["verdict"]]
    if not deciding:
        raise ValueError(f"none of its tests is {card['verdict']}")
    return {
        **{key: card[key] for key in ("claim", "says", "kind", "verdict", "source")},
        "budget": one_of(entry["budget"], BUDGETS),
        "data": entry["data"],
        "seeds": int(entry["seeds"]),
        "test": {key: deciding[0][key] for key in ("says", "estimate", "unit", "interval", "needs")},
    }


def in_words(scale: Scale) -> str:
    """Data and budget in words."""
    return f"{scale[1]}, {scale[0]} budget"


def scales_of(trials: list[Finished]) -> list[Scale]:
    """What claims were tried on, in the order of `scale_order`."""
    found = {(verdict["budget"], verdict["data"]) for trial in trials for verdict in trial.verdicts}
    return sorted(found, key=lambda scale: scale_order(*scale))
