"""Strips in, upright pixels out: every strip height, turn, type and sink agree."""

from __future__ import annotations

import dataclasses
import gc
import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageOps

from qwenvl_prep import decode, decode_vips, get_model, pixels, prepare, sources
from qwenvl_prep import strips as strips_file
from qwenvl_prep._native import resample
from qwenvl_prep.decode import decode_pixels, prove
from qwenvl_prep.decode_vips import vips_strips
from qwenvl_prep.errors import (
    DamagedImageError,
    DecodeLimitError,
    QwenVLPrepError,
    SourceError,
    UnsupportedFormatError,
)
from qwenvl_prep.probe import probe, probe_file
from qwenvl_prep.sources import LargeFile, as_source, open_source

BICUBIC = Image.Resampling.BICUBIC
SCRIPT = Path(__file__).parents[1] / "isolated" / "check_streaming.py"

# Upright sizes for a picture of 90 x 120: width first, height first, each side alone.
SIZES = [(80, 40), (20, 110), (90, 50), (30, 120), (130, 150)]


def stated(image: Image.Image, size: tuple[int, int] | None = None) -> np.ndarray:
    """State in Pillow's own words what the pixels should be."""
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", rgba.size, "white")
        image.paste(rgba, mask=rgba.getchannel("A"))
    image = image.convert("RGB")
    return np.asarray(image if size is None else image.resize(size[::-1], BICUBIC))


def opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image


def decoded(data: bytes, **options) -> np.ndarray:
    return decode.decode(data, probe_file(data), **options).rgb


def png_of(samples: np.ndarray, colour_type: int, depth: int) -> bytes:
    """Write a PNG by hand, for depths that Pillow does not write."""
    height, width = samples.shape[:2]
    rows = samples.astype(">u2" if depth == 16 else np.uint8).reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


@pytest.fixture(scope="module")
def files(photo, encoded) -> dict[str, bytes]:
    """Give one file of every way through the decoders, 90 high and 120 wide."""
    veil = photo.convert("RGBA")
    ramp = np.arange(90 * 120, dtype=np.uint32).reshape(90, 120) % 256
    veil.putalpha(Image.fromarray(ramp.astype(np.uint8)))
    return {
        "JPEG": encoded(photo, "JPEG", quality=92),
        "4:4:4": encoded(photo, "JPEG", subsampling="4:4:4"),
        "progressive": encoded(photo, "JPEG", progressive=True),
        "grey JPEG": encoded(photo.convert("L"), "JPEG"),
        "CMYK JPEG": encoded(photo.convert("CMYK"), "JPEG"),
        "PNG": encoded(photo, "PNG"),
        "grey PNG": encoded(photo.convert("L"), "PNG"),
        "1-bit PNG": encoded(photo.convert("1"), "PNG"),
        "palette PNG": encoded(photo.quantize(32), "PNG"),
        "RGBA PNG": encoded(veil, "PNG"),
        "LA PNG": encoded(veil.convert("LA"), "PNG"),
        "WEBP": encoded(photo, "WEBP"),
        "RGBA WEBP": encoded(veil, "WEBP", lossless=True, exact=True),
        "TIFF": encoded(photo, "TIFF", compression="tiff_lzw"),
        "grey TIFF": encoded(photo.convert("L"), "TIFF"),
        "RGBA TIFF": encoded(veil, "TIFF"),
        "GIF": encoded(photo, "GIF"),
        "BMP": encoded(photo, "BMP"),
        "grey BMP": encoded(photo.convert("L"), "BMP"),
        "JPEG2000": encoded(photo, "JPEG2000"),
    }


NAMES = [
    *("JPEG", "4:4:4", "progressive", "grey JPEG", "CMYK JPEG"),
    *("PNG", "grey PNG", "1-bit PNG", "palette PNG", "RGBA PNG", "LA PNG"),
    *("WEBP", "RGBA WEBP", "TIFF", "grey TIFF", "RGBA TIFF"),
    *("GIF", "BMP", "grey BMP", "JPEG2000"),
]


