"""From any input to legal bytes: the right pixels, the right label, nothing else."""

from __future__ import annotations

import base64
import contextlib
import errno
import gc
import importlib
import io
import itertools
import os
import pickle
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFile, ImageOps, PngImagePlugin

from qwenvl_prep import (
    Limits,
    PreparedImage,
    count_tokens,
    get_model,
    plan,
    prepare,
    prepare_many,
    probe,
    validate,
)
from qwenvl_prep.errors import (
    DamagedImageError,
    DecodeLimitError,
    EncodedSizeError,
    IllegalImageError,
    NotAnImageError,
    QwenVLPrepError,
    SourceError,
    UnknownModelError,
    UnsupportedFormatError,
)

BICUBIC = Image.Resampling.BICUBIC
CANARY = b"canary-4711"


def pixels_of(prepared: PreparedImage) -> np.ndarray:
    """Decode what would be sent, and hold its label and size against its bytes."""
    with Image.open(io.BytesIO(prepared.data)) as image:
        image.load()
        assert Image.MIME[image.format] == prepared.media_type
        assert (image.height, image.width) == (prepared.height, prepared.width)
        return np.asarray(image.convert("RGB"))


def on_white(image: Image.Image) -> Image.Image:
    """State in Pillow's own words what laying a picture on white means."""
    rgba = image.convert("RGBA")
    ground = Image.new("RGB", rgba.size, "white")
    ground.paste(rgba, mask=rgba.getchannel("A"))
    return ground


def statement(image: Image.Image, prepared: PreparedImage) -> np.ndarray:
    """State in Pillow's own words what the pixels that are sent should be."""
    image = ImageOps.exif_transpose(image)
    image = on_white(image) if image.has_transparency_data else image.convert("RGB")
    return np.asarray(image.resize((prepared.width, prepared.height), BICUBIC))


def assert_as_stated(data: bytes, **options) -> PreparedImage:
    prepared = prepare(data, encoding="png", **options)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        expected = statement(image, prepared)
    assert np.array_equal(pixels_of(prepared), expected)
    assert validate(prepared.data).is_legal
    return prepared


# --------------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_eight_orientations_stand_upright(photo, encoded, file_format, orientation):
    """Each EXIF orientation in each type gives the pixels of exif_transpose."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    prepared = assert_as_stated(encoded(photo, file_format, exif=exif))
    # The sides on the grid belong to the upright picture.
    expected = (84, 112) if orientation < 5 else (112, 84)
    if prepared.plan.is_kept:
        assert (orientation, file_format) == (1, "PNG")
        expected = (90, 120)
    assert (prepared.height, prepared.width) == expected


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_opened_pillow_images_stand_upright(photo, encoded, file_format, orientation):
    """A Pillow image, freshly opened or loaded, is turned once and not distorted."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo, file_format, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        fresh = prepare(image, encoding="png")
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        loaded = prepare(image, encoding="png")
    with Image.open(io.BytesIO(data)) as image:
        expected = statement(image, fresh)
    assert np.array_equal(pixels_of(fresh), expected)
    assert np.array_equal(pixels_of(loaded), expected)


# --------------------------------------------------------------------------- alpha


@pytest.fixture(scope="module")
def veil(photo) -> Image.Image:
    """Give the photo with an alpha that runs through every value."""
    alpha = np.arange(90 * 120, dtype=np.uint32).reshape(90, 120) % 256
    rgba = photo.convert("RGBA")
    rgba.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return rgba


@pytest.mark.parametrize(
    ("mode", "file_format", "options"),
    [
        ("RGBA", "PNG", {}),
        ("LA", "PNG", {}),
        ("RGBA", "WEBP", {"lossless": True, "exact": True}),
        ("RGBA", "WEBP", {"quality": 80}),
        ("RGBA", "TIFF", {}),
        ("RGBA", "TIFF", {"compression": "tiff_lzw"}),
        ("LA", "TIFF", {}),
        ("RGBA", "ICO", {"sizes": [(120, 90)]}),
        ("RGBA", "SGI", {}),
        ("RGBA", "JPEG2000", {}),
    ],
    ids=str,
)
def test_transparent_parts_lie_on_white(veil, encoded, mode, file_format, options):
    """Alpha of every strength equals Pillow's paste on white, before any resize."""
    prepared = assert_as_stated(encoded(veil.convert(mode), file_format, **options))
    assert "flattened on white" in prepared.changes


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_transparent_colour_lies_on_white(photo, encoded, mode):
    """A tRNS chunk of a palette, of grey and of RGB is transparency too."""
    image = photo.quantize(32) if mode == "P" else photo.convert(mode)
    colour = image.getpixel((60, 45))
    prepared = assert_as_stated(encoded(image, "PNG", transparency=colour))
    assert "flattened on white" in prepared.changes


def test_palette_with_graded_alpha_lies_on_white(photo, encoded):
    """A palette whose colours are transparent by degrees is mixed with white."""
    steps = bytes(range(0, 256, 8))
    data = encoded(photo.quantize(32), "PNG", transparency=steps)
    assert_as_stated(data)


def test_alpha_is_applied_before_resizing():
    """Black under a transparent half must not bleed into the white at the edge."""
    rgba = np.zeros((224, 224, 4), np.uint8)
    rgba[:, :112] = (255, 255, 255, 255)
    prepared = prepare(rgba, max_tokens=16, encoding="png")
    assert (pixels_of(prepared) == 255).all()


# --------------------------------------------------------------------------- depths


