"""Metadata goes, segment by segment and chunk by chunk; the picture stays as it is."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import replace

import numpy as np
import pytest
import pyvips
from PIL import Image, ImageCms, ImageSequence, PngImagePlugin

from qwenvl_prep.errors import DamagedImageError
from qwenvl_prep.headers import HeaderReader, ImageInfo, read_header
from qwenvl_prep.metadata import can_strip, without_metadata

SECRET = b"canary-7f3a"
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def read(data: bytes) -> ImageInfo:
    return read_header(HeaderReader.from_bytes(data))


def stripped(data: bytes) -> bytes:
    """Strip, and check what holds for every file."""
    info = read(data)
    clean = without_metadata(data, info)
    again = read(clean)
    n_frames = 1 if info.format == "JPEG" else info.n_frames
    assert again == replace(info, n_frames=n_frames, encoded_size=len(clean))
    assert SECRET not in clean
    assert without_metadata(clean, again) is clean
    assert by_pillow(clean) == by_pillow(data)
    assert np.array_equal(by_vips(clean), by_vips(data))
    return clean


def by_pillow(data: bytes) -> list[tuple[str, bytes]]:
    with Image.open(io.BytesIO(data)) as image:
        if image.format == "MPO":
            return [(image.mode, image.tobytes())]
        return [(part.mode, part.tobytes()) for part in ImageSequence.Iterator(image)]


def by_vips(data: bytes) -> np.ndarray:
    return pyvips.Image.new_from_buffer(data, "").numpy()


def full_exif(orientation: int = 1) -> bytes:
    """EXIF with a maker, a place, a comment and a thumbnail's worth of secret."""
    exif = Image.Exif()
    exif[0x010F] = SECRET.decode()
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + SECRET
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2] = "N", (52.0, 31.0, 12.0)
    gps[29] = SECRET.decode()
    return exif.tobytes()


def xmp(orientation: int = 1) -> bytes:
    head = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}" note="'
    return head.encode() + SECRET + b'"/></x:xmpmeta>'


def tags(data: bytes) -> dict[int, object]:
    """All tags that Pillow finds, of EXIF and of XMP."""
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return dict(image.getexif())


def test_types_that_can_be_stripped():
    """Three types can; asking for another is a mistake in the program."""
    names = ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "HEIF", "AVIF", "PIXELS")
    assert [name for name in names if can_strip(name)] == ["JPEG", "PNG", "WEBP"]
    with pytest.raises(ValueError, match="JPEG, PNG, WEBP but received TIFF"):
        without_metadata(b"", ImageInfo("TIFF", "image/tiff", 1, 1))


# ---------------------------------------------------------------------------- JPEG


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body


def behind_soi(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


@pytest.fixture
def jpeg(photo, encoded):
    """A JPEG as Pillow writes it: JFIF, tables, one scan."""
    return encoded(photo, "JPEG", quality=90)


def test_clean_jpeg_is_the_same_object(jpeg):
    """Nothing to remove, nothing copied to the caller."""
    assert without_metadata(jpeg, read(jpeg)) is jpeg


@pytest.mark.parametrize(
    "metadata",
    [
        segment(0xE1, b"Exif\0\0" + full_exif()),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp()),
        segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + SECRET),
        segment(0xE1, b"FLIR\0" + SECRET),
        segment(0xE0, b"JFXX\0\x10" + SECRET),
        segment(0xE0, b"AVI1" + SECRET),
        segment(0xE0, b"JFIF\0\1" + b"\0" * 7),  # one byte too short to be heeded
        segment(0xE2, b"MPF\0" + SECRET),
        segment(0xE2, b"FPXR\0" + SECRET),
        segment(0xE5, SECRET),
        segment(0xEB, b"JP\0\0" + SECRET),  # C2PA's boxes
        segment(0xED, b"Photoshop 3.0\08BIM\x04\x04\0\0\0\0\0\x0b" + SECRET),
        segment(0xEE, b"Ducky" + SECRET),
        segment(0xEF, SECRET),
        segment(0xFE, SECRET),
        segment(0xFE, b""),
        b"\xff\xff\xff\xff",  # fill bytes
        b"\xff\xd3",  # a marker without a length
    ],
    ids=lambda value: repr(value[:12]),
)
@pytest.mark.filterwarnings("ignore:Image appears to be a malformed MPO")
def test_jpeg_segments_that_go(jpeg, metadata):
    """Each kind goes without a trace, and several of them at once."""
    assert stripped(behind_soi(jpeg, metadata)) == jpeg
    late = jpeg.index(b"\xff\xc0")
    assert stripped(jpeg[:late] + metadata + jpeg[late:]) == jpeg
    assert stripped(behind_soi(jpeg, metadata, metadata)) == jpeg


