"""The sections of the page of `reports/filters.py`: what a network looks at, and a randomised one beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ablations.probes.filters import activation_maximisation, attributions, maps
from ablations.probes.filters.randomised import similarity
from ablations.probes.filters.receptive_field import ReceptiveField
from modules import Network
from modules.blocks.features import captured
from modules.blocks.spatial_transformer import SpatialTransformer
from reports.charts.style import number
from reports.filters_page import tiles
from reports.filters_page.look import GIVEN, RANDOM, Group, Look, Row, Section, Table
from reports.filters_page.tiles import Tile

PATCHES = 6  # of every channel


def maximisation_section(look: Look) -> Section:
    """Images that single channels answer to most."""
    section = Section("maximisation", "What single channels answer to most", [
        "Images found by climbing the mean activation of one channel from noise (Olah et al. 2017: Fourier "
        f"parametrisation, decorrelated colours, jitter; {activation_maximisation.STEPS} steps). Below each: the "
        "channel, and its mean activation at the start and at the end (grey: one that stays silent).",
    ])  # fmt: skip
    if not look.layers:
        return _without_maps(section)
    colours = activation_maximisation.colour_basis(look.shown(look.searched[0][0].cpu()))
    for name in look.layers:
        rows = []
        for who, network in look.networks.items():
            found = activation_maximisation.maximise(
                network, name, look.chosen[name], look.data.image_size, colours, look.normalised, look.seed
            )
            shown = []
            for channel, image, before, after in zip(look.chosen[name], *found, strict=True):
                climb = f"{channel}: {_short(before)} to {_short(after)}"
                alt = f"{who}, layer {name}: image that channel {channel} answers to most"
                shown.append(look.album.add("maximised", tiles.of_image(image), alt, climb))
            rows.append(Row(who, shown))
        section.groups.append(Group(f"Layer {name}", rows))
    return section


def patches_section(look: Look) -> Section:
    """The parts of test images that single channels answer to most, cut out at the size of the receptive field."""
    section = Section("patches", "Strongest patches of the test images", [
        f"Of three channels the {PATCHES} strongest patches in {sum(len(y) for _, y in look.searched)} test images, at "
        "most one of each, cut to what the unit can see; below each its activation. That receptive field is computed "
        "by a gradient through a copy of the network without ReLU, with positive weights and average pooling.",
    ])  # fmt: skip
    if not look.layers:
        return _without_maps(section)
    images = torch.cat([x.cpu() for x, _ in look.searched])
    field_of = ReceptiveField(look.networks[GIVEN], look.data.in_channels, look.data.image_size)
    for name in look.layers:
        try:
            size = _field_size(field_of, look, name)
            rows = [
                Row(f"{who}, channel {channel}", list(_patches(look, who, name, channel, field_of, images)))
                for who in look.networks
                for channel in look.chosen[name][:3]
            ]
        except ValueError as error:
            section.text.append(f"Layer {name} is left out: {error}.")
        else:
            section.groups.append(Group(f"Layer {name}: {size}", rows))
    return section


def _patches(look: Look, who: str, name: str, channel: int, field_of: ReceptiveField, images: Tensor) -> Iterator[Tile]:
    peak = look.peaks[who][name]
    for index in peak.values[:, channel].argsort(descending=True, stable=True)[:PATCHES].tolist():
        box = field_of(name, int(peak.rows[index, channel]), int(peak.columns[index, channel]))
        patch = look.shown(images[index])[:, box.top : box.bottom, box.left : box.right]
        value = _short(float(peak.values[index, channel]))
        alt = f"{who}, layer {name}, channel {channel}: patch with activation {value}"
        yield look.album.add("patch", tiles.of_image(patch), alt, value)


def activations_section(look: Look) -> Section:
    """The strongest maps of every layer for the first two explained images."""
    section = Section("activations", "Maps inside the network", [
        "What each layer makes of an image: the maps of the channels above, dark for their smallest value.",
    ])  # fmt: skip
    if not look.layers:
        return _without_maps(section)
    for number_, image in enumerate(look.images[:2], start=1):
        rows = []
        for who, network in look.networks.items():
            for name in look.layers:
                found = maps.outputs(network, [name], image[None])[name][0].detach()
                shown = [
                    look.album.add("map", tiles.of_heat(found[channel]), f"{who}, layer {name}, channel {channel}: map "
                                   f"for image {number_}", str(channel))
                    for channel in look.chosen[name]
                ]  # fmt: skip
                rows.append(Row(f"{who}, {name}", shown))
        section.groups.append(Group(f"Image {number_}: {_answer(look, number_ - 1)}", rows))
    return section


def attributions_section(look: Look) -> Section:
    """Five kinds of attribution for right and wrong decisions, for both networks, with the checks that they need."""
    targets = look.predictions
    window = max(2, look.data.image_size // 5)
    section = Section("attributions", "Which pixels decide", [
        "Attributions to the class that this network predicts: orange speaks for it, purple against it; Grad-CAM is "
        "bright where the last maps speak for it. Baseline and occluding patch have the mean colour; the patch is "
        f"{window} x {window} pixels.",
        "The second row of every image asks a network of random weights about the same class (Adebayo et al. 2018): a "
        "map that looks the same there shows the image, not what was learned.",
    ])  # fmt: skip
    found: dict[str, dict[str, Tensor]] = {}
    checks = []
    for who, network in look.networks.items():
        integrated = attributions.integrated_gradients(network, look.images, targets)
        found[who] = {
            "gradient": attributions.gradient(network, look.images, targets),
            "integrated gradients": integrated.maps,
            "occlusion": attributions.occlusion(network, look.images, targets, window),
        }
        if not (reason := attributions.why_not_guided(network, look.images[:1])):
            found[who]["guided backpropagation"] = attributions.guided_backpropagation(network, look.images, targets)
        elif who == GIVEN:
            section.text.append(f"No guided backpropagation: {reason}.")
        if look.all_layers:
            last = look.all_layers[-1]
            found[who]["Grad-CAM"] = attributions.grad_cam(network, last, look.images, targets)
        checks += [
            [who, str(i), number(total), number(difference), f"{100 * gap:.2f} %", str(integrated.steps)]
            for i, (total, difference, gap) in enumerate(
                zip(integrated.sums, integrated.differences, integrated.gaps, strict=True), start=1
            )
        ]
    if look.all_layers:
        section.text.append(f"Grad-CAM reads layer {look.all_layers[-1]}.")
    for index in range(len(look.images)):
        rows = [Row(who, list(_maps_of(look, who, by_method, index))) for who, by_method in found.items()]
        section.groups.append(Group(f"Image {index + 1}: {_answer(look, index)}", rows))
    section.tables.append(_similarities(found))
    columns = ["network", "image", "sum of attributions", "difference of the logit", "gap", "steps"]
    section.tables.append(
        Table("Completeness of integrated gradients: the sum must be the difference", columns, checks)
    )
    return section


def transformers_section(look: Look) -> Section | None:
    """Where spatial transformers look, and what the network behind them sees; None for a network without one."""
    names = [n for n, m in look.networks[GIVEN].named_modules() if isinstance(m, SpatialTransformer)]
    if not names:
        return None
    section = Section("transformers", "Where the spatial transformers look", [
        "The line is the edge of the sampled region on the input, as theta says; beside it what the network behind "
        "receives. What lies beyond the image is black, and a line there is not seen. With random weights it stands "
        "where it starts, at the identity if this one did.",
    ])  # fmt: skip
    for name in names:
        rows = []
        for who, network in look.networks.items():
            shown = []
            for index, (polygon, seen) in enumerate(sampled(network, name, look.images), start=1):
                image = look.shown(look.images[index - 1])
                is_image = len(seen) == look.data.in_channels and not name.startswith("blocks.")
                picture = tiles.of_image(look.shown(seen)) if is_image else tiles.of_heat(seen.mean(dim=0))
                alt = f"{who}, {name}, image {index}"
                shown.append(look.album.add("region", tiles.outlined(image, polygon), f"{alt}: region", f"{index}"))
                shown.append(look.album.add("seen", picture, f"{alt}: what is seen there", "seen"))
            rows.append(Row(who, shown))
        section.groups.append(Group(f"Transformer {name}", rows))
    return section


def sampled(network: Network, name: str, images: Tensor) -> Iterator[tuple[list[tuple[float, float]], Tensor]]:
    """For each image the edge of the region, as fractions of the width, and the transformer's output (C, H, W)."""
    transformer = network.get_submodule(name)
    assert isinstance(transformer, SpatialTransformer)
    with torch.no_grad():
        found = captured(network, {"theta": transformer.localisation, "seen": transformer}, images)
        edge = (transformer.outline(found["theta"], 16) + 0.5) / transformer.image_size
    for points, output in zip(edge.tolist(), found["seen"], strict=True):
        yield [(x, y) for x, y in points], output


