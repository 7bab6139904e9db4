"""Whether a JPEG is sound up to its pixels and reaches its end; what mends junk."""

from __future__ import annotations

import re
from struct import Struct
from typing import TYPE_CHECKING

from qwenvl_prep.errors import DamagedImageError

if TYPE_CHECKING:
    from qwenvl_prep.headers import ImageInfo

__all__ = ["is_sound_jpeg", "reaches_end_of_jpeg", "without_junk"]

_U16 = Struct(">H")
# What libjpeg takes for the next marker, wherever it stands.
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
# Markers without a length, which mean nothing before a scan: TEM and restarts.
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})

_SOI_LENGTH = 2
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"
_BLOCK = 8
_QUANTISATION = 0xDB
_HUFFMAN = 0xC4
_RESTART_INTERVAL = 0xDD
# Baseline and extended frames: Huffman codes, block after block.
_SEQUENTIAL = frozenset({0xC0, 0xC1})
# Application data and comments, which no decoder needs.
_IGNORED = frozenset({*range(0xE0, 0xF0), 0xFE})
# All coefficients in one go; nothing else is legal in a sequential scan.
_WHOLE_SPECTRUM = bytes((0, 63, 0))
_MAX_DC_CATEGORY = 15


def is_sound_jpeg(data: bytes) -> bool:
    """
    Tell whether everything before the pixels is as a decoder needs it.

    Quantisation and Huffman tables, one sequential frame and one scan of all its
    components are read to the letter.  What decoders refuse in a damaged JPEG is
    nearly always there; the pixels' own code has no checks that it could fail.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    bool
        False also for what is legal but rarer: progressive, arithmetic, several
        scans, junk between segments.  Such a file has to be decoded to be known.
    """
    quantisation: set[int] = set()
    huffman: set[int] = set()
    frame: dict[int, int] = {}
    position = _SOI_LENGTH
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        end = position + 2 + _U16.unpack_from(data, position + 2)[0]
        body = data[position + 4 : end]
        if end > len(data) or end < position + 4:
            return False
        if marker == _START_OF_SCAN:
            return _is_sound_scan(body, frame, quantisation, huffman)
        if marker == _QUANTISATION:
            is_sound = _read_quantisation(body, quantisation)
        elif marker == _HUFFMAN:
            is_sound = _read_huffman(body, huffman)
        elif marker in _SEQUENTIAL:
            is_sound = not frame and _read_frame(body, frame)
        else:
            is_sound = marker in _IGNORED or (
                marker == _RESTART_INTERVAL and len(body) == 2
            )
        if not is_sound:
            return False
        position = end
    return False


def reaches_end_of_jpeg(data: bytes, info: ImageInfo) -> bool:
    """
    Tell whether an end marker follows the first scan.

    Raises
    ------
    DamagedImageError
        If it follows, but too soon for so many pixels.
    """
    position = _SOI_LENGTH
    frame = 0
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return False
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker == _START_OF_SCAN:
            # An end marker before the scan belongs to a thumbnail in a segment.
            length = data.rfind(_END_OF_IMAGE) - position
            if 0 <= length < _least_scan_bytes(info, frame):
                raise DamagedImageError(
                    f"Expected a whole JPEG but {length:,} bytes cannot hold its "
                    f"{info.height} × {info.width} pixels; export or download the "
                    f"file again",
                    format="JPEG",
                )
            return length > 0
        elif marker in _BARE:
            position += 2
        else:
            if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
                frame = marker
            position += 2 + _U16.unpack_from(data, position + 2)[0]
    return False


def _least_scan_bytes(info: ImageInfo, frame: int) -> int:
    """
    Give a length that no complete scan falls below.

    The brightness of every block of 8 × 8 pixels takes one code for its mean and, in
    sequential files, one more for its end; a code has at least one bit.
    """
    blocks = -(-info.height // _BLOCK) * -(-info.width // _BLOCK)
    if frame in _SEQUENTIAL:
        return blocks * 2 // 8
    return 2


def without_junk(data: bytes) -> bytes:
    """
    Drop bytes that stand between segments, and mend a sequential scan's bounds.

    libjpeg skips both with a warning, and one warning hides all later ones.  Without
    them, whatever it still warns of is damage to the pixels.

    Returns
    -------
    bytes
        The same bytes where nothing has to be mended.
    """
    pieces = [data[:_SOI_LENGTH]]
    position = _SOI_LENGTH
    is_sequential = False
    while position + 4 <= len(data):
        found = _MARKER.search(data, position)
        if found is None or found.start() + 4 > len(data):
            break
        start = found.start()
        marker = data[start + 1]
        if marker in _BARE:
            position = start + 2
            continue
        end = start + 2 + _U16.unpack_from(data, start + 2)[0]
        if marker == _START_OF_SCAN:
            scan = data[start:end]
            if is_sequential:
                scan = scan[:-3] + _WHOLE_SPECTRUM
            pieces += [scan, data[end:]]
            return b"".join(pieces)
        is_sequential = is_sequential or marker in _SEQUENTIAL
        pieces.append(data[start:end])
        position = end
    return data


def _read_quantisation(body: bytes, tables: set[int]) -> bool:
    while body:
        precision, table = body[0] >> 4, body[0] & 15
        size = 1 + 64 * (precision + 1)
        if precision > 1 or table > 3 or len(body) < size:
            return False
        tables.add(table)
        body = body[size:]
    return True


def _read_huffman(body: bytes, tables: set[int]) -> bool:
    while body:
        kind, table = body[0] >> 4, body[0] & 15
        counts = body[1:17]
        total = sum(counts)
        if kind > 1 or table > 3 or total > 256 or len(body) < 17 + total:
            return False
        code = 0
        for length, count in enumerate(counts, start=1):
            code += count
            # All codes of a length in use leave none to tell longer ones by.
            if code > 1 << length:
                return False
            code <<= 1
        symbols = body[17 : 17 + total]
        if kind == 0 and total and max(symbols) > _MAX_DC_CATEGORY:
            return False
        tables.add(body[0])
        body = body[17 + total :]
    return True


def _read_frame(body: bytes, frame: dict[int, int]) -> bool:
    if len(body) < 6 or len(body) != 6 + 3 * body[5]:
        return False
    for start in range(6, len(body), 3):
        component, sampling, table = body[start : start + 3]
        is_sampled = 1 <= sampling >> 4 <= 4 and 1 <= sampling & 15 <= 4
        if component in frame or not is_sampled or table > 3:
            return False
        frame[component] = table
    return True


def _is_sound_scan(
    body: bytes, frame: dict[int, int], quantisation: set[int], huffman: set[int]
) -> bool:
    count = body[0] if body else 0
    if not count or count != len(frame) or len(body) != 4 + 2 * count:
        return False
    seen = set()
    for start in range(1, 1 + 2 * count, 2):
        component, tables = body[start], body[start + 1]
        if component not in frame or frame[component] not in quantisation:
            return False
        if tables >> 4 not in huffman or (tables & 15) | 16 not in huffman:
            return False
        seen.add(component)
    return len(seen) == count and body[-3:] == _WHOLE_SPECTRUM
