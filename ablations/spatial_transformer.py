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

from collections.abc import Mapping, Sequence
from typing import Any

from ablations.harness.declare.ablation import Ablation, Arm, Claim, Plan, Test
from ablations.harness.declare.chart import Against, Animation, ArmTable, Chart, Drawing, Looks, Strips
from ablations.harness.declare.measure import Measure, Quantity, counted, mean_of, top1_error, where_at_least
from ablations.harness.declare.scale import Scale
from ablations.harness.launch import main
from ablations.probes.costs import NetworkCost
from ablations.probes.transformers import questions as ask

KINDS = {
    "r": "rotated", "rts": "turned, scaled and moved", "p": "in projection", "e": "bent", "tc": "moved, among clutter",
}  # fmt: skip
TABLE_KINDS = ("r", "rts", "p", "e")  # of table 1
TRANSFORMS = {"affine": "Aff", "projective": "Proj", "tps": "TPS"}
ROOMS = {"r": 28, "rts": 42, "p": 28, "e": 28, "tc": 60}  # widths of images in pixels of a digit 28 pixels wide
POOLED = ("rts", "tc")  # average pooling of 2 behind the transformer, or in front of a network without one
UPSIDE_DOWN = 4  # the class that is always turned by half a circle in one arm
MATCHED = 0.75  # of what a CNN gains over a fully connected network
ACTS = 10.0  # % of the angles' variation: a transformer that takes away less has not learned to turn
SMALL = 0.35  # of the image's width: what the transformer gives at low resolution
FULL, FLIPPED, TURNED = "rts_st_cnn_affine", "flipped_st_cnn", "full_turn_st_cnn"
ANIMATED = (FULL, "tc_st_cnn_affine")
FIXED_CNN, FIXED_ST = "rts_fixed_cnn", "rts_fixed_st_cnn"
RANDOM, SAME_RATE = "rts_random_st_cnn", "rts_same_rate_st_cnn"
SMALL_CNN, SMALL_ST, HALF_ST = "tc_cnn_small", "tc_st_cnn_small", "tc_st_cnn_half"
ADDITION = {"fcn": "addition_fcn", "cnn": "addition_cnn", "one": "addition_one_st", "two": "addition_two_st"}
TRANSLATED, CLUTTERED, LEARNED, ANY = (f"colocalise_{what}" for what in ("translated", "cluttered", "learned", "any"))
PUBLISHED = {
    "fcn": (2.1, 5.2, 3.1, 3.2, 13.2),
    "cnn": (1.2, 0.8, 1.5, 1.4, 3.5),
    "st_fcn_affine": (1.2, 0.8, 1.5, 2.7, 2.0),
    "st_fcn_projective": (1.3, 0.9, 1.4, 2.6),
    "st_fcn_tps": (1.1, 0.8, 1.4, 2.4),
    "st_cnn_affine": (0.7, 0.5, 0.8, 1.2, 1.7),
    "st_cnn_projective": (0.8, 0.6, 0.8, 1.3),
    "st_cnn_tps": (0.7, 0.5, 0.8, 1.1),
}
"""Network -> errors in %: on R, RTS, P and E of table 1, then, where published, on TC of appendix A.4."""
PRINTED = {
    f"{kind}_{network}": error
    for network, errors in PUBLISHED.items()
    for kind, error in zip(KINDS, errors, strict=False)
}
"""Arms of the table -> the published error in %."""
POSED = (*(arm for arm in PRINTED if "_st_" in arm), FLIPPED, TURNED, FIXED_ST, RANDOM, SAME_RATE, SMALL_ST, HALF_ST)
"""Arms with one transformer for distorted digits."""


