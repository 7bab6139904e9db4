"""The header reader beside the decoders, over a folder of real and broken files."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from qwenvl_prep.errors import QwenVLPrepError, UnsupportedFormatError
from qwenvl_prep.headers import HeaderReader, ImageInfo, read_header

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
        has_alpha = image.mode in ("RGBA", "LA", "PA", "La") or (
            "transparency" in image.info
        )
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
        return Decoded(name, height, width, orientation, n_frames, has_alpha)


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
        assert type(from_bytes) is type(from_file), _id(path)
        if isinstance(from_bytes, ImageInfo):
            assert from_bytes == from_file, _id(path)
        else:
            assert str(from_bytes) == str(from_file), _id(path)


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
