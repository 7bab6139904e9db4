"""Transparency of every kind, on white and on a background of one's own."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

import qwenvl_prep as qp

BACKGROUNDS = {
    "default": ({}, (255, 255, 255)),
    "white": ({"background": "white"}, (255, 255, 255)),
    "black": ({"background": "black"}, (0, 0, 0)),
    "#336699": ({"background": "#336699"}, (0x33, 0x66, 0x99)),
}
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6

# Tag ExtraSamples of TIFF.
UNASSOCIATED = ((338, "H", (2,)),)
ASSOCIATED = ((338, "H", (1,)),)


@pytest.fixture(params=BACKGROUNDS)
def background(request):
    """Give the option and the colour that it stands for."""
    return BACKGROUNDS[request.param]


def grey_of(picture):
    return np.ascontiguousarray(picture[:, :, 1])


def deep(samples, low: int = 0x9C):
    """Give 16-bit samples with these high bytes."""
    return samples.astype(np.uint16) << 8 | low


@pytest.fixture(scope="session")
def file_of(picture, veil, saved, png_file, tiff_file):
    """Give a function that writes one kind of file with the picture and its alpha."""
    rgba = np.dstack([picture, veil])
    la = np.dstack([grey_of(picture), veil])
    kinds = {
        "RGBA PNG": lambda: saved(rgba, "PNG"),
        "LA PNG": lambda: saved(la, "PNG"),
        "16-bit RGBA PNG": lambda: png_file(deep(rgba), colour_type=RGBA, depth=16),
        "16-bit LA PNG": lambda: png_file(deep(la), colour_type=GREY_ALPHA, depth=16),
        "RGBA TIFF": lambda: tiff_file(rgba, photometric=2, extra=UNASSOCIATED),
        "MM RGBA TIFF": lambda: tiff_file(
            rgba, photometric=2, order=">", extra=UNASSOCIATED
        ),
        "LZW RGBA TIFF": lambda: saved(rgba, "TIFF", compression="tiff_lzw"),
        "LA TIFF": lambda: tiff_file(la, photometric=1, extra=UNASSOCIATED),
        "16-bit RGBA TIFF": lambda: tiff_file(
            deep(rgba), photometric=2, extra=UNASSOCIATED
        ),
        "MM 16-bit RGBA TIFF": lambda: tiff_file(
            deep(rgba), photometric=2, order=">", extra=UNASSOCIATED
        ),
        "RGBA WEBP": lambda: saved(rgba, "WEBP", lossless=True, exact=True),
        "RGBA ICO": lambda: saved(rgba, "ICO", sizes=[rgba.shape[1::-1]]),
        "RGBA SGI": lambda: saved(rgba, "SGI"),
        "RGBA JPEG2000": lambda: saved(rgba, "JPEG2000"),
        "RGBA array": lambda: rgba,
        "RGBA image": lambda: Image.fromarray(rgba),
        "LA image": lambda: Image.fromarray(la, "LA"),
    }
    return lambda kind: kinds[kind]()


KINDS = [
    *("RGBA PNG", "LA PNG", "16-bit RGBA PNG", "16-bit LA PNG"),
    *("RGBA TIFF", "MM RGBA TIFF", "LZW RGBA TIFF", "LA TIFF"),
    *("16-bit RGBA TIFF", "MM 16-bit RGBA TIFF"),
    *("RGBA WEBP", "RGBA ICO", "RGBA SGI", "RGBA JPEG2000"),
    *("RGBA array", "RGBA image", "LA image"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_is_flattened_on_the_background(
    kind, background, picture, veil, file_of, sent, stated
):
    """Colours are mixed with the background by alpha, and only then resized."""
    options, colour = background
    samples = grey_of(picture) if "LA" in kind else picture
    image = sent(file_of(kind), **options)
    right = stated(samples, image.size, alpha=veil, background=colour)
    assert np.array_equal(image.pixels, right)


def test_lossy_webp_is_flattened(
    background, picture, veil, saved, opened, sent, stated
):
    """Lossy WebP keeps its alpha exactly, and its colours as they are decoded."""
    options, colour = background
    data = saved(np.dstack([picture, veil]), "WEBP", quality=90)
    decoded = np.asarray(opened(data))
    image = sent(data, **options)
    right = stated(
        decoded[:, :, :3].copy(),
        image.size,
        alpha=decoded[:, :, 3].copy(),
        background=colour,
    )
    assert np.array_equal(image.pixels, right)


def test_palette_with_alpha_is_flattened(background, picture, png_file, sent, stated):
    """Each colour of a palette has its own alpha (tRNS); those behind it have 255."""
    options, colour = background
    indices = (picture[:, :, 0] // 16).astype(np.uint8)
    palette = np.random.default_rng(3).integers(0, 256, (16, 3), dtype=np.uint8)
    alphas = np.array([0, 1, 17, 64, 127, 128, 200, 254, 255, 3], np.uint8)
    chunks = ((b"PLTE", palette.tobytes()), (b"tRNS", alphas.tobytes()))
    image = sent(png_file(indices, colour_type=PALETTE, chunks=chunks), **options)
    every = np.concatenate([alphas, np.full(6, 255, np.uint8)])
    right = stated(
        palette[indices], image.size, alpha=every[indices], background=colour
    )
    assert np.array_equal(image.pixels, right)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_small_palette_with_alpha_is_flattened(depth, picture, png_file, sent, stated):
    """Palettes of 2, 4 and 16 colours have alpha too."""
    indices = picture[:, :, 1] >> (8 - depth)
    palette = np.random.default_rng(5).integers(0, 256, (16, 3), dtype=np.uint8)
    palette = palette[: 2**depth]
    chunks = ((b"PLTE", palette.tobytes()), (b"tRNS", b"\x50"))
    data = png_file(indices, colour_type=PALETTE, depth=depth, chunks=chunks)
    image = sent(data, background="#336699")
    alpha = np.where(indices == 0, 0x50, 255).astype(np.uint8)
    right = stated(
        palette[indices], image.size, alpha=alpha, background=(0x33, 0x66, 0x99)
    )
    assert np.array_equal(image.pixels, right)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("colour_type", [GREY, RGB])
def test_transparent_colour_is_flattened(
    colour_type, depth, background, picture, png_file, sent, stated
):
    """The one colour that tRNS names is the background; its neighbours are not."""
    options, colour = background
    # Steps of 64, so that the colour occurs often; in 16 bits, every other row has a
    # neighbour of it instead, which shares its high byte.
    samples = picture & 0xC0 if colour_type == RGB else grey_of(picture) & 0xC0
    stored = deep(samples, 0x07) if depth == 16 else samples
    if depth == 16:
        stored = stored.copy()
        stored[::2] += 1
    is_clear = stored == stored[40, 30]
    is_clear = is_clear.all(axis=2) if colour_type == RGB else is_clear
    assert 20 < is_clear.sum() < is_clear.size
    name = np.atleast_1d(stored[40, 30]).astype(">u2").tobytes()
    data = png_file(
        stored, colour_type=colour_type, depth=depth, chunks=((b"tRNS", name),)
    )
    image = sent(data, **options)
    alpha = np.where(is_clear, 0, 255).astype(np.uint8)
    right = stated(samples, image.size, alpha=alpha, background=colour)
    assert np.array_equal(image.pixels, right)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_transparent_grey_of_few_bits_is_flattened(
    depth, picture, png_file, sent, stated
):
    """The transparent grey is named in the depth of the samples, before scaling."""
    values = grey_of(picture) >> (8 - depth)
    clear = int(values[40, 30])
    chunks = ((b"tRNS", struct.pack(">H", clear)),)
    image = sent(
        png_file(values, colour_type=GREY, depth=depth, chunks=chunks),
        background="#336699",
    )
    scaled = (values * (255 // (2**depth - 1))).astype(np.uint8)
    alpha = np.where(values == clear, 0, 255).astype(np.uint8)
    right = stated(scaled, image.size, alpha=alpha, background=(0x33, 0x66, 0x99))
    assert np.array_equal(image.pixels, right)


@pytest.mark.parametrize("depth", [8, 16])
def test_associated_alpha_is_flattened(
    depth, background, picture, veil, tiff_file, sent, stated
):
    """
    Colours that alpha was multiplied into are not darkened by it once more.

    A decoder may divide them by alpha first, which rounds: one step of 255 is
    allowed for that, and a second where the result is resized.
    """
    options, colour = background
    alpha = veil.astype(np.uint32)[:, :, None]
    mixed = ((picture * alpha + 127) // 255).astype(np.uint8)
    stored = np.dstack([mixed, veil])
    stored = deep(stored, 0) if depth == 16 else stored
    image = sent(tiff_file(stored, photometric=2, extra=ASSOCIATED), **options)
    flat = mixed + (np.array(colour) * (255 - alpha) + 127) // 255
    right = stated(np.minimum(flat, 255).astype(np.uint8), image.size)
    bound = 1 if image.size == veil.shape else 2
    assert np.abs(image.pixels.astype(int) - right).max() <= bound


@pytest.mark.parametrize("kind", ["RGBA PNG", "RGBA TIFF", "RGBA WEBP", "RGBA array"])
def test_changes_tell_of_the_background(kind, file_of, sent):
    """Flattening is told, with the background's colour if that is white."""
    assert "flattened on white" in sent(file_of(kind)).changes
    told = sent(file_of(kind), background="black").changes
    assert "flattened on white" not in told
    assert sum(words.startswith("flattened on ") for words in told) == 1


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_opaque_pictures_tell_of_no_background(mode, picture, saved, sent):
    """Without alpha, a background changes neither pixels nor words."""
    image = Image.fromarray(picture)
    image = image.quantize(16) if mode == "P" else image.convert(mode)
    data = saved(image, "PNG")
    on_black, on_white = sent(data, background="black"), sent(data)
    assert on_black.prepared.data == on_white.prepared.data
    assert not [words for words in on_black.changes if "flattened" in words]


@pytest.mark.parametrize("kind", ["RGBA PNG", "LA PNG", "RGBA TIFF", "RGBA WEBP"])
def test_transparent_bytes_are_never_kept(kind, file_of):
    """What the API would lay on a ground of its own is not sent as it is."""
    data = file_of(kind)
    prepared = qp.prepare(data)
    assert prepared.data != data
    assert not qp.probe(prepared.data).has_alpha


def test_a_background_has_three_spellings(file_of, sent):
    """A name, a hexadecimal and three numbers give the same bytes."""
    data = file_of("RGBA PNG")
    black = sent(data, background="black").prepared.data
    assert sent(data, background="#000000").prepared.data == black
    assert sent(data, background=(0, 0, 0)).prepared.data == black
