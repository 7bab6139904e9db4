"""The header reader beside the decoders, over a folder of real and broken files."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image

import qwenvl_prep as qp
from qwenvl_prep.errors import (
    AspectRatioError,
    NeedMoreBytesError,
    QwenVLPrepError,
    UnsupportedFormatError,
)
from qwenvl_prep.geometry import billed_tokens
from qwenvl_prep.headers import HeaderReader, ImageInfo, read_header
from qwenvl_prep.plan import count_tokens
from qwenvl_prep.probe import plain_sides, probe_prefix
from qwenvl_prep.profiles import get_model

ROOT = Path(
    os.environ.get("QWENVL_PREP_CORPORA")
    or Path(__file__).resolve().parents[3] / "shared" / "corpora" / "public"
)

if not ROOT.is_dir():
    pytest.skip(
        f"no corpus in {ROOT}; set QWENVL_PREP_CORPORA to a folder of pictures",
        allow_module_level=True,
    )

FILES = sorted(
    path
    for path in ROOT.rglob("*")
    if path.is_file() and path.name not in ("MANIFEST.tsv", "SOURCES.md")
)

MODEL = get_model("qwen-vl-max")

# What Pillow calls pictures that we refuse as unsupported, by our name for them.
UNSUPPORTED = {
    "CUR": "CUR",
    "DDS": "DDS",
    "FLI": "FLI",
    "PCX": "PCX",
    "PPM": "PNM",
    "PSD": "PSD",
    "QOI": "QOI",
    "TGA": "TGA",
}
# Formats for which "transparent or not" must agree as well.
ALPHA = {"AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "PNG", "TIFF", "WEBP"}
# Pillow does not count the pictures of an icon, we do.
NOT_COUNTED = {"ICO", "ICNS"}

# By Pillow's mode, the depths that a header may tell.  Its other modes have 8 bits,
# also where the file has 2, 4, 12 or 16.
DEPTHS = {
    "1": {1},
    "F": {32},
    "I": {16, 32},
    "I;16": {10, 12, 16},
    "I;16B": {16},
}
# These know no other depth.
ALWAYS_8 = {"GIF", "JPEG", "WEBP"}

# Decoding is left out above this: it is the decoder's time, and its memory.
MAX_PIXELS = 100_000_000


@dataclass(frozen=True)
class Decoded:
    """What a decoder says about a file that it decodes to the end."""

    format: str
    height: int
    width: int
    orientation: int
    n_frames: int | None
    has_alpha: bool
    mode: str


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001 - Pillow raises a good dozen kinds here
        return 1
    return found if found in range(1, 9) else 1


def _decode(path: Path) -> Decoded | None:
    """Decode with Pillow, or with pillow_heif; None where they refuse."""
    with Image.open(path) as image:
        if image.width * image.height > MAX_PIXELS:
            return None
        name = {"MPO": "JPEG"}.get(image.format or "", image.format or "")
        orientation = _orientation(image)
        mode = image.mode
        has_alpha = mode in ("RGBA", "LA", "PA", "La") or ("transparency" in image.info)
        width, height = image.size
        try:
            n_frames = getattr(image, "n_frames", 1)
        except Exception:  # noqa: BLE001 - as above; then only the rest is compared
            n_frames = None
        image.load()
        if name == "PNG":
            # EXIF may stand behind the pixels.
            orientation = _orientation(image)
        elif name == "TIFF":
            # Pillow turns a TIFF while it decodes it, and its sides before that.
            width, height = image.size
            if orientation >= 5:
                height, width = width, height
        return Decoded(name, height, width, orientation, n_frames, has_alpha, mode)


def decode(path: Path) -> Decoded | None:
    """Decode quietly; None where the decoders refuse."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _decode(path)
        except Exception:  # noqa: BLE001 - any refusal is one
            return None


def answer(reader: HeaderReader) -> ImageInfo | QwenVLPrepError:
    """Give what the reader says, or our error."""
    try:
        return read_header(reader)
    except QwenVLPrepError as error:
        return error


def told(answer: ImageInfo | QwenVLPrepError) -> object:
    """Give what two answers have to have in common."""
    return answer if isinstance(answer, ImageInfo) else (type(answer), str(answer))


def probe(path: Path) -> tuple[ImageInfo | QwenVLPrepError, int]:
    """Give the answer or our error, and how many bytes of the file were read."""
    fd = os.open(path, os.O_RDONLY)
    try:
        reader = HeaderReader.from_fd(fd, os.fstat(fd).st_size)
        return answer(reader), reader.bytes_read
    finally:
        os.close(fd)


