"""Laws of the header reader that hold for any bytes."""

from __future__ import annotations

import io
import os
import tempfile
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from qwenvl_prep.errors import NeedMoreBytesError, QwenVLPrepError
from qwenvl_prep.geometry import billed_tokens
from qwenvl_prep.headers import HeaderReader, ImageInfo, read_header
from qwenvl_prep.plan import count_tokens
from qwenvl_prep.probe import plain_sides, probe, probe_prefix
from qwenvl_prep.profiles import get_model

BUDGET = 256 * 1024
MODEL = get_model("qwen-vl-max")

EXIF = Image.Exif()
EXIF[0x0112] = 6
XMP = b'<rdf:Description tiff:Orientation="8"/>'


def _saved(mode, file_format, **options):
    file = io.BytesIO()
    Image.new(mode, (40, 24)).save(file, file_format, **options)
    return file.getvalue()


def _animated(file_format):
    frames = [Image.new("RGB", (40, 24), colour) for colour in ("red", "blue", "lime")]
    file = io.BytesIO()
    frames[0].save(file, file_format, save_all=True, append_images=frames[1:])
    return file.getvalue()


# One of each format and of each way in which a format carries more than one picture.
VALID = {
    "jpeg": _saved("RGB", "JPEG", exif=EXIF, icc_profile=b"profile" * 20_000),
    "jpeg-xmp": _saved("L", "JPEG", xmp=XMP, progressive=True),
    "mpo": _animated("MPO"),
    "png": _saved("P", "PNG", exif=EXIF, transparency=3),
    "apng": _animated("PNG"),
    "webp": _saved("RGBA", "WEBP", exif=EXIF, xmp=XMP),
    "webp-animated": _animated("WEBP"),
    "webp-lossless": _saved("RGB", "WEBP", lossless=True),
    "tiff": _saved("RGB", "TIFF", tiffinfo={274: 6}),
    "tiff-pages": _animated("TIFF"),
    "bigtiff": _saved("L", "TIFF", big_tiff=True),
    "bmp": _saved("P", "BMP"),
    "dib": _saved("RGB", "DIB"),
    "gif": _animated("GIF"),
    "avif": _saved("RGBA", "AVIF", exif=EXIF),
    "avif-sequence": _animated("AVIF"),
    "jp2": _saved("RGBA", "JPEG2000"),
    "j2k": _saved("L", "JPEG2000", no_jp2=True),
    "sgi": _saved("RGB", "SGI"),
    "ico": _saved("RGBA", "ICO", sizes=[(16, 16), (32, 32)]),
    "ico-bmp": _saved("RGBA", "ICO", sizes=[(16, 16)], bitmap_format="bmp"),
    "icns": _saved("RGBA", "ICNS"),
    "heic": (
        b"\0\0\0\x14ftypheic\0\0\0\0mif1\0\0\0\x7fmeta\0\0\0\0"
        b"\0\0\0\x0epitm\0\0\0\0\0\1"
        b"\0\0\0\x23iinf\0\0\0\0\0\1\0\0\0\x15infe\2\0\0\0\0\1\0\0hvc1\0"
        b"\0\0\0\x42iprp\0\0\0\x25ipco\0\0\0\x14ispe\0\0\0\0\0\0\0\x28\0\0\0\x18"
        b"\0\0\0\x09irot\1\0\0\0\x15ipma\0\0\0\0\0\0\0\1\0\1\2\1\2"
    ),
}

