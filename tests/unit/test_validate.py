"""Each rule of the API has a finding with a stable code; all are found at once."""

from __future__ import annotations

import base64
import dataclasses
import io
import struct
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from qwenvl_prep import Finding, ImageInfo, get_model, validate
from qwenvl_prep.errors import UnknownModelError
from qwenvl_prep.validate import find

MAX = get_model("qwen-vl-max")
PLUS3 = get_model("qwen3-vl-plus")


def info(height=100, width=100, **fields) -> ImageInfo:
    values = {"format": "PNG", "media_type": "image/png", "encoded_size": 1_000}
    return ImageInfo(height=height, width=width, **{**values, **fields})


def codes(findings) -> list[str]:
    return [finding.code for finding in findings]


def only(findings) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


# -------------------------------------------------------------------- single rules


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (11, 11, []),
        (10, 11, ["side-too-small"]),
        (11, 10, ["side-too-small"]),
        (10, 10, ["side-too-small"]),
        (1, 1, ["side-too-small"]),
        (11, 2_200, []),
        (2_200, 11, []),
        (11, 2_201, ["aspect-ratio"]),
        (2_201, 11, ["aspect-ratio"]),
        (29, 5_615, []),
        (10, 2_001, ["side-too-small", "aspect-ratio"]),
        (10, 2_000, ["side-too-small"]),
    ],
)
def test_sides_and_ratio_have_exact_limits(height, width, expected):
    """11 px and 200:1 are legal; 10 px and one pixel beyond 200:1 are not."""
    assert codes(find(info(height, width), MAX)) == expected


def test_side_too_small_carries_its_numbers():
    """The finding says which side was found, which is needed, and who can mend it."""
    finding = only(find(info(10, 30), MAX))
    assert (finding.severity, finding.is_mendable) == ("error", False)
    assert (finding.actual, finding.limit) == (10, 11)
    assert "10 × 30" in finding.message
    assert "pad" in finding.remedy


def test_aspect_ratio_carries_its_numbers():
    """The finding gives the ratio and what helps against it."""
    finding = only(find(info(20, 5_000), MAX))
    assert (finding.severity, finding.is_mendable) == ("error", False)
    assert (finding.actual, finding.limit) == ("250.0", 200)
    assert "20 × 5000" in finding.message
    assert "crop" in finding.remedy


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # 22 characters of head and 4 for every 3 bytes: 10,485,760 at most.
        (7_864_302, []),
        (7_864_303, ["data-uri-too-long"]),
        (10_485_760, ["data-uri-too-long"]),
        (10_485_761, ["file-too-large", "data-uri-too-long"]),
    ],
)
def test_bytes_have_exact_limits(size, expected):
    """10,485,760 bytes are legal for the file and for the data URI, one more is not."""
    assert codes(find(info(encoded_size=size), MAX)) == expected


def test_byte_findings_carry_their_numbers():
    """Both byte findings tell size and limit, and that preparing mends them."""
    large, long = find(info(encoded_size=12_000_000), MAX)
    assert (large.actual, large.limit) == (12_000_000, 10_485_760)
    assert (long.actual, long.limit) == (16_000_022, 10_485_760)
    assert large.is_mendable
    assert long.is_mendable


@pytest.mark.parametrize(
    ("file_format", "seed", "later"),
    [
        ("BMP", True, True),
        ("DIB", True, False),
        ("ICNS", True, False),
        ("ICO", True, False),
        ("JPEG", True, True),
        ("JPEG2000", True, False),
        ("PNG", True, True),
        ("SGI", True, False),
        ("TIFF", True, True),
        ("WEBP", True, True),
        ("HEIF", False, True),
        ("GIF", False, False),
        ("AVIF", False, False),
    ],
)
def test_formats_are_legal_by_model(file_format, seed, later):
    """Which type is legal depends on the model; what is not is converted."""
    for model, is_legal in ((MAX, seed), (PLUS3, later)):
        findings = find(info(format=file_format), model)
        if is_legal:
            assert findings == ()
            continue
        finding = only(findings)
        assert finding.code == "format-not-accepted"
        assert (finding.severity, finding.is_mendable) == ("error", True)
        assert finding.actual == file_format
        assert finding.limit == ", ".join(model.formats)


def test_recommended_pixels_are_a_warning_only():
    """Above 12 million pixels there is advice, no refusal; the limit itself passes."""
    assert find(info(3_000, 4_000), MAX) == ()
    finding = only(find(info(3_000, 4_001), MAX))
    assert (finding.code, finding.severity) == ("above-recommended-pixels", "warning")
    assert (finding.actual, finding.limit) == (12_003_000, 12_000_000)
    first = get_model("qwen-vl-plus")
    assert find(info(1_024, 1_024), first) == ()
    assert only(find(info(1_024, 1_025), first)).limit == 1_048_576