def plan(at: Scale) -> Plan:
    """Table 1, then one or two arms for each further question."""
    digit = at(paper=at.image_size, laptop=16, smoke=8)
    size = at(paper={}, short={"width": 16}, laptop={"width": 16, "num_parameters": 100_000})
    batch = at(paper=256, laptop=64)

    def recipe(steps_on_a_laptop: int = 360) -> dict[str, Any]:
        steps = at(paper=150_000, short=3_000, laptop=steps_on_a_laptop)
        epochs = at(paper=at.epochs_of(steps, batch), smoke=1)
        usual = {"learning_rate": 0.05, "schedule": "linear", "warmup_steps": 50, "nesterov": True}
        return {"epochs": epochs, "batch_size": batch, "localisation_factor": 0.1, **at(paper={}, short=usual)}

    def pixels(room: float) -> int:
        return round(digit * room / 28)

    def arm(
        name: str, network: str, kind: str, transform: str = "", note: str = "", rate: float = 0.1,
        arguments: Mapping[str, object] = {}, **made: Any,
    ) -> Arm:  # fmt: skip
        """On distorted digits; rate: of localisation, as a share; made: what differs in the digits."""
        shape = {"pool": 2 if kind in POOLED else 1, **size, **({"transform": transform} if transform else {})}
        if "fcn" in network:
            shape.pop("width", None)
        data = {"name": "distorted_digits", "kind": kind.upper(), "size": pixels(ROOMS[kind]), **made}
        return Arm(name, network, {**shape, **arguments}, {**recipe(), "localisation_factor": rate}, note, data=data)

    arms = []
    for kind in KINDS:
        for network in ("fcn", "cnn"):
            arms.append(arm(f"{kind}_{network}", network, kind))
            for transform in TRANSFORMS:
                name = f"{kind}_st_{network}_{transform}"
                if name in PRINTED:
                    arms.append(arm(name, f"st_{network}", kind, transform))
    low, half, once = pixels(SMALL * ROOMS["tc"]), pixels(ROOMS["tc"] / 2), "the same distorted images in every epoch"
    arms += [
        arm(FLIPPED, "st_cnn", "r", "affine", "one class upside down", angle=45.0, upside_down=[UPSIDE_DOWN]),
        arm(TURNED, "st_cnn", "r", "affine", "turned anyhow", angle=180.0),
        arm(FIXED_CNN, "cnn", "rts", note=once, fresh=False),
        arm(FIXED_ST, "st_cnn", "rts", "affine", once, fresh=False),
        arm(RANDOM, "st_cnn", "rts", "affine", "theta starts at random", arguments={"start": "random"}),
        arm(SAME_RATE, "st_cnn", "rts", "affine", "localisation at full rate", rate=1.0),
        arm(SMALL_CNN, "cnn", "tc", "", "a third of the resolution", arguments={"pool": 3}),
        arm(SMALL_ST, "st_cnn", "tc", "affine", "a third, attended", arguments={"pool": 1, "output_size": low}),
        arm(HALF_ST, "st_cnn", "tc", "affine", "a half, attended", arguments={"pool": 1, "output_size": half}),
    ]
    # Turned and scaled digits nobody can add after so few steps.
    pairs = {"name": "digit_addition", "size": pixels(42)} | at(paper={}, laptop={"angle": 0.0, "scale": [1.0, 1.0]})
    # More than elsewhere: of 100,000, two localisation networks would leave 9 hidden units for 19 classes.
    sums = {**size, "num_parameters": at(paper=1_600_000, laptop=400_000)}
    adding: dict[str, dict[str, object]] = {
        "fcn": {"transform": "none"}, "cnn": {"transform": "none", "trunk": "cnn"},
        "one": {"num_transformers": 1}, "two": {"num_transformers": 2},
    }  # fmt: skip
    arms += [
        Arm(ADDITION[name], "st_addition", {**own, **sums}, recipe(720), data=pairs) for name, own in adding.items()
    ]
    # Of another kind, without labels: calibrated apart from the others, with smaller digits.
    alike = {"name": "same_digits", "size": at(paper=at.image_size * 3, short=30)}
    triplets = recipe(640) | at(paper={}, short={"learning_rate": 0.02, "localisation_factor": 1.0})
    for name, note, encoder, seen in (
        (TRANSLATED, "", "thumbnail", {"patches": 0}),
        (CLUTTERED, "among patches of other digits", "thumbnail", {"patches": 16}),
        (ANY, "a control: the partner is any digit", "thumbnail", {"patches": 0, "same": False}),
        (LEARNED, "an encoder that learns", "cnn", {"patches": 0}),
    ):
        arguments = {"image_size": alike["size"], "encoder": encoder}
        arms.append(Arm(name, "st_colocalisation", arguments, triplets, note, data={**alike, **seen}))
    probes = [
        NetworkCost(),
        ask.FoundPoses(of=POSED),
        ask.TransformerLooks(of=(*POSED, ADDITION["one"], ADDITION["two"])),
        ask.LooksInTraining(of=ANIMATED),
        ask.SamplerGradients(of=(FULL,)),
        ask.FoundPairs(of=(TRANSLATED, CLUTTERED, ANY, LEARNED)),
    ]
    # Eleven are the fewest that can contradict one of twelve claims that has eight tests.
    return Plan(arms, at(paper=11, smoke=1), probes)


