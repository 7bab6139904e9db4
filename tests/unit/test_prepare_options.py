"""What each option does to the bytes that are sent, by the public functions alone."""

from __future__ import annotations

import io
import itertools
import math
import os
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

import qwenvl_prep as qp
from qwenvl_prep import prepare, prepare_many, sources
from qwenvl_prep.errors import (
    DamagedImageError,
    DecodeLimitError,
    FrameError,
    IllegalImageError,
    ImageError,
    UnsupportedFormatError,
)

BICUBIC = Image.Resampling.BICUBIC
SECRET = b"canary-41c9"
TURNED = range(2, 9)


def soft(height: int, width: int, seed: int = 7) -> Image.Image:
    """Give a soft picture of any size, without symmetry."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), BICUBIC)


def saved(image: Image.Image, file_format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def shown(data: bytes) -> np.ndarray:
    """Decode by Pillow to RGB, as stored."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def exif(orientation: int = 1, *, is_full: bool = False) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    if is_full:
        tags[0x010F] = SECRET.decode()
        place = tags.get_ifd(0x8825)
        place[1], place[2], place[29] = "N", (52.0, 31.0, 12.0), SECRET.decode()
    return tags.tobytes()


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """Give the PSNR in dB, said in one line and in float64."""
    error = ((first.astype(float) - second.astype(float)) ** 2).mean()
    return 10 * math.log10(255**2 / error) if error else math.inf


