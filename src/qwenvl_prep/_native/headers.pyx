"""
The sides of a plain JPEG, PNG, WebP, BMP or TIFF file, for :mod:`qwenvl_prep.probe`.

Counting tokens needs two numbers of a header.  Where these files are as nearly all are,
their sides are found here in a few hundred nanoseconds; whatever is unusual, damaged or
merely not proven to be plain gives no answer, and ``read_header`` decides in its own
words.  So an answer from here is one that ``read_header`` would give too, and this file
needs neither its errors nor its knowledge of orientation, depth and colour.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.string cimport memcmp
from posix.stat cimport S_ISREG, fstat, struct_stat
from posix.types cimport off_t
from posix.unistd cimport pread

cdef enum:
    # HeaderReader reads as much at once, and charges it as one piece.
    HEAD_SIZE = 4096
    BUDGET = 256 * 1024
    # The most that read_header fetches for one segment or chunk, beside its contents:
    # its own header and up to three beginnings, 1,024 bytes of read-ahead each.
    COST = 4096
    MAX_FIELDS = 64
    PIECE = 6 + 12 * MAX_FIELDS

# No decoder takes more; above it a bitmap's side is negative.
cdef int64_t _MAX_SIDE = 2147483647
# Of a PNG's chunk, by its specification.
cdef int64_t _MAX_LENGTH = 2147483647

cdef struct Reader:
    int fd
    int64_t size
    Py_ssize_t head_size
    int64_t cost
    uint8_t piece[PIECE]
    uint8_t head[HEAD_SIZE]

cdef struct Sides:
    int64_t height
    int64_t width


cdef inline uint32_t _big16(const uint8_t *at) noexcept nogil:
    return <uint32_t>at[0] << 8 | at[1]


cdef inline uint32_t _big32(const uint8_t *at) noexcept nogil:
    return _big16(at) << 16 | _big16(at + 2)


cdef inline uint32_t _little16(const uint8_t *at) noexcept nogil:
    return <uint32_t>at[1] << 8 | at[0]


cdef inline uint32_t _little32(const uint8_t *at) noexcept nogil:
    return _little16(at + 2) << 16 | _little16(at)


cdef const uint8_t *_bytes(
    Reader *reader, int64_t at, Py_ssize_t length
) noexcept nogil:
    """
    Give *length* bytes of the file from *at* on, or NULL; good until the next call.

    Preconditions: at >= 0 and 0 < length <= PIECE.
    """
    if at <= reader.head_size - length:
        return &reader.head[at]
    # Beyond the head each piece costs a call, and read_header some of its budget.
    reader.cost += COST
    if reader.cost > BUDGET or at > reader.size - length:
        return NULL
    if pread(reader.fd, reader.piece, length, <off_t>at) != length:
        return NULL
    return reader.piece


cdef uint32_t _checksum(const uint8_t *data, Py_ssize_t length) noexcept nogil:
    """Give the CRC-32 of a few bytes; for so few no table is worth its place."""
    cdef uint32_t found = ~<uint32_t>0
    cdef Py_ssize_t i
    cdef int _bit
    for i in range(length):
        found ^= data[i]
        for _bit in range(8):
            found = found >> 1 ^ (<uint32_t>0xEDB88320 if found & 1 else 0)
    return ~found


cdef inline bint _is_frame(uint8_t marker) noexcept nogil:
    # SOF0 to SOF15 without DHT, JPG and DAC.
    return (
        0xC0 <= marker <= 0xCF
        and marker != 0xC4
        and marker != 0xC8
        and marker != 0xCC
    )


cdef bint _jpeg(Reader *reader, Sides *sides) noexcept nogil:
    """Walk over the segments in front of the first scan, as read_jpeg does."""
    cdef int64_t at = 2
    cdef int64_t length
    cdef uint32_t components
    cdef uint8_t marker
    cdef bint has_frame = False
    cdef const uint8_t *found
    while True:
        found = _bytes(reader, at, 4)
        if found == NULL or found[0] != 0xFF:
            return False
        marker = found[1]
        if marker == 0xDA:
            return has_frame
        length = _big16(found + 2)
        # Standing alone, fill bytes, and what is no marker at all.
        if (
            marker < 0xC0
            or marker == 0xC8
            or 0xD0 <= marker <= 0xD9
            or marker >= 0xF0 and marker != 0xFE
            or length < 2
        ):
            return False
        if _is_frame(marker):
            if has_frame:
                return False
            has_frame = True
            found = _bytes(reader, at + 4, 6)
            if found == NULL:
                return False
            sides.height = _big16(found + 1)
            sides.width = _big16(found + 3)
            components = found[5]
            if (
                length != 8 + 3 * components
                or not components
                or not 2 <= found[0] <= 16
            ):
                return False
        elif marker == 0xE1:
            # EXIF or XMP, of which read_jpeg may read all.
            if at + 2 + length > reader.head_size:
                reader.cost += COST + length
        elif marker == 0xE2:
            # MPF, of several pictures, is looked into.
            found = _bytes(reader, at + 4, 4)
            if found == NULL or memcmp(found, b"MPF\0", 4) == 0:
                return False
        at += 2 + length


cdef inline bint _is_alphanumeric(uint8_t letter) noexcept nogil:
    return (
        c"0" <= letter <= c"9" or c"A" <= letter <= c"Z" or c"a" <= letter <= c"z"
    )


cdef bint _png(Reader *reader, Sides *sides) noexcept nogil:
    """Check IHDR, and walk to the first chunk of pixels, as read_png does."""
    cdef const uint8_t *head = reader.head
    cdef int64_t at = 33
    cdef int64_t length
    cdef uint8_t depth, colour
    cdef bint is_known
    cdef const uint8_t *kind
    if reader.head_size < 33 or memcmp(head, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16):
        return False
    if _checksum(head + 12, 17) != _big32(head + 29):
        return False
    sides.width = _big32(head + 16)
    sides.height = _big32(head + 20)
    depth, colour = head[24], head[25]
    if colour == 0:
        is_known = depth in (1, 2, 4, 8, 16)
    elif colour == 3:
        is_known = depth in (1, 2, 4, 8)
    else:
        is_known = colour in (2, 4, 6) and depth in (8, 16)
    if not is_known or head[26] or head[27] or head[28] > 1:
        return False
    while True:
        kind = _bytes(reader, at, 8)
        if kind == NULL:
            return False
        length = _big32(kind)
        kind += 4
        if memcmp(kind, b"IDAT", 4) == 0:
            return True
        if memcmp(kind, b"acTL", 4) == 0 and length < 8:
            return False
        if memcmp(kind, b"fdAT", 4) == 0 or memcmp(kind, b"IEND", 4) == 0:
            return False
        if length > _MAX_LENGTH:
            return False
        if not (
            _is_alphanumeric(kind[0])
            and _is_alphanumeric(kind[1])
            and _is_alphanumeric(kind[2])
            and _is_alphanumeric(kind[3])
        ):
            return False
        if at + 12 + length > reader.head_size and (
            memcmp(kind, b"eXIf", 4) == 0
            or memcmp(kind, b"iTXt", 4) == 0
            or memcmp(kind, b"zTXt", 4) == 0
            or memcmp(kind, b"tEXt", 4) == 0
        ):
            # The most of a text that is read.
            reader.cost += COST + min(length, 65536)
        at += 12 + length


cdef bint _bitstream(
    Reader *reader, const uint8_t *kind, int64_t at, Sides *sides
) noexcept nogil:
    """Read the sides out of a coded picture; *kind* is its chunk's."""
    cdef const uint8_t *found
    cdef uint32_t packed
    if memcmp(kind, b"VP8 ", 4) == 0:
        found = _bytes(reader, at, 10)
        if found == NULL or found[0] & 1 or memcmp(found + 3, b"\x9d\x01\x2a", 3):
            return False
        sides.width = _little16(found + 6) & 0x3FFF
        sides.height = _little16(found + 8) & 0x3FFF
        return sides.height > 0 and sides.width > 0
    if memcmp(kind, b"VP8L", 4):
        return False
    found = _bytes(reader, at, 5)
    if found == NULL or found[0] != 0x2F:
        return False
    packed = _little32(found + 1)
    sides.width = (packed & 0x3FFF) + 1
    sides.height = (packed >> 14 & 0x3FFF) + 1
    return packed >> 29 == 0


