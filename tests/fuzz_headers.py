"""
Feed mutated headers for some minutes; whatever comes out but our errors is a finding.

Each input is a real file, or one made here, of which some bytes are overwritten, cut,
repeated or taken from another file.  It is probed whole, from a file and by beginnings,
and counted by the fast way, and all of them have to agree.  More than a second is a
finding too.  Findings are kept in out/fuzz; ends with 1 if there are any.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from qwenvl_prep.errors import (
    AspectRatioError,
    ImageError,
    NeedMoreBytesError,
    SourceError,
)
from qwenvl_prep.headers import HeaderReader, ImageInfo, read_header
from qwenvl_prep.plan import count_tokens
from qwenvl_prep.probe import plain_sides, probe_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
CORPUS = Path(
    os.environ.get("QWENVL_PREP_CORPORA")
    or ROOT.parent / "shared" / "corpora" / "public"
)
EXAMPLES = ROOT / "examples"
KEPT = ROOT / "out" / "fuzz"
# To write a file to a disk takes ten times as long as all the rest.
IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None

# Of the processor: a process that a busy machine does not let run is no hang.
HANG_SECONDS = 1.0
# Nothing comes back from a call of this length, on whatever machine.
ALARM_SECONDS = 60
BUDGET = 256 * 1024
# Nearly all of a header stands there; whole files would be slow to copy.
LARGEST = 1 << 19
MOST_STEPS = 80

# What numbers in headers go wrong with.
TELLING = [
    *(bytes([value]) for value in (0, 1, 0x7F, 0x80, 0xD8, 0xD9, 0xDA, 0xE1, 0xFF)),
    *(b"\0\0", b"\xff\xff", b"\x7f\xff", b"\x80\0", b"\xff\xd8", b"\xff\xda"),
    *(b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0"),
    *(b"\0\0\0\1", b"\1\0\0\0", b"\0\0\0\x08", b"\x10\0\0\0", bytes(8), b"\xff" * 8),
    *(b"IDAT", b"acTL", b"eXIf", b"iTXt", b"IEND", b"XML:com.adobe.xmp\0", b"Exif\0\0"),
    *(b"VP8X", b"VP8 ", b"VP8L", b"ANMF", b"ICCP", b"EXIF", b"XMP ", b"ICC_PROFILE\0"),
    *(b"meta", b"iinf", b"iprp", b"ispe", b"moov", b"stsd", b"jp2c", b"ihdr", b"MPF\0"),
    *(b"II*\0", b"MM\0*", b"\x21\xf9\x04", b"\x2c", b"\x3b"),
]


def made() -> Iterator[bytes]:
    """Make a file of every type that Pillow writes."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for mode, file_format, options in (
        ("RGB", "JPEG", {"exif": exif, "icc_profile": b"profile" * 300}),
        ("L", "JPEG", {"progressive": True, "xmp": b'tiff:Orientation="6"'}),
        ("P", "PNG", {"exif": exif, "transparency": 3}),
        ("RGBA", "WEBP", {"exif": exif, "xmp": b'tiff:Orientation="6"'}),
        ("RGB", "WEBP", {"lossless": True}),
        ("RGB", "TIFF", {"tiffinfo": {274: 6}}),
        ("L", "TIFF", {"big_tiff": True}),
        ("P", "BMP", {}),
        ("RGB", "DIB", {}),
        ("RGBA", "AVIF", {"exif": exif}),
        ("RGBA", "JPEG2000", {}),
        ("L", "JPEG2000", {"no_jp2": True}),
        ("RGB", "SGI", {}),
        ("RGBA", "ICO", {"sizes": [(16, 16), (32, 32)]}),
        ("RGBA", "ICO", {"sizes": [(16, 16)], "bitmap_format": "bmp"}),
        ("RGBA", "ICNS", {}),
    ):
        file = io.BytesIO()
        Image.new(mode, (40, 24)).save(file, file_format, **options)
        yield file.getvalue()
    for file_format in ("MPO", "PNG", "WEBP", "TIFF", "GIF", "AVIF"):
        # New ones each time: a picture keeps what one format's encoder was told.
        first, *others = (
            Image.new("RGB", (40, 24), name) for name in ("red", "blue", "lime")
        )
        file = io.BytesIO()
        first.save(file, file_format, save_all=True, append_images=others)
        yield file.getvalue()


def seeds() -> list[bytes]:
    """Give the files to begin with; a very large one only as far as its header goes."""
    found = list(made())
    for folder in (EXAMPLES, CORPUS):
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix not in {".md", ".tsv"}:
                with path.open("rb") as file:
                    found.append(file.read(LARGEST))
    return found


