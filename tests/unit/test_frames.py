"""One frame of files that hold several: what its header says, and its pixels."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, features
from PIL.TiffImagePlugin import AppendingTiffWriter

from qwenvl_prep.decode import decode
from qwenvl_prep.errors import (
    DamagedImageError,
    DecodeLimitError,
    FrameError,
    ImageError,
    QwenVLPrepError,
    UnsupportedFormatError,
)
from qwenvl_prep.limits import Limits, decoded_bytes
from qwenvl_prep.probe import probe, probe_file
from qwenvl_prep.strips import is_for_vips, is_streamed

BICUBIC = Image.Resampling.BICUBIC


def noise(height: int, width: int, channels: int, seed: int) -> Image.Image:
    """Give a soft picture that no other seed gives."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, channels), np.uint8)
    return Image.fromarray(coarse).resize((width, height), BICUBIC)


def saved(first: Image.Image, file_format: str, *others: Image.Image, **options):
    file = io.BytesIO()
    more = {"save_all": True, "append_images": others} if others else {}
    first.save(file, file_format, **more, **options)
    return file.getvalue()


def flattened(image: Image.Image) -> np.ndarray:
    """State in Pillow's own words the upright pixels on white."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", rgba.size, "white")
        image.paste(rgba, mask=rgba.getchannel("A"))
    return np.asarray(image.convert("RGB"))


def by_pillow(data: bytes, frame: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        image.seek(frame)
        image.load()
        return flattened(image)


def decoded(data: bytes, frame: int | None, **options) -> np.ndarray:
    """Decode one frame; grey may come as one channel or as three."""
    pixels = decode(data, probe_file(data, frame=frame), **options).data
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def moving(mode: str, count: int = 5) -> list[Image.Image]:
    """Give frames of which each changes a part, so that their leftovers matter."""
    frames = []
    for number in range(count):
        frame = noise(40, 60, len(mode), 1)
        if mode == "RGBA":
            frame.putalpha(Image.new("L", (60, 40), 255))
        box = (6 * number, 4 * number, 6 * number + 20, 4 * number + 15)
        frame.paste(noise(15, 20, len(mode), number + 2), box)
        frames.append(frame)
    return frames


def png_chunk(kind: bytes, body: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + crc


def mpo() -> bytes:
    """Give an MPO of three sizes, of which the last lies on its side."""
    first, *others = (noise(40, 60, 3, 1), noise(30, 80, 3, 2), noise(50, 20, 3, 3))
    data = saved(first, "MPO", *others)
    at = data.rindex(b"\xff\xd8\xff")
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    return data[: at + 2] + segment + data[at + 2 :]


def tiff() -> bytes:
    """Give a TIFF of pages of many kinds, the third of which lies on its side."""
    file = io.BytesIO()
    grey16 = Image.fromarray(np.arange(30 * 50, dtype=np.uint16).reshape(30, 50) * 43)
    pages = [
        (noise(40, 60, 3, 1), {"icc_profile": b"the first page's"}),
        (noise(30, 50, 3, 2).convert("L"), {}),
        (noise(20, 70, 3, 3), {"tiffinfo": {274: 6}}),
        (grey16, {}),
        (noise(25, 35, 4, 4), {}),
        (noise(33, 44, 3, 5).quantize(16), {}),
        (noise(21, 17, 3, 6).convert("1"), {}),
    ]
    with AppendingTiffWriter(file, new=True) as appended:
        for page, options in pages:
            page.save(appended, "TIFF", **options)
            appended.newFrame()
    return file.getvalue()


def png_of(side: int, seed: int) -> bytes:
    return saved(noise(side, side, 4, seed), "PNG")


def bitmap_of(side: int, seed: int) -> bytes:
    """Give a bitmap of 32 bits as icons hold it: twice as high, a mask behind it."""
    data = saved(noise(side, side, 4, seed), "DIB")
    mask = bytes((side + 31) // 32 * 4 * side)
    return data[:8] + struct.pack("<i", 2 * side) + data[12:] + mask


def ico(*pictures: tuple[int, bytes]) -> bytes:
    """Give an icon of pictures, each (side, bytes), in this order."""
    directory, body = struct.pack("<HHH", 0, 1, len(pictures)), b""
    start = 6 + 16 * len(pictures)
    for side, data in pictures:
        at = start + len(body)
        directory += struct.pack("<BBBBHHII", side, side, 0, 0, 1, 32, len(data), at)
        body += data
    return directory + body


def icns(*blocks: tuple[bytes, bytes]) -> bytes:
    """Give an ICNS file of blocks, each (type, bytes), in this order."""
    body = b"".join(
        struct.pack(">4sI", kind, 8 + len(data)) + data for kind, data in blocks
    )
    return struct.pack(">4sI", b"icns", 8 + len(body)) + body


def gif_piece(image: Image.Image, left: int, top: int, clear: int | None) -> bytes:
    """Give one picture of a GIF with a palette of its own; *clear* is its colour."""
    data = saved(image.quantize(16, dither=Image.Dither.NONE), "GIF")
    bits = (data[10] & 7) + 1
    palette = data[13 : 13 + (3 << bits)]
    at = data.index(b",", 13 + (3 << bits))
    place = struct.pack("<HHHHB", left, top, image.width, image.height, 0x80 | bits - 1)
    control = b""
    if clear is not None:
        control = b"!\xf9\x04" + struct.pack("<BHBB", 1, 5, clear, 0)
    return control + b"," + place + palette + data[at + 10 : -1]


def gif(*pieces: bytes, screen: tuple[int, int] = (20, 10)) -> bytes:
    width, height = screen
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, 0, 0, 0)
        + b"".join(pieces)
        + b";"
    )


def animations() -> dict[str, bytes]:
    rgb, rgba = moving("RGB"), moving("RGBA")
    for frame in rgba[1:]:
        frame.paste((0, 0, 0, 0), (30, 20, 50, 35))
    palette = [frame.quantize(64) for frame in rgb]
    found = {
        f"GIF, disposal {disposal}": saved(*order(palette, "GIF"), disposal=disposal)
        for disposal in (0, 1, 2, 3)
    }
    found["GIF, transparent"] = saved(*order(rgba, "GIF"), disposal=2)
    found["GIF, growing"] = gif(
        gif_piece(noise(10, 20, 3, 1), 0, 0, None),
        gif_piece(noise(15, 15, 3, 2), 10, 3, 5),
        gif_piece(noise(9, 9, 3, 3), 20, 30, None),
        gif_piece(noise(4, 4, 3, 4), 1, 1, None),
    )
    for blend in (0, 1):
        for disposal in (0, 1, 2):
            name = f"PNG, blend {blend}, disposal {disposal}"
            how = {"blend": blend, "disposal": disposal}
            found[name] = saved(*order(rgba, "PNG"), **how)
    found["PNG, picture besides"] = saved(*order(rgb, "PNG"), default_image=True)
    found["PNG, palette"] = saved(*order(palette, "PNG"))
    found["WEBP, lossless"] = saved(*order(rgba, "WEBP"), lossless=True)
    found["WEBP, lossy"] = saved(*order(rgb, "WEBP"))
    return found


def order(frames: list[Image.Image], file_format: str) -> tuple:
    first, *others = frames
    return (first, file_format, *others)


SEVERAL = {**animations(), "MPO": mpo(), "TIFF": tiff()}
if features.check("avif"):
    SEVERAL["AVIF"] = saved(*order(moving("RGB"), "AVIF"))

ICO_PICTURES = [(32, png_of(32, 1)), (16, bitmap_of(16, 2)), (48, png_of(48, 3))]
ICO_PICTURES += [(48, png_of(48, 4)), (32, bitmap_of(32, 5))]


def n_frames(name: str) -> int:
    with Image.open(io.BytesIO(SEVERAL[name])) as image:
        return image.n_frames


EACH = [(name, frame) for name in SEVERAL for frame in range(n_frames(name))]


# ---------------------------------------------------------------- animations, pages


@pytest.mark.parametrize(("name", "frame"), EACH)
def test_header_and_pixels_are_pillows_after_its_seek(name, frame):
    """Every frame has the size, transparency and pixels that Pillow gives it."""
    data = SEVERAL[name]
    info = probe_file(data, frame=frame)
    with Image.open(io.BytesIO(data)) as image:
        image.seek(frame)
        image.load()
        assert info.has_alpha == image.has_transparency_data
    assert info.frame == frame
    assert info.n_frames == n_frames(name)
    assert info.encoded_size == len(data)
    # Opened anew, because a GIF keeps the canvas of the frames that were counted.
    stated = by_pillow(data, frame)
    assert (info.upright_height, info.upright_width) == stated.shape[:2]
    np.testing.assert_array_equal(decoded(data, frame), stated)


@pytest.mark.parametrize("name", SEVERAL)
def test_frames_differ(name):
    """No two frames of these files are alike, so a wrong one would be seen."""
    frames = {by_pillow(SEVERAL[name], k).tobytes() for k in range(n_frames(name))}
    assert len(frames) == n_frames(name) > 2


@pytest.mark.parametrize("name", SEVERAL)
def test_first_frame_is_what_is_taken_unasked(name):
    """Frame 0 of what has an order in time or of pages is the documented choice."""
    unasked = probe_file(SEVERAL[name])
    assert unasked.frame is None
    assert probe_file(SEVERAL[name], frame=0) == dataclasses.replace(unasked, frame=0)
    np.testing.assert_array_equal(
        decoded(SEVERAL[name], 0), decoded(SEVERAL[name], None)
    )


@pytest.mark.parametrize("name", ["GIF, disposal 2", "PNG, palette", "MPO", "TIFF"])
def test_a_later_frame_is_resized_like_a_file_of_its_own(name):
    """Resizing on the way gives Pillow's bytes, lying on its side or not."""
    data = SEVERAL[name]
    for frame in range(1, n_frames(name)):
        whole = Image.fromarray(by_pillow(data, frame))
        stated = np.asarray(whole.resize((13, 9), BICUBIC))
        given = decoded(data, frame, size=(9, 13))
        # Pillow resizes what is turned already; the passes round in another order.
        turned = probe_file(data, frame=frame).orientation != 1
        assert np.abs(given.astype(int) - stated).max() <= (1 if turned else 0)


