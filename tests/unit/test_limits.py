"""How much of a stranger's file is taken on: the limits and their refusals."""

from __future__ import annotations

import dataclasses

import pytest

from qwenvl_prep import ImageInfo, Limits
from qwenvl_prep.errors import DecodeLimitError
from qwenvl_prep.limits import DEFAULT_LIMITS, decoded_bytes


def header(height: int, width: int, **more) -> ImageInfo:
    return ImageInfo("PNG", "image/png", height, width, **more)


def test_defaults_are_what_the_documentation_says():
    """Prove the five numbers that hold where nobody sets others."""
    assert Limits() == DEFAULT_LIMITS
    assert DEFAULT_LIMITS.max_file_bytes == 536_870_912
    assert DEFAULT_LIMITS.max_pixels == 100_000_000
    assert DEFAULT_LIMITS.max_streamed_pixels == 1_000_000_000
    assert DEFAULT_LIMITS.max_channels == 5
    assert DEFAULT_LIMITS.max_decoded_bytes == 536_870_912


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (header(10, 20), 600),
        (header(10, 20, channels=1), 200),
        (header(10, 20, channels=4, bit_depth=16), 1_600),
        (header(10, 20, channels=1, bit_depth=1), 200),
        (header(10, 20, channels=1, bit_depth=12), 400),
        (header(10, 20, channels=1, bit_depth=32), 800),
        (header(10, 20, is_progressive=True), 1_200),
        (ImageInfo("JPEG", "image/jpeg", 10, 20), 600),
        (ImageInfo("JPEG", "image/jpeg", 10, 20, is_progressive=True), 1_800),
    ],
)
def test_memory_that_decoding_needs(info, expected):
    """Prove the estimate in bytes: samples, depth, and what progressive adds."""
    assert decoded_bytes(info) == expected


@pytest.mark.parametrize(
    ("limits", "fits", "above", "name", "actual"),
    [
        ({"max_pixels": 200}, (10, 20), (3, 67), "max_pixels", 201),
        ({"max_pixels": 200}, (1, 200), (201, 1), "max_pixels", 201),
        ({"max_decoded_bytes": 600}, (10, 20), (3, 67), "max_decoded_bytes", 603),
    ],
)
def test_sizes_at_a_limit_and_above(limits, fits, above, name, actual):
    """Prove that a header at the limit is taken and the next one refused by name."""
    own = Limits(**limits)
    own.check_header(header(*fits))
    with pytest.raises(DecodeLimitError, match=f"raise Limits.{name}") as caught:
        own.check_header(header(*above))
    assert caught.value.limit_name == name
    assert caught.value.actual == actual
    assert caught.value.limit == next(iter(limits.values()))


def test_channels_at_the_limit_and_above():
    """Prove that five samples a pixel are taken and a thousand bands refused."""
    DEFAULT_LIMITS.check_header(header(10, 10, channels=5))
    with pytest.raises(DecodeLimitError, match="Expected at most 5") as caught:
        DEFAULT_LIMITS.check_header(header(10, 10, channels=8_224))
    assert caught.value.limit_name == "max_channels"
    assert (caught.value.actual, caught.value.limit) == (8_224, 5)


def test_file_sizes_at_the_limit_and_above():
    """Prove that a file of the largest size is taken and one byte more refused."""
    own = Limits(max_file_bytes=1_000)
    own.check_file_size(0, "a.png")
    own.check_file_size(1_000, "a.png")
    with pytest.raises(DecodeLimitError, match=r"1,000 bytes in a\.png") as caught:
        own.check_file_size(1_001, "a.png")
    assert caught.value.limit_name == "max_file_bytes"
    assert (caught.value.actual, caught.value.limit) == (1_001, 1_000)
    assert isinstance(caught.value, ValueError)


def large(file_format: str, height: int = 14_000, width: int = 20_000, **more):
    return ImageInfo(file_format, "", height, width, encoded_size=90_000_000, **more)


STREAMED = {
    "JPEG": large("JPEG"),
    "turned JPEG": large("JPEG", orientation=6),
    "grey JPEG": large("JPEG", channels=1, colour="grey"),
    "PNG": large("PNG"),
    "palette PNG": large("PNG", channels=4, colour="palette", has_alpha=True),
    "RGBA16 PNG": large("PNG", channels=4, has_alpha=True, bit_depth=16),
    "TIFF": large("TIFF"),
    "tiled TIFF": large("TIFF", rows_at_once=256),
}

