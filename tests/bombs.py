"""Small files that announce, or unpack to, far more than they are; made, not kept."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Literal

from PIL import Image

GIANT = 40_000  # squared, 1.6 gigapixels: above every limit on pixels
UNPACKED = 64 * 2**20


@dataclass(frozen=True)
class Bomb:
    """One file, what is to become of it, and the type that is tried beforehand."""

    name: str
    data: bytes
    # "header": refused before any pixel. "metadata": counted as fast as any other,
    # and prepared or refused in bounded memory.
    kind: Literal["header", "metadata"]
    format: str


def bombs() -> list[Bomb]:
    """Make all of them."""
    header = [
        ("PNG of 1.6 gigapixels", png(GIANT, GIANT), "PNG"),
        ("palette PNG of 65536²", png(65_536, 65_536, depth=1, colour=3), "PNG"),
        ("interlaced RGBA16 PNG, 41 bytes", interlaced_rgba16(), "PNG"),
        ("JPEG of 1.6 gigapixels", jpeg(GIANT, 0xC0), "JPEG"),
        ("progressive JPEG of 1.6 gigapixels", jpeg(GIANT, 0xC2), "JPEG"),
        ("TIFF of 1.6 gigapixels", tiff(GIANT, channels=1), "TIFF"),
        ("TIFF of 8,224 bands", tiff(6_200, channels=8_224), "TIFF"),
        ("WebP canvas of 1.6 gigapixels", webp_canvas(GIANT), "WEBP"),
        ("lossless WebP of 16384²", webp_lossless(16_384), "WEBP"),
        ("lossy WebP of 16383²", webp_lossy(16_383), "WEBP"),
        ("GIF of 65535²", gif(65_535), "GIF"),
        ("BMP of 1.6 gigapixels", bmp(GIANT, compression=0), "BMP"),
        ("RLE BMP of 1.6 gigapixels", bmp(GIANT, compression=1), "BMP"),
        ("icon of one PNG of 1.6 gigapixels", ico(png(GIANT, GIANT)), "ICO"),
        ("JPEG 2000 of 1.6 gigapixels", jpeg2000(GIANT), "JPEG2000"),
        ("SGI of 65535²", sgi(65_535), "SGI"),
        ("progressive JPEG of 1,000 scans", many_scans(1_000, 7_600), "JPEG"),
    ]
    spaces = bytes(UNPACKED)
    small = png(64, 64, pixels=bytes(64 * (1 + 64 * 3)))
    exif_loop = exif([(0x0112, 3, 1, 1)], following=8)
    metadata = [
        ("PNG, zTXt of 64 MiB", with_chunk(small, b"zTXt", ztxt(spaces)), "PNG"),
        ("PNG, iTXt of 64 MiB", with_chunk(small, b"iTXt", itxt(spaces)), "PNG"),
        ("PNG, iCCP of 64 MiB", with_chunk(small, b"iCCP", iccp(spaces)), "PNG"),
        (
            "PNG, 200 zTXt of 1 MiB",
            with_chunk(small, b"zTXt", ztxt(bytes(2**20)), times=200),
            "PNG",
        ),
        ("JPEG, EXIF loop", with_segment(exif_loop), "JPEG"),
        (
            "JPEG, EXIF directory inside itself",
            with_segment(exif([(0x8769, 4, 1, 8), (0x8825, 4, 1, 8)])),
            "JPEG",
        ),
        (
            "JPEG, EXIF value of 4 GiB",
            with_segment(exif([(0x9286, 7, 0xFFFF_FFFF, 8)])),
            "JPEG",
        ),
        (
            "JPEG, EXIF of 65,535 entries",
            with_segment(b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + bytes(60_000)),
            "JPEG",
        ),
        ("JPEG, 3,000 EXIF segments", with_segment(exif_loop, times=3_000), "JPEG"),
        ("PNG, EXIF loop", with_chunk(small, b"eXIf", exif_loop[6:]), "PNG"),
        ("TIFF, directory after itself", tiff_loop(), "TIFF"),
    ]
    return [Bomb(name, data, "header", kind) for name, data, kind in header] + [
        Bomb(name, data, "metadata", kind) for name, data, kind in metadata
    ]


# ------------------------------------------------------------------------------- PNG


def chunk(name: bytes, body: bytes) -> bytes:
    """Give a PNG chunk with the right checksum."""
    check = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + check


def png(
    height: int, width: int, *, depth: int = 8, colour: int = 2, pixels: bytes = b""
) -> bytes:
    """Give a PNG; without *pixels*, of a few rows that are black."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(3)) if colour == 3 else b""
    data = zlib.compress(pixels or bytes(2**20))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + palette
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def interlaced_rgba16() -> bytes:
    """Give the 41 bytes that ask a decoder for more than a gigabyte."""
    header = struct.pack(">IIBBBBB", 12_000, 12_000, 16, 6, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + bytes(4) + b"IDAT"


def with_chunk(data: bytes, name: bytes, body: bytes, *, times: int = 1) -> bytes:
    """Put chunks between a PNG's header and its pixels."""
    return data[:33] + chunk(name, body) * times + data[33:]


def ztxt(text: bytes) -> bytes:
    return b"Comment\0\0" + zlib.compress(text, 9)


def itxt(text: bytes) -> bytes:
    return b"Comment\0\1\0\0\0" + zlib.compress(text, 9)


def iccp(profile: bytes) -> bytes:
    return b"profile\0\0" + zlib.compress(profile, 9)


# ------------------------------------------------------------------------------ JPEG


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def small_jpeg() -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 90, 40)).save(target, "JPEG")
    return target.getvalue()