def removed(arm: str, part: str) -> Measure:
    """Part in % of the variation of angle, scale or shift that the transformer takes away."""
    return Quantity(f"{part}/removed", "%", f"variation of the {part} taken away", "pose")(arm)


def gap(kind: str, trunk: str, transforms: Sequence[str] = tuple(TRANSFORMS)) -> Measure:
    """Error of the plain network minus that with a transformer, the mean over transforms, in % points."""
    moved = mean_of(*(top1_error(f"{kind}_st_{trunk}_{transform}") for transform in transforms))
    return top1_error(f"{kind}_{trunk}") - moved


def beyond(kind: str) -> Measure:
    """What ST-FCN gains over FCN beyond MATCHED of what a CNN gains, in % points."""
    plain, moved, cnn = (top1_error(f"{kind}_{net}") for net in ("fcn", "st_fcn_affine", "cnn"))
    return plain - moved - MATCHED * (plain - cnn)


upside_down = Quantity("kept_upside_down", "%", "digits that leave upside down", "class")
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
            for trunk in ("fcn", "cnn") for kind in TABLE_KINDS
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
            for trunk in ("fcn", "cnn") for kind in TABLE_KINDS
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
            for kind in TABLE_KINDS[:3]
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
            Test("kept", where_at_least(upside_down(FLIPPED), removed(FLIPPED, "angle"), ACTS).called(
                "digits of a class that was always upside down (give or take 45 degrees) that leave so, of networks "
                "that take away at least a tenth of the angles' variation"), at_least=50.0),
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

SHORT = {f"{trunk}_{of}": f"{trunk.upper()} {short}" for trunk in ("fcn", "cnn") for of, short in TRANSFORMS.items()}
NAMES = {"fcn": "FCN", "cnn": "CNN", **{f"st_{network}": f"ST-{name}" for network, name in SHORT.items()}}
"""Networks as the paper prints them."""
PLACED = {
    **{arm: NAMES[arm.partition("_")[2]] for arm in PRINTED if arm.startswith("rts_st_")},
    FIXED_ST: "ST-CNN Aff,\nnot augmented",
    RANDOM: "ST-CNN Aff,\nstarts at random",
    SAME_RATE: "ST-CNN Aff,\nfull rate",
}
"""Transformers on digits turned, scaled and moved."""
PAIRS = {TRANSLATED: "translated", CLUTTERED: "with clutter", LEARNED: "encoder learns", ANY: "any two digits"}

