"""Depths and colour models: scaled, never clipped; inverted where ink is meant."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

import qwenvl_prep as qp
from qwenvl_prep.errors import UnsupportedFormatError

GREY, RGB, PALETTE = 0, 2, 3

# Photometric interpretations of TIFF 6.0.
MIN_IS_WHITE, MIN_IS_BLACK, TIFF_RGB, TIFF_PALETTE, SEPARATED = 0, 1, 2, 3, 5


def grey_of(picture):
    return np.ascontiguousarray(picture[:, :, 1])


def deep(samples, low: int = 0xC3):
    """Give 16-bit samples with these high bytes."""
    return samples.astype(np.uint16) << 8 | low


def agree(image, right) -> bool:
    return np.array_equal(image.pixels, right)


# ------------------------------------------------------------------------- 16 bits


@pytest.mark.parametrize("low", [0x00, 0x7F, 0xFF])
@pytest.mark.parametrize("bands", ["grey", "RGB"])
def test_sixteen_bit_png_keeps_its_high_bytes(
    bands, low, picture, png_file, sent, stated
):
    """Of 16 bits the high byte is sent, whatever the low one is."""
    samples = grey_of(picture) if bands == "grey" else picture
    colour_type = GREY if bands == "grey" else RGB
    image = sent(png_file(deep(samples, low), colour_type=colour_type, depth=16))
    assert agree(image, stated(samples, image.size))
    assert "16 → 8 bit" in image.changes


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bands", ["grey", "RGB"])
def test_sixteen_bit_tiff_keeps_its_high_bytes(
    bands, order, picture, tiff_file, sent, stated
):
    """TIFF of either byte order, grey and RGB, is scaled in the same way."""
    samples = grey_of(picture) if bands == "grey" else picture
    photometric = MIN_IS_BLACK if bands == "grey" else TIFF_RGB
    image = sent(tiff_file(deep(samples), photometric=photometric, order=order))
    assert agree(image, stated(samples, image.size))
    assert "16 → 8 bit" in image.changes


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_white_is_zero_in_some_tiffs(
    order, picture, tiff_file, sent, stated
):
    """A scan whose zero means white is not sent as its negative."""
    samples = grey_of(picture)
    data = tiff_file(0xFFFF - deep(samples), photometric=MIN_IS_WHITE, order=order)
    image = sent(data)
    assert agree(image, stated(samples, image.size))


def test_sixteen_bit_images_keep_their_high_bytes(picture, sent, stated):
    """An opened Pillow image of 16-bit grey is scaled, not clipped to white."""
    samples = grey_of(picture)
    image = sent(Image.fromarray(deep(samples)))
    assert agree(image, stated(samples, image.size))


def test_a_bright_scan_is_not_white(picture, png_file, sent):
    """What used to be clipped elsewhere keeps every one of its brightnesses."""
    samples = np.maximum(grey_of(picture), 1)
    image = sent(png_file(deep(samples), colour_type=GREY, depth=16))
    assert len(np.unique(image.pixels)) > 100


# ------------------------------------------------------------------ 1, 2 and 4 bits


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bits_of_grey_are_spread(depth, picture, png_file, sent, stated):
    """Grey of 1, 2 and 4 bits reaches from black to white."""
    values = grey_of(picture) >> (8 - depth)
    image = sent(png_file(values, colour_type=GREY, depth=depth))
    right = (values * (255 // (2**depth - 1))).astype(np.uint8)
    assert agree(image, stated(right, image.size))


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_a_palette_is_looked_up(depth, picture, png_file, sent, stated):
    """An index is sent as the colour that it stands for, never as a grey."""
    indices = grey_of(picture) >> (8 - depth)
    palette = np.random.default_rng(4).integers(0, 256, (2**depth, 3), dtype=np.uint8)
    chunks = ((b"PLTE", palette.tobytes()),)
    data = png_file(indices, colour_type=PALETTE, depth=depth, chunks=chunks)
    image = sent(data)
    assert agree(image, stated(palette[indices], image.size))


@pytest.mark.parametrize("file_format", ["BMP", "GIF", "PNG", "TIFF"])
def test_palettes_of_other_types(file_format, picture, saved, sent, stated):
    """Palettes of BMP, GIF and TIFF are looked up too."""
    image = Image.fromarray(picture).quantize(32)
    sent_image = sent(saved(image, file_format))
    right = np.asarray(image.convert("RGB"))
    assert agree(sent_image, stated(right, sent_image.size))


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("BMP", {}),
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "group4"}),
        ("TIFF", {"tiffinfo": {262: MIN_IS_WHITE}}),
        ("TIFF", {"tiffinfo": {262: MIN_IS_WHITE}, "compression": "group4"}),
    ],
)
def test_one_bit_is_black_and_white(file_format, options, picture, saved, sent, stated):
    """A scan of 1 bit has its own black and white, in either photometric sense."""
    image = Image.fromarray(grey_of(picture) > 127)
    sent_image = sent(saved(image, file_format, **options))
    right = np.where(grey_of(picture) > 127, 255, 0).astype(np.uint8)
    assert agree(sent_image, stated(right, sent_image.size))


@pytest.mark.parametrize("order", ["<", ">"])
def test_white_is_zero_in_8_bits_too(order, picture, tiff_file, sent, stated):
    """The same sense for 8 bits."""
    samples = grey_of(picture)
    image = sent(tiff_file(255 - samples, photometric=MIN_IS_WHITE, order=order))
    assert agree(image, stated(samples, image.size))


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        *(("BMP", {}), ("JPEG", {"quality": 95}), ("JPEG2000", {}), ("PNG", {})),
        *(("SGI", {}), ("TIFF", {}), ("WEBP", {"lossless": True})),
    ],
)
def test_grey_stays_grey(file_format, options, picture, saved, opened, sent, stated):
    """Grey of every type is sent as three equal samples."""
    data = saved(grey_of(picture), file_format, **options)
    image = sent(data)
    assert agree(image, stated(np.asarray(opened(data).convert("L")), image.size))
    assert (image.pixels == image.pixels[:, :, :1]).all()


# ----------------------------------------------------------------------------- ink


def on_paper(ink):
    """Say what ink looks like without a profile: light left by it and by black."""

    def part(colour, light):
        product = colour.astype(np.uint32) * light + 128
        return (product + (product >> 8)) >> 8

    light = 255 - ink[:, :, 3].astype(np.uint32)
    rgb = [light - part(ink[:, :, band], light) for band in range(3)]
    return np.stack(rgb, axis=2).astype(np.uint8)


@pytest.fixture(scope="session")
def ink(picture):
    """Give cyan, magenta, yellow and black, much of each in some place."""
    black = np.linspace(0, 160, picture.shape[0]).astype(np.uint8)[:, None]
    black = np.broadcast_to(black, picture.shape[:2])
    return np.dstack([picture, black])


def without_adobe(data: bytes) -> bytes:
    at = data.index(b"\xff\xee\0\x0eAdobe")
    return data[:at] + data[at + 16 :]


def with_transform(data: bytes, transform: int) -> bytes:
    at = data.index(b"\xff\xee\0\x0eAdobe")
    return data[: at + 15] + bytes([transform]) + data[at + 16 :]


def test_cmyk_jpeg_is_inverted_as_adobe_does(ink, saved, opened, sent, stated):
    """Adobe stores ink inverted; the picture is not its own negative."""
    data = saved(Image.fromarray(ink, "CMYK"), "JPEG", quality=100)
    decoded = np.asarray(opened(data))
    assert np.abs(decoded.astype(int) - ink).max() <= 8
    image = sent(data)
    assert agree(image, stated(on_paper(decoded), image.size))
    assert "CMYK → RGB" in image.changes


def test_cmyk_jpeg_without_adobes_marker(ink, saved, opened, sent, stated):
    """Without the marker it is taken to be Adobe's all the same, as Pillow does."""
    data = saved(Image.fromarray(ink, "CMYK"), "JPEG", quality=100)
    image = sent(without_adobe(data))
    assert agree(image, stated(on_paper(np.asarray(opened(data))), image.size))


