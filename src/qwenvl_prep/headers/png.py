"""PNG and APNG: the chunks in front of the pixels, and the EXIF chunk behind them."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING
from zlib import crc32, decompressobj
from zlib import error as zlib_error

from qwenvl_prep.headers.embedded import inflated_profile, profile_pieces
from qwenvl_prep.headers.info import ImageInfo
from qwenvl_prep.headers.reader import UNKNOWN_SIZE, BudgetExceeded, ShortRead
from qwenvl_prep.headers.refuse import damaged, unsupported
from qwenvl_prep.headers.tiff import exif_orientation, exif_orientation_at
from qwenvl_prep.headers.xmp import xmp_orientation

if TYPE_CHECKING:
    from qwenvl_prep.headers.reader import HeaderReader

__all__ = ["SIGNATURE", "read_png"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_ihdr = struct.Struct(">I4sIIBBBBBI")
_chunk = struct.Struct(">I4s")

# PNG specification, table 12: colour type -> name, samples, bit depths.
_COLOURS = {
    0: ("grey", 1, (1, 2, 4, 8, 16)),
    2: ("rgb", 3, (8, 16)),
    3: ("palette", 3, (1, 2, 4, 8)),
    4: ("grey", 2, (8, 16)),
    6: ("rgb", 4, (8, 16)),
}
_PIXELS = (b"IDAT", b"fdAT")
_ANIMATION = (b"acTL", b"fcTL")
_UNINTERESTING = frozenset((b"PLTE", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"sBIT"))

_MAX_SIDE = 2**31 - 1
_MAX_LENGTH = 2**31 - 1
_MAX_CHUNKS = 10_000
# A text chunk longer than this is no orientation but a document.
_MAX_TEXT = 64 * 1024

_XMP = b"XML:com.adobe.xmp\0"
_RAW_EXIF = b"Raw profile type exif\0"


class _Chunks:
    """What the chunks beside IHDR have said so far."""

    __slots__ = ("exif", "fctl", "frames", "has_trns", "icc", "raw_exif", "xmp")

    def __init__(self) -> None:
        self.exif: int | None = None
        self.raw_exif: tuple[bytes, int, int] | None = None
        self.xmp: tuple[int, int] | None = None
        self.frames: int | None = None
        self.fctl = False
        self.icc: tuple[int, int] | None = None
        self.has_trns = False

    def take(self, reader: HeaderReader, kind: bytes, at: int, length: int) -> None:
        if kind == b"eXIf":
            self.exif = exif_orientation_at(reader, at, min(length, _MAX_TEXT)) or 0
        elif kind == b"iCCP":
            self.icc = at, length
        elif kind == b"tRNS":
            self.has_trns = True
        elif kind == b"fcTL":
            self.fctl = True
        elif kind == b"acTL":
            if length < 8:
                raise damaged("PNG", "8 bytes of acTL", str(length))
            (frames,) = struct.unpack(">I", reader.read(at, 4))
            # Pillow: a second acTL, or an impossible count, means no animation.
            repeated = self.frames is not None
            self.frames = None if repeated or not 0 < frames <= 2**31 else frames
        elif kind == b"iTXt":
            if reader.read_up_to(at, min(length, len(_XMP))) == _XMP:
                self.xmp = at, length
        elif (kind in (b"zTXt", b"tEXt")) and (
            reader.read_up_to(at, min(length, len(_RAW_EXIF))) == _RAW_EXIF
        ):
            self.raw_exif = kind, at, length

    @property
    def stated(self) -> tuple[object, object, object]:
        """Whatever may state an orientation."""
        return self.exif, self.raw_exif, self.xmp

    def orientation(self, reader: HeaderReader) -> int:
        found = self.exif
        if found is None and self.raw_exif:
            found = _raw_exif(reader, *self.raw_exif)
        if not found and self.xmp:
            return _xmp(reader, *self.xmp)
        return found or 1


def read_png(reader: HeaderReader) -> ImageInfo:
    """Read IHDR and what else says something about the picture as a whole."""
    head = reader.head
    if head[:8] != SIGNATURE:
        raise damaged(
            "PNG", "the signature", f"{head[:8].hex(' ')} (line ends changed?)"
        )
    if len(head) < 33:
        raise ShortRead(33)
    length, kind, width, height, bits, colour_type, *methods, crc = _ihdr.unpack_from(
        head, 8
    )
    if kind == b"CgBI":
        raise unsupported("CgBI", "a PNG in the variant that only iOS reads")
    if kind != b"IHDR" or length != 13:
        raise damaged("PNG", "an IHDR chunk of 13 bytes", f"{kind!r} of {length}")
    if crc32(head[12:29]) != crc:
        raise damaged("PNG", "the checksum of IHDR", "another one")
    if not 0 < height <= _MAX_SIDE or not 0 < width <= _MAX_SIDE:
        raise damaged("PNG", "a height and width above 0", f"{height}x{width}")
    colour, channels, depths = _COLOURS.get(colour_type, ("", 0, ()))
    if bits not in depths:
        raise damaged("PNG", "a known colour type", f"type {colour_type}, {bits} bits")
    if methods not in ([0, 0, 0], [0, 0, 1]):
        raise damaged("PNG", "known methods", f"{methods}")

    chunks = _Chunks()
    behind = _before_pixels(reader, chunks)
    frames = chunks.frames or 1
    if chunks.frames and not chunks.fctl:
        # The picture in IDAT is shown by old viewers only and counted besides.
        frames += 1
    stated = chunks.stated
    orientation = chunks.orientation(reader) if any(stated) else 1
    # The size is known; metadata too far away to be read is not worth a refusal.
    if reader.tail:
        with suppress(BudgetExceeded):
            _behind_pixels(reader, chunks, behind)
            if chunks.stated != stated:
                orientation = chunks.orientation(reader)

    has_alpha = colour_type >= 4 or chunks.has_trns
    if chunks.has_trns and colour_type < 4:
        channels += 1
    return ImageInfo(
        "PNG",
        "image/png",
        height,
        width,
        orientation,
        channels,
        8 if colour_type == 3 else bits,
        has_alpha,
        colour,
        frames,
        chunks.icc is not None,
        methods[2] == 1,
        True,
        reader.size,
        icc_profile=_profile(reader, *chunks.icc) if chunks.icc else b"",
    )


def _before_pixels(reader: HeaderReader, chunks: _Chunks) -> int:
    """Walk to the first chunk of pixels and give the offset behind it."""
    head = reader.head
    last_in_head = len(head) - 8
    at = 33
    length: int
    for _ in range(_MAX_CHUNKS):
        if at <= last_in_head:
            length, kind = _chunk.unpack_from(head, at)
        else:
            length, kind = _chunk.unpack(reader.read(at, 8))
        at += 12 + length
        if kind in _PIXELS:
            return at
        if length > _MAX_LENGTH or not kind.isalnum():
            raise damaged("PNG", "a chunk", f"{kind!r} of {length:,} bytes")
        if kind == b"IEND":
            raise damaged("PNG", "an IDAT chunk", "IEND")
        if kind not in _UNINTERESTING:
            chunks.take(reader, kind, at - 4 - length, length)
    raise damaged("PNG", "an IDAT chunk", f"{_MAX_CHUNKS:,} others")


def _behind_pixels(reader: HeaderReader, chunks: _Chunks, at: int) -> None:
    """Walk over the pixels to what follows them; stop quietly where they break off."""
    leapt = False
    for _ in range(_MAX_CHUNKS):
        beginning = reader.peek(at, 8)
        if len(beginning) < 8:
            return
        length, kind = _chunk.unpack(beginning)
        if kind == b"IEND" or length > _MAX_LENGTH:
            return
        if kind in _PIXELS:
            if kind == b"IDAT" and not leapt:
                leapt = True
                at = _last_equal_idat(reader, at, length)
                continue
        elif not kind.isalnum() or at + 12 + length > reader.size:
            return
        elif kind not in _ANIMATION:
            chunks.take(reader, kind, at + 8, length)
        at += 12 + length


def _last_equal_idat(reader: HeaderReader, at: int, length: int) -> int:
    """
    Find the last of a run of IDAT chunks of one length, by bisection.

    Encoders cut the pixels into pieces of one length, so a file of megabytes is
    crossed in a few reads. IDAT chunks must be consecutive, so nothing that a
    decoder would heed can stand between two of them.
    """
    step = 12 + length
    low, high = 0, (reader.size - 12 - at) // step

    def is_idat(index: int) -> bool:
        found, kind = _chunk.unpack(reader.read(at + index * step, 8, 32))
        return bool(kind == b"IDAT" and found <= length)

    if reader.size == UNKNOWN_SIZE:
        return at
    if high > 1 and is_idat(high):
        return at + high * step
    while high - low > 1:
        middle = (low + high) // 2
        if is_idat(middle):
            low = middle
        else:
            high = middle
    return at + low * step


def _profile(reader: HeaderReader, at: int, length: int) -> bytes:
    """Read a profile behind its name, a zero and the number of the compression."""
    # The chunk's checksum follows; decoders drop the profile if it is wrong.
    for data in profile_pieces(reader, [(at, length + 4)]):
        name, _, compressed = data[:-4].partition(b"\0")
        checksum = crc32(data[:-4], crc32(b"iCCP")).to_bytes(4, "big")
        if name and compressed[:1] == b"\0" and data[-4:] == checksum:
            return inflated_profile(compressed[1:])
    return b""


def _inflate(data: bytes) -> bytes:
    try:
        return decompressobj().decompress(data, _MAX_TEXT)
    except zlib_error:
        return b""


def _raw_exif(reader: HeaderReader, kind: bytes, at: int, length: int) -> int:
    """Read EXIF as ImageMagick writes it: hexadecimal digits in a text chunk."""
    text = reader.read_up_to(at, min(length, _MAX_TEXT))[len(_RAW_EXIF) :]
    if kind == b"zTXt":
        text = _inflate(text[1:])
    digits = b"".join(text.split(b"\n")[3:]).decode("latin-1")
    try:
        return exif_orientation(bytes.fromhex(digits[: len(digits) & ~1])) or 0
    except ValueError:
        return 0


def _xmp(reader: HeaderReader, at: int, length: int) -> int:
    data = reader.read_up_to(at, min(length, _MAX_TEXT))[len(_XMP) :]
    compressed = data[:1] != b"\0"
    packet = data[2:].split(b"\0", 2)[-1]
    return xmp_orientation(_inflate(packet) if compressed else packet)