cdef bint _webp(Reader *reader, Sides *sides) noexcept nogil:
    """Read the first chunk; of an extended file, walk as read_webp does."""
    cdef const uint8_t *head = reader.head
    cdef const uint8_t *kind
    cdef Sides coded
    cdef int64_t at, end, length
    cdef uint8_t flags
    cdef bint has_icc = False, has_picture = False
    if reader.head_size < 30:
        return False
    if memcmp(head + 12, b"VP8X", 4):
        return _bitstream(reader, head + 12, 20, sides)
    flags = head[20]
    # The frames of an animation are counted.
    if flags & 0x02:
        return False
    sides.width = (_little32(head + 24) & 0xFFFFFF) + 1
    sides.height = (_little32(head + 26) >> 8) + 1
    end = min(reader.size, 8 + <int64_t>_little32(head + 4))
    length = _little32(head + 16)
    at = 20 + length + (length & 1)
    while at + 8 <= end:
        kind = _bytes(reader, at, 8)
        if kind == NULL:
            return False
        length = _little32(kind + 4)
        if memcmp(kind, b"ANMF", 4) == 0:
            return False
        if memcmp(kind, b"VP8 ", 4) == 0 or memcmp(kind, b"VP8L", 4) == 0:
            # kind may lie in the piece, which the next call overwrites.
            if not has_picture and not _bitstream(
                reader, b"VP8 " if kind[3] == c" " else b"VP8L", at + 8, &coded
            ):
                return False
            has_picture = True
            # EXIF and XMP stand behind it.
            if not flags & 0x0C and (has_icc or not flags & 0x20):
                break
        elif memcmp(kind, b"ICCP", 4) == 0:
            has_icc = True
        elif at + 8 + length > reader.head_size and (
            memcmp(kind, b"EXIF", 4) == 0 or memcmp(kind, b"XMP ", 4) == 0
        ):
            reader.cost += COST + min(length, 65536)
        at += 8 + length + (length & 1)
    return has_picture