def png_of(samples: np.ndarray, colour_type: int, depth: int, interlace=0) -> bytes:
    """Write a PNG by hand, for what Pillow does not write."""
    height, width = samples.shape[:2]
    rows = samples.astype(">u2" if depth == 16 else np.uint8).reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlace)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(("colour_type", "samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_give_their_high_byte(colour_type, samples):
    """16-bit PNG of every kind keeps the high byte; clipping would make it white."""
    rng = np.random.default_rng(1)
    deep = rng.integers(0, 65_536, (84, 112, samples), dtype=np.uint16)
    high = (deep >> 8).astype(np.uint8)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[samples]
    picture = Image.fromarray(high[:, :, 0] if samples == 1 else high, mode)
    expected = on_white(picture) if samples in {2, 4} else picture.convert("RGB")
    prepared = prepare(png_of(deep, colour_type, 16), encoding="png")
    assert np.array_equal(pixels_of(prepared), np.asarray(expected))
    assert "16 → 8 bit" in prepared.changes


def test_sixteen_bit_tiff_gives_its_high_byte(encoded):
    """A 16-bit grey TIFF keeps the high byte, as a 16-bit PNG does."""
    deep = np.random.default_rng(2).integers(0, 65_536, (84, 112), dtype=np.uint16)
    prepared = prepare(encoded(Image.fromarray(deep), "TIFF"), encoding="png")
    expected = np.repeat((deep >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    assert np.array_equal(pixels_of(prepared), expected)


def test_thirty_two_bits_are_refused(encoded):
    """Floats and 32-bit ints have no one range, so no picture is made up."""
    for mode in ("F", "I"):
        image = Image.new(mode, (50, 50))
        with pytest.raises(UnsupportedFormatError):
            prepare(encoded(image, "TIFF"))
        with pytest.raises(UnsupportedFormatError):
            prepare(image)


@pytest.mark.parametrize(
    ("mode", "file_format"),
    [
        *itertools.product(("1", "L", "P", "RGB"), ("PNG", "TIFF", "BMP", "GIF")),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "TIFF"),
        ("L", "SGI"),
        ("L", "JPEG2000"),
        ("1", "ICO"),
    ],
)
def test_every_mode_gives_pillows_rgb(photo, encoded, mode, file_format):
    """1-bit, grey, palette, CMYK and YCbCr pictures equal Pillow's convert("RGB")."""
    image = photo.quantize(64) if mode == "P" else photo.convert(mode)
    options = {"sizes": [(120, 90)]} if file_format == "ICO" else {}
    assert_as_stated(encoded(image, file_format, **options))


# -------------------------------------------------------------------------- formats


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("BMP", {}),
        ("DIB", {}),
        ("ICO", {"sizes": [(120, 90)], "bitmap_format": "bmp"}),
        ("JPEG", {"quality": 92}),
        ("JPEG", {"subsampling": "4:4:4", "progressive": True}),
        ("JPEG", {"quality": 40, "subsampling": "4:2:0", "restart_marker_rows": 1}),
        ("JPEG2000", {}),
        ("JPEG2000", {"irreversible": True, "quality_layers": [30]}),
        ("PNG", {}),
        ("SGI", {}),
        ("SGI", {"rle": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "packbits"}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"quality": 75}),
        ("GIF", {}),
        ("AVIF", {}),
    ],
    ids=str,
)
def test_every_format_gives_pillows_pixels(photo, encoded, file_format, options):
    """Each row of the seed's table, and GIF and AVIF, gives Pillow's bytes."""
    assert_as_stated(encoded(photo, file_format, **options))
    assert_as_stated(encoded(photo, file_format, **options), max_tokens=6)


def test_icns_gives_pillows_pixels(photo, encoded):
    """An ICNS gives the picture that Pillow shows of it."""
    assert_as_stated(encoded(photo.convert("RGBA").resize((128, 128)), "ICNS"))


def test_bare_codestream_is_read(photo, encoded):
    """JPEG 2000 without its box is the same picture."""
    assert_as_stated(encoded(photo, "JPEG2000", no_jp2=True))


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "GIF"])
def test_first_frame_is_sent(photo, encoded, file_format):
    """Of an animation the first frame is sent, and the label says so."""
    second = ImageOps.invert(photo)
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(
        photo,
        file_format,
        save_all=True,
        append_images=[second],
        duration=50,
        **options,
    )
    prepared = assert_as_stated(data)
    assert "first of 2 frames" in prepared.changes


def test_first_page_of_a_tiff_is_sent(photo, encoded):
    """A TIFF of two pages sends the first."""
    pages = [ImageOps.invert(photo)]
    data = encoded(photo, "TIFF", save_all=True, append_images=pages)
    assert "first of 2 pages" in assert_as_stated(data).changes


def test_heic_is_converted_for_the_seed(photo):
    """HEIC becomes JPEG for a model that does not take it, turned by libheif once."""
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(photo).save(file, quality=90)
    data = file.getvalue()
    expected = pillow_heif.open_heif(data).to_pillow()
    prepared = prepare(data, encoding="png")
    stated = expected.resize((prepared.width, prepared.height), BICUBIC)
    assert np.array_equal(pixels_of(prepared), np.asarray(stated))
    assert prepare(data).media_type == "image/jpeg"
    kept = prepare(data, model="qwen3-vl-plus")
    assert (kept.data, kept.media_type) == (data, "image/heic")