def test_each_picture_of_an_mpo_has_its_own_orientation():
    """The EXIF of the first picture says nothing of the others."""
    found = [probe_file(SEVERAL["MPO"], frame=frame) for frame in range(3)]
    assert [info.orientation for info in found] == [1, 1, 6]
    assert [(info.height, info.width) for info in found] == [
        (40, 60),
        (30, 80),
        (50, 20),
    ]


def test_each_page_of_a_tiff_speaks_for_itself():
    """Size, depth, colour, alpha, profile and orientation are those of the page."""
    found = [probe_file(SEVERAL["TIFF"], frame=frame) for frame in range(7)]
    assert [(info.height, info.width) for info in found[:3]] == [
        (40, 60),
        (30, 50),
        (20, 70),
    ]
    assert [info.orientation for info in found] == [1, 1, 6, 1, 1, 1, 1]
    assert [info.bit_depth for info in found] == [8, 8, 8, 16, 8, 8, 1]
    assert [info.channels for info in found] == [3, 1, 3, 1, 4, 3, 1]
    assert [info.colour for info in found][-2:] == ["palette", "grey"]
    assert [info.has_icc for info in found] == [True] + 6 * [False]
    assert [info.n_frames for info in found] == 7 * [7]


def test_a_gif_grows_with_its_pictures():
    """A picture that reaches over the edge enlarges the canvas from then on."""
    data = SEVERAL["GIF, growing"]
    found = [probe_file(data, frame=frame) for frame in range(4)]
    assert [(i.height, i.width) for i in found] == [
        (10, 20),
        (18, 25),
        (39, 29),
        (39, 29),
    ]
    assert [info.has_alpha for info in found] == [False, True, False, False]


