"""Distorted digits once more, slowly: one sample, one pixel at a time, in double precision, with numpy and scipy alone.

Lengths are in pixels of the image here and the origin is its middle; nothing is shared with the package but the meaning
of the columns of draws.
"""

import math

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.stats import norm

SIDES = ((-1, -1), (1, -1), (1, 1), (-1, 1))


def bilinear(image: np.ndarray, column: float, row: float) -> float:
    """The value between pixels whose centres have whole coordinates; black outside."""
    value = 0.0
    for y in (math.floor(row), math.floor(row) + 1):
        for x in (math.floor(column), math.floor(column) + 1):
            if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
                value += image[y, x] * (1 - abs(column - x)) * (1 - abs(row - y))
    return value


def normal(draws: np.ndarray) -> np.ndarray:
    return norm.ppf(draws + 2.0**-25).reshape(-1, 2)


def homography(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The projection through four pairs of points, as the null vector of the direct linear transform."""
    rows = []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y, -u], [0, 0, 0, x, y, 1, -v * x, -v * y, -v]]
    return np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3)


def convex(corners: np.ndarray, least: float) -> bool:
    """Whether every corner turns the same way as the square's, by an area of at least so much."""
    edges = [corners[(i + 1) % 4] - corners[i] for i in range(4)]
    return all(np.linalg.det(np.stack([edges[i], edges[(i + 1) % 4]])) >= least for i in range(4))


def distorted(digit: np.ndarray, draws: np.ndarray, size: int, room: float, **told: object) -> np.ndarray:
    """One image (size, size) of a digit (D, D) without clutter, values not rounded.

    draws: float64 (12 + 32,). told: angle, scale, placed, corners, bends as `Distortion`, and whole for whole pixels.
    """
    width = len(digit)
    pixel = size / room
    angle = math.radians((2 * draws[0] - 1) * told.get("angle", 0.0))
    low, high = told.get("scale", (1.0, 1.0))
    scale = low + draws[1] * (high - low)
    centre = np.zeros(2)
    if told.get("whole"):
        centre = np.floor(draws[2:4] * (size - width + 1)) + width / 2 - size / 2
    elif told.get("placed"):
        centre = (draws[2:4] - 0.5) * (size - scale * width)

    corners = np.array(SIDES) * width / 2
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    moved = scale * corners @ turn.T + centre
    if "corners" in told:
        moves = normal(draws[4:12]) * told["corners"] * pixel
        while not convex(moved + moves, 0.05 * (scale * width) ** 2):
            moves = moves / 2
        moved = moved + moves
    back = homography(moved, corners)
    spline = None
    if "bends" in told:
        along = np.linspace(-size / 2, size / 2, 4)
        points = np.array([(x, y) for y in along for x in along])
        bent = points + normal(draws[12:44]) * told["bends"] * pixel
        spline = RBFInterpolator(points, bent, kernel="thin_plate_spline", degree=1)

    image = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            point = np.array([column + 0.5 - size / 2, row + 0.5 - size / 2])
            if spline is not None:
                point = spline(point[None])[0]
            x, y, depth = back @ [*point, 1.0]
            if depth * (back @ [*moved.mean(0), 1.0])[2] > 0:
                image[row, column] = bilinear(digit, x / depth + width / 2 - 0.5, y / depth + width / 2 - 0.5)
    return image
