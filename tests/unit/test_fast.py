"""Fast decoding of JPEGs whose sides are no multiple of the part."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from qwenvl_prep import prepare


def psnr(first, second) -> float:
    error = ((first.astype(float) - second.astype(float)) ** 2).mean()
    return 10 * math.log10(255**2 / error) if error else math.inf


def shown(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "size",
    [
        (1200, 1600),
        (1201, 1603),
        (1207, 1607),
        (1206, 1602),
        (1365, 2048),
        (3025, 4031),
    ],
)
def test_fast_of_any_size_is_near_exact(size, mode, orientation):
    """Sides that are no multiple of 2, 4 or 8 are decoded at a part as well."""
    coarse = np.random.default_rng(7).integers(0, 256, (60, 80, 3), np.uint8)
    image = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
    tags = Image.Exif()
    tags[0x0112] = orientation
    file = io.BytesIO()
    image.convert(mode).save(file, "JPEG", quality=92, exif=tags)
    given = {"max_tokens": 90, "encoding": "png"}
    exact = prepare(file.getvalue(), **given)
    fast = prepare(file.getvalue(), fidelity="fast", **given)
    assert fast.plan.shrink in {2, 4, 8}
    assert (fast.height, fast.width) == (exact.height, exact.width)
    right, got = shown(exact.data), shown(fast.data)
    assert psnr(got, right) > 45
    # A picture whose last rows were cut off is stretched, most at this corner.
    half = right.shape[0] // 2, right.shape[1] // 2
    assert psnr(got[half[0] :, half[1] :], right[half[0] :, half[1] :]) > 45