def test_webp_is_lossless_as_far_as_all_its_pictures_are():
    """A frame shows what is left of those before it, so one lossy picture is enough."""
    lossless = saved(*order(moving("RGB"), "WEBP"), lossless=True)
    assert all(probe_file(lossless, frame=frame).is_lossless for frame in range(5))
    at = lossless.rindex(b"VP8L")
    mixed = lossless[:at] + b"VP8 " + lossless[at + 4 :]
    assert [probe_file(mixed, frame=k).is_lossless for k in range(5)] == 4 * [True] + [
        False
    ]


# ---------------------------------------------------------------- icons, HEIF


def test_each_picture_of_an_icon():
    """Numbers follow the directory, and tell two pictures of one size apart."""
    data = ico(*ICO_PICTURES)
    for frame, (side, _) in enumerate(ICO_PICTURES):
        info = probe_file(data, frame=frame)
        assert (info.height, info.width, info.n_frames) == (side, side, 5)
        stated = flattened(noise(side, side, 4, frame + 1))
        np.testing.assert_array_equal(decoded(data, frame), stated)
    largest = probe_file(data)
    assert (largest.height, largest.frame) == (48, None)
    np.testing.assert_array_equal(decoded(data, None), decoded(data, 2))


def test_pillows_own_icon():
    """An icon of 16, 32 and 48 as Pillow writes it has its pictures in that order."""
    sides = (16, 32, 48)
    data = saved(noise(48, 48, 4, 1), "ICO", sizes=[(side, side) for side in sides])
    for frame, side in enumerate(sides):
        with Image.open(io.BytesIO(data)) as image:
            image.size = (side, side)
            image.load()
            np.testing.assert_array_equal(decoded(data, frame), flattened(image))