def mutated(rng: random.Random, files: list[bytes]) -> bytes:
    """Give a file that is not quite one of these."""
    data = bytearray(rng.choice(files))
    for _ in range(rng.choice((1, 1, 2, 3, 5, 12))):
        # Most of what a header says stands at its beginning, some at its end.
        reach = min(rng.choice((16, 64, 256, 1024, LARGEST)), len(data))
        at = rng.randint(0, reach)
        if rng.random() < 0.1:
            at = max(0, len(data) - rng.randint(0, 64))
        kind = rng.random()
        if kind < 0.45:
            piece = rng.choice(TELLING)
            data[at : at + len(piece)] = piece
        elif kind < 0.6:
            data[at : at + 1] = bytes([rng.randrange(256)])
        elif kind < 0.68:
            data[at:at] = rng.choice(TELLING)
        elif kind < 0.76:
            del data[at : at + rng.choice((1, 2, 4, 12, 100))]
        elif kind < 0.82:
            del data[at:]
        elif kind < 0.88:
            length = rng.choice((4, 12, 30, 200))
            data[at:at] = data[at : at + length] * rng.choice((1, 2, 50))
        elif kind < 0.92:
            data[at:at] = bytes(rng.choice((100, 5_000, 70_000)))
        else:
            other = rng.choice(files)
            start = rng.randint(0, min(len(other), 2_000))
            piece = other[start : start + rng.choice((8, 40, 300))]
            data[at : at + len(piece)] = piece
    return bytes(data[: 2 * LARGEST])


def answer(reader: HeaderReader) -> object:
    """Give what the reader says, or our refusal; everything else is let out."""
    try:
        return read_header(reader)
    except (ImageError, SourceError) as error:
        return type(error).__name__, str(error)


def by_prefixes(data: bytes, size: int | None, *, tail: bool) -> object:
    """Give the answer of beginnings, each as long as the one before asked for."""
    length = 0
    for _ in range(MOST_STEPS):
        known = len(data) if length >= len(data) else size
        try:
            return probe_prefix(data[:length], size=known, tail=tail)
        except NeedMoreBytesError as error:
            if error.needed <= length or (size and error.needed > size):
                raise AssertionError(f"asks for {error.needed} of {length}") from error
            length = error.needed
        except (ImageError, SourceError) as error:
            return type(error).__name__, str(error)
    raise AssertionError(f"no answer in {MOST_STEPS} steps")


def check(data: bytes, path: Path) -> str:
    """Ask in every way, and hold the answers together; give what came out, in words."""
    fetched = 0

    def fetch(length: int, offset: int) -> bytes:
        nonlocal fetched
        if length < 0 or offset < 0:
            raise AssertionError(f"fetches {length} bytes at {offset}")
        piece = data[offset : offset + length]
        fetched += len(piece)
        return piece

    reader = HeaderReader(fetch, len(data))
    whole = answer(reader)
    if not reader.bytes_read == fetched <= BUDGET:
        raise AssertionError(f"read {fetched} bytes and told {reader.bytes_read}")
    if by_prefixes(data, len(data), tail=True) != whole:
        raise AssertionError("its beginnings give another answer")
    sides = by_prefixes(data, None, tail=False)
    is_read = isinstance(whole, ImageInfo)
    if isinstance(whole, ImageInfo) and not (
        isinstance(sides, ImageInfo)
        and (sides.height, sides.width) == (whole.height, whole.width)
    ):
        raise AssertionError("without its tail it has other sides")
    path.write_bytes(data)
    plain = plain_sides(path)
    if plain is not None and (
        not isinstance(whole, ImageInfo) or plain != (whole.height, whole.width)
    ):
        raise AssertionError(f"its sides are {plain} by the fast way")
    try:
        count_tokens(path)
    except AspectRatioError:
        pass
    except (ImageError, SourceError) as error:
        if (type(error).__name__, str(error)) != whole:
            raise AssertionError("counting refuses it otherwise") from error
    else:
        if not is_read:
            raise AssertionError("counting does not refuse it")
    if not isinstance(whole, ImageInfo):
        return "refused"
    return "read, by the fast way too" if plain else "read"


def timed(data: bytes, path: Path) -> str:
    """Check, and refuse to take a second for it."""
    start = time.process_time()
    outcome = check(data, path)
    seconds = time.process_time() - start
    if seconds > HANG_SECONDS:
        raise AssertionError(f"takes {seconds:.1f} s")
    return outcome


def ring(_number: int, _frame: object) -> None:
    raise TimeoutError(f"no answer in {ALARM_SECONDS} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    files = seeds()
    sys.stdout.write(f"{len(files)} files, seed {arguments.seed}\n")
    signal.signal(signal.SIGALRM, ring)
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + arguments.minutes * 60
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        path = Path(folder) / "picture"
        while time.monotonic() < end:
            data = mutated(rng, files)
            signal.alarm(ALARM_SECONDS)
            try:
                outcomes[timed(data, path)] += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, it is found
                outcomes["FOUND"] += 1
                KEPT.mkdir(parents=True, exist_ok=True)
                kept = KEPT / f"{arguments.seed}-{outcomes.total()}"
                kept.write_bytes(data)
                where = traceback.extract_tb(error.__traceback__)[-1]
                sys.stdout.write(
                    f"{kept}: {type(error).__name__}: {error} "
                    f"({where.filename}:{where.lineno})\n"
                )
            finally:
                signal.alarm(0)
    told = ", ".join(f"{count:,} {what}" for what, count in sorted(outcomes.items()))
    sys.stdout.write(f"{outcomes.total():,} inputs: {told}\n")
    sys.exit(bool(outcomes["FOUND"]))


if __name__ == "__main__":
    main()