cdef bint _bmp(Reader *reader, Sides *sides) noexcept nogil:
    """Read a bitmap's header as read_bmp does, of the usual versions."""
    cdef const uint8_t *head = reader.head
    cdef uint32_t size
    cdef int64_t height
    if reader.head_size < 54:
        return False
    size = _little32(head + 14)
    if size not in (40, 52, 56, 108, 124) or reader.head_size < 14 + <int64_t>size:
        return False
    # A bitmap that is one, and no text that begins with BM: see _is_bitmap.
    if memcmp(head + 4, b"ftyp", 4) == 0:
        return False
    sides.width = <int64_t>_little32(head + 18)
    height = <int64_t>_little32(head + 22)
    # Signed, and negative where the rows run from the top down.
    sides.height = height if height <= _MAX_SIDE else 2 * (_MAX_SIDE + 1) - height
    return _little16(head + 28) in (1, 4, 8, 16, 24, 32) and _little32(head + 30) <= 3


cdef inline uint32_t _short(const uint8_t *at, bint big) noexcept nogil:
    return _big16(at) if big else _little16(at)


cdef inline uint32_t _long(const uint8_t *at, bint big) noexcept nogil:
    return _big32(at) if big else _little32(at)


cdef bint _tiff(Reader *reader, Sides *sides) noexcept nogil:
    """Read the one page's directory as read_tiff does, of a file without tiles."""
    cdef const uint8_t *head = reader.head
    cdef bint big = head[0] == c"M"
    cdef int64_t at = _long(head + 4, big)
    # 0 while a field was not seen; the first of two with one tag counts.
    cdef int64_t height = 0, width = 0
    cdef bint has_bits = False
    cdef int64_t bits_at = 0
    cdef uint32_t bits, bits_count = 0
    cdef uint32_t count, i, tag, kind, length, value
    cdef const uint8_t *found
    if at < 8:
        return False
    found = _bytes(reader, at, 2)
    if found == NULL:
        return False
    count = _short(found, big)
    if not 0 < count <= MAX_FIELDS:
        return False
    found = _bytes(reader, at + 2, 12 * count + 4)
    # A further page is one to be counted.
    if found == NULL or _long(found + 12 * count, big):
        return False
    for i in range(count):
        tag = _short(found, big)
        kind = _short(found + 2, big)
        length = _long(found + 4, big)
        value = _short(found + 8, big) if kind == 3 else _long(found + 8, big)
        if tag == 256 or tag == 257 or tag == 277:
            # Width, height, samples: one number of 16 or 32 bits.
            if length != 1 or not value or (kind != 3 and kind != 4):
                return False
            if tag == 256 and not width:
                width = value
            elif tag == 257 and not height:
                height = value
        elif tag == 258:
            if has_bits or kind != 3 or not 0 < length <= 8:
                return False
            has_bits = True
            bits_count = length
            # Up to two stand in the field itself.
            bits_at = at + 2 + 12 * i + 8 if length <= 2 else _long(found + 8, big)
        elif tag == 322 or tag == 323 or tag == 0xBC01:
            # Tiles, and JPEG XR.
            return False
        found += 12
    if bits_count:
        found = _bytes(reader, bits_at, 2 * bits_count)
        if found == NULL:
            return False
        value = 0
        for i in range(bits_count):
            bits = _short(found + 2 * i, big)
            value = max(value, bits)
        if not 1 <= value <= 64:
            return False
    sides.height = height
    sides.width = width
    return True