def test_a_broken_largest_picture_does_not_disturb_the_others():
    """Where the picture that is taken unasked is damaged, a number reads another."""
    broken = ICO_PICTURES[2][1][:60]
    data = ico(*ICO_PICTURES[:2], (48, broken))
    with pytest.raises(DamagedImageError):
        decoded(data, None)
    for frame in (0, 1):
        side = ICO_PICTURES[frame][0]
        stated = flattened(noise(side, side, 4, frame + 1))
        np.testing.assert_array_equal(decoded(data, frame), stated)


def test_each_picture_of_an_icns():
    """Numbers follow the file; one size for two resolutions is two pictures."""
    blocks = [
        (b"icp5", png_of(32, 1)),
        (b"TOC ", bytes(8)),
        (b"ic07", png_of(128, 2)),
        (b"ic11", png_of(32, 3)),
        (b"ic08", png_of(256, 4)),
    ]
    data = icns(*blocks)
    for frame, (side, seed) in enumerate([(32, 1), (128, 2), (32, 3), (256, 4)]):
        info = probe_file(data, frame=frame)
        assert (info.height, info.width, info.n_frames) == (side, side, 4)
        stated = flattened(noise(side, side, 4, seed))
        np.testing.assert_array_equal(decoded(data, frame), stated)
    np.testing.assert_array_equal(decoded(data, None), decoded(data, 3))


def test_colours_and_mask_of_an_icns_are_one_picture():
    """The old types keep colours and mask in two blocks, which belong together."""
    mask = bytes([0, 255]) * 128
    colours = bytes([200]) * (3 * 256)
    data = icns((b"s8mk", mask), (b"ic07", png_of(128, 2)), (b"is32", colours))
    info = probe_file(data, frame=0)
    assert (info.height, info.n_frames) == (16, 2)
    stated = np.where(np.arange(16) % 2, 200, 255)
    np.testing.assert_array_equal(decoded(data, 0)[0, :, 0], stated)
    assert decoded(data, 1).shape == (128, 128, 3)


