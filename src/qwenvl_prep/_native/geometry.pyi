import numpy as np
from numpy.typing import NDArray

MAX_RATIO: int
MAX_PIXELS: int
MAX_FACTOR: int

def backends() -> list[str]: ...
def backend() -> str: ...
def use_backend(name: str) -> None: ...
def smart_resize(
    height: int,
    width: int,
    factor: int,
    min_pixels: int,
    max_pixels: int,
    strict: bool,
) -> tuple[int, int] | None: ...
def smart_resize_many(
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    sizes: NDArray[np.int64],
    factor: int,
    min_pixels: int,
    max_pixels: int,
    strict: bool,
) -> int: ...
def billed_tokens_many(
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    counts: NDArray[np.int64],
    factor: int,
    min_pixels: int,
    max_pixels: int,
    marker_tokens: int,
) -> int: ...
