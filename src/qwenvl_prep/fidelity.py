"""How far what is sent is from the exact pixels: PSNR and SSIM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["UNTOUCHED", "WINDOW", "FidelityReport", "compare", "psnr", "ssim"]

# Wang et al. 2004, section III.C: an 11x11 Gaussian window, and the two constants
# that keep the quotient steady where the window is nearly black or nearly flat.
WINDOW = 11
_SIGMA = 1.5
_PEAK = 255.0
_C1 = (0.01 * _PEAK) ** 2
_C2 = (0.03 * _PEAK) ** 2

# Windows in one piece of work: at float64 and three channels its arrays stay within
# a CPU's second cache, and memory is the same for a picture of any size.
_TILE_ROWS = 64
_TILE_COLUMNS = 256
_BAND_SAMPLES = 1 << 18


@dataclass(frozen=True, slots=True, repr=False)
class FidelityReport:
    """
    How far what is sent is from the exact pixels.

    Attributes
    ----------
    psnr : float
        Peak signal-to-noise ratio in dB, infinite where nothing differs.
    ssim : float
        Mean structural similarity, -1 to 1; 1 where nothing differs.

    Examples
    --------
    >>> FidelityReport(psnr=41.8, ssim=0.9812)
    <FidelityReport PSNR 41.8 dB, SSIM 0.9812>
    """

    psnr: float
    ssim: float

    def __str__(self) -> str:
        return f"PSNR {self.psnr:.1f} dB, SSIM {self.ssim:.4f}"

    def __repr__(self) -> str:
        return f"<FidelityReport {self}>"


# Where the original bytes are sent.
UNTOUCHED = FidelityReport(psnr=math.inf, ssim=1.0)


def compare(sent: NDArray[np.uint8], exact: NDArray[np.uint8]) -> FidelityReport:
    """
    Measure how far pixels are from the exact ones.

    Both figures are symmetric: which of the two is the exact one does not matter.

    Parameters
    ----------
    sent, exact : ndarray of uint8, shape (height, width) or (height, width, 3)
        Grey or RGB pictures of one size.  Grey beside RGB counts as three equal
        channels.

    Returns
    -------
    FidelityReport
        What :func:`psnr` and :func:`ssim` give.

    Raises
    ------
    TypeError
        If one is no array of uint8.
    ValueError
        If one has another shape, or no pixels, or their sizes differ.

    Examples
    --------
    >>> import numpy as np
    >>> grey = np.full((32, 32), 100, np.uint8)
    >>> compare(grey, grey)
    <FidelityReport PSNR inf dB, SSIM 1.0000>
    """
    return FidelityReport(psnr=psnr(sent, exact), ssim=ssim(sent, exact))


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """
    Give the peak signal-to-noise ratio over all samples.

    Parameters
    ----------
    first, second : ndarray of uint8, shape (height, width) or (height, width, 3)
        Grey or RGB pictures of one size.  Grey beside RGB counts as three equal
        channels.

    Returns
    -------
    float
        ``10 * log10(255**2 / mean squared difference)`` in dB, 0 or more; infinite
        where nothing differs.

    Raises
    ------
    TypeError
        If one is no array of uint8.
    ValueError
        If one has another shape, or no pixels, or their sizes differ.

    Examples
    --------
    >>> import numpy as np
    >>> black = np.zeros((4, 4), np.uint8)
    >>> psnr(black, black + 255), round(psnr(black, black + 1), 2)
    (0.0, 48.13)
    """
    import numpy as np

    first, second = _alike(first, second)
    height, width, channels = first.shape
    band = max(1, _BAND_SAMPLES // (width * channels))
    total = 0
    for top in range(0, height, band):
        difference = np.subtract(
            first[top : top + band], second[top : top + band], dtype=np.int32
        )
        difference *= difference
        # Whole numbers, so the sum is exact and no order of adding matters.
        total += int(difference.sum(dtype=np.int64))
    if not total:
        return math.inf
    return 10 * math.log10(_PEAK**2 * first.size / total)


def ssim(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """
    Give the mean structural similarity of two pictures.

    Each channel is compared by itself, at every place where the whole window lies
    inside the picture; the mean goes over those places and the channels.

    Parameters
    ----------
    first, second : ndarray of uint8, shape (height, width) or (height, width, 3)
        Grey or RGB pictures of one size.  Grey beside RGB counts as three equal
        channels.

    Returns
    -------
    float
        -1 to 1; exactly 1 where nothing differs.

    Raises
    ------
    TypeError
        If one is no array of uint8.
    ValueError
        If one has another shape, or no pixels, or their sizes differ.

    Notes
    -----
    Z. Wang, A. C. Bovik, H. R. Sheikh, E. P. Simoncelli: *Image quality assessment:
    from error visibility to structural similarity*, IEEE Transactions on Image
    Processing 13 (2004), with their constants: an 11x11 Gaussian window of sigma
    1.5, K1 = 0.01, K2 = 0.03, L = 255.  The result is that of scikit-image's
    ``structural_similarity`` with ``gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False``, which cuts the same five pixels off each border.

    A picture with a side below 11 pixels is compared in a smaller square window:
    the largest of odd side that fits, of the same sigma.

    Examples
    --------
    >>> import numpy as np
    >>> ramp = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    >>> round(ssim(ramp, ramp + 20), 4)
    0.8309
    """
    import numpy as np

    first, second = _alike(first, second)
    height, width, channels = first.shape
    side = min(WINDOW, height - 1 + height % 2, width - 1 + width % 2)
    weights = _gaussian(side)
    rows, columns = height - side + 1, width - side + 1
    total = 0.0
    for top, left in _tiles(rows, columns):
        # The window reaches beyond the places whose similarity is counted here.
        bottom = min(top + _TILE_ROWS, rows) + side - 1
        right = min(left + _TILE_COLUMNS, columns) + side - 1
        flat = (bottom - top, (right - left) * channels)
        values = _similarities(
            first[top:bottom, left:right].reshape(flat).astype(np.float64),
            second[top:bottom, left:right].reshape(flat).astype(np.float64),
            weights,
            channels,
        )
        total += float(values.sum())
    return float(total / (rows * columns * channels))


def _alike(
    first: NDArray[np.uint8], second: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Check both pictures and give each the same three axes."""
    import numpy as np

    for pixels in (first, second):
        if not isinstance(pixels, np.ndarray):
            raise TypeError(
                f"Expected an array of uint8 but received {type(pixels).__name__}"
            )
        if pixels.dtype != np.uint8:
            raise TypeError(f"Expected uint8 pixels but received {pixels.dtype}")
        is_grey = pixels.ndim == 2
        if not is_grey and (pixels.ndim != 3 or pixels.shape[2] != 3):
            raise ValueError(
                f"Expected pixels of shape (height, width) or (height, width, 3) but "
                f"received {pixels.shape}"
            )
        if not pixels.size:
            raise ValueError(f"Expected at least one pixel but received {pixels.shape}")
    if first.shape[:2] != second.shape[:2]:
        raise ValueError(
            f"Expected two pictures of one size but received "
            f"{first.shape[0]}×{first.shape[1]} and "
            f"{second.shape[0]}×{second.shape[1]} (height × width)"
        )
    if first.ndim == second.ndim == 2:
        return first[..., np.newaxis], second[..., np.newaxis]
    return _in_colour(first), _in_colour(second)