@pytest.mark.parametrize(
    ("fields", "code", "actual"),
    [
        ({"orientation": 6}, "not-upright", 6),
        ({"has_alpha": True}, "transparent", None),
        ({"n_frames": 3}, "many-frames", 3),
    ],
)
def test_what_the_model_would_see_wrongly_is_a_warning(fields, code, actual):
    """Turned, transparent and moving pictures are legal, but seen otherwise."""
    finding = only(find(info(**fields), MAX))
    assert (finding.code, finding.severity) == (code, "warning")
    assert (finding.actual, finding.is_mendable) == (actual, True)


@pytest.mark.parametrize(
    ("suffix", "file_format", "expected"),
    [
        (".png", "PNG", []),
        (".apng", "PNG", []),
        (".jpg", "PNG", ["suffix-mismatch"]),
        (".jfif", "JPEG", []),
        (".mpo", "JPEG", []),
        (".dib", "BMP", []),
        (".bmp", "DIB", []),
        (".j2c", "JPEG2000", []),
        (".bw", "SGI", []),
        (".tiff", "TIFF", []),
        (".tif", "WEBP", ["suffix-mismatch"]),
        ("", "PNG", []),
        (".dat", "PNG", []),
        (".bak", "JPEG", []),
    ],
)
def test_suffix_only_warns(suffix, file_format, expected):
    """A suffix of another type is a warning; an unknown one means nothing."""
    findings = find(info(format=file_format), MAX, suffix=suffix)
    assert codes(findings) == expected
    assert all(finding.severity == "warning" for finding in findings)


def test_label_of_data_uri_must_match():
    """A data URI with the label of another type is refused by the API."""
    finding = only(find(info(), MAX, label="image/jpeg"))
    assert (finding.code, finding.severity) == ("label-mismatch", "error")
    assert (finding.actual, finding.limit) == ("image/jpeg", "image/png")
    assert finding.is_mendable
    assert find(info(), MAX, label="image/png") == ()
    assert find(info(), MAX, label="") == ()


def test_pixels_have_no_file_rules():
    """An array has no bytes yet, so only sides and ratio are asked of it."""
    report = validate(np.zeros((5_000, 5_000), np.uint8))
    assert report.is_legal
    assert codes(report.findings) == ["above-recommended-pixels"]


# ------------------------------------------------------------------------ together


def test_all_findings_come_at_once():
    """One look tells everything: errors first, then warnings, in a fixed order."""
    everything = info(
        9,
        20_000_000,
        format="GIF",
        media_type="image/gif",
        encoded_size=20_000_000,
        orientation=3,
        has_alpha=True,
        n_frames=2,
    )
    found = find(everything, MAX, suffix=".png", label="image/png")
    assert codes(found) == [
        "side-too-small",
        "aspect-ratio",
        "format-not-accepted",
        "file-too-large",
        "data-uri-too-long",
        "label-mismatch",
        "above-recommended-pixels",
        "not-upright",
        "transparent",
        "many-frames",
        "suffix-mismatch",
    ]
    severities = [finding.severity for finding in found]
    assert severities == ["error"] * 6 + ["warning"] * 5
    for finding in found:
        assert finding.message
        assert finding.remedy


def test_report_sums_up(photo, encoded):
    """Warnings leave a file legal; a mendable error leaves it mendable only."""
    legal = validate(encoded(photo, "PNG"))
    assert (legal.is_legal, legal.is_mendable, legal.findings) == (True, True, ())
    gif = validate(encoded(photo, "GIF"))
    assert (gif.is_legal, gif.is_mendable) == (False, True)
    small = validate(np.zeros((10, 50), np.uint8))
    assert (small.is_legal, small.is_mendable) == (False, False)
    turned = Image.Exif()
    turned[0x0112] = 8
    warned = validate(encoded(photo, "JPEG", exif=turned))
    assert warned.is_legal
    assert codes(warned.findings) == ["not-upright"]


def test_one_unmendable_error_outweighs_mendable_ones(photo, encoded):
    """A GIF that is too thin cannot be mended, though its type could."""
    report = validate(encoded(photo.resize((10, 50)), "GIF"))
    assert codes(report.findings) == ["side-too-small", "format-not-accepted"]
    assert not report.is_mendable


# ------------------------------------------------------------------------- sources


def test_file_reports_suffix_and_content(tmp_path, photo, encoded):
    """A JPEG under a PNG's name is a legal JPEG with a warning."""
    path = tmp_path / "photo.PNG"
    path.write_bytes(encoded(photo, "JPEG"))
    report = validate(path)
    assert report.is_legal
    assert codes(report.findings) == ["suffix-mismatch"]
    assert report.info.format == "JPEG"
    assert report.name == str(path)


def test_data_uri_reports_its_label(photo, encoded):
    """A data URI whose label lies is illegal as it stands, and mendable."""
    body = base64.b64encode(encoded(photo, "PNG")).decode()
    report = validate(f"data:image/webp;base64,{body}")
    assert codes(report.findings) == ["label-mismatch"]
    assert (report.is_legal, report.is_mendable) == (False, True)
    assert validate(f"data:image/png;base64,{body}").findings == ()


