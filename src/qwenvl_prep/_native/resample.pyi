from typing import final

import numpy as np
from numpy.typing import NDArray

MAX_SIDE: int

def is_height_first(
    height: int, width: int, out_height: int, out_width: int
) -> bool: ...
def backends() -> list[str]: ...
def backend() -> str: ...
def use_backend(name: str) -> None: ...

@final
class RowStream:
    @property
    def n_missing(self) -> int: ...
    def __init__(
        self,
        height: int,
        width: int,
        out_height: int,
        out_width: int,
        channels: int,
        height_first: bool,
        mirrored_across: bool = ...,
        mirrored_down: bool = ...,
        extent_down: float = ...,
        extent_across: float = ...,
    ) -> None: ...
    def n_ready(self, n_rows: int) -> int: ...
    def feed(self, rows: NDArray[np.uint8], target: NDArray[np.uint8]) -> None: ...

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