def test_junk_between_segments_goes(jpeg):
    """Decoders skip it, so it could hold anything."""
    late = jpeg.index(b"\xff\xc0")
    assert stripped(jpeg[:late] + SECRET + jpeg[late:]) == jpeg


@pytest.mark.parametrize(
    "rest", [SECRET, b"\xff\xd9" + SECRET, b"\0" * 9, b"SEFT" + SECRET + b"\xff\xd9"]
)
def test_what_follows_a_jpeg_goes(jpeg, rest):
    """Trailers go, whether or not they hold an end marker themselves."""
    assert stripped(jpeg + rest) == jpeg


def test_appended_zip_goes(jpeg):
    """A JPEG that is a ZIP archive too is none afterwards."""
    file = io.BytesIO(jpeg)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("note.txt", SECRET)
    assert zipfile.is_zipfile(file)
    clean = stripped(file.getvalue())
    assert clean == jpeg
    assert not zipfile.is_zipfile(io.BytesIO(clean))


def test_thumbnail_of_jfif_goes(jpeg):
    """JFIF is cut down to its 16 bytes, density included."""
    jfif = b"JFIF\0\1\2\1\0\x48\0\x60\2\1" + b"RGBRGB" + SECRET
    bare = jpeg[2 + 18 :]
    clean = stripped(b"\xff\xd8" + segment(0xE0, jfif) + bare)
    assert clean[:20] == b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\2\1\0\x48\0\x60\0\0"
    assert clean[20:] == bare


@pytest.mark.parametrize("orientation", range(2, 9))
def test_orientation_of_a_jpeg_stays(photo, encoded, orientation):
    """It is the only tag left, behind JFIF or in front of everything."""
    data = encoded(photo, "JPEG", exif=full_exif(orientation), comment=SECRET)
    assert read(data).orientation == orientation
    clean = stripped(data)
    assert tags(clean) == {0x0112: orientation}
    at = clean.index(b"Exif")
    assert clean[at - 4 : at + 6] == b"\xff\xe1\0\x22Exif\0\0"
    assert clean.index(b"JFIF") < at < clean.index(b"\xff\xdb")
    assert pyvips.Image.new_from_buffer(clean, "").get("orientation") == orientation


def test_orientation_of_xmp_becomes_exif(jpeg):
    """Without the packet that stated it, the picture would lie on its side."""
    packet = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(6))
    bare = jpeg[:2] + jpeg[20:]
    for data in (behind_soi(jpeg, packet), behind_soi(bare, packet)):
        assert read(data).orientation == 6
        assert tags(stripped(data)) == {0x0112: 6}


def test_profile_of_a_jpeg_stays(photo, encoded):
    """ICC says how the pixels look; a long one comes in several segments."""
    profile = PROFILE + bytes(100_000)
    data = encoded(photo, "JPEG", icc_profile=profile, comment=SECRET)
    with Image.open(io.BytesIO(stripped(data))) as image:
        assert image.info["icc_profile"] == profile


