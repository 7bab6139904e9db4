"""What the header reader says about each format, and what it refuses."""

from __future__ import annotations

import gzip
import io
import os
import struct
import sys
import tracemalloc
import zipfile
import zlib

import pytest
from PIL import Image

from qwenvl_prep.errors import (
    DamagedImageError,
    ImageError,
    NeedMoreBytesError,
    NotAnImageError,
    SourceError,
    UnsupportedFormatError,
)
from qwenvl_prep.headers import HeaderReader, ImageInfo, read_header
from qwenvl_prep.headers.reader import BudgetExceeded, ShortRead
from qwenvl_prep.headers.tiff import exif_orientation
from qwenvl_prep.headers.xmp import xmp_orientation
from qwenvl_prep.probe import probe_prefix


def probe(data: bytes) -> ImageInfo:
    return read_header(HeaderReader.from_bytes(data))


def saved(mode: str, file_format: str, size: tuple[int, int] = (40, 24), **options):
    """Give a picture 24 high and 40 wide as bytes of a format."""
    file = io.BytesIO()
    Image.new(mode, size).save(file, file_format, **options)
    return file.getvalue()


def exif_with(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def tiff_block(orientation: int, order: str = "<") -> bytes:
    """Give a bare EXIF block that states nothing but an orientation."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return magic + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'


# ---------------------------------------------------------------------- beginnings


def needed(data: bytes, **options) -> NeedMoreBytesError:
    """Give the error of a beginning that is too short."""
    with pytest.raises(NeedMoreBytesError) as caught:
        probe_prefix(data, **options)
    return caught.value


class TestPrefix:
    """What the first bytes say, and how many of them it takes."""

    def test_head_is_asked_for_first(self):
        """The first question is for 4,096 bytes, or for as many as there are."""
        error = needed(b"", size=100_000)
        assert (error.needed, error.received) == (4_096, 0)
        assert needed(b"abc", size=100).needed == 100
        assert needed(b"abc").needed == 4_096
        assert "4,096 bytes of the file's beginning but received 3" in str(
            needed(b"abc")
        )

    def test_far_frame_is_asked_for(self):
        """Behind EXIF of 60,000 bytes stands the frame: two questions, and no third."""
        exif = b"\xff\xe1" + struct.pack(">H", 60_002) + bytes(60_000)
        data = saved("RGB", "JPEG")
        data = data[:2] + exif + data[2:] + bytes(9_000_000)
        error = needed(data[:4_096], size=len(data))
        assert 60_000 < error.needed < 63_000
        info = probe_prefix(data[: error.needed], size=len(data))
        assert (info.height, info.width) == (24, 40)
        assert info.encoded_size == len(data)
        # The size is not needed, only not known then.
        assert probe_prefix(data[: error.needed]).encoded_size == 0

    def test_orientation_behind_the_pixels_is_waited_for(self):
        """A PNG is read to its end, unless nothing but the sides is wanted."""
        noise = os.urandom(200_000)
        image = Image.frombytes("L", (500, 400), noise)
        file = io.BytesIO()
        image.save(file, "PNG")
        data = file.getvalue()
        exif = tiff_block(6)
        chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif
        chunk += struct.pack(">I", zlib.crc32(b"eXIf" + exif))
        data = data[:-12] + chunk + data[-12:]
        assert needed(data[:5_000], size=len(data)).needed > 5_000
        assert probe_prefix(data, size=len(data)).orientation == 6
        info = probe_prefix(data[:5_000], size=len(data), tail=False)
        assert (info.height, info.width, info.orientation) == (400, 500, 1)

    def test_frames_are_not_waited_for_without_the_tail(self):
        """The first of many frames has the size of all."""
        frames = [Image.effect_noise((90, 80), 90).convert("RGB") for _ in range(9)]
        for file_format in ("GIF", "WEBP", "TIFF"):
            file = io.BytesIO()
            options = {"save_all": True, "append_images": frames[1:]}
            frames[0].save(file, file_format, **options)
            data = file.getvalue()
            assert probe_prefix(data, size=len(data)).n_frames == 9
            info = probe_prefix(data[:9_000], size=len(data), tail=False)
            assert (info.height, info.width, info.n_frames) == (80, 90, 1)

    def test_end_of_a_file_of_unknown_size_is_all_of_it(self):
        """Some types are told by their end, which may be anywhere."""
        data = bytes(range(100, 150)) * 400
        assert needed(data[:9_000]).needed == sys.maxsize
        assert "all bytes" in str(needed(data[:9_000]))
        assert needed(data[:9_000], size=len(data)).needed == len(data) - 1
        for options in ({"size": len(data)}, {"tail": False}):
            with pytest.raises(NotAnImageError):
                probe_prefix(data, **options)
        footer = data + b"TRUEVISION-XFILE.\0"
        with pytest.raises(UnsupportedFormatError, match="TGA"):
            probe_prefix(footer, size=len(footer))

    def test_what_is_broken_is_told_at_once(self):
        """No further bytes are asked for where the first show that it is in vain."""
        data = saved("RGB", "PNG")
        with pytest.raises(DamagedImageError):
            probe_prefix(data[:20] + b"!" + data[21:] + bytes(5_000), size=1_000_000)
        with pytest.raises(NotAnImageError):
            probe_prefix(b"%PDF-1.7" + bytes(5_000), size=1_000_000)

    def test_bytes_like_objects_are_bytes(self):
        """A bytearray and a memoryview are beginnings too."""
        data = saved("RGB", "PNG")
        for other in (bytearray(data), memoryview(data)):
            assert probe_prefix(other, size=len(data)) == probe(data)

    def test_impossible_sizes_are_a_mistake_of_the_caller(self):
        """A size is an int, and no less than what is here."""
        for size in (-1, 2, 1 << 62):
            with pytest.raises(ValueError, match="Expected a size of at least the 3"):
                probe_prefix(b"abc", size=size)
        for size in (3.0, "3", True):
            with pytest.raises(TypeError, match="Expected an int for size"):
                probe_prefix(b"abc", size=size)
        with pytest.raises(TypeError):
            probe_prefix("abc")


# ------------------------------------------------------------------------- reader


class TestReader:
    """Pieces of a file, and the account of them."""

    def test_bytes_source_reads_nothing_from_a_file(self):
        """A buffer costs no reads, so bytes_read stays 0."""
        reader = HeaderReader.from_bytes(bytes(10_000))
        assert reader.read(9_000, 4) == bytes(4)
        assert reader.bytes_read == 0

    def test_bytes_like_objects_are_read_as_bytes(self):
        """A bytearray and a memoryview give what the bytes give."""
        data = saved("RGB", "PNG")
        for other in (bytearray(data), memoryview(data)):
            assert read_header(HeaderReader.from_bytes(other)) == probe(data)

    def test_file_is_read_ahead_and_counted_once(self, tmp_path):
        """The head costs 4,096 bytes, a jump 1,024, and what is cached nothing."""
        path = tmp_path / "file"
        path.write_bytes(bytes(range(256)) * 64)
        fd = os.open(path, os.O_RDONLY)
        try:
            reader = HeaderReader.from_fd(fd, 16_384)
            assert reader.bytes_read == 4_096
            assert reader.read(4_000, 200) == (bytes(range(256)) * 20)[4_000:4_200]
            assert reader.bytes_read == 5_024
            assert reader.read(5_000, 24) == (bytes(range(256)) * 20)[5_000:5_024]
            assert reader.bytes_read == 5_024
            assert reader.read(10_000, 8, 0) == (bytes(range(256)) * 40)[10_000:10_008]
            assert reader.bytes_read == 5_032
        finally:
            os.close(fd)

    def test_short_read_says_what_was_needed(self):
        """Whoever can fetch more learns how much to fetch."""
        with pytest.raises(ShortRead) as caught:
            HeaderReader.from_bytes(b"abc").read(2, 6)
        assert caught.value.needed_end == 8

    def test_beginning_of_a_longer_whole_says_what_was_needed(self):
        """A partial buffer knows the length of the whole."""
        reader = HeaderReader.from_bytes(b"abc", size=100)
        assert reader.size == 100
        with pytest.raises(ShortRead) as caught:
            reader.read(2, 6)
        assert caught.value.needed_end == 8

    def test_part_is_a_file_of_its_own(self):
        """A picture in a picture is read by offsets of its own, and ends by itself."""
        part = HeaderReader.from_bytes(bytes(range(100))).part(50, 10)
        assert (part.size, part.read(2, 3)) == (10, b"456")
        with pytest.raises(ShortRead):
            part.read(8, 3)
        assert HeaderReader.from_bytes(b"abc").part(7, 10).size == 0

    def test_unreadable_descriptor_is_a_source_error(self):
        """An error of the operating system becomes ours, at once or later."""
        with pytest.raises(SourceError, match="Expected a readable file"):
            HeaderReader.from_fd(-1, 10)

    def test_unreadable_later_is_a_source_error(self, tmp_path):
        """A file that goes away while it is read is told apart from a damaged one."""
        path = tmp_path / "file"
        path.write_bytes(bytes(10_000))
        fd = os.open(path, os.O_RDONLY)
        reader = HeaderReader.from_fd(fd, 10_000)
        os.close(fd)
        with pytest.raises(SourceError):
            reader.read(9_000, 4)
        with pytest.raises(SourceError):
            reader.peek(9_000, 4)

    def test_file_that_became_shorter_is_damaged(self, tmp_path):
        """A size that is no longer true leads to our error too."""
        path = tmp_path / "file"
        path.write_bytes(saved("RGB", "PNG")[:20])
        fd = os.open(path, os.O_RDONLY)
        try:
            with pytest.raises(DamagedImageError, match="ends at byte"):
                read_header(HeaderReader.from_fd(fd, 1_000))
        finally:
            os.close(fd)

    def test_end_of_the_budget_is_used_up(self):
        """What is needed is read, though reading ahead would take too much."""
        reader = HeaderReader.from_bytes(bytes(20_000), budget=4_196)
        assert reader.read(9_000, 100) == bytes(100)
        assert reader.bytes_left == 0

    def test_peek_reads_nothing_around(self):
        """A few bytes cost just those, from memory nothing, and none at the end."""
        reader = HeaderReader.from_bytes(bytes(range(250)) * 40, budget=4_106)
        assert reader.peek(4_000, 2) == b"\0\1"
        assert reader.bytes_left == 10
        assert reader.peek(5_000, 4) == b"\0\1\2\3"
        assert reader.peek(9_998, 4) == b"\xf8\xf9"
        assert reader.bytes_left == 4
        assert reader.peek(10_000, 4) == b""
        assert reader.read(6_000, 4, 0) == b"\0\1\2\3"
        assert reader.peek(6_001, 2) == b"\1\2"
        with pytest.raises(BudgetExceeded):
            reader.peek(7_000, 1)

    def test_header_beyond_the_budget_is_damaged(self):
        """A header spread over more than may be read is refused and says so."""
        # 400 segments that must be looked into, each in another kilobyte.
        segment = b"\xff\xe1" + struct.pack(">H", 2_000) + bytes(1_998)
        with pytest.raises(DamagedImageError, match="262,144 bytes"):
            probe(b"\xff\xd8" + segment * 400)


# --------------------------------------------------------------------------- JPEG


def jpeg_segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body


def jpeg_frame(height=24, width=40, components=3, bits=8, marker=0xC0) -> bytes:
    layers = b"".join(bytes((i + 1, 0x11, 0)) for i in range(components))
    return jpeg_segment(
        marker, struct.pack(">BHHB", bits, height, width, components) + layers
    )


SCAN = jpeg_segment(0xDA, b"\1\1\0\0\x3f\0")


def jpeg(*segments: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(segments) + SCAN


class TestJpeg:
    """JPEG, MPO and Ultra HDR."""

    @pytest.mark.parametrize(
        ("mode", "channels", "colour"),
        [("L", 1, "grey"), ("RGB", 3, "rgb"), ("CMYK", 4, "cmyk")],
    )
    def test_size_and_components(self, mode, channels, colour):
        """Height comes first, and components name the colour."""
        data = saved(mode, "JPEG")
        assert probe(data) == ImageInfo(
            format="JPEG",
            media_type="image/jpeg",
            height=24,
            width=40,
            channels=channels,
            colour=colour,
            encoded_size=len(data),
        )

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, orientation):
        """Each of the eight is found."""
        info = probe(saved("RGB", "JPEG", exif=exif_with(orientation)))
        assert info.orientation == orientation
        assert (info.height, info.width) == (24, 40)

    def test_sideways_orientation_swaps_the_upright_sides(self):
        """Stored sides stay as they are, upright ones are turned."""
        info = probe(saved("RGB", "JPEG", exif=exif_with(6)))
        assert (info.upright_height, info.upright_width) == (40, 24)

    def test_first_exif_block_counts(self):
        """A second EXIF block does not overrule the first."""
        first = jpeg_segment(0xE1, b"Exif\0\0" + tiff_block(6))
        second = jpeg_segment(0xE1, b"Exif\0\0" + tiff_block(3, ">"))
        assert probe(jpeg(first, second, jpeg_frame())).orientation == 6

    def test_xmp_orientation_stands_in_for_exif(self):
        """XMP counts only where EXIF is silent."""
        xmp = jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
        exif = jpeg_segment(0xE1, b"Exif\0\0" + tiff_block(3))
        assert probe(jpeg(xmp, jpeg_frame())).orientation == 8
        assert probe(jpeg(exif, xmp, jpeg_frame())).orientation == 3

    def test_long_exif_is_read_to_the_end_of_its_directory(self):
        """A directory beyond the first 512 bytes of the block is still found."""
        block = b"II*\0" + struct.pack("<I", 3_000) + bytes(2_992)
        block += tiff_block(5)[8:]
        segment = jpeg_segment(0xE1, b"Exif\0\0" + block)
        assert probe(jpeg(segment, jpeg_frame())).orientation == 5

    @pytest.mark.parametrize("marker", [0xC2, 0xC6, 0xCA, 0xCE])
    def test_progressive_frames(self, marker):
        """The four progressive frames are told from the others."""
        assert probe(jpeg(jpeg_frame(marker=marker))).is_progressive
        assert probe(saved("RGB", "JPEG", progressive=True)).is_progressive
        assert not probe(saved("RGB", "JPEG")).is_progressive

    def test_scan_that_lacks_a_component(self):
        """A sequential file of several scans is held whole, as a progressive one is."""
        data = bytearray(saved("RGB", "JPEG"))
        scan = data.index(b"\xff\xda")
        assert data[scan + 4] == 3
        data[scan + 4] = 1
        assert probe(bytes(data)).is_progressive
        assert not probe(saved("L", "JPEG")).is_progressive
        # Where the file ends in its scan's header, nothing is known of other scans.
        assert not probe(bytes(data[: scan + 4])).is_progressive

    def test_lossless_frame_of_12_bits(self):
        """Depth and losslessness come from the frame."""
        info = probe(jpeg(jpeg_frame(bits=12, marker=0xC3)))
        assert (info.bit_depth, info.is_lossless) == (12, True)

    def test_icc_profile(self):
        """A profile is noticed, not read."""
        assert probe(saved("RGB", "JPEG", icc_profile=b"profile")).has_icc
        other = jpeg_segment(0xE2, b"something else")
        assert not probe(jpeg(other, jpeg_frame())).has_icc

    def test_fill_bytes_junk_and_bare_markers_are_passed_over(self):
        """What decoders forgive between segments is forgiven here."""
        data = jpeg(
            b"\xff" * 3_000, jpeg_frame(), b"junk\xff\x00", b"x" * 3_000, b"\xff\xd0"
        )
        assert (probe(data).height, probe(data).width) == (24, 40)

    def test_two_components_are_another_colour(self):
        """A number of components without a name is no error here."""
        assert probe(jpeg(jpeg_frame(components=2))).colour == "other"

    def test_pictures_of_an_mpo(self):
        """An MPO is a JPEG of several pictures."""
        file = io.BytesIO()
        pictures = [Image.new("RGB", (40, 24)) for _ in range(3)]
        pictures[0].save(file, "MPO", save_all=True, append_images=pictures[1:])
        info = probe(file.getvalue())
        assert (info.format, info.n_frames) == ("JPEG", 3)

    def test_ultra_hdr_is_one_picture(self):
        """A gain map is no second picture."""
        file = io.BytesIO()
        pictures = [Image.new("RGB", (40, 24)) for _ in range(2)]
        pictures[0].save(
            file,
            "MPO",
            save_all=True,
            append_images=pictures[1:],
            xmp=b'<x hdrgm:Version="1.0"/>',
        )
        assert probe(file.getvalue()).n_frames == 1

    def test_megabytes_of_metadata_in_an_mpo_are_passed_over(self):
        """What used to read every segment for a gain map's mark stays cheap."""
        index = b"II*\0\x08\0\0\0\2\0" + struct.pack("<HHII", 0xB001, 4, 1, 2)
        index += struct.pack("<HHII", 0xB002, 7, 32, 38) + bytes(4 + 32)
        more = jpeg_segment(
            0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60_000)
        )
        mpf = jpeg_segment(0xE2, b"MPF\0" + index)
        reader = HeaderReader.from_bytes(jpeg(more * 20, mpf, jpeg_frame()))
        assert read_header(reader).n_frames == 2
        assert reader.bytes_left > 200_000

    @pytest.mark.parametrize(
        "block",
        [
            b"",
            b"XX*\0\x08\0\0\0",
            b"II*\0\xff\xff\0\0",
            b"II*\0\x08\0\0\0\1\0" + struct.pack("<HHII", 0xB001, 4, 1, 2) + bytes(4),
            b"II*\0\x08\0\0\0\2\0"
            + struct.pack("<HHII", 0xB001, 4, 1, 2)
            + struct.pack("<HHII", 0xB002, 7, 32, 5_000)
            + bytes(40),
            b"II*\0\x08\0\0\0\2\0"
            + struct.pack("<HHII", 0xB001, 4, 1, 2)
            + struct.pack("<HHII", 0xB002, 7, 32, 38)
            + bytes(4)
            + b"\0\0\0\1" * 8,
        ],
        ids=[
            "empty",
            "no order",
            "outside",
            "no entries",
            "entries outside",
            "not JPEG",
        ],
    )
    def test_unsound_mpf_block_means_one_picture(self, block):
        """As in Pillow, a broken index makes an MPO an ordinary JPEG."""
        segment = jpeg_segment(0xE2, b"MPF\0" + block)
        assert probe(jpeg(segment, jpeg_frame())).n_frames == 1

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (jpeg(jpeg_frame(height=0)), "height above 0"),
            (jpeg(jpeg_frame(width=0)), "width above 0"),
            (jpeg(), "a frame before the first scan"),
            (jpeg(jpeg_frame(components=0)), "0 components"),
            (jpeg(jpeg_frame(bits=1)), "2 to 16 bits"),
            (jpeg(b"\xff\x02ab"), "0xFF02 at byte 2"),
            (jpeg(b"\xff\xe0\0\0"), "a segment of 2 bytes or more"),
            (jpeg(jpeg_segment(0xC0, b"\x08\0\x18\0\x28\3")), "3 components"),
            (b"\xff\xd8" + jpeg_frame(), "ends at byte 21"),
            (b"\xff\xd8\xff\xe0\1", "ends at byte 5"),
            (b"\xff\xd8" + b"junk" * 2_000, "ends at byte 8,002"),
            (b"\xff\xd8" + b"\xff\xd0" * 20_000, "10,000 segments"),
            (b"\xff\xd8\xff\xc0\0\4ab" + SCAN, "contradictory lengths"),
        ],
    )
    def test_damaged(self, data, message):
        """Each kind of damage has its sentence."""
        with pytest.raises(DamagedImageError, match=message) as caught:
            probe(data)
        assert caught.value.format == "JPEG"


