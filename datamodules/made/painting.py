"""Digits on black canvases: sampled through a transform, or pasted as they are.

Positions run from -1 at the left and upper edge of an image to 1 at the right and lower edge, x first, as in
`modules.blocks.spatial_transformer`; a box is (left, top, right, bottom) in the same measure. Nothing here draws random
numbers: what is drawn comes as uniform numbers, and equal numbers give equal images.
"""

import torch
from torch import Tensor

FAR = 10.0  # a position outside every image
NEAREST = 1e-6  # the least depth of a projection that is seen; at the middle of a digit it is about 1
CLUTTER_DRAWS = 5
"""Uniform numbers for each patch of clutter."""


def rounded(values: Tensor) -> Tensor:
    """float (...) between 0 and 255, give or take an error of rounding, to uint8; changes the values."""
    return values.round_().to(torch.uint8)


def sampled(images: Tensor, positions: Tensor) -> Tensor:
    """uint8 images (N, H, W) at positions (N, S, S, 2), bilinear, zero outside: float32 (N, S, S)."""
    values = images.unsqueeze(1).float()
    return torch.nn.functional.grid_sample(values, positions, padding_mode="zeros", align_corners=False).squeeze(1)


def centres(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """x (1, 1, size) and y (1, size, 1) of the centres of size x size pixels, which broadcast to all of them."""
    along = ((2 * torch.arange(size, dtype=torch.float64) + 1) / size - 1).float().to(device)
    return along.view(1, 1, size), along.view(1, size, 1)


def mapped(matrix: Tensor, x: Tensor, y: Tensor, projective: bool = False) -> Tensor:
    """Where matrices (N, 3, 3) map points (x, y), of any shapes that broadcast to (N, S, S): (N, S, S, 2).

    A projection maps what lies on its horizon or behind it outside of every image.
    """
    rows = matrix[:, :, :, None, None].unbind(1)
    # Not a product of matrices, because a GPU may round those to ten bits. All x, then all y: torch samples from such
    # planes as fast, and to interleave them would take as long as to compute them.
    planes = torch.empty(2, *torch.broadcast_shapes(rows[0][:, 0].shape, x.shape, y.shape), device=x.device)
    for plane, row in zip(planes, rows, strict=False):
        torch.add(row[:, 0] * x, torch.addcmul(row[:, 2], row[:, 1], y), out=plane)
    if projective:
        depth = rows[2][:, 0] * x + torch.addcmul(rows[2][:, 2], rows[2][:, 1], y)
        hidden = depth < NEAREST
        planes /= depth.clamp_(min=NEAREST)
        planes[0].masked_fill_(hidden, FAR)
    return planes.permute(1, 2, 3, 0)


def paste(canvas: Tensor, images: Tensor, rows: Tensor, crops: Tensor, places: Tensor, size: int) -> None:
    """Puts one square of each chosen image on each canvas, in place; where both are drawn, the brighter pixel stays.

    canvas: uint8 (N, S, S). images: uint8 (M, D, D). rows: int64 (N,), which image. crops, places: int64 (N, 2), the
    upper left corner (x, y), in pixels, of the square in the image and on the canvas. size: of the square, in pixels.
    """
    along = torch.arange(size, device=canvas.device)

    def flat(corners: Tensor, width: int, number: Tensor) -> Tensor:
        first = (number * width + corners[:, 1]) * width + corners[:, 0]
        return first[:, None, None] + along[:, None] * width + along

    num = torch.arange(len(canvas), device=canvas.device)
    target = flat(places, canvas.shape[-1], num)
    pixels = images.reshape(-1)[flat(crops, images.shape[-1], rows)]
    everything = canvas.view(-1)
    everything[target] = torch.maximum(everything[target], pixels)


def whole_places(draws: Tensor, room: int) -> Tensor:
    """Uniform numbers (...) to whole pixels 0..room."""
    return (draws * (room + 1)).long()


def boxes(places: Tensor, size: int, image_size: int) -> Tensor:
    """Boxes (..., 4) of squares of `size` pixels whose corners (x, y) stand at places (..., 2), in pixels."""
    left_top = places.double()
    return (2 * torch.cat([left_top, left_top + size], dim=-1) / image_size - 1).float()


def clutter(draws: Tensor, rows: Tensor, num: int, patch: int, digit_size: int, image_size: int) -> dict[str, Tensor]:
    """Which patches of which other digits stand where: clutter_rows (N, P), clutter_crops and clutter_places (N, P, 2).

    draws: (N, 5 P). rows: (N,), the digits that are shown, which no patch is cut from. num: digits there are. patch:
    width in pixels.
    """
    each = draws.unflatten(1, (-1, CLUTTER_DRAWS))
    others = (each[..., 0] * max(1, num - 1)).long()
    others += (others >= rows[:, None]) & (num > 1)
    return {
        "clutter_rows": others,
        "clutter_crops": whole_places(each[..., 1:3], digit_size - patch),
        "clutter_places": whole_places(each[..., 3:5], image_size - patch),
    }


def paste_clutter(canvas: Tensor, digits: Tensor, clutter: dict[str, Tensor], patch: int) -> None:
    """Pastes what `clutter` describes on each canvas, in place."""
    columns = (clutter[f"clutter_{name}"].unbind(1) for name in ("rows", "crops", "places"))
    for rows, crops, places in zip(*columns, strict=True):
        paste(canvas, digits, rows, crops, places, patch)