def test_adobe_segment_stays(photo, encoded):
    """Without it, the inks of a CMYK picture would be read upside down."""
    data = encoded(photo.convert("CMYK"), "JPEG", exif=full_exif())
    assert b"Adobe" in data
    clean = stripped(data)
    assert b"\xff\xee\0\x0eAdobe" in clean
    at = data.index(b"Adobe")
    longer = data[: at - 2] + struct.pack(">H", 14 + 11) + data[at : at + 12]
    assert stripped(longer + SECRET + data[at + 12 :]) == clean


@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True},
        {"restart_marker_blocks": 1},
        {"progressive": True, "restart_marker_rows": 1},
        {"subsampling": "4:2:0", "optimize": True},
    ],
    ids=str,
)
def test_scans_stay_as_they_are(photo, encoded, options):
    """Several scans and restart markers are copied to the byte."""
    data = encoded(photo, "JPEG", **options)
    assert without_metadata(data, read(data)) is data
    assert stripped(behind_soi(data, segment(0xFE, SECRET))) == data


def test_segments_between_scans(photo, encoded):
    """Tables between scans stay; what nobody heeds there goes, colours included."""
    data = encoded(photo, "JPEG", progressive=True)
    scans = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 2
    at = scans[2]
    late = segment(0xFE, SECRET) + segment(0xE1, b"Exif\0\0" + full_exif(3))
    late += segment(0xE2, b"ICC_PROFILE\0\1\1" + SECRET)
    assert stripped(data[:at] + late + data[at:]) == data
    assert data.count(b"\xff\xc4") > 4


def test_restarts_out_of_turn_are_left_to_decoders(photo, encoded):
    """Damage inside a scan is neither mended nor taken for its end."""
    data = encoded(photo, "JPEG", restart_marker_blocks=4).replace(
        b"\xff\xd1", b"\xff\xd4"
    )
    assert without_metadata(data, read(data)) is data


def test_further_pictures_of_an_mpo_go(photo, encoded):
    """An MPO becomes the JPEG that was its first picture."""
    data = encoded(
        photo, "MPO", save_all=True, append_images=[photo.rotate(180)], quality=90
    )
    assert read(data).n_frames == 2
    clean = stripped(data)
    assert len(clean) < 0.6 * len(data)
    with Image.open(io.BytesIO(clean)) as image:
        assert image.format == "JPEG"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda jpeg: jpeg[:-2], "no end marker"),
        (lambda jpeg: jpeg[: jpeg.index(b"\xff\xda") + 5], "past the end"),
        (lambda jpeg: jpeg[: jpeg.index(b"\xff\xda")], "no end marker"),
        (lambda jpeg: behind_soi(jpeg, b"\xff\xfe\0\1"), "past the end"),
        (lambda jpeg: behind_soi(jpeg, b"\xff\xfe\xff\xff"), "past the end"),
        (lambda jpeg: behind_soi(jpeg, segment(0x02, b"")), "FF02"),
        (lambda jpeg: behind_soi(jpeg, segment(0xF7, b"")), "FFF7"),
        (lambda jpeg: behind_soi(jpeg, segment(0xD9, b"")), "FFD9"),
        (lambda jpeg: jpeg[:-2] + segment(0xD8, b"") + jpeg[-2:], "FFD8"),
    ],
)
def test_broken_jpegs_are_refused(jpeg, damage, reason):
    """Each way in which segments can break ends in the one sentence for it."""
    with pytest.raises(DamagedImageError, match=f"Expected a whole JPEG .*{reason}"):
        without_metadata(damage(jpeg), read(jpeg))


# ----------------------------------------------------------------------------- PNG


def chunk(name: bytes, body: bytes) -> bytes:
    tail = struct.pack(">I", zlib.crc32(name + body))
    return struct.pack(">I", len(body)) + name + body + tail


