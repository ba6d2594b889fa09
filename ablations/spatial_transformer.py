"""Does a spatial transformer make a network invariant, does it undo what was done to an image, and what does it need?

Jaderberg et al. 2015, "Spatial transformer networks", arXiv:1506.02025, sections 3 and 4.1, appendices A.1, A.2, A.4.

    python ablations/spatial_transformer.py
    python ablations/spatial_transformer.py --data mnist --budget paper --trainer.devices 8
    python ablations/spatial_transformer.py --claims ST4a --arms rts_st_cnn_affine

Digits of any grey source are distorted on the fly (`made/distorted_digits.py`). Arms have about equal parameters.
Differs from the paper at the laptop budget: digits of 16 pixels in images of 16 (R, P, E), 24 (RTS, addition) and 34
(TC), of 10 in 30 for co-localisation; 100,000 parameters (addition: 400,000, and digits are placed only), 16 filters;
360 steps of 64 images (addition 720, co-localisation 640) at 0.05, falling linearly to 0 (the paper: 150,000 steps of
256 at 0.01).
Localisation has a tenth of the rate at every budget, as the paper says of house numbers; of digits it says nothing.
Rates were found on seeds from 1001 on, which no verdict uses; fully connected networks would do better at 0.1. A run of
600 steps was stopped after five seeds, before any verdict, because nine would have taken half an hour.
ST1 to ST3 have a test for each kind of distortion. With nine seeds they had one, of the kind with the least gap: too
lenient for "contradicted", which counts tests. The rule was mended after that run, for its own sake; ST2 was
contradicted by the old one and is undecided by the new one.
ST4 is judged in two parts, because the other seeds showed places undone long before angles. ST5 and ST6 answer remarks
of the notes. ST11 departs from the paper in what `modules.families.colocalisation` says: windows were lost with an
encoder that learns, which one arm shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.measure import Measure, Quantity, computed, counted, mean_of, top1_error
from ablations.harness.declare.scale import epochs_of
from ablations.harness.launch import main
from ablations.harness.store.records import Records

if TYPE_CHECKING:
    from ablations.harness.probing import Measurement, Subject
    from datamodules.images import ImageData

KINDS = ("r", "rts", "p", "e")
TRANSFORMS = ("affine", "projective", "tps")
ROOMS = {"R": 28, "RTS": 42, "P": 28, "E": 28, "TC": 60}  # widths of images in pixels of a digit 28 pixels wide
POOLED = ("RTS", "TC")  # average pooling of 2 behind the transformer, or in front of a network without one
UPSIDE_DOWN = 4  # the class that is always turned by half a circle in one arm
MATCHED = 0.75  # of what a CNN gains over a fully connected network
ACTS = 10.0  # % of the angles' variation: a transformer that takes away less has not learned to turn
SMALL = 0.35  # of the image's width: what the transformer gives at low resolution
FULL, FLIPPED, TURNED = "rts_st_cnn_affine", "flipped_st_cnn", "full_turn_st_cnn"
ANIMATED = (FULL, "tc_st_cnn_affine")
FIXED_CNN, FIXED_ST, RANDOM, SAME_RATE = (
    "rts_fixed_cnn",
    "rts_fixed_st_cnn",
    "rts_random_st_cnn",
    "rts_same_rate_st_cnn",
)
SMALL_CNN, SMALL_ST, HALF_ST = "tc_cnn_small", "tc_st_cnn_small", "tc_st_cnn_half"
ADDITION = {"fcn": "addition_fcn", "cnn": "addition_cnn", "one": "addition_one_st", "two": "addition_two_st"}
TRANSLATED, CLUTTERED = "colocalise_translated", "colocalise_cluttered"
LEARNED, ANY = "colocalise_learned", "colocalise_any"


# -- the arms ---------------------------------------------------------------------------------------------------------


def plan(budget: str, data: ImageData) -> Plan:
    """Table 1, then one or two arms for each further question."""
    digit = {"smoke": 8, "laptop": 16}.get(budget, data.image_size)
    size = {} if budget == "paper" else {"width": 16}
    small = budget in ("smoke", "laptop")
    size |= {"num_parameters": 100_000} if small else {}
    num_train = data.identity["num_train"]

    def recipe(steps_on_a_laptop: int = 360) -> dict[str, Any]:
        steps, batch = {"paper": (150_000, 256), "short": (3_000, 256)}.get(budget, (steps_on_a_laptop, 64))
        epochs = 1 if budget == "smoke" else epochs_of(steps, batch, num_train)
        found: dict[str, Any] = {"epochs": epochs, "batch_size": batch, "localisation_factor": 0.1}
        if budget != "paper":
            found |= {"learning_rate": 0.05, "schedule": "linear", "warmup_steps": 50, "nesterov": True}
        return found

    def pixels(room: float) -> int:
        return round(digit * room / 28)

    def arm(name: str, network: str, kind: str, transform: str = "", **changes: Any) -> Arm:
        """On distorted digits; changes: `arguments`, `recipe` and `snapshots`, the others are of the data."""
        arguments = {"pool": 2 if kind in POOLED else 1, **size, **changes.pop("arguments", {})}
        if "fcn" in network:
            arguments.pop("width", None)
        if transform:
            arguments["transform"] = transform
        found = recipe() | changes.pop("recipe", {})
        snapshots, note = changes.pop("snapshots", 0), changes.pop("note", "")
        data = {"name": "distorted_digits", "kind": kind, "size": pixels(ROOMS[kind]), **changes}
        return Arm(name, network, arguments, found, note, data=data, snapshots=snapshots)

    arms = []
    for kind in ("R", "RTS", "P", "E", "TC"):
        for network in ("fcn", "cnn"):
            arms.append(arm(f"{kind.lower()}_{network}", network, kind))
            for transform in TRANSFORMS[: 1 if kind == "TC" else 3]:
                name = f"{kind.lower()}_st_{network}_{transform}"
                arms.append(arm(name, f"st_{network}", kind, transform, snapshots=12 if name in ANIMATED else 0))
    low, half = pixels(SMALL * ROOMS["TC"]), pixels(ROOMS["TC"] / 2)
    arms += [
        arm(FLIPPED, "st_cnn", "R", "affine", angle=45.0, upside_down=[UPSIDE_DOWN], note="one class upside down"),
        arm(TURNED, "st_cnn", "R", "affine", angle=180.0, note="turned anyhow"),
        arm(FIXED_CNN, "cnn", "RTS", fresh=False, note="the same distorted images in every epoch"),
        arm(FIXED_ST, "st_cnn", "RTS", "affine", fresh=False, note="the same distorted images in every epoch"),
        arm(RANDOM, "st_cnn", "RTS", "affine", arguments={"start": "random"}, note="theta starts at random"),
        arm(
            SAME_RATE, "st_cnn", "RTS", "affine", recipe={"localisation_factor": 1.0}, note="localisation at full rate"
        ),
        arm(SMALL_CNN, "cnn", "TC", arguments={"pool": 3}, note="a third of the resolution"),
        arm(SMALL_ST, "st_cnn", "TC", "affine", arguments={"pool": 1, "output_size": low}, note="a third, attended"),
        arm(HALF_ST, "st_cnn", "TC", "affine", arguments={"pool": 1, "output_size": half}, note="a half, attended"),
    ]
    for name, arguments in (
        ("fcn", {"transform": "none"}), ("cnn", {"transform": "none", "trunk": "cnn"}),
        ("one", {"num_transformers": 1}), ("two", {"num_transformers": 2}),
    ):  # fmt: skip
        pairs: dict[str, Any] = {"name": "digit_addition", "size": pixels(42)}
        if small:  # turned and scaled digits nobody can add after so few steps
            pairs |= {"angle": 0.0, "scale": [1.0, 1.0]}
        # More than elsewhere: of 100,000, two localisation networks would leave 9 hidden units for 19 classes.
        whole = {**arguments, **size, "num_parameters": 400_000 if small else 1_600_000}
        arms.append(Arm(ADDITION[name], "st_addition", whole, recipe(720), data=pairs))
    # Of another kind, without labels: calibrated apart from the others, with smaller digits.
    alike: dict[str, Any] = {"name": "same_digits", "size": data.image_size * 3 if budget == "paper" else 30}
    triplets = recipe(640) | ({} if budget == "paper" else {"learning_rate": 0.02, "localisation_factor": 1.0})
    for name, encoder, note, seen in (
        (TRANSLATED, "thumbnail", "", {"patches": 0}),
        (CLUTTERED, "thumbnail", "among patches of other digits", {"patches": 16}),
        (ANY, "thumbnail", "a control: the partner is any digit", {"patches": 0, "same": False}),
        (LEARNED, "cnn", "an encoder that learns", {"patches": 0}),
    ):
        chosen = {"image_size": alike["size"], "encoder": encoder}
        arms.append(Arm(name, "st_colocalisation", chosen, triplets, note, data={**alike, **seen}, snapshots=2))
    # Eleven are the fewest that can contradict one of twelve claims that has eight tests.
    return Plan(tuple(arms), 1 if budget == "smoke" else 11)


# -- the probe --------------------------------------------------------------------------------------------------------


def probe(subject: Subject) -> Iterator[Measurement]:
    """What the network costs, and what its transformers find and give."""
    from ablations.harness.probing import Measurement
    from ablations.probes.transformers import questions as ask
    from ablations.probes.transformers.poses import transformers
    from modules.blocks.cost import cost

    data = subject.data
    counted = cost(subject.network, (data.in_channels, data.image_size, data.image_size))
    yield Measurement("network", "multiply_adds", counted.multiply_adds / 1e6, "M")
    yield Measurement("network", "parameters", counted.parameters, "")
    if not transformers(subject.network):
        return
    if subject.arm.startswith("colocalise"):
        yield from ask.pairs(subject)
        return
    ask.looks(subject)
    if not subject.arm.startswith("addition"):
        yield from ask.undone(subject)
    if subject.snapshots:
        ask.training(subject)
    if subject.arm == FULL:
        yield from ask.gradients(subject)


def passes(blocks: int, settings: Mapping[str, Any]) -> float:
    """One over the test images for theta, two where windows are compared with those before training."""
    arm = settings["arm"]
    return 2.0 if arm.startswith("colocalise") else 1.0 if "_st_" in arm else 0.0


def check(settings: Mapping[str, Any], network: Any) -> None:
    """Raises ValueError for a network from outside: what it asks needs data that is made for each arm."""
    if network is not None:
        raise ValueError("spatial_transformer makes the images of each arm; it takes no network from outside")


def figures(records: Records, folder: Path) -> Sequence[Any]:
    """Table 1, gaps, what is undone, pictures, and digits in the course of training."""
    from reports.drawings.spatial_transformer import draw

    return draw(records, folder)


# -- what decides -----------------------------------------------------------------------------------------------------


def removed(arm: str, part: str) -> Measure:
    """Part in % of the variation of angle, scale or shift that the transformer takes away."""
    return Quantity(f"{part}/removed", "%", f"variation of the {part} taken away", "pose")(arm)


def gap(kind: str, trunk: str, transforms: Sequence[str] = TRANSFORMS) -> Measure:
    """Error of the plain network minus that with a transformer, the mean over transforms, in % points."""
    moved = mean_of(*(top1_error(f"{kind}_st_{trunk}_{transform}") for transform in transforms))
    return top1_error(f"{kind}_{trunk}") - moved


def beyond(kind: str) -> Measure:
    """What ST-FCN gains over FCN beyond MATCHED of what a CNN gains, in % points."""
    plain, moved, cnn = (top1_error(f"{kind}_{net}") for net in ("fcn", "st_fcn_affine", "cnn"))
    return plain - moved - MATCHED * (plain - cnn)


upside_down = Quantity("kept_upside_down", "%", "digits that leave upside down", "class")


def kept(records: Records) -> dict[int, float]:
    """Seed -> share in % of the upside-down class that leaves so, of networks that turn digits at all (ACTS)."""
    acts, found = removed(FLIPPED, "angle").by_seed(records), upside_down(FLIPPED).by_seed(records)
    return {seed: value for seed, value in found.items() if acts.get(seed, 0.0) >= ACTS}


found_pairs = Quantity("found", "%", "digits found", "pairs", {"when": "trained"})
multiply_adds = Quantity("multiply_adds", "", "multiply-adds", "network")
deviation = Quantity("gradient/deviation", "", "deviation from the paper's sums", "sampler", over="greatest")


PAPER = "Jaderberg et al. 2015, arXiv:1506.02025"
TABLE = f"{PAPER}, table 1"

CLAIMS = (
    Claim(
        "ST1", "On rotated, placed, projected and bent digits a transformer in front lowers the error.", TABLE,
        "FCN 2.1 / 5.2 / 3.1 / 3.2 % on R / RTS / P / E, with affine transformer 1.2 / 0.8 / 1.5 / 2.7 %; "
        "CNN 1.2 / 0.8 / 1.5 / 1.4 %, with it 0.7 / 0.5 / 0.8 / 1.2 %",
        "affine for rotation, thin plate splines for the rest; the paper ran all three on all four",
        tests=tuple(
            Test(f"{trunk}_{kind}", gap(kind, trunk).called(
                f"error of the {trunk.upper()} minus that with a transformer (mean of three transforms), "
                f"{kind.upper()}"), at_least=0.0)
            for trunk in ("fcn", "cnn") for kind in KINDS
        ),
    ),
    Claim(
        "ST2", "Where digits are placed anywhere among clutter, a transformer helps most.", f"{PAPER}, appendix A.4",
        "TC: FCN 13.2, ST-FCN 2.0, CNN 3.5, ST-CNN 1.7 %",
        "all images are cluttered and 60 pixels wide; that is TC alone",
        tests=tuple(
            Test(f"{trunk}_{kind}", (gap("tc", trunk, ("affine",)) - gap(kind, trunk, ("affine",))).called(
                f"gap between {trunk.upper()} and ST-{trunk.upper()} (affine) on TC minus that on {kind.upper()}"),
                at_least=0.0)
            for trunk in ("fcn", "cnn") for kind in KINDS
        ),
    ),
    Claim(
        "ST3", "A transformer with a fully connected network matches a convolutional one.", TABLE,
        "ST-FCN (affine) 1.2 / 0.8 / 1.5 %, CNN 1.2 / 0.8 / 1.5 % on R / RTS / P; but 2.7 and 1.4 % on E",
        "the CNN's 0.8 is called an accuracy; it is the error on RTS",
        tests=tuple(
            Test(kind, beyond(kind).called(
                "error that a transformer takes from the fully connected network, minus three quarters of what "
                f"convolutions take, {kind.upper()}"), at_least=0.0)
            for kind in KINDS[:3]
        ),
    ),
    Claim(
        "ST4a", "The transformer undoes where a digit was placed and how it was scaled.", f"{PAPER}, section 4.1", "",
        tests=tuple(
            Test(part, removed(FULL, part).called(
                f"part of the variation of {words} within a class that is taken away on RTS"), at_least=50.0)
            for part, words in (("shift", "place"), ("scale", "scale"))
        ),
    ),
    Claim(
        "ST4b", "The transformer undoes how a digit was turned.", f"{PAPER}, section 4.1", "",
        tests=(
            Test("angle", removed(FULL, "angle").called(
                "part of the variation of the angle within a class that is taken away on RTS"), at_least=50.0),
        ),
    ),
    Claim(
        "ST5", "The pose that it gives is that of the training data: what always stands upside down stays so, and "
        "the more angles there are, the less it turns them back.",
        "a remark of the notes, put as this suite's question; the paper is silent", "",
        tests=(
            Test("kept", computed(
                "digits of a class that was always upside down (give or take 45 degrees) that leave so, of networks "
                "that take away at least a tenth of the angles' variation", "%", kept, (FLIPPED,)), at_least=50.0),
            Test("turned", (removed("r_st_cnn_affine", "angle") - removed(TURNED, "angle")).called(
                "part of the angles' variation taken away at up to 90 degrees minus at up to 180"), at_least=0.0),
        ),
    ),
    Claim(
        "ST6", "It does not replace augmentation.", "a remark of the notes, put as this suite's question", "",
        tests=(
            Test("instead", (top1_error(FIXED_ST) - top1_error("rts_cnn")).called(
                "error with a transformer on fixed images minus without one on images distorted anew, RTS"),
                at_least=0.0),
            Test("besides", (top1_error(FIXED_ST) - top1_error(FULL)).called(
                "error with a transformer on fixed images minus on images distorted anew, RTS"), at_least=0.0),
        ),
    ),
    Claim(
        "ST7", "It must start as the identity, and learn more slowly than the rest.",
        f"{PAPER}, section 3.4 and appendices A.4, A.5", "house numbers: a tenth of the rate; digits: none named",
        tests=(
            Test("start", (top1_error(RANDOM) - top1_error(FULL)).called(
                "error after torch's own random start, a window of almost no size, minus after the identity, RTS"),
                at_least=0.0),
            Test("rate", (top1_error(SAME_RATE) - top1_error(FULL)).called(
                "error with localisation at full rate minus at a tenth, RTS"), at_least=0.0),
        ),
    ),
    Claim(
        "ST8", "Attending lets a network work at a lower resolution, for less.", f"{PAPER}, section 3.3", "",
        tests=(
            Test("error", (top1_error("tc_cnn") - top1_error(SMALL_ST)).called(
                "error of the CNN at half resolution minus that with a transformer at a third, TC"), at_least=0.0),
            Test("cost", (counted(multiply_adds(SMALL_ST)) / counted(multiply_adds("tc_cnn"))).called(
                "multiply-adds with a transformer at a third over those of the CNN at half resolution, TC"),
                at_most=0.75),
        ),
    ),
    Claim(
        "ST9", "Bilinear and nearest sampling have the values and gradients that are derived.",
        f"{PAPER}, section 3.3, equations 4 to 7", "",
        tests=(
            Test("sampler", counted(deviation(FULL), "greatest").called(
                "deviation from the paper's sums in double precision, the largest of value, image and position, "
                "bilinear and nearest"), at_most=1e-9),
        ),
    ),
    Claim(
        "ST10", "Two transformers in parallel solve the addition of two digits, which one cannot.",
        f"{PAPER}, appendix A.1",
        "FCN 47.7, CNN 14.7, one transformer 22.6 (affine; the best 18.5), two 9.0 (affine; the best 5.8) %",
        tests=(
            Test("second", (top1_error(ADDITION["one"]) - top1_error(ADDITION["two"])).called(
                "error with one transformer minus with two"), at_least=0.0),
            Test("cnn", (top1_error(ADDITION["cnn"]) - top1_error(ADDITION["two"])).called(
                "error of the CNN minus that of two transformers"), at_least=0.0),
        ),
    ),
    Claim(
        "ST11", "Where a digit of known size stands is found without a label of the place, from pairs of images.",
        f"{PAPER}, appendix A.2", "translated: 100 %, with clutter: 75 to 94 % of digits with an overlap above 0.5",
        "called unsupervised; there is no label of the place, but pairs of one class supervise",
        tests=(
            Test("translated", found_pairs(TRANSLATED).called(
                "digits found (overlap above 0.5) in pairs of translated digits"), at_least=90.0),
            Test("cluttered", found_pairs(CLUTTERED).called("digits found among 16 patches of others"), at_least=75.0),
        ),
    ),
)  # fmt: skip

ABLATION = Ablation(
    name="spatial_transformer",
    title="Spatial transformers",
    question="Does a spatial transformer make a network invariant, does it undo distortions, and what does it need?",
    claims=CLAIMS,
    plan=plan,
    probe=probe,
    figures=figures,
    passes=passes,
    check=check,
)

if __name__ == "__main__":
    main(ABLATION)
