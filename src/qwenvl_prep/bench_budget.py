"""Budgets over many images, beside counting the same sizes."""

from __future__ import annotations

import numpy as np

import qwenvl_prep as qp
from qwenvl_prep.bench_measure import Comparison, Way

__all__ = ["shrink_case"]

_IMAGES = 10_000
# No slower than so many counts of all sizes.
_COUNTS = 60
_SHRINK_BESIDE_COUNTS = 1.0


def shrink_case() -> Comparison:
    """Shrink 10,000 random sizes to half of their tokens."""
    rng = np.random.default_rng(11)
    heights, widths = rng.integers(50, 4_000, (2, _IMAGES))
    natural = int(qp.count_tokens_many(heights, widths).sum())
    # No model takes as much; how much it is changes little about the work.
    model = qp.get_model("qwen-vl-max").replace(max_input_tokens=natural // 2)

    def counts() -> None:
        for _ in range(_COUNTS):
            qp.count_tokens_many(heights, widths, model=model)

    return Comparison(
        group="budget",
        subject=f"{_IMAGES:,} sizes shrunk to half of their tokens",
        unit="fits",
        ours=Way("fit_sizes", lambda: qp.fit_sizes(heights, widths, model=model)),
        peers=(
            Way(
                f"{_COUNTS} × count_tokens_many",
                counts,
                target=_SHRINK_BESIDE_COUNTS,
            ),
        ),
        problem=_problem(heights, widths, model),
    )


def _problem(
    heights: np.ndarray[tuple[int], np.dtype[np.int64]],
    widths: np.ndarray[tuple[int], np.dtype[np.int64]],
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