# ---------------------------------------------------------------------------- PNG


def png_chunk(kind: bytes, body: bytes = b"") -> bytes:
    return (
        struct.pack(">I", len(body))
        + kind
        + body
        + struct.pack(">I", zlib.crc32(kind + body))
    )


def ihdr(height=24, width=40, bits=8, colour=2, methods=b"\0\0\0") -> bytes:
    body = struct.pack(">IIBB", width, height, bits, colour) + methods
    return png_chunk(b"IHDR", body)


END = png_chunk(b"IEND")


def png(*chunks: bytes, header: bytes = b"") -> bytes:
    return b"\x89PNG\r\n\x1a\n" + (header or ihdr()) + b"".join(chunks)


class TestPng:
    """PNG and APNG."""

    @pytest.mark.parametrize(
        ("mode", "channels", "bits", "has_alpha", "colour"),
        [
            ("1", 1, 1, False, "grey"),
            ("L", 1, 8, False, "grey"),
            ("I;16", 1, 16, False, "grey"),
            ("LA", 2, 8, True, "grey"),
            ("RGB", 3, 8, False, "rgb"),
            ("RGBA", 4, 8, True, "rgb"),
            ("P", 3, 8, False, "palette"),
        ],
    )
    def test_modes(self, mode, channels, bits, has_alpha, colour):
        """Colour type and depth say what the decoded samples are."""
        data = saved(mode, "PNG")
        assert probe(data) == ImageInfo(
            format="PNG",
            media_type="image/png",
            height=24,
            width=40,
            channels=channels,
            bit_depth=bits,
            has_alpha=has_alpha,
            colour=colour,
            is_lossless=True,
            encoded_size=len(data),
        )

    @pytest.mark.parametrize(("mode", "channels"), [("P", 4), ("L", 2), ("RGB", 4)])
    def test_transparent_colour_is_alpha(self, mode, channels):
        """The tRNS chunk adds a channel."""
        colour = (0, 0, 0) if mode == "RGB" else 0
        info = probe(saved(mode, "PNG", transparency=colour))
        assert (info.has_alpha, info.channels) == (True, channels)

    def test_interlaced_profile_and_orientation(self):
        """The facts of the chunks in front of the pixels."""
        data = png(
            png_chunk(b"iCCP", b"x\0\0"),
            png_chunk(b"eXIf", tiff_block(7)),
            png_chunk(b"IDAT"),
            END,
            header=ihdr(methods=b"\0\0\1"),
        )
        info = probe(data)
        assert (info.has_icc, info.orientation, info.is_progressive) == (True, 7, True)

    @pytest.mark.parametrize("pieces", [1, 2, 3, 7, 100])
    @pytest.mark.parametrize("last", [1, 5_000, 8_192])
    def test_orientation_behind_the_pixels(self, pieces, last):
        """EXIF behind any number of IDAT chunks is found, over few bytes."""
        pixels = png_chunk(b"IDAT", bytes(8_000))
        pixels += png_chunk(b"IDAT", bytes(8_192)) * pieces
        data = png(
            pixels,
            png_chunk(b"IDAT", bytes(last)),
            png_chunk(b"eXIf", tiff_block(6)),
            END,
        )
        reader = HeaderReader.from_bytes(data)
        assert read_header(reader).orientation == 6
        assert reader.bytes_left > 240_000

    def test_uneven_pixels_are_walked_one_by_one(self):
        """Chunks of changing lengths lead to the EXIF chunk as well."""
        pixels = b"".join(png_chunk(b"IDAT", bytes(n)) for n in range(1, 3_000, 97))
        data = png(pixels, png_chunk(b"eXIf", tiff_block(6)), END)
        assert probe(data).orientation == 6

    @pytest.mark.parametrize(
        "tail",
        [
            b"",
            b"\0\0\0",
            b"\xff\xff\xff\xffeXIf",
            png_chunk(b"\1\2\3\4"),
            b"\0\0\1\0eXIf",
        ],
    )
    def test_broken_tail_is_left_to_the_decoder(self, tail):
        """Pixels that break off do not hide the size."""
        data = png(png_chunk(b"IDAT", bytes(100)), tail)
        assert (probe(data).height, probe(data).width) == (24, 40)

    def test_metadata_too_far_away_is_no_reason_to_refuse(self):
        """What used to be refused for want of budget is read without its metadata."""
        front = b"".join(png_chunk(b"tEXt", bytes(2_000)) for _ in range(220))
        pixels = b"".join(png_chunk(b"IDAT", bytes(i % 7)) for i in range(9_000))
        assert probe(png(front, pixels, END)).height == 24

    def test_walk_behind_the_pixels_is_bounded(self):
        """After 10,000 chunks nobody looks for metadata any more."""
        chunks = png_chunk(b"prIV") * 10_001
        data = png(png_chunk(b"IDAT"), chunks, png_chunk(b"eXIf", tiff_block(6)), END)
        assert probe(data).orientation == 1

    def test_frames_of_an_animation(self):
        """A default picture that is no frame is counted besides what acTL says."""
        actl = png_chunk(b"acTL", struct.pack(">II", 5, 0))
        fctl = png_chunk(b"fcTL", bytes(26))
        idat = png_chunk(b"IDAT", bytes(10))
        assert probe(png(actl, fctl, idat, END)).n_frames == 5
        assert probe(png(actl, idat, fctl, END)).n_frames == 6
        assert probe(png(actl, actl, idat, END)).n_frames == 1
        nothing = png_chunk(b"acTL", bytes(8))
        assert probe(png(nothing, idat, END)).n_frames == 1

    def test_animation_made_by_pillow(self):
        """Frames as Pillow writes and counts them."""
        frames = [Image.new("RGB", (40, 24), colour) for colour in ("red", "blue")]
        file = io.BytesIO()
        frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
        assert probe(file.getvalue()).n_frames == 2

    @pytest.mark.parametrize(
        "chunk",
        [
            png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
            png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
            png_chunk(
                b"tEXt",
                b"Raw profile type exif\0\nexif\n  26\n" + tiff_block(8).hex().encode(),
            ),
            png_chunk(
                b"zTXt",
                b"Raw profile type exif\0\0"
                + zlib.compress(b"\nexif\n  26\n" + tiff_block(8).hex().encode()),
            ),
        ],
        ids=["xmp", "packed xmp", "raw exif", "packed raw exif"],
    )
    def test_orientation_in_text(self, chunk):
        """XMP and ImageMagick's raw profile state an orientation too."""
        assert probe(png(chunk, png_chunk(b"IDAT"), END)).orientation == 8

    @pytest.mark.parametrize(
        "chunk",
        [
            png_chunk(b"iTXt", b'Comment\0\0\0\0\0tiff:Orientation="6"'),
            png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0not deflated"),
            png_chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  26\nno digits"),
            png_chunk(b"zTXt", b"Raw profile type exif\0\0not deflated"),
            png_chunk(b"eXIf", b"no exif"),
        ],
    )
    def test_unreadable_metadata_states_nothing(self, chunk):
        """Broken metadata is no reason to refuse a picture."""
        assert probe(png(chunk, png_chunk(b"IDAT"), END)).orientation == 1

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"\x89PNG\n\x1a\n" + bytes(40), "the signature"),
            (png(header=ihdr(height=0)), "height and width above 0"),
            (png(header=ihdr(width=2**31)), "height and width above 0"),
            (png(header=ihdr(bits=3)), "type 2, 3 bits"),
            (png(header=ihdr(colour=5)), "type 5, 8 bits"),
            (png(header=ihdr(methods=b"\0\0\2")), "known methods"),
            (png(header=ihdr(methods=b"\1\0\0")), "known methods"),
            (png(header=ihdr()[:-1] + b"\0"), "checksum"),
            (png(header=png_chunk(b"JHDR", bytes(13))), "an IHDR chunk"),
            (png(END), "an IDAT chunk"),
            (png(b"\xff\xff\xff\xfftEXt"), "a chunk"),
            (png(b"\0\0\0\0\0\0\0\0"), "a chunk"),
            (png(png_chunk(b"acTL")), "8 bytes of acTL"),
            (png(png_chunk(b"prIV") * 10_001), "10,000 others"),
            (png(), "ends at byte 33"),
            (png()[:30], "ends at byte 30"),
        ],
    )
    def test_damaged(self, data, message):
        """Each kind of damage has its sentence."""
        with pytest.raises(DamagedImageError, match=message):
            probe(data)

    def test_apple_variant_is_unsupported(self):
        """The PNG of iOS apps is named."""
        with pytest.raises(UnsupportedFormatError) as caught:
            probe(png(header=png_chunk(b"CgBI", bytes(4))) + ihdr())
        assert caught.value.format == "CgBI"


