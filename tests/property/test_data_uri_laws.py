"""Laws of data URIs: back and forth, lengths, and one kind of refusal."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import qwenvl_prep as qp
from qwenvl_prep.data_uri import data_uri_length
from qwenvl_prep.errors import SourceError

MEDIA_TYPES = st.sampled_from(["image/png", "image/jpeg", "image/bmp", "image/x-icon"])
GARBAGE = st.one_of(
    st.text(),
    st.text("AYJjw+/=-_*% \n", max_size=20),
    st.builds("data:{},{}".format, st.text(max_size=20), st.text(max_size=20)),
    st.builds("data:image/png;base64,{}".format, st.text(max_size=40)),
    st.builds("data:image/png;base64,{}".format, st.text("AYJjw+/=-_*", max_size=20)),
)


@given(data=st.binary(max_size=2000), media_type=MEDIA_TYPES)
def test_data_uri_round_trips(data, media_type):
    """Prove that what goes into a URI comes out of it, bytes and label."""
    uri = qp.to_data_uri(data, media_type)
    assert qp.from_data_uri(uri) == (data, media_type)
    # The standard library reads it alike.
    assert base64.b64decode(uri.partition(",")[2], validate=True) == data
    assert uri.isascii()


@given(data=st.binary(max_size=2000), media_type=st.text(max_size=30))
def test_length_is_told_exactly(data, media_type):
    """Prove that the length told beforehand is the length of the URI."""
    uri = qp.to_data_uri(data, media_type)
    assert data_uri_length(len(data), media_type) == len(uri)


@given(
    data=st.binary(max_size=300),
    cuts=st.lists(st.integers(0, 400), max_size=8),
    blank=st.sampled_from(["\n", "\r\n", " ", "\t"]),
)
def test_blanks_inside_mean_nothing(data, cuts, blank):
    """Prove that a URI broken into lines anywhere gives the same bytes."""
    body = base64.b64encode(data).decode()
    for cut in sorted(cuts, reverse=True):
        body = body[:cut] + blank + body[cut:]
    assert qp.from_data_uri(f"data:image/png;base64,{body}") == (data, "image/png")


@given(uri=GARBAGE)
@example(uri="")
@example(uri="data:image/png;base64,\ud800")
@example(uri="data:image/png;base64,YWJj=")
@example(uri="data:;;;base64,,,")
@example(uri="\x00data:image/png;base64,YWJj")
def test_garbage_is_a_source_error_or_bytes(uri):
    """Prove that no text whatever ends in another error than SourceError."""
    try:
        data, media_type = qp.from_data_uri(uri)
    except SourceError:
        return
    # What is taken is a data URI, and its bytes are those of its base64.
    head, _, body = uri.partition(",")
    assert head.strip().lower().startswith("data")
    assert base64.b64encode(data).decode() == "".join(body.split())
    assert media_type == media_type.lower()


@given(data=st.binary(min_size=1, max_size=300), place=st.integers(0, 10_000))
def test_a_letter_lost_is_noticed(data, place):
    """Prove that base64 with one letter cut out is refused."""
    body = base64.b64encode(data).decode().rstrip("=")
    place %= len(body)
    damaged = body[:place] + body[place + 1 :]
    padding = "=" * (len(base64.b64encode(data)) - len(body))
    with pytest.raises(SourceError):
        qp.from_data_uri(f"data:image/png;base64,{damaged}{padding}")