def _maps_of(look: Look, who: str, by_method: Mapping[str, Tensor], index: int) -> Iterator[Tile]:
    image = look.shown(look.images[index])
    yield look.album.add("image", tiles.of_image(image), f"image {index + 1}", "image")
    for method, found in by_method.items():
        values, caption = found[index].sum(dim=0), method.replace("propagation", "prop.")
        picture = tiles.overlaid(image, values) if method == "Grad-CAM" else tiles.of_signed(values)
        yield look.album.add(method.replace(" ", "-"), picture, f"{who}, image {index + 1}: {method}", caption)


def _similarities(found: Mapping[str, Mapping[str, Tensor]]) -> Table:
    """How alike the maps of both networks are, by method: the mean over the images."""
    rows = []
    for method, given in found[GIVEN].items():
        if method not in found[RANDOM]:
            continue
        pairs = zip(given, found[RANDOM][method], strict=True)
        values = [similarity(one.sum(dim=0), other.sum(dim=0)) for one, other in pairs]
        finite = [value for value in values if math.isfinite(value)]
        rows.append([method, f"{sum(finite) / len(finite):.2f}" if finite else "one map is constant"])
    title = "How alike the maps of both networks are (Spearman correlation of sizes; 1 is the same order of pixels)"
    return Table(title, ["method", "mean over the images"], rows)


def _answer(look: Look, index: int) -> str:
    truth, answer = int(look.labels[index]), int(look.predictions[index])
    return f"class {truth}, recognised" if truth == answer else f"class {truth}, taken for {answer}"


def _field_size(field_of: ReceptiveField, look: Look, name: str) -> str:
    """The largest field of the layer's units, in words."""
    _, height, width = maps.map_layers(look.networks[GIVEN], look.images[:1])[name]
    box = field_of(name, height // 2, width // 2)
    size = f"receptive field {box.bottom - box.top} x {box.right - box.left} pixels"
    return size + (", the whole image" if box == (0, 0, look.data.image_size, look.data.image_size) else "")


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2g}"


def _without_maps(section: Section) -> Section:
    return Section(section.anchor, section.title, ["Not shown: no layer of this network gives maps of the image."])
