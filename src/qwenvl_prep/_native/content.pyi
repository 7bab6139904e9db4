import numpy as np
from numpy.typing import NDArray

def is_neutral(pixels: NDArray[np.uint8]) -> bool: ...
def index_colours(
    pixels: NDArray[np.uint8],
    channels: int,
    indices: NDArray[np.uint8],
    colours: NDArray[np.uint8],
) -> int: ...
def sample(
    pixels: NDArray[np.uint8],
    height: int,
    width: int,
    channels: int,
    tables: NDArray[np.float32],
    squares: int,
    losses: NDArray[np.float64],
) -> tuple[float, float, float]: ...
