"""From compressed images (PNG, JPEG, ...) to one uint8 array, in threads (PIL lets them run side by side)."""

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from datamodules.errors import DataError
from datamodules.pixels import Pixels

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


def decode(
    count: int,
    read: Callable[[int], bytes],
    where: Callable[[int], str],
    image_size: int | None = None,
    title: str = "decoding",
) -> Tensor:
    """Decode images 0..count - 1 to uint8 (count, H, W, C), C = 1 for greyscale and 3 otherwise.

    read gives the compressed bytes of an image, from any thread; where names it in errors. With image_size, every image
    is resized and cropped to that square; without, all must already have one square size.
    Raises DataError for an unreadable image, an image that is not square, and images of mixed size or channel count.
    """
    first = _decode_one(read, where, 0, image_size)
    if first.shape[0] != first.shape[1]:
        raise DataError(f"{where(0)}: {_shape(first)}, not a square; image_size=... resizes and crops every image")
    pixels = np.empty((count, *first.shape), dtype=np.uint8)

    def decode_rows(start: int) -> int:
        stop = min(start + ROWS_PER_TASK, count)
        for row in range(start, stop):
            image = _decode_one(read, where, row, image_size)
            if image.shape != first.shape:
                raise DataError(
                    f"images differ: {where(0)} is {_shape(first)}, {where(row)} is {_shape(image)}; "
                    "all must have one channel count and one size (image_size=... resizes and crops)"
                )
            pixels[row] = image
        return stop - start

    # disable=None: no bar where there is no terminal.
    with ThreadPoolExecutor(os.cpu_count()) as pool, tqdm(total=count, desc=title, unit="image", disable=None) as bar:
        for done in pool.map(decode_rows, range(0, count, ROWS_PER_TASK)):
            bar.update(done)
    return torch.from_numpy(pixels)


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
    images = np.stack([_fit(_array_to_image(image), image_size) for image in pixels.images.numpy()])
    return Pixels(torch.from_numpy(images.reshape(len(images), image_size, image_size, -1)), pixels.labels)


def jpeg_quality(data: bytes) -> int | None:
    """The libjpeg quality (1..100) whose luminance table is nearest to the image's own; None if it is no JPEG."""
    with Image.open(io.BytesIO(data)) as image:
        tables: dict[int, list[int]] = getattr(image, "quantization", {})
    if not tables:
        return None
    table = np.array(tables[0])
    return min(range(1, 101), key=lambda quality: int(np.abs(_luminance_table(quality) - table).sum()))


def _luminance_table(quality: int) -> NDArray[np.int64]:
    """The 64 quantisation steps libjpeg uses at a quality (jcparam.c: jpeg_quality_scaling)."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((STANDARD_LUMINANCE * percent + 50) // 100, 1, 255)


def _decode_one(
    read: Callable[[int], bytes], where: Callable[[int], str], row: int, image_size: int | None
) -> NDArray[np.uint8]:
    """One image as uint8 (H, W, C)."""
    try:
        with Image.open(io.BytesIO(read(row))) as image:
            mode = TARGET_MODE.get(image.mode)
            if mode is None:
                raise DataError(f"{where(row)}: PIL mode {image.mode}; allowed: {', '.join(TARGET_MODE)}")
            array = _fit(image.convert(mode), image_size)
    except DataError:
        raise
    # PIL reports damage as OSError or, in PNG chunks, as SyntaxError; sizes beyond reason have their own class.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(f"{where(row)}: not a readable image ({_one_line(error)})") from error
    return array.reshape(*array.shape[:2], -1)


def _fit(image: Image.Image, image_size: int | None) -> NDArray[np.uint8]:
    """The pixels of an image; with a size, of its largest centred square, scaled (bilinear, antialiased) to it."""
    if image_size is not None:
        left, top, side = centred_square(image)
        box = (left, top, left + side, top + side)
        image = image.resize((image_size, image_size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image)


def _array_to_image(array: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def _shape(array: NDArray[np.uint8]) -> str:
    height, width, channels = array.shape
    return f"{height} x {width} x {channels}"


def _one_line(error: BaseException) -> str:
    """The message of a foreign error without the object addresses and line breaks that PIL puts into some."""
    return "unknown format" if isinstance(error, Image.UnidentifiedImageError) else " ".join(str(error).split())