WHOLE = {
    "progressive JPEG": large("JPEG", is_progressive=True),
    "CMYK JPEG": large("JPEG", channels=4, colour="cmyk"),
    "interlaced PNG": large("PNG", is_progressive=True),
    "animated PNG": large("PNG", n_frames=1_001),
    "WebP": large("WEBP"),
    "BMP": large("BMP"),
    "TIFF with alpha": large("TIFF", channels=4, has_alpha=True),
    "TIFF of one tile": large("TIFF", rows_at_once=14_000),
    "CMYK TIFF": large("TIFF", channels=4, colour="cmyk"),
    "pixels": large("PIXELS"),
}


@pytest.mark.parametrize("info", STREAMED.values(), ids=STREAMED.keys())
def test_what_is_streamed_may_be_larger_where_it_is_resized(info):
    """Prove that 280 megapixels pass row by row, and never as a whole picture."""
    DEFAULT_LIMITS.check_header(info, is_whole=False)
    with pytest.raises(DecodeLimitError, match=r"Limits\.max_pixels") as caught:
        DEFAULT_LIMITS.check_header(info)
    assert (caught.value.actual, caught.value.limit) == (280_000_000, 100_000_000)


@pytest.mark.parametrize("info", WHOLE.values(), ids=WHOLE.keys())
def test_what_is_decoded_in_one_piece_may_not(info):
    """Prove that the limit of one piece binds for what no decoder streams."""
    for is_whole in (True, False):
        with pytest.raises(DecodeLimitError) as caught:
            DEFAULT_LIMITS.check_header(info, is_whole=is_whole)
        assert caught.value.limit_name == "max_pixels"


def test_streamed_pictures_have_a_limit_too():
    """Prove that a gigapixel passes, one row more does not, and the limit is named."""
    DEFAULT_LIMITS.check_header(large("JPEG", 20_000, 50_000), is_whole=False)
    with pytest.raises(DecodeLimitError) as caught:
        DEFAULT_LIMITS.check_header(large("JPEG", 20_001, 50_000), is_whole=False)
    assert caught.value.limit_name == "max_streamed_pixels"
    assert (caught.value.actual, caught.value.limit) == (1_000_050_000, 1_000_000_000)


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (large("JPEG"), 20_000 * 3 * 1_203),
        (large("PNG", channels=4, bit_depth=16), 20_000 * 8 * 1_203),
        (large("JPEG", 100, 200), 100 * 200 * 3),
        # A strip of a TIFF may be most of the file, and is held compressed.
        (large("TIFF"), 20_000 * 3 * 1_203 + 90_000_000),
        (large("TIFF", rows_at_once=512), 20_000 * 3 * 2_736 + 90_000_000),
        (large("TIFF", 3_000, 4_000, rows_at_once=2_999), 72_000_000 + 90_000_000),
    ],
)
def test_memory_that_streaming_needs(info, expected):
    """Prove the estimate: some rows, never more than the picture, tiles thrice."""
    assert decoded_bytes(info, is_whole=False) == expected


def test_tall_tiles_are_refused_for_their_memory():
    """Prove that a streamed TIFF counts for the tiles that are held at once."""
    with pytest.raises(DecodeLimitError) as caught:
        DEFAULT_LIMITS.check_header(large("TIFF", rows_at_once=8_192), is_whole=False)
    assert caught.value.limit_name == "max_decoded_bytes"


def test_progressive_pictures_count_for_what_they_keep():
    """Prove that a progressive JPEG is refused where the plain one still fits."""
    own = Limits(max_decoded_bytes=1_000)
    plain = ImageInfo("JPEG", "image/jpeg", 10, 20)
    own.check_header(plain)
    with pytest.raises(DecodeLimitError, match="max_decoded_bytes") as caught:
        own.check_header(dataclasses.replace(plain, is_progressive=True))
    assert caught.value.actual == 1_800


def test_a_bomb_is_refused_by_its_header():
    """Prove that the defaults refuse what a few bytes can announce."""
    with pytest.raises(DecodeLimitError):
        DEFAULT_LIMITS.check_header(header(65_535, 65_535))
    with pytest.raises(DecodeLimitError):
        DEFAULT_LIMITS.check_header(header(2**31 - 1, 2**31 - 1, bit_depth=16))
    with pytest.raises(DecodeLimitError) as caught:
        DEFAULT_LIMITS.check_header(header(9_000, 9_000, channels=4, bit_depth=16))
    assert caught.value.limit_name == "max_decoded_bytes"
    assert caught.value.actual == 648_000_000


def test_limits_are_frozen_and_named():
    """Prove that limits cannot be changed in place nor given by position."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULT_LIMITS.max_pixels = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        Limits(1)  # type: ignore[misc]
