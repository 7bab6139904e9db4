"""
Write ``fidelity_cases.json``: what scikit-image says about chosen pairs of pictures.

The pictures are made here, by whole numbers alone, so that only their figures have to
be kept; ``test_fidelity_table.py`` makes them again::

    python make_fidelity_table.py

The same scikit-image and NumPy give the same file, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import math
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

Picture = NDArray[np.uint8]

OUTPUT = Path(__file__).with_name("fidelity_cases.json")
COLUMNS = ["height", "width", "channels", "change", "sha256", "psnr", "ssim"]
# One window, one window along an axis, sides about a piece of work (64 by 256 windows
# of 11), and pictures of several pieces.
SIZES = [(11, 11), (11, 40), (40, 11), (12, 13), (64, 64), (74, 266), (75, 267)]
SIZES += [(150, 600), (301, 67)]


def hashed(shape: tuple[int, ...], seed: int) -> NDArray[np.int64]:
    """Give noise of 0 to 255 that is the same with any version of NumPy."""
    count = np.arange(math.prod(shape), dtype=np.uint64) + np.uint64(seed << 32)
    # The steps of splitmix64, whose products are meant to overflow.
    count = count * np.uint64(0x9E3779B97F4A7C15)
    count = (count ^ (count >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    count = (count ^ (count >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    count ^= count >> np.uint64(31)
    return (count & np.uint64(255)).astype(np.int64).reshape(shape)


def scene(height: int, width: int, channels: int) -> NDArray[np.int64]:
    """Draw a ramp, a white page with dark strokes and some grain."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    rows, columns = np.indices((height, width))
    ramp = rows * 160 // height + columns * 95 // width
    page = np.where((rows // 3 + columns // 5) % 4 == 0, 20, 250)
    picture = np.where(columns * 2 < width, ramp, page)
    if channels == 3:
        picture = np.stack([picture, 255 - picture, picture // 2 + 40], axis=2)
    return np.clip(picture + hashed(shape, 1) // 32, 0, 255)


def coarse(picture: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each 8x8 block one colour, as the coarsest JPEG does."""
    height, width = picture.shape[:2]
    rows, columns = np.indices((height, width)) // 8 * 8
    return picture[rows, columns]


CHANGES: dict[str, Callable[[NDArray[np.int64]], NDArray[np.int64]]] = {
    "nothing": lambda picture: picture,
    "one sample": lambda picture: (
        picture ^ (np.arange(picture.size) == 60).reshape(picture.shape)
    ),
    "grain": lambda picture: picture + hashed(picture.shape, 2) // 16 - 8,
    "brighter": lambda picture: picture + 12,
    "half the contrast": lambda picture: picture // 2 + 64,
    "steps of 16": lambda picture: picture // 16 * 16,
    "8x8 blocks": coarse,
    "moved": lambda picture: np.roll(picture, 1, axis=1),
    "negative": lambda picture: 255 - picture,
    "other noise": lambda picture: hashed(picture.shape, 3),
    "black": lambda picture: picture * 0,
    "white": lambda picture: picture * 0 + 255,
}


def pair(
    height: int, width: int, channels: int, change: str
) -> tuple[Picture, Picture]:
    """Make the two pictures of a case."""
    picture = scene(height, width, channels)
    changed = np.clip(CHANGES[change](picture), 0, 255)
    return picture.astype(np.uint8), changed.astype(np.uint8)


def digest(first: Picture, second: Picture) -> str:
    """Give what tells whether the pictures were made as they were here."""
    return hashlib.sha256(first.tobytes() + second.tobytes()).hexdigest()[:16]


def measure(first: Picture, second: Picture) -> tuple[float | None, float]:
    """Ask scikit-image; an infinite PSNR is null, as JSON has no such number."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    with warnings.catch_warnings():
        # It divides by zero where nothing differs.
        warnings.simplefilter("ignore", RuntimeWarning)
        psnr = float(peak_signal_noise_ratio(first, second, data_range=255))
    ssim = structural_similarity(
        first,
        second,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        channel_axis=-1 if first.ndim == 3 else None,
    )
    return psnr if math.isfinite(psnr) else None, float(ssim)


def rows() -> list[list[Any]]:
    """Measure every change on every size, grey and in colour."""
    table = []
    for height, width in SIZES:
        for channels in (1, 3):
            for change in CHANGES:
                both = pair(height, width, channels, change)
                figures = measure(*both)
                table.append([height, width, channels, change, digest(*both), *figures])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    packages = ["scikit-image", "scipy", "numpy"]
    header = {
        "made_by": "tests/reference/make_fidelity_table.py",
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "columns": COLUMNS,
    }
    lines = ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows())
    text = (
        f'{{\n"header": {json.dumps(header, indent=1)},\n"cases": [\n{lines}\n]\n}}\n'
    )
    options.output.write_text(text, encoding="utf-8")
    sys.stdout.write(f"wrote {options.output}\n")


if __name__ == "__main__":
    main()
