"""Boxes, of which HEIF, AVIF, JPEG 2000 and MP4 files consist."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwenvl_prep.headers.reader import HeaderReader

__all__ = ["Box", "reaches_end_of_boxes", "walk_boxes"]

_header = struct.Struct(">I4s")
_MAX_BOXES = 4096


class Box(NamedTuple):
    """A box: its type, and where its contents start and end."""

    kind: bytes
    start: int
    end: int


def walk_boxes(reader: HeaderReader, at: int, end: int) -> Iterator[Box]:
    """
    Give the boxes that follow each other between two offsets.

    The walk ends quietly at a box that is no box, or after 4,096 of them; what is
    missing then is noticed by whoever needed it. A box that claims to reach over
    the end is cut there.
    """
    for _ in range(_MAX_BOXES):
        if at + 8 > end:
            return
        size, kind = _header.unpack(reader.read(at, 8))
        start = at + 8
        if size == 1:
            size = int.from_bytes(reader.read(start, 8), "big")
            start += 8
        elif size == 0:
            # Up to the end of the file.
            size = end - at
        if size < start - at:
            return
        at += size
        yield Box(kind, start, min(at, end))


def reaches_end_of_boxes(data: bytes) -> bool:
    """
    Tell whether no box of a whole file claims to reach over its end.

    Parameters
    ----------
    data : bytes
        The whole file.
    """
    at = 0
    while at + 16 <= len(data):
        size, _ = _header.unpack_from(data, at)
        start = 8
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
            start = 16
        if size < start:  # up to the end, or no box
            return True
        at += size
    return at <= len(data)
