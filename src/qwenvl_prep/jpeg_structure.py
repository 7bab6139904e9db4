"""Whether a JPEG is sound around its pixels and reaches its end; what mends junk."""

from __future__ import annotations

import re
from functools import lru_cache
from struct import Struct

from qwenvl_prep._native.scan import end_of_scan

__all__ = [
    "count_scans",
    "is_sound_jpeg",
    "lacks_a_colour",
    "reaches_end_of_jpeg",
    "whole_scans",
    "without_junk",
]

_U16 = Struct(">H")
_FRAME = Struct(">xHHB")  # precision, height, width, number of components
# What libjpeg takes for the next marker, wherever it stands.
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
# Markers without a length, which mean nothing before a scan: TEM and restarts.
_BARE = frozenset({0x01, *range(0xD0, 0xD8)})

_SOI_LENGTH = 2
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = b"\xff\xd9"
_SCAN_MARK = b"\xff\xda"
# Nothing, or the next picture of an MPO.
_BEHIND = frozenset({b"", b"\xff\xd8"})
_HOLE = bytes(256)
_BLOCK = 8
# Cameras write four tables into one segment; more of them is nothing to remember.
_LONGEST_TABLES = 4 * (1 + 16 + 256)
_QUANTISATION = 0xDB
_HUFFMAN = 0xC4
_TABLES = frozenset({_QUANTISATION, _HUFFMAN})
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
    Tell whether all but the pixels' own code is as a decoder needs it.

    Quantisation and Huffman tables, one sequential frame and one scan of all its
    components are read to the letter.  The scan must end at an end marker, and no
    sooner than the shortest code for its blocks would; its restart markers must be
    as many as the interval wants, and count in turn.  Behind the end marker there
    may be another picture, or nothing: anything else may be the rest of a scan that
    a damaged byte has ended.

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
    size = b""
    interval = 0
    position = _SOI_LENGTH
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        end = position + 2 + _U16.unpack_from(data, position + 2)[0]
        if end > len(data) or end < position + 4:
            return False
        if marker in _IGNORED:
            position = end
            continue
        body = data[position + 4 : end]
        if marker == _START_OF_SCAN:
            return _is_sound_scan(
                body, frame, quantisation, huffman
            ) and _ends_as_it_should(data, end, size, interval)
        if marker in _TABLES:
            tables = _read_tables(marker, body)
            is_sound = bool(tables)
            (huffman if marker == _HUFFMAN else quantisation).update(tables)
        elif marker in _SEQUENTIAL:
            is_sound = not frame and _read_frame(body, frame)
            size = body
        else:
            is_sound = marker == _RESTART_INTERVAL and len(body) == 2
            if is_sound:
                interval = _U16.unpack(body)[0]
        if not is_sound:
            return False
        position = end
    return False


def reaches_end_of_jpeg(data: bytes) -> bool:
    """Tell whether an end marker follows the first scan."""
    # An end marker before the scan belongs to a thumbnail in a segment.
    position = _first_scan(data)
    return position > 0 and data.rfind(_END_OF_IMAGE) > position


def count_scans(data: bytes, most: int) -> int:
    """Count the scans up to *most*, those of further pictures of an MPO included."""
    position = _first_scan(data)
    count = 0
    # In a scan's code every 0xFF is followed by zero, so its mark stands for itself.
    while position >= 0 and count < most:
        count += 1
        position = data.find(_SCAN_MARK, position + 2)
    return count


def whole_scans(data: bytes) -> list[int]:
    """
    Tell where scans end behind which no colour of the picture is missing any more.

    Returns
    -------
    list of int
        Positions of the markers that follow those scans, in order.
    """
    return _walk_scans(data)[0]


def lacks_a_colour(data: bytes) -> bool:
    """Tell whether a JPEG ends properly without a scan for one of its colours."""
    ends, is_clean = _walk_scans(data)
    return is_clean and not ends


def _walk_scans(data: bytes) -> tuple[list[int], bool]:
    """Give the ends of :func:`whole_scans`, and whether the end marker was met."""
    ends: list[int] = []
    frame: dict[int, int] = {}
    seen: set[int] = set()
    position = _SOI_LENGTH
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        end = position + 2 + _U16.unpack_from(data, position + 2)[0]
        body = data[position + 4 : end]
        if data[position : position + 2] == _END_OF_IMAGE:
            break
        if marker in _BARE or marker == 0xFF or end < position + 4:
            break
        if 0xC0 <= marker <= 0xCF and marker not in {_HUFFMAN, 0xC8, 0xCC}:
            if frame or not _read_frame(body, frame):
                break
        elif marker == _START_OF_SCAN:
            position, _ = end_of_scan(data, end)
            if position < 0 or len(body) < 4:
                break
            if body[-3] == 0:  # from the mean of a block on, not its details alone
                seen.update(body[1 : 1 + 2 * body[0] : 2])
            if seen >= frame.keys():
                ends.append(position)
            continue
        position = end
    is_clean = position > 0 and data[position : position + 2] == _END_OF_IMAGE
    return ends, is_clean


def _first_scan(data: bytes) -> int:
    """Give the position of the first scan's marker; -1 if there is none."""
    position = _SOI_LENGTH
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return -1
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker == _START_OF_SCAN:
            return position
        elif marker in _BARE:
            position += 2
        else:
            position += 2 + _U16.unpack_from(data, position + 2)[0]
    return -1


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


def _read_tables(marker: int, body: bytes) -> frozenset[int]:
    """Give the numbers of a segment's tables; none where one of them is not sound."""
    if len(body) > _LONGEST_TABLES:
        return frozenset()
    return _known_tables(marker, body)


# Most files bring the tables of the standard, or those of one camera.
@lru_cache(maxsize=64)
def _known_tables(marker: int, body: bytes) -> frozenset[int]:
    tables: set[int] = set()
    read = _read_huffman if marker == _HUFFMAN else _read_quantisation
    return frozenset(tables if read(body, tables) else ())


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
    return bool(frame)


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


def _ends_as_it_should(data: bytes, start: int, frame: bytes, interval: int) -> bool:
    """
    Tell whether a scan ends where it should.

    The brightness of every block of 8 × 8 pixels takes one code for its mean and one
    more for its end, and a code has at least one bit.
    """
    end, restarts = end_of_scan(data, start)
    if end < 0 or data[end : end + 2] != _END_OF_IMAGE:
        return False
    # No picture's code looks like that, and a file that was not copied whole does.
    if data.find(_HOLE, start, end) >= 0:
        return False
    if end + 2 < len(data) and data[end + 2 :].lstrip(b"\0")[:2] not in _BEHIND:
        return False
    height, width, components = _FRAME.unpack_from(frame)
    blocks = -(-height // _BLOCK) * -(-width // _BLOCK)
    if (end - start) * 8 < blocks * 2:
        return False
    if not interval:
        return restarts == 0
    # A scan of one component is coded block by block, whatever its sampling.
    across = down = _BLOCK
    if components > 1:
        across *= max(sampling >> 4 for sampling in frame[7::3])
        down *= max(sampling & 15 for sampling in frame[7::3])
    units = -(-height // down) * -(-width // across)
    return bool(restarts == (units - 1) // interval)
