"""What counting set out to reach: sizes, budgets, headers, and the import."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

import qwenvl_prep as qp
from qwenvl_prep.bench_cases import count_files, count_sizes
from qwenvl_prep.bench_measure import Comparison, Measurement, Way

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from qwenvl_prep.bench_cases import Picture

__all__ = ["counting_cases"]

# How many times as fast as the peer ours has to be.
_SIZES_BESIDE = {"NumPy": 4.0, "Python loop": 100.0}
_FILES_BESIDE = {"Pillow": 3.0, "imagesize": 1.3}

# What most people send, and what imagesize reads too.
_USUAL_FORMATS = frozenset({"JPEG", "PNG", "WEBP"})

# The import may add this part of what importing NumPy adds.
_IMPORT_BESIDE_NUMPY = 0.5

_RUNS, _QUICK_RUNS = 15, 3

# Fitting so many images may take no longer than counting all of them so often.
_IMAGES, _COUNTS = 10_000, 60
_SHRINK_BESIDE_COUNTS = 1.0


def counting_cases(
    pictures: Sequence[Picture], *, quick: bool
) -> Iterator[Comparison | Measurement]:
    """
    Count sizes and files beside others, and measure budgets and the import.

    Parameters
    ----------
    pictures : sequence of Picture
        Files; only JPEG, PNG and WebP are raced.
    quick : bool
        Whether a smoke run is enough.

    Yields
    ------
    Comparison or Measurement
        Each with its target.
    """
    for case in count_sizes(quick=quick):
        yield _with_targets(case, _SIZES_BESIDE)
    yield _shrink_case()
    usual = [one for one in pictures if one.plan.info.format in _USUAL_FORMATS]
    if usual:
        for case in count_files(usual):
            yield _with_targets(case, _FILES_BESIDE)
    yield _import_case(quick=quick)


def _with_targets(case: Comparison, targets: dict[str, float]) -> Comparison:
    peers = tuple(replace(peer, target=targets[peer.name]) for peer in case.peers)
    return replace(case, group="counting", peers=peers)


def _import_case(*, quick: bool) -> Measurement:
    """Import this package and NumPy in processes of their own, in turns."""
    ours, numpy = "import qwenvl_prep", "import numpy"
    # Names are loaded when they are used, which is told beside it.
    used = "from qwenvl_prep import *"
    seconds: dict[str, list[float]] = {"pass": [], ours: [], used: [], numpy: []}
    for code in seconds:  # once before, so that all are compiled and in the page cache
        _seconds_of(code)
    for _ in range(_QUICK_RUNS if quick else _RUNS):
        for code, known in seconds.items():
            known.append(_seconds_of(code))
    empty = median(seconds["pass"])
    # Below the noise of starting a process it may come out less than nothing.
    added = {code: max(0.0, median(known) - empty) for code, known in seconds.items()}
    return Measurement(
        group="counting",
        subject=(
            f"import qwenvl_prep adds {added[ours] * 1e3:.1f} ms to a process, NumPy "
            f"{added[numpy] * 1e3:.0f} ms (with every public name loaded, "
            f"{added[used] * 1e3:.0f} ms)"
        ),
        unit="× NumPy's import",
        values=(added[ours] / added[numpy],),
        target=_IMPORT_BESIDE_NUMPY,
    )


def _seconds_of(code: str) -> float:
    start = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own
    return perf_counter() - start


def _shrink_case() -> Comparison:
    """Shrink random sizes until they take half of their tokens."""
    n = _IMAGES
    rng = np.random.default_rng(11)
    heights, widths = rng.integers(50, 4_000, (2, n))
    natural = int(qp.count_tokens_many(heights, widths).sum())
    # No model takes as much; how much it is changes little about the work.
    model = qp.get_model("qwen-vl-max").replace(max_input_tokens=natural // 2)

    def counts() -> None:
        for _ in range(_COUNTS):
            qp.count_tokens_many(heights, widths, model=model)

    return Comparison(
        group="counting",
        subject=f"{n:,} sizes shrunk to half of their tokens",
        unit="fits",
        ours=Way("fit_sizes", lambda: qp.fit_sizes(heights, widths, model=model)),
        peers=(
            Way(
                f"{_COUNTS} × count_tokens_many",
                counts,
                target=_SHRINK_BESIDE_COUNTS,
            ),
        ),
        problem=_problem_of_fit(heights, widths, model),
    )


def _problem_of_fit(
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    model: qp.ModelProfile,
) -> str:
    """Say what is wrong with the answer, or nothing."""
    fitted = qp.fit_sizes(heights, widths, model=model)
    if fitted.remaining < 0:
        return "does not fit"
    natural = qp.count_tokens_many(heights, widths, model=model) - model.marker_tokens
    if (fitted.tokens - model.marker_tokens > natural).any():
        return "enlarges images"
    # The thinnest of many images gains fewer tokens than this by its next step.
    return "leaves room" if fitted.remaining > model.factor else ""
