"""What is taken of a broken file on request, and what is refused all the same."""

from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from qwenvl_prep import plan, prepare, prepare_many
from qwenvl_prep.errors import DamagedImageError
from qwenvl_prep.jpeg_structure import count_scans, lacks_a_colour, whole_scans

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# Red and green change places.
SWAPPED = (
    SRGB.replace(b"rXYZ", b"swap").replace(b"gXYZ", b"rXYZ").replace(b"swap", b"gXYZ")
)
SCAN, END = b"\xff\xda", b"\xff\xd9"


@pytest.fixture
def large(photo) -> Image.Image:
    return photo.resize((420, 308), Image.Resampling.BICUBIC)


def pixels(prepared) -> np.ndarray:
    with Image.open(io.BytesIO(prepared.data)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def scans_of(data: bytes) -> list[int]:
    return [at for at in range(len(data)) if data[at : at + 2] == SCAN]


def test_scans_are_counted_up_to_what_is_asked(large, encoded):
    """Each scan once; one scan in a plain file."""
    data = encoded(large, "JPEG", progressive=True)
    starts = scans_of(data)
    assert len(starts) > 3
    assert count_scans(data, 1_000) == len(starts)
    assert count_scans(data, 2) == 2
    assert len(whole_scans(data)) == len(starts)
    # In the middle of the third, two are whole.
    assert len(whole_scans(data[: starts[2] + 200])) == 2
    assert count_scans(encoded(large, "JPEG"), 1_000) == 1


def test_a_progressive_file_is_coarse_and_never_grey(large, encoded):
    """Every row is there once the first scan is, near what the whole file shows."""
    data = encoded(large, "JPEG", progressive=True, quality=90)
    right = pixels(prepare(data, encoding="png"))
    starts = scans_of(data)
    for number, start in enumerate(starts[1:], start=1):
        cut = data[: start + 40]
        with pytest.raises(DamagedImageError):
            prepare(cut, encoding="png")
        made = prepare(cut, encoding="png", on_truncated="accept")
        assert "cut off: the details are missing" in made.changes
        off = abs(pixels(made) - right).mean(axis=(1, 2))
        # The worst row, too, is a picture.
        assert off.max() < 25, number
    with pytest.raises(DamagedImageError):
        prepare(data[: starts[1] - 50], on_truncated="accept")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_an_end_marker_in_the_first_scan_does_not_make_it_whole(large, encoded, share):
    """Half of a first scan with an end put behind it is no coarse whole."""
    data = encoded(large, "JPEG", progressive=True)
    first, second = scans_of(data)[:2]
    at = first + int((second - first) * share)
    with pytest.raises(DamagedImageError):
        prepare(data[:at] + END + data[at:], on_truncated="accept")


def test_a_hole_in_the_first_scan_is_not_made_up_for(large, encoded):
    """Zeros in the first scan leave nothing to start from."""
    data = encoded(large, "JPEG", progressive=True)
    first, second = scans_of(data)[:2]
    middle = (first + second) // 2
    hole = data[:middle] + bytes(second - middle - 4) + data[second - 4 :]
    with pytest.raises(DamagedImageError):
        prepare(hole, on_truncated="accept")


def test_an_interlaced_png_is_refused_for_what_it_is():
    """Nothing is taken of it, and nothing is said of scans."""
    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000400000004008020000012b0e0d76"
    )
    head = png[:29] + zlib.crc32(png[12:29]).to_bytes(4, "big")
    body = zlib.compress(bytes(64 * 64))
    data = head + len(body).to_bytes(4, "big") + b"IDAT" + body
    data += zlib.crc32(b"IDAT" + body).to_bytes(4, "big")
    with pytest.raises(DamagedImageError) as caught:
        prepare(data, **ACCEPT)
    assert "scan" not in str(caught.value)


def test_a_tiff_without_the_end_of_its_directory_is_damaged(photo, encoded):
    """It stands behind the pixels, and Pillow only warns where a field is cut off."""
    data = encoded(photo.convert("RGBA"), "TIFF")
    at = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 2], "little")
    end = at + 2 + 12 * count + 4
    directory = data[at:end]
    moved = data + directory
    behind = moved[:4] + len(data).to_bytes(4, "little") + moved[8:]
    assert prepare(behind).data == prepare(data).data
    for cut in (1, 2, 4, 5, 16):
        with pytest.raises(DamagedImageError):
            prepare(behind[:-cut])


def test_damage_to_inks_is_no_matter_of_pillow_s(large, encoded):
    """Pillow reads CMYK and takes libjpeg's warnings for nothing; we do not."""
    data = encoded(large.convert("CMYK"), "JPEG", quality=88)
    assert prepare(data).changes
    for share in (0.3, 0.6, 0.9):
        broken = data[: int(len(data) * share)] + END
        for options in ({}, ACCEPT, {"max_tokens": 50}):
            with pytest.raises(DamagedImageError):
                prepare(broken, **options)


def test_a_colour_without_a_scan_is_missing(large, encoded):
    """A file that ends properly may still lack one of its colours."""
    data = encoded(large, "JPEG", progressive=True)
    starts = scans_of(data)
    assert not lacks_a_colour(data)
    assert not lacks_a_colour(data[: starts[1]])
    assert not lacks_a_colour(data[: whole_scans(data)[0]] + END)
    # Its first scan is of the brightness alone.
    alone = bytearray(data[: whole_scans(data)[0]] + END)
    count = alone[starts[0] + 4]
    at = starts[0] + 2
    alone[at : at + 2] = (6 + 2).to_bytes(2, "big")
    alone[starts[0] + 4] = 1
    del alone[starts[0] + 7 : starts[0] + 5 + 2 * count]
    assert lacks_a_colour(bytes(alone))
    with pytest.raises(DamagedImageError, match="colours is missing"):
        prepare(bytes(alone), encoding="png")


