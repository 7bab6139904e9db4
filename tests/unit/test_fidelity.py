"""How far pixels are from others: PSNR and SSIM, and what they refuse."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest

from qwenvl_prep import fidelity
from qwenvl_prep.fidelity import FidelityReport, compare, psnr, ssim


@pytest.fixture
def pair():
    """Two pictures of 90 by 300 that differ a little; larger than one tile."""
    random_source = np.random.default_rng(2004)
    first = random_source.integers(0, 256, (90, 300, 3), np.uint8)
    noise = random_source.integers(-30, 31, first.shape)
    return first, np.clip(first.astype(int) + noise, 0, 255).astype(np.uint8)


def naive_psnr(first, second):
    """State PSNR one sample at a time."""
    both = zip(first.reshape(-1).tolist(), second.reshape(-1).tolist(), strict=True)
    squares = [(one - other) ** 2 for one, other in both]
    return 20 * math.log10(255 / math.sqrt(sum(squares) / len(squares)))


def naive_ssim(first, second, side):
    """State the paper's formulas one window at a time, with its two-axis weights."""
    centre = side // 2
    places = list(itertools.product(range(side), repeat=2))
    weight = {
        (row, column): math.exp(-((row - centre) ** 2 + (column - centre) ** 2) / 4.5)
        for row, column in places
    }
    whole = math.fsum(weight.values())
    height, width, channels = first.shape
    found = []
    for top, left, channel in itertools.product(
        range(height - side + 1), range(width - side + 1), range(channels)
    ):
        window = [
            (
                weight[row, column] / whole,
                int(first[top + row, left + column, channel]),
                int(second[top + row, left + column, channel]),
            )
            for row, column in places
        ]
        mean_x = math.fsum(w * x for w, x, _ in window)
        mean_y = math.fsum(w * y for w, _, y in window)
        variance_x = math.fsum(w * (x - mean_x) ** 2 for w, x, _ in window)
        variance_y = math.fsum(w * (y - mean_y) ** 2 for w, _, y in window)
        covariance = math.fsum(w * (x - mean_x) * (y - mean_y) for w, x, y in window)
        luminance = (2 * mean_x * mean_y + 6.5025) / (mean_x**2 + mean_y**2 + 6.5025)
        structure = (2 * covariance + 58.5225) / (variance_x + variance_y + 58.5225)
        found.append(luminance * structure)
    return math.fsum(found) / len(found)


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [
        (11, 11, 11),
        (14, 17, 11),
        (10, 12, 9),
        (12, 9, 9),
        (8, 8, 7),
        (2, 30, 1),
        (1, 1, 1),
        (3, 3, 3),
    ],
)
def test_figures_are_those_of_the_formulas(pair, height, width, side):
    """Both are the formulas written out, and small sides get the window told."""
    first, second = (pixels[:height, :width] for pixels in pair)
    assert psnr(first, second) == pytest.approx(naive_psnr(first, second), rel=1e-12)
    expected = naive_ssim(first, second, side)
    assert ssim(first, second) == pytest.approx(expected, abs=1e-12)


def test_equal_pictures_are_exactly_alike(pair):
    """Nothing differs: infinite PSNR and an SSIM of exactly 1."""
    assert compare(pair[0], pair[0].copy()) == FidelityReport(math.inf, 1.0)


def test_one_wrong_sample_is_seen(pair):
    """One sample, off by one, in the last corner: neither figure is perfect."""
    first, second = pair[0], pair[0].copy()
    second[-1, -1, -1] ^= 1
    report = compare(first, second)
    assert report.psnr == pytest.approx(10 * math.log10(255**2 * first.size))
    assert 0.999 < report.ssim < 1


def test_black_against_white():
    """Opposites: 0 dB, and what the constants alone leave of the similarity."""
    black, white = np.zeros((40, 40), np.uint8), np.full((40, 40), 255, np.uint8)
    assert compare(black, white).psnr == 0
    assert ssim(black, white) == pytest.approx(6.5025 / (255**2 + 6.5025))