# --------------------------------------------------------------------------- WebP


def riff_chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) & 1)


def webp(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8x(flags: int, height=24, width=40) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff_chunk(b"VP8X", bytes((flags, 0, 0, 0)) + sides)


VP8 = riff_chunk(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", 40, 24))


class TestWebp:
    """WebP in its three forms."""

    @pytest.mark.parametrize("lossless", [True, False])
    @pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("RGBA", 4)])
    def test_modes(self, mode, channels, lossless):
        """Lossy and lossless, with and without alpha."""
        file = io.BytesIO()
        Image.new(mode, (40, 24), (1, 2, 3, 4)[:channels]).save(
            file, "WEBP", lossless=lossless
        )
        data = file.getvalue()
        assert probe(data) == ImageInfo(
            format="WEBP",
            media_type="image/webp",
            height=24,
            width=40,
            channels=channels,
            has_alpha=channels == 4,
            is_lossless=lossless,
            encoded_size=len(data),
        )

    def test_metadata(self):
        """A profile in front and EXIF behind the pixels."""
        info = probe(saved("RGB", "WEBP", exif=exif_with(6), icc_profile=b"profile"))
        assert (info.orientation, info.has_icc, info.n_frames) == (6, True, 1)

    def test_xmp_orientation(self):
        """XMP stands in where there is no EXIF; the first packet is the one."""
        assert probe(saved("RGB", "WEBP", xmp=XMP)).orientation == 8
        packets = riff_chunk(b"XMP ", XMP) + riff_chunk(b"XMP ", b"")
        assert probe(webp(vp8x(0x04), VP8, packets)).orientation == 8

    def test_frames_of_an_animation(self):
        """Frames are counted, whatever stands between them."""
        frames = [Image.new("RGB", (40, 24), colour) for colour in ("red", "blue")]
        file = io.BytesIO()
        frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
        info = probe(file.getvalue())
        assert (info.n_frames, info.height, info.width) == (2, 24, 40)

    def test_canvas_may_be_larger_than_the_picture(self):
        """The canvas is what decoders give."""
        info = probe(webp(vp8x(0, 16_777_216, 50), VP8))
        assert (info.height, info.width) == (16_777_216, 50)

    def test_second_picture_does_not_count(self):
        """A still picture is the first, and the first EXIF chunk is the one."""
        exif = riff_chunk(b"EXIF", tiff_block(6))
        again = riff_chunk(b"VP8L", b"bad") + riff_chunk(b"EXIF", tiff_block(3))
        info = probe(webp(vp8x(0x08), VP8, exif, again))
        assert (info.orientation, info.is_lossless) == (6, False)

    def test_animation_without_frames_is_one_picture(self):
        """A still picture under the flag of an animation is still a picture."""
        assert probe(webp(vp8x(0x02), VP8)).n_frames == 1

    def test_walk_is_bounded(self):
        """After 10,000 chunks nobody looks for metadata any more."""
        chunks = riff_chunk(b"xxxx", b"") * 10_001
        data = webp(vp8x(0x08), VP8, chunks, riff_chunk(b"EXIF", tiff_block(6)))
        assert probe(data).orientation == 1

    def test_chunks_behind_the_end_do_not_count(self):
        """The length in the file header bounds the walk."""
        data = webp(vp8x(0x08), VP8) + riff_chunk(b"EXIF", tiff_block(6))
        assert probe(data).orientation == 1

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (
                webp(riff_chunk(b"VP8 ", b"\x11\0\0\x9d\x01\x2a" + bytes(4))),
                "key frame",
            ),
            (webp(riff_chunk(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + bytes(4))), "above 0"),
            (webp(riff_chunk(b"VP8 ", b"\x10\0\0abc" + bytes(4))), "key frame"),
            (webp(riff_chunk(b"VP8L", b"\x2e" + bytes(5))), "lossless picture"),
            (webp(riff_chunk(b"VP8L", b"\x2f\0\0\0\xff\0")), "lossless picture"),
            (webp(riff_chunk(b"ALPH", bytes(8))), "VP8, VP8L or VP8X"),
            (webp(vp8x(0)), "a picture behind"),
            (webp(VP8)[:24], "ends at byte 24"),
        ],
    )
    def test_damaged(self, data, message):
        """Each kind of damage has its sentence."""
        with pytest.raises(DamagedImageError, match=message):
            probe(data)


# --------------------------------------------------------------------------- TIFF


def tiff(fields, order="<", big=False, following=0) -> bytes:
    """Give a TIFF of one directory; a field is (tag, type, values)."""
    codes = {1: "B", 3: "H", 4: "I", 7: "B", 16: "Q"}
    magic = b"II" if order == "<" else b"MM"
    start = struct.pack(
        order + ("HHHQ" if big else "HI"), *((43, 8, 0, 16) if big else (42, 8))
    )
    count = struct.pack(order + ("Q" if big else "H"), len(fields))
    width = 8 if big else 4
    at = len(magic + start + count) + len(fields) * (20 if big else 12) + width
    entries, behind = b"", b""
    for tag, kind, values in fields:
        data = struct.pack(f"{order}{len(values)}{codes[kind]}", *values)
        if len(data) > width:
            offset = struct.pack(order + ("Q" if big else "I"), at + len(behind))
            behind, data = behind + data, offset
        entries += struct.pack(
            order + ("HHQ" if big else "HHI"), tag, kind, len(values)
        )
        entries += data.ljust(width, b"\0")
    end = struct.pack(order + ("Q" if big else "I"), following)
    return magic + start + count + entries + end + behind


SIZE = [(256, 4, [40]), (257, 4, [24])]


