"""TIFF and BigTIFF; and the EXIF and MPF blocks that have the same form."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from qwenvl_prep.headers.embedded import profile_pieces
from qwenvl_prep.headers.info import ImageInfo
from qwenvl_prep.headers.refuse import check_frame, damaged, unsupported
from qwenvl_prep.headers.xmp import xmp_orientation

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwenvl_prep.headers.reader import HeaderReader

__all__ = [
    "exif_orientation",
    "exif_orientation_at",
    "has_whole_directory",
    "mpf_offsets",
    "read_tiff",
]

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_ORIENTATION, _SAMPLES, _PLANAR, _EXTRA = 274, 277, 284, 338
_STRIP_HEIGHT = 278
_XMP, _ICC, _MPF_COUNT, _MPF_ENTRIES = 700, 34675, 0xB001, 0xB002
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_WINDOWS_MEDIA_PHOTO = 0xBC01

# TIFF 6.0 and BigTIFF field types that hold whole numbers -> struct code, bytes.
_WHOLE = {
    1: ("B", 1),
    3: ("H", 2),
    4: ("I", 4),
    6: ("b", 1),
    8: ("h", 2),
    9: ("i", 4),
    13: ("I", 4),
    16: ("Q", 8),
}
_BYTES = frozenset((1, 2, 7))

# Photometric interpretation -> colour, samples without extra ones.
_COLOURS = {
    0: ("grey", 1),
    1: ("grey", 1),
    2: ("rgb", 3),
    3: ("palette", 1),
    5: ("cmyk", 4),
    6: ("rgb", 3),
}
_OLD_JPEG, _JPEG = 6, 7
_YCBCR = 6
# Old and new JPEG, JPEG 2000, lossy WebP, JPEG of DNG.
_LOSSY = frozenset((_OLD_JPEG, _JPEG, 34712, 34892, 50001))
_DEPTHS = (1, 2, 4, 8, 10, 12, 16, 32, 64)

# LERC, WebP, JPEG XL: their decoders give a whole strip or nothing.
_WHOLE_STRIPS = frozenset((34887, 50001, 50002))

# A tile larger than this and than four times the picture is no writer's.
_MAX_TILE = 1 << 22

_MAX_PAGES = 10_000
# Tags are sorted and those looked for are low numbers; nothing sound has this many.
_MAX_ENTRIES = 4096
_MAX_VALUES = 64
_MAX_PACKET = 64 * 1024


class _Field(NamedTuple):
    kind: int
    length: int
    inline: bytes


class _Form(NamedTuple):
    """Byte order and field widths: those of TIFF, or those of BigTIFF."""

    number: struct.Struct
    entry: struct.Struct
    offset: struct.Struct
    order: str


_FORMS = {
    (order, big): _Form(
        struct.Struct(order + ("Q" if big else "H")),
        struct.Struct(order + ("HHQ8s" if big else "HHI4s")),
        struct.Struct(order + ("Q" if big else "I")),
        order,
    )
    for order in "<>"
    for big in (False, True)
}


def exif_orientation(data: bytes) -> int | None:
    """
    Find the orientation in an EXIF block.

    Parameters
    ----------
    data : bytes
        The block, with or without ``Exif`` and two zeros in front.

    Returns
    -------
    int or None
        The orientation, 1 to 8; 1 for another number; None if none is stated.
    """
    return _find_orientation(data)[0]


def exif_orientation_at(reader: HeaderReader, at: int, length: int) -> int | None:
    """Find the orientation in an EXIF block of a file, reading no more than needed."""
    # IFD0 stands first and ends within so many bytes nearly always.
    data = reader.read_up_to(at, min(length, 512))
    found, end = _find_orientation(data)
    if found is None and len(data) < min(end, length):
        found, _ = _find_orientation(reader.read_up_to(at, min(length, end)))
    return found


def _find_orientation(data: bytes) -> tuple[int | None, int]:
    """Give the orientation, and how much of the block it would take to be sure."""
    start = 0
    while start < 12 and data[start : start + 6] == b"Exif\0\0":
        start += 6
    order = {b"II": "<", b"MM": ">"}.get(data[start : start + 2])
    if order is None or len(data) < start + 8:
        return None, 0
    form = _FORMS[order, False]
    at = start + form.offset.unpack_from(data, start + 4)[0]
    if len(data) < at + 2:
        return None, at + 512
    table = at + 2
    end = table + 12 * form.number.unpack_from(data, at)[0]
    whole = min(end, len(data) - (len(data) - table) % 12)
    for tag, kind, count, inline in form.entry.iter_unpack(data[table:whole]):
        # Pillow takes a field of bytes for text, not for a number.
        if tag == _ORIENTATION and count and kind not in _BYTES:
            values = _whole_numbers(
                _Field(kind, count, inline), form, lambda o, n: data[start + o :][:n]
            )
            if values:
                return values[0] if 1 <= values[0] <= 8 else 1, end
    return None, end


def mpf_offsets(data: bytes) -> tuple[int, ...]:
    """
    Find the pictures of a multi-picture JPEG.

    Parameters
    ----------
    data : bytes
        The MPF block, without ``MPF`` and one zero in front.

    Returns
    -------
    tuple of int
        Where each one starts, counted from the start of this block, but 0 for the
        first; that one alone where the block is not sound, as Pillow has it.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None or len(data) < 8:
        return (0,)
    form = _FORMS[order, False]

    def read(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    fields, _ = _directory(read, form, form.offset.unpack_from(data, 4)[0])
    pictures = _first(fields, _MPF_COUNT, form, read)
    entries = fields.get(_MPF_ENTRIES)
    if not 1 < pictures <= len(data) // 16 or entries is None:
        return (0,)
    at = form.offset.unpack(entries.inline)[0]
    table = read(at, 16 * pictures)
    if len(table) < 16 * pictures or entries.length < 16 * pictures:
        return (0,)
    found = list(struct.iter_unpack(form.order + "4I", table))
    # Bits 24 to 26 of an entry's attribute: the data format, of which 0 is JPEG.
    if any(attribute >> 24 & 7 for attribute, *_ in found):
        return (0,)
    return (0, *(offset for _, _, offset, _ in found[1:]))


def read_tiff(reader: HeaderReader, frame: int = 0) -> ImageInfo:
    """Read one page's directory and count the pages."""
    head = reader.head
    order = "<" if head[:2] == b"II" else ">"
    big = 43 in head[2:4]
    form = _FORMS[order, big]
    if big and struct.unpack(order + "HH", reader.read(4, 4)) != (8, 0):
        raise damaged("TIFF", "offsets of 8 bytes", repr(head[4:8]))
    (first,) = form.offset.unpack(reader.read(8 if big else 4, form.offset.size))
    # The file ends before its first page: reading there says so.
    reader.read(first, form.number.size)

    def read(offset: int, length: int) -> bytes:
        return reader.read_up_to(offset, length)

    page, pages = first, [first]
    if frame:
        pages = _pages(reader, form, [], first)
        check_frame(frame, len(pages))
        page = pages[frame]
    fields, following = _directory(read, form, page)
    if not frame and reader.tail:
        pages = _pages(reader, form, pages, following)
    if _WINDOWS_MEDIA_PHOTO in fields:
        raise unsupported("JPEG XR", "a JPEG XR picture")

    def number(tag: int, default: int = 0) -> int:
        return _first(fields, tag, form, read, default)

    height, width = number(_HEIGHT), number(_WIDTH)
    if height <= 0 or width <= 0:
        raise damaged("TIFF", "a height and width above 0", f"{height}x{width}")
    tile = number(_TILE_HEIGHT) * number(_TILE_WIDTH)
    if tile > max(_MAX_TILE, 4 * height * width):
        raise damaged("TIFF", "tiles no larger than its picture", f"{tile:,} pixels")
    compression = number(_COMPRESSION, 1)
    photometric = 6 if compression == _OLD_JPEG else number(_PHOTOMETRIC)
    colour, colour_samples = _COLOURS.get(photometric, ("other", 3))
    if photometric == _YCBCR and compression != _JPEG:
        # Only libtiff's JPEG codec turns these into RGB by itself; libvips takes the
        # samples of all others for RGB, and old JPEG for white.
        colour = "other"
    samples = number(_SAMPLES, 3 if compression == _OLD_JPEG else 1)
    extra = _numbers(fields, _EXTRA, form, read)
    bits = max(_numbers(fields, _BITS, form, read) or (1,))
    if samples < 1 or not 1 <= bits <= 64:
        raise damaged("TIFF", "samples of 1 to 64 bits", f"{samples} of {bits} bits")
    has_alpha = _has_alpha(photometric, samples, colour_samples, extra)
    if colour == "palette":
        channels, depth = 3 + has_alpha, 8
    else:
        channels = samples
        depth = next(depth for depth in _DEPTHS if depth >= bits)
    rows_at_once = 1
    if tile > 0:
        # A tile wider than the picture is decoded in its full width too.
        rows_at_once = max(number(_TILE_HEIGHT), -(-tile // width))
    elif (number(_PLANAR) == 2 and samples > 1) or compression in _WHOLE_STRIPS:
        strip = number(_STRIP_HEIGHT)
        rows_at_once = strip if 0 < strip < height else height
    orientation = number(_ORIENTATION)
    if not orientation and _XMP in fields:
        orientation = xmp_orientation(_contents(fields[_XMP], form, read))
    return ImageInfo(
        "TIFF",
        "image/tiff",
        height,
        width,
        orientation if 1 <= orientation <= 8 else 1,
        channels,
        depth,
        has_alpha,
        colour,
        len(pages),
        _ICC in fields,
        False,
        compression not in _LOSSY,
        reader.size,
        rows_at_once,
        icc_profile=_profile(reader, fields[_ICC], form) if _ICC in fields else b"",
    )


# Bytes of one value, by its type (TIFF 6.0 and BigTIFF).
_SIZES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}


def has_whole_directory(data: bytes) -> bool:
    """
    Tell whether the first page's directory and its values lie inside a whole file.

    They may stand behind the pixels.  Where something of them is cut off, Pillow warns,
    leaves out that field and those behind it, and gives other pixels.

    Parameters
    ----------
    data : bytes
        The whole file, whose header could be read.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in data[2:4]
    form = _FORMS[order, big]
    (first,) = form.offset.unpack_from(data, 8 if big else 4)
    table = first + form.number.size
    if table > len(data):
        return False
    (count,) = form.number.unpack_from(data, first)
    end = table + count * form.entry.size
    if end + form.offset.size > len(data):
        return False
    for _, kind, length, inline in form.entry.iter_unpack(data[table:end]):
        size = _SIZES.get(kind, 0) * length
        if size <= len(inline):
            continue
        if form.offset.unpack(inline)[0] + size > len(data):
            return False
    return True


def _profile(reader: HeaderReader, field: _Field, form: _Form) -> bytes:
    """Read a profile; to Pillow, one that is declared as text is text."""
    if field.kind not in _BYTES - {2}:
        return b""
    if field.length <= len(field.inline):
        return field.inline[: field.length]
    (at,) = form.offset.unpack(field.inline)
    return b"".join(profile_pieces(reader, [(at, field.length)]))


def _has_alpha(
    photometric: int, samples: int, colour_samples: int, extra: tuple[int, ...]
) -> bool:
    if extra:
        # 1 and 2 are the two kinds of alpha; 999 is what CorelDRAW 10 wrote.
        return samples > colour_samples and extra[0] in (1, 2, 999)
    # A fourth sample of RGB that nothing explains is alpha, says Pillow.
    return photometric == 2 and samples == 4


def _directory(
    read: Callable[[int, int], bytes], form: _Form, at: int
) -> tuple[dict[int, _Field], int]:
    """Read one directory: its fields, and the offset of the next one or 0."""
    beginning = read(at, form.number.size)
    if len(beginning) < form.number.size:
        return {}, 0
    (count,) = form.number.unpack(beginning)
    size = form.entry.size
    table_at = at + form.number.size
    table = read(table_at, size * min(count, _MAX_ENTRIES))
    fields: dict[int, _Field] = {}
    for tag, kind, length, inline in form.entry.iter_unpack(
        table[: len(table) - len(table) % size]
    ):
        # The first of two fields with one tag counts, as in Pillow.
        if length and tag not in fields:
            fields[tag] = _Field(kind, length, inline)
    following = read(table_at + size * count, form.offset.size)
    if len(following) < form.offset.size:
        return fields, 0
    return fields, form.offset.unpack(following)[0]


def _whole_numbers(
    field: _Field, form: _Form, read: Callable[[int, int], bytes]
) -> tuple[int, ...]:
    """Give the first numbers of a field; none if it holds something else."""
    code, size = _WHOLE.get(field.kind, ("", 0))
    if not size:
        return ()
    count = min(field.length, _MAX_VALUES)
    if size * field.length <= len(field.inline):
        data = field.inline
    else:
        data = read(form.offset.unpack(field.inline)[0], size * count)
        count = min(count, len(data) // size)
    return struct.unpack_from(f"{form.order}{count}{code}", data)


def _numbers(
    fields: dict[int, _Field],
    tag: int,
    form: _Form,
    read: Callable[[int, int], bytes],
) -> tuple[int, ...]:
    field = fields.get(tag)
    return _whole_numbers(field, form, read) if field else ()


def _first(
    fields: dict[int, _Field],
    tag: int,
    form: _Form,
    read: Callable[[int, int], bytes],
    default: int = 0,
) -> int:
    values = _numbers(fields, tag, form, read)
    return values[0] if values else default


def _contents(field: _Field, form: _Form, read: Callable[[int, int], bytes]) -> bytes:
    if field.kind not in _BYTES or field.length <= len(field.inline):
        return b""
    return read(form.offset.unpack(field.inline)[0], min(field.length, _MAX_PACKET))


def _pages(
    reader: HeaderReader, form: _Form, known: list[int], following: int
) -> list[int]:
    """Walk from page to page; a page seen before, or unreadable, ends the walk."""
    seen = dict.fromkeys(known)
    count_size, offset_size = form.number.size, form.offset.size
    while following and following not in seen and len(seen) < _MAX_PAGES:
        beginning = reader.peek(following, count_size)
        if len(beginning) < count_size:
            break
        seen[following] = None
        at = following + count_size
        at += form.entry.size * form.number.unpack(beginning)[0]
        pointer = reader.peek(at, offset_size)
        if len(pointer) < offset_size:
            break
        (following,) = form.offset.unpack(pointer)
    return list(seen)