SIGNATURES = [
    *(data[:16] for data in VALID.values()),
    *(b"PK\3\4", b"%PDF-", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\x1f\x8b", b"<svg"),
    *(b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0AVI ", b"\0\0\2\0\1\0", b"<?xml", b"\xff\xfe"),
    *(b"II+\0", b"MM\0+", b"MM\0*", b"II\0*", b"\xff\x0a", b"\0\0\0\x18ftypavis"),
]

names = st.sampled_from(sorted(VALID))


def answer(reader: HeaderReader) -> ImageInfo | tuple[type, str]:
    """Give what the reader says; anything but an answer or our error is let out."""
    try:
        info = read_header(reader)
    except QwenVLPrepError as error:
        return type(error), str(error)
    assert info.height > 0
    assert info.width > 0
    assert 1 <= info.orientation <= 8
    assert info.n_frames >= 1
    assert info.channels >= 1
    assert info.bit_depth >= 1
    assert info.encoded_size == reader.size
    return info


def answer_from_file(data: bytes) -> tuple[ImageInfo | tuple[type, str], int]:
    """Give the answer from a file, and how many bytes were read for it."""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        reader = HeaderReader.from_fd(file.fileno(), os.fstat(file.fileno()).st_size)
        return answer(reader), reader.bytes_read


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Give a valid file with some of its bytes overwritten, inserted or removed."""
    data = bytearray(VALID[draw(names)])
    for _ in range(draw(st.integers(1, 6))):
        # Most of what a header says stands at the beginning.
        reach = draw(st.sampled_from([64, 512, len(data)]))
        at = draw(st.integers(0, min(reach, len(data))))
        piece = draw(
            st.binary(max_size=8)
            | st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"])
        )
        removed = draw(st.sampled_from([0, 1, 4, len(piece)]))
        data[at : at + removed] = piece
    return bytes(data)


@pytest.mark.parametrize("name", sorted(VALID))
def test_valid_files_are_read(name):
    """Every file that the laws start from is one that is read."""
    info = read_header(HeaderReader.from_bytes(VALID[name]))
    assert info.format.lower() in {name.split("-")[0], *ALIASES.get(name, ())}


ALIASES = {
    "mpo": ["jpeg"],
    "apng": ["png"],
    "bigtiff": ["tiff"],
    "jp2": ["jpeg2000"],
    "j2k": ["jpeg2000"],
    "heic": ["heif"],
}


@given(st.binary(max_size=400))
@example(b"")
@example(b"\xff\xd8")
@example(b"BM")
@example(b"\0\0\1\0")
def test_any_bytes_give_an_answer_or_our_error(data):
    """No bytes whatever bring out another exception."""
    answer(HeaderReader.from_bytes(data))


@given(st.sampled_from(SIGNATURES), st.binary(max_size=400))
def test_any_bytes_behind_a_signature_give_an_answer_or_our_error(start, data):
    """Nor do bytes that begin like something that is known."""
    answer(HeaderReader.from_bytes(start + data))


@given(mutated())
@settings(max_examples=600)
def test_mutated_files_give_an_answer_or_our_error(data):
    """Nor do files that were valid once."""
    answer(HeaderReader.from_bytes(data))


@given(names, st.data())
def test_truncated_files_give_an_answer_or_our_error(name, draw):
    """Nor do files that were cut off."""
    data = VALID[name]
    end = draw.draw(st.integers(0, len(data)))
    answer(HeaderReader.from_bytes(data[:end]))


@given(mutated())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_a_file_and_a_buffer_give_the_same(data):
    """Where the bytes come from changes neither the answer nor the error."""
    from_file, bytes_read = answer_from_file(data)
    assert from_file == answer(HeaderReader.from_bytes(data))
    assert bytes_read <= BUDGET


@given(mutated(), st.integers(0, 2**21))
@settings(max_examples=100)
def test_no_more_than_the_budget_is_read(data, padding):
    """However far apart a header is spread, 256 KiB of the file are the limit."""
    at = len(data) // 2
    spread = data[:at] + bytes(padding) + data[at:]
    _, bytes_read = answer_from_file(spread)
    assert bytes_read <= BUDGET


@given(names, st.integers(0, 4_096))
def test_what_follows_a_file_changes_no_side(name, padding):
    """Bytes behind the end of a picture are not part of it."""
    info = read_header(HeaderReader.from_bytes(VALID[name]))
    longer = read_header(HeaderReader.from_bytes(VALID[name] + bytes(padding)))
    assert (longer.height, longer.width) == (info.height, info.width)
    assert longer.orientation == info.orientation


@given(names)
def test_reading_twice_gives_the_same(name):
    """A reader keeps nothing that would change a second answer."""
    reader = HeaderReader.from_bytes(VALID[name])
    assert read_header(reader) == read_header(reader)


@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_a_turned_picture_costs_the_same(height, width):
    """Counting needs no orientation, for the rule is symmetric."""
    if max(height, width) <= 200 * min(height, width):
        count = billed_tokens(height, width, MODEL)
        assert billed_tokens(width, height, MODEL) == count


def counted(path) -> int | tuple[type, str]:
    """Give the count of a file, or how it is refused."""
    try:
        return count_tokens(path)
    except QwenVLPrepError as error:
        return type(error), str(error)


def counted_by_probe(path) -> int | tuple[type, str]:
    """Give the count by way of everything that the header says."""
    try:
        info = probe(path)
        return billed_tokens(info.upright_height, info.upright_width, MODEL)
    except QwenVLPrepError as error:
        return type(error), str(error)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Give a path to write to."""
    return tmp_path_factory.mktemp("counted") / "picture"


@pytest.mark.parametrize("name", sorted(VALID))
def test_valid_files_cost_what_their_header_says(name, path):
    """Every type is counted alike, and those that people send are counted fast."""
    path.write_bytes(VALID[name])
    assert counted(path) == counted(str(path)) == counted_by_probe(path)
    is_plain = name.startswith(("jpeg", "png", "apng", "webp", "bmp", "tiff"))
    is_several = name in ("webp-animated", "tiff-pages")
    assert (plain_sides(path) is not None) == (is_plain and not is_several)


@given(mutated(), st.integers(0, 3), st.data())
@settings(max_examples=500)
def test_counting_refuses_what_probing_refuses(path, data, cut, draw):
    """However a file is damaged, its count and its refusal are the header's."""
    if not cut:
        data = data[: draw.draw(st.integers(0, len(data)))]
    path.write_bytes(data)
    assert counted(path) == counted_by_probe(path)


def answer_by_prefixes(
    data: bytes, *, size: int | None, tail: bool = True
) -> tuple[ImageInfo | tuple[type, str], int]:
    """Feed the beginning, each time as long as was asked; give the steps too."""
    length = 0
    for steps in range(1_000):
        known = len(data) if length >= len(data) else size
        try:
            return probe_prefix(data[:length], size=known, tail=tail), steps
        except NeedMoreBytesError as error:
            needed, received = error.needed, error.received
        except QwenVLPrepError as error:
            return (type(error), str(error)), steps
        assert received == min(length, len(data)) < needed
        assert size is None or needed <= size
        length = needed
    raise AssertionError("asked a thousand times")


def without_size(answer: ImageInfo | tuple[type, str]) -> object:
    """Give what may differ where the size was never told."""
    if isinstance(answer, ImageInfo):
        return replace(answer, encoded_size=0)
    return answer[0]


def check_prefixes(data: bytes) -> None:
    """Hold every answer from a beginning against the whole's."""
    whole = answer(HeaderReader.from_bytes(data))
    found, steps = answer_by_prefixes(data, size=len(data))
    assert found == whole
    assert steps <= 60
    found, steps = answer_by_prefixes(data, size=None)
    assert without_size(found) == without_size(whole)
    assert steps <= 60
    found, _ = answer_by_prefixes(data, size=len(data), tail=False)
    if isinstance(whole, ImageInfo):
        assert (found.height, found.width) == (whole.height, whole.width)
        assert found.n_frames <= whole.n_frames


@pytest.mark.parametrize("name", sorted(VALID))
def test_beginnings_end_in_the_wholes_answer(name):
    """From as many bytes as are asked for comes the answer of all."""
    check_prefixes(VALID[name])


@given(mutated(), st.sampled_from([0, 0, 5_000, 300_000]))
@settings(max_examples=300)
def test_beginnings_of_damaged_files_end_in_the_wholes_answer(data, padding):
    """Also where the answer is a refusal."""
    at = len(data) // 2
    check_prefixes(data[:at] + bytes(padding) + data[at:])


@given(mutated(), st.integers(0, 3))
@settings(max_examples=200)
def test_a_file_object_gives_what_its_bytes_give(data, front):
    """A file object is read here and there, from where it stands."""
    file = io.BytesIO(b"in front"[:front] + data)
    file.seek(front)
    try:
        found = probe(file)
    except QwenVLPrepError as error:
        found = type(error), str(error)
    assert found == answer(HeaderReader.from_bytes(data))
    assert file.tell() == front


@given(mutated(), st.integers(0, 2**19))
@settings(max_examples=100)
def test_no_byte_is_fetched_that_is_not_told(data, padding):
    """What the reader says that it read is what was fetched, and inside the file."""
    at = len(data) // 2
    spread = data[:at] + bytes(padding) + data[at:]
    fetched = 0

    def fetch(length: int, offset: int) -> bytes:
        nonlocal fetched
        assert length >= 0
        assert offset >= 0
        piece = spread[offset : offset + length]
        fetched += len(piece)
        return piece

    reader = HeaderReader(fetch, len(spread))
    answer(reader)
    assert reader.bytes_read == fetched <= BUDGET
