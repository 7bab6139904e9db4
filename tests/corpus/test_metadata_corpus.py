"""Metadata taken out of every JPEG, PNG and WebP of a folder of real pictures."""

from __future__ import annotations

import io
import os
import random
import warnings
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from PIL import Image, ImageSequence

from qwenvl_prep.errors import DamagedImageError, QwenVLPrepError
from qwenvl_prep.headers import HeaderReader, ImageInfo, read_header
from qwenvl_prep.integrity import reaches_end
from qwenvl_prep.metadata import can_strip, without_metadata

ROOT = Path(
    os.environ.get("QWENVL_PREP_CORPORA")
    or Path(__file__).resolve().parents[3] / "shared" / "corpora" / "public"
)

if not ROOT.is_dir():
    pytest.skip(
        f"no corpus in {ROOT}; set QWENVL_PREP_CORPORA to a folder of pictures",
        allow_module_level=True,
    )

# Above this, decoding is left out: it is the decoder's time, and its memory.
MAX_PIXELS = 30_000_000
SIGNATURES = (b"\xff\xd8", b"\x89PNG", b"RIFF")


def read(data: bytes) -> ImageInfo | None:
    """Read a header; None where it is refused."""
    try:
        return read_header(HeaderReader.from_bytes(data))
    except QwenVLPrepError:
        return None


@cache
def files() -> tuple[tuple[str, bytes, ImageInfo], ...]:
    """Give name, bytes and header of each file that metadata can be taken out of."""
    found = []
    for path in sorted(ROOT.rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        info = read(data) if data.startswith(SIGNATURES) else None
        if info is not None and can_strip(info.format):
            found.append((str(path.relative_to(ROOT)), data, info))
    return tuple(found)


def frames_of(data: bytes) -> list[tuple[str, bytes, object]] | None:
    """Give mode, pixels and duration of each frame by Pillow; None where it refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > MAX_PIXELS:
                    return None
                if image.format == "MPO":
                    image.load()
                    return [(image.mode, image.tobytes(), None)]
                return [
                    (frame.mode, frame.tobytes(), frame.info.get("duration"))
                    for frame in ImageSequence.Iterator(image)
                ]
        except Exception:  # noqa: BLE001 - Pillow's refusals have many types
            return None


def test_pixels_and_header_stay():
    """Each file that Pillow decodes keeps its frames, header and colour profile."""
    wrong = []
    compared = 0
    for name, data, info in files():
        expected = frames_of(data)
        try:
            clean = without_metadata(data, info)
        except DamagedImageError as exc:
            # What does not reach its end is not kept, so nothing is stripped.
            if expected is not None and reaches_end(data, info):
                wrong.append((name, str(exc)))
            continue
        same = replace(info, encoded_size=len(clean))
        if info.format == "JPEG":
            same = replace(same, n_frames=1)
        if read(clean) != same:
            wrong.append((name, "another header"))
        if without_metadata(clean, same) is not clean:
            wrong.append((name, "another file, the second time"))
        if expected is not None:
            compared += 1
            if frames_of(clean) != expected:
                wrong.append((name, "other pixels"))
    assert wrong == []
    assert compared > 0


def test_nothing_is_left_to_read():
    """Pillow finds no text, comment or XMP in any file, and no tag but orientation."""
    left = []
    for name, data, info in files():
        try:
            clean = without_metadata(data, info)
            with Image.open(io.BytesIO(clean)) as image:
                image.load()
                tags = set(image.getexif()) - {0x0112}
                known = {*image.info, *getattr(image, "text", {})}
        except Exception:  # noqa: BLE001 - refused by us or by Pillow
            continue
        if tags or known & {"xmp", "comment", "photoshop", "mp", "XML:com.adobe.xmp"}:
            left.append((name, tags, known))
        if getattr(image, "text", {}):
            left.append((name, image.text))
    assert left == []


def test_damaged_files_bring_out_our_errors_only():
    """Files with some bytes changed, or cut off, give bytes or our error."""
    chance = random.Random(4)
    for _, data, _ in files():
        if len(data) > 200_000:
            continue
        for _ in range(6):
            broken = bytearray(data)
            for _ in range(chance.randint(1, 4)):
                # Most lengths stand at the beginning.
                reach = min(len(broken), chance.choice((64, 1024, len(broken))))
                broken[chance.randrange(reach)] = chance.choice((0, 255, 1, 0xD9))
            if chance.random() < 0.2:
                del broken[chance.randrange(len(broken)) :]
            info = read(bytes(broken))
            if info is None or not can_strip(info.format):
                continue
            try:
                clean = without_metadata(bytes(broken), info)
            except DamagedImageError:
                continue
            assert isinstance(clean, bytes)
            assert len(clean) <= len(broken) + 60
