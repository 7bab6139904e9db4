"""Strips of samples to an upright picture, said anew with NumPy and Pillow."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from qwenvl_prep.headers import ImageInfo
from qwenvl_prep.options import PlanOptions
from qwenvl_prep.pixels import Finish, Pixels, collect
from qwenvl_prep.resize import resize

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
GREYS = [(255, 255, 255), (0, 0, 0), (7, 7, 7)]
COLOURS = [(255, 0, 0), (0, 0, 1), (0x33, 0x66, 0x99)]


def noise(*shape: int, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def described(channels: int, *, colour: str = "rgb", **fields) -> ImageInfo:
    return ImageInfo("PNG", "image/png", 20, 30, 1, channels, colour=colour, **fields)


def finish(info: ImageInfo, **options) -> Finish:
    return Finish(info, PlanOptions(**options))


def laid(colours: np.ndarray, alpha: np.ndarray, ground) -> np.ndarray:
    """Lay RGB on a ground by Pillow."""
    top = Image.fromarray(np.dstack([colours, alpha]))
    bottom = Image.new("RGBA", top.size, (*ground, 255))
    return np.asarray(Image.alpha_composite(bottom, top).convert("RGB"))


def curve(exponent: float) -> bytes:
    """Give a colour profile of grey with a gamma of its own."""
    value = round(exponent * 256)
    tag = b"curv\0\0\0\0\0\0\0\1" + value.to_bytes(2, "big") + b"\0\0"
    white = b"XYZ \0\0\0\0" + bytes.fromhex("0000f6d600010000 0000d32d")
    count = (2).to_bytes(4, "big")
    table = b"".join(
        name + at.to_bytes(4, "big") + length.to_bytes(4, "big")
        for name, at, length in ((b"wtpt", 156, 20), (b"kTRC", 176, 16))
    )
    head = bytes(4) + b"lcms" + bytes.fromhex("04200000") + b"mntrGRAYXYZ "
    head = head.ljust(36, b"\0") + b"acsp"
    head = head.ljust(68, b"\0") + bytes.fromhex("0000f6d600010000 0000d32d")
    body = head.ljust(128, b"\0") + count + table + white + tag
    return len(body).to_bytes(4, "big") + body[4:]


def wide() -> bytes:
    """Give an RGB profile whose primaries are exchanged: red is seen as green."""
    data = SRGB.tobytes()
    assert data.count(b"rXYZ") == data.count(b"gXYZ") == 1
    return (
        data.replace(b"rXYZ", b"????")
        .replace(b"gXYZ", b"rXYZ")
        .replace(b"????", b"gXYZ")
    )


def ink() -> bytes:
    """Give a CMYK profile of two points a side: the corners of colour."""
    ramp = bytes(range(256))
    identity = b"".join(
        (0x10000 if row == column else 0).to_bytes(4, "big")
        for row in range(3)
        for column in range(3)
    )
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + ramp * 4
    # Lab of 8 bits: lightness falls with the ink, no colour beside grey and red.
    corners = b"".join(
        bytes([max(0, 255 - 60 * corner.bit_count()), 128 + 6 * (corner % 5), 128])
        for corner in range(16)
    )
    table += corners + ramp * 3
    head = bytes(4) + b"lcms" + bytes.fromhex("02200000") + b"prtrCMYKLab "
    head = head.ljust(36, b"\0") + b"acsp"
    head = head.ljust(68, b"\0") + bytes.fromhex("0000f6d600010000 0000d32d")
    at = 128 + 4 + 12
    tags = b"\0\0\0\1A2B0" + at.to_bytes(4, "big") + len(table).to_bytes(4, "big")
    body = head.ljust(128, b"\0") + tags + table
    return len(body).to_bytes(4, "big") + body[4:]


def by_image_cms(samples: np.ndarray, profile: bytes, mode: str) -> np.ndarray:
    image = Image.frombytes(mode, samples.shape[1::-1], samples.tobytes())
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    done = ImageCms.profileToProfile(image, opened, SRGB, outputMode="RGB")
    return np.asarray(done)


# --------------------------------------------------------------------------- Pixels


def test_pixels_tell_what_they_are():
    """Size, kind and a short repr come from the array."""
    colour, grey = Pixels(noise(7, 9, 3)), Pixels(noise(7, 9))
    assert (colour.height, colour.width, colour.is_grey) == (7, 9, False)
    assert (grey.height, grey.width, grey.is_grey) == (7, 9, True)
    assert (repr(colour), repr(grey)) == ("<Pixels 7x9 RGB>", "<Pixels 7x9 grey>")
    assert (colour.missing, colour.is_coarse) == (0.0, False)


def test_rgb_of_colour_is_the_same_array():
    """Nothing is copied where there are three samples already."""
    pixels = Pixels(noise(7, 9, 3))
    assert pixels.rgb is pixels.data


def test_rgb_of_grey_has_three_equal_samples():
    """Grey is repeated, and the result is one's own to write to."""
    data = noise(7, 9)
    rgb = Pixels(data).rgb
    assert (rgb.shape, rgb.dtype) == ((7, 9, 3), np.uint8)
    assert rgb.flags.c_contiguous
    for channel in range(3):
        assert np.array_equal(rgb[:, :, channel], data)
    rgb[:] = 0
    assert data.any()