def test_type_is_read_from_the_content(tmp_path, photo, encoded):
    """A WebP under a JPEG's name is a WebP, in every field."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(photo, "WEBP"))
    prepared = prepare(path)
    assert prepared.media_type == "image/webp"
    assert [finding.code for finding in prepared.warnings] == ["suffix-mismatch"]


# --------------------------------------------------------------------------- resize


@pytest.mark.parametrize(
    "size",
    [(300, 2_000), (2_000, 300), (1_500, 1_500), (1_365, 2_048), (31, 6_000), (999, 7)],
)
def test_resized_pixels_are_pillows_bytes(size):
    """Arrays of many shapes equal Image.resize(..., BICUBIC) byte for byte."""
    height, width = size
    rng = np.random.default_rng(height)
    array = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if min(size) < 11:
        with pytest.raises(IllegalImageError):
            prepare(array)
        return
    for cap in (None, 100):
        prepared = prepare(array, max_tokens=cap, encoding="png")
        picture = Image.fromarray(array)
        expected = picture.resize((prepared.width, prepared.height), BICUBIC)
        assert np.array_equal(pixels_of(prepared), np.asarray(expected))


def test_thin_image_is_sent_as_it_is(encoded):
    """29 × 5615 would become 28 × 5628 and illegal, so its bytes go untouched."""
    rng = np.random.default_rng(5)
    image = Image.fromarray(rng.integers(0, 256, (29, 5_615, 3), dtype=np.uint8))
    for file_format in ("PNG", "JPEG"):
        data = encoded(image, file_format)
        prepared = prepare(data)
        assert prepared.data == data
        assert prepared.tokens == 203
    made = prepare(np.asarray(image))
    assert (made.height, made.width) == (29, 5_615)
    assert validate(made.data).is_legal


# --------------------------------------------------------------------- pass through


@pytest.mark.parametrize(
    ("file_format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {}),
        ("BMP", {}),
        ("DIB", {}),
        ("TIFF", {}),
        ("SGI", {}),
        ("JPEG2000", {}),
    ],
    ids=str,
)
def test_legal_bytes_pass_untouched(photo, encoded, file_format, options):
    """Legal, upright, opaque and small: the very same bytes, with their own label."""
    data = encoded(photo, file_format, **options)
    prepared = prepare(data)
    assert prepared.data == data
    assert prepared.changes == ()
    assert prepared.plan.is_kept
    assert prepared.media_type == prepared.plan.info.media_type
    report = validate(prepared.data_uri)
    assert report.is_legal
    assert report.info.format == file_format


def test_preparing_twice_changes_nothing_more(photo):
    """What was prepared is legal and on the grid, so it passes a second time."""
    first = prepare(np.asarray(photo))
    second = prepare(first.data)
    assert second.data == first.data
    assert second.changes == ()


# ---------------------------------------------------------------------- damaged files


TRUNCATED = [
    ("JPEG", {"quality": 95}),
    ("JPEG", {"progressive": True}),
    ("JPEG", {"restart_marker_rows": 1}),
    ("PNG", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("GIF", {}),
    ("BMP", {}),
    ("JPEG2000", {}),
    ("SGI", {}),
    ("AVIF", {}),
]


@pytest.mark.parametrize(("file_format", "options"), TRUNCATED, ids=str)
@pytest.mark.parametrize("cap", [None, 6], ids=["kept", "resized"])
def test_cut_off_files_are_refused(photo, encoded, file_format, options, cap):
    """A file cut at any tenth of its length is damaged, whether kept or resized."""
    data = encoded(photo, file_format, **options)
    for tenth in range(1, 10):
        with pytest.raises(DamagedImageError) as caught:
            prepare(data[: len(data) * tenth // 10], max_tokens=cap)
        assert caught.value.format == file_format
    with pytest.raises(DamagedImageError):
        prepare(data[:-40], max_tokens=cap)


def test_cut_off_heic_is_refused(photo):
    """A HEIC cut at any tenth of its length is damaged."""
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(photo).save(file)
    data = file.getvalue()
    for tenth in range(1, 10):
        with pytest.raises(DamagedImageError):
            prepare(data[: len(data) * tenth // 10])


def test_end_marker_of_a_thumbnail_is_not_the_end(photo, encoded):
    """A thumbnail's end marker in a segment once could make a cut file look whole."""
    thumbnail = encoded(photo.resize((40, 30)), "JPEG")
    exif = b"Exif\0\0" + thumbnail
    data = encoded(photo, "JPEG", exif=exif)
    assert data.count(b"\xff\xd9") == 2
    assert prepare(data).data == data
    with pytest.raises(DamagedImageError):
        prepare(data[:-300])


def test_png_without_its_end_is_not_kept(photo, encoded):
    """A PNG that lost its last chunk is refused or made whole, never sent as it is."""
    data = encoded(photo, "PNG")
    for lost in (1, 4, 11, 12):
        try:
            prepared = prepare(data[:-lost], encoding="png")
        except DamagedImageError:
            continue
        assert prepared.data.endswith(b"IEND\xaeB\x60\x82")
        assert np.array_equal(pixels_of(prepared), np.asarray(photo))


def test_broken_pixels_of_a_kept_png_are_refused(photo, encoded):
    """A flipped bit inside the pixels of a PNG is found by its checksum."""
    data = bytearray(encoded(photo, "PNG"))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(DamagedImageError):
        prepare(bytes(data))