@pytest.fixture(params=[1, 7, 16, 64])
def strip_rows(request, monkeypatch) -> int:
    """Read strips of this many rows, however long a row is."""
    monkeypatch.setattr(strips_file, "_STRIP_BYTES", 2**40)
    monkeypatch.setattr(strips_file, "_MAX_ROWS", request.param)
    return request.param


@pytest.fixture
def piecemeal(monkeypatch) -> None:
    """Read small files piece by piece too, as if no model took them."""

    def open_large(source, **options):
        return open_source(source, **{**options, "at_once": 0})

    monkeypatch.setattr(sources, "_READ_AT_ONCE", 0)
    monkeypatch.setattr(sys.modules["qwenvl_prep.prepare"], "open_source", open_large)


# Whatever it is, it is resized.
SMALL = {"max_tokens": 6}


def count_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc"
)


# ---------------------------------------------------------------------- strip heights


@pytest.mark.usefixtures("strip_rows")
@pytest.mark.parametrize("name", NAMES)
def test_every_strip_height_gives_pillows_pixels(files, name):
    """Whole and resized, in strips of 1, 7, 16 and 64 rows: always Pillow's bytes."""
    picture = opened(files[name])
    assert np.array_equal(decoded(files[name]), stated(picture))
    for size in SIZES[:2]:
        assert np.array_equal(decoded(files[name], size=size), stated(picture, size))


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_sixteen_bits_are_read_in_strips(samples, strip_rows):
    """Of 16-bit samples, the high byte is resized, for each kind of PNG."""
    rng = np.random.default_rng(strip_rows)
    deep = rng.integers(0, 65_536, (90, 120, samples), dtype=np.uint16)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[samples]
    high = (deep >> 8).astype(np.uint8)
    picture = Image.fromarray(high[:, :, 0] if samples == 1 else high, mode)
    data = png_of(deep, {1: 0, 2: 4, 3: 2, 4: 6}[samples], 16)
    for size in (None, (80, 40), (20, 110)):
        assert np.array_equal(decoded(data, size=size), stated(picture, size))


@pytest.mark.usefixtures("strip_rows")
@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "RGB", "RGBA", "RGBa"])
def test_images_and_arrays_are_read_in_strips(photo, mode):
    """A Pillow image of any mode, and the array of it, give what Pillow says."""
    image = (
        photo.quantize(32)
        if mode == "P"
        else photo.convert("RGBA").convert({"La": "LA", "RGBa": "RGBA"}.get(mode, mode))
    )
    expected = image
    image = image.convert(mode) if mode in {"La", "RGBa"} else image
    for size in (None, *SIZES[:2]):
        given = decode_pixels(image, probe(image), size=size).rgb
        assert np.array_equal(given, stated(expected, size))
        if mode in {"L", "RGB", "RGBA"}:
            array = np.asarray(image)
            given = decode_pixels(array, probe(array), size=size).rgb
            assert np.array_equal(given, stated(expected, size))


def test_strips_stay_in_the_cache():
    """Prove the height of strips: 384 KiB, whole blocks of 16, at most 64, one row."""
    assert next(strips_file.strips(14_000, 60_000)) == (0, 6)
    assert next(strips_file.strips(3_000, 24_000)) == (0, 16)
    assert next(strips_file.strips(3_000, 12_000)) == (0, 32)
    assert list(strips_file.strips(100, 30)) == [(0, 64), (64, 36)]
    assert list(strips_file.strips(2, 2**30)) == [(0, 1), (1, 1)]


# ------------------------------------------------------------- turning and both orders


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_turned_and_resized_in_either_order(photo, encoded, file_format, orientation):
    """What is stored sideways is resized as if it had been turned upright first."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo, file_format, exif=exif)
    picture = opened(data)
    height, width = (90, 120) if orientation < 5 else (120, 90)
    sizes = [size if orientation < 5 else size[::-1] for size in SIZES]
    orders = {resample.is_height_first(height, width, *size) for size in sizes}
    assert orders == {True, False}
    assert np.array_equal(decoded(data), stated(picture))
    for size in sizes:
        given = decoded(data, size=size)
        assert given.flags.c_contiguous
        assert np.array_equal(given, stated(picture, size))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_grey_and_transparent_pictures_are_turned_too(
    photo, encoded, mode, orientation
):
    """Grey is resized as one channel, alpha is gone before: the bytes are the same."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = photo.convert(mode)
    if mode == "RGBA":
        image.putalpha(photo.getchannel("G"))
    data = encoded(image, "PNG", exif=exif)
    for size in ((70, 60), (15, 80), (88, 12)):
        assert np.array_equal(decoded(data, size=size), stated(opened(data), size))