def behind_ihdr(png: bytes, *chunks: bytes) -> bytes:
    return png[:33] + b"".join(chunks) + png[33:]


@pytest.fixture
def png(photo, encoded):
    """A PNG as Pillow writes it: nothing but its pixels."""
    return encoded(photo, "PNG")


def test_clean_png_is_the_same_object(png):
    """Nothing to remove, nothing copied to the caller."""
    assert without_metadata(png, read(png)) is png


@pytest.mark.parametrize(
    "metadata",
    [
        chunk(b"eXIf", full_exif()[6:]),
        chunk(b"tEXt", b"Comment\0" + SECRET),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(SECRET)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp()),
        chunk(b"tIME", struct.pack(">HBBBBB", 2024, 5, 6, 7, 8, 9)),
        chunk(b"caBX", SECRET),
        chunk(b"sPLT", SECRET),
        chunk(b"hIST", SECRET),
        chunk(b"prVt", SECRET),
        chunk(b"pHYs", bytes(9) + SECRET),  # too long to be heeded
    ],
    ids=lambda value: repr(value[4:8]),
)
def test_png_chunks_that_go(png, metadata):
    """Each kind goes without a trace, in front of the pixels and behind them."""
    assert stripped(behind_ihdr(png, metadata)) == png
    assert stripped(png[:-12] + metadata + png[-12:]) == png


def test_what_follows_a_png_goes(png):
    """Data behind IEND goes, and so does what IEND itself holds."""
    assert stripped(png + SECRET) == png
    assert stripped(png[:-12] + chunk(b"IEND", SECRET)) == png


@pytest.mark.parametrize(
    "kept",
    [
        chunk(b"gAMA", struct.pack(">I", 45455)),
        chunk(b"cHRM", struct.pack(">8I", *range(31270, 31278))),
        chunk(b"sRGB", b"\0"),
        chunk(b"sBIT", b"\x08\x08\x08"),
        chunk(b"cICP", b"\x0c\x0d\0\1"),
        chunk(b"mDCV", bytes(24)),
        chunk(b"cLLI", bytes(8)),
        chunk(b"bKGD", bytes(6)),
        chunk(b"pHYs", struct.pack(">IIB", 3937, 3937, 1)),
        chunk(b"iCCP", b"icc\0\0" + zlib.compress(PROFILE)),
    ],
    ids=lambda value: repr(value[4:8]),
)
def test_png_chunks_that_stay(png, kept):
    """What says how the pixels look stays where it stands."""
    data = behind_ihdr(png, kept)
    assert without_metadata(data, read(data)) is data
    text = chunk(b"tEXt", b"Comment\0" + SECRET)
    assert stripped(behind_ihdr(png, text, kept, text)) == data


def test_palette_and_transparency_stay(photo, encoded):
    """A palette's transparent entries are part of the picture."""
    data = encoded(
        photo.quantize(16), "PNG", transparency=bytes(range(0, 256, 16)), bits=4
    )
    assert b"tRNS" in data
    text = chunk(b"tEXt", b"Comment\0" + SECRET)
    assert stripped(behind_ihdr(data, text)) == data


def raw_profile(orientation: int) -> bytes:
    """EXIF as ImageMagick writes it into a text chunk."""
    exif = full_exif(orientation)
    digits = exif.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = f"\nexif\n{len(exif):8d}\n{lines}\n".encode()
    return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))


@pytest.mark.parametrize(
    "stated",
    [
        chunk(b"eXIf", full_exif(6)[6:]),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6)),
        raw_profile(6),
    ],
    ids=["eXIf", "XMP", "raw"],
)
def test_orientation_of_a_png_stays(png, stated):
    """Wherever it was stated, it becomes an eXIf chunk with one tag."""
    data = behind_ihdr(png, stated)
    assert read(data).orientation == 6
    clean = stripped(data)
    assert tags(clean) == {0x0112: 6}
    assert clean[33:45] == b"\0\0\0\x1aeXIfMM\0*"
    assert clean == stripped(png[:-12] + stated + png[-12:])


