"""
What a very large picture costs: 280 megapixels, each time in a process of its own.

Memory is measured of the whole process, from the interpreter on; time is that of the
call alone, beside the photo that the large picture is tiled from.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyvips
from PIL import Image

import qwenvl_prep as qp
from qwenvl_prep.bench_measure import Comparison, Measurement, Way
from qwenvl_prep.bench_rivals import shrunk_by_vips
from qwenvl_prep.bench_targets import differing
from qwenvl_prep.errors import QwenVLPrepError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from qwenvl_prep.bench_cases import Picture

__all__ = ["large_cases"]

_HEIGHT, _WIDTH = 14_000, 20_000
_QUICK_HEIGHT, _QUICK_WIDTH = 1_400, 2_000

_MEMORY = 220.0  # MB at most
# A megapixel may take a quarter longer than one of the photo.
_RATE_BESIDE_PHOTO = 0.8

# Each takes seconds, so they do not take as many turns as the others.
_MOST_ROUNDS = 5

_KIB = 1024

# The first call loads what is loaded on first use, which is not to be measured.
_CHILD = """
import json, sys, time
import qwenvl_prep
warm_up, path = sys.argv[1:]
qwenvl_prep.prepare(warm_up).data_uri
start = time.perf_counter()
uri = qwenvl_prep.prepare(path).data_uri
seconds = time.perf_counter() - start
with open("/proc/self/status") as status:
    facts = dict(line.split(":", 1) for line in status)
peak = int(facts["VmHWM"].split()[0])
print(json.dumps({"seconds": seconds, "peak": peak, "uri": uri}))
"""


@dataclass(frozen=True, slots=True)
class _Told:
    """What a process of its own told: seconds, MB at its peak, and the answer."""

    seconds: float
    peak: float
    uri: str


def large_cases(
    photo: Picture, folder: Path, *, quick: bool
) -> Iterator[Comparison | Measurement]:
    """
    Prepare a large picture, beside the photo that it is made of.

    Parameters
    ----------
    photo : Picture
        A JPEG that is shrunk.
    folder : Path
        Where the large picture is written, some 60 MB.
    quick : bool
        Whether to make it small.

    Yields
    ------
    Comparison or Measurement
        Time, and the memory of the same processes: the second is made after the
        first has been timed.

    Raises
    ------
    QwenVLPrepError
        If the large picture is refused.
    """
    height, width = (_QUICK_HEIGHT, _QUICK_WIDTH) if quick else (_HEIGHT, _WIDTH)
    megapixels = height * width / 1e6
    path, warm_up = folder / "large.jpg", folder / "warm-up.jpg"
    _tile(photo.path, path, height, width)
    # Large enough to be shrunk, so that all of the way is loaded.
    _tile(photo.path, warm_up, 1_200, 1_200)
    told = [_prepare_alone(warm_up, path)]
    problem = _problem_of(path, told[0].uri)

    def large() -> float:
        told.append(_prepare_alone(warm_up, path))
        return told[-1].seconds

    def alone() -> float:
        return _prepare_alone(warm_up, photo.path).seconds

    yield Comparison(
        group="large",
        subject=f"{height}×{width} JPEG, a megapixel of it",
        unit="megapixels",
        ours=Way("ours", large, megapixels, keeps_time=True),
        peers=(
            Way(
                f"one of {photo.name}",
                alone,
                photo.megapixels,
                target=_RATE_BESIDE_PHOTO,
                keeps_time=True,
            ),
        ),
        problem=problem,
        most_rounds=_MOST_ROUNDS,
    )
    yield Measurement(
        group="large",
        subject=f"{height}×{width} JPEG, peak memory of the whole process",
        unit="MB",
        values=tuple(one.peak for one in told),
        target=_MEMORY,
        problem=problem,
        megapixels=megapixels,
    )


def _tile(source: Path, target: Path, height: int, width: int) -> None:
    """Fill a baseline JPEG with copies of a picture, side by side."""
    picture = pyvips.Image.new_from_file(str(source))
    across, down = -(-width // picture.width), -(-height // picture.height)
    tiled = picture.replicate(across, down).crop(0, 0, width, height)
    tiled.jpegsave(str(target), Q=90, subsample_mode="on", keep="none")


def _prepare_alone(warm_up: Path, path: Path) -> _Told:
    run = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", _CHILD, str(warm_up), str(path)],
        # As here, libvips is kept to one thread.
        env={**os.environ, "VIPS_CONCURRENCY": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if run.returncode != 0:
        reason = run.stderr.strip().splitlines() or [f"exit status {run.returncode}"]
        raise QwenVLPrepError(
            f"Expected a process of its own to prepare {path.name} but it ended with "
            f"{reason[-1]}"
        )
    told = json.loads(run.stdout)
    return _Told(told["seconds"], told["peak"] * _KIB / 1e6, told["uri"])


def _problem_of(path: Path, uri: str) -> str:
    """
    Say what is wrong with the large picture's data URI, or nothing.

    Pillow would need a gigabyte for the exact answer; libvips' thumbnail of the file
    is near enough to find rows that are missing or out of place.
    """
    plan = qp.plan(path)
    data, _ = qp.from_data_uri(uri)
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as sent:
        about = shrunk_by_vips(path, plan.height, plan.width)
        return differing(about, np.asarray(sent))[1]