CHARTS: tuple[Chart, ...] = (
    Drawing({
        "paper": PRINTED, "names": NAMES, "kinds": KINDS, "transforms": TRANSFORMS, "posed": FULL, "placed": PLACED,
        "pairs": PAIRS, "remaining": {
            "r_st_cnn_affine": "turned by up to 90 degrees", FLIPPED: "one class always upside down",
            TURNED: "turned by any angle",
        },
    }),
    Animation("training_rts", "The transformer learns: turned, scaled and moved", ANIMATED[0], "ST-CNN Aff"),
    Animation("training_tc", "The transformer learns: moved, among clutter", ANIMATED[1], "ST-CNN Aff"),
    *(
        Looks(
            f"looks_{kind}", f"What the transformer does to digits {words}",
            {arm: f"ST-CNN\n{short}" for of, short in TRANSFORMS.items() if (arm := f"{kind}_st_cnn_{of}") in PRINTED},
        )
        for kind, words in KINDS.items()
    ),
    Strips(
        "needs", "What a transformer needs", top1_error, "test error (%)",
        {"CNN": FIXED_CNN, "CNN, augmented": "rts_cnn", "ST-CNN": FIXED_ST, "ST-CNN, augmented": FULL,
         "and starts\nat random": RANDOM, "and learns as\nfast as the rest": SAME_RATE},
        caption="Affine, on digits turned, scaled and moved; augmented: distorted anew in every epoch, else once and "
        "for all. Transformers start at the identity and learn at a tenth of the rate, but in the last two rows.",
    ),
    Strips(
        "addition", "Adding two digits", top1_error, "test error (%)",
        {"FCN": ADDITION["fcn"], "CNN": ADDITION["cnn"], "one ST": ADDITION["one"], "two STs": ADDITION["two"]},
        {"FCN": (47.7,), "CNN": (14.7,), "one ST": (22.6,), "two STs": (9.0,)},
        "Two digits, each in a channel of its own; the network gives their sum. Crosses: the paper, affine, on digits "
        "that are turned and scaled too, which at the laptop and smoke budgets ours are not.",
    ),
    Strips(
        "colocalisation", "Finding what two images share", found_pairs, "found (%)",
        {name: arm for arm, name in PAIRS.items()}, {"translated": (100.0,), "with clutter": (75.0, 94.0)},
        "Share of test images where the window and the digit's box overlap by more than half (IoU). The window's size "
        "is given, exactly the box's; its place is found from pairs of the same digit, in the control of any two, "
        "which tells whether that mattered. The encoder is a fixed thumbnail, or learns, the paper's form. Crosses: "
        "the paper.",
    ),
    Against(
        "resolution", "Attending at low resolution", top1_error, "test error (%)", "multiply-adds of an image (M)",
        {"CNN": {SMALL_CNN: 3, "tc_cnn": 2}, "ST-CNN": {SMALL_ST: 3, HALF_ST: 2, "tc_st_cnn_affine": 1}},
        caption="Digits among clutter. The CNN reads the image shrunk to a third of its width, and to a half; the "
        "transformer gives a third of it in pixels, a half, and all of it, which is pooled to a half behind it.",
        across=multiply_adds,
    ),
    Looks(
        "looks_addition", "Adding two digits", {ADDITION["one"]: "one ST", ADDITION["two"]: "two STs"}, heading="sum",
        caption="A transformer has one window for both channels.",
    ),
    ArmTable(
        "poses", "Found poses in numbers",
        {f"{what} {how}{unit}": Quantity(f"{what}/{how}", probe="pose")
         for how, unit in (("correlation", ""), ("removed", ", %")) for what in ask.POSE},
        "Correlation of the true with the found angle, scale and place over test images, and the share of their "
        "variation within a class that is gone behind the transformer (circular variance of angles, variance of log "
        "scales and of places); means over seeds, empty where nothing varies. Angles beyond 135 degrees come round and "
        "have no correlation.",
        arms=POSED,
    ),
    ArmTable(
        "pairs", "What two images share, in numbers",
        {"found, %": Quantity("found", "%", probe="pairs"), "mean IoU": Quantity("iou", probe="pairs")},
        "Of the networks at the start and as they were trained; means over seeds.",
        arms=tuple(PAIRS), names=PAIRS, by={"when": "when"},
    ),
)  # fmt: skip

ABLATION = Ablation(
    name="spatial_transformer",
    title="Spatial transformers",
    question="Does a spatial transformer make a network invariant, does it undo distortions, and what does it need?",
    claims=CLAIMS,
    plan=plan,
    charts=CHARTS,
    refuses_foreign="spatial_transformer makes the images of each arm; it takes no network from outside",
)

if __name__ == "__main__":
    main(ABLATION)
