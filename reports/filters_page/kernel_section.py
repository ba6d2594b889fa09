"""The page's section on the kernels that look at the image, see `reports/filters.py`."""

from __future__ import annotations

from collections.abc import Mapping

from ablations.harness.store.files import atomic_write_bytes
from ablations.probes.filters import kernels
from reports.charts.style import BLUE, FAINT, as_png, panels, style
from reports.filters_page import tiles
from reports.filters_page.look import GIVEN, Group, Look, Row, Section, Table
from reports.filters_page.tiles import Tile
from reports.pages.embedding import data_uri


def kernels_section(look: Look) -> Section:
    """The first convolution's kernels, sorted, with measurements; by stream where there are two."""
    try:
        weights = {who: kernels.first_kernels(network) for who, network in look.networks.items()}
    except ValueError as error:
        return Section("kernels", "Kernels of the first layer", [f"Not shown: {error}."])
    size = weights[GIVEN].shape[-1]
    measured = {who: kernels.measure(found) for who, found in weights.items()}
    section = Section("kernels", "Kernels of the first layer", [
        f"{len(weights[GIVEN])} kernels of {size} x {size} weights, each on its own scale (medium grey is 0), sorted "
        "from grey to colourful, then by orientation.",
    ])  # fmt: skip
    streams = kernels.has_streams(look.networks[GIVEN])
    for who, found in measured.items():
        for stream in (0, 1) if streams else (None,):
            order = kernels.ordered([kernel for kernel in found if stream in (None, kernel.stream)])
            shown = []
            for k in order:
                picture, alt = tiles.of_kernel(weights[who][k.number]), f"{who}: {_described(k)}"
                shown.append(look.album.add("kernel", picture, alt, str(k.number)))
            title = who.capitalize() + (f", stream {stream + 1}" if stream is not None else "")
            section.groups.append(Group(title, [Row("", shown)]))
    if streams:
        section.text.append("The second convolution works in two groups, each of which sees one half of these kernels.")
        section.tables.append(_streams_table(measured))
    if measured[GIVEN][0].gabor is None:
        section.text.append(
            f"No Gabor fit: {size} x {size} weights are too few for its eight numbers. Orientation is that of the "
            "gradient of the weights."
        )
    else:
        section.text.append(
            "A Gabor function has eight numbers, so that it fits small kernels of pure noise too; what counts is the "
            "distance from the random weights."
        )
        section.plots.append(_explained_plot(look, measured))
    section.tables.append(_kernel_table(measured[GIVEN]))
    return section


def _described(kernel: kernels.Kernel) -> str:
    words = [f"kernel {kernel.number}, stripes at {kernel.orientation:.0f} degrees"]
    if kernel.saturation is not None:
        words.append(f"colour saturation {kernel.saturation:.2f}")
    if kernel.gabor is not None:
        words.append(f"Gabor fit {100 * kernel.gabor.explained:.0f} %")
    return ", ".join(words)


def _kernel_table(found: list[kernels.Kernel]) -> Table:
    columns = ["kernel", "orientation by gradient, degrees", "coherence", "colour saturation"]
    columns += ["Gabor fit, %", "Gabor orientation, degrees", "wavelength, pixels"]
    rows = []
    for k in kernels.ordered(found):
        saturation = "" if k.saturation is None else f"{k.saturation:.2f}"
        cells = [str(k.number), f"{k.orientation:.0f}", f"{k.coherence:.2f}", saturation]
        if k.gabor is not None:
            cells += [f"{100 * k.gabor.explained:.0f}", f"{k.gabor.orientation:.0f}", f"{k.gabor.wavelength:.1f}"]
        rows.append(cells + [""] * (len(columns) - len(cells)))
    kept = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    return Table(f"Every kernel of {GIVEN}", [columns[i] for i in kept], [[row[i] for i in kept] for row in rows])


def _streams_table(measured: Mapping[str, list[kernels.Kernel]]) -> Table:
    """What each stream holds: mean saturation, and kernels by orientation of their stripes."""
    turns = ["horizontal", "falling", "vertical", "rising"]
    rows = []
    for who, found in measured.items():
        for stream in (0, 1):
            half = [k for k in found if k.stream == stream]
            colours = [k.saturation for k in half if k.saturation is not None]
            counts = [0, 0, 0, 0]
            for k in half:
                counts[int((k.orientation + 22.5) // 45) % 4] += 1
            mean = f"{sum(colours) / len(colours):.2f}" if colours else "grey images"
            rows.append([who, str(stream + 1), mean, *map(str, counts)])
    return Table("What each stream holds", ["network", "stream", "mean colour saturation", *turns], rows)


def _explained_plot(look: Look, measured: Mapping[str, list[kernels.Kernel]]) -> Tile:
    """The share of every kernel that its Gabor function explains, sorted, for both networks."""
    with style():
        figure, (ax,) = panels(1, 2.4)
        for (who, found), colour in zip(measured.items(), (BLUE, FAINT), strict=True):
            fits = sorted(100 * k.gabor.explained for k in found if k.gabor is not None)
            ax.plot(range(1, len(fits) + 1), fits, "o-", ms=3, lw=1, color=colour, label=who)
        ax.set_xlabel("kernels, sorted by their fit")
        ax.set_ylabel("explained by a Gabor function (%)")
        ax.set_ylim(0, 100)
        ax.legend(loc="lower right")
        content = as_png(figure)
    atomic_write_bytes(look.album.folder / "explained.png", content)
    alt = "Gabor fit of every kernel, sorted, for this network and for random weights"
    return Tile(f"{look.album.folder.name}/explained.png", data_uri(content), alt, alt)