def wide_profile() -> bytes:
    """Give an RGB profile whose primaries are exchanged: red is seen as green."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = data.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ")
    return data.replace(b"????", b"gXYZ")


def long_profile(profile: bytes, length: int) -> bytes:
    """Lengthen a profile by bytes that no tag points to, and that nothing packs."""
    noise = np.random.default_rng(1).bytes(length - len(profile))
    return struct.pack(">I", length) + profile[4:] + noise


# ----------------------------------------------------------------------------- keep


def apng() -> bytes:
    frames = [soft(60, 80, seed) for seed in range(3)]
    return saved(frames[0], "PNG", save_all=True, append_images=frames[1:])


LEGAL = {
    "JPEG": lambda: saved(soft(90, 120), "JPEG"),
    "turned JPEG": lambda: saved(soft(90, 120), "JPEG", exif=exif(6, is_full=True)),
    "CMYK JPEG": lambda: saved(soft(90, 120).convert("CMYK"), "JPEG"),
    "wide JPEG": lambda: saved(soft(90, 120), "JPEG", icc_profile=wide_profile()),
    "MPO": lambda: saved(
        soft(90, 120), "MPO", save_all=True, append_images=[soft(90, 120, 3)]
    ),
    "large JPEG": lambda: saved(soft(1280, 1280), "JPEG", quality=50),
    "progressive JPEG": lambda: saved(soft(90, 120), "JPEG", progressive=True),
    "RGBA PNG": lambda: saved(soft(90, 120).convert("RGBA"), "PNG"),
    "16-bit PNG": lambda: saved(
        Image.fromarray(np.arange(12_000, dtype=np.uint16).reshape(100, 120)), "PNG"
    ),
    "APNG": apng,
    "WEBP": lambda: saved(soft(90, 120).convert("RGBA"), "WEBP", lossless=True),
    "TIFF": lambda: saved(soft(90, 120), "TIFF", compression="tiff_lzw"),
    "ICO": lambda: saved(soft(64, 64), "ICO", sizes=[(16, 16), (64, 64)]),
    "JPEG2000": lambda: saved(soft(90, 120), "JPEG2000"),
    "BMP": lambda: saved(soft(90, 120), "BMP"),
    "SGI": lambda: saved(soft(90, 120), "SGI"),
}


@pytest.mark.parametrize("kind", LEGAL)
def test_keep_sends_legal_bytes_whatever_they_show(kind):
    """Turned, transparent, deep, wide, moving, above the cap: the file as it is."""
    data = LEGAL[kind]()
    kept = prepare(data, encoding="keep")
    assert kept.data == data
    assert kept.changes == ()
    assert kept.plan.is_kept
    info = qp.probe(data)
    assert kept.media_type == info.media_type
    assert (kept.height, kept.width) == (info.height, info.width)
    assert kept.tokens == qp.count_tokens(data)


def test_keep_refuses_with_all_reasons():
    """Whoever asked for the original is told everything that is in its way."""
    data = saved(soft(10, 50), "GIF")
    with pytest.raises(IllegalImageError, match="cannot be kept as it is") as caught:
        prepare(data, encoding="keep", strip_metadata=True, max_bytes=100)
    codes = [finding.code for finding in caught.value.findings]
    assert codes == [
        *("side-too-small", "format-not-accepted"),
        *("not-keepable", "not-keepable"),
    ]
    for finding in caught.value.findings:
        assert finding.message in str(caught.value)
    assert "enlarge or pad" in str(caught.value)


def test_keep_refuses_what_auto_would_mend():
    """Under auto the same file goes; keep is no auto with another name."""
    data = saved(soft(90, 120), "GIF")
    assert qp.validate(prepare(data).data).is_legal
    with pytest.raises(IllegalImageError) as caught:
        prepare(data, encoding="keep")
    assert [one.code for one in caught.value.findings] == ["format-not-accepted"]


@pytest.mark.parametrize("source", [soft(90, 120), np.asarray(soft(90, 120))])
def test_keep_refuses_pixels(source):
    """A Pillow image and an array have no bytes."""
    with pytest.raises(IllegalImageError, match="pixels have no bytes"):
        prepare(source, encoding="keep")
    (error,) = prepare_many([source], encoding="keep")
    assert isinstance(error, IllegalImageError)


CUT = ["JPEG", "progressive JPEG", "CMYK JPEG", "RGBA PNG", "APNG", "WEBP", "TIFF"]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", [*CUT, "JPEG2000", "BMP"])
def test_keep_refuses_what_is_cut_off(kind, share):
    """Half a file is not kept, even where half a picture would be accepted."""
    data = LEGAL[kind]()
    part = data[: int(len(data) * share)]
    for options in ({}, {"strip_metadata": kind in CUT[:-1]}):
        with pytest.raises(DamagedImageError):
            prepare(part, encoding="keep", **options)


@pytest.mark.parametrize("kind", ["JPEG", "RGBA PNG", "WEBP"])
def test_keep_refuses_a_missing_end(kind):
    """All pixels may be there, but the file that would be sent is not whole."""
    data = LEGAL[kind]()
    for length in (1, 2):
        with pytest.raises(DamagedImageError):
            prepare(data[:-length], encoding="keep", on_truncated="accept")


@pytest.mark.parametrize("kind", ["JPEG", "RGBA PNG", "TIFF"])
def test_keep_refuses_damaged_pixels(kind):
    """A file with both its ends is decoded before it is kept."""
    data = bytearray(LEGAL[kind]())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    with pytest.raises(DamagedImageError):
        prepare(bytes(data), encoding="keep")


def test_keep_refuses_a_header_that_lies():
    """A JPEG whose header announces more rows than its scan holds is not kept."""
    data = bytearray(LEGAL["JPEG"]())
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 7] = struct.pack(">H", 9000)
    with pytest.raises(DamagedImageError):
        prepare(bytes(data), encoding="keep")


def test_keep_does_not_need_a_decoder(monkeypatch):
    """A HEIC that the model reads goes as it is, also where nothing here reads it."""
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(soft(128, 160)).save(file, format="HEIF")
    data = file.getvalue()
    model = qp.get_model("qwen-vl-max")
    reads_heif = model.replace(formats=(*model.formats, "HEIF"))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for encoding in ("keep", "auto"):
        assert prepare(data, model=reads_heif, encoding=encoding).data == data
    with pytest.raises(UnsupportedFormatError, match="extra 'heif'") as caught:
        prepare(data, model=reads_heif, max_tokens=12)
    assert caught.value.extra == "heif"
    with pytest.raises(IllegalImageError, match="pillow-heif"):
        prepare(data, model=model)


def two_channels() -> bytes:
    """Give an SGI of grey and alpha, which is legal and which Pillow does not read."""
    head = struct.pack(">HBBHHHH", 474, 0, 1, 3, 60, 60, 2)
    return head.ljust(512, b"\0") + bytes(60 * 60 * 2)


@pytest.mark.parametrize("encoding", ["keep", "auto", "png"])
def test_kinds_that_nobody_reads_are_not_sent(encoding):
    """What cannot be decoded cannot be proved, and no extra would help."""
    data = two_channels()
    assert qp.probe(data).format == "SGI"
    with pytest.raises(UnsupportedFormatError, match="not read here") as caught:
        prepare(data, encoding=encoding)
    assert (caught.value.format, caught.value.extra) == ("SGI", None)


@pytest.mark.parametrize("limit", [3_000, 7_000])
def test_pillows_own_limit_holds(limit, monkeypatch):
    """Pillow refuses above twice its limit and warns below; both are our error."""
    data = saved(soft(84, 112), "GIF")  # 9,408 pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DecodeLimitError, match="MAX_IMAGE_PIXELS") as caught:
        prepare(data)
    assert caught.value.limit_name == "PIL.Image.MAX_IMAGE_PIXELS"
    assert (caught.value.actual, caught.value.limit) == (84 * 112, limit)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert prepare(data).plan.info.format == "GIF"


# -------------------------------------------------------------------- strip_metadata


def canaries(file_format: str, orientation: int = 1, **options) -> bytes:
    """Give a file with EXIF, GPS and XMP that all hold the secret."""
    return saved(
        soft(90, 120),
        file_format,
        exif=exif(orientation, is_full=True),
        **({} if file_format == "PNG" else {"xmp": b"<x>" + SECRET + b"</x>"}),
        **options,
    )


def with_text(png: bytes) -> bytes:
    """Put XMP and a comment behind the header of a PNG."""
    chunks = b""
    for name, body in (
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x>" + SECRET + b"</x>"),
        (b"tEXt", b"Comment\0" + SECRET),
    ):
        checked = name + body
        chunks += struct.pack(">I", len(body)) + checked
        chunks += struct.pack(">I", zlib.crc32(checked))
    return png[:33] + chunks + png[33:]


STRIPPED = {
    "JPEG": lambda turn: canaries("JPEG", turn, comment=SECRET),
    "PNG": lambda turn: with_text(canaries("PNG", turn)),
    "WEBP": lambda turn: canaries("WEBP", turn),
    "lossless WEBP": lambda turn: canaries("WEBP", turn, lossless=True),
}


def assert_bare(data: bytes, orientation: int) -> None:
    """See that a file says nothing but which way is up."""
    assert SECRET not in data
    with Image.open(io.BytesIO(data)) as image:
        tags = image.getexif()
        assert dict(tags) == ({0x0112: orientation} if orientation != 1 else {})
        assert not tags.get_ifd(0x8825)
        assert "xmp" not in image.info
        assert not any("XML" in str(key) for key in image.info)


@pytest.mark.parametrize("encoding", ["keep", "auto"])
@pytest.mark.parametrize("kind", STRIPPED)
def test_stripped_files_keep_their_pixels(kind, encoding):
    """EXIF, GPS, XMP and comments go, and no pixel is encoded anew."""
    data = STRIPPED[kind](1)
    assert data.count(SECRET) >= 3
    assert prepare(data, encoding=encoding).data == data
    bare = prepare(data, encoding=encoding, strip_metadata=True)
    assert bare.changes == ("metadata removed",)
    assert bare.plan.is_kept
    assert len(bare.data) < len(data)
    assert bare.media_type == qp.probe(data).media_type
    assert_bare(bare.data, 1)
    assert np.array_equal(shown(bare.data), shown(data))
    again = prepare(bare.data, encoding=encoding, strip_metadata=True)
    assert again.data == bare.data
    assert qp.validate(bare.data_uri).is_legal


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", STRIPPED)
def test_orientation_survives_stripping(kind, orientation):
    """Kept bytes stay turned by their tag; what is encoded anew stands upright."""
    data = STRIPPED[kind](orientation)
    kept = prepare(data, encoding="keep", strip_metadata=True)
    assert_bare(kept.data, orientation)
    assert np.array_equal(shown(kept.data), shown(data))
    assert qp.probe(kept.data).orientation == orientation
    assert kept.tokens == qp.count_tokens(kept.data) == qp.count_tokens(data)
    anew = prepare(data, strip_metadata=True)
    assert_bare(anew.data, 1)
    assert "metadata removed" not in anew.changes
    assert not anew.plan.is_kept
    assert anew.data == prepare(data).data


@pytest.mark.parametrize("file_format", ["TIFF", "BMP", "JPEG2000", "SGI"])
def test_types_that_cannot_be_stripped_are_encoded_anew(file_format):
    """Under auto bare pixels go out instead; keep refuses and says why."""
    data = saved(soft(84, 112), file_format)
    assert prepare(data).data == data
    sent = prepare(data, strip_metadata=True, encoding="auto")
    assert not sent.plan.is_kept
    assert sent.media_type in {"image/jpeg", "image/png"}
    assert [change[:10] for change in sent.changes] == ["re-encoded"]
    with pytest.raises(IllegalImageError, match=f"metadata of {file_format} is not"):
        prepare(data, strip_metadata=True, encoding="keep")


def test_a_tiff_takes_its_place_along():
    """A TIFF with GPS that auto strips has lost it, and the picture has not."""
    tags = Image.Exif()
    tags[0x010F] = SECRET.decode()
    tags.get_ifd(0x8825)[29] = SECRET.decode()
    image = soft(84, 112)
    data = saved(image, "TIFF", exif=tags)
    assert SECRET in prepare(data).data
    sent = prepare(data, strip_metadata=True)
    assert_bare(sent.data, 1)
    assert psnr(shown(sent.data), np.asarray(image)) > 35


def test_stripping_many_is_stripping_each():
    """The option reaches every worker."""
    files = [make(turn) for make in STRIPPED.values() for turn in (1, 6)]
    for encoding in ("auto", "keep"):
        given = {"strip_metadata": True, "encoding": encoding}
        many = [one.data for one in prepare_many(files, workers=4, **given)]
        assert many == [prepare(data, **given).data for data in files]
        assert not any(SECRET in data for data in many)


# --------------------------------------------------------------------------- report


def exact_pixels(data: bytes, size: tuple[int, int]) -> np.ndarray:
    """Decode and resize by Pillow alone."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB").resize(size[::-1], BICUBIC))