def test_only_the_wanted_block_of_an_icns_is_held_to_its_size():
    """A block of another size than its type says is refused where it is read."""
    data = icns((b"ic07", png_of(128, 2)), (b"ic11", png_of(16, 3)))
    assert probe_file(data, frame=0).height == 128
    with pytest.raises(DamagedImageError, match="32x32"):
        probe_file(data, frame=1)


def test_each_picture_of_a_heif():
    """Numbers follow the file, and none means the primary picture."""
    pillow_heif = pytest.importorskip("pillow_heif")
    pictures = [noise(48, 64, 3, 1), noise(56, 80, 4, 2), noise(64, 96, 3, 3)]
    written = pillow_heif.from_pillow(pictures[0])
    for picture in pictures[1:]:
        written.add_from_pillow(picture)
    file = io.BytesIO()
    written.save(file, quality=-1, primary_index=2)
    data = file.getvalue()
    found = [probe_file(data, frame=frame) for frame in range(3)]
    assert [(i.height, i.width) for i in found] == [(48, 64), (56, 80), (64, 96)]
    assert [info.has_alpha for info in found] == [False, True, False]
    assert [info.n_frames for info in found] == [3, 3, 3]
    for frame, read in enumerate(pillow_heif.open_heif(data)):
        stated = flattened(read.to_pillow())
        np.testing.assert_array_equal(decoded(data, frame), stated)
    np.testing.assert_array_equal(decoded(data, None), decoded(data, 2))
    with pytest.raises(FrameError, match="from 0 to 2 but received 3"):
        probe_file(data, frame=3)
    with pytest.raises(UnsupportedFormatError, match="sequence"):
        decode(data, dataclasses.replace(found[0], frame=3))


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("name", SEVERAL)
def test_one_too_many_is_refused(name):
    """The refusal says which frames there are, and carries both numbers."""
    count = n_frames(name)
    for frame in (count, count + 7, 10**30):
        with pytest.raises(FrameError) as caught:
            probe_file(SEVERAL[name], frame=frame)
        assert str(caught.value) == (
            f"Expected a frame from 0 to {count - 1} but received {frame}"
        )
        assert (caught.value.frame, caught.value.n_frames) == (frame, count)


@pytest.mark.parametrize(
    "file_format",
    ["BMP", "DIB", "JPEG", "JPEG2000", "PNG", "SGI", "GIF", "TIFF", "ICO"],
)
def test_a_file_of_one_picture_has_frame_0(file_format):
    """Asking for the first is not asking for much; asking for the second is."""
    data = saved(noise(40, 40, 3, 1), file_format)
    if file_format == "ICO":
        data = ico((48, png_of(48, 3)))
    assert probe_file(data, frame=0) == dataclasses.replace(probe_file(data), frame=0)
    np.testing.assert_array_equal(decoded(data, 0), decoded(data, None))
    with pytest.raises(FrameError, match="Expected frame 0 but received 1, for there"):
        probe_file(data, frame=1)


@pytest.mark.parametrize("frame", [-1, True, False, 1.0, "1", b"1", (1,), float("nan")])
def test_what_is_no_number_from_0_on_is_refused(frame):
    """Nothing is guessed: no counting from the end, no rounding, no truth value."""
    for source in (SEVERAL["TIFF"], np.zeros((20, 30, 3), np.uint8), noise(9, 9, 3, 1)):
        with pytest.raises(FrameError, match="whole number from 0 on but received"):
            probe(source, frame=frame)


def test_a_number_of_numpys_is_one():
    """An index that was computed is as good as one that was written."""
    info = probe_file(SEVERAL["TIFF"], frame=np.int64(2))
    assert info == probe_file(SEVERAL["TIFF"], frame=2)
    assert type(info.frame) is int


