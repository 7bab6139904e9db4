"""The eight orientations of EXIF: turned once, in every type, in counting too."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import qwenvl_prep as qp

WORDS = {
    2: "mirrored",
    3: "turned 180°",
    4: "flipped",
    5: "turned 90° and mirrored",
    6: "turned 90°",
    7: "turned 270° and mirrored",
    8: "turned 270°",
}

# Pillow's format, mode, and options of saving.
KINDS = {
    "JPEG": ("JPEG", "RGB", {"quality": 95}),
    "grey JPEG": ("JPEG", "L", {"quality": 95}),
    "progressive JPEG": ("JPEG", "RGB", {"progressive": True}),
    "CMYK JPEG": ("JPEG", "CMYK", {"quality": 95}),
    "PNG": ("PNG", "RGB", {}),
    "grey PNG": ("PNG", "L", {}),
    "1-bit PNG": ("PNG", "1", {}),
    "palette PNG": ("PNG", "P", {}),
    "TIFF": ("TIFF", "RGB", {}),
    "LZW TIFF": ("TIFF", "RGB", {"compression": "tiff_lzw"}),
    "grey TIFF": ("TIFF", "L", {}),
    "1-bit TIFF": ("TIFF", "1", {}),
    "palette TIFF": ("TIFF", "P", {}),
    "CMYK TIFF": ("TIFF", "CMYK", {}),
    "WEBP": ("WEBP", "RGB", {"quality": 90}),
    "lossless WEBP": ("WEBP", "RGB", {"lossless": True}),
}
ALPHA_KINDS = {
    "RGBA PNG": ("PNG", {}),
    "RGBA TIFF": ("TIFF", {}),
    "RGBA WEBP": ("WEBP", {"lossless": True, "exact": True}),
}


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def in_mode(picture, mode: str) -> Image.Image:
    image = Image.fromarray(picture)
    return image.quantize(64) if mode == "P" else image.convert(mode)


@pytest.fixture(scope="session")
def file_of(picture, saved):
    """Give a function that writes the picture as one kind, in one orientation."""

    def write(kind: str, orientation: int | None) -> bytes:
        file_format, mode, options = KINDS[kind]
        if orientation is not None:
            options = {**options, "exif": exif(orientation)}
        return saved(in_mode(picture, mode), file_format, **options)

    return write


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", KINDS)
def test_stands_upright_once(kind, orientation, file_of, opened, sent, stated):
    """The pixels are those of the unturned file, turned as the standard says."""
    stored = np.asarray(opened(file_of(kind, None)).convert("RGB"))
    image = sent(file_of(kind, orientation))
    right = stated(stored, image.size, orientation=orientation)
    assert np.array_equal(image.pixels, right)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ALPHA_KINDS)
def test_transparent_stands_upright_once(
    kind, orientation, picture, veil, saved, sent, stated
):
    """Alpha is turned with its colours."""
    file_format, options = ALPHA_KINDS[kind]
    data = saved(
        np.dstack([picture, veil]), file_format, exif=exif(orientation), **options
    )
    image = sent(data)
    right = stated(picture, image.size, alpha=veil, orientation=orientation)
    assert np.array_equal(image.pixels, right)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_tiff_stands_upright_once(
    orientation, order, picture, tiff_file, sent, stated
):
    """16-bit TIFF goes another way through the decoders, and is turned once too."""
    deep = picture.astype(np.uint16) << 8 | 0x5A
    data = tiff_file(
        deep, photometric=2, order=order, extra=((274, "H", (orientation,)),)
    )
    image = sent(data)
    assert np.array_equal(
        image.pixels, stated(picture, image.size, orientation=orientation)
    )


@pytest.fixture(scope="session")
def heic_of(picture):
    """Give a function that writes a HEIC with irot and imir, and an EXIF beside."""
    pillow_heif = pytest.importorskip("pillow_heif")

    def write(boxes: int, tagged: int) -> bytes:
        heif = pillow_heif.from_pillow(Image.fromarray(picture))
        file = io.BytesIO()
        heif.save(file, quality=-1, chroma=444, exif=exif(boxes).tobytes())
        # It takes the boxes from the EXIF, which can say something else afterwards.
        written = exif(boxes).tobytes().removeprefix(b"Exif\0\0")
        wanted = exif(tagged).tobytes().removeprefix(b"Exif\0\0")
        assert file.getvalue().count(written) == 1
        return file.getvalue().replace(written, wanted)

    return write


@pytest.mark.parametrize("orientation", range(1, 9))
def test_heic_is_not_turned_twice(orientation, heic_of, sent, stated):
    """A HEIC is turned by its irot and imir, and never by its EXIF."""
    import pillow_heif

    stored = np.asarray(pillow_heif.open_heif(heic_of(1, 1)).to_pillow())
    for boxes, tagged in [
        (orientation, orientation),
        (orientation, 1),
        (1, orientation),
    ]:
        data = heic_of(boxes, tagged)
        image = sent(data)
        right = stated(stored, image.size, orientation=boxes)
        assert np.array_equal(image.pixels, right)
        assert qp.count_tokens(data) == image.prepared.tokens


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_changes_name_the_turn(kind, orientation, file_of, sent):
    """The turn is told once, in words; what is upright tells of none."""
    changes = sent(file_of(kind, orientation)).changes
    told = [words for words in changes if words in WORDS.values()]
    assert told == ([] if orientation == 1 else [WORDS[orientation]])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_counting_turns_too(kind, orientation, file_of, picture):
    """Counting, planning and preparing agree on tokens and upright sides."""
    data = file_of(kind, orientation)
    height, width = picture.shape[:2]
    upright = (height, width) if orientation < 5 else (width, height)
    info = qp.probe(data)
    assert (info.upright_height, info.upright_width) == upright
    plan, prepared = qp.plan(data), qp.prepare(data)
    assert (plan.height, plan.width) == (prepared.height, prepared.width)
    assert (plan.height > plan.width) is (orientation >= 5)
    assert qp.count_tokens(data) == plan.tokens == prepared.tokens
    assert qp.count_tokens(prepared.data) == prepared.tokens


@pytest.mark.parametrize("orientation", range(1, 9))
def test_long_pictures_count_upright(orientation, saved):
    """Where the cap floors the sides, the count of a turned picture is its own."""
    stored = np.zeros((500, 3000), np.uint8)
    data = saved(stored, "PNG", exif=exif(orientation))
    upright = stored.shape if orientation < 5 else stored.shape[::-1]
    counted = qp.count_tokens_many([upright[0]], [upright[1]])[0]
    assert qp.count_tokens(data) == qp.prepare(data).tokens == counted


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_what_was_turned_stays(kind, file_of, sent):
    """Preparing again what was prepared turns and changes nothing more."""
    once = sent(file_of(kind, 6))
    again = sent(once.prepared.data)
    assert np.array_equal(once.pixels, again.pixels)
    assert again.prepared.data == once.prepared.data


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_at_once(orientation, picture, veil, png_file, sent, stated):
    """Depth, alpha, a turn and a size together are each applied, and once."""
    deep = np.dstack([picture, veil]).astype(np.uint16) << 8 | 0x81
    block = exif(orientation).tobytes().removeprefix(b"Exif\0\0")
    data = png_file(deep, colour_type=6, depth=16, chunks=((b"eXIf", block),))
    image = sent(data, max_tokens=8)
    right = stated(picture, image.size, alpha=veil, orientation=orientation)
    assert np.array_equal(image.pixels, right)