def jpeg(side: int, frame: int) -> bytes:
    """Give a small JPEG that announces another size, and maybe another process."""
    data = small_jpeg()
    at = data.index(b"\xff\xc0")
    size = struct.pack(">HH", side, side)
    return (
        data[: at + 1] + bytes([frame]) + data[at + 2 : at + 5] + size + data[at + 9 :]
    )


def with_segment(body: bytes, *, times: int = 1) -> bytes:
    """Put APP1 segments at the beginning of a JPEG."""
    data = small_jpeg()
    return data[:2] + segment(0xE1, body) * times + data[2:]


def exif(entries: list[tuple[int, int, int, int]], *, following: int = 0) -> bytes:
    """Give EXIF of one directory, and what it names as the next one."""
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0II*\0\x08\0\0\0" + directory + struct.pack("<I", following)


def many_scans(count: int, side: int) -> bytes:
    """
    Give a progressive JPEG of legal scans that add nothing, each of some bytes.

    A decoder walks all blocks of one component for each of them.
    """
    blocks = (side // 8) ** 2
    frame = struct.pack(">BHHB", 8, side, side, 3)
    frame += b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    # One code of one bit in each table: no difference, and "32,767 blocks or so end".
    direct = bytes([0x00, 1]) + bytes(15) + bytes([0x00])
    ends = bytes([0x10, 1]) + bytes(15) + bytes([0xE0])
    runs = []
    left = blocks
    while left >= 2**14:
        run = min(left, 2**15 - 1)
        runs.append("0" + f"{run - 2**14:014b}")
        left -= run
    # The rest has to be one run as well, so that a single code is enough.
    if left:
        taken = int(runs.pop()[1:], 2) + 2**14 + left
        half = taken // 2
        runs += ["0" + f"{part - 2**14:014b}" for part in (half, taken - half)]
    scans = [scan([1, 2, 3], 0, 0, 0, 0, "0" * (3 * blocks))]
    # The first scan of a band says how many bits follow; each other adds one of them.
    for component in (1, 2, 3):
        for band in range(1, 64):
            for low in range(6, -1, -1):
                high = 0 if low == 6 else low + 1
                scans.append(scan([component], band, band, high, low, "".join(runs)))
    if count > len(scans):
        raise ValueError(f"Expected at most {len(scans)} scans but received {count}")
    return (
        b"\xff\xd8"
        + segment(0xDB, bytes([0]) + bytes([1] * 64))
        + segment(0xC2, frame)
        + segment(0xC4, direct)
        + segment(0xC4, ends)
        + b"".join(scans[:count])
        + b"\xff\xd9"
    )


def scan(
    components: list[int], start: int, end: int, high: int, low: int, bits: str
) -> bytes:
    """Give one scan of the bits told, filled up with ones."""
    body = bytes([len(components)])
    body += b"".join(bytes([number, 0x00]) for number in components)
    body += bytes([start, end, high << 4 | low])
    bits += "1" * (-len(bits) % 8)
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return segment(0xDA, body) + coded.replace(b"\xff", b"\xff\0")


# ------------------------------------------------------------------------------ TIFF


def tiff(side: int, *, channels: int) -> bytes:
    """Give a TIFF of one strip whose data is some zeros."""
    tags = [
        (256, 4, 1, side),
        (257, 4, 1, side),
        (258, 3, 1, 8),
        (259, 3, 1, 5),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 4, 1, side),
        (279, 4, 1, 16),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return struct.pack("<2sHI", b"II", 42, 24) + bytes(16) + directory


def tiff_loop() -> bytes:
    """Give a good TIFF whose only directory names itself as the next."""
    target = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 99, 200)).save(target, "TIFF")
    data = bytearray(target.getvalue())
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    struct.pack_into("<I", data, at + 2 + 12 * count, at)
    return bytes(data)


# ---------------------------------------------------------------------------- others


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP"
    for name, data in chunks:
        body += name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_canvas(side: int) -> bytes:
    """Give a WebP whose canvas is as large as told, and its picture too little."""
    size = (side - 1).to_bytes(3, "little") * 2
    return riff((b"VP8X", bytes(4) + size), (b"VP8L", lossless_header(64)))


def lossless_header(side: int) -> bytes:
    bits = (side - 1) | (side - 1) << 14
    return b"\x2f" + struct.pack("<I", bits) + bytes(64)


def webp_lossless(side: int) -> bytes:
    return riff((b"VP8L", lossless_header(side)))


def webp_lossy(side: int) -> bytes:
    # A frame with its own start, shown, whose first part has 32 bytes.
    tag = (0 | 1 << 4 | 32 << 5).to_bytes(3, "little")
    size = struct.pack("<HH", side, side)
    return riff((b"VP8 ", tag + b"\x9d\x01\x2a" + size + bytes(64)))


def gif(side: int) -> bytes:
    screen = struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\0;"
    return b"GIF89a" + screen + frame


def bmp(side: int, *, compression: int) -> bytes:
    bits = 8 if compression else 24
    body = struct.pack("<IiiHHIIiiII", 40, side, side, 1, bits, compression, *[0] * 5)
    body += bytes(4 * 256) if compression else b""
    start = 14 + len(body)
    body += bytes(64)
    return b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, start) + body


def ico(picture: bytes) -> bytes:
    entry = struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(picture), 22)
    return struct.pack("<HHH", 0, 1, 1) + entry + picture


def jpeg2000(side: int) -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (64, 64)).save(target, "JPEG2000", no_jp2=True)
    data = bytearray(target.getvalue())
    # SIZ: the grid's size, its origin, and the size of a tile.
    struct.pack_into(">IIIIII", data, 8, side, side, 0, 0, side, side)
    return bytes(data)


def sgi(side: int) -> bytes:
    header = struct.pack(">HBBHHHH", 474, 0, 1, 3, side, side, 3)
    return header + bytes(500) + bytes(64)
