import numpy as np
from numpy.typing import NDArray

WORK_ROWS: int
MAX_SQUARES: int
MAX_IMAGES: int

def vision_tokens_under(
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    caps: NDArray[np.int64],
    counts: NDArray[np.int64],
    factor: int,
    min_pixels: int,
    max_pixels: int,
    max_ratio: int,
) -> int: ...
def fit_scale(
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    natural: NDArray[np.int64],
    shares: NDArray[np.float64],
    floors: NDArray[np.int64],
    caps: NDArray[np.int64],
    areas: NDArray[np.int64],
    work: NDArray[np.int64],
    keys: NDArray[np.float64],
    factor: int,
    min_pixels: int,
    max_ratio: int,
    budget: int,
) -> tuple[int, float]: ...
