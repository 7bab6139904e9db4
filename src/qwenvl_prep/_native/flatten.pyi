import numpy as np
from numpy.typing import NDArray

def flatten_rgba(
    source: NDArray[np.uint8],
    target: NDArray[np.uint8],
    red: int,
    green: int,
    blue: int,
) -> None: ...