def _in_colour(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give three channels; a view, so a grey picture's take no memory."""
    import numpy as np

    if pixels.ndim == 2:
        return np.broadcast_to(pixels[..., np.newaxis], (*pixels.shape, 3))
    return pixels


def _gaussian(side: int) -> list[float]:
    """Give the window's weights along one axis; their sum is 1."""
    centre = side // 2
    bell = [
        math.exp(-((place - centre) ** 2) / (2 * _SIGMA**2)) for place in range(side)
    ]
    return [weight / math.fsum(bell) for weight in bell]


def _tiles(rows: int, columns: int) -> Iterator[tuple[int, int]]:
    """Give the corners of the pieces, always in one order: sums are of floats."""
    for top in range(0, rows, _TILE_ROWS):
        for left in range(0, columns, _TILE_COLUMNS):
            yield top, left


def _similarities(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    weights: list[float],
    channels: int,
) -> NDArray[np.float64]:
    """
    Give the similarity at each place of a tile.

    Sum and difference of the pictures are filtered in place of the pictures: four
    filters do for the paper's five, and where nothing differs the numerator and the
    denominator are the same numbers, so the quotient is exactly 1.
    """
    plus, minus = first + second, first - second
    mean_plus = _blurred(plus, weights, channels)
    mean_minus = _blurred(minus, weights, channels)
    plus *= plus
    minus *= minus
    variance_plus = _blurred(plus, weights, channels)
    variance_minus = _blurred(minus, weights, channels)
    mean_plus *= mean_plus
    mean_minus *= mean_minus
    variance_plus -= mean_plus
    variance_minus -= mean_minus
    # Each is twice what stands in the paper: 4xy = (x + y)² - (x - y)², and
    # 2(x² + y²) = (x + y)² + (x - y)²; so are the constants.
    luminance = mean_plus - mean_minus + 2 * _C1
    structure = variance_plus - variance_minus + 2 * _C2
    mean_plus += mean_minus
    mean_plus += 2 * _C1
    variance_plus += variance_minus
    variance_plus += 2 * _C2
    luminance *= structure
    mean_plus *= variance_plus
    luminance /= mean_plus
    return luminance


def _blurred(
    samples: NDArray[np.float64], weights: list[float], channels: int
) -> NDArray[np.float64]:
    """Filter down and then along the rows, where the whole window fits."""
    import numpy as np

    side = len(weights)
    centre = side // 2
    for axis, step in ((0, 1), (1, channels)):
        length = samples.shape[axis] - (side - 1) * step
        parts = [
            samples[place : place + length]
            if axis == 0
            else samples[:, place * step : place * step + length]
            for place in range(side)
        ]
        blurred = parts[centre] * weights[centre]
        pair = np.empty_like(blurred)
        # Two by two, as the window is the same on both sides of its centre.
        for place in range(centre):
            np.add(parts[place], parts[side - 1 - place], out=pair)
            pair *= weights[place]
            blurred += pair
        samples = blurred
    return samples
