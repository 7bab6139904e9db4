"""HEIF (HEIC) and AVIF: still pictures and sequences in ISO media boxes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qwenvl_prep.headers.boxes import Box, walk_boxes
from qwenvl_prep.headers.embedded import profile_pieces
from qwenvl_prep.headers.heif_tracks import Track, auxiliary_type, read_track
from qwenvl_prep.headers.info import ImageInfo
from qwenvl_prep.headers.refuse import check_frame, damaged

if TYPE_CHECKING:
    from qwenvl_prep.headers.reader import HeaderReader

__all__ = ["brands", "heif_format", "read_heif"]

_AVIF_BRANDS = frozenset((b"avif", b"avis"))
# ISO/IEC 23008-12, annexes B to E and K, and the two structural brands.
_HEIF_BRANDS = frozenset(
    (
        *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
        *(b"mif1", b"mif2", b"msf1", b"miaf", b"avci", b"avcs", b"jpeg", b"jpgs"),
        *(b"j2ki", b"j2is", b"vvic", b"vvis", b"1pic"),
    )
)
_ALPHA = (
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
    b"urn:mpeg:hevc:2015:auxid:1",
    b"urn:mpeg:avc:2015:auxid:1",
)
# Which property belongs to which item; a grid of 4,096 tiles needs 32 KiB.
_MAX_TABLE = 48 * 1024
_MAX_BRANDS = 64

# (quarter turns to the left, mirror) -> EXIF orientation. HEIF turns first and
# mirrors then; mirror 0 swaps top and bottom, mirror 1 left and right.
_ORIENTATIONS = {
    (0, None): 1,
    (0, 1): 2,
    (2, None): 3,
    (0, 0): 4,
    (1, 0): 5,
    (3, None): 6,
    (1, 1): 7,
    (1, None): 8,
    (2, 0): 2,
    (2, 1): 4,
    (3, 0): 7,
    (3, 1): 5,
}


@dataclass(slots=True)
class _Meta:
    """What the meta box says."""

    primary: int = -1
    properties: list[Box] = field(default_factory=list)
    of_item: dict[int, list[int]] = field(default_factory=dict)
    hidden: set[int] = field(default_factory=set)
    kinds: dict[int, bytes] = field(default_factory=dict)
    references: list[tuple[bytes, int, tuple[int, ...]]] = field(default_factory=list)


def brands(head: bytes) -> tuple[bytes, ...]:
    """Give the brands of an ISO media file, the major one first; () for other bytes."""
    if head[4:8] != b"ftyp" or len(head) < 12:
        return ()
    (size,) = struct.unpack_from(">I", head)
    names = head[16 : min(max(size, 16), 16 + 4 * _MAX_BRANDS)]
    others = (names[at : at + 4] for at in range(0, len(names) - 3, 4))
    return (head[8:12], *others)


def heif_format(head: bytes) -> str | None:
    """Tell from the brands whether this is ``"HEIF"``, ``"AVIF"`` or neither."""
    found = brands(head)
    if not found:
        return None
    if found[0] in _AVIF_BRANDS:
        return "AVIF"
    if found[0] not in (b"mif1", b"msf1", b"miaf") and found[0] in _HEIF_BRANDS:
        return "HEIF"
    if not _AVIF_BRANDS.isdisjoint(found):
        return "AVIF"
    return None if _HEIF_BRANDS.isdisjoint(found) else "HEIF"


def read_heif(reader: HeaderReader, frame: int | None = None) -> ImageInfo:
    """Read one picture's properties, the primary's unasked, or a sequence's track."""
    name = heif_format(reader.head) or "HEIF"
    meta: Box | None = None
    movie: Box | None = None
    for box in walk_boxes(reader, 0, reader.size):
        if box.kind == b"meta" and meta is None:
            meta = box
        elif box.kind == b"moov" and movie is None:
            movie = box
        # Pixels come last in nearly every file; no need to walk over them then.
        if meta is not None and (movie is not None or not _is_sequence(reader)):
            break
    if movie is not None and (meta is None or brands(reader.head)[0] == b"avis"):
        return _read_sequence(reader, name, movie)
    if meta is None:
        raise damaged(name, "a meta box", "none")
    found = _read_meta(reader, name, meta)
    item = found.primary
    if frame is not None and name == "HEIF":
        pictures = _pictures(found)
        check_frame(frame, len(pictures))
        item = pictures[frame]
    return _read_item(reader, name, found, item)


def _is_sequence(reader: HeaderReader) -> bool:
    return brands(reader.head)[0] in (b"avis", b"hevc", b"hevx", b"msf1")


