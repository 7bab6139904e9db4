"""Test PSNR and SSIM against the table made from scikit-image."""

from __future__ import annotations

import json
import math
import runpy
from pathlib import Path

import pytest

from qwenvl_prep import fidelity

TABLE = Path(__file__).with_name("fidelity_cases.json")
MAKER = Path(__file__).with_name("make_fidelity_table.py")


def test_figures_are_those_of_scikit_image():
    """Every pair of the table has its PSNR and SSIM, to the rounding of float64."""
    made = runpy.run_path(str(MAKER))
    cases = json.loads(TABLE.read_text("utf-8"))["cases"]
    # The comparison below holds for no cases at all, so an empty table must not pass.
    assert len(cases) == len(made["SIZES"]) * 2 * len(made["CHANGES"])
    for height, width, channels, change, digest, psnr, ssim in cases:
        first, second = made["pair"](height, width, channels, change)
        assert made["digest"](first, second) == digest, "not the table's pictures"
        report = fidelity.compare(first, second)
        expected = math.inf if psnr is None else psnr
        assert report.psnr == pytest.approx(expected, rel=1e-12, abs=1e-12)
        assert report.ssim == pytest.approx(ssim, abs=1e-11)


def test_table_holds_the_whole_range():
    """The table has equal, close, unrelated and opposite pictures."""
    figures = [row[-1] for row in json.loads(TABLE.read_text("utf-8"))["cases"]]
    assert max(figures) == 1
    assert min(figures) < -0.5
    assert sum(0.9 < figure < 1 for figure in figures) >= 20
    assert sum(abs(figure) < 0.1 for figure in figures) >= 20