def test_frames_of_an_apng_stay(photo, encoded):
    """Each frame and its time stay; text between them goes."""
    frames = [photo, photo.rotate(180), photo.rotate(90)]
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", SECRET.decode())
    data = encoded(
        photo, "PNG", save_all=True, append_images=frames[1:], duration=70, pnginfo=text
    )
    assert read(data).n_frames == 3
    clean = stripped(data)
    with Image.open(io.BytesIO(clean)) as image:
        image.seek(2)
        assert image.info["duration"] == 70


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda png: png[:-12], "past the end"),
        (lambda png: png[:-20], "past the end"),
        (lambda png: png[:33] + png[-12:], "b'IEND' is unknown or out"),
        (lambda png: behind_ihdr(png, chunk(b"XYZW", b"")), "b'XYZW' is unknown"),
        (lambda png: behind_ihdr(png, png[8:33]), "b'IHDR' is unknown or out"),
        (lambda png: behind_ihdr(png, b"\xff\xff\xff\xfftEXt"), "past the end"),
        (
            lambda png: behind_ihdr(
                png, chunk(b"IDAT", b"\x78"), chunk(b"tEXt", SECRET)
            ),
            "interrupted",
        ),
    ],
)
def test_broken_pngs_are_refused(png, damage, reason):
    """Each way in which chunks can break ends in the one sentence for it."""
    with pytest.raises(DamagedImageError, match=f"Expected a whole PNG .*{reason}"):
        without_metadata(damage(png), read(png))


# ---------------------------------------------------------------------------- WebP


def riff_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack("<4sI", name, len(body)) + body + b"\0" * (len(body) & 1)