@pytest.fixture(scope="module", autouse=True)
def heif_opener():
    """Let Pillow read HEIC while these tests run, where pillow_heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        yield
        return
    Image.preinit()
    pillow_heif.register_heif_opener()
    yield
    Image.ID.remove("HEIF")
    Image.OPEN.pop("HEIF")


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=_id)
def test_header_equals_decoder(path):
    """Where a decoder decodes a file whole, the header says the same beforehand."""
    decoded = decode(path)
    if decoded is None:
        return
    info, _ = probe(path)
    if decoded.format in UNSUPPORTED:
        assert isinstance(info, UnsupportedFormatError)
        assert info.format == UNSUPPORTED[decoded.format]
        return
    assert isinstance(info, ImageInfo), str(info)
    assert info.format == decoded.format
    assert (info.height, info.width) == (decoded.height, decoded.width)
    assert info.orientation == decoded.orientation
    if decoded.n_frames is not None and info.format not in NOT_COUNTED:
        assert info.n_frames == decoded.n_frames
    if info.format in ALPHA:
        assert info.has_alpha == decoded.has_alpha
    if info.format in ALWAYS_8 or info.colour == "palette":
        assert info.bit_depth == 8
    elif decoded.mode in DEPTHS:
        assert info.bit_depth in DEPTHS[decoded.mode]


def test_every_file_gives_an_answer_or_our_error_within_the_budget():
    """No file, however broken, takes more than 256 KiB or brings another exception."""
    for path in FILES:
        _, bytes_read = probe(path)
        assert bytes_read <= 256 * 1024, _id(path)


def test_a_file_and_a_buffer_give_the_same():
    """Where the bytes come from changes nothing."""
    for path in FILES:
        from_file, _ = probe(path)
        from_bytes = answer(HeaderReader.from_bytes(path.read_bytes()))
        assert told(from_bytes) == told(from_file), _id(path)


def test_no_byte_is_read_that_is_not_told():
    """What is fetched of each file is counted, and no more than is told."""
    for path in FILES:
        data = path.read_bytes()
        fetched = []

        def fetch(length, offset, data=data, fetched=fetched):
            fetched.append(len(data[offset : offset + length]))
            return data[offset : offset + length]

        reader = HeaderReader(fetch, len(data))
        answer(reader)
        assert reader.bytes_read == sum(fetched) <= 256 * 1024, _id(path)


@pytest.mark.parametrize("tail", [True, False], ids=["whole", "sides"])
@pytest.mark.parametrize("is_size_known", [True, False], ids=["size", "no-size"])
def test_beginnings_end_in_the_wholes_answer(tail, is_size_known):
    """Each file, fed as far as is asked, gives the whole's answer in a few steps."""
    for path in FILES:
        data = path.read_bytes()
        whole = answer(HeaderReader.from_bytes(data))
        found, steps = _answer_by_prefixes(data, tail=tail, is_size_known=is_size_known)
        assert steps <= 30, _id(path)
        if not isinstance(whole, ImageInfo):
            assert type(found) is type(whole), _id(path)
            continue
        assert (found.height, found.width) == (whole.height, whole.width), _id(path)
        if tail:
            size = found.encoded_size or whole.encoded_size
            assert replace(found, encoded_size=size) == whole, _id(path)
        if is_size_known:
            assert found.encoded_size == len(data), _id(path)


def _answer_by_prefixes(data, *, tail, is_size_known):
    """Feed as many bytes as are asked for; give the answer and the steps to it."""
    length = 0
    for steps in range(1_000):
        is_known = is_size_known or length >= len(data)
        size = len(data) if is_known else None
        try:
            return probe_prefix(data[:length], size=size, tail=tail), steps
        except NeedMoreBytesError as error:
            needed = error.needed
        except QwenVLPrepError as error:
            return error, steps
        assert needed > length
        length = needed
    raise AssertionError("asked a thousand times")


def test_counting_is_counting_by_the_whole_header():
    """The fast way to the sides gives each file the count or refusal of its header."""
    fast = 0
    for path in FILES:
        info, _ = probe(path)
        try:
            counted = count_tokens(path)
        except AspectRatioError:
            assert isinstance(info, ImageInfo), _id(path)
            continue
        except QwenVLPrepError as error:
            refusal = told(error)
        else:
            refusal = None
        if refusal:
            assert refusal == told(info), _id(path)
            assert plain_sides(path) is None, _id(path)
            continue
        expected = billed_tokens(info.upright_height, info.upright_width, MODEL)
        assert counted == expected, _id(path)
        fast += plain_sides(path) is not None
    # Or this test says nothing of it.
    assert not FILES or fast > len(FILES) // 4


def test_a_file_object_gives_what_the_file_gives():
    """An open file is read here and there, and stands where it stood."""
    for path in FILES:
        with path.open("rb") as file:
            try:
                found = qp.probe(file)
            except QwenVLPrepError as error:
                found = error
            assert file.tell() == 0, _id(path)
        assert told(found) == told(probe(path)[0]), _id(path)


def test_no_header_is_slow():
    """
    No header takes a second, where a walk that is not bounded would take minutes.

    The slowest of three attempts is that of a busy machine, the fastest is ours.
    """
    for path in FILES:
        seconds = []
        for _ in range(3):
            start = time.perf_counter()
            probe(path)
            seconds.append(time.perf_counter() - start)
        assert min(seconds) < 1, _id(path)