def test_no_report_unless_asked_for():
    """Measuring takes time, so it is not done unasked."""
    assert prepare(soft(600, 800)).report is None
    assert prepare(LEGAL["JPEG"]()).report is None


@pytest.mark.parametrize("kind", ["JPEG", "RGBA PNG", "CMYK JPEG", "16-bit PNG"])
@pytest.mark.parametrize("given", [{}, {"strip_metadata": True}])
def test_report_of_what_is_kept(kind, given):
    """Nothing differs where the file's own bytes are sent."""
    sent = prepare(LEGAL[kind](), encoding="keep", report=True, **given)
    assert (sent.report.psnr, sent.report.ssim) == (math.inf, 1.0)


@pytest.mark.parametrize("encoding", ["png", "webp-lossless"])
def test_report_of_what_is_lossless(encoding):
    """Exact pixels in a lossless file are exact, resized or not."""
    for image in (soft(84, 112), soft(301, 407), soft(301, 407).convert("L")):
        sent = prepare(image, encoding=encoding, report=True)
        assert (sent.report.psnr, sent.report.ssim) == (math.inf, 1.0)


@pytest.mark.parametrize(
    "given",
    [
        {"encoding": "jpeg"},
        {"encoding": "jpeg", "quality": 30},
        {"encoding": "jpeg", "max_tokens": 64},
        {"encoding": "jpeg", "max_bytes": 4_000, "max_tokens": 200},
        {"encoding": "webp", "quality": 50},
    ],
    ids=str,
)
def test_report_of_exact_pixels(given):
    """The figures are those of the decoded file against Pillow's own resize."""
    data = saved(soft(604, 811), "PNG")
    sent = prepare(data, report=True, **given)
    right = exact_pixels(data, (sent.height, sent.width))
    got = shown(sent.data)
    assert 20 < sent.report.psnr < 60
    assert sent.report.psnr == pytest.approx(psnr(got, right), abs=1e-9)
    assert 0.5 < sent.report.ssim < 1
    assert sent.report.ssim == pytest.approx(qp.fidelity.ssim(got, right), abs=1e-12)
    unasked = prepare(data, **given)
    assert (unasked.data, unasked.changes) == (sent.data, sent.changes)


