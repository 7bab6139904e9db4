"""Broken inputs: an error by name or a good picture, never half of one in silence."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

import qwenvl_prep as qp
from qwenvl_prep.errors import DamagedImageError, ImageError, NotAnImageError

# Each is cut at every twentieth of its length.
CUTS = range(5, 100, 5)

# On the grid below the cap, so that whole bytes would be kept; and how it is resized.
SIZE = (168, 224)
HOW = {
    "kept": {"encoding": "auto"},
    "encoded": {"encoding": "png"},
    "resized": {"encoding": "png", "max_tokens": 12},
}

# Rows of one row of blocks of a JPEG with halved chroma.
BLOCK = 16
# What libpng reads and unpacks at once.
LIBPNG_BUFFER = 8192
# The filter of the resizer reaches so many rows of the small picture.
REACH = 3


@pytest.fixture(scope="module")
def large():
    """Give a picture whose rows all differ, and compress badly enough to be cut."""
    rng = np.random.default_rng(17)
    coarse = rng.integers(0, 256, (21, 28, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize(SIZE[::-1], Image.Resampling.BICUBIC)
    noise = rng.integers(-9, 10, (*SIZE, 3))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def whole_files(large, saved):
    """Give one whole file of each kind."""
    return {
        "JPEG": saved(large, "JPEG", quality=90),
        "JPEG with restarts": saved(large, "JPEG", quality=90, restart_marker_rows=1),
        "grey JPEG": saved(large[:, :, 0].copy(), "JPEG", quality=90),
        "progressive JPEG": saved(large, "JPEG", quality=90, progressive=True),
        "PNG": saved(large, "PNG"),
        "interlaced PNG": interlaced(large),
        "palette PNG": saved(Image.fromarray(large).quantize(64), "PNG"),
        "RGBA PNG": saved(np.dstack([large, large[:, :, 0] | 128]), "PNG"),
        "lossy WEBP": saved(large, "WEBP", quality=90),
        "lossless WEBP": saved(large, "WEBP", lossless=True),
        "GIF": saved(Image.fromarray(large).quantize(64), "GIF"),
        "TIFF": saved(large, "TIFF"),
        "LZW TIFF": saved(large, "TIFF", compression="tiff_lzw"),
    }


KINDS = [
    *("JPEG", "JPEG with restarts", "grey JPEG", "progressive JPEG"),
    *("PNG", "interlaced PNG", "palette PNG", "RGBA PNG"),
    *("lossy WEBP", "lossless WEBP", "GIF", "TIFF", "LZW TIFF"),
]


def chunk(name: bytes, body: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + check


def interlaced(rgb) -> bytes:
    """Write a PNG in Adam7's seven passes, which Pillow reads but does not write."""
    height, width = rgb.shape[:2]
    rows = b"".join(
        b"\0" + row.tobytes()
        for y, x, down, right in (
            *((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)),
            *((2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)),
        )
        for row in rgb[y::down, x::right]
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def cut(data: bytes, percent: int) -> bytes:
    return data[: len(data) * percent // 100]


def pixels_of(prepared, opened):
    return np.asarray(opened(prepared.data).convert("RGB"))


# ----------------------------------------------------------------------- by default


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", KINDS)
def test_cut_off_is_damaged(kind, how, whole_files, opened):
    """At every cut the file is damaged by name, unless not one pixel is missing."""
    data = whole_files[kind]
    whole = pixels_of(qp.prepare(data, **HOW[how]), opened)
    for percent in CUTS:
        try:
            prepared = qp.prepare(cut(data, percent), **HOW[how])
        except DamagedImageError:
            continue
        assert np.array_equal(pixels_of(prepared, opened), whole), percent


@pytest.mark.parametrize("kind", KINDS)
def test_error_is_the_default(kind, whole_files):
    """Saying on_truncated="error" is the same as saying nothing."""
    half = cut(whole_files[kind], 50)
    with pytest.raises(DamagedImageError) as unsaid:
        qp.prepare(half)
    with pytest.raises(DamagedImageError) as said:
        qp.prepare(half, on_truncated="error")
    assert str(said.value) == str(unsaid.value)


def test_a_wrong_setting_is_refused(whole_files):
    """There are two settings, and a third is a mistake of the caller."""
    with pytest.raises(ValueError, match="on_truncated"):
        qp.prepare(whole_files["PNG"], on_truncated="ignore")


# ------------------------------------------------------------------------ on demand


def rows_of_png(part: bytes) -> int:
    """Count the rows whose every byte has arrived, by zlib alone."""
    stream, at = b"", 8
    while at + 8 <= len(part):
        (length,), name = struct.unpack_from(">I", part, at), part[at + 4 : at + 8]
        if name == b"IDAT":
            stream += part[at + 8 : at + 8 + length]
        at += 12 + length
    return len(zlib.decompressobj().decompress(stream)) // (1 + 3 * SIZE[1])


def rows_of_jpeg(part: bytes) -> int:
    """Count the rows of blocks that have arrived, by the markers between them."""
    restarts = sum(part.count(bytes((0xFF, 0xD0 + number))) for number in range(8))
    return BLOCK * restarts


def told_of_a_cut(prepared) -> bool:
    return sum(words.startswith("cut off") for words in prepared.changes) == 1


def at_least(data: bytes, part: bytes, kind: str) -> int:
    """
    Give rows that any decoder has handed out before it met the cut.

    libjpeg loses a row of blocks, and the rows that its smooth chroma needs of it;
    libpng does not unpack a buffer that it could not fill.  A strip may go with them.
    """
    lost = 0 if "JPEG" in kind else LIBPNG_BUFFER
    arrived = max(len(part) - lost, 0) * SIZE[0] // len(data)
    return max(arrived - 3 * BLOCK, 0)


@pytest.mark.parametrize("background", ["white", "black"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG with restarts"])
def test_what_arrived_is_accepted(kind, background, whole_files, opened):
    """Rows that arrived are those of the whole; the rest is background, and told."""
    data = whole_files[kind]
    whole = pixels_of(qp.prepare(data, encoding="png"), opened)
    colour, accepted = {"white": 255, "black": 0}[background], 0
    for percent in CUTS:
        part = cut(data, percent)
        if kind == "PNG":
            least, most = rows_of_png(part[:-LIBPNG_BUFFER]), rows_of_png(part)
        else:
            least = most = rows_of_jpeg(part)
        try:
            prepared = qp.prepare(
                part, encoding="png", on_truncated="accept", background=background
            )
        except DamagedImageError:
            assert least < 2 * BLOCK, percent
            continue
        accepted += 1
        pixels = pixels_of(prepared, opened)
        assert pixels.shape == whole.shape
        above, below = max(least - BLOCK, 0), most + 2 * BLOCK
        assert np.array_equal(pixels[:above], whole[:above]), percent
        assert (pixels[below:] == colour).all(), percent
        assert told_of_a_cut(prepared)
    assert accepted >= 14


@pytest.mark.parametrize("kind", ["JPEG", "grey JPEG", "palette PNG", "RGBA PNG"])
def test_accepted_rows_end_once(kind, whole_files, opened):
    """Above one row all is the whole's, below another nothing but background."""
    data = whole_files[kind]
    whole = pixels_of(qp.prepare(data, encoding="png"), opened)
    ends = []
    for percent in range(50, 100, 10):
        part = cut(data, percent)
        prepared = qp.prepare(part, encoding="png", on_truncated="accept")
        pixels = pixels_of(prepared, opened)
        assert pixels.shape == whole.shape
        differs = np.flatnonzero((pixels != whole).any(axis=(1, 2)))
        assert told_of_a_cut(prepared)
        assert differs.size
        ends.append(int(differs[0]))
        assert ends[-1] >= at_least(data, part, kind), percent
        assert (pixels[ends[-1] + 2 * BLOCK :] == 255).all(), percent
    assert ends == sorted(ends)


@pytest.mark.parametrize("kind", ["PNG", "JPEG with restarts", "JPEG", "RGBA PNG"])
def test_accepted_rows_are_resized(kind, whole_files, opened):
    """A resized picture keeps the size of the whole, and its rows above the cut."""
    data = whole_files[kind]
    small = qp.prepare(data, **HOW["resized"])
    whole = pixels_of(small, opened)
    for percent in range(50, 100, 10):
        part = cut(data, percent)
        prepared = qp.prepare(part, **HOW["resized"], on_truncated="accept")
        pixels = pixels_of(prepared, opened)
        assert (prepared.tokens, pixels.shape) == (small.tokens, whole.shape)
        assert told_of_a_cut(prepared)
        end = int(np.flatnonzero((pixels != whole).any(axis=(1, 2)))[0])
        least = at_least(data, part, kind) * len(whole) // SIZE[0]
        assert end >= least - REACH, percent
        assert (pixels[end + 2 * REACH + BLOCK :] == 255).all(), percent


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("kind", KINDS)
def test_accepting_is_never_silent(kind, how, whole_files, opened):
    """Of any type, what is accepted is whole, or told to be cut off, or refused."""
    data = whole_files[kind]
    whole = pixels_of(qp.prepare(data, **HOW[how]), opened)
    for percent in (*CUTS, 99):
        part = cut(data, percent)
        try:
            prepared = qp.prepare(part, **HOW[how], on_truncated="accept")
        except DamagedImageError:
            continue
        pixels = pixels_of(prepared, opened)
        assert pixels.shape == whole.shape
        if not told_of_a_cut(prepared):
            assert np.array_equal(pixels, whole), percent
        # What goes out is whole itself.
        assert prepared.data != part
        qp.prepare(prepared.data)


@pytest.mark.parametrize("kind", KINDS)
def test_accepting_changes_nothing_of_whole_files(kind, whole_files):
    """A whole file is prepared alike under both settings."""
    data = whole_files[kind]
    strict, lenient = qp.prepare(data), qp.prepare(data, on_truncated="accept")
    assert strict.data == lenient.data
    assert strict.changes == lenient.changes


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("filling", [0x00, 0x5A])
@pytest.mark.parametrize("kind", ["PNG", "JPEG with restarts", "progressive JPEG"])
def test_an_overwritten_middle_is_damaged(kind, filling, how, whole_files):
    """
    A part that was overwritten is noticed where the format gives a means to.

    In a JPEG of one scan without restart markers any bytes are code for something,
    and nobody can tell.
    """
    data = whole_files[kind]
    third = len(data) // 3
    broken = data[:third] + bytes([filling]) * third + data[2 * third :]
    with pytest.raises(DamagedImageError):
        qp.prepare(broken, **HOW[how])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "JPEG with restarts"])
def test_an_overwritten_end_is_damaged(kind, whole_files):
    """A tail of zeros is damage, even where the last bytes are the right ones."""
    data = whole_files[kind]
    half = len(data) // 2
    broken = data[:half] + bytes(len(data) - half - 16) + data[-16:]
    for how in HOW.values():
        with pytest.raises(DamagedImageError):
            qp.prepare(broken, **how)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_accepting_an_overwritten_middle_is_told(kind, whole_files, opened):
    """What is not cut off but broken may be accepted up to there, and told so."""
    data = whole_files[kind]
    half = len(data) // 2
    broken = data[:half] + bytes(len(data) - half - 16) + data[-16:]
    try:
        prepared = qp.prepare(broken, on_truncated="accept", encoding="png")
    except DamagedImageError:
        return
    assert told_of_a_cut(prepared)
    assert pixels_of(prepared, opened).shape == (*SIZE, 3)


def test_accepting_sets_nothing_for_the_process(whole_files):
    """Pillow's own switch for cut files belongs to the process, and stays as it is."""
    half = cut(whole_files["PNG"], 50)
    qp.prepare(half, on_truncated="accept")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    with pytest.raises(DamagedImageError):
        qp.prepare(half)


# ------------------------------------------------------------- names, emptiness, lies


WRONG = {
    ".jpg": ("PNG", "image/png"),
    ".png": ("JPEG", "image/jpeg"),
    ".gif": ("WEBP", "image/webp"),
    ".webp": ("TIFF", "image/tiff"),
    ".tif": ("BMP", "image/bmp"),
    ".bmp": ("PNG", "image/png"),
}


@pytest.mark.parametrize("suffix", WRONG)
def test_a_wrong_suffix_warns_and_is_mended(suffix, large, saved, tmp_path):
    """The label is that of the content, and the misleading name is told of."""
    file_format, media_type = WRONG[suffix]
    path = tmp_path / f"picture{suffix}"
    path.write_bytes(saved(large, file_format))
    prepared = qp.prepare(path)
    assert prepared.media_type == media_type
    assert prepared.data_uri.startswith(f"data:{media_type};base64,")
    assert "suffix-mismatch" in [finding.code for finding in prepared.warnings]
    assert qp.probe(prepared.data).media_type == media_type


@pytest.mark.parametrize("suffix", ["", ".jpg", ".png", ".webp"])
@pytest.mark.parametrize("length", [0, 1, 3, 11])
def test_next_to_nothing_is_an_error_by_name(suffix, length, tmp_path):
    """No bytes, and too few to tell a type, are refused and never an IndexError."""
    path = tmp_path / f"empty{suffix}"
    path.write_bytes(bytes(length))
    for given in (path, bytes(length)):
        with pytest.raises(NotAnImageError):
            qp.prepare(given)
        with pytest.raises(NotAnImageError):
            qp.count_tokens(given)


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_behind_a_header_are_damaged(kind, whole_files):
    """A download that was reserved but never filled is not a black picture."""
    data = whole_files[kind]
    for percent in (10, 50, 90):
        kept = len(data) * percent // 100
        filled = data[:kept] + bytes(len(data) - kept)
        if kind in {"TIFF", "lossless WEBP", "lossy WEBP", "GIF"}:
            # Zeros may be code there, or pixels: an error of ours is all there is.
            with suppress(qp.QwenVLPrepError):
                qp.prepare(filled)
            continue
        with pytest.raises(DamagedImageError):
            qp.prepare(filled)


# ----------------------------------------------------------------------------- bombs


def bombs() -> dict[str, bytes]:
    """Give headers of a gigapixel and more, each with next to nothing behind it."""
    rows = zlib.compress(bytes(200_000), 9)

    def png(height, width, colour_type=2, depth=8, interlace=0):
        sizes = (width, height, depth, colour_type, 0, 0, interlace)
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", *sizes))
        end = chunk(b"IDAT", rows) + chunk(b"IEND", b"")
        return b"\x89PNG\r\n\x1a\n" + header + end

    def jpeg(height, width, frame=0xC0):
        tables = b"\xff\xdb\0\x43\0" + bytes([1] * 64)
        tables += b"\xff\xc4\0\x14\0" + bytes([1] + [0] * 15) + b"\0"
        tables += b"\xff\xc4\0\x14\x10" + bytes([1] + [0] * 15) + b"\0"
        start = struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0"
        scan = b"\xff\xda\0\x08\1\1\0" + (b"\0\0\0" if frame == 0xC2 else b"\0\x3f\0")
        return (
            *(b"\xff\xd8", tables, bytes((0xFF, frame))),
            *(struct.pack(">H", 2 + len(start)), start, scan, bytes(2000), b"\xff\xd9"),
        )

    def tiff(height, width, bands=3, strip=None, compression=1):
        fields = [
            *((256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, compression)),
            *((262, 3, 2 if bands >= 3 else 1), (273, 4, 200), (277, 3, bands)),
            *((278, 4, strip or height), (279, 4, 2000)),
        ]
        table = b"".join(
            struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in fields
        )
        head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(fields)) + table + bytes(4)
        return head.ljust(200, b"\0") + bytes(2000)

    def webp(height, width):
        canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + canvas
        lossless = b"VP8L" + struct.pack("<I", 16) + b"\x2f" + bytes(15)
        body = b"WEBP" + extended + lossless
        return b"RIFF" + struct.pack("<I", len(body)) + body

    def vp8l(height, width):
        bits = (width - 1) | (height - 1) << 14
        stream = b"\x2f" + struct.pack("<I", bits) + bytes(200)
        body = b"WEBPVP8L" + struct.pack("<I", len(stream)) + stream
        return b"RIFF" + struct.pack("<I", len(body) + len(body) % 2) + body

    def bmp(height, width, bits, compression=0):
        head = struct.pack(
            "<IiiHHIIiiII", 40, width, height, 1, bits, compression, 0, 0, 0, 0, 0
        )
        return b"BM" + struct.pack("<IHHI", 2054, 0, 0, 54) + head + bytes(2000)

    gif = b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0x80, 0, 0) + bytes(6)
    gif += b"," + struct.pack("<HHHHB", 0, 0, 65_535, 65_535, 0)
    return {
        "PNG": png(32_768, 32_768),
        "PNG below what is streamed": png(31_000, 31_000),
        "interlaced PNG": png(32_768, 32_768, interlace=1),
        "deep interlaced PNG": png(9_000, 9_000, colour_type=6, depth=16, interlace=1),
        "palette PNG": png(65_536, 65_536, colour_type=3),
        "1-bit PNG": png(32_768, 32_768, colour_type=0, depth=1),
        "PNG of the longest sides": png(2**31 - 1, 2**31 - 1),
        "long PNG": png(190_000, 1_000),
        "JPEG": b"".join(jpeg(65_500, 65_500)),
        "JPEG below what is streamed": b"".join(jpeg(31_000, 31_000)),
        "progressive JPEG": b"".join(jpeg(32_768, 32_768, 0xC2)),
        "TIFF": tiff(32_768, 32_768),
        "TIFF below what is streamed": tiff(31_000, 31_000),
        "TIFF in strips": tiff(32_768, 32_768, strip=1),
        "TIFF of many bands": tiff(6_000, 6_000, bands=8_224),
        "packbits TIFF": tiff(32_768, 32_768, compression=32_773),
        "LZW TIFF": tiff(31_000, 31_000, compression=5),
        "GIF": gif + b"\x08" + bytes(2000) + b";",
        "WEBP": webp(32_768, 32_768),
        "WEBP of the longest sides": webp(1 << 24, 1 << 24),
        "lossless WEBP": vp8l(16_384, 16_384),
        "BMP": bmp(32_768, 32_768, 24),
        "BMP from the top": bmp(-32_768, 32_768, 32),
        "packed BMP": bmp(32_768, 32_768, 8, compression=1),
    }


