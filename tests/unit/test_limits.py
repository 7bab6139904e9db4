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
    """Prove the four numbers that hold where nobody sets others."""
    assert Limits() == DEFAULT_LIMITS
    assert DEFAULT_LIMITS.max_file_bytes == 536_870_912
    assert DEFAULT_LIMITS.max_pixels == 100_000_000
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