def _read_meta(reader: HeaderReader, name: str, box: Box) -> _Meta:
    meta = _Meta()
    table_size = 0
    # A version and flags stand in front of the boxes inside.
    for inner in walk_boxes(reader, box.start + 4, box.end):
        if inner.kind == b"pitm":
            version, number = struct.unpack(">B3xH", reader.read(inner.start, 6))
            if version:
                (number,) = struct.unpack(">I", reader.read(inner.start + 4, 4))
            meta.primary = number
        elif inner.kind == b"iinf":
            _read_items(reader, meta, inner)
        elif inner.kind == b"iref":
            _read_references(reader, meta, inner)
        elif inner.kind == b"iprp":
            for part in walk_boxes(reader, inner.start, inner.end):
                if part.kind == b"ipco":
                    meta.properties = list(walk_boxes(reader, part.start, part.end))
                elif part.kind == b"ipma":
                    length = part.end - part.start
                    table_size += length
                    if table_size > _MAX_TABLE:
                        expected = f"tables up to {_MAX_TABLE:,} bytes"
                        raise damaged(name, expected, f"{table_size:,} bytes")
                    _read_associations(meta, reader.read(part.start, length))
    if meta.primary < 0:
        raise damaged(name, "a primary picture (pitm)", "none")
    return meta


def _read_items(reader: HeaderReader, meta: _Meta, box: Box) -> None:
    count_size = 4 if reader.read(box.start, 1)[0] else 2
    for item in walk_boxes(reader, box.start + 4 + count_size, box.end):
        if item.kind != b"infe":
            continue
        version, flags = struct.unpack(">B2xB", reader.read(item.start, 4))
        if version < 2:
            continue
        form = ">H2x4s" if version == 2 else ">I2x4s"
        number, kind = struct.unpack(
            form, reader.read(item.start + 4, struct.calcsize(form))
        )
        meta.kinds[number] = kind
        if flags & 1:
            meta.hidden.add(number)