def test_ycck_jpeg_is_inverted_as_adobe_does(picture, saved, opened, sent, stated):
    """YCCK is turned into ink by libjpeg's own integers, and then inverted."""
    black = np.broadcast_to(np.uint8(200), picture.shape[:2])
    ycc = np.asarray(Image.fromarray(picture).convert("YCbCr"))
    stored = np.dstack([ycc, black])
    plain = saved(Image.fromarray(255 - stored, "CMYK"), "JPEG", quality=100)
    y, cb, cr, k = np.moveaxis(255 - np.asarray(opened(plain)).astype(np.int64), 2, 0)
    cb, cr = cb - 128, cr - 128
    # jdcolor.c: 16 bits behind the point.
    red = y + ((91_881 * cr + 32_768) >> 16)
    green = y + ((-22_554 * cb - 46_802 * cr + 32_768) >> 16)
    blue = y + ((116_130 * cb + 32_768) >> 16)
    cmy = 255 - np.clip(np.stack([red, green, blue], axis=2), 0, 255)
    inverted = 255 - np.dstack([cmy, k]).astype(np.uint8)
    data = with_transform(plain, 2)
    assert np.array_equal(np.asarray(opened(data)), inverted)
    image = sent(data)
    assert agree(image, stated(on_paper(inverted), image.size))
    assert "CMYK → RGB" in image.changes


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_cmyk_tiff_is_ink(order, depth, ink, tiff_file, sent, stated):
    """A separated TIFF holds ink as it is, inverted by nobody."""
    stored = ink if depth == 8 else deep(ink)
    image = sent(tiff_file(stored, photometric=SEPARATED, order=order))
    assert agree(image, stated(on_paper(ink), image.size))
    assert "CMYK → RGB" in image.changes