def test_rows_that_never_arrived_have_the_colour_of_the_background(large, encoded):
    """Of a grey file on a coloured ground, too, which makes a colour picture of it."""
    data = encoded(large.convert("L"), "JPEG", quality=90)
    given = {"on_truncated": "accept", "encoding": "png", "background": "#fa0ac8"}
    made = prepare(data[: len(data) // 2], **given)
    (told,) = [change for change in made.changes if change.startswith("cut off")]
    assert "is missing and #fa0ac8" in told
    seen = pixels(made)
    assert (seen[-20:] == (0xFA, 0x0A, 0xC8)).all()
    assert (np.ptp(seen[:20], axis=2) == 0).all()


def test_kept_bytes_that_do_not_decode_are_salvaged_too(photo, encoded):
    """The same file is refused by default, and under keep."""
    data = encoded(photo.resize((280, 280)), "PNG", compress_level=0)
    half = len(data) // 2
    broken = data[:half] + bytes(3_000) + data[half + 3_000 :]
    for options in ({}, {"encoding": "keep"}, {"encoding": "keep", **ACCEPT}):
        with pytest.raises(DamagedImageError):
            prepare(broken, **options)
    assert any("cut off" in one for one in prepare(broken, **ACCEPT).changes)


ACCEPT = {"on_truncated": "accept"}


# ------------------------------------------------------------- what is not of one mind


def test_text_between_the_pixels_is_encoded_away(photo, encoded):
    """Decoders read it; taking it out of the file would not be sure, so it is made."""
    data = encoded(photo.resize((84, 84)), "PNG")
    at = data.index(b"IDAT") - 4
    length = int.from_bytes(data[at : at + 4], "big")
    body = data[at + 8 : at + 8 + length]

    def chunk(name: bytes, content: bytes) -> bytes:
        file = io.BytesIO()
        PngImagePlugin.putchunk(file, name, content)
        return file.getvalue()

    split = (
        data[:at]
        + chunk(b"IDAT", body)
        + chunk(b"tEXt", b"Secret\0canary")
        + chunk(b"IDAT", b"")
        + data[at + 12 + length :]
    )
    assert prepare(split).data == split
    bare = prepare(split, strip_metadata=True)
    assert b"canary" not in bare.data
    with pytest.raises(DamagedImageError):
        prepare(split, strip_metadata=True, encoding="keep")


def test_colour_in_the_header_and_grey_in_the_data(photo, encoded):
    """A profile for colour and one sample a pixel is a picture or our own error."""
    data = bytearray(
        encoded(photo.convert("L"), "TIFF", icc_profile=SWAPPED, compression=None)
    )
    at = data.index(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00")
    data[at + 8] = 2
    (made,) = prepare_many([bytes(data)])
    assert isinstance(made, DamagedImageError) or made.data


def test_palette_of_an_opened_image_has_its_profile(photo, encoded):
    """An image that somebody else opened is converted as its file is."""
    data = encoded(photo.quantize(16), "PNG", icc_profile=SWAPPED)
    file = prepare(data, encoding="png")
    image = Image.open(io.BytesIO(data))
    opened = prepare(image, encoding="png")
    assert "sRGB built-in → sRGB" in opened.changes
    assert (pixels(file) == pixels(opened)).all()


def test_sixteen_bit_grey_with_a_clear_level_is_flattened():
    """Its one transparent level is the background, in an opened image too."""
    deep = (np.arange(84 * 84, dtype=np.uint16).reshape(84, 84) * 9).astype(np.uint16)
    image = Image.fromarray(deep)
    image.info["transparency"] = int(deep[40, 40])
    made = prepare(image, encoding="png", background="black")
    right = np.where(deep == deep[40, 40], 0, deep >> 8)
    assert (pixels(made) == right[:, :, None]).all()


@pytest.mark.parametrize("frame", [None, 2])
def test_an_opened_animation_is_taken_where_it_stands(frame, photo):
    """Alone and among many, whose images are copied before they are used."""
    file = io.BytesIO()
    frames = [photo.rotate(90 * turn).resize((84, 84)) for turn in range(4)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    image = Image.open(file)
    image.seek(2)
    alone = prepare(image, frame=frame, encoding="png")
    (among,) = prepare_many([image], frame=frame, encoding="png")
    assert among.data == alone.data
    (refused,) = prepare_many([image], frame=0)
    assert "at which this Pillow image stands" in str(refused)


def test_plan_reads_as_deep_as_prepare(photo, encoded):
    """A profile behind 300 KB of other metadata counts for both."""
    segment = b"\xff\xef" + (60_002).to_bytes(2, "big") + bytes(60_000)
    for profile, is_kept in ((SRGB, True), (SWAPPED, False)):
        data = encoded(photo, "JPEG", icc_profile=profile)
        deep = data[:2] + segment * 5 + data[2:]
        made = prepare(deep)
        planned = plan(deep)
        assert planned.is_kept is made.plan.is_kept is is_kept
        assert planned.steps == made.plan.steps