class TestTiff:
    """TIFF and BigTIFF."""

    @pytest.mark.parametrize(
        ("mode", "channels", "bits", "has_alpha", "colour"),
        [
            ("1", 1, 1, False, "grey"),
            ("L", 1, 8, False, "grey"),
            ("I;16", 1, 16, False, "grey"),
            ("F", 1, 32, False, "grey"),
            ("LA", 2, 8, True, "grey"),
            ("RGB", 3, 8, False, "rgb"),
            ("RGBA", 4, 8, True, "rgb"),
            ("RGBX", 4, 8, False, "rgb"),
            ("P", 3, 8, False, "palette"),
            ("CMYK", 4, 8, False, "cmyk"),
            ("LAB", 3, 8, False, "other"),
        ],
    )
    def test_modes(self, mode, channels, bits, has_alpha, colour):
        """Samples, depth and kind of colour come from the directory."""
        data = saved(mode, "TIFF")
        assert probe(data) == ImageInfo(
            format="TIFF",
            media_type="image/tiff",
            height=24,
            width=40,
            channels=channels,
            bit_depth=bits,
            has_alpha=has_alpha,
            colour=colour,
            is_lossless=True,
            encoded_size=len(data),
        )

    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("big", [False, True])
    def test_both_orders_and_both_widths(self, order, big):
        """TIFF and BigTIFF, little-endian and big-endian, give the same."""
        data = tiff(
            [
                *SIZE,
                (258, 3, [14, 14, 14]),
                (262, 3, [2]),
                (274, 3, [6]),
                (277, 3, [3]),
                (34675, 7, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
            ],
            order,
            big,
        )
        info = probe(data)
        assert (info.height, info.width, info.orientation) == (24, 40, 6)
        assert (info.channels, info.bit_depth, info.has_icc) == (3, 16, True)

    @pytest.mark.parametrize(
        ("fields", "rows"),
        [
            ([], 1),
            ([(278, 3, [8])], 1),
            ([(278, 4, [2**32 - 1])], 1),
            # Strips of one colour each are all needed for one row.
            ([(277, 3, [3]), (278, 3, [8]), (284, 3, [2])], 8),
            ([(277, 3, [3]), (278, 4, [2**32 - 1]), (284, 3, [2])], 24),
            ([(277, 3, [3]), (284, 3, [2])], 24),
            ([(277, 3, [1]), (278, 3, [8]), (284, 3, [2])], 1),
            # LERC and WebP give a strip as a whole.
            ([(259, 3, [34887]), (278, 3, [8])], 8),
            ([(259, 3, [50001])], 24),
            ([(322, 3, [16]), (323, 3, [16])], 16),
            ([(278, 3, [8]), (322, 3, [16]), (323, 3, [64])], 64),
            # A tile three times as wide as the picture counts three times.
            ([(322, 3, [120]), (323, 3, [16])], 48),
        ],
    )
    def test_rows_that_are_held_at_once(self, fields, rows):
        """Tiles and separate colours make a decoder hold more than one row."""
        assert probe(tiff(sorted([*SIZE, *fields]))).rows_at_once == rows

    def test_stored_sides_of_a_sideways_picture(self):
        """Sides are those of the file, though Pillow turns a TIFF by itself."""
        info = probe(saved("RGB", "TIFF", tiffinfo={274: 6}))
        assert (info.height, info.width, info.orientation) == (24, 40, 6)

    def test_pages(self):
        """Pages are counted along the chain of directories."""
        file = io.BytesIO()
        pages = [Image.new("L", (40, 24)) for _ in range(4)]
        pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
        assert probe(file.getvalue()).n_frames == 4

    def test_circle_of_pages_ends(self):
        """A directory that was seen before ends the count."""
        assert probe(tiff(SIZE, following=8)).n_frames == 1

    def test_chain_that_breaks_off_ends(self):
        """A next page outside the file, or cut off, is no page."""
        assert probe(tiff(SIZE, following=5_000)).n_frames == 1
        whole = tiff(SIZE)
        assert probe(tiff(SIZE, following=len(whole)) + b"\1\0").n_frames == 2
        assert probe(whole[:-4]).n_frames == 1

    def test_count_of_pages_is_bounded(self):
        """After 10,000 pages nobody counts on."""
        data = tiff(SIZE, following=38)
        at = len(data)
        for _ in range(10_001):
            at += 6
            data += struct.pack("<HI", 0, at)
        assert probe(data).n_frames == 10_000

    def test_lossy_compression(self):
        """JPEG inside a TIFF loses pixels, LZW does not."""
        assert not probe(saved("RGB", "TIFF", compression="jpeg")).is_lossless
        assert probe(saved("RGB", "TIFF", compression="tiff_lzw")).is_lossless

    def test_unexplained_fourth_sample_is_alpha(self):
        """RGB with four samples and no word about the fourth has alpha, in Pillow."""
        fields = [*SIZE, (258, 3, [8] * 4), (262, 3, [2]), (277, 3, [4])]
        assert probe(tiff(fields)).has_alpha

    def test_palette_with_alpha(self):
        """A palette stands for three samples, and alpha is the fourth."""
        fields = [*SIZE, (258, 3, [8, 8]), (262, 3, [3]), (277, 3, [2]), (338, 3, [2])]
        info = probe(tiff(fields))
        assert (info.channels, info.has_alpha, info.colour) == (4, True, "palette")

    def test_old_jpeg_is_colour(self):
        """Old JPEG compression implies YCbCr, which libvips would take for RGB."""
        info = probe(tiff([*SIZE, (259, 3, [6])]))
        assert (info.channels, info.colour, info.is_lossless) == (3, "other", False)

    def test_first_of_two_fields_counts(self):
        """A tag that is there twice is not believed the second time."""
        assert probe(tiff([*SIZE, (256, 4, [99])])).width == 40

    def test_number_of_bands_is_handed_on(self):
        """Whoever limits bands learns of 8,224 of them."""
        assert probe(tiff([*SIZE, (277, 3, [8_224])])).channels == 8_224

    def test_xmp_orientation(self):
        """XMP stands in where there is no orientation."""
        assert probe(tiff([*SIZE, (700, 1, list(XMP))])).orientation == 8
        assert probe(tiff([*SIZE, (700, 1, [1])])).orientation == 1
        assert probe(tiff([*SIZE, (274, 3, [2]), (700, 1, list(XMP))])).orientation == 2

    def test_impossible_orientation_is_upright(self):
        """A number beyond 8 turns nothing."""
        assert probe(tiff([*SIZE, (274, 3, [9])])).orientation == 1

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (tiff([(256, 4, [40])]), "0x40"),
            (tiff([(256, 4, [0]), (257, 4, [24])]), "24x0"),
            (tiff([(256, 7, [40]), (257, 4, [24])]), "24x0"),
            (tiff([*SIZE, (258, 3, [0])]), "1 to 64 bits"),
            (tiff([*SIZE, (277, 3, [0])]), "1 to 64 bits"),
            (b"II*\0\xff\xff\0\0", "ends at byte 8"),
            (b"II+\0\x07\0\0\0" + bytes(8), "offsets of 8 bytes"),
        ],
    )
    def test_damaged(self, data, message):
        """Each kind of damage has its sentence."""
        with pytest.raises(DamagedImageError, match=message):
            probe(data)

    def test_windows_media_photo_is_unsupported(self):
        """JPEG XR in the clothes of a TIFF is named."""
        with pytest.raises(UnsupportedFormatError) as caught:
            probe(tiff([*SIZE, (0xBC01, 4, [1])]))
        assert caught.value.format == "JPEG XR"


class TestExifOrientation:
    """The orientation in EXIF blocks."""

    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("prefix", [b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"])
    def test_prefixes_and_orders(self, order, prefix):
        """With one prefix, two or none, in either byte order."""
        assert exif_orientation(prefix + tiff_block(6, order)) == 6

    @pytest.mark.parametrize(
        ("data", "orientation"),
        [
            (b"", None),
            (b"II*\0", None),
            (b"XX*\0\x08\0\0\0\0\0", None),
            (b"II*\0\xff\xff\xff\xff\0\0", None),
            (b"II*\0\x08\0\0\0\0\0", None),
            (tiff_block(0), 1),
            (tiff_block(9), 1),
            (tiff_block(6)[:-4], 6),
            (tiff_block(6)[:20], None),
            # Three short numbers do not fit the field and stand elsewhere.
            (
                b"II*\0\x08\0\0\0\1\0\x12\1\3\0\3\0\0\0\x1a\0\0\0\0\0\0\0\4\0\5\0\6\0",
                4,
            ),
            # As bytes, Pillow takes it for text.
            (b"II*\0\x08\0\0\0\1\0\x12\1\1\0\1\0\0\0\6\0\0\0\0\0\0\0", None),
            # A rational number is not looked at.
            (b"II*\0\x08\0\0\0\1\0\x12\1\5\0\1\0\0\0\6\0\0\0\0\0\0\0", None),
        ],
    )
    def test_odd_blocks(self, data, orientation):
        """A block that is cut off or odd states what can be read of it."""
        assert exif_orientation(data) == orientation


@pytest.mark.parametrize(
    ("packet", "orientation"),
    [
        (b"", 1),
        (b'tiff:Orientation="6"', 6),
        (b"<tiff:Orientation>3</tiff:Orientation>", 3),
        (b'tiff:Orientation="9"', 1),
        (b'tiff:Orientation="x" tiff:Orientation="5"', 5),
        (b"tiff:Orientation", 1),
    ],
)
def test_xmp_packets(packet, orientation):
    """As an attribute or as an element; the first number counts."""
    assert xmp_orientation(packet) == orientation


# ---------------------------------------------------------------------------- BMP


def dib(size=40, height=24, width=40, bits=24, packing=0, masks=()) -> bytes:
    if size == 12:
        return struct.pack("<IHHHH", 12, width, height, 1, bits)
    header = struct.pack("<IiiHHI", size, width, height, 1, bits, packing) + bytes(20)
    return (header + struct.pack(f"<{len(masks)}I", *masks)).ljust(size, b"\0")


def bmp(header: bytes) -> bytes:
    return b"BM" + bytes(12) + header


class TestBmp:
    """BMP and DIB."""

    @pytest.mark.parametrize(
        ("mode", "colour"),
        [("1", "palette"), ("L", "palette"), ("P", "palette"), ("RGB", "rgb")],
    )
    @pytest.mark.parametrize("name", ["BMP", "DIB"])
    def test_modes(self, mode, colour, name):
        """With and without a file header; alpha is what Pillow would decode."""
        data = saved(mode, name)
        assert probe(data) == ImageInfo(
            format=name,
            media_type="image/bmp",
            height=24,
            width=40,
            channels=3,
            colour=colour,
            is_lossless=True,
            encoded_size=len(data),
        )

    @pytest.mark.parametrize("size", [12, 40, 52, 56, 64, 108, 124])
    def test_header_versions(self, size):
        """Every version of the header is read, with and without a file header."""
        for data in (bmp(dib(size)), dib(size)):
            info = probe(data)
            assert (info.height, info.width) == (24, 40)

    def test_top_down(self):
        """A negative height is a direction."""
        assert probe(bmp(dib(height=-24))).height == 24

    @pytest.mark.parametrize(
        ("size", "masks", "has_alpha"),
        [
            (56, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), True),
            (124, (0xFF0000, 0xFF00, 0xFF, 0), False),
            (108, (0, 0, 0, 0), True),
            (40, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), False),
            (52, (0xFF0000, 0xFF00, 0xFF), False),
        ],
    )
    def test_alpha_is_where_a_mask_says_so(self, size, masks, has_alpha):
        """Without an alpha mask the fourth byte is padding."""
        info = probe(bmp(dib(size, bits=32, packing=3, masks=masks)) + bytes(16))
        assert info.has_alpha is has_alpha
        assert info.channels == (4 if has_alpha else 3)

    def test_run_lengths_lose_nothing(self):
        """RLE is lossless."""
        assert probe(bmp(dib(bits=8, packing=1))).is_lossless

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (bmp(dib(height=0)), "above 0"),
            (bmp(dib(width=-40)), "above 0"),
            (bmp(dib(bits=7)), "a known depth"),
            (bmp(dib(packing=9)), "a known depth"),
            (bmp(dib(39)), "a header of a known length"),
            (bmp(dib())[:40], "ends at byte 40"),
            (b"BM", "ends at byte 2"),
        ],
    )
    def test_damaged(self, data, message):
        """Each kind of damage has its sentence."""
        with pytest.raises(DamagedImageError, match=message):
            probe(data)

    @pytest.mark.parametrize("packing", [4, 5])
    def test_wrapped_pictures_are_unsupported(self, packing):
        """A bitmap that wraps a JPEG or PNG is for printers."""
        with pytest.raises(UnsupportedFormatError):
            probe(bmp(dib(packing=packing)))

    def test_text_that_begins_like_a_bitmap_is_text(self):
        """Two letters are no signature."""
        with pytest.raises(NotAnImageError) as caught:
            probe(b"BMW builds cars and motorcycles.")
        assert caught.value.kind == "a text file"


