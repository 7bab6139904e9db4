"""Colour profiles of real files, beside Pillow's reading and converting of them."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from qwenvl_prep.errors import QwenVLPrepError
from qwenvl_prep.headers import HeaderReader, ImageInfo, read_header
from qwenvl_prep.icc import to_srgb

ROOT = Path(
    os.environ.get("QWENVL_PREP_CORPORA")
    or Path(__file__).resolve().parents[3] / "shared" / "corpora" / "public"
)

if not ROOT.is_dir():
    pytest.skip(
        f"no corpus in {ROOT}; set QWENVL_PREP_CORPORA to a folder of pictures",
        allow_module_level=True,
    )

FILES = sorted(path for path in ROOT.rglob("*") if path.is_file())
# Decoding is left out above this: it is the decoder's time, and its memory.
MAX_PIXELS = 30_000_000
MODES = {"L": 1, "RGB": 3, "CMYK": 4}


@pytest.fixture(scope="module", autouse=True)
def heif_opener():
    """Let Pillow read HEIC while these tests run, where pillow_heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        yield
        return
    Image.preinit()
    pillow_heif.register_heif_opener()
    yield
    Image.ID.remove("HEIF")
    Image.OPEN.pop("HEIF")


def header(path) -> ImageInfo | None:
    try:
        return read_header(HeaderReader.from_bytes(path.read_bytes()))
    except QwenVLPrepError:
        return None


def profile_by_pillow(path) -> bytes | None:
    """Give the profile of a file that Pillow decodes whole; None for others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    return None
                # JPEG 2000 is read by Pillow without its profile.
                if image.format == "JPEG2000":
                    return None
                image.load()
                return image.info.get("icc_profile") or b""
        except Exception:  # noqa: BLE001 - any refusal is one
            return None


def test_profiles_equal_those_of_pillow():
    """Every file that Pillow decodes has the profile that Pillow says it has."""
    seen = 0
    for path in FILES:
        expected = profile_by_pillow(path)
        info = header(path) if expected is not None else None
        if info is None:
            continue
        assert info.icc_profile == expected, str(path)
        assert info.has_icc or not expected, str(path)
        seen += bool(expected)
    assert seen >= 20


def test_conversions_equal_those_of_pillow():
    """Each profile in the corpus, or none of it, is what profileToProfile makes."""
    samples = np.random.default_rng(1).integers(0, 256, (60, 99, 4), dtype=np.uint8)
    profiles = {info.icc_profile for path in FILES if (info := header(path))}
    seen = 0
    for profile in sorted(profiles - {b""}):
        for mode, channels in MODES.items():
            block = np.ascontiguousarray(samples[:, :, :channels])
            image = Image.frombytes(mode, (99, 60), block.tobytes())
            conversion = to_srgb(profile, channels)
            try:
                opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
                srgb = ImageCms.createProfile("sRGB")
                right = ImageCms.profileToProfile(image, opened, srgb, outputMode="RGB")
            except (OSError, ImageCms.PyCMSError):
                assert conversion is None
                continue
            seen += 1
            expected = np.asarray(right).astype(int)
            if conversion is None:
                assert abs(expected - block).max() <= 2
            else:
                found = conversion.apply(block)
                assert (found == expected).all(), conversion
    assert seen >= 15
