"""Names what bytes are when they are no picture that is read here."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from qwenvl_prep.errors import ImageError, NotAnImageError
from qwenvl_prep.headers.heif import brands
from qwenvl_prep.headers.refuse import unsupported

if TYPE_CHECKING:
    from qwenvl_prep.headers.reader import HeaderReader

__all__ = ["foreign_error"]

_DOCUMENT = (
    "the model refuses documents, so render the pages to images or use a document "
    "model such as Qwen-Long"
)
_VIDEO = "pass a list of frames instead"
_DRAWING = "render it to PNG first"
_ARCHIVE = "unpack it and pass the pictures inside"
_SOUND = "pass a picture"
_OTHER = "check that the path or URL leads to a picture"

# Signature at the very start -> what it is, and what to do about it.
_NOT_IMAGES: tuple[tuple[bytes, str, str], ...] = (
    (b"%PDF-", "a PDF document", _DOCUMENT),
    (b"{\\rtf", "an RTF document", _DOCUMENT),
    (b"%!PS", "a PostScript document", _DOCUMENT),
    (b"\xc5\xd0\xd3\xc6", "an EPS drawing", _DRAWING),
    (b"\xd7\xcd\xc6\x9a", "a WMF drawing (vector graphics)", _DRAWING),
    (b"\x1aE\xdf\xa3", "", ""),  # told apart in _matroska
    (b"FLV\x01", "an FLV video", _VIDEO),
    (b"\x00\x00\x01\xba", "an MPEG video", _VIDEO),
    (b"\x00\x00\x01\xb3", "an MPEG video", _VIDEO),
    (b"0&\xb2u\x8ef\xcf\x11", "a WMV or WMA file", _VIDEO),
    (b"ID3", "an MP3 recording", _SOUND),
    (b"\xff\xfb", "an MP3 recording", _SOUND),
    (b"\xff\xf3", "an MP3 recording", _SOUND),
    (b"\xff\xf2", "an MP3 recording", _SOUND),
    (b"\xff\xf1", "an AAC recording", _SOUND),
    (b"\xff\xf9", "an AAC recording", _SOUND),
    (b"OggS", "an Ogg recording or video", _VIDEO),
    (b"fLaC", "a FLAC recording", _SOUND),
    (b"Rar!\x1a\x07", "a RAR archive", _ARCHIVE),
    (b"7z\xbc\xaf'\x1c", "a 7-Zip archive", _ARCHIVE),
    (b"BZh", "a bzip2 archive", _ARCHIVE),
    (b"\xfd7zXZ\x00", "an xz archive", _ARCHIVE),
    (b"(\xb5/\xfd", "a Zstandard archive", _ARCHIVE),
    (b"\x7fELF", "a program", _OTHER),
    (b"MZ", "a program", _OTHER),
    (b"SQLite format 3\x00", "an SQLite database", _OTHER),
    (b"wOFF", "a font", _OTHER),
    (b"wOF2", "a font", _OTHER),
    (b"OTTO\x00", "a font", _OTHER),
    (b"\x00\x01\x00\x00\x00", "a font", _OTHER),
    (b"\x93NUMPY", "a NumPy array file", "load it and pass the array"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _OTHER),
)

# Signature at the very start -> name of a picture format that is not read.
_OTHER_PICTURES: tuple[tuple[bytes, str], ...] = (
    (b"8BPS", "PSD"),
    (b"DDS ", "DDS"),
    (b"v/1\x01", "EXR"),
    (b"#?RADIANCE", "HDR"),
    (b"#?RGBE", "HDR"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"II\xbc", "JPEG XR"),
    (b"qoif", "QOI"),
    (b"gimp xcf", "XCF"),
    (b"AT&TFORM", "DjVu"),
    (b"BPG\xfb", "BPG"),
    (b"FLIF", "FLIF"),
    (b"farbfeld", "farbfeld"),
    (b"SIMPLE  =", "FITS"),
    (b"Y\xa6j\x95", "Sun raster"),
    (b"\x8aMNG\r\n\x1a\n", "MNG"),
    (b"\x8bJNG\r\n\x1a\n", "JNG"),
    (b"/* XPM */", "XPM"),
    (b"\xabKTX ", "KTX"),
    (b"BLP1", "BLP"),
    (b"BLP2", "BLP"),
    (b"FORM\x00", "IFF"),
    (b"\x00\x00\x02\x00", "CUR"),  # only if _is_cursor agrees
)

_PNM = {b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7", b"Pf", b"PF"}

# First names in a ZIP -> what it is; Office files start with one of their own.
_ZIPS = (
    (b"xl/", "an Excel workbook (XLSX)"),
    (b"word/", "a Word document (DOCX)"),
    (b"ppt/", "a PowerPoint presentation (PPTX)"),
    (b"mimetypeapplication/vnd.oasis", "an OpenDocument file"),
    (b"mimetypeapplication/epub", "an EPUB book"),
)
# Names of streams in an OLE compound file, as UTF-16.
_OLES = (
    ("Workbook", "an Excel workbook (XLS)"),
    ("Book", "an Excel workbook (XLS)"),
    ("WordDocument", "a Word document (DOC)"),
    ("PowerPoint Document", "a PowerPoint presentation (PPT)"),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
# Bytes that plain text does not contain, beside tab, line feed, form feed and return.
_CONTROL = bytes({*range(32), 127} - {9, 10, 12, 13, 27})


def foreign_error(reader: HeaderReader) -> ImageError:
    """
    Build the error for bytes that are no picture of a type read here.

    Parameters
    ----------
    reader : HeaderReader
        The bytes.

    Returns
    -------
    NotAnImageError or UnsupportedFormatError
        The first for what is no picture; the second for a picture of another type.
    """
    head = reader.head
    if not head:
        return _not_an_image("an empty file", _OTHER)
    for signature, name in _OTHER_PICTURES:
        if head.startswith(signature) and (name != "CUR" or _is_cursor(reader)):
            return _unsupported(name)
    for signature, kind, advice in _NOT_IMAGES:
        if kind and head.startswith(signature):
            return _not_an_image(kind, advice)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _zip(reader)
    if head.startswith(_OLE):
        return _ole(reader)
    if head.startswith(b"\x1aE\xdf\xa3"):
        kind = "a WebM video" if b"webm" in head[:64] else "a Matroska video (MKV)"
        return _not_an_image(kind, _VIDEO)
    if head.startswith(b"RIFF"):
        return _riff(head)
    if head.startswith(b"\x1f\x8b"):
        return _gzip(head)
    return _by_structure(reader) or _text(head) or _weak(reader)


def _not_an_image(kind: str, advice: str) -> NotAnImageError:
    return NotAnImageError(
        f"Expected a picture but received {kind}; {advice}", kind=kind
    )


def _unsupported(name: str) -> ImageError:
    return unsupported(name, f"one of type {name}")


def _by_structure(reader: HeaderReader) -> ImageError | None:
    """Recognise what has its signature elsewhere than at the start."""
    head = reader.head
    found = brands(head)
    if found:
        if found[0] == b"qt  ":
            return _not_an_image("a QuickTime video (MOV)", _VIDEO)
        if found[0] == b"crx ":
            return _unsupported("CR3")
        if found[0][:3] in (b"M4A", b"M4B"):
            return _not_an_image("an M4A recording", _SOUND)
        return _not_an_image("an MP4 video", _VIDEO)
    if head[4:8] in (b"moov", b"mdat", b"wide", b"skip", b"free", b"pnot"):
        return _not_an_image("a QuickTime video (MOV)", _VIDEO)
    if head[:1] == b"\x47" and head[188:189] == b"\x47" and head[376:377] == b"\x47":
        return _not_an_image("an MPEG video", _VIDEO)
    if head[257:262] == b"ustar":
        return _not_an_image("a tar archive", _ARCHIVE)
    if head[128:132] == b"DICM":
        return _unsupported("DICOM")
    if head[40:44] == b" EMF" and head[:4] == b"\1\0\0\0":
        return _not_an_image("an EMF drawing (vector graphics)", _DRAWING)
    if head[4:6] in (b"\x11\xaf", b"\x12\xaf") and len(head) >= 128:
        return _unsupported("FLI")
    if _is_pcx(head):
        return _unsupported("PCX")
    if head[:2] in _PNM and head[2:3].isspace():
        return _unsupported("PNM")
    return None


def _weak(reader: HeaderReader) -> ImageError:
    """Judge bytes without any signature by whether they could be a TGA picture."""
    if _is_targa(reader):
        return _unsupported("TGA")
    return _not_an_image("a file of an unknown type", _OTHER)


def _zip(reader: HeaderReader) -> ImageError:
    """Look at the names of the first few files inside."""
    at = 0
    for _ in range(32):
        entry = reader.read_up_to(at, 30)
        if len(entry) < 30 or not entry.startswith(b"PK\x03\x04"):
            break
        packed, _, name_size, extra_size = struct.unpack_from("<IIHH", entry, 18)
        beginning = reader.read_up_to(at + 30, min(name_size, 64) + 48)
        # A stored "mimetype" is followed by its contents at once.
        for signature, kind in _ZIPS:
            if beginning.startswith(signature):
                return _not_an_image(kind, _DOCUMENT)
        # Bit 3 of the flags: the length stands behind the data, unknown here.
        if entry[6] & 8 and not packed:
            at = _next_zip_entry(reader, at + 30 + name_size + extra_size)
            if at < 0:
                break
        else:
            at += 30 + name_size + extra_size + packed
    return _office_in_directory(reader) or _not_an_image("a ZIP archive", _ARCHIVE)


def _next_zip_entry(reader: HeaderReader, at: int) -> int:
    data = reader.read_up_to(at, 4096)
    found = data.find(b"PK\x03\x04")
    return at + found if found >= 0 else -1


def _office_in_directory(reader: HeaderReader) -> ImageError | None:
    """Look for names in the central directory, which closes a ZIP."""
    if not reader.tail:
        return None
    size = min(reader.size, 4096)
    tail = reader.read_up_to(reader.size - size, size)
    for signature, kind in _ZIPS:
        if signature.endswith(b"/") and b"PK\x01\x02" in tail and signature in tail:
            return _not_an_image(kind, _DOCUMENT)
    return None


def _ole(reader: HeaderReader) -> ImageError:
    """Find the directory of an OLE compound file and look at its names."""
    (shift,) = struct.unpack("<H", reader.read_up_to(30, 2).ljust(2, b"\0"))
    (sector,) = struct.unpack("<I", reader.read_up_to(48, 4).ljust(4, b"\0"))
    if 7 <= shift <= 16:
        names = reader.read_up_to((sector + 1) << shift, 2048)
        for name, kind in _OLES:
            if name.encode("utf-16-le") + b"\0\0" in names:
                return _not_an_image(kind, _DOCUMENT)
    return _not_an_image("a Microsoft Office document", _DOCUMENT)


def _riff(head: bytes) -> ImageError:
    kind, advice = {
        b"AVI ": ("an AVI video", _VIDEO),
        b"WAVE": ("a WAV recording", _SOUND),
        b"ACON": ("an animated cursor (ANI)", _OTHER),
    }.get(head[8:12], ("a RIFF file", _OTHER))
    return _not_an_image(kind, advice)


def _gzip(head: bytes) -> ImageError:
    """Look into a gzip file, for SVG is often kept in one."""
    try:
        inside = zlib.decompressobj(wbits=31).decompress(head, 4096)
    except zlib.error:
        inside = b""
    if inside and _markup(inside) == _SVG:
        return _not_an_image("an SVG drawing (vector graphics)", _DRAWING)
    return _not_an_image("a gzip archive", _ARCHIVE)


_SVG, _HTML, _XML = "svg", "html", "xml"


def _text(head: bytes) -> ImageError | None:
    text = head.removeprefix(b"\xef\xbb\xbf")
    if head.startswith(_UTF_16):
        order = "utf-16-le" if head.startswith(b"\xff\xfe") else "utf-16-be"
        text = head[2:].decode(order, "replace").encode("utf-8")
    if len(text) != len(text.translate(None, _CONTROL)):
        return None
    # Long bytes without any control character are text in whatever encoding.
    if len(text) < 256 and not _is_utf_8(text):
        return None
    kind = _markup(text)
    if kind == _SVG:
        return _not_an_image("an SVG drawing (vector graphics)", _DRAWING)
    if kind == _HTML:
        return _not_an_image(
            "an HTML page", "the address may lead to a page about the picture"
        )
    if kind == _XML:
        return _not_an_image("an XML file", _OTHER)
    return _not_an_image("a text file", _OTHER)


def _is_utf_8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _markup(text: bytes) -> str | None:
    """Tell SVG, HTML and other XML apart by their first element."""
    rest = text.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not rest.startswith(b"<"):
        return None
    is_xml = False
    # Prolog, comments and document type may stand in front of the element.
    for _ in range(64):
        if rest.startswith(b"<?"):
            is_xml = True
            end = rest.find(b"?>")
            skip = 2
        elif rest.startswith(b"<!--"):
            end = rest.find(b"-->")
            skip = 3
        elif rest[:9].lower() == b"<!doctype":
            if rest[9:14].strip().lower().startswith(b"html"):
                return _HTML
            if rest[9:14].strip().lower().startswith(b"svg"):
                return _SVG
            end, skip = _end_of_doctype(rest), 1
        else:
            break
        if end < 0:
            break
        rest = rest[end + skip :].lstrip()
    name = rest[1:64].replace(b">", b" ").replace(b"/", b" ").split()
    element = name[0].lower() if name else b""
    if element.rpartition(b":")[2] == b"svg":
        return _SVG
    if element in (b"html", b"head", b"body", b"script", b"meta", b"title"):
        return _HTML
    return _XML if is_xml or element[:1].isalpha() else None


def _end_of_doctype(text: bytes) -> int:
    """Find the closing bracket, over an internal subset in square ones if need be."""
    end, subset = text.find(b">"), text.find(b"[")
    if 0 <= subset < end:
        closing = text.find(b"]", subset)
        return text.find(b">", closing) if closing >= 0 else -1
    return end


def _is_cursor(reader: HeaderReader) -> bool:
    """Tell a cursor from a TGA picture that starts with the same four bytes."""
    head = reader.head
    if len(head) < 22:
        return False
    count, reserved = struct.unpack_from("<H3xB", head, 4)
    size, at = struct.unpack_from("<II", head, 14)
    return bool(count and not reserved and size and 6 + 16 * count <= at < reader.size)


def _is_pcx(head: bytes) -> bool:
    return (
        len(head) >= 128
        and head[0] == 10
        and head[1] in (0, 2, 3, 4, 5)
        and head[2] in (0, 1)
        and head[3] in (1, 2, 4, 8)
        and head[64] == 0
    )


def _is_targa(reader: HeaderReader) -> bool:
    """Tell whether the header of a TGA picture, which has no signature, makes sense."""
    if reader.tail and reader.size > 44:
        # The signature of its second version stands at the end.
        footer = reader.read_up_to(reader.size - 18, 17, 0)
        if footer == b"TRUEVISION-XFILE.":
            return True
    head = reader.head
    if len(head) < 18:
        return False
    palette, kind, colours, colour_bits = struct.unpack_from("<xBB2xHB", head)
    width, height, bits, flags = struct.unpack_from("<HHBB", head, 12)
    if kind not in (1, 2, 3, 9, 10, 11) or not width or not height or flags & 0xC0:
        return False
    if kind in (1, 9):
        return palette == 1 and bits in (8, 16) and colour_bits in (15, 16, 24, 32)
    if palette > 1 or (not palette and (colours or colour_bits)):
        return False
    return bits in ((8, 16) if kind in (3, 11) else (15, 16, 24, 32))