# ---------------------------------------------------------------------------- GIF

FRAME = b"," + struct.pack("<HHHHB", 0, 0, 40, 24, 0) + b"\2\1x\0"
CONTROL = b"!\xf9\4\1\0\0\0\0"


def gif(*blocks: bytes, height=24, width=40) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b"".join(blocks)


class TestGif:
    """GIF."""

    def test_picture_of_pillow(self):
        """One still picture."""
        data = saved("P", "GIF")
        assert probe(data) == ImageInfo(
            format="GIF",
            media_type="image/gif",
            height=24,
            width=40,
            colour="palette",
            is_lossless=True,
            encoded_size=len(data),
        )

    def test_frames_and_transparency(self):
        """Frames are counted; alpha is that of the first one."""
        info = probe(gif(CONTROL, FRAME, FRAME, CONTROL, FRAME, b";"))
        assert (info.n_frames, info.has_alpha, info.channels) == (3, True, 4)
        assert not probe(gif(FRAME, CONTROL, FRAME, b";")).has_alpha

    def test_other_extensions_palettes_and_junk(self):
        """Comments, empty controls, local palettes and stray bytes are passed over."""
        local = b"," + struct.pack("<HHHHB", 0, 0, 40, 24, 0x80) + bytes(6) + b"\2\0"
        data = gif(b"!\xfe\3abc\2de\0", b"!\xf9\0", b"\7\7", local, FRAME)
        assert (probe(data).n_frames, probe(data).has_alpha) == (2, False)

    def test_first_picture_may_enlarge_the_screen(self):
        """As in Pillow, what reaches over the edge counts."""
        wide = b"," + struct.pack("<HHHHB", 30, 2, 40, 24, 0) + b"\2\0"
        assert (probe(gif(wide)).height, probe(gif(wide)).width) == (26, 70)

    def test_count_of_frames_is_bounded(self):
        """A count without end stops, and the picture is still good."""
        assert probe(gif(FRAME, FRAME, b"\7" * 60_000, FRAME)).n_frames == 2

    def test_frames_behind_much_data_are_counted(self):
        """Of long data only the lengths of its blocks are read."""
        data = FRAME[:-3] + (b"\xff" + bytes(255)) * 4_000 + b"\0"
        reader = HeaderReader.from_bytes(gif(data, data, FRAME))
        assert read_header(reader).n_frames == 3
        assert reader.bytes_left > 60_000

    def test_tiny_frames_without_end_are_not_counted_to_the_last(self):
        """A count without end stops there as well."""
        info = probe(gif(FRAME, *[b",", bytes(9), b"\2\0"] * 100_000))
        assert 1_000 < info.n_frames < 100_000

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (gif(b";"), "a picture"),
            (gif(), "a picture"),
            (gif(CONTROL, b",ab"), "ends at byte"),
            (gif(b"," + bytes(9) + b"\2\0", width=0), "above 0"),
            (b"GIF89a\1", "ends at byte 7"),
        ],
    )
    def test_damaged(self, data, message):
        """Each kind of damage has its sentence."""
        with pytest.raises(DamagedImageError, match=message):
            probe(data)


# ------------------------------------------------------------------ HEIF and AVIF


def box(kind: bytes, *contents: bytes) -> bytes:
    body = b"".join(contents)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, *contents: bytes, version=0, flags=0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *contents)


def infe(number: int, kind: bytes = b"hvc1", version=2, flags=0) -> bytes:
    form = ">HH4s" if version < 3 else ">IH4s"
    return full_box(
        b"infe", struct.pack(form, number, 0, kind), version=version, flags=flags
    )


ISPE = full_box(b"ispe", struct.pack(">II", 40, 24))
HVCC = box(b"hvcC", bytes(16) + b"\xfd\xfa" + bytes(4))


def heif(
    properties: list[bytes],
    *,
    brand: bytes = b"heic",
    items: dict[int, list[int]] | None = None,
    infos: list[bytes] | None = None,
    references: tuple[bytes, ...] = (),
    wide: bool = False,
) -> bytes:
    """Give a file whose item 1 is primary and has all properties by default."""
    items = items or {1: list(range(1, len(properties) + 1))}
    infos = infos or [infe(number) for number in items]
    table = struct.pack(">I", len(items))
    for number, indices in items.items():
        table += struct.pack(">IB" if wide else ">HB", number, len(indices))
        table += struct.pack(f">{len(indices)}{'H' if wide else 'B'}", *indices)
    number = struct.pack(">I" if wide else ">H", 1)
    count = struct.pack(">I" if wide else ">H", len(infos))
    return box(b"ftyp", brand, bytes(4), b"mif1") + full_box(
        b"meta",
        full_box(b"hdlr", bytes(20)),
        full_box(b"pitm", number, version=wide),
        full_box(b"iinf", count, *infos, version=wide),
        full_box(b"iref", *references, version=wide) if references else b"",
        box(
            b"iprp",
            box(b"ipco", *properties),
            full_box(b"ipma", table, version=wide, flags=wide),
        ),
    )


def refers(kind: bytes, number: int, *targets: int) -> bytes:
    return box(kind, struct.pack(f">HH{len(targets)}H", number, len(targets), *targets))


class TestHeif:
    """HEIF as phones write it."""

    def test_coded_depth(self):
        """Without a pixel information box the decoder configuration tells."""
        data = heif([ISPE, HVCC])
        assert probe(data) == ImageInfo(
            format="HEIF",
            media_type="image/heic",
            height=24,
            width=40,
            bit_depth=10,
            encoded_size=len(data),
        )

    def test_wide_numbers(self):
        """Items may have numbers of four bytes and indices of two."""
        infos = [infe(1, version=3), full_box(b"infe", bytes(8)), box(b"free")]
        data = heif([ISPE, HVCC], wide=True, infos=infos)
        assert (probe(data).height, probe(data).width) == (24, 40)

    @pytest.mark.parametrize(
        ("angle", "sides"), [(0, (24, 40)), (1, (40, 24)), (2, (24, 40)), (3, (40, 24))]
    )
    def test_turned_sides_are_given(self, angle, sides):
        """HEIF decoders turn by themselves, so the sides are turned already."""
        info = probe(heif([ISPE, HVCC, box(b"irot", bytes((angle,)))]))
        assert ((info.height, info.width), info.orientation) == (sides, 1)

    @pytest.mark.parametrize(
        ("numbers", "sides"),
        [
            ((20, 1, 12, 1), (12, 20)),
            ((60, 2, 12, 1), (12, 30)),
            ((20, 0, 12, 1), (24, 40)),
            ((99, 1, 12, 1), (24, 40)),
        ],
    )
    def test_clean_aperture_crops(self, numbers, sides):
        """A crop counts where it makes sense."""
        clap = box(b"clap", struct.pack(">4I", *numbers), bytes(16))
        info = probe(heif([ISPE, HVCC, clap]))
        assert (info.height, info.width) == sides

    def test_pixel_information_and_profile(self):
        """Channels and bits as the file states them, and an ICC profile."""
        pixi = full_box(b"pixi", b"\1\x0c")
        info = probe(heif([ISPE, pixi, HVCC, box(b"colr", b"prof", bytes(9))]))
        assert (info.channels, info.bit_depth, info.colour) == (1, 12, "grey")
        assert info.has_icc

    def test_alpha_is_an_auxiliary_picture(self):
        """An auxiliary picture is alpha by its name only, and is no further picture."""
        for name, has_alpha in [
            (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", True),
            (b"urn:mpeg:hevc:2015:auxid:2\0", False),
        ]:
            data = heif(
                [ISPE, HVCC, full_box(b"auxC", name)],
                items={1: [1, 2], 2: [1, 2, 3]},
                references=(refers(b"auxl", 2, 1), refers(b"cdsc", 3, 1)),
            )
            info = probe(data)
            assert (info.has_alpha, info.n_frames) == (has_alpha, 1)

    def test_grid_of_hidden_tiles(self):
        """A grid is one picture, with the depth and the alpha of its tiles."""
        alpha = full_box(b"auxC", b"urn:mpeg:hevc:2015:auxid:1\0")
        data = heif(
            [ISPE, HVCC, alpha],
            items={1: [1], 2: [2], 3: [2], 4: [2, 3]},
            infos=[
                infe(1, b"grid"),
                infe(2, flags=1),
                infe(3, flags=1),
                infe(4, flags=1),
            ],
            references=(refers(b"dimg", 1, 2, 3), refers(b"auxl", 4, 2)),
        )
        info = probe(data)
        assert (info.bit_depth, info.n_frames, info.has_alpha) == (10, 1, True)

    def test_depth_without_any_word_about_it(self):
        """Eight bits are taken for granted where nothing says otherwise."""
        references = (refers(b"cdsc", 1, 2), refers(b"dimg", 1, 2))
        data = heif([ISPE], items={1: [1], 2: [1]}, references=references)
        assert probe(data).bit_depth == 8

    def test_unknown_properties_are_passed_over(self):
        """Boxes of another kind, among the properties and beside them."""
        data = heif([ISPE, box(b"udes"), HVCC, box(b"colr", b"nclx", bytes(7))])
        whole = data.replace(b"ipco", b"xxxx", 1)
        assert not probe(data).has_icc
        with pytest.raises(DamagedImageError, match="above 0"):
            probe(whole)

    def test_collection_counts_pictures_only(self):
        """Thumbnails and metadata are no pictures."""
        data = heif(
            [ISPE, HVCC],
            items={1: [1, 2], 2: [1, 2], 3: [1, 2], 4: [1]},
            infos=[infe(1), infe(2), infe(3), infe(4, b"Exif")],
            references=(refers(b"thmb", 3, 1),),
        )
        assert probe(data).n_frames == 2

    def test_brands_decide(self):
        """The major brand counts first, a structural one hands on to the others."""
        names = b"mif1", bytes(4), b"avif"
        avif = box(b"ftyp", *names) + heif([ISPE])[20:]
        assert probe(avif).format == "AVIF"
        heic = box(b"ftyp", b"heic", bytes(4), b"avif") + heif([ISPE])[20:]
        assert probe(heic).format == "HEIF"
        only = box(b"ftyp", b"xxxx", bytes(4), b"heix") + heif([ISPE])[20:]
        assert probe(only).format == "HEIF"

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (box(b"ftyp", b"heic", bytes(4)), "a meta box"),
            (box(b"ftyp", b"heic", bytes(4)) + full_box(b"meta"), "pitm"),
            (box(b"ftyp", b"heic", bytes(4)) + box(b"free") * 5_000, "a meta box"),
            (box(b"ftyp", b"heic", bytes(4)) + b"\0\0\0\4free", "a meta box"),
            (heif([HVCC]), "above 0"),
            (heif([full_box(b"ispe", bytes(8))]), "above 0"),
            (heif([ISPE, full_box(b"pixi", b"\1\x40")]), "1 to 16 bits"),
            (heif([ISPE])[:-3], "ends at byte|contradictory"),
        ],
    )
    def test_damaged(self, data, message):
        """Each kind of damage has its sentence."""
        with pytest.raises(DamagedImageError, match=message):
            probe(data)

    def test_tables_are_bounded(self):
        """A table of more than 48 KiB is not read."""
        with pytest.raises(DamagedImageError, match="49,152 bytes"):
            probe(
                heif([ISPE], items={n: [1] for n in range(1, 30_000)}, infos=[infe(1)])
            )