# ---------------------------------------------------------------------------- no copies


def test_contiguous_arrays_are_not_copied(photo):
    """An RGB array that needs nothing done is viewed; any other is brought to RGB."""
    array = np.asarray(photo)
    info = probe(array)
    assert np.shares_memory(decode_pixels(array, info).data, array)
    for other in (array[::-1], array[:, ::-1], array[:, :, ::-1], array[::2]):
        given = decode_pixels(other, probe(other)).data
        assert given.flags.c_contiguous
        assert np.array_equal(given, other)


def test_strips_are_what_the_decoder_wrote(files):
    """RGB strips are views of the fetched buffers, not copies of them."""
    data = files["PNG"]
    for strip in vips_strips(data, probe_file(data)):
        assert strip.dtype == np.uint8
        assert not strip.flags.owndata


def test_proof_keeps_no_pixel(files, monkeypatch):
    """Where only the proof is wanted, no picture is collected."""

    def refuse(*_):
        raise AssertionError("pixels were collected")

    monkeypatch.setattr(decode, "collect", refuse)
    for name in ("PNG", "progressive", "WEBP", "BMP"):
        data = files[name]
        assert prove(data, probe_file(data)) is None
        assert prepare(data).data == data
        with pytest.raises(DamagedImageError):
            prove(data[: len(data) // 2], probe_file(data))


# ------------------------------------------------------------------------------ damage


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "RGBA TIFF"])
def test_wrong_size_is_refused_before_a_row_is_fed(files, name, monkeypatch):
    """A decoder that finds another size than the header said writes nowhere."""

    def refuse(*_, **__):
        raise AssertionError("rows were resized")

    monkeypatch.setattr(pixels, "Resizer", refuse)
    info = probe_file(files[name])
    other = dataclasses.replace(info, height=info.height + 1)
    for size in (None, (45, 60)):
        with pytest.raises(DamagedImageError, match="91 × 120 pixels") as caught:
            decode.decode(files[name], other, size=size)
        assert caught.value.format == info.format


def test_second_attempt_starts_anew(files, monkeypatch):
    """Rows of an attempt that failed midway do not stand before those of the next."""
    data = files["JPEG"]
    junky = data[:2] + b"\x00\x7f" + data[2:]
    attempts = []

    def failing_once(file, info, **_):
        attempts.append(file)
        for number, strip in enumerate(vips_strips(data, info)):
            if len(attempts) == 1 and number == 3:
                raise DamagedImageError("midway", format="JPEG")
            yield strip

    monkeypatch.setattr(decode, "vips_strips", failing_once)
    monkeypatch.setattr(strips_file, "_MAX_ROWS", 8)
    for size in (None, (80, 40)):
        attempts.clear()
        given = decode.decode(junky, probe_file(data), size=size).data
        assert np.array_equal(given, stated(opened(data), size))
        assert attempts == [junky, data]


def test_clean_jpeg_is_not_tried_twice(files, monkeypatch):
    """A damaged JPEG without junk is refused after one attempt."""
    attempts = []

    def failing(file, *_, **__):
        attempts.append(file)
        raise DamagedImageError("at once", format="JPEG")
        yield

    monkeypatch.setattr(decode, "vips_strips", failing)
    with pytest.raises(DamagedImageError, match="at once"):
        decoded(files["JPEG"])
    assert len(attempts) == 1


def test_kinds_of_samples_without_one_meaning_are_refused(files):
    """Signed samples, and more than 8 bits in a JPEG, are not guessed at."""
    pyvips = pytest.importorskip("pyvips")
    signed = pyvips.Image.black(120, 90).cast("short").tiffsave_buffer()
    with pytest.raises(UnsupportedFormatError, match="kind short"):
        decoded(signed)
    info = dataclasses.replace(probe_file(files["JPEG"]), bit_depth=12)
    with pytest.raises(UnsupportedFormatError, match="has 12"):
        decode.decode(files["JPEG"], info)