def test_report_of_grey_is_of_one_channel():
    """Grey is measured as grey."""
    image = soft(604, 811).convert("L")
    sent = prepare(saved(image, "PNG"), encoding="jpeg", quality=50, report=True)
    right = np.asarray(image.resize((sent.width, sent.height), BICUBIC))
    with Image.open(io.BytesIO(sent.data)) as decoded:
        assert decoded.mode == "L"
        assert sent.report.psnr == pytest.approx(
            psnr(np.asarray(decoded), right), abs=1e-9
        )


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_report_of_fast_is_against_the_exact_pixels(encoding, orientation):
    """What the fast way loses is counted too, not only what encoding loses."""
    data = saved(soft(1200, 1608), "JPEG", quality=92, exif=exif(orientation))
    given = {"max_tokens": 100, "encoding": encoding}
    exact = shown(prepare(data, **{**given, "encoding": "png"}).data)
    sent = prepare(data, fidelity="fast", report=True, **given)
    assert sent.plan.shrink > 1
    measured = psnr(shown(sent.data), exact)
    assert math.isfinite(measured)
    assert sent.report.psnr == pytest.approx(measured, abs=1e-9)
    assert sent.report.ssim < 1
    assert sent.data == prepare(data, fidelity="fast", **given).data


def test_report_reaches_every_worker():
    """Many images have the report that each of them has."""
    files = [saved(soft(300 + 40 * i, 400, i), "PNG") for i in range(5)]
    given = {"encoding": "jpeg", "report": True}
    many = list(prepare_many(files, workers=3, **given))
    assert [one.report for one in many] == [
        prepare(data, **given).report for data in files
    ]


# ----------------------------------------------------------------------------- fast


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_fast_is_near_exact(orientation, mode):
    """Same size, same tokens, upright, and pixels that are hard to tell apart."""
    image = soft(1200, 1600).convert(mode)
    data = saved(image, "JPEG", quality=92, exif=exif(orientation))
    given = {"max_tokens": 90, "encoding": "png"}
    exact, fast = prepare(data, **given), prepare(data, fidelity="fast", **given)
    assert fast.plan.shrink in {2, 4}
    assert (fast.height, fast.width) == (exact.height, exact.width)
    assert fast.tokens == exact.tokens
    right, got = shown(exact.data), shown(fast.data)
    assert got.shape == right.shape == (fast.height, fast.width, 3)
    assert psnr(got, right) > 50
    assert not np.array_equal(got, right)
    word = f"decoded at 1/{fast.plan.shrink}"
    assert fast.changes == (word, *exact.changes)


