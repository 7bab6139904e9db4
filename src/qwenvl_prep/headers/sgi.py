"""SGI images (.sgi, .rgb, .rgba, .bw)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from qwenvl_prep.headers.info import ImageInfo
from qwenvl_prep.headers.refuse import damaged

if TYPE_CHECKING:
    from qwenvl_prep.headers.reader import HeaderReader

__all__ = ["read_sgi"]

_header = struct.Struct(">2xBBHHHH")


def read_sgi(reader: HeaderReader) -> ImageInfo:
    """Read the header, which is 512 bytes long."""
    packing, sample_bytes, dimensions, width, height, channels = _header.unpack_from(
        reader.read(0, 512)
    )
    if packing > 1 or sample_bytes not in (1, 2) or not 1 <= dimensions <= 3:
        raise damaged(
            "SGI",
            "1 or 2 bytes a sample in up to 3 dimensions",
            f"{sample_bytes} bytes, {dimensions} dimensions, packing {packing}",
        )
    if dimensions < 3:
        channels = 1
    if dimensions == 1:
        height = 1
    if not height or not width or not 1 <= channels <= 4:
        raise damaged(
            "SGI",
            "a height and width above 0 in 1 to 4 channels",
            f"{height}x{width} in {channels}",
        )
    return ImageInfo(
        "SGI",
        "image/sgi",
        height,
        width,
        channels=channels,
        bit_depth=8 * sample_bytes,
        has_alpha=channels in (2, 4),
        colour="grey" if channels < 3 else "rgb",
        is_lossless=True,
        encoded_size=reader.size,
    )