def test_figures_are_symmetric(pair):
    """Which one is the exact picture does not matter."""
    assert compare(*pair) == compare(*reversed(pair))


def test_grey_counts_as_three_equal_channels(pair):
    """Grey beside RGB is expanded; grey beside grey gives the same figures."""
    grey, other = pair[0][..., 0], pair[1]
    expanded = np.repeat(grey[..., None], 3, axis=2)
    assert compare(grey, other) == compare(expanded, other)
    assert compare(other, grey) == compare(other, expanded)
    alone = compare(grey, other[..., 0])
    report = compare(expanded, np.repeat(other[..., :1], 3, axis=2))
    assert alone.psnr == report.psnr
    assert alone.ssim == pytest.approx(report.ssim, abs=1e-12)


def test_pieces_do_not_show(pair, monkeypatch):
    """Small pieces of work give what one piece gives."""
    monkeypatch.setattr(fidelity, "_TILE_ROWS", 1000)
    monkeypatch.setattr(fidelity, "_TILE_COLUMNS", 1000)
    whole = compare(*pair)
    monkeypatch.setattr(fidelity, "_TILE_ROWS", 7)
    monkeypatch.setattr(fidelity, "_TILE_COLUMNS", 13)
    monkeypatch.setattr(fidelity, "_BAND_SAMPLES", 1000)
    pieces = compare(*pair)
    assert pieces.psnr == whole.psnr
    assert pieces.ssim == pytest.approx(whole.ssim, abs=1e-12)


def test_views_are_read_as_they_look(pair):
    """Arrays that are not contiguous, or read-only, give the same figures."""
    first, second = (pixels[::-1, ::2] for pixels in pair)
    copies = first.copy(), second.copy()
    copies[0].flags.writeable = False
    assert compare(first, second) == compare(*copies)


def test_memory_does_not_grow_with_the_picture():
    """A picture of 12 million samples needs some megabytes, in either direction."""
    first = np.zeros((1200, 3300, 3), np.uint8)
    second = first + np.uint8(1)
    tracemalloc.start()
    compare(first, second)
    compare(first.reshape(12, -1, 3), second.reshape(12, -1, 3))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 << 20


def test_report_is_short():
    """The report reads as one line, and infinity as a word."""
    assert repr(FidelityReport(41.83, 0.98123)) == (
        "<FidelityReport PSNR 41.8 dB, SSIM 0.9812>"
    )
    assert repr(FidelityReport(math.inf, 1.0)) == (
        "<FidelityReport PSNR inf dB, SSIM 1.0000>"
    )


GOOD = np.zeros((12, 12, 3), np.uint8)


@pytest.mark.parametrize("measure", [psnr, ssim, compare])
@pytest.mark.parametrize(
    ("other", "kind", "message"),
    [
        (GOOD.tolist(), TypeError, "Expected an array of uint8 but received list"),
        (GOOD / 255, TypeError, "Expected uint8 pixels but received float64"),
        (GOOD[:, :, :2], ValueError, r"but received \(12, 12, 2\)"),
        (GOOD[0, 0], ValueError, r"but received \(3,\)"),
        (GOOD[:0], ValueError, r"at least one pixel but received \(0, 12, 3\)"),
        (GOOD[:11], ValueError, "one size but received 1[12]×12 and 1[12]×12"),
        (GOOD.transpose(2, 0, 1), ValueError, r"but received \(3, 12, 12\)"),
    ],
    ids=["list", "float", "two", "row", "empty", "size", "planes"],
)
def test_refusals_say_what_was_expected(measure, other, kind, message):
    """Anything but two uint8 pictures of one size is refused, on either side."""
    for both in ((GOOD, other), (other, GOOD)):
        with pytest.raises(kind, match=message):
            measure(*both)
