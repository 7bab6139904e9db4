"""
Encode a folder of pictures every way and write the table into ``docs/encoding.md``.

Usage: ``python benches/encodings.py FOLDER...``, for example the photos and documents
of a corpus.  Each picture is prepared for the default model, once; Pillow's JPEG 90 of
the same exact pixels is what bytes and SSIM are measured against.
"""

from __future__ import annotations

import dataclasses
import io
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, features

from qwenvl_prep import QwenVLPrepError, plan, prepare
from qwenvl_prep.decode import Pixels, decode
from qwenvl_prep.encode import encode
from qwenvl_prep.fidelity import ssim
from qwenvl_prep.probe import probe_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

PAGE = Path(__file__).resolve().parent.parent / "docs" / "encoding.md"
START, END = "<!-- encodings:start -->", "<!-- encodings:end -->"

QUALITY = 90
# Ways to encode: what the table calls them, and the options that mean them.
WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("auto", {}),
    ("jpeg 4:2:0", {"encoding": "jpeg", "chroma": "4:2:0"}),
    ("jpeg 4:4:4", {"encoding": "jpeg", "chroma": "4:4:4"}),
    ("png", {"encoding": "png"}),
    ("webp", {"encoding": "webp"}),
    ("webp-lossless", {"encoding": "webp-lossless"}),
)


def main(folders: Sequence[str]) -> int:
    """Measure, and write the table between the markers."""
    files = sorted(
        path for folder in folders for path in Path(folder).iterdir() if path.is_file()
    )
    rows = [row for row in map(measured, files) if row]
    if not rows or len(rows) < len(files):
        print("Nothing is written unless every picture is read", file=sys.stderr)
        return 1
    before, start, rest = PAGE.read_text("utf-8").partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        print(f"{PAGE.name} has no {START} ... {END}", file=sys.stderr)
        return 1
    made = "\n".join(table(rows))
    PAGE.write_text(f"{before}{START}\n\n{made}\n\n{END}{after}", "utf-8")
    print(f"{len(rows)} rows written to {PAGE.name}", file=sys.stderr)
    return 0


def measured(path: Path) -> dict[str, Any] | None:
    """Encode one picture every way; None where it cannot be read."""
    try:
        made = plan(path, encoding="jpeg")
        data = path.read_bytes()
        size = (made.height, made.width) if made.is_resized else None
        pixels = decode(data, probe_file(data), size=size)
    except QwenVLPrepError as exc:
        print(f"{path.name}: {exc}", file=sys.stderr)
        return None
    sent = prepare(path)
    theirs, base = timed(lambda: pillow(pixels.rgb))
    row: dict[str, Any] = {
        "name": path.name,
        "size": f"{pixels.height}×{pixels.width}",
        "bytes": len(theirs),
        "loss": loss(theirs, pixels.data),
        "ms": base,
        "sent": sent.encoded_size / len(theirs),
        "is_kept": sent.plan.is_kept,
    }
    for name, options in WAYS:
        wanted = dataclasses.replace(made.options, **{"encoding": "auto", **options})
        one = dataclasses.replace(made, options=wanted)
        encoded, taken = timed(lambda one=one: encode(Pixels(pixels.data), one))
        row[name] = {
            "label": encoded.label,
            "ratio": len(encoded.data) / len(theirs),
            "loss": loss(encoded.data, pixels.data),
            "ms": taken,
        }
    return row


def pillow(data: NDArray[np.uint8]) -> bytes:
    """Encode as Pillow does by itself at this quality."""
    file = io.BytesIO()
    Image.fromarray(data).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Give the result and the least milliseconds of three runs."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return result, min(times) * 1e3


def loss(encoded: bytes, exact: NDArray[np.uint8]) -> float:
    """Give 1 - SSIM, 0 where every pixel is the same."""
    with Image.open(io.BytesIO(encoded)) as image:
        return 1 - ssim(np.asarray(image.convert("RGB")), exact)


def table(rows: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Give what was measured as Markdown, line by line; the last row is the median."""
    versions = ", ".join(
        f"{name} {features.version(name)}" for name in ("pil", "libjpeg_turbo", "webp")
    )
    yield f"{versions}; {len(rows)} pictures, quality {QUALITY}"
    yield ""
    worse = [row["name"] for row in rows if row["auto"]["loss"] > row["loss"]]
    kept = sum(row["is_kept"] for row in rows)
    yield (
        f"What `prepare` sends by itself, {kept} of them "
        f"kept as they are: median "
        f"**{statistics.median(row['sent'] for row in rows):.2f}×** the bytes, "
        f"{sum(row['sent'] for row in rows) / len(rows):.2f}× on average; "
        f"{len(worse)} of {len(rows)} pictures lose more than in Pillow's JPEG."
    )
    yield ""
    yield (
        "| picture | size | Pillow: bytes | loss | "
        + " | ".join(name for name, _ in WAYS)
        + " |"
    )
    yield "|---|---|--:|--:|" + "---|" * len(WAYS)
    for row in rows:
        cells = [
            row["name"],
            row["size"],
            f"{row['bytes']:,}",
            f"{row['loss']:.4f}",
            *(cell(row[name], is_auto=name == "auto") for name, _ in WAYS),
        ]
        yield f"| {' | '.join(cells)} |"
    medians = [
        f"**{statistics.median(row[name]['ratio'] for row in rows):.2f}×**, "
        f"{statistics.median(row[name]['ms'] for row in rows):.1f} ms"
        for name, _ in WAYS
    ]
    base = statistics.median(row["ms"] for row in rows)
    yield f"| **median** | | {base:.1f} ms | | {' | '.join(medians)} |"


def cell(way: dict[str, Any], *, is_auto: bool) -> str:
    """Give bytes as a multiple of Pillow's, and 1 - SSIM."""
    chosen = f"{way['label']}: " if is_auto else ""
    return f"{chosen}{way['ratio']:.2f}×, {way['loss']:.4f}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
