import numpy as np
from numpy.typing import NDArray

MAX_SIDE: int

def is_height_first(
    height: int, width: int, out_height: int, out_width: int
) -> bool: ...
def resample(
    source: NDArray[np.uint8],
    target: NDArray[np.uint8],
    height: int,
    width: int,
    channels: int,
    out_height: int,
    out_width: int,
    height_first: bool,
) -> None: ...