class TestAvif:
    """AVIF pictures and sequences."""

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_turns_and_mirrors_are_an_orientation(self, orientation):
        """AVIF decoders leave turning to us, so sides are stored ones."""
        info = probe(saved("RGB", "AVIF", exif=exif_with(orientation)))
        assert (info.format, info.media_type) == ("AVIF", "image/avif")
        assert (info.height, info.width, info.orientation) == (24, 40, orientation)

    @pytest.mark.parametrize(
        ("angle", "mirror", "orientation"),
        [(2, 0, 2), (2, 1, 4), (3, 0, 7), (3, 1, 5)],
    )
    def test_every_pair_of_turn_and_mirror(self, angle, mirror, orientation):
        """The pairs that encoders do not write are understood as well."""
        properties = [
            ISPE,
            box(b"irot", bytes((angle,))),
            box(b"imir", bytes((mirror,))),
        ]
        assert probe(heif(properties, brand=b"avif")).orientation == orientation

    @pytest.mark.parametrize(
        ("mode", "channels", "has_alpha"),
        [("L", 1, False), ("RGB", 3, False), ("RGBA", 4, True)],
    )
    def test_modes(self, mode, channels, has_alpha):
        """Grey, colour and alpha."""
        info = probe(saved(mode, "AVIF"))
        assert (info.channels, info.has_alpha) == (channels, has_alpha)

    @pytest.mark.parametrize(
        ("flags", "channels", "bits"),
        [(0x00, 3, 8), (0x40, 3, 10), (0x60, 3, 12), (0x10, 1, 8)],
    )
    def test_coded_depth(self, flags, channels, bits):
        """The decoder configuration tells bits and whether there is colour."""
        av1c = box(b"av1C", bytes((0x81, 0, flags, 0)))
        info = probe(heif([ISPE, av1c], brand=b"avif"))
        assert (info.channels, info.bit_depth) == (channels, bits)

    def test_frames_of_a_sequence(self):
        """A sequence is read from its track."""
        frames = [Image.new("RGBA", (40, 24), colour) for colour in ("red", "#00f8")]
        file = io.BytesIO()
        frames[0].save(file, "AVIF", save_all=True, append_images=frames[1:])
        info = probe(file.getvalue())
        assert (info.n_frames, info.height, info.width) == (2, 24, 40)
        assert info.has_alpha

    def test_first_picture_track_counts(self):
        """A sequence without further words has 8 bits and as many as its table says."""
        tracks = b"".join(
            box(
                b"trak",
                full_box(b"tkhd", bytes(72), struct.pack(">HHHH", side, 0, 24, 0)),
                box(
                    b"mdia",
                    full_box(b"hdlr", bytes(4), handler, bytes(12)),
                    box(
                        b"minf",
                        box(b"stbl", full_box(b"stsz", struct.pack(">II", 0, count))),
                    ),
                ),
            )
            for side, handler, count in [
                (40, b"pict", 7),
                (9, b"pict", 9),
                (9, b"soun", 1),
            ]
        )
        ftyp = box(b"ftyp", b"avis", bytes(4))
        # The size 0 stands for the rest of the file.
        moov = struct.pack(">I4s", 0, b"moov") + tracks
        info = probe(ftyp + struct.pack(">I4sQ", 1, b"free", 20) + bytes(4) + moov)
        assert (info.n_frames, info.width, info.bit_depth) == (7, 40, 8)
        assert not info.has_alpha

    def test_sequence_without_tracks_is_damaged(self):
        """A sequence needs a picture track with a size."""
        start = box(b"ftyp", b"avis", bytes(4))
        with pytest.raises(DamagedImageError, match="a picture track"):
            probe(start + box(b"moov"))
        track = box(
            b"trak",
            full_box(b"tkhd", bytes(80)),
            box(b"mdia", full_box(b"hdlr", bytes(4), b"pict")),
        )
        with pytest.raises(DamagedImageError, match="above 0"):
            probe(start + box(b"moov", track))


# ---------------------------------------------------------------------- JPEG 2000


def siz(height=24, width=40, channels=3, bits=8, left=0) -> bytes:
    body = struct.pack(
        ">HIIIIIIIIH", 0, width + left, height, left, 0, width, height, 0, 0, channels
    )
    parts = bytes((bits - 1, 1, 1)) * channels
    return b"\xff\x4f\xff\x51" + struct.pack(">H", 38 + 3 * channels) + body + parts


def jp2(*header: bytes, stream: bytes = b"") -> bytes:
    start = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 ", bytes(4))
    return start + box(b"jp2h", *header) + (box(b"jp2c", stream) if stream else b"")


def jp2_ihdr(channels=3, bits=8, height=24, width=40) -> bytes:
    return box(
        b"ihdr", struct.pack(">IIHBBBB", height, width, channels, bits - 1, 7, 0, 0)
    )


def colr(number: int) -> bytes:
    return box(b"colr", b"\1\0\0", struct.pack(">I", number))


class TestJpeg2000:
    """JPEG 2000 in boxes and bare."""

    @pytest.mark.parametrize("no_jp2", [True, False])
    @pytest.mark.parametrize(
        ("mode", "channels", "has_alpha", "colour"),
        [
            ("L", 1, False, "grey"),
            ("LA", 2, True, "grey"),
            ("RGB", 3, False, "rgb"),
            ("RGBA", 4, True, "rgb"),
        ],
    )
    def test_modes(self, mode, channels, has_alpha, colour, no_jp2):
        """In boxes and as a bare codestream."""
        data = saved(mode, "JPEG2000", no_jp2=no_jp2)
        assert probe(data) == ImageInfo(
            format="JPEG2000",
            media_type="image/jp2",
            height=24,
            width=40,
            channels=channels,
            has_alpha=has_alpha,
            colour=colour,
            is_lossless=True,
            encoded_size=len(data),
        )

    def test_irreversible_transform_is_lossy(self):
        """The coding style says whether anything was rounded away."""
        assert not probe(saved("RGB", "JPEG2000", irreversible=True)).is_lossless
        assert not probe(siz() + b"\xff\x90\0\x0a").is_lossless
        assert not probe(siz()).is_lossless

    def test_depth_and_offset_of_a_codestream(self):
        """The size is that of the picture, not of its reference grid."""
        info = probe(siz(bits=12, left=7))
        assert (info.height, info.width, info.bit_depth) == (24, 40, 12)

    @pytest.mark.parametrize(
        ("boxes", "channels", "has_alpha", "colour"),
        [
            ((jp2_ihdr(4), colr(12)), 4, False, "cmyk"),
            ((jp2_ihdr(1), colr(17)), 1, False, "grey"),
            ((jp2_ihdr(3), colr(99)), 3, False, "other"),
            ((jp2_ihdr(1), colr(16), box(b"pclr", b"\0\4\3")), 3, False, "palette"),
            ((jp2_ihdr(1), colr(16), box(b"pclr", b"\0\4\4")), 4, True, "palette"),
            ((jp2_ihdr(5),), 5, False, "other"),
        ],
    )
    def test_colour_boxes(self, boxes, channels, has_alpha, colour):
        """Colour space and palette refine what the number of channels says."""
        info = probe(jp2(*boxes))
        assert (info.channels, info.has_alpha, info.colour) == (
            channels,
            has_alpha,
            colour,
        )

    def test_coding_style_is_looked_for_among_segments(self):
        """Other segments are passed over, though not without end."""
        style = b"\xff\x52\0\x0c" + bytes(9) + b"\1"
        comment = b"\xff\x64\0\4ab"
        assert probe(siz() + comment + style).is_lossless
        assert not probe(siz() + comment * 1_001 + style).is_lossless

    def test_profile(self):
        """A profile is noticed, beside boxes of another kind."""
        assert not probe(jp2(jp2_ihdr(), box(b"res "), box(b"colr", b"\4"))).has_icc
        assert probe(jp2(jp2_ihdr(), box(b"colr", b"\2\0\0profile"))).has_icc

    def test_codestream_refines_the_depth(self):
        """Depths that differ stand in the codestream only."""
        assert probe(jp2(jp2_ihdr(bits=128), stream=siz(bits=16))).bit_depth == 16

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (jp2()[:32], "a jp2h box"),
            (jp2(), "an ihdr box"),
            (jp2(jp2_ihdr(height=0)), "above 0"),
            (jp2(jp2_ihdr(bits=64)), "up to 38 bits"),
            (siz(channels=0), "0 components"),
            (siz(width=0), "above 0"),
            (siz()[:30], "ends at byte 30"),
        ],
    )
    def test_damaged(self, data, message):
        """Each kind of damage has its sentence."""
        with pytest.raises(DamagedImageError, match=message):
            probe(data)


# -------------------------------------------------------------------- SGI and icons


class TestSgi:
    """SGI."""

    @pytest.mark.parametrize(
        ("mode", "channels", "has_alpha", "colour"),
        [("L", 1, False, "grey"), ("RGB", 3, False, "rgb"), ("RGBA", 4, True, "rgb")],
    )
    def test_modes(self, mode, channels, has_alpha, colour):
        """Channels as Pillow writes them."""
        data = saved(mode, "SGI")
        assert probe(data) == ImageInfo(
            format="SGI",
            media_type="image/sgi",
            height=24,
            width=40,
            channels=channels,
            has_alpha=has_alpha,
            colour=colour,
            is_lossless=True,
            encoded_size=len(data),
        )

    def test_one_dimension_is_one_row(self):
        """The height of a single row is not stored."""
        header = struct.pack(">HBBHHHH", 474, 0, 2, 1, 40, 0, 0).ljust(512, b"\0")
        info = probe(header)
        assert (info.height, info.width, info.bit_depth) == (1, 40, 16)

    @pytest.mark.parametrize(
        "fields", [(2, 1, 3, 40, 24, 3), (0, 3, 3, 40, 24, 3), (0, 1, 4, 40, 24, 3)]
    )
    def test_damaged_form(self, fields):
        """A packing, depth or number of dimensions that does not exist."""
        with pytest.raises(DamagedImageError, match="up to 3 dimensions"):
            probe(struct.pack(">HBBHHHH", 474, *fields).ljust(512, b"\0"))

    @pytest.mark.parametrize(
        "sides", [(0, 24, 3), (40, 0, 3), (40, 24, 0), (40, 24, 9)]
    )
    def test_damaged_size(self, sides):
        """No rows, no columns, no channels or too many."""
        with pytest.raises(DamagedImageError, match="in 1 to 4 channels"):
            probe(struct.pack(">HBBHHHH", 474, 0, 1, 3, *sides).ljust(512, b"\0"))


def ico(*pictures: tuple[int, int, int, int, bytes]) -> bytes:
    """Give an icon; a picture is (width, height, colours, bits, bytes)."""
    head = struct.pack("<HHH", 0, 1, len(pictures))
    at = 6 + 16 * len(pictures)
    body = b""
    for width, height, colours, bits, data in pictures:
        head += struct.pack(
            "<BBBBHHII", width, height, colours, 0, 1, bits, len(data), at + len(body)
        )
        body += data
    return head + body


