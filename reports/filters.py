"""What a network looks at: one page for one trained network and one data set.

    python reports/filters.py --run runs/trained/resnet_cifar-digits-s0-0ee9ff25
    python reports/filters.py --network alexnet_cifar --weights FILE --data cifar10 --data-root data
    python reports/filters.py --network timm:resnet18 --weights pretrained --data folder --data-root PHOTOS

Kernels, activation maximisation, strongest patches, maps, attributions and the regions of spatial transformers, each
beside the same network with random weights. The pictures lie as PNG files beside the page, which holds them all.
Exit codes: 0 done; 2 the command or the data is wrong, told in one line before any work.
"""

from __future__ import annotations

import json
import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ablations.harness.command.command_line import Options, Parser, WrongInput, normalised
from ablations.harness.command.invocation import program
from ablations.harness.explain import KNOWN
from ablations.harness.foreign.normalisation import add_flags
from datamodules import NAMES

if TYPE_CHECKING:
    from ablations.harness.foreign.network import ForeignNetwork
    from datamodules.images import ImageData
    from modules import Network
    from reports.filters_page.look import Look

DONE, WRONG = 0, 2
NUM_LAYERS, NUM_CHANNELS = 4, 6


def parse(argv: Sequence[str]) -> Namespace:
    """The request in `argv` and the normalisation that it means; prints help and exits 0 where asked to.

    Raises WrongInput for anything not understood.
    """
    parser = Parser(prog=" ".join(program("reports.filters")), description="What a network looks at, on one page.")
    add = parser.add_argument
    add("--run", type=str, default=None, help="folder of a trained run: runs/trained/NAME")
    add("--network", type=str, default=None,
        help="instead of --run: a name from `modules`, timm:NAME, torchvision:NAME")  # fmt: skip
    add("--weights", type=str, default=None,
        help="weights of --network: safetensors or a state dict, `pretrained` (the library's) or `random`")  # fmt: skip
    add_flags(add)
    add("--data", choices=list(NAMES), default=None, help="test images (default: the run's, or digits)")
    add("--data-root", type=str, default="data", help="where the data lies")
    add("--image-size", type=int, default=None, help="resize and crop images to this square, in pixels")
    add("--download", action="store_true", help="let torchvision download missing data")
    add("--out", type=str, default=None, help="folder of page and pictures (default: RUN/filters or runs/filters/NAME)")
    add("--seed", type=int, default=0, help="of the random weights, the starts and the choice of images")
    add("--layers", nargs="+", type=str, default=[], help=f"layers to show (default: {NUM_LAYERS}, evenly spread)")
    add("--channels", nargs="+", type=int, default=[],
        help=f"channels of every layer to show (default: the {NUM_CHANNELS} with the greatest peaks)")  # fmt: skip
    add("--images", type=int, default=6, help="test images to explain, half of them wrongly classified if there are")
    parser.words = argv
    found = parser.parse_args(list(argv))
    if (found.run is None) == (found.network is None):
        raise WrongInput("give either --run FOLDER, or --network NAME with --weights")
    if (found.network is None) != (found.weights is None):
        raise WrongInput("--network and --weights go together: FILE, `pretrained` (timm:, torchvision:) or `random`")
    if found.run is not None and found.image_size is not None:
        raise WrongInput("--image-size goes with --network; a run is shown images of the size it was trained on")
    for what, count in (("--images", found.images), ("--image-size", found.image_size)):
        if count is not None and count < 1:
            raise WrongInput(f"{what} {count}: give 1 or more")
    for name in ("run", "data_root", "out"):
        setattr(found, name, None if found[name] is None else Path(found[name]))
    found.normalisation = normalised(found.network, found.mean, found.std)
    return found


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Makes the page that the command line asks for, says where it lies, and exits."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        request = parse(argv)
        name, network, data, foreign = _subject(request)
        look, folder = prepare(request, name, network, data)
    except (WrongInput, ValueError, OSError) as error:
        print(f"filters: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(WRONG) from None
    from ablations.harness.runtime import say

    notes = [] if foreign is None else foreign.notes(look.error, data.num_classes)
    for note in notes:
        say(note)
    say(f"page: {write(look, folder, name, shlex.join([*program('reports.filters'), *argv]), notes)}")
    raise SystemExit(DONE)


def _subject(request: Namespace) -> tuple[str, Network, ImageData, ForeignNetwork | None]:
    """Name, network in evaluation mode, data, and what it is if from outside; raises ValueError if any is wrong."""
    import datamodules
    from ablations.harness.foreign import network as foreign_network
    from modules import ARCHITECTURES

    if request.run is not None:
        return *_of_run(request, request.run), None
    name = request.network or ""
    if name in ARCHITECTURES and ARCHITECTURES[name].task != "classify":
        gives = "a label for every pixel" if ARCHITECTURES[name].task == "segment" else "no label"
        raise WrongInput(f"network {name} gives {gives}; this page needs one for an image")
    data = datamodules.load(
        request.data or "digits", request.data_root, download=request.download, image_size=request.image_size
    )
    options = Options(
        "laptop", str(data.name), request.data_root, Path("runs"), network=name, weights=request.weights,
        normalisation=request.normalisation,
    )  # fmt: skip
    foreign = foreign_network.load(options, data, needs_blocks=False)
    return foreign.run, foreign.network, data, foreign


def _of_run(request: Namespace, folder: Path) -> tuple[str, Network, ImageData]:
    import datamodules
    from modules import ARCHITECTURES
    from modules.weights import load_weights

    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text())
        network, trained_on = dict(config["network"]), dict(config["data"])
        builder, sizes = network.pop("builder"), (network.pop("num_classes"), network.pop("in_channels"))
    except OSError as error:
        raise WrongInput(f"{folder} is no folder of a run: config.json cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise WrongInput(f"{folder / 'config.json'} is damaged: {error!r}") from None
    known = {each.builder.__name__: each for each in ARCHITECTURES.values()}
    if builder not in known or known[builder].task != "classify":
        raise WrongInput(f"{folder}: this page needs a network that classifies images, not {builder!r}")
    if "made" in trained_on:
        raise WrongInput(
            f"{folder} was trained on {trained_on['name']}, which is made on the fly and cannot be shown on this page; "
            "the ablation's report has pictures of it"
        )
    name = request.data or str(trained_on["name"]).split("-jpeg")[0]
    if name not in NAMES:
        raise WrongInput(f"{folder} was trained on {trained_on['name']}; give its --data and --data-root")
    data = datamodules.load(
        name, request.data_root, validation=trained_on["validation"], download=request.download,
        image_size=_size(name, trained_on), train_images=trained_on.get("train_images"),
        split_seed=trained_on.get("drawn_by"),
    )  # fmt: skip
    if data.identity["digest"] != trained_on["digest"]:
        raise WrongInput(f"{folder} was trained on {trained_on['name']}, and {name} in {request.data_root} is not that")
    built = known[builder].builder(num_classes=sizes[0], in_channels=sizes[1], **network)
    load_weights(built, folder / "weights.safetensors")
    return folder.resolve().name, built, data


def _size(name: str, trained_on: dict[str, Any]) -> int | None:
    """The size to resize to: None where the data has the run's size by itself, so that its digest agrees."""
    size = int(trained_on["image_size"])
    return None if name in KNOWN and KNOWN[name][0] == size else size


def prepare(request: Namespace, name: str, network: Network, data: ImageData) -> tuple[Look, Path]:
    """Chooses layers and images and makes the randomised network; raises ValueError for a layer or channel not there.

    Also for a network that does not take the images or does not give one vector of logits for an image.
    """
    import torch

    from ablations.harness.runtime import keep_freed_memory
    from ablations.probes.filters import maps
    from ablations.probes.filters.attributions import explainable
    from ablations.probes.filters.randomised import randomised
    from datamodules.order import generator
    from modules.errors import first_line
    from reports.filters_page.look import GIVEN, RANDOM, Look
    from reports.filters_page.tiles import Album

    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    given = explainable(network).to(device)
    batches = list(data.evaluation_batches("test", batch_size=250, device=device, limit=2000))
    try:
        with torch.no_grad():
            logits = torch.cat([given(x) for x, _ in batches])
    except Exception as error:  # whatever a layer raises for an input it was not made for
        shape = tuple(batches[0][0].shape[1:])
        raise WrongInput(f"{name} does not take images of {shape}: {first_line(error)}") from None
    if logits.dim() != 2:
        raise WrongInput(f"{name} gives {tuple(logits.shape[1:])} numbers for an image; this page needs one per class")
    labels, predictions = torch.cat([y for _, y in batches]), logits.argmax(dim=1)
    order = torch.randperm(len(labels), generator=generator("filters", request.seed)).to(device)
    wrong, right = (order[(predictions == labels)[order] == value] for value in (False, True))
    missed = 100.0 * float((predictions != labels).double().mean())
    count = min(request.images, len(labels))
    num_wrong = max(min(len(wrong), count // 2), count - len(right))
    rows = torch.cat([right[: count - num_wrong], wrong[:num_wrong]])
    images = torch.cat([x for x, _ in batches])[rows]

    shapes = maps.map_layers(given, images[:1])
    for layer in request.layers:
        if layer not in shapes:
            raise WrongInput(f"--layers {layer}: layers with maps are {', '.join(shapes) or 'none'}")
    layers = list(request.layers) or maps.spread(list(shapes), NUM_LAYERS)
    for layer in layers:
        if request.channels and not all(0 <= channel < shapes[layer][0] for channel in request.channels):
            raise WrongInput(f"--channels {request.channels}: layer {layer} has channels 0 to {shapes[layer][0] - 1}")
    default = request.run / "filters" if request.run is not None else Path("runs") / "filters" / name
    folder = request.out or default
    look = Look(
        {GIVEN: given, RANDOM: randomised(given, request.seed)}, data, layers, list(shapes), request.channels,
        NUM_CHANNELS, images, labels[rows], predictions[rows], missed, request.seed,
        Album(folder / "images"),
    )  # fmt: skip
    return look, folder


def write(look: Look, folder: Path, name: str, command: str, notes: Sequence[str] = ()) -> Path:
    """Writes `folder`/filters.html and its pictures and gives its path; raises OSError if that is not possible.

    notes: sentences for its head.
    """
    from tqdm import tqdm

    from ablations.harness.store.files import atomic_write_text
    from reports.filters_page import sections as parts
    from reports.filters_page.kernel_section import kernels_section
    from reports.pages.reading import environment

    builders = (
        kernels_section, parts.maximisation_section, parts.patches_section, parts.activations_section,
        parts.attributions_section, parts.transformers_section,
    )  # fmt: skip
    shown = tqdm(builders, desc="filters", unit="section", disable=not sys.stderr.isatty(), leave=False)
    sections = [section for build in shown if (section := build(look)) is not None]
    errors = int((look.labels != look.predictions).sum())
    page = environment().get_template("filters_page.html.j2").render(
        name=name, data=look.data.name, seed=look.seed, command=command, sections=sections,
        num_images=len(look.images), num_wrong=errors, layers=look.layers, notes=notes, scripts=None,
    )  # fmt: skip
    path = folder / "filters.html"
    atomic_write_text(path, page)
    return path


if __name__ == "__main__":
    main()