def test_thumbnail_trap_of_libvips_stays_closed(encoded):
    """The thumbnail of libvips ignores fail_on (#5195): half a JPEG was a picture."""
    pyvips = pytest.importorskip("pyvips")
    rng = np.random.default_rng(6)
    coarse = rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)
    photo = Image.fromarray(coarse).resize((1_400, 1_000), BICUBIC)
    half = encoded(photo, "JPEG")
    half = half[: len(half) // 2]
    plausible = pyvips.Image.thumbnail_buffer(half, 300, fail_on="error")
    assert len(plausible.write_to_memory()) > 0  # the trap itself
    with pytest.raises(DamagedImageError):
        prepare(half, max_tokens=100)


def test_lying_jpeg_header_is_refused(photo, encoded):
    """A JPEG that announces more rows than it has is damaged, not filled with grey."""
    data = bytearray(encoded(photo, "JPEG"))
    start = data.index(b"\xff\xc0") + 5
    assert struct.unpack_from(">HH", data, start) == (90, 120)
    struct.pack_into(">HH", data, start, 900, 1_200)
    for options in ({"max_tokens": 20}, {"encoding": "png"}):
        with pytest.raises(DamagedImageError):
            prepare(bytes(data), **options)


def test_lying_png_header_is_refused(photo):
    """A PNG with fewer rows than its header says is damaged, though its sums agree."""
    rows = np.asarray(photo)
    honest = png_of(rows, 2, 8)
    body = struct.pack(">IIBBBBB", 120, 180, 8, 2, 0, 0, 0)
    lying = honest[:16] + body + struct.pack(">I", zlib.crc32(b"IHDR" + body))
    lying += honest[33:]
    assert prepare(honest).data == honest
    for options in ({}, {"encoding": "jpeg"}):
        with pytest.raises(DamagedImageError):
            prepare(lying, **options)


def test_scan_without_pixels_is_refused(photo, encoded):
    """A JPEG that ends right after its headers has an end, but no picture."""
    data = encoded(photo, "JPEG")
    scan = data.index(b"\xff\xda") + 14
    with pytest.raises(DamagedImageError):
        prepare(data[:scan] + b"\xff\xd9")


# ---------------------------------------------------------------------------- bombs


def interlaced_rgba16() -> bytes:
    """Give the 41 bytes of header that ask a decoder for more than a gigabyte."""
    body = b"IHDR" + struct.pack(">IIBBBBB", 12_000, 12_000, 16, 6, 0, 0, 1)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT"


def many_bands() -> bytes:
    """Give a TIFF of 38 megapixels with 8,224 bands in less than 3 KB."""
    tags = [
        (256, 4, 1, 6_200),
        (257, 4, 1, 6_200),
        (258, 3, 1, 8),
        (259, 3, 1, 5),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 8_224),
        (278, 4, 1, 6_200),
        (279, 4, 1, 16),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return struct.pack("<2sHI", b"II", 42, 24) + bytes(16) + directory


def giant_palette() -> bytes:
    """Give a palette PNG of 65536 × 65536 pixels, one colour, in few bytes."""

    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    header = struct.pack(">IIBBBBB", 65_536, 65_536, 1, 3, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"PLTE", bytes(3))
        + chunk(b"IDAT", zlib.compress(bytes(8_193 * 1_000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("bomb", "limit_name"),
    [
        (interlaced_rgba16(), "max_pixels"),
        (many_bands(), "max_channels"),
        (giant_palette(), "max_streamed_pixels"),
    ],
    ids=["interlaced RGBA16 PNG", "TIFF of 8,224 bands", "65536² palette PNG"],
)
@pytest.mark.parametrize("high_resolution", [False, True])
def test_bombs_are_refused_from_the_header(bomb, limit_name, high_resolution):
    """Nothing is decoded: the refusal takes next to no memory."""
    prepare(np.zeros((50, 50), np.uint8))  # what is imported once is not counted
    tracemalloc.start()
    try:
        with pytest.raises(DecodeLimitError) as caught:
            prepare(bomb, high_resolution=high_resolution)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.limit_name == limit_name
    assert caught.value.actual > caught.value.limit
    assert limit_name in str(caught.value)
    assert peak < 8 * 2**20


def giant_jpeg(data: bytes, height: int, width: int) -> bytes:
    """Let a JPEG announce another size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def test_giants_are_counted_and_planned_from_their_header(photo, encoded):
    """280 megapixels of JPEG are within the limits, because they will be resized."""
    giant = giant_jpeg(encoded(photo, "JPEG"), 14_000, 20_000)
    assert probe(giant).width == 20_000
    assert count_tokens(giant) == 1_220
    made = plan(giant)
    assert (made.height, made.width, made.is_resized) == (812, 1_176, True)
    assert "above-limits" not in [one.code for one in validate(giant).findings]
    # It has the rows of a small one, so that is where it ends.
    with pytest.raises(DamagedImageError):
        prepare(giant)


def test_giants_that_are_not_resized_are_refused(photo, encoded):
    """Where the whole picture is wanted, reading it row by row does not help."""
    # Shrunk, 199.7:1 would become more than 200:1; so its size is left as it is.
    thin = giant_jpeg(encoded(photo, "JPEG"), 300, 59_900)
    assert not plan(thin, encoding="png").is_resized
    limits = Limits(max_pixels=10_000_000)
    for work in (plan, prepare):
        with pytest.raises(DecodeLimitError) as caught:
            work(thin, encoding="png", limits=limits)
        assert caught.value.limit_name == "max_pixels"


def test_interlacing_counts_for_memory():
    """The same bomb within the pixel limit is caught by the bytes it would take."""
    with pytest.raises(DecodeLimitError) as caught:
        prepare(interlaced_rgba16(), limits=Limits(max_pixels=10**9))
    assert caught.value.limit_name == "max_decoded_bytes"
    assert caught.value.actual == 12_000 * 12_000 * 8 * 2


def test_limits_hold_for_pixels_too():
    """An array or a Pillow image above the limits is refused like a file."""
    limits = Limits(max_pixels=9_999)
    for pixels in (np.zeros((100, 100), np.uint8), Image.new("RGB", (100, 100))):
        with pytest.raises(DecodeLimitError):
            prepare(pixels, limits=limits)


# ------------------------------------------------------------------ what is no image

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="99" height="99"></svg>'
PPM = b"P6 40 40 255\n" + bytes(40 * 40 * 3)
RADIANCE = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 40 +X 40\n" + bytes(40 * 40 * 4)


@pytest.mark.parametrize(
    ("data", "loader"),
    [(SVG, "svg"), (PPM, "ppm"), (RADIANCE, "rad")],
    ids=["SVG", "PPM", "Radiance"],
)
def test_untested_loaders_of_libvips_are_not_reached(data, loader):
    """What libvips would load is refused before libvips sees a byte."""
    pyvips = pytest.importorskip("pyvips")
    found = pyvips.vips_lib.vips_foreign_find_load_buffer(data, len(data))
    if found != pyvips.ffi.NULL:
        assert loader in pyvips.ffi.string(found).decode().lower()
    with pytest.raises((NotAnImageError, UnsupportedFormatError)):
        prepare(data)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", "PDF"),
        (b"PK\x03\x04" + bytes(26) + b"xl/workbook.xml", ""),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), ""),
        (SVG, "SVG"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(50), "video"),
        (b"\x1a\x45\xdf\xa3" + bytes(60), "video"),
        (b"Dear all,\nplease find attached\n", "text"),
        (b"", "empty"),
        (b"\0" * 100, ""),
    ],
    ids=["PDF", "XLSX", "DOC", "SVG", "MP4", "MKV", "text", "empty", "zeros"],
)
def test_what_is_no_image_is_called_by_its_name(data, word):
    """A document, a video or a text is refused with what it is."""
    with pytest.raises(NotAnImageError) as caught:
        prepare(data)
    assert caught.value.kind
    assert word.lower() in str(caught.value).lower()


# ------------------------------------------------------------------------- metadata


def loaded_with_metadata(photo, file_format: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 3  # so that the bytes cannot be kept
    exif[0x010E] = CANARY.decode()
    exif[0x0132] = "2024:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (48.0, 51.0, 30.0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    options = {"exif": exif, "icc_profile": profile}
    if file_format == "JPEG":
        options["comment"] = CANARY
        options["xmp"] = b"<x:xmpmeta>" + CANARY + b"</x:xmpmeta>"
    elif file_format == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", CANARY.decode())
        text.add_itxt("XML:com.adobe.xmp", CANARY.decode())
        options["pnginfo"] = text
    else:
        options["xmp"] = b"<x:xmpmeta>" + CANARY + b"</x:xmpmeta>"
    file = io.BytesIO()
    photo.save(file, file_format, **options)
    return file.getvalue()


@pytest.mark.parametrize("source_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("encoding", ["jpeg", "png", "auto"])
@pytest.mark.parametrize("as_pillow", [False, True], ids=["file", "Pillow"])
def test_no_metadata_goes_out(photo, source_format, encoding, as_pillow):
    """EXIF, GPS, ICC, XMP and comments go in; none of them comes out."""
    data = loaded_with_metadata(photo, source_format)
    assert CANARY in data or source_format == "PNG"
    source = data
    if as_pillow:
        source = Image.open(io.BytesIO(data))
    sent = prepare(source, encoding=encoding).data
    for word in (b"Exif", b"eXIf", b"ICC", b"iCCP", b"xmp", b"XMP", b"tEXt", b"iTXt"):
        assert word not in sent
    assert CANARY not in sent
    with Image.open(io.BytesIO(sent)) as image:
        image.load()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
        assert len(image.getexif()) == 0
    # A segment for comments or of an application beside JFIF's own would hold them.
    assert b"\xff\xfe" not in sent[:20]


# ------------------------------------------------------------------------- encoding


def test_graphics_become_png_and_photos_jpeg(photo, encoded):
    """What compresses better without loss stays without loss; a photo does not."""
    graphic = np.zeros((200, 300, 3), np.uint8)
    graphic[50:60] = 200
    assert prepare(graphic).media_type == "image/png"
    noise = np.random.default_rng(4).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    made = prepare(noise)
    assert (made.media_type, made.changes[-1]) == (
        "image/jpeg",
        "encoded JPEG 90 4:4:4",
    )
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = prepare(encoded(photo, "JPEG", exif=exif))
    assert turned.changes[-1].startswith("re-encoded JPEG 90 ")


def test_jpeg_is_pillows_at_the_quality_asked_for(photo, opened):
    """The JPEG that is sent is the one that Pillow writes with these options."""
    prepared = prepare(photo, encoding="jpeg", quality=75, chroma="4:4:4")
    small = photo.resize((112, 84), BICUBIC)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=75, subsampling="4:4:4")
    assert prepared.data == file.getvalue()
    assert opened(prepared.data).format == "JPEG"


def test_data_uri_holds_the_bytes(photo):
    """The data URI is label and base64 of the bytes, no more and no less."""
    prepared = prepare(photo)
    head, body = prepared.data_uri.split(",")
    assert head == f"data:{prepared.media_type};base64"
    assert base64.b64decode(body, validate=True) == prepared.data
    assert prepared.encoded_size == len(prepared.data)


def test_max_bytes_lowers_the_quality_and_then_the_size():
    """Each limit is kept; pixels are given up only when quality cannot go lower."""
    noise = np.random.default_rng(8).integers(0, 256, (280, 280, 3), dtype=np.uint8)
    free = prepare(noise, encoding="jpeg")
    heights = []
    for share in (0.9, 0.6, 0.4, 0.2, 0.1, 0.05):
        limit = int(len(free.data_uri) * share)
        prepared = prepare(noise, encoding="jpeg", max_bytes=limit)
        assert limit // 2 < len(prepared.data_uri) <= limit
        quality = int(prepared.changes[-1].split()[2])
        assert quality < 90
        assert (prepared.height, prepared.width) == Image.open(
            io.BytesIO(prepared.data)
        ).size[::-1]
        assert prepared.tokens == count_tokens(prepared.data)
        heights.append(prepared.height)
    assert heights[0] == 280 > heights[-1]
    assert heights == sorted(heights, reverse=True)
    with pytest.raises(EncodedSizeError, match="at 56 × 56") as caught:
        prepare(noise, encoding="jpeg", max_bytes=200)
    assert caught.value.limit == 200 < caught.value.reached


def test_smaller_pixels_are_those_of_the_original(photo, opened):
    """Where the size has to give, the original is resized anew, to Pillow's bytes."""
    large = photo.resize((480, 360))
    prepared = prepare(large, encoding="png", max_bytes=60_000)
    assert prepared.height < 360
    size = (prepared.width, prepared.height)
    sent = np.asarray(opened(prepared.data).convert("RGB"))
    assert np.array_equal(sent, np.asarray(large.resize(size, BICUBIC)))
    assert f"resized 360×480 → {prepared.height}×{prepared.width}" in prepared.changes


def test_max_bytes_never_raises_the_quality_asked_for():
    """The search begins at the caller's own quality."""
    noise = np.random.default_rng(8).integers(0, 256, (280, 280, 3), dtype=np.uint8)
    full = prepare(noise, encoding="jpeg", quality=60)
    lower = prepare(
        noise, encoding="jpeg", quality=60, max_bytes=len(full.data_uri) - 1
    )
    assert int(lower.changes[-1].split()[2]) < 60


def test_file_above_ten_megabytes_is_mended(encoded):
    """A BMP of 12 MB becomes legal bytes of the same size in pixels or smaller."""
    rng = np.random.default_rng(9)
    coarse = rng.integers(0, 256, (100, 100, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(coarse).resize((2_000, 2_000)), "BMP")
    assert not validate(data).is_legal
    prepared = prepare(data, high_resolution=True)
    assert validate(prepared.data).is_legal
    assert (prepared.height, prepared.width) == (1_988, 1_988)


# ------------------------------------------------------------------------ determinism


@pytest.fixture(scope="module")
def mixed(photo, encoded) -> list[bytes]:
    """Give files of every way through: kept, turned, flattened, converted, resized."""
    exif = Image.Exif()
    exif[0x0112] = 6
    large = photo.resize((1_500, 1_100), BICUBIC)
    return [
        encoded(photo, "PNG"),
        encoded(photo, "JPEG", exif=exif),
        encoded(photo.convert("RGBA"), "WEBP", lossless=True),
        encoded(photo, "GIF"),
        encoded(large, "JPEG"),
        encoded(large, "PNG"),
        encoded(photo, "TIFF", compression="tiff_lzw"),
        encoded(photo, "JPEG2000"),
        encoded(photo.convert("CMYK"), "JPEG"),
    ]


def test_same_input_same_bytes(mixed):
    """Nothing depends on the run: twice the same bytes."""
    for data in mixed:
        assert prepare(data).data == prepare(data).data


def test_eight_threads_equal_one(mixed):
    """Eight threads at once give the bytes that one gives."""
    expected = [prepare(data).data for data in mixed]
    results: dict[int, list[bytes]] = {}

    def work(index: int) -> None:
        results[index] = [prepare(data).data for data in mixed]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == dict.fromkeys(range(8), expected)


@pytest.mark.parametrize("workers", [1, 4, None])
def test_many_equal_one_by_one_in_order(mixed, workers):
    """prepare_many gives what prepare gives, in the order of its inputs."""
    todo = mixed * 3
    many = list(prepare_many(todo, workers=workers))
    assert [one.data for one in many] == [prepare(data).data for data in todo]


# ------------------------------------------------------------------------------ many


def test_many_takes_an_endless_iterable(photo, encoded):
    """Inputs are taken a few ahead only, so an endless generator works."""
    data = encoded(photo, "PNG")
    taken = itertools.count()
    last = 0

    def endless():
        nonlocal last
        while True:
            last = next(taken)
            yield data

    results = prepare_many(endless(), workers=2)
    for _ in range(20):
        assert next(results).data == data
    assert last <= 20 + 2 * 2
    results.close()


def test_many_yields_errors_in_place(tmp_path, photo, encoded):
    """A refused input is its error at its place; the others go on."""
    todo = [
        encoded(photo, "PNG"),
        b"%PDF-1.7\n",
        tmp_path / "none.png",
        "",
        encoded(photo, "JPEG")[:500],
        "https://example.org/cat.png",
        encoded(photo, "PNG"),
    ]
    kinds = [type(one) for one in prepare_many(todo, workers=2)]
    assert kinds == [
        PreparedImage,
        NotAnImageError,
        SourceError,
        SourceError,
        DamagedImageError,
        SourceError,
        PreparedImage,
    ]


def test_errors_tell_their_source(tmp_path, photo, encoded):
    """A refusal names its input, also after pickle, and its message stays."""
    empty, short = tmp_path / "empty.png", tmp_path / "short.jpg"
    empty.write_bytes(b"")
    short.write_bytes(encoded(photo, "JPEG")[:500])
    none = tmp_path / "none.png"
    todo = [
        empty,
        str(none),
        short,
        "https://example.org/cat.png?Signature=secret",
        None,
        np.zeros((5, 56), np.uint8),
        io.BytesIO(b""),
    ]
    refused = list(prepare_many(todo, workers=2))
    assert [one.source_name for one in refused] == [
        str(empty),
        str(none),
        str(short),
        "https://example.org/cat.png",
        "image 5",
        "pixels",
        "file",
    ]
    assert not str(refused[0]).startswith(str(empty))
    for one, source in zip(refused[:4], todo[:4], strict=True):
        with pytest.raises(QwenVLPrepError) as caught:
            prepare(source)
        for error in (caught.value, pickle.loads(pickle.dumps(one))):
            assert str(error) == str(one)
            assert error.source_name == one.source_name
    with pytest.raises(QwenVLPrepError) as caught:
        prepare(b"", model="none")
    assert caught.value.source_name is None


def test_many_refuses_a_wrong_call_at_once():
    """A mistake that concerns every image is told before the first is taken."""

    def untouched():
        raise AssertionError("an input was taken")
        yield

    with pytest.raises(UnknownModelError):
        prepare_many(untouched(), model="qwen-vl-mega")
    for options in ({"workers": 0}, {"quality": 0}, {"max_tokens": 1}):
        with pytest.raises(ValueError, match="Expected"):
            prepare_many(untouched(), **options)
    with pytest.raises(QwenVLPrepError):
        prepare_many(untouched(), model="qwen-vl-plus", high_resolution=True)


def test_many_starts_nothing_before_it_is_asked():
    """No thread runs and no input is taken until the first result is wanted."""
    before = threading.active_count()
    results = prepare_many(iter([np.zeros((50, 50), np.uint8)]), workers=3)
    assert threading.active_count() == before
    assert len(list(results)) == 1
    assert threading.active_count() == before


def test_many_stops_when_the_caller_stops():
    """Closing early ends the threads; nothing goes on in the background."""
    before = threading.active_count()
    taken = []

    def pictures():
        for index in range(1_000):
            taken.append(index)
            yield np.full((300, 300, 3), index % 256, np.uint8)

    for _ in prepare_many(pictures(), workers=2):
        break
    gc.collect()
    assert threading.active_count() == before
    count = len(taken)
    assert count <= 6
    time.sleep(0.05)
    assert len(taken) == count


def test_many_hands_on_an_error_of_the_iterable():
    """What the caller's own generator raises is the caller's, and threads end."""
    before = threading.active_count()

    def failing():
        yield np.zeros((50, 50), np.uint8)
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        list(prepare_many(failing(), workers=2))
    assert threading.active_count() == before


def test_many_reads_files_before_the_generator_goes_on(tmp_path, photo, encoded):
    """A generator may close its file or reuse its buffer after each input."""
    paths = []
    for index in range(12):
        path = tmp_path / f"{index}.png"
        path.write_bytes(encoded(photo.rotate(index), "PNG"))
        paths.append(path)

    def closing():
        for path in paths:
            with path.open("rb") as file:
                yield file

    def reusing():
        buffer = bytearray()
        for path in paths:
            buffer[:] = path.read_bytes()
            yield buffer

    expected = [path.read_bytes() for path in paths]
    for inputs in (closing(), reusing()):
        assert [one.data for one in prepare_many(inputs, workers=3)] == expected


def test_many_holds_no_results():
    """Memory stays bounded: results are dropped as they are taken."""
    # Noise, so that a result is about as long as its input.
    array = np.random.default_rng(8).integers(0, 256, (280, 308, 3), np.uint8)
    results = prepare_many(itertools.repeat(array, 200), workers=2)
    next(results)
    tracemalloc.start()
    for one in itertools.islice(results, 20):
        assert one.height == 280
    first = tracemalloc.get_traced_memory()[0]
    for one in itertools.islice(results, 160):
        assert one.height == 280
    second = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    results.close()
    # Four inputs at most are under way, each copied, decoded and encoded; how many
    # of them are there at either moment is chance.
    under_way = 4 * (2 * array.nbytes + one.encoded_size)
    assert 160 * one.encoded_size > 2 * under_way
    assert second < first + under_way


# -------------------------------------------------------------------- no side effects


def test_switches_of_the_process_are_left_alone(mixed, photo, encoded):
    """Pillow's, libvips' and Python's process-wide switches are as before."""
    pyvips = importlib.import_module("pyvips")
    lib = pyvips.vips_lib
    caches = (
        "vips_cache_get_max",
        "vips_cache_get_max_mem",
        "vips_cache_get_max_files",
    )

    def state():
        return (
            ImageFile.LOAD_TRUNCATED_IMAGES,
            Image.MAX_IMAGE_PIXELS,
            list(warnings.filters),
            [getattr(lib, name)() for name in caches],
            # Not blocked by us: another user of libvips may want its loaders.
            lib.vips_foreign_find_load_buffer(PPM, len(PPM)) != pyvips.ffi.NULL,
        )

    before = state()
    for data in (*mixed, encoded(photo, "PNG")[:500], b"%PDF-1.7", many_bands()):
        for one in prepare_many([data], workers=1):
            assert isinstance(one, (PreparedImage, QwenVLPrepError))
    assert state() == before
    assert before[:2] == (False, Image.MAX_IMAGE_PIXELS)


def test_sources_are_not_written_to(photo):
    """A Pillow image, an array and a buffer are the same after preparing."""
    image = photo.convert("RGBA")
    image.getexif()[0x0112] = 6
    array = np.asarray(photo).copy()
    array.flags.writeable = False
    before = (image.tobytes(), image.mode, image.size, dict(image.getexif()))
    prepare(image)
    prepare(array)
    assert (image.tobytes(), image.mode, image.size, dict(image.getexif())) == before
    assert np.array_equal(array, np.asarray(photo))


def test_views_and_odd_arrays_are_read_right(photo):
    """Mirrored, sliced and grey views give what their copies give."""
    array = np.asarray(photo)
    for view in (array[::-1], array[:, ::-1], array[::2, ::2], array[:, :, ::-1]):
        assert prepare(view).data == prepare(view.copy()).data
    grey = array[:, :, 0]
    stacked = np.repeat(grey[:, :, None], 3, axis=2)
    assert prepare(grey).data == prepare(stacked).data


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((50, 50, 3), np.float32),
        np.zeros((50, 50), np.uint16),
        np.zeros((3, 50, 50), np.uint8),
        np.zeros((50, 50, 2), np.uint8),
        np.zeros((1, 50, 50, 3), np.uint8),
        np.zeros(50, np.uint8),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_other_arrays_are_refused(array):
    """What is no uint8 picture with channels last is refused with its shape."""
    with pytest.raises(NotAnImageError) as caught:
        prepare(array)
    assert str(array.dtype) in caught.value.kind


def test_empty_arrays_are_refused():
    """An array without pixels is refused by us, not by a division."""
    for shape in ((0, 50, 3), (50, 0, 3), (0, 0)):
        with pytest.raises(QwenVLPrepError):
            prepare(np.zeros(shape, np.uint8))


def test_pillow_image_of_a_broken_file_is_refused(photo, encoded):
    """A Pillow image is lazy: the damage shows when we load it, in our words."""
    data = encoded(photo, "JPEG")
    with Image.open(io.BytesIO(data[:-200])) as image, pytest.raises(DamagedImageError):
        prepare(image)


# ----------------------------------------------------------------------------- values


def test_prepared_image_is_a_value(photo):
    """It is frozen, short in its repr, and tells what was done."""
    prepared = prepare(np.asarray(photo.convert("RGBA")), encoding="png")
    assert prepared.changes == (
        "flattened on white",
        "resized 90×120 → 84×112",
        "encoded PNG",
    )
    assert (prepared.name, prepared.tokens) == ("pixels", 14)
    text = repr(prepared)
    assert text.startswith("<PreparedImage pixels: 84x112 image/png, 14 tokens, ")
    assert len(text) < 100
    with pytest.raises(AttributeError):
        prepared.data = b""


def test_refusal_after_preparing_is_not_needed():
    """For each published model, what is prepared is legal for it."""
    array = np.random.default_rng(3).integers(0, 256, (700, 900, 4), dtype=np.uint8)
    for name in ("qwen-vl-max", "qwen-vl-plus", "qwen3-vl-plus", "qwen-vl-max-0201"):
        model = get_model(name)
        prepared = prepare(array, model=model)
        assert validate(prepared.data, model=model).is_legal
        assert prepared.plan.model is model


# --------------------------------------------------------------- mutations of files


def small_files() -> dict[str, bytes]:
    coarse = np.random.default_rng(12).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((24, 20), BICUBIC)
    files = {}
    for name, file_format, options in (
        ("bmp", "BMP", {}),
        ("dib", "DIB", {}),
        ("gif", "GIF", {}),
        ("ico", "ICO", {"sizes": [(24, 20)]}),
        ("jpeg", "JPEG", {}),
        ("progressive", "JPEG", {"progressive": True}),
        ("jpeg2000", "JPEG2000", {}),
        ("png", "PNG", {}),
        ("sgi", "SGI", {"rle": True}),
        ("tiff", "TIFF", {"compression": "tiff_lzw"}),
        ("webp", "WEBP", {}),
        ("lossless webp", "WEBP", {"lossless": True}),
        ("avif", "AVIF", {}),
    ):
        file = io.BytesIO()
        picture.save(file, file_format, **options)
        files[name] = file.getvalue()
    file = io.BytesIO()
    picture.convert("RGBA").resize((32, 32)).save(file, "ICNS", sizes=[(32, 32)])
    files["icns"] = file.getvalue()[:20_000]
    file = io.BytesIO()
    picture.convert("RGBA").save(file, "TIFF", tiffinfo={274: 6})
    files["turned tiff"] = file.getvalue()
    return files


FILES = small_files()


# Decoders warn about broken files in many words; the outcome is what counts here.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(FILES))
def test_mutated_files_end_in_one_of_two_ways(name):
    """Changed, cut and doubled files are prepared and legal, or refused by us."""
    whole = FILES[name]

    @given(
        st.lists(
            st.tuples(
                # Most of a format's decisions stand near its beginning.
                st.one_of(
                    st.integers(0, min(400, len(whole)) - 1),
                    st.integers(0, len(whole) - 1),
                ),
                st.integers(0, 255),
            ),
            min_size=1,
            max_size=6,
        ),
        st.one_of(st.none(), st.integers(0, len(whole))),
        st.sampled_from(["auto", "png"]),
    )
    @settings(max_examples=300)
    def outcome_is_known(changes, cut, encoding):
        data = bytearray(whole)
        for position, value in changes:
            data[position] = value
        if cut is not None:
            data = data[:cut]
        try:
            prepared = prepare(bytes(data), encoding=encoding)
        except QwenVLPrepError:
            return
        report = validate(prepared.data_uri)
        assert report.is_legal, report

    outcome_is_known()


@pytest.mark.filterwarnings("ignore")
@given(st.binary(max_size=300), st.sampled_from(sorted(FILES)))
@settings(max_examples=300)
def test_any_bytes_end_in_one_of_two_ways(tail, name):
    """The first bytes of a real file before any others are refused or prepared."""
    for data in (tail, FILES[name][:16] + tail):
        try:
            prepared = prepare(data)
        except QwenVLPrepError:
            continue
        assert validate(prepared.data_uri).is_legal


def test_many_copies_pixels_before_the_generator_goes_on():
    """A generator may fill one array anew for each picture; each is sent as it was."""
    buffer = np.empty((60, 60, 3), np.uint8)

    def frames():
        for value in range(0, 200, 20):
            buffer[:] = value
            yield buffer

    sent = list(prepare_many(frames(), workers=2, encoding="png"))
    values = [
        Image.open(io.BytesIO(one.data)).convert("L").getpixel((0, 0)) for one in sent
    ]
    assert values == list(range(0, 200, 20))


def test_many_loads_images_before_the_generator_closes_them(photo, encoded):
    """A generator may open and close each file around its yield."""

    def images():
        for _ in range(4):
            with Image.open(io.BytesIO(encoded(photo, "PNG"))) as image:
                yield image

    assert [type(one) for one in prepare_many(images())] == [PreparedImage] * 4


def test_many_hands_over_what_is_finished_before_the_callers_failure(photo):
    """An exception of the caller's own generator does not swallow finished results."""

    def sources():
        yield photo
        yield photo
        raise KeyError("the caller's own")

    results = prepare_many(sources(), workers=4)
    assert [type(next(results)), type(next(results))] == [PreparedImage] * 2
    with pytest.raises(KeyError, match="the caller's own"):
        next(results)


def test_many_yields_a_hole_as_its_error(photo):
    """A value that is no image at all neither stops nor hides the others."""
    results = list(prepare_many([photo, None, photo]))
    assert [type(one).__name__ for one in results] == [
        "PreparedImage",
        "SourceError",
        "PreparedImage",
    ]


@pytest.mark.parametrize(
    "single", ["photo.jpg", b"bytes", np.zeros((20, 20), np.uint8)]
)
def test_many_refuses_a_single_image(single):
    """One path would be taken for its letters, one array for its rows."""
    with pytest.raises(TypeError, match="several images"):
        prepare_many(single)


def test_damaged_pillow_image_is_refused_in_our_words(photo, encoded):
    """Pillow's own exceptions do not come out of a lazily opened image."""
    data = encoded(photo, "TIFF", save_all=True, append_images=[photo])
    for cut in range(20, len(data), 997):
        try:
            image = Image.open(io.BytesIO(data[:cut]))
        except Exception:  # noqa: BLE001 - Pillow's refusals have many types
            continue
        with contextlib.suppress(QwenVLPrepError):
            prepare(image)


def test_fork_after_use_is_refused(photo, encoded, tmp_path):
    """A forked child says so at once; libvips would now and then hang in it."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(photo, "JPEG"))
    script = f"""
import os, sys
import qwenvl_prep as qp
qp.prepare({str(path)!r}, encoding="png")
child = os.fork()
if child == 0:
    try:
        qp.prepare({str(path)!r}, encoding="png")
    except qp.errors.ForkedProcessError:
        os._exit(7)
    os._exit(1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert done.returncode == 7


def test_errors_of_many_hold_no_files(photo, encoded):
    """A refusal that is kept does not keep the file and the pixels with it."""
    cut = encoded(photo, "JPEG")[:-900]
    (error,) = prepare_many([cut], encoding="png")
    assert isinstance(error, DamagedImageError)
    while error is not None:
        assert error.__traceback__ is None
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("memory", ["missing", "refused"])
def test_jpeg_is_the_same_without_memory_of_the_system(monkeypatch, photo, memory):
    """Prove that a system without memfd_create, or without descriptors, is served."""
    source = np.asarray(photo.resize((1600, 1200)))
    expected = prepare(source, encoding="jpeg").data

    def refuse(_name: str) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    if memory == "refused":
        monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    else:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    assert prepare(source, encoding="jpeg").data == expected