def riff(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return struct.pack("<4sI", b"RIFF", len(body)) + body


@pytest.fixture
def webp(photo, encoded):
    """A WebP of one lossy chunk."""
    return encoded(photo, "WEBP", quality=80)


def extended(webp: bytes, *chunks: bytes, flags: int = 0) -> bytes:
    """Put VP8X and other chunks around the picture of a plain WebP, 120 × 90."""
    size = struct.pack("<HBHB", 119, 0, 89, 0)
    return riff(riff_chunk(b"VP8X", bytes((flags, 0, 0, 0)) + size), webp[12:], *chunks)


@pytest.mark.parametrize("lossless", [False, True])
def test_clean_webp_is_the_same_object(photo, encoded, lossless):
    """Nothing to remove, nothing copied to the caller."""
    data = encoded(photo, "WEBP", lossless=lossless)
    assert without_metadata(data, read(data)) is data
    assert stripped(data + SECRET) == data


def test_chunks_of_a_plain_webp_that_go(webp):
    """A file that begins with its picture has nothing else."""
    assert stripped(riff(webp[12:], riff_chunk(b"XMP ", xmp()))) == webp


def test_chunks_that_decoders_refuse_go(webp):
    """A rest too short for a chunk, and a second header, are metadata to us."""
    for data in (
        riff(webp[12:], SECRET[:7]),
        extended(webp, riff_chunk(b"VP8X", SECRET)),
    ):
        clean = without_metadata(data, read(data))
        assert clean in {webp, extended(webp)}


@pytest.mark.parametrize(
    ("flags", "metadata"),
    [
        (0x08, riff_chunk(b"EXIF", full_exif()[6:])),
        (0x04, riff_chunk(b"XMP ", xmp())),
        (0x00, riff_chunk(b"C2PA", SECRET)),
        (0x20, riff_chunk(b"C2PA", SECRET)),  # a flag without its chunk
    ],
    ids=lambda value: repr(value)[:12],
)
def test_webp_chunks_that_go(webp, flags, metadata):
    """The chunk goes and so does its flag; the length of the whole is mended."""
    assert stripped(extended(webp, metadata, flags=flags)) == extended(webp)
    assert stripped(extended(webp, metadata, flags=flags) + SECRET) == extended(webp)


def test_pillows_webp_is_stripped(photo, encoded):
    """Everything at once, with alpha and a profile, which stay."""
    rgba = photo.convert("RGBA")
    rgba.putalpha(photo.convert("L"))
    data = encoded(
        rgba, "WEBP", exif=full_exif(), xmp=xmp(), icc_profile=PROFILE, quality=80
    )
    clean = stripped(data)
    assert tags(clean) == {}
    with Image.open(io.BytesIO(clean)) as image:
        assert image.mode == "RGBA"
        assert image.info["icc_profile"] == PROFILE
        assert "xmp" not in image.info
    assert clean[20] == 0x30
    without_profile = encoded(rgba, "WEBP", quality=80)
    assert len(clean) == len(without_profile) + 8 + len(PROFILE) + len(PROFILE) % 2


@pytest.mark.parametrize("stated", ["EXIF", "XMP"])
def test_orientation_of_a_webp_stays(webp, stated):
    """Wherever it was stated, it becomes an EXIF chunk with one tag."""
    if stated == "EXIF":
        data = extended(webp, riff_chunk(b"EXIF", full_exif(8)[6:]), flags=0x08)
    else:
        data = extended(webp, riff_chunk(b"XMP ", xmp(8)), flags=0x04)
    assert read(data).orientation == 8
    clean = stripped(data)
    assert tags(clean) == {0x0112: 8}
    assert clean[20] == 0x08
    assert pyvips.Image.new_from_buffer(clean, "").get("orientation") == 8


def test_frames_of_an_animated_webp_stay(photo, encoded):
    """Each frame and its time stay; what is in a frame beside its picture goes."""
    data = encoded(
        photo,
        "WEBP",
        save_all=True,
        append_images=[photo.rotate(180), photo.rotate(90)],
        duration=70,
        exif=full_exif(),
        xmp=xmp(),
    )
    clean = stripped(data)
    assert read(clean).n_frames == 3
    at = clean.index(b"ANMF")
    length = struct.unpack_from("<I", clean, at + 4)[0]
    body = clean[at + 8 : at + 8 + length] + riff_chunk(b"note", SECRET)
    rest = clean[at + 8 + length :]
    noted = riff(clean[12:at], riff_chunk(b"ANMF", body), rest)
    assert stripped(noted) == clean


def test_pad_byte_is_mended(photo, encoded):
    """An odd last chunk whose pad byte is missing gets it."""
    for width in range(40, 80):
        data = encoded(photo.crop((0, 0, width, 40)), "WEBP", lossless=True)
        if struct.unpack_from("<I", data, 16)[0] % 2:
            break
    cut = data[:4] + struct.pack("<I", len(data) - 9) + data[8:-1]
    assert without_metadata(cut, read(cut)) == data


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda webp: webp[:-1], "past the end"),
        (lambda webp: webp[:9], "past the end"),
        (lambda webp: webp[:4] + b"\x40\0\0\0" + webp[8:], "past the end"),
        (lambda webp: webp[:4] + b"\x05\0\0\0" + webp[8:], "no picture"),
        (lambda webp: riff(riff_chunk(b"ALPH", SECRET), webp[12:]), "comes first"),
        (lambda webp: riff(riff_chunk(b"VP8X", bytes(9)), webp[12:]), "comes first"),
        (lambda webp: extended(webp, webp[12:]), "more than one picture"),
        (lambda webp: extended(webp, riff_chunk(b"ANMF", bytes(15))), "no picture"),
    ],
)
def test_broken_webps_are_refused(webp, damage, reason):
    """Each way in which chunks can break ends in the one sentence for it."""
    with pytest.raises(DamagedImageError, match=f"Expected a whole WEBP .*{reason}"):
        without_metadata(damage(webp), read(webp))