BOMBS = bombs()

# Ran in a process of its own, which has already prepared a picture of each type.
PREPARE_BOMB = """
import sys, time
from pathlib import Path
import qwenvl_prep as qp

def peak():
    status = Path("/proc/self/status").read_text("ascii")
    return int(status.split("VmHWM:")[1].split()[0])

folder, options = Path(sys.argv[1]), eval(sys.argv[2])
for path in sorted((folder / "warm").iterdir()):
    qp.prepare(path, max_tokens=12)
for path in sorted((folder / "bombs").iterdir()):
    before, start = peak(), time.perf_counter()
    try:
        qp.prepare(path, **options)
    except Exception as exc:
        name = f"{type(exc).__module__}.{type(exc).__qualname__}"
    else:
        name = "nothing"
    taken = time.perf_counter() - start
    print(path.stem, name, peak() - before, f"{taken:.3f}", sep="|", flush=True)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peaks are read in /proc"
)
@pytest.mark.parametrize("options", [{}, {"encoding": "png", "max_tokens": 12}])
def test_bombs_are_refused_within_bounds(options, whole_files, tmp_path):
    """A gigapixel in a few KB is an error of ours, within 50 MB and two seconds."""
    for folder, files in (("bombs", BOMBS), ("warm", whole_files)):
        (tmp_path / folder).mkdir()
        for name, data in files.items():
            assert folder == "warm" or len(data) <= 4096
            (tmp_path / folder / f"{name}.bin").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", PREPARE_BOMB, str(tmp_path), repr(options)],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
        env={**os.environ, "VIPS_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split("|") for line in done.stdout.splitlines()]
    assert {row[0] for row in rows} == set(BOMBS)
    assert {row[1].rpartition(".")[0] for row in rows} == {"qwenvl_prep.errors"}, rows
    assert sum(int(row[2]) for row in rows) <= 50_000, rows
    assert max(float(row[3]) for row in rows) <= 2, rows


# Small enough to be read row by row, so that their first rows may be accepted.
STREAMED = {"long PNG", *(name for name in BOMBS if "below" in name)}


@pytest.mark.parametrize("name", sorted(set(BOMBS) - STREAMED))
def test_accepting_lifts_no_limit(name):
    """A bomb is refused where cut off files are accepted, too."""
    with pytest.raises(ImageError):
        qp.prepare(BOMBS[name], on_truncated="accept")


@pytest.mark.parametrize("name", BOMBS)
def test_counting_a_bomb_reads_its_header_alone(name):
    """Counting is arithmetic: a prediction, or an error of ours, never a decoder."""
    with suppress(ImageError):
        assert qp.count_tokens(BOMBS[name]) > 0
