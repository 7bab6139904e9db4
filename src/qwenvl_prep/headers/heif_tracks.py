"""Tracks of the image sequences in HEIF and AVIF files."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from qwenvl_prep.headers.boxes import Box, walk_boxes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwenvl_prep.headers.reader import HeaderReader

__all__ = ["Track", "auxiliary_type", "read_track"]


class Samples(NamedTuple):
    """How many samples a track has, and what describes them."""

    number: int = 0
    configuration: bytes = b""
    auxiliary: bytes = b""


class Track(NamedTuple):
    """One track: what it is for, how large, and its samples."""

    handler: bytes
    height: int
    width: int
    samples: Samples


def read_track(reader: HeaderReader, trak: Box) -> Track:
    """Read what a trak box says."""
    handler = b""
    height = width = 0
    samples = Samples()
    for box in walk_boxes(reader, trak.start, trak.end):
        if box.kind == b"tkhd":
            # Width and height close the box, in 16.16 fixed point.
            width, height = struct.unpack(">HxxHxx", reader.read(box.end - 8, 8))
        elif box.kind == b"mdia":
            for inner in walk_boxes(reader, box.start, box.end):
                if inner.kind == b"hdlr":
                    handler = reader.read(inner.start + 8, 4)
                elif inner.kind == b"minf":
                    samples = _read_samples(reader, inner)
    return Track(handler, height, width, samples)


def _read_samples(reader: HeaderReader, minf: Box) -> Samples:
    count, configuration, auxiliary = 0, b"", b""
    for table in _inside(reader, minf, b"stbl"):
        if table.kind == b"stsz":
            (count,) = struct.unpack(">I", reader.read(table.start + 8, 4))
        elif table.kind == b"stsd":
            for entry in walk_boxes(reader, table.start + 8, table.end):
                # 78 bytes describe a visual sample, then boxes follow.
                for part in walk_boxes(reader, entry.start + 78, entry.end):
                    if part.kind == b"av1C":
                        configuration = reader.read(part.start, 4)
                    elif part.kind == b"auxi":
                        auxiliary = auxiliary_type(reader, part)
    return Samples(count, configuration, auxiliary)


def _inside(reader: HeaderReader, box: Box, kind: bytes) -> Iterator[Box]:
    for inner in walk_boxes(reader, box.start, box.end):
        if inner.kind == kind:
            yield from walk_boxes(reader, inner.start, inner.end)


def auxiliary_type(reader: HeaderReader, box: Box) -> bytes:
    """Read the name in an auxC or auxi box; alpha has a short one."""
    length = min(box.end - box.start - 4, 64)
    return reader.read_up_to(box.start + 4, length).split(b"\0")[0]