def test_cmyk_bytes_are_never_kept(ink, saved):
    """Decoders disagree about ink, so what is sent is RGB."""
    data = saved(Image.fromarray(ink, "CMYK"), "JPEG")
    prepared = qp.prepare(data)
    assert prepared.data != data
    assert qp.probe(prepared.data).colour == "rgb"


# ------------------------------------------------------------------ wide and signed


@pytest.mark.parametrize(
    "kind", [np.float32, np.float64, np.float16, np.uint32, np.int32, np.int16]
)
@pytest.mark.parametrize("scale", [1, 255, 60_000])
def test_samples_without_one_range_are_refused_or_scaled(
    kind, scale, picture, tiff_file, sent, stated
):
    """
    Floats and wide whole numbers have no one white: refused, or scaled by a rule.

    What may not happen is a picture of nothing but white or black.
    """
    samples = grey_of(picture) / 255 * min(scale, np.iinfo(np.int16).max)
    data = tiff_file(samples.astype(kind), photometric=MIN_IS_BLACK)
    try:
        image = sent(data)
    except UnsupportedFormatError:
        return
    near = stated(grey_of(picture), image.size).astype(int)
    assert np.abs(image.pixels.astype(int) - near).max() <= 2


def test_float_images_are_refused_with_a_reason(picture):
    """A Pillow image of floats is told apart from damage."""
    image = Image.fromarray(grey_of(picture).astype(np.float32))
    with pytest.raises(UnsupportedFormatError, match="32"):
        qp.prepare(image)


def test_twelve_bit_jpeg_is_refused_by_name():
    """A JPEG of 12 bits per sample is not read, and the error says which it is."""
    frame = struct.pack(">BHHB", 12, 64, 64, 1) + b"\1\x11\0"
    data = b"\xff\xd8\xff\xc1" + struct.pack(">H", 2 + len(frame)) + frame
    with pytest.raises(UnsupportedFormatError, match="12"):
        qp.prepare(data + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + bytes(64) + b"\xff\xd9")
