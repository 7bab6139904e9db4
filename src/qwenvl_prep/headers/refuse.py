"""The sentences with which a header is refused."""

from __future__ import annotations

import operator
from typing import Any

from qwenvl_prep.errors import DamagedImageError, FrameError, UnsupportedFormatError

__all__ = ["as_frame", "check_frame", "damaged", "unsupported"]


def as_frame(frame: Any) -> int:
    """Give the number of a frame as an int; refuse what is no number from 0 on."""
    try:
        number = -1 if isinstance(frame, bool) else operator.index(frame)
    except TypeError:
        number = -1
    if number < 0:
        raise FrameError(
            f"Expected a frame as a whole number from 0 on but received {frame!r}",
            frame=frame,
            n_frames=0,
        )
    return number


def check_frame(frame: int, n_frames: int) -> None:
    """Refuse the number of a frame that a file does not have."""
    if frame >= n_frames:
        known = f"a frame from 0 to {n_frames - 1}" if n_frames > 1 else "frame 0"
        only = "" if n_frames > 1 else ", for there is only one"
        raise FrameError(
            f"Expected {known} but received {frame}{only}",
            frame=frame,
            n_frames=n_frames,
        )


def damaged(name: str, expected: str, received: str) -> DamagedImageError:
    """Build the error for a header that contradicts its own format."""
    return DamagedImageError(
        f"Expected {expected} in the {name} header but received {received}; "
        "the file is damaged, obtain it again or save it anew",
        format=name,
    )


def unsupported(name: str, what: str) -> UnsupportedFormatError:
    """Build the error for a picture of a type that is not read here."""
    return UnsupportedFormatError(
        f"Expected a picture of a supported type but received {what}; "
        "convert it to PNG or JPEG first",
        format=name,
        extra=None,
    )
