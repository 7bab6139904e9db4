"""Bytes and a label to a data URI and back, and what is refused on the way."""

from __future__ import annotations

import pytest

import qwenvl_prep as qp
from qwenvl_prep.data_uri import data_uri_length
from qwenvl_prep.errors import SourceError


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"", ""),
        (b"a", "YQ=="),
        (b"ab", "YWI="),
        (b"abc", "YWJj"),
        (b"\xfb\xff\xbf", "+/+/"),
        (b"\x00" * 4, "AAAAAA=="),
    ],
)
def test_bytes_become_a_data_uri(data, body):
    """Prove the URI of known bytes, its length told before, and the way back."""
    uri = qp.to_data_uri(data, "image/png")
    assert uri == f"data:image/png;base64,{body}"
    assert data_uri_length(len(data), "image/png") == len(uri)
    assert qp.from_data_uri(uri) == (data, "image/png")


def test_views_of_bytes_are_taken():
    """Prove that bytearray and memoryview give the same URI as bytes."""
    for data in (bytearray(b"abc"), memoryview(b"abc")):
        assert qp.to_data_uri(data, "image/jpeg") == "data:image/jpeg;base64,YWJj"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("data:image/png;base64,YWJj", (b"abc", "image/png")),
        ("DATA:Image/PNG;Base64,YWJj", (b"abc", "image/png")),
        ("data:;base64,YWJj", (b"abc", "")),
        ("data:image/png;charset=x;base64,YWJj", (b"abc", "image/png")),
        ("data:image/png; base64,YWJj", (b"abc", "image/png")),
        (" data:image/png;base64,YWJj\n", (b"abc", "image/png")),
        ("data:image/png;base64,YW\r\n Jj\t", (b"abc", "image/png")),
        ("data:image/png;base64,", (b"", "image/png")),
    ],
)
def test_forms_of_data_uris(uri, expected):
    """Prove that capitals, parameters, blanks and line breaks are understood."""
    assert qp.from_data_uri(uri) == expected


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "data:",
        "data:image/png",
        "data:image/png;base64",
        "data:image/png,YWJj",
        "data:image/png;base65,YWJj",
        "image/png;base64,YWJj",
        "https://example.com/a.png",
        "base64,YWJj",
        "YWJj",
        "datum:image/png;base64,YWJj",
    ],
)
def test_what_is_no_data_uri_is_refused(uri):
    """Prove that another form is refused with the form expected and its beginning."""
    with pytest.raises(SourceError, match="Expected a data URI of the form") as caught:
        qp.from_data_uri(uri)
    assert repr(uri[:32]) in str(caught.value)


@pytest.mark.parametrize(
    "body",
    ["Y", "YW", "YWJ", "YWJj=", "YWJj====", "Y=Jj", "YWJ*", "YWJjü", "-_-_", "YW%3D"],
)
def test_damaged_base64_is_refused(body):
    """Prove that a cut, a wrong letter or wrong padding is refused, not guessed at."""
    with pytest.raises(SourceError, match="Expected base64 after the comma") as caught:
        qp.from_data_uri(f"data:image/png;base64,{body}")
    assert caught.value.__cause__ is not None


def test_a_refusal_does_not_repeat_the_picture():
    """Prove that the message of a long wrong URI stays short."""
    with pytest.raises(SourceError) as caught:
        qp.from_data_uri("x" * 1_000_000)
    assert len(str(caught.value)) < 300
    with pytest.raises(SourceError) as caught:
        qp.from_data_uri("data:image/png;base64," + "*" * 1_000_000)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("size", "length"),
    [(0, 22), (1, 26), (2, 26), (3, 26), (4, 30), (7_864_302, 10_485_758)],
)
def test_lengths_without_making_the_uri(size, length):
    """Prove the length of a PNG's URI, up to the largest below 10 MB."""
    assert data_uri_length(size, "image/png") == length
    assert data_uri_length(size, "image/jpeg") == length + 1