# ------------------------------------------------------------------ what a strip is


@pytest.mark.parametrize("channels", [1, 3])
def test_plain_samples_are_handed_on(channels):
    """Without profile and alpha there is nothing to do, and nothing is copied."""
    samples = noise(20, 30, channels)
    info = described(channels, colour="grey" if channels == 1 else "rgb")
    for options in ({}, {"background": "#336699"}, {"color": "keep"}):
        done = finish(info, **options)(samples)
        assert np.shares_memory(done, samples)
        assert np.array_equal(done, samples)


@pytest.mark.parametrize("ground", GREYS)
def test_grey_on_grey_stays_grey(ground):
    """Grey with alpha on a ground without colour is one channel."""
    samples = noise(20, 30, 2)
    info = described(2, colour="grey", has_alpha=True)
    done = finish(info, background=ground)(samples)
    assert done.shape == (20, 30, 1)
    grey = samples[:, :, [0, 0, 0]]
    assert np.array_equal(done[:, :, 0], laid(grey, samples[:, :, 1], ground)[:, :, 0])


@pytest.mark.parametrize("ground", COLOURS)
def test_grey_on_colour_becomes_colour(ground):
    """Grey with alpha takes the colour of its ground."""
    samples = noise(20, 30, 2)
    info = described(2, colour="grey", has_alpha=True)
    done = finish(info, background=ground)(samples)
    assert done.shape == (20, 30, 3)
    right = laid(samples[:, :, [0, 0, 0]], samples[:, :, 1], ground)
    assert np.array_equal(done, right)


@pytest.mark.parametrize("ground", GREYS + COLOURS)
@pytest.mark.parametrize("colour", ["rgb", "palette", "grey"])
def test_four_samples_are_colour_and_alpha(ground, colour):
    """RGBA is flattened, also where the header calls it palette or grey."""
    samples = noise(20, 30, 4)
    info = described(4, colour=colour, has_alpha=True)
    done = finish(info, background=ground)(samples)
    right = laid(samples[:, :, :3], samples[:, :, 3], ground)
    assert np.array_equal(done, right)
    # A view with gaps is read as it looks.
    gaps = finish(info, background=ground)(noise(20, 60, 4)[:, ::2])
    assert gaps.shape == (20, 30, 3)


def test_samples_are_never_written_to():
    """Whatever is done to a strip, the decoder's own memory stays as it is."""
    for bands, colour, profile in (
        (1, "grey", curve(1.0)),
        (2, "grey", b""),
        (2, "grey", curve(1.0)),
        (3, "rgb", wide()),
        (4, "rgb", wide()),
        (4, "cmyk", ink()),
    ):
        samples = noise(20, 30, bands)
        before = samples.copy()
        info = described(bands, colour=colour, icc_profile=profile, has_icc=True)
        finish(info, background="#336699")(samples)
        assert np.array_equal(samples, before)


# ------------------------------------------------------------------------- profiles


def test_grey_with_a_profile_stays_grey():
    """One channel of another gamma is still one channel."""
    samples = noise(20, 30, 1)
    info = described(1, colour="grey", icc_profile=curve(1.0), has_icc=True)
    done = finish(info)(samples)
    assert done.shape == (20, 30, 1)
    right = by_image_cms(samples, curve(1.0), "L")
    assert not np.array_equal(right[:, :, :1], samples)
    assert np.array_equal(done, right[:, :, :1])
    assert np.array_equal(finish(info, color="keep")(samples), samples)


@pytest.mark.parametrize("bands", [2, 4])
@pytest.mark.parametrize("ground", [(255, 255, 255), (0, 0, 200)])
def test_grey_is_converted_before_it_is_laid(bands, ground):
    """Only the picture has a profile, its ground is sRGB; Pillow gives grey as RGBA."""
    grey, alpha = noise(20, 30, 1), noise(20, 30, seed=6)
    colours = grey if bands == 2 else np.repeat(grey, 3, axis=2)
    info = described(2, colour="grey", icc_profile=curve(1.0), has_icc=True)
    done = finish(info, background=ground)(np.dstack([colours, alpha]))
    right = laid(by_image_cms(grey, curve(1.0), "L"), alpha, ground)
    is_grey = len(set(ground)) == 1
    assert done.shape == (20, 30, 1 if is_grey else 3)
    assert np.array_equal(done, right[:, :, :1] if is_grey else right)