cdef bint _sides(Reader *reader, Sides *sides) noexcept nogil:
    """Find the sides of a file whose head is read; false where it is not plain."""
    cdef const uint8_t *head = reader.head
    if reader.head_size < 12:
        return False
    if head[0] == 0xFF and head[1] == 0xD8:
        return _jpeg(reader, sides)
    if head[0] == 0x89:
        return _png(reader, sides)
    if memcmp(head, b"RIFF", 4) == 0 and memcmp(head + 8, b"WEBP", 4) == 0:
        return _webp(reader, sides)
    if head[0] == c"B" and head[1] == c"M":
        return _bmp(reader, sides)
    # The number behind the order of bytes is 42 in either order, as Pillow has it.
    if (head[0] == c"I" and head[1] == c"I") or (head[0] == c"M" and head[1] == c"M"):
        if head[2] + head[3] == 42 and (not head[2] or not head[3]):
            return _tiff(reader, sides)
    return False


def sides_of_plain(int fd):
    """
    Give the sides of a file that is a plain picture.

    Parameters
    ----------
    fd : int
        Descriptor; its position is neither used nor moved.

    Returns
    -------
    tuple of (int, int) or None
        ``(height, width)`` in pixels as stored; None where this is no regular file
        that can be read, or nothing that is understood here to the last byte.
    """
    cdef Reader reader
    cdef Sides sides
    cdef struct_stat status
    cdef Py_ssize_t wanted
    cdef bint is_plain = False
    with nogil:  # not interacting with Python objects from here, release the GIL
        if fstat(fd, &status) == 0 and S_ISREG(status.st_mode):
            reader.fd = fd
            reader.size = status.st_size
            reader.cost = HEAD_SIZE
            wanted = <Py_ssize_t>min(reader.size, <int64_t>HEAD_SIZE)
            reader.head_size = pread(fd, reader.head, wanted, 0)
            # Fewer bytes than there are is somebody else writing, or a network's.
            if reader.head_size == wanted:
                is_plain = (
                    _sides(&reader, &sides)
                    and reader.cost <= BUDGET
                    and 0 < sides.height <= _MAX_SIDE
                    and 0 < sides.width <= _MAX_SIDE
                )
    if not is_plain:
        return None
    return sides.height, sides.width
