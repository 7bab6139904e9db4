"""What the tests share: one picture, one way to encode, one profile for laws."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

import qwenvl_prep as qp
from qwenvl_prep._native import resample as native

if TYPE_CHECKING:
    from collections.abc import Iterator

# Damaged pictures are the point of many tests; libvips would write of each on stderr.
os.environ.setdefault("VIPS_WARNING", "1")

# The same examples on every run and machine; a slow first call is no failure.
settings.register_profile(
    "seeded",
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("seeded")


@pytest.fixture(scope="module", params=native.backends())
def backend(request) -> Iterator[str]:
    """Run what asks for it by each of the native kernels that this CPU has."""
    chosen = qp.backend()
    native.use_backend(request.param)
    yield request.param
    native.use_backend(chosen)


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """Give a soft RGB picture, 90 high and 120 wide, that no symmetry hides."""
    coarse = np.random.default_rng(7).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((120, 90), Image.Resampling.BICUBIC)


@pytest.fixture(scope="session")
def encoded():
    """Give a function that turns a Pillow image into the bytes of a file."""

    def encode(image: Image.Image, file_format: str, **options) -> bytes:
        file = io.BytesIO()
        image.save(file, file_format, **options)
        return file.getvalue()

    return encode


@pytest.fixture(scope="session")
def opened():
    """Give a function that decodes bytes by Pillow, whatever their type."""

    def open_(data: bytes) -> Image.Image:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            return image

    return open_