class TestIcons:
    """ICO and ICNS."""

    @pytest.mark.parametrize("bitmap_format", ["png", "bmp"])
    def test_largest_picture_of_an_icon(self, bitmap_format):
        """The size is that of the largest, as a PNG or as a bitmap."""
        data = saved(
            "RGBA",
            "ICO",
            (64, 64),
            sizes=[(16, 16), (48, 48), (32, 32)],
            bitmap_format=bitmap_format,
        )
        assert probe(data) == ImageInfo(
            format="ICO",
            media_type="image/x-icon",
            height=48,
            width=48,
            channels=4,
            has_alpha=True,
            n_frames=3,
            is_lossless=True,
            encoded_size=len(data),
        )

    def test_fewest_colours_come_first_among_equals(self):
        """Among pictures of one size Pillow takes the one of fewest colours."""
        many = dib(height=64, width=32, bits=32)
        few = dib(height=64, width=32, bits=4)
        data = ico((32, 32, 0, 32, many), (32, 32, 16, 0, few), (16, 16, 0, 0, many))
        assert probe(data).colour == "palette"

    def test_true_size_counts_not_the_directory(self):
        """The directory says 256, the picture says what is decoded."""
        data = ico((0, 0, 0, 8, saved("RGB", "PNG", (300, 280))))
        info = probe(data)
        assert (info.height, info.width, info.has_alpha) == (280, 300, False)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"\0\0\1\0\0\0", "at least one picture"),
            (b"\0\0\1\0\2\0" + bytes(16), "ends at byte"),
            (ico((32, 32, 0, 32, dib(height=1))), "above 0"),
            (ico((32, 32, 0, 32, b"nothing of the kind")), "known length"),
        ],
    )
    def test_damaged_icon(self, data, message):
        """Each kind of damage has its sentence."""
        with pytest.raises(DamagedImageError, match=message):
            probe(data)

    def test_largest_picture_of_a_mac_icon(self):
        """Sizes are known from the types of the blocks."""
        data = saved("RGBA", "ICNS", (256, 256))
        info = probe(data)
        assert (info.format, info.media_type) == ("ICNS", "image/icns")
        assert (info.height, info.width, info.has_alpha) == (1024, 1024, True)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"icns\0\0\0\x08", "a picture in full colour"),
            (b"icns\0\0\0\x20ic07\0\0\0\1", "a block of 8 bytes"),
            (b"icns\0\0\xff\xff" + b"TOC \0\0\0\x08" * 2_000, "full colour"),
            (b"icns\0\0\0\x20", "ends at byte 8"),
        ],
    )
    def test_damaged_mac_icon(self, data, message):
        """Each kind of damage has its sentence."""
        with pytest.raises(DamagedImageError, match=message):
            probe(data)


# ------------------------------------------------------------------------- foreign


def zipped(*names: str, text: str = "text") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, text)
    return file.getvalue()


def streamed_zip(*names: str) -> bytes:
    """Give a ZIP whose entries do not say how long they are."""

    class OneWay(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    file = OneWay()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    return file.data


def ole(name: str) -> bytes:
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(22) + struct.pack("<H", 9)
    head = (head + bytes(16) + struct.pack("<I", 1)).ljust(1024, b"\0")
    entries = "Root Entry".encode("utf-16-le").ljust(128, b"\0")
    return head + entries + name.encode("utf-16-le").ljust(128, b"\0")


SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'
XLSX = zipped("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml")

KINDS = [
    (b"", "an empty file"),
    (b"%PDF-1.7\n", "a PDF document"),
    (XLSX, "an Excel workbook (XLSX)"),
    (streamed_zip("[Content_Types].xml", "xl/book.xml"), "an Excel workbook (XLSX)"),
    (zipped(*(f"f{i}" for i in range(40)), "xl/a"), "an Excel workbook (XLSX)"),
    (zipped("_rels/.rels", "word/document.xml"), "a Word document (DOCX)"),
    (zipped("ppt/presentation.xml"), "a PowerPoint presentation (PPTX)"),
    (
        zipped("mimetype", text="application/vnd.oasis.opendocument.text"),
        "an OpenDocument file",
    ),
    (zipped("mimetype", text="application/epub+zip"), "an EPUB book"),
    (zipped("a.txt"), "a ZIP archive"),
    (streamed_zip("a.txt")[:50], "a ZIP archive"),
    (zipped(), "a ZIP archive"),
    (ole("Workbook"), "an Excel workbook (XLS)"),
    (ole("Book"), "an Excel workbook (XLS)"),
    (ole("WordDocument"), "a Word document (DOC)"),
    (ole("PowerPoint Document"), "a PowerPoint presentation (PPT)"),
    (ole("Other"), "a Microsoft Office document"),
    (ole("Other")[:20], "a Microsoft Office document"),
    (SVG, "an SVG drawing (vector graphics)"),
    (b"\xef\xbb\xbf  \n" + SVG, "an SVG drawing (vector graphics)"),
    (
        b'<?xml version="1.0"?><!-- a > b --><!DOCTYPE x [<!ENTITY a "b">]>\n' + SVG,
        "an SVG drawing (vector graphics)",
    ),
    (b"<!DOCTYPE svg PUBLIC>" + SVG, "an SVG drawing (vector graphics)"),
    (b"<!DOCTYPE x>" + SVG, "an SVG drawing (vector graphics)"),
    (b"<svg:svg>", "an SVG drawing (vector graphics)"),
    (SVG.decode().encode("utf-16"), "an SVG drawing (vector graphics)"),
    (
        b"\xfe\xff" + SVG.decode().encode("utf-16-be"),
        "an SVG drawing (vector graphics)",
    ),
    (gzip.compress(SVG), "an SVG drawing (vector graphics)"),
    (gzip.compress(b"text"), "a gzip archive"),
    (b"\x1f\x8b damaged", "a gzip archive"),
    (b"<!doctype HTML><p>", "an HTML page"),
    (b" <html lang=en>", "an HTML page"),
    (b'<?xml version="1.0"?><rss/>', "an XML file"),
    (b"<rss/>", "an XML file"),
    (b"<?xml never closed", "an XML file"),
    (b"<?a?>" * 70, "an XML file"),
    (b"<!DOCTYPE x [ never closed > ", "a text file"),
    (b"<- an arrow", "a text file"),
    (b"<", "a text file"),
    (b"just text", "a text file"),
    (b'{"error": "not found"}', "a text file"),
    ("图片不存在".encode(), "a text file"),
    ("图片不存在".encode("gbk") * 40, "a text file"),
    (b"\x00\x00\x00\x18ftypisom" + bytes(12), "an MP4 video"),
    (b"\x00\x00\x00\x18ftypqt  " + bytes(12), "a QuickTime video (MOV)"),
    (b"\x00\x00\x00\x08wide\x00\x00\x00\x08mdat", "a QuickTime video (MOV)"),
    (b"\x00\x00\x00\x18ftypM4A " + bytes(12), "an M4A recording"),
    (b"\x1aE\xdf\xa3\x42\x82\x88matroska", "a Matroska video (MKV)"),
    (b"\x1aE\xdf\xa3\x42\x82\x84webm", "a WebM video"),
    (b"RIFF\0\0\0\0AVI LIST", "an AVI video"),
    (b"RIFF\0\0\0\0WAVEfmt ", "a WAV recording"),
    (b"RIFF\0\0\0\0ACON", "an animated cursor (ANI)"),
    (b"RIFF\0\0\0\0xxxx", "a RIFF file"),
    (b"FLV\x01\5", "an FLV video"),
    (b"\0\0\1\xba", "an MPEG video"),
    (b"\0\0\1\xb3", "an MPEG video"),
    ((b"\x47" + bytes(187)) * 3, "an MPEG video"),
    (b"ID3\4", "an MP3 recording"),
    (b"\xff\xfb\x90", "an MP3 recording"),
    (b"OggS\0", "an Ogg recording or video"),
    (bytes(257) + b"ustar\0", "a tar archive"),
    (b"\1\0\0\0" + bytes(36) + b" EMF", "an EMF drawing (vector graphics)"),
    (b"\x7fELF\2", "a program"),
    (b"\0\1\0\0\0\x0f", "a font"),
    (b"\x93NUMPY\1", "a NumPy array file"),
    (bytes(100), "a file of an unknown type"),
    (b"\x80\x81\x82", "a file of an unknown type"),
]


@pytest.mark.parametrize(("data", "kind"), KINDS, ids=range(len(KINDS)))
def test_what_is_no_picture_is_named(data, kind):
    """Each kind of bytes is called by its name, and something is advised."""
    with pytest.raises(NotAnImageError) as caught:
        probe(data)
    assert caught.value.kind == kind
    message = str(caught.value)
    assert message.startswith(f"Expected a picture but received {kind}; ")


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (b"%PDF-1.7\n", "render the pages to images or use a document model"),
        (XLSX, "such as Qwen-Long"),
        (b"\0\0\0\x18ftypisom" + bytes(12), "pass a list of frames"),
        (SVG, "render it to PNG first"),
    ],
)
def test_advice_fits_the_kind(data, advice):
    """A document is rendered, a video cut into frames, a drawing rendered to PNG."""
    with pytest.raises(NotAnImageError, match=advice):
        probe(data)


def tga(kind=2, bits=24, palette=(0, 0, 0), flags=0, width=4, height=4) -> bytes:
    has_palette, colours, colour_bits = palette
    return struct.pack(
        "<BBBHHBHHHHBB",
        *(0, has_palette, kind, 0, colours, colour_bits, 0, 0, width, height),
        *(bits, flags),
    ) + bytes(48)


PCX = b"\x0a\5\1\x08".ljust(128, b"\0")
CURSOR = b"\0\0\2\0\1\0\x20\x20\0\0\0\0\0\0" + struct.pack("<II", 40, 22) + bytes(40)

OTHERS = [
    (b"8BPS\0\1", "PSD"),
    (b"DDS |\0\0\0", "DDS"),
    (b"v/1\x01\2\0\0\0", "EXR"),
    (b"#?RADIANCE\n", "HDR"),
    (b"\xff\x0a\xfa", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"II\xbc\1", "JPEG XR"),
    (b"qoif", "QOI"),
    (b"P6 1 1 255\n", "PNM"),
    (b"P7\nWIDTH 1", "PNM"),
    (b"Pf\n1 1", "PNM"),
    (PCX, "PCX"),
    (bytes(4) + b"\x12\xaf" + bytes(122), "FLI"),
    (CURSOR, "CUR"),
    (tga(), "TGA"),
    (tga(1, 8, (1, 256, 24)), "TGA"),
    (tga(11, 8), "TGA"),
    (bytes(40) + b"TRUEVISION-XFILE.\0", "TGA"),
    (b"\0\0\0\x18ftypcrx " + bytes(12), "CR3"),
    (bytes(128) + b"DICM", "DICOM"),
    (b"gimp xcf v011", "XCF"),
    (b"SIMPLE  =   T", "FITS"),
]


@pytest.mark.parametrize(("data", "name"), OTHERS, ids=range(len(OTHERS)))
def test_other_picture_is_named(data, name):
    """A picture of another type is unsupported, and converting it is advised."""
    with pytest.raises(UnsupportedFormatError, match="convert it to PNG or JPEG") as e:
        probe(data)
    assert (e.value.format, e.value.extra) == (name, None)


@pytest.mark.parametrize(
    "data",
    [
        tga(width=0),
        tga(kind=7),
        tga(bits=7),
        tga(flags=0xC0),
        tga(1, 8, (1, 256, 7)),
        tga(2, 24, (0, 1, 0)),
        tga(2, 24, (2, 0, 0)),
        b"\0\0\2\0",
        CURSOR[:4] + bytes(60),
    ],
)
def test_weak_likeness_is_not_enough(data):
    """Bytes that only nearly look like a picture without a signature are unknown."""
    with pytest.raises(NotAnImageError, match="unknown type"):
        probe(data)


def test_suffixes_are_never_looked_at():
    """A GIF is a GIF, whatever it is called; there is no name to be misled by."""
    assert probe(saved("P", "GIF")).format == "GIF"


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF"])
def test_every_beginning_of_a_file_gives_an_answer_or_our_error(name):
    """A file cut at any byte is read, or refused by us."""
    data = saved("RGB", name, exif=exif_with(6)) if name != "GIF" else saved("P", name)
    for end in range(len(data)):
        try:
            info = probe(data[:end])
        except ImageError:
            continue
        assert (info.height, info.width) == (24, 40)