@pytest.mark.parametrize(
    ("max_tokens", "shrink"),
    [(8, 8), (60, 8), (70, 4), (200, 4), (260, 2), (900, 2), (1100, 1)],
)
def test_fast_leaves_twice_the_target(max_tokens, shrink):
    """The part is the smallest that leaves twice the pixels that are sent."""
    data = saved(soft(2400, 2400), "JPEG", quality=70)
    fast = prepare(data, max_tokens=max_tokens, fidelity="fast", encoding="png")
    assert fast.plan.shrink == shrink
    assert (f"decoded at 1/{shrink}" in fast.changes) is (shrink > 1)
    left = (2400 // shrink) ** 2
    assert shrink == 1 or left >= 2 * fast.height * fast.width
    if shrink < 8:
        assert left // 4 < 2 * fast.height * fast.width


def test_fast_compares_sides_as_stored():
    """A long picture that is turned leaves as much as one that is not."""
    for orientation in range(1, 9):
        data = saved(soft(800, 3200), "JPEG", exif=exif(orientation))
        fast = prepare(data, max_tokens=150, fidelity="fast", encoding="png")
        assert fast.plan.shrink == 2
        assert (fast.height > fast.width) is (orientation >= 5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: saved(soft(1200, 1600), "PNG"),
        lambda: saved(soft(1200, 1600), "WEBP"),
        lambda: saved(soft(1200, 1600), "TIFF"),
        lambda: saved(soft(1200, 1600).convert("CMYK"), "JPEG"),
        lambda: soft(1200, 1600),
        lambda: np.asarray(soft(1200, 1600)),
        lambda: saved(soft(90, 120), "JPEG"),  # kept
        lambda: saved(soft(90, 120), "JPEG", exif=exif(6)),  # on the grid, or below
        lambda: saved(soft(400, 500), "JPEG", exif=exif(3)),  # too near to its target
    ],
    ids=["PNG", "WEBP", "TIFF", "CMYK", "image", "array", "kept", "small", "near"],
)
def test_fast_leaves_the_others_alone(make):
    """Only a large JPEG has a part to decode; all else is exact, and says nothing."""
    source = make()
    for given in ({}, {"encoding": "png"}):
        cap = 150 if max(qp.probe(source).height, 600) > 600 else None
        exact = prepare(source, max_tokens=cap, **given)
        fast = prepare(source, max_tokens=cap, fidelity="fast", **given)
        assert (fast.data, fast.changes) == (exact.data, exact.changes)


