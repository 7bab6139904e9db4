"""The end of a JPEG's scan, beside a regular expression that says the same."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qwenvl_prep._native.scan import end_of_scan

MARKER = re.compile(rb"\xff[\x01-\xfe]")


def stated(data: bytes, start: int) -> tuple[int, int]:
    """Say it again, one marker after the other."""
    restarts = 0
    while found := MARKER.search(data, start):
        if data[found.start() + 1] != 0xD0 + restarts % 8:
            return found.start(), restarts
        restarts += 1
        start = found.end()
    return -1, restarts


# What means something in a scan, so that it turns up next to each other.
telling = st.sampled_from(
    [b"\xff", b"\0", b"\xff\0", b"\xff\xd0", b"\xff\xd1", b"\xff\xd9", bytes(63), b"a"]
)


@given(st.lists(telling, max_size=30).map(b"".join), st.integers(0, 70))
@settings(max_examples=500)
@example(b"", 0)
@example(b"\xff", 0)
@example(b"\xff\xd0", 0)
@example(b"\xff\xd0\xff", 0)
@example(b"\xff\xff\0\xff\xd9", 0)
def test_end_is_the_regular_expressions(data, start):
    """Stuffing, fill and restarts are passed, whatever stands beside them."""
    assert end_of_scan(data, start) == stated(data, start)


@pytest.mark.parametrize("length", range(135))
def test_marker_is_found_at_every_distance(length):
    """The blocks in which bytes are looked at show nowhere, nor does their end."""
    code = b"\xff\0" * (length // 2) + b"\x7f" * (length % 2)
    assert end_of_scan(code + b"\xff\xd9", 0) == (length, 0)
    assert end_of_scan(code + b"\xff\xd9" + bytes(70), 0) == (length, 0)
    assert end_of_scan(code, 0) == (-1, 0)
    assert end_of_scan(code + b"\xff", 0) == (-1, 0)


def test_restarts_count_in_turn():
    """Eight in turn begin anew; one out of turn ends the scan where it stands."""
    turns = b"".join(b"ab\xff" + bytes((0xD0 + i % 8,)) for i in range(20))
    assert end_of_scan(turns + b"\xff\xd9", 0) == (80, 20)
    assert end_of_scan(b"ab\xff\xd1\xff\xd9", 0) == (2, 0)
    assert end_of_scan(turns + b"\xff\xd3\xff\xd9", 0) == (80, 20)


def test_bounds_are_kept():
    """A start behind the end finds nothing, one before the beginning is refused."""
    assert end_of_scan(b"\xff\xd9", 1) == (-1, 0)
    assert end_of_scan(b"\xff\xd9", 1 << 60) == (-1, 0)
    with pytest.raises(ValueError, match="0 or more but received -1"):
        end_of_scan(b"\xff\xd9", -1)
    for data in ("text", None):
        with pytest.raises(TypeError):
            end_of_scan(data, 0)