def test_real_file_above_ten_megabytes(encoded):
    """A padded PNG of 10,485,761 bytes is found too large by its real length."""
    picture = encoded(Image.new("RGB", (50, 50)), "PNG")
    # An ancillary chunk before the last brings it to the length.
    missing = 10_485_761 - len(picture) - 12
    chunk = b"prVt" + bytes(missing)
    filler = struct.pack(">I", missing) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = picture[:-12] + filler + picture[-12:]
    assert len(data) == 10_485_761
    report = validate(data)
    assert codes(report.findings) == ["file-too-large", "data-uri-too-long"]
    assert report.is_mendable


@pytest.mark.parametrize(
    ("data", "code", "word"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "not-an-image", "PDF"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not-an-image", "SVG"),
        (b"just some words\n" * 10, "not-an-image", "text"),
        (b"", "not-an-image", "empty"),
        (b"8BPS\0\1" + bytes(60), "format-unreadable", "PSD"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "damaged", "PNG"),
    ],
)
def test_what_cannot_be_read_is_a_finding(data, code, word):
    """No exception: the report says what the bytes are, and that nothing mends it."""
    report = validate(data)
    finding = only(report.findings)
    assert (finding.code, finding.severity) == (code, "error")
    assert word.lower() in finding.message.lower()
    assert (report.info, report.is_legal, report.is_mendable) == (None, False, False)


def test_missing_file_is_a_finding(tmp_path):
    """A file that is not there is reported like anything else."""
    report = validate(tmp_path / "none.png")
    assert codes(report.findings) == ["unreadable-source"]
    assert report.info is None


def test_float_array_is_a_finding():
    """Floats have no one range; the finding says so."""
    report = validate(np.zeros((50, 50, 3)))
    assert codes(report.findings) == ["not-an-image"]
    assert "float64" in report.findings[0].message


def test_broken_data_uri_does_not_fill_the_report():
    """The name of a data URI that cannot be read is cut short."""
    report = validate("data:image/png;base64," + "@" * 100_000)
    assert codes(report.findings) == ["unreadable-source"]
    assert len(report.name) <= 60
    assert len(repr(report)) < 200


def test_unknown_model_and_wrong_type_are_raised():
    """A mistake in the call is no finding."""
    with pytest.raises(UnknownModelError):
        validate(np.zeros((50, 50), np.uint8), model="qwen-vl-mega")
    with pytest.raises(TypeError):
        validate(None)


def test_profile_of_ones_own_is_used():
    """Limits come from the profile that is given, not from numbers in the code."""
    strict = MAX.replace(name="mine", min_side=101, max_ratio=2, formats=("BMP",))
    found = find(info(100, 300), strict)
    assert codes(found) == ["side-too-small", "aspect-ratio", "format-not-accepted"]


def test_findings_are_values():
    """A finding is frozen, hashable and compares by value."""
    first, second = (only(find(info(10, 30), MAX)) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.code = "other"


def test_repr_lists_the_codes():
    """The report's repr is one line with the codes."""
    report = validate(np.zeros((10, 50), np.uint8))
    assert repr(report) == "<ValidationReport pixels for qwen-vl-max: side-too-small>"
    legal = validate(np.zeros((20, 50), np.uint8))
    assert repr(legal) == "<ValidationReport pixels for qwen-vl-max: nothing found>"


def test_stream_is_put_back(photo, encoded):
    """Validating a file object leaves it where it stood."""
    file = io.BytesIO(encoded(photo, "PNG"))
    validate(file)
    assert file.tell() == 0


def test_large_webp_is_not_taken_by_newer_models():
    """The types that are legal depend on the model and on the size of the image."""
    info = ImageInfo("WEBP", "image/webp", 3000, 4000, encoded_size=1000)
    newer = find(info, get_model("qwen3-vl-plus"))
    assert [f.code for f in newer if f.severity == "error"] == ["format-not-accepted"]
    assert newer[0].limit == "JPEG, PNG"
    assert newer[0].is_mendable
    seed = find(info, get_model("qwen-vl-max"))
    assert [f.code for f in seed if f.severity == "error"] == []


def test_picture_above_the_limits_is_told_of():
    """What preparing refuses for its size is a finding, though the API takes it."""
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13)
    body = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data += body + struct.pack(">I", zlib.crc32(body))
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    report = validate(data)
    codes = [finding.code for finding in report.findings]
    assert "above-limits" in codes
    assert report.is_legal


def test_heic_is_mendable_only_where_it_can_be_read(monkeypatch):
    """Without its extra, nothing is promised that preparing would refuse."""
    info = ImageInfo("HEIF", "image/heic", 300, 400, encoded_size=1000)
    model = get_model("qwen-vl-max")
    assert find(info, model)[0].is_mendable
    module = sys.modules["qwenvl_prep.validate"]
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    assert not find(info, model)[0].is_mendable
    assert "pillow-heif" in find(info, model)[0].remedy