def test_fast_of_an_opened_jpeg_is_exact():
    """A Pillow image belongs to the caller, who may have drafted it."""
    data = saved(soft(1200, 1600), "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        fast = prepare(image, max_tokens=90, fidelity="fast", encoding="png")
    assert fast.data == prepare(data, max_tokens=90, encoding="png").data


def test_fast_refuses_damage_too():
    """A part of the size is decoded from all of the file."""
    data = saved(soft(1200, 1600), "JPEG", quality=95)
    for cut in (len(data) // 3, len(data) - 2000):
        with pytest.raises(DamagedImageError):
            prepare(data[:cut], max_tokens=90, fidelity="fast")
        part = prepare(
            data[:cut], max_tokens=90, fidelity="fast", on_truncated="accept"
        )
        assert any("cut off" in change for change in part.changes)
        assert shown(part.data).shape == (part.height, part.width, 3)


# ---------------------------------------------------------------------------- frame

FRAMES = [soft(84, 112, seed) for seed in range(4)]


def several(file_format: str) -> bytes:
    if file_format == "ICO":
        return saved(soft(56, 56), "ICO", sizes=[(16, 16), (28, 28), (56, 56)])
    images = FRAMES
    if file_format == "TIFF":  # pages of sizes of their own
        images = [soft(84 + 28 * i, 112 + 56 * i, i) for i in range(4)]
    first, *others = images
    return saved(first, file_format, save_all=True, append_images=others)


def by_pillow(data: bytes, frame: int) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        image.seek(frame)
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("frame", range(4))
@pytest.mark.parametrize(
    ("file_format", "several_words"), [("GIF", "4 frames"), ("TIFF", "4 pages")]
)
def test_the_frame_asked_for_is_sent(file_format, several_words, frame):
    """Its pixels, its size, its tokens, and its number among the changes."""
    data = several(file_format)
    right = by_pillow(data, frame)
    sent = prepare(data, frame=frame, encoding="png")
    assert np.array_equal(shown(sent.data), right)
    assert sent.changes == (
        f"frame {frame} of {several_words}, counted from 0",
        "re-encoded PNG",
    )
    assert sent.plan.info.frame == frame
    alone = prepare(right, encoding="png")
    assert (sent.tokens, sent.data) == (alone.tokens, alone.data)
    assert qp.plan(data, frame=frame).tokens == sent.tokens


@pytest.mark.parametrize("file_format", ["GIF", "TIFF"])
def test_unasked_the_first_is_sent(file_format):
    """Without a number it is the first, and it is told that there are more."""
    data = several(file_format)
    sent = prepare(data, encoding="png")
    assert np.array_equal(shown(sent.data), by_pillow(data, 0))
    assert sent.changes[0].startswith("first of 4 ")


def test_pictures_of_an_icon():
    """Unasked the largest is sent; with a number the one that stands there."""
    data = several("ICO")
    sizes = [(16, 16), (28, 28), (56, 56)]
    for frame, size in enumerate(sizes):
        sent = prepare(data, frame=frame, encoding="png")
        assert sent.changes[0] == f"frame {frame} of 3 pictures, counted from 0"
        assert (sent.height, sent.width) == size
        icon = Image.open(io.BytesIO(data))
        right = np.asarray(icon.ico.getimage(size).convert("RGB"))
        assert np.array_equal(shown(sent.data), right)
    unasked = prepare(data, encoding="png")
    assert unasked.changes[0] == "largest of 3 pictures"
    assert unasked.data == prepare(data, frame=2, encoding="png").data


def test_one_frame_of_several_is_never_the_whole_file():
    """Auto does not keep a TIFF of which one page was asked for, not even the first."""
    data = several("TIFF")
    for frame in range(4):
        sent = prepare(data, frame=frame)
        assert not sent.plan.is_kept
        assert qp.probe(sent.data).n_frames == 1
        with pytest.raises(IllegalImageError, match="one of 4 frames"):
            prepare(data, frame=frame, encoding="keep")
    alone = LEGAL["JPEG"]()
    for encoding in ("auto", "keep"):
        assert prepare(alone, frame=0, encoding=encoding).data == alone


def test_missing_frames_are_told_one_by_one():
    """Of many files, those that have no such frame are refused by themselves."""
    files = [
        *(several("GIF"), LEGAL["JPEG"](), several("TIFF"), LEGAL["RGBA PNG"]()),
        *(soft(84, 112), np.zeros((60, 60), np.uint8), several("ICO"), apng()),
    ]
    results = list(prepare_many(files, frame=3, workers=2))
    kinds = [type(one) for one in results]
    assert kinds == [
        *(qp.PreparedImage, FrameError, qp.PreparedImage, FrameError),
        *(FrameError, FrameError, FrameError, FrameError),
    ]
    assert (results[1].frame, results[1].n_frames) == (3, 1)
    assert (results[6].frame, results[6].n_frames) == (3, 3)
    for data, one in zip(files, results, strict=True):
        if isinstance(one, FrameError):
            with pytest.raises(FrameError):
                prepare(data, frame=3)


# ----------------------------------------------------------------- background, color


@pytest.mark.parametrize(
    "forms",
    [
        ["white", "#ffffff", "#FFFFFF", (255, 255, 255), [255, 255, 255]],
        ["black", "#000000", (0, 0, 0), tuple(np.zeros(3, np.uint8))],
        ["#336699", (0x33, 0x66, 0x99), [51, 102, 153]],
    ],
    ids=lambda forms: forms[0],
)
def test_every_spelling_gives_the_same_bytes(forms):
    """One colour, one picture, however it is spelled."""
    rgba = np.random.default_rng(3).integers(0, 256, (84, 112, 4), np.uint8)
    rgba[:20, :, 3] = 0
    sent = [prepare(rgba, background=form, encoding="png") for form in forms]
    assert len({one.data for one in sent}) == 1
    assert len({one.changes for one in sent}) == 1
    red, green, blue = shown(sent[0].data)[0, 0].tolist()
    assert (red, green, blue) == tuple(int(level) for level in forms[-1])


def test_background_of_what_is_opaque_changes_nothing():
    """Opaque files are kept whatever lies beneath."""
    data = LEGAL["JPEG"]()
    assert prepare(data, background="black").data == data


# -------------------------------------------------------------- profiles that lie deep


def with_segments(jpeg: bytes, count: int) -> bytes:
    """Put application segments of 64 KiB in front of all others."""
    body = b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000)
    segment = b"\xff\xe1" + struct.pack(">H", 2 + len(body)) + body
    return jpeg[:2] + segment * count + jpeg[2:]


DEEP = {
    "many segments": lambda picture: with_segments(
        saved(picture, "JPEG", icc_profile=wide_profile(), quality=95), 5
    ),
    "long profile in JPEG": lambda picture: saved(
        picture, "JPEG", icc_profile=long_profile(wide_profile(), 500_000), quality=95
    ),
    "long profile in PNG": lambda picture: saved(
        picture, "PNG", icc_profile=long_profile(wide_profile(), 500_000)
    ),
    "long profile in WEBP": lambda picture: saved(
        picture,
        "WEBP",
        icc_profile=long_profile(wide_profile(), 500_000),
        lossless=True,
    ),
    "long profile in TIFF": lambda picture: saved(
        picture, "TIFF", icc_profile=long_profile(wide_profile(), 500_000)
    ),
}


def in_srgb(data: bytes) -> np.ndarray:
    """Convert by ImageCms what Pillow reads."""
    opened = ImageCms.ImageCmsProfile(io.BytesIO(wide_profile()))
    target = ImageCms.createProfile("sRGB")
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(ImageCms.profileToProfile(image, opened, target))


@pytest.mark.parametrize("kind", DEEP)
def test_deep_profiles_are_applied(kind):
    """A profile beyond the first 256 KiB is sought where pixels are wanted."""
    data = DEEP[kind](soft(84, 112))
    header = qp.probe(data)
    assert header.has_icc
    # What can be skipped in front of a short profile costs nothing.
    assert bool(header.icc_profile) is (kind == "many segments")
    sent = prepare(data, encoding="png")
    assert sent.changes == ("sRGB built-in → sRGB", "re-encoded PNG")
    assert np.array_equal(shown(sent.data), in_srgb(data))
    assert not np.array_equal(shown(sent.data), shown(data))
    # Auto sends pixels too, as the model looks at no profile.
    assert "sRGB built-in → sRGB" in prepare(data).changes


@pytest.mark.parametrize("kind", DEEP)
def test_deep_profiles_are_left_alone_on_demand(kind):
    """With color="keep" the numbers go as they are, and so do the bytes."""
    data = DEEP[kind](soft(84, 112))
    assert prepare(data, color="keep").data == data
    other = "webp-lossless" if "PNG" in kind else "png"
    sent = prepare(data, color="keep", encoding=other)
    assert np.array_equal(shown(sent.data), shown(data))
    assert not any("sRGB" in change for change in sent.changes)


def test_deep_profiles_of_large_files_are_applied(tmp_path, monkeypatch):
    """Files that are read piece by piece are searched as deep."""
    monkeypatch.setattr(sources, "_READ_AT_ONCE", 1000)
    model = qp.get_model("qwen-vl-max").replace(max_file_bytes=100_000)
    for number, make in enumerate(DEEP.values()):
        data = make(soft(84, 112))
        path = tmp_path / f"{number}.bin"
        path.write_bytes(data)
        sent = prepare(path, model=model, encoding="png")
        assert "sRGB built-in → sRGB" in sent.changes
        assert np.array_equal(shown(sent.data), in_srgb(data))


def test_deep_profiles_that_mean_srgb_change_nothing():
    """What proves to be sRGB, or to be no profile, is no reason to encode anew."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (
        long_profile(srgb, 500_000),
        np.random.default_rng(2).bytes(500_000),
    ):
        data = saved(soft(84, 112), "JPEG", icc_profile=profile)
        assert not qp.probe(data).icc_profile
        assert prepare(data).data == data


# ------------------------------------------------------------------ types and chroma


@pytest.mark.parametrize(
    ("encoding", "media_type", "name", "label"),
    [
        ("jpeg", "image/jpeg", "JPEG", "JPEG 90 4:2:0"),
        ("png", "image/png", "PNG", "PNG"),
        ("webp", "image/webp", "WEBP", "WebP 90"),
        ("webp-lossless", "image/webp", "WEBP", "WebP lossless"),
    ],
)
@pytest.mark.parametrize("model", ["qwen-vl-max", "qwen-vl-plus", "qwen3-vl-plus"])
def test_types_are_legal_and_labelled(encoding, media_type, name, label, model):
    """Each type is what its label says, and the model refuses none."""
    data = saved(soft(301, 407), "BMP")
    for source, verb in ((data, "re-encoded"), (soft(301, 407), "encoded")):
        sent = prepare(source, model=model, encoding=encoding)
        assert sent.media_type == media_type
        assert sent.data_uri.startswith(f"data:{media_type};base64,")
        report = qp.validate(sent.data_uri, model=model)
        assert report.is_legal
        assert report.findings == ()
        assert report.info.format == name
        with Image.open(io.BytesIO(sent.data)) as image:
            assert image.format == name
            assert image.size == (sent.width, sent.height)
        assert sent.changes[-1] == f"{verb} {label}"
        assert sent.tokens == qp.count_tokens(sent.data, model=model)


@pytest.mark.parametrize("encoding", ["png", "webp-lossless"])
def test_lossless_types_hold_the_exact_pixels(encoding):
    """Resized by Pillow's filter, and then not touched again."""
    data = saved(soft(301, 407), "BMP")
    sent = prepare(data, encoding=encoding)
    right = exact_pixels(data, (sent.height, sent.width))
    assert np.array_equal(shown(sent.data), right)


def test_what_a_model_does_not_read_is_not_sent():
    """A type that is forced on a model which refuses it ends in an error, not there."""
    model = qp.get_model("qwen-vl-max").replace(formats=("JPEG",))
    assert prepare(soft(84, 112), model=model, encoding="jpeg").media_type
    with pytest.raises(IllegalImageError, match="after preparing") as caught:
        prepare(soft(84, 112), model=model, encoding="webp")
    assert [one.code for one in caught.value.findings] == ["format-not-accepted"]


def sampling(jpeg: bytes) -> list[tuple[int, int]]:
    """Read each component's sampling, across and down, from the frame."""
    frame = jpeg.index(b"\xff\xc0")
    factors = [jpeg[frame + 11 + 3 * i] for i in range(jpeg[frame + 9])]
    return [(factor >> 4, factor & 15) for factor in factors]


@pytest.mark.parametrize(
    ("chroma", "luma"), [("4:4:4", (1, 1)), ("4:2:2", (2, 1)), ("4:2:0", (2, 2))]
)
def test_chroma_is_that_asked_for(chroma, luma):
    """The sampling stands in the file and among the changes, in any way through."""
    given = {"encoding": "jpeg", "chroma": chroma}
    for source in (soft(301, 407), saved(soft(301, 407), "PNG"), several("GIF")):
        sent = prepare(source, **given)
        assert sampling(sent.data) == [luma, (1, 1), (1, 1)]
        assert sent.changes[-1].endswith(f"encoded JPEG 90 {chroma}")
    # It holds where bytes have to fit, too; grey has none.
    small = prepare(soft(604, 811), max_bytes=6_000, **given)
    assert sampling(small.data) == [luma, (1, 1), (1, 1)]
    assert len(small.data_uri) <= 6_000
    assert sampling(prepare(soft(301, 407).convert("L"), **given).data) == [(1, 1)]


def test_quality_is_that_asked_for():
    """More quality, more bytes, nearer to the picture; for JPEG and for WebP."""
    for encoding in ("jpeg", "webp"):
        sent = [
            prepare(soft(301, 407), encoding=encoding, quality=quality, report=True)
            for quality in (10, 50, 80, 95)
        ]
        lengths = [one.encoded_size for one in sent]
        assert lengths == sorted(lengths)
        figures = [one.report.psnr for one in sent]
        assert figures == sorted(figures)
        assert len(set(lengths)) == len(set(figures)) == 4


# ---------------------------------------------------------------------- determinism

MANY_OPTIONS = [
    {},
    {"encoding": "webp", "quality": 60, "background": "#336699"},
    {"encoding": "jpeg", "fidelity": "fast", "max_tokens": 60, "report": True},
    {"max_bytes": 9_000, "strip_metadata": True},
    {"encoding": "webp-lossless", "color": "keep", "max_tokens": 40},
]


@pytest.fixture(scope="module")
def mixed() -> list[bytes | np.ndarray]:
    """Give inputs of every way through, some of which are refused."""
    rgba = np.asarray(soft(300, 400).convert("RGBA")).copy()
    rgba[::3, :, 3] = 90
    return [
        *(make() for make in LEGAL.values()),
        *(make(6) for make in STRIPPED.values()),
        *(several("GIF"), several("TIFF"), rgba, DEEP["many segments"](soft(84, 112))),
        saved(soft(1200, 1600), "JPEG", exif=exif(8)),
        LEGAL["JPEG"]()[:-500],
    ]


def outcome(one) -> tuple:
    if isinstance(one, ImageError):
        return type(one), str(one)
    return one.data, one.media_type, one.changes, one.tokens, one.report


@pytest.mark.parametrize("options", MANY_OPTIONS, ids=str)
def test_threads_and_order_do_not_show(options, mixed):
    """1, 2 and 8 workers give the same, whatever stands before and behind."""
    expected = [outcome(one) for one in prepare_many(mixed, workers=1, **options)]
    assert sum(isinstance(one[0], bytes) for one in expected) >= len(mixed) - 3
    for workers in (2, 8):
        found = [
            outcome(one) for one in prepare_many(mixed, workers=workers, **options)
        ]
        assert found == expected
    backwards = prepare_many(mixed[::-1], workers=8, **options)
    assert [outcome(one) for one in backwards][::-1] == expected
    for source, right in itertools.islice(
        zip(mixed, expected, strict=True), 0, None, 4
    ):
        if isinstance(right[0], bytes):
            assert outcome(prepare(source, **options)) == right


# ------------------------------------------------------------------------ no memory


class Heavy(np.ndarray):
    """An array whose copy takes more memory than there is."""

    def copy(self, *_: object) -> np.ndarray:
        """Find no memory."""
        raise MemoryError


def test_no_memory_is_an_error_of_one_image(tmp_path, monkeypatch):
    """An image that there is no memory for neither stops nor hides the others."""
    from qwenvl_prep import decode

    good, big = tmp_path / "good.jpg", tmp_path / "big.png"
    good.write_bytes(LEGAL["JPEG"]())
    big.write_bytes(LEGAL["RGBA PNG"]())
    heavy = np.zeros((60, 60), np.uint8).view(Heavy)

    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decode, "decode", refuse)
    results = list(prepare_many([good, heavy, big, good], workers=2))
    assert [type(one) for one in results] == [
        *(qp.PreparedImage, ImageError, ImageError, qp.PreparedImage),
    ]
    assert "no memory to copy" in str(results[1])
    assert "no memory to prepare" in str(results[2])
    assert "big.png" in str(results[2])


def test_cores_are_counted_everywhere(monkeypatch):
    """Where a process cannot ask what it may use, all cores count, and at least one."""
    from qwenvl_prep.prepare import usable_cores

    assert usable_cores() >= 1
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1