def frames_of(error: BaseException) -> list:
    """Give all local values that an error's tracebacks keep alive."""
    values = []
    while error is not None:
        link = error.__traceback__
        while link is not None:
            if "qwenvl_prep" in link.tb_frame.f_code.co_filename:
                values += link.tb_frame.f_locals.values()
            link = link.tb_next
        error = error.__cause__ or error.__context__
    return values


@pytest.mark.parametrize("kind", ["cut", "other size", "no reading", "abandoned"])
def test_errors_and_ends_hold_no_objects_of_libvips(files, kind, monkeypatch):
    """Left to a garbage collection, they once made glib abort the process."""
    pyvips = pytest.importorskip("pyvips")
    data = files["PNG"]
    info = probe_file(data)
    file = data
    if kind == "cut":
        file = data[: len(data) // 2]
    elif kind == "other size":
        info = dataclasses.replace(info, width=info.width + 1)
    elif kind == "no reading":
        file = Unreadable(data)

    def objects() -> int:
        return sum(isinstance(one, pyvips.GObject) for one in gc.get_objects())

    gc.collect()
    before = objects()
    gc.disable()
    try:
        if kind == "abandoned":
            monkeypatch.setattr(strips_file, "_MAX_ROWS", 8)
            rows = vips_strips(file, info)
            next(rows)
            assert objects() > before
            del rows
        else:
            with pytest.raises(QwenVLPrepError) as caught:
                decode.decode(file, info)
            held = frames_of(caught.value)
            assert not any(isinstance(one, pyvips.GObject) for one in held)
        assert objects() == before
    finally:
        gc.enable()


# ------------------------------------------------------------------ large files


class InMemory:
    """A large file whose bytes are in memory, for what goes wrong while reading."""

    name = "memory"

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        """Give what there is from *offset* on."""
        return self.data[offset : offset + length]

    def read(self) -> bytes:
        """Give all of it."""
        return self.data


class Unreadable(InMemory):
    """A file whose disk fails behind the first bytes."""

    failure: BaseException = SourceError("Reading memory failed: Input/output error")

    def read_at(self, offset: int, length: int) -> bytes:
        """Give the beginning, and fail at the rest."""
        if offset > 1_000:
            raise self.failure
        return super().read_at(offset, min(length, 1_001 - offset))


@pytest.mark.usefixtures("piecemeal")
@pytest.mark.parametrize("name", NAMES)
def test_files_read_piece_by_piece_give_the_same(files, name, tmp_path):
    """A path that is read through its descriptor gives the pixels of its bytes."""
    path = tmp_path / "picture"
    path.write_bytes(files[name])
    for size in (None, *SIZES[:2]):
        with open_source(as_source(path)) as file:
            assert isinstance(file, LargeFile)
            info = probe_file(file)
            assert info == probe_file(files[name])
            given = decode.decode(file, info, size=size).rgb
        assert np.array_equal(given, decoded(files[name], size=size))


@pytest.mark.usefixtures("piecemeal")
@pytest.mark.parametrize("name", NAMES)
def test_preparing_piece_by_piece_gives_the_same(files, name, tmp_path):
    """The whole line gives the same bytes, whichever way the file is read."""
    path = tmp_path / "picture"
    path.write_bytes(files[name])
    for encoding in ("auto", "png"):
        piecemeal = prepare(path, encoding=encoding, **SMALL)
        assert piecemeal.data == prepare(files[name], encoding=encoding, **SMALL).data


def test_what_may_be_sent_is_read_at_once(files, tmp_path, monkeypatch):
    """However little is read at once, kept bytes are those that were validated."""
    monkeypatch.setattr(sources, "_READ_AT_ONCE", 0)
    path = tmp_path / "picture.png"
    path.write_bytes(files["PNG"])
    limit = get_model("qwen-vl-max").max_file_bytes
    with open_source(as_source(path), at_once=limit) as file:
        assert file == files["PNG"]
    assert prepare(path).data == files["PNG"]


@needs_proc
@pytest.mark.usefixtures("piecemeal")
@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_refused_piece_by_piece(files, name, tmp_path):
    """Cut anywhere, a file is refused as its bytes are, and no descriptor stays."""
    path = tmp_path / "picture"
    path.write_bytes(files[name])
    prepare(path, **SMALL)
    before = count_descriptors()
    gc.disable()
    try:
        for tenth in range(1, 10):
            cut = files[name][: len(files[name]) * tenth // 10]
            path.write_bytes(cut)
            outcomes = []
            for source in (path, cut):
                try:
                    prepared = prepare(source, **SMALL)
                    outcomes.append(prepared.data)
                except DamagedImageError as exc:
                    outcomes.append(exc.format)
            assert outcomes[0] == outcomes[1]
        path.write_bytes(files[name])
        prepare(path, **SMALL)
        assert count_descriptors() == before
    finally:
        gc.enable()


@pytest.mark.usefixtures("piecemeal")
def test_junk_is_mended_piece_by_piece(files, tmp_path):
    """A JPEG with junk between its segments is read a second time, without it."""
    data = files["JPEG"]
    at = data.index(b"\xff\xdb")
    path = tmp_path / "junky.jpg"
    path.write_bytes(data[:at] + b"\x00\x7f" + data[at:])
    assert prepare(path, **SMALL).data == prepare(data, **SMALL).data


@needs_proc
@pytest.mark.usefixtures("piecemeal")
@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
@pytest.mark.parametrize("change", ["shortened", "written", "replaced", "deleted"])
def test_file_that_changes_is_noticed(
    name, change, tmp_path, photo, encoded, monkeypatch
):
    """Shortened or written to while it is read, a file is refused; a new one under
    its name is never seen. A mapped file would have ended the process by a signal.
    """
    noise = np.random.default_rng(4).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), name)
    path = tmp_path / "picture"
    path.write_bytes(data)
    os.utime(path, (1, 1))
    other = tmp_path / "other"
    other.write_bytes(encoded(photo, name))
    expected = prepare(data, **SMALL).data
    before = count_descriptors()
    read_at = LargeFile.read_at

    def changing(self, offset, length):
        if offset > 1_000 and path.exists() and path.stat().st_size == len(data):
            if change == "shortened":
                os.truncate(path, offset // 2)
            elif change == "written":
                with path.open("r+b") as file:
                    file.seek(len(data) // 2)
                    file.write(b"\xff\xd9" * 50)
            elif change == "replaced":
                other.replace(path)
            else:
                path.unlink()
        return read_at(self, offset, min(length, 4_096))

    monkeypatch.setattr(LargeFile, "read_at", changing)
    if change in {"replaced", "deleted"}:
        assert prepare(path, **SMALL).data == expected
    else:
        with pytest.raises(SourceError, match="changed while it was read"):
            prepare(path, **SMALL)
    assert count_descriptors() == before


def test_failing_disk_is_not_called_damage(files):
    """An error while libvips reads comes out as it is, not as a broken picture."""
    for name in ("JPEG", "PNG", "TIFF"):
        with pytest.raises(SourceError, match="Input/output error"):
            decode.decode(Unreadable(files[name]), probe_file(files[name]))


def test_interrupt_while_reading_comes_out(files):
    """Ctrl-C inside libvips' read is not lost in C."""
    file = Unreadable(files["PNG"])
    file.failure = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        decode.decode(file, probe_file(files["PNG"]))


def test_seeks_that_make_no_sense_are_damage(files):
    """A TIFF that points before its own beginning or far behind its end is damaged."""
    data = files["TIFF"]
    for offset in (0xFFFFFFFF, 0x7FFFFFFF, len(data)):
        broken = bytearray(data)
        at = broken.index(struct.pack("<HH", 273, 4))
        broken[at + 8 : at + 12] = struct.pack("<I", offset)
        with pytest.raises(DamagedImageError):
            decode.decode(InMemory(bytes(broken)), probe_file(data))
    feed = decode_vips._Feed(InMemory(data))
    with feed:
        assert feed._seek(-1, os.SEEK_SET) == -1
        assert feed._seek(-4, os.SEEK_END) == len(data) - 4
        assert feed._seek(1, os.SEEK_CUR) == len(data) - 3
        assert len(feed._read(100)) == 3
        assert feed._seek(2**62, os.SEEK_SET) == 2**62
        assert feed._read(100) is None


@pytest.mark.usefixtures("piecemeal")
def test_threads_read_the_same_file(files, tmp_path):
    """Eight threads, each with a descriptor of its own, do not move one another."""
    path = tmp_path / "picture.jpg"
    path.write_bytes(files["JPEG"])
    expected = prepare(files["JPEG"], **SMALL).data
    given = []

    def work() -> None:
        given.extend(prepare(path, **SMALL).data for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert given == [expected] * 80


# -------------------------------------------------------------------- very large ones


def announcing(data: bytes, height: int, width: int) -> bytes:
    """Let a JPEG announce another size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def test_lying_giant_is_refused_without_its_memory(files):
    """A small JPEG that announces a gigapixel is damaged, and room is made for it
    nowhere.
    """
    giant = announcing(files["JPEG"], 20_000, 50_000)
    with pytest.raises(DamagedImageError):
        prepare(giant)
    with pytest.raises(DecodeLimitError) as caught:
        decode.decode(giant, probe_file(giant))
    assert caught.value.limit_name == "max_pixels"


@pytest.fixture(scope="module")
def large_files(tmp_path_factory) -> dict[str, Path]:
    """Give pictures of 90 megapixels, of which one alone would take 257 MiB."""
    pyvips = pytest.importorskip("pyvips")
    rng = np.random.default_rng(11)
    coarse = rng.integers(0, 256, (60, 75, 3), dtype=np.uint8)
    tile = Image.fromarray(coarse).resize((1_250, 1_000), BICUBIC)
    grain = rng.normal(0, 4, (1_000, 1_250, 1))
    pixels = np.clip(np.asarray(tile) + grain, 0, 255).astype(np.uint8)
    picture = pyvips.Image.new_from_array(pixels).replicate(8, 9)
    folder = tmp_path_factory.mktemp("large")
    picture.jpegsave(folder / "large.jpg", Q=92)
    picture.extract_band(1).tiffsave(folder / "large.tif")
    return {"JPEG": folder / "large.jpg", "TIFF": folder / "large.tif"}


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from /proc"
)
@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
def test_large_pictures_are_never_held_whole(large_files, name):
    """Prove in a fresh process that 90 megapixels are prepared in less than half of
    the memory that their pixels would take.
    """
    path = large_files[name]
    assert path.stat().st_size > sources._READ_AT_ONCE
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    finished = subprocess.run(
        [sys.executable, str(SCRIPT), str(path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    assert int(finished.stdout) <= 128 * 1_024


@pytest.mark.parametrize("compression", ["deflate", "lzw"])
def test_a_tile_that_cannot_be_decoded_is_damage(photo, compression):
    """
    Prove that a TIFF's broken tile is refused.

    libvips only warns of it, and gave black or half a tile.
    """
    pixels = np.asarray(photo.resize((160, 120)))
    data = bytearray(
        pyvips.Image.new_from_array(pixels).tiffsave_buffer(
            tile=True, tile_width=64, tile_height=64, compression=compression
        )
    )
    assert np.array_equal(decoded(bytes(data)), pixels)
    refused = 0
    for at in range(100, 2_100, 100):
        broken = bytearray(data)
        broken[at] ^= 0x55
        try:
            with Image.open(io.BytesIO(broken)) as image:
                image.load()
        except OSError:
            with pytest.raises(DamagedImageError):
                decoded(bytes(broken))
            refused += 1
    assert refused > 2


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_an_error_of_the_resizer_leaves_no_object_of_libvips(
    monkeypatch, photo, encoded, error
):
    """Prove that whoever keeps such an error keeps none of libvips' objects."""

    class Failing:
        def __init__(self, *_: object, **_options: object) -> None:
            raise error

    data = encoded(photo, "PNG")
    decoded(data, size=(28, 28))
    monkeypatch.setattr(pixels, "Resizer", Failing)
    gc.collect()

    def count() -> int:
        return sum(isinstance(one, pyvips.GObject) for one in gc.get_objects())

    before = count()
    with pytest.raises(error) as caught:
        decoded(data, size=(28, 28))
    assert count() == before
    assert caught.value.__traceback__ is not None