def test_sides_beyond_any_decoder_are_refused():
    """Sides near 2^32 once left as a bare ValueError about 64 bits."""
    fields = [(256, 4, [2**32 - 1]), (257, 4, [2**32 - 1])]
    with pytest.raises(DamagedImageError, match="below 2\\^31"):
        probe(tiff(fields))


def test_tile_larger_than_its_picture_is_refused():
    """One tile of 400 megapixels in a picture of 100 x 100 once took 1.5 GB."""
    fields = [
        (256, 4, [100]),
        (257, 4, [100]),
        (258, 3, [8]),
        (262, 3, [1]),
        (322, 4, [20_000]),
        (323, 4, [20_000]),
    ]
    with pytest.raises(DamagedImageError, match="tiles no larger"):
        probe(tiff(fields))


# ----------------------------------------------------------------- colour profiles

PROFILE = bytes(range(256)) * 13


def icc_segment(number: int, total: int, piece: bytes) -> bytes:
    return jpeg_segment(0xE2, b"ICC_PROFILE\0" + bytes((number, total)) + piece)


def iccp(profile: bytes = PROFILE, name: bytes = b"icc", method: bytes = b"\0"):
    return png_chunk(b"iCCP", name + b"\0" + method + zlib.compress(profile))


def jpeg_from_pillow(opened, data: bytes) -> bytes:
    """Say what Pillow makes of a JPEG's profile; empty where it finds it broken."""
    return opened(data).info.get("icc_profile") or b""


class TestColourProfiles:
    """The bytes of embedded profiles, where the budget reaches them."""

    @pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
    @pytest.mark.parametrize("length", [1, 4, 7, 3_000, 100_000])
    def test_profile_is_what_pillow_reads(self, name, length, opened):
        """Saved by Pillow and read by Pillow, and by us; no repr shows it."""
        profile = (PROFILE * 31)[:length]
        data = saved("RGB", name, icc_profile=profile)
        info = probe(data)
        assert info.icc_profile == opened(data).info["icc_profile"] == profile
        assert info.has_icc
        assert len(repr(info)) < 40

    def test_there_is_none(self):
        """Without a profile the field is empty."""
        for name in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF"):
            assert probe(saved("RGB", name)).icc_profile == b""

    @pytest.mark.parametrize(
        ("pieces", "expected"),
        [
            ([(1, 2, b"ab"), (2, 2, b"cd")], b"abcd"),
            ([(2, 2, b"cd"), (1, 2, b"ab")], b"abcd"),
            ([(3, 3, b"c"), (1, 3, b""), (2, 3, b"b")], b"bc"),
            ([(7, 1, b"ab")], b"ab"),
            ([(1, 2, b"ab"), (1, 2, b"AB")], b"ABab"),
            ([(1, 2, b"ab")], b""),
            ([(1, 1, b"ab"), (2, 1, b"cd")], b""),
            ([(1, 3, b"ab"), (2, 3, b"cd")], b""),
            ([(0, 0, b"ab")], b""),
        ],
    )
    def test_pieces_of_a_jpeg_are_joined_as_pillow_does(self, pieces, expected, opened):
        """In the order of their numbers; none if one is missing or too many."""
        segments = b"".join(icc_segment(*piece) for piece in pieces)
        plain = saved("RGB", "JPEG")
        data = plain[:2] + segments + plain[2:]
        assert probe(data).icc_profile == jpeg_from_pillow(opened, data) == expected
        assert probe(data).has_icc

    def test_pieces_behind_the_frame_are_not_the_profiles(self, opened):
        """Pillow closes the list at the frame, and a later frame opens another."""
        plain = saved("RGB", "JPEG")
        scan = plain.index(b"\xff\xda")
        late = plain[:scan] + icc_segment(1, 1, b"ab") + plain[scan:]
        assert probe(late).has_icc
        assert probe(late).icc_profile == jpeg_from_pillow(opened, late) == b""
        frames = icc_segment(1, 1, b"ab"), jpeg_frame(), jpeg_frame()
        assert probe(jpeg(*frames)).icc_profile == b"ab"
        second = *frames[:2], icc_segment(1, 1, b"cd"), frames[2]
        assert probe(jpeg(*second)).icc_profile == b"cd"

    def test_segment_shorter_than_its_beginning_is_none(self):
        """A segment that ends inside the words it should begin with."""
        for body in (b"ICC_PROFILE\0", b"ICC_PROFILE\0\1", b"ICC_PROFILE"):
            assert (
                probe(jpeg(jpeg_segment(0xE2, body), jpeg_frame())).icc_profile == b""
            )

    def test_profile_out_of_reach_costs_nothing_else(self):
        """A profile above the budget is left out, and all the rest is still said."""
        large = bytes(range(256)) * 1_100
        for name in ("JPEG", "TIFF", "WEBP", "AVIF"):
            data = saved("RGB", name, icc_profile=large, exif=exif_with(6))
            info = probe(data)
            assert (info.has_icc, info.icc_profile) == (True, b"")
            assert (info.height, info.width) == (24, 40)
            assert (
                info.orientation
                == probe(saved("RGB", name, exif=exif_with(6))).orientation
            )
            reader = HeaderReader.from_bytes(data, budget=1 << 21)
            assert read_header(reader).icc_profile == large

    def test_profile_in_vain_is_not_begun(self, tmp_path):
        """What is out of reach is not read up to where the budget ends."""
        path = tmp_path / "file"
        path.write_bytes(saved("RGB", "JPEG", icc_profile=bytes(300_000)))
        fd = os.open(path, os.O_RDONLY)
        try:
            reader = HeaderReader.from_fd(fd, path.stat().st_size)
            assert read_header(reader).icc_profile == b""
            assert reader.bytes_read < 16_384
        finally:
            os.close(fd)

    def test_one_mebibyte_is_the_most(self):
        """However large the budget, a profile above 1 MiB is left out."""
        for length, expected in [(1 << 20, 1 << 20), ((1 << 20) + 1, 0)]:
            for name in ("TIFF", "WEBP", "PNG"):
                data = saved("RGB", name, icc_profile=bytes(length))
                info = read_header(HeaderReader.from_bytes(data, budget=1 << 22))
                assert len(info.icc_profile) == expected

    @pytest.mark.parametrize(
        ("chunk", "expected"),
        [
            (iccp(), PROFILE),
            (iccp(name=b"x" * 79), PROFILE),
            (iccp() + iccp(b"second"), b"second"),
            (iccp(method=b"\1"), b""),
            (iccp(name=b""), b""),
            (iccp()[:-1] + b"\0", b""),
            (png_chunk(b"iCCP", b"no zero"), b""),
            (png_chunk(b"iCCP"), b""),
            (png_chunk(b"iCCP", b"x\0\0"), b""),
            (png_chunk(b"iCCP", b"x\0\0no zlib"), b""),
            (png_chunk(b"iCCP", b"x\0\0" + zlib.compress(PROFILE)[:-6]), b""),
            (png_chunk(b"iCCP", b"x\0\0" + zlib.compress(PROFILE * 40)[:-6]), b""),
            (png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(99_999))[:-4]), b""),
            (iccp(bytes(70_000)), bytes(70_000)),
            (iccp(bytes(1 << 20)), bytes(1 << 20)),
            (iccp(bytes((1 << 20) + 1)), b""),
            (iccp(bytes(64 << 20)), b""),
        ],
    )
    def test_png_profile_is_inflated(self, chunk, expected):
        """One that is broken, cut off, too large or wrongly labelled is empty."""
        info = probe(png(chunk, png_chunk(b"IDAT"), END))
        assert info.has_icc
        assert info.icc_profile == expected

    def test_png_bomb_takes_no_more_memory_than_a_profile(self):
        """64 MB of zeros in 65 KB are inflated to 1 MiB in pieces, and left."""
        data = png(iccp(bytes(64 << 20)), png_chunk(b"IDAT"), END)
        whole = png(iccp(bytes(1 << 20)), png_chunk(b"IDAT"), END)
        for contents, most in [(data, 1024 * 1024), (whole, 1400 * 1024)]:
            tracemalloc.start()
            try:
                probe(contents)
                assert tracemalloc.get_traced_memory()[1] < most
            finally:
                tracemalloc.stop()

    @pytest.mark.parametrize(
        ("chunks", "expected"),
        [
            ((vp8x(0x20), riff_chunk(b"ICCP", b"abc"), VP8), b"abc"),
            ((vp8x(0x20), VP8, riff_chunk(b"ICCP", b"abc")), b"abc"),
            (
                (
                    vp8x(0x20),
                    riff_chunk(b"ICCP", b"abc"),
                    riff_chunk(b"ICCP", b"xyz"),
                    VP8,
                ),
                b"abc",
            ),
            ((vp8x(0), riff_chunk(b"ICCP", b"abc"), VP8), b""),
            ((vp8x(0x20), VP8), b""),
        ],
        ids=["before", "behind", "two", "no-flag", "none"],
    )
    def test_webp_profile_needs_its_flag(self, chunks, expected):
        """The first of them, and only where the flags announce one, as in libwebp."""
        assert probe(webp(*chunks)).icc_profile == expected

    def test_webp_profile_cut_off_is_empty(self):
        """A chunk that reaches over the end of the file."""
        data = webp(vp8x(0x20), VP8, b"ICCP\xff\0\0\0abc")
        assert (probe(data).has_icc, probe(data).icc_profile) == (True, b"")

    @pytest.mark.parametrize("big", [False, True])
    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize("length", [1, 3, 8, 9, 500])
    @pytest.mark.parametrize("kind", [1, 7])
    def test_tiff_profile_inside_and_outside_its_entry(self, kind, length, order, big):
        """A profile of a few bytes stands in the entry itself."""
        values = list(range(1, 200)) * 3
        data = tiff([*SIZE, (34675, kind, values[:length])], order, big)
        assert probe(data).icc_profile == bytes(values[:length])

    def test_tiff_profile_of_another_type_or_beyond_the_end_is_empty(self):
        """Numbers and text are no profile, and what is not there is none."""
        for kind in (3, 4):
            data = tiff([*SIZE, (34675, kind, [1, 2, 3])])
            assert (probe(data).has_icc, probe(data).icc_profile) == (True, b"")
        data = tiff([*SIZE, (34675, 7, [1] * 9)])
        assert probe(data[:-1]).icc_profile == b""
        text = data.replace(struct.pack("<HH", 34675, 7), struct.pack("<HH", 34675, 2))
        assert probe(text).icc_profile == b""

    @pytest.mark.parametrize("kind", [b"prof", b"rICC"])
    def test_heif_profile(self, kind):
        """Both kinds of profile, beside a colr box with numbers only."""
        numbers = box(b"colr", b"nclx", bytes(7))
        found = box(b"colr", kind, b"profile")
        other = box(b"colr", kind, b"another")
        info = probe(heif([ISPE, HVCC, numbers, found, other]))
        assert info.icc_profile == b"profile"
        assert probe(heif([ISPE, HVCC, numbers])).icc_profile == b""
        assert probe(heif([ISPE, HVCC, box(b"colr", kind)])).icc_profile == b""

    def test_jpeg_2000_profile_is_in_the_first_colour_box(self):
        """Readers ignore all colour boxes behind the first."""
        found = box(b"colr", b"\2\0\0profile")
        other = box(b"colr", b"\2\0\0another")
        assert probe(jp2(jp2_ihdr(), found, other)).icc_profile == b"profile"
        second = probe(jp2(jp2_ihdr(), colr(16), found))
        assert (second.has_icc, second.icc_profile) == (True, b"")
        assert probe(jp2(jp2_ihdr(), box(b"colr", b"\2"))).icc_profile == b""