def _read_references(reader: HeaderReader, meta: _Meta, box: Box) -> None:
    code = "I" if reader.read(box.start, 1)[0] else "H"
    size = struct.calcsize(code)
    for reference in walk_boxes(reader, box.start + 4, box.end):
        number, count = struct.unpack(
            f">{code}H", reader.read(reference.start, size + 2)
        )
        count = min(count, (reference.end - reference.start) // size)
        targets = struct.unpack(
            f">{count}{code}", reader.read(reference.start + size + 2, count * size)
        )
        meta.references.append((reference.kind, number, targets))


def _read_associations(meta: _Meta, table: bytes) -> None:
    version, flags, count = struct.unpack_from(">B2xBI", table)
    at = 8
    item_form, item_size = (">I", 4) if version else (">H", 2)
    wide = flags & 1
    for _ in range(count):
        (number,) = struct.unpack_from(item_form, table, at)
        length = table[at + item_size]
        at += item_size + 1
        # The highest bit says that the property must be understood.
        if wide:
            indices = [i & 0x7FFF for i in struct.unpack_from(f">{length}H", table, at)]
        else:
            indices = [i & 0x7F for i in table[at : at + length]]
        at += length * (2 if wide else 1)
        meta.of_item.setdefault(number, indices)


def _properties(meta: _Meta, item: int) -> list[Box]:
    """Give the properties of an item in the order in which they apply."""
    known = len(meta.properties)
    return [
        meta.properties[i - 1] for i in meta.of_item.get(item, ()) if 0 < i <= known
    ]


def _read_item(reader: HeaderReader, name: str, meta: _Meta, item: int) -> ImageInfo:
    height = width = channels = bits = turns = 0
    mirror: int | None = None
    icc: list[tuple[int, int]] = []
    for box in _properties(meta, item):
        if box.kind == b"ispe":
            width, height = struct.unpack(">4xII", reader.read(box.start, 12))
        elif box.kind == b"irot":
            turns = reader.read(box.start, 1)[0] & 3
            height, width = _turned(name, height, width, turns)
        elif box.kind == b"imir":
            mirror = reader.read(box.start, 1)[0] & 1
        elif box.kind == b"clap" and name == "HEIF":
            height, width = _cropped(reader, box, height, width)
        elif box.kind == b"pixi":
            samples = reader.read(box.start + 4, 1)[0]
            bits = max(reader.read(box.start + 5, samples), default=0)
            channels = 3 if samples >= 3 else 1
        elif box.kind == b"colr":
            if reader.read(box.start, 4) in (b"prof", b"rICC") and not icc:
                icc.append((box.start + 4, box.end - box.start - 4))
        elif box.kind in (b"av1C", b"hvcC") and not bits:
            channels, bits = _coded_depth(box.kind, reader.read_up_to(box.start, 18))
    if not height or not width:
        raise damaged(name, "a height and width above 0", f"{height}x{width}")
    if not bits:
        channels, bits = _depth_of_tile(reader, meta, item)
    has_alpha = _has_alpha(reader, meta, item)
    return _info(
        reader,
        name,
        height,
        width,
        # HEIF decoders turn the picture themselves, AVIF decoders leave that to us.
        _ORIENTATIONS[turns, mirror] if name == "AVIF" else 1,
        channels,
        bits,
        has_alpha,
        len(_pictures(meta)) if name == "HEIF" else 1,
        icc,
    )


def _turned(name: str, height: int, width: int, turns: int) -> tuple[int, int]:
    return (width, height) if name == "HEIF" and turns & 1 else (height, width)


def _cropped(
    reader: HeaderReader, box: Box, height: int, width: int
) -> tuple[int, int]:
    """Apply a clean aperture, given as two fractions for the size."""
    w, w_parts, h, h_parts = struct.unpack(">4I", reader.read(box.start, 16))
    if not w_parts or not h_parts:
        return height, width
    crop_height, crop_width = h // h_parts, w // w_parts
    if 0 < crop_height <= height and 0 < crop_width <= width:
        return crop_height, crop_width
    return height, width


def _coded_depth(kind: bytes, configuration: bytes) -> tuple[int, int]:
    """Give colour channels and bits from the decoder configuration."""
    if kind == b"av1C":
        flags = configuration[2]
        bits = (12 if flags & 0x20 else 10) if flags & 0x40 else 8
        return (1 if flags & 0x10 else 3), bits
    chroma, luma_bits = configuration[16] & 3, (configuration[17] & 7) + 8
    return (3 if chroma else 1), luma_bits


def _depth_of_tile(reader: HeaderReader, meta: _Meta, item: int) -> tuple[int, int]:
    for kind, number, targets in meta.references:
        if kind == b"dimg" and number == item and targets:
            for box in _properties(meta, targets[0]):
                if box.kind in (b"av1C", b"hvcC"):
                    return _coded_depth(box.kind, reader.read_up_to(box.start, 18))
    return 3, 8


def _has_alpha(reader: HeaderReader, meta: _Meta, item: int) -> bool:
    wanted = {item}
    for kind, number, targets in meta.references:
        if kind == b"dimg" and number == item:
            wanted.update(targets)
    auxiliary = {
        number
        for kind, number, targets in meta.references
        if kind == b"auxl" and not wanted.isdisjoint(targets)
    }
    return any(
        box.kind == b"auxC" and auxiliary_type(reader, box) in _ALPHA
        for number in auxiliary
        for box in _properties(meta, number)
    )


def _pictures(meta: _Meta) -> list[int]:
    """
    Find the pictures that stand for themselves: no thumbnail, mask or tile.

    In the order of their numbers, which is libheif's.
    """
    dependent = set(meta.hidden)
    for kind, number, _ in meta.references:
        if kind in (b"thmb", b"auxl"):
            dependent.add(number)
    pictures = {
        number
        for number in meta.of_item
        if number not in dependent and meta.kinds.get(number) not in (b"Exif", b"mime")
    }
    return sorted(pictures) or [meta.primary]


def _read_sequence(reader: HeaderReader, name: str, movie: Box) -> ImageInfo:
    pictures: Track | None = None
    has_alpha = False
    for box in walk_boxes(reader, movie.start, movie.end):
        if box.kind == b"trak":
            track = read_track(reader, box)
            if track.handler == b"auxv" and track.samples.auxiliary in (b"", *_ALPHA):
                has_alpha = True
            elif track.handler == b"pict" and pictures is None:
                pictures = track
    if pictures is None:
        raise damaged(name, "a picture track", "none")
    if not pictures.height or not pictures.width:
        raise damaged(
            name, "a height and width above 0", f"{pictures.height}x{pictures.width}"
        )
    channels, bits = 3, 8
    if pictures.samples.configuration:
        channels, bits = _coded_depth(b"av1C", pictures.samples.configuration)
    return _info(
        reader,
        name,
        pictures.height,
        pictures.width,
        1,
        channels,
        bits,
        has_alpha,
        max(1, pictures.samples.number),
        [],
    )


def _info(
    reader: HeaderReader,
    name: str,
    height: int,
    width: int,
    orientation: int,
    channels: int,
    bits: int,
    has_alpha: bool,
    frames: int,
    icc: list[tuple[int, int]],
) -> ImageInfo:
    if not 1 <= bits <= 16:
        raise damaged(name, "1 to 16 bits a sample", str(bits))
    return ImageInfo(
        name,
        "image/heic" if name == "HEIF" else "image/avif",
        height,
        width,
        orientation,
        channels + has_alpha,
        bits,
        has_alpha,
        "grey" if channels == 1 else "rgb",
        frames,
        bool(icc),
        False,
        False,
        reader.size,
        icc_profile=b"".join(profile_pieces(reader, icc)) if icc else b"",
    )