def test_colours_are_converted_before_they_are_laid():
    """Alpha mixes sRGB with the ground, not the numbers of another space."""
    samples = noise(20, 30, 4)
    info = described(4, icc_profile=wide(), has_icc=True, has_alpha=True)
    converted = by_image_cms(samples[:, :, :3].copy(), wide(), "RGB")
    assert not np.array_equal(converted, samples[:, :, :3])
    done = finish(info, background=(9, 99, 199))(samples)
    assert np.array_equal(done, laid(converted, samples[:, :, 3], (9, 99, 199)))
    kept = finish(info, background=(9, 99, 199), color="keep")(samples)
    right = laid(samples[:, :, :3], samples[:, :, 3], (9, 99, 199))
    assert np.array_equal(kept, right)


def test_ink_with_a_profile_is_no_alpha():
    """Four samples of CMYK are converted; the fourth is black, not transparency."""
    samples = noise(20, 30, 4)
    info = described(4, colour="cmyk", icc_profile=ink(), has_icc=True)
    done = finish(info, background="#336699")
    assert done.is_cmyk
    right = by_image_cms(samples, ink(), "CMYK")
    assert right.std() > 5
    assert np.array_equal(done(samples), right)


@pytest.mark.parametrize("profile", [b"", b"broken", wide()], ids=len)
def test_ink_without_a_usable_profile_is_left_to_its_decoder(profile):
    """Then a decoder gives RGB, which is handed on as it is."""
    info = described(4, colour="cmyk", icc_profile=profile, has_icc=bool(profile))
    for options in ({}, {"color": "keep"}):
        assert not finish(info, **options).is_cmyk
        samples = noise(20, 30, 3)
        assert np.array_equal(finish(info, **options)(samples), samples)
    assert not finish(
        described(4, colour="cmyk", icc_profile=ink()), color="keep"
    ).is_cmyk


# ----------------------------------------------------------------------- blank rows


@pytest.mark.parametrize("ground", GREYS + COLOURS)
@pytest.mark.parametrize("channels", [1, 3])
def test_blank_rows_have_the_colour_of_the_ground(ground, channels):
    """Rows that never arrived are bare ground, which makes grey colour if need be."""
    rows = noise(3, 30, channels)
    done = finish(described(channels), background=ground)
    part = done.coloured(rows)
    is_grey = channels == 1 and len(set(ground)) == 1
    assert part.shape == (3, 30, 1 if is_grey else 3)
    assert (part == rows).all()
    blank = done.blank(part, 5)
    assert (blank.shape, blank.dtype) == ((5, *part.shape[1:]), np.uint8)
    assert (blank == ground[: part.shape[2]]).all()


# ------------------------------------------------------------------------ collecting


def pieces(samples: np.ndarray, rows: int):
    return (samples[top : top + rows] for top in range(0, len(samples), rows))


@pytest.mark.parametrize("rows", [1, 3, 8, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_strips_are_put_together(rows, channels):
    """However high the strips: the same picture, and grey has two axes."""
    samples = noise(20, 30, channels)
    pixels = collect(pieces(samples, rows), described(channels), None)
    right = samples[:, :, 0] if channels == 1 else samples
    assert pixels.data.shape == right.shape
    assert pixels.data.flags.c_contiguous
    assert np.array_equal(pixels.data, right)


@pytest.mark.parametrize("rows", [1, 3, 8, 100])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(13, 17), (40, 31), (20, 15)])
def test_strips_are_resized_on_the_way(rows, channels, size):
    """Pillow's bicubic bytes, each channel by itself; grey keeps two axes."""
    samples = noise(20, 30, channels)
    pixels = collect(pieces(samples, rows), described(channels), size)
    whole = Image.fromarray(samples[:, :, 0] if channels == 1 else samples)
    right = np.asarray(whole.resize(size[::-1], Image.Resampling.BICUBIC))
    assert pixels.data.shape == right.shape
    assert pixels.data.flags.c_contiguous
    assert np.array_equal(pixels.data, right)


def test_strips_with_gaps_are_resized_too():
    """One channel cut out of three has its samples apart from each other."""
    samples = noise(20, 30, 3)
    parts = (strip[:, :, :1] for strip in pieces(samples, 6))
    pixels = collect(parts, described(1), (13, 17))
    right = resize(np.ascontiguousarray(samples[:, :, 0]), 13, 17)
    assert np.array_equal(pixels.data, right)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [None, (26, 18)], ids=["whole", "resized"])
def test_collected_pictures_stand_upright(orientation, channels, size):
    """The size asked for is the upright one, and Pillow turns the same way."""
    samples = noise(20, 30, channels)
    info = ImageInfo("PNG", "image/png", 20, 30, orientation, channels)
    pixels = collect(pieces(samples, 7), info, size)
    image = Image.fromarray(samples[:, :, 0] if channels == 1 else samples)
    turns = Image.Transpose
    turn = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }.get(orientation)
    upright = image if turn is None else image.transpose(turn)
    if size is not None:
        upright = upright.resize(size[::-1], Image.Resampling.BICUBIC)
    right = np.asarray(upright)
    assert (pixels.height, pixels.width) == right.shape[:2]
    assert pixels.data.flags.c_contiguous
    assert np.array_equal(pixels.data, right)
