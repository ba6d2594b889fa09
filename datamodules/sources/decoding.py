"""From compressed images (PNG, JPEG, ...) to one uint8 array, in threads (PIL lets them run side by side)."""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from datamodules.errors import DataError, one_line
from datamodules.sources.pixels import Pixels, in_words

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "PPM", "TIFF")
"""All that is opened, whatever a file calls itself. PIL knows more, and starts Ghostscript for one of them, EPS."""

# What a PIL mode is decoded to. Transparency and 16-bit depth are missing on purpose: they would be lost silently.
TARGET_MODE = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "CMYK": "RGB"}

# The luminance table of the JPEG standard (ITU-T T.81, table K.1), row by row; libjpeg scales it by the quality.
STANDARD_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
).ravel()

ROWS_PER_TASK = 256

Item = TypeVar("Item")


def decode(
    images: Sequence[Item],
    read: Callable[[Item], bytes | Path],
    image_size: int | None,
    title: str,
    where: Callable[[Item], str] = str,
) -> Tensor:
    """Decode images to uint8 (N, H, W, C), C = 1 for greyscale and 3 otherwise.

    read gives the compressed bytes of an image or their file, from any thread; where names it in errors. With
    image_size, every image is resized and cropped to that square; without, all must already have one square size.
    Raises DataError for an unreadable image, an image that is not square, images of mixed size or channel count, and
    for more pixels than the memory holds.
    """

    def one(image: Item) -> NDArray[np.uint8]:
        with opened(read(image), where(image)) as found:
            array = _fit(plain(found), image_size)
        return array.reshape(*array.shape[:2], -1)

    count, name = len(images), where(images[0])
    if image_size is not None:
        check_memory(count, (image_size, image_size, 1), name)
    first = one(images[0])
    if first.shape[0] != first.shape[1]:
        raise DataError(f"{name}: {in_words(first.shape)}, not a square; image_size=... resizes and crops every image")
    check_memory(count, first.shape, name)
    pixels = np.empty((count, *first.shape), dtype=np.uint8)

    def decode_rows(start: int) -> int:
        rows = range(start, min(start + ROWS_PER_TASK, count))
        for row in rows:
            image = one(images[row])
            if image.shape != first.shape:
                raise DataError(
                    f"images differ: {name} is {in_words(first.shape)}, {where(images[row])} is "
                    f"{in_words(image.shape)}; all must have one channel count and one size (image_size=... resizes "
                    "and crops)"
                )
            pixels[row] = image
        return len(rows)

    # disable=None: no bar where there is no terminal.
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=count, desc=title, unit="image", disable=None) as bar:
        for done in pool.map(decode_rows, range(0, count, ROWS_PER_TASK)):
            bar.update(done)
    return torch.from_numpy(pixels)


@contextmanager
def opened(file: bytes | Path, where: str) -> Iterator[Image.Image]:
    """An image of one of FORMATS; raises DataError, naming where, for all that goes wrong with it inside the block."""
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS) as image:
            yield image
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    # PIL lets through whatever its parsers meet in damaged bytes: OSError, SyntaxError, KeyError, struct.error, ...
    except Exception as error:
        raise DataError(f"{where}: not a readable image ({_reason(error)})") from error


def check_memory(count: int, shape: tuple[int, ...], where: str) -> None:
    """Raise DataError if so many uint8 images of a shape (H, W, C) take over half of the memory; twice they are held.

    The first time by `decode`, the second by the splits that are made of them.
    """
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # not every system tells
        return
    needed = count * int(np.prod(shape, dtype=object))
    if needed > memory // 2:
        raise DataError(
            f"{where}: {count} images of {in_words(shape)} take {needed / 2**30:.1f} GiB; allowed: half of the "
            f"{memory / 2**30:.1f} GiB of this machine (image_size=... makes images smaller)"
        )


def uncompressed(image: Image.Image) -> bytes:
    """An image in colours as `decode` reads it, without loss."""
    stream = io.BytesIO()
    image.save(stream, "PPM")
    return stream.getvalue()


def centred_square(image: Image.Image) -> tuple[float, float, float]:
    """Left and upper edge and side of the largest centred square of an image, in pixels."""
    side = min(image.size)
    return (image.width - side) / 2, (image.height - side) / 2, side


def resized(pixels: Pixels, image_size: int) -> Pixels:
    """Resize and crop every image to (image_size, image_size), exactly as `decode` does."""
    check_memory(len(pixels), (image_size, image_size, pixels.images.shape[3]), f"image_size {image_size}")
    images = np.stack([_fit(_array_to_image(image), image_size) for image in pixels.images.numpy()])
    return Pixels(torch.from_numpy(images.reshape(len(images), image_size, image_size, -1)), pixels.labels)


def jpeg_quality(data: bytes, where: str) -> int | None:
    """The libjpeg quality (1..100) whose luminance table is nearest to the image's own; None if it is no JPEG."""
    with opened(data, where) as image:
        tables: dict[int, list[int]] = getattr(image, "quantization", {})
    if 0 not in tables:
        return None
    table = np.array(tables[0])
    return min(range(1, 101), key=lambda quality: int(np.abs(_luminance_table(quality) - table).sum()))


def _luminance_table(quality: int) -> NDArray[np.int64]:
    """The 64 quantisation steps libjpeg uses at a quality (jcparam.c: jpeg_quality_scaling)."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((STANDARD_LUMINANCE * percent + 50) // 100, 1, 255)


def plain(image: Image.Image) -> Image.Image:
    """An image in grey (mode L) or in colours (RGB); raises DataError for one that would lose something by it."""
    mode = TARGET_MODE.get(image.mode)
    if mode is None:
        raise DataError(f"PIL mode {image.mode}; allowed: {', '.join(TARGET_MODE)}")
    if "transparency" in image.info:
        raise DataError("transparent pixels; allowed: opaque images")
    if _has_deep_colours(image):
        raise DataError("16 bits per colour; allowed: 8")
    # The second picture of an MPO is not another one: cameras add a preview or a depth map to what is a plain JPEG.
    if image.format != "MPO" and _has_more_pictures(image):
        raise DataError("several pictures in one file, an animation or pages; allowed: one")
    return image.convert(mode)


def _has_deep_colours(image: Image.Image) -> bool:
    """PIL has no mode for 16-bit colours and cuts them to 8; what its decoder is told of the file's pixels shows it."""
    for _, _, _, told in getattr(image, "tile", []):
        raw_mode, *more = told if isinstance(told, tuple) else (told,)
        # RGB;16B in PNG and TIFF. PPM has no such mode, but gives its greatest value second.
        if ";16" in str(raw_mode) or (image.format == "PPM" and more and more[0] > 255):
            return True
    return False


def _has_more_pictures(image: Image.Image) -> bool:
    # is_animated, where there is one, looks at one more frame and does not count them all.
    return bool(image.is_animated if hasattr(image, "is_animated") else getattr(image, "n_frames", 1) > 1)


def _fit(image: Image.Image, image_size: int | None) -> NDArray[np.uint8]:
    """The pixels of an image; with a size, of its largest centred square, scaled (bilinear, antialiased) to it."""
    if image_size is not None:
        left, top, side = centred_square(image)
        box = (left, top, left + side, top + side)
        image = image.resize((image_size, image_size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image)


def _array_to_image(array: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _reason(error: BaseException) -> str:
    """The message of a foreign error without the object addresses and line breaks that PIL puts into some."""
    return "unknown format" if isinstance(error, Image.UnidentifiedImageError) else one_line(error)
