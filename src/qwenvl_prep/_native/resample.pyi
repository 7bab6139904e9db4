from typing_extensions import Buffer

MAX_SIDE: int

def is_height_first(
    height: int, width: int, out_height: int, out_width: int
) -> bool: ...
def resample(
    source: Buffer,
    target: Buffer,
    height: int,
    width: int,
    channels: int,
    out_height: int,
    out_width: int,
) -> None: ...
