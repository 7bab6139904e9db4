import numpy as np
from numpy.typing import NDArray

def shape_rgb(
    source: NDArray[np.uint8],
    target: NDArray[np.uint8],
    parts: NDArray[np.int32],
    levels: NDArray[np.uint8],
) -> None: ...
