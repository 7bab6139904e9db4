"""The sentences with which picture data is refused that does not keep its promise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwenvl_prep.errors import DamagedImageError

if TYPE_CHECKING:
    from qwenvl_prep.headers import ImageInfo

__all__ = ["SALVAGED", "broken", "check_size"]

# Types of which rows or scans that arrived whole can be had.
SALVAGED = frozenset({"JPEG", "PNG"})


def broken(name: str, reason: str) -> DamagedImageError:
    """Build the error for data that a decoder gives up on."""
    accept = ", or take what arrived: on_truncated='accept'" * (name in SALVAGED)
    return DamagedImageError(
        f"Expected a whole {name} but its data is broken or ends early ({reason}); "
        f"export or download the file again{accept}",
        format=name,
    )


def check_size(height: int, width: int, info: ImageInfo) -> None:
    """
    Refuse data of another size than the header announces.

    Whoever takes rows makes room by the header, so this comes before the first row.
    """
    if (height, width) != (info.height, info.width):
        raise DamagedImageError(
            f"Expected {info.height} × {info.width} pixels, as the {info.format} "
            f"header says, but its data holds {height} × {width}",
            format=info.format,
        )