def test_a_frame_error_is_one_about_an_image():
    """So among many images it is that image's error, and a ValueError."""
    assert issubclass(FrameError, ImageError)
    assert issubclass(FrameError, ValueError)


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("name", SEVERAL)
def test_damage_behind_the_first_frame_does_not_disturb_it(name):
    """Noise over the last tenth of the file leaves frame 0 as it was."""
    data = SEVERAL[name]
    size = len(data) // 10
    if name in {"TIFF", "WEBP, lossless"}:
        size = 20  # the directories lie between the pages, and frames are short
    tail = np.random.default_rng(1).integers(0, 256, size, np.uint8).tobytes()
    broken = data[: len(data) - size - 20] + tail + data[-20:]
    assert broken != data
    np.testing.assert_array_equal(decoded(broken, 0), decoded(data, 0))


@pytest.mark.parametrize("name", SEVERAL)
def test_a_cut_off_last_frame_is_refused(name):
    """Wherever the file ends inside its last frame, that frame is no half picture."""
    data = SEVERAL[name]
    last = n_frames(name) - 1
    whole = decoded(data, last)
    for part in range(1, 10):
        cut = data[: len(data) - part * len(data) // 100]
        try:
            given = decoded(cut, last)
        except (DamagedImageError, FrameError):
            continue
        np.testing.assert_array_equal(given, whole, f"{part} % cut off")


def test_a_directory_of_pictures_that_lies_is_damaged():
    """A picture of an MPO that is not where the file says is no picture."""
    data = SEVERAL["MPO"]
    last = data.rindex(b"\xff\xd8\xff")
    for end in (last, last + 2):
        with pytest.raises(DamagedImageError):
            probe_file(data[:end], frame=2)
    with pytest.raises(DamagedImageError, match=f"a picture at byte {last:,}"):
        probe_file(data[:last] + b"nothing" + data[last + 7 :], frame=2)
    assert probe_file(data[:last], frame=1).width == 80


def test_an_animation_of_very_many_frames_is_read_by_pillow():
    """Above 1,000 frames libvips is left out; a PNG used to have no other reader."""
    data = SEVERAL["PNG, palette"]
    at = data.index(b"acTL")
    many = png_chunk(b"acTL", struct.pack(">II", 2_000, 0))
    data = data[: at - 4] + many + data[at + 16 :]
    assert probe_file(data).n_frames == 2_000
    np.testing.assert_array_equal(decoded(data, None), by_pillow(data, 0))
    with pytest.raises(DamagedImageError):
        decoded(data, 1_500)


def test_frames_that_are_too_far_away_are_none():
    """A GIF is counted as far as its budget reaches, and no further frame is there."""
    data = gif(*[gif_piece(noise(10, 20, 3, 1), 0, 0, None)] * 9_000)
    count = probe_file(data).n_frames
    assert 1_000 < count < 9_000
    assert probe_file(data, frame=count - 1).n_frames == count
    with pytest.raises(FrameError, match=f"from 0 to {count - 1} but received {count}"):
        probe_file(data, frame=count)


@pytest.mark.parametrize("name", [*SEVERAL, "ICO", "ICNS"])
def test_mutations_bring_an_answer_or_our_error(name):
    """Broken at random, no frame of any file brings an exception that is not ours."""
    blocks = [(b"icp5", png_of(32, 1)), (b"s8mk", bytes(256)), (b"is32", bytes(768))]
    icons = {"ICO": ico(*ICO_PICTURES), "ICNS": icns(*blocks)}
    data = {**SEVERAL, **icons}[name]
    rng = np.random.default_rng(3)
    answers = 0
    for _ in range(60):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            # The beginning of a file says most about it.
            broken[at if rng.integers(2) else at % 200] = rng.integers(256)
        frame = int(rng.integers(0, 3))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                info = probe_file(bytes(broken), frame=frame)
                assert info.frame == frame < info.n_frames
                answers += 1
                decode(bytes(broken), info)
            except QwenVLPrepError:
                continue
    assert answers > 5


# ---------------------------------------------------------------- limits


@pytest.mark.parametrize("name", SEVERAL)
def test_later_frames_are_not_for_libvips(name):
    """Its loaders take the first frame, so a later one is neither read nor streamed."""
    for frame in range(n_frames(name)):
        info = probe_file(SEVERAL[name], frame=frame)
        unasked = dataclasses.replace(info, frame=None)
        assert is_for_vips(info) == (is_for_vips(unasked) and frame == 0)
        assert is_streamed(info) == (is_streamed(unasked) and frame == 0)


def test_frames_on_the_way_to_a_later_one_count():
    """A frame of an animation takes the time of all before it; a page does not."""
    limits = Limits(max_streamed_pixels=4 * 40 * 60)
    for name in ("GIF, disposal 2", "PNG, palette", "WEBP, lossy"):
        decoded(SEVERAL[name], 3, limits=limits)
        with pytest.raises(DecodeLimitError, match="in the frames up to it") as caught:
            decoded(SEVERAL[name], 4, limits=limits)
        assert caught.value.limit_name == "max_streamed_pixels"
        assert (caught.value.actual, caught.value.limit) == (5 * 2_400, 4 * 2_400)
    decoded(
        SEVERAL["TIFF"], 6, limits=dataclasses.replace(limits, max_streamed_pixels=1)
    )


def test_later_frames_of_animations_take_more_memory():
    """Canvas, leftovers and the new picture exist at once."""
    for name, each in {
        "GIF, disposal 2": 17,
        "PNG, palette": 12,
        "WEBP, lossy": 17,
    }.items():
        info = probe_file(SEVERAL[name], frame=1)
        assert decoded_bytes(info) == each * 2_400
        assert decoded_bytes(info) > decoded_bytes(dataclasses.replace(info, frame=0))
        progressive = dataclasses.replace(info, is_progressive=True)
        assert decoded_bytes(progressive) >= each * 2_400


# ---------------------------------------------------------------- sources


def test_a_pillow_image_is_taken_where_it_stands():
    """It belongs to its owner, so it is neither moved nor counted."""
    with Image.open(io.BytesIO(SEVERAL["GIF, disposal 2"])) as image:
        image.seek(2)
        assert probe(image).frame is None
        assert probe(image, frame=2).frame == 2
        for frame in (0, 3, 99):
            with pytest.raises(FrameError, match=f"call its seek\\({frame}\\) first"):
                probe(image, frame=frame)
        assert image.tell() == 2
    assert probe(noise(20, 30, 3, 1), frame=0).frame == 0


def test_an_array_has_frame_0():
    """An array is one picture."""
    array = np.zeros((20, 30, 3), np.uint8)
    assert probe(array, frame=0) == dataclasses.replace(probe(array), frame=0)
    with pytest.raises(FrameError, match="Expected frame 0 but received 1"):
        probe(array, frame=1)


def test_a_path_a_file_and_bytes_give_the_same(tmp_path):
    """Where the bytes come from changes nothing."""
    path = tmp_path / "pages.tif"
    path.write_bytes(SEVERAL["TIFF"])
    info = probe_file(SEVERAL["TIFF"], frame=2)
    assert probe(path, frame=2) == probe(SEVERAL["TIFF"], frame=2) == info
    with path.open("rb") as file:
        assert probe(file, frame=2) == info


def test_the_command_probes_a_frame(tmp_path):
    """--frame says which; a file without it is refused, and the others are shown."""
    path = tmp_path / "pages.tif"
    path.write_bytes(SEVERAL["TIFF"])
    one = tmp_path / "one.png"
    one.write_bytes(png_of(20, 1))
    command = [sys.executable, "-m", "qwenvl_prep", "probe", "--json", "--frame", "2"]
    done = subprocess.run(
        [*command, str(path), str(one)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    shown = [line for line in lines if "height" in line]
    assert [(line["height"], line["orientation"]) for line in shown] == [(20, 6)]
    assert "Expected frame 0 but received 2" in done.stdout + done.stderr
