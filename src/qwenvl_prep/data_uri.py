"""Bytes and a media type to a data URI, and back."""

from __future__ import annotations

import binascii

import pybase64

from qwenvl_prep.errors import SourceError

__all__ = ["data_uri_length", "from_data_uri", "to_data_uri"]


def to_data_uri(data: bytes, media_type: str) -> str:
    """
    Put bytes into a ``data:`` URI.

    Examples
    --------
    >>> to_data_uri(b"abc", "image/png")
    'data:image/png;base64,YWJj'
    """
    return f"data:{media_type};base64,{pybase64.b64encode_as_string(data)}"


def data_uri_length(size: int, media_type: str) -> int:
    """
    Tell how many characters the data URI of *size* bytes has, without making it.

    Examples
    --------
    >>> data_uri_length(3, "image/png") == len("data:image/png;base64,YWJj")
    True
    """
    return len(f"data:{media_type};base64,") + (size + 2) // 3 * 4


def from_data_uri(uri: str) -> tuple[bytes, str]:
    """
    Take a ``data:`` URI apart.

    Returns
    -------
    tuple of (bytes, str)
        The bytes, and the media type of the label in lower case; empty without one.

    Raises
    ------
    SourceError
        If it is not base64, or the base64 is damaged.

    Examples
    --------
    >>> from_data_uri("data:image/png;base64,YWJj")
    (b'abc', 'image/png')
    """
    head, comma, body = uri.partition(",")
    scheme, _, label = head.partition(":")
    media_type, *parameters = label.split(";")
    is_base64 = "base64" in (parameter.strip().lower() for parameter in parameters)
    if scheme.strip().lower() != "data" or not comma or not is_base64:
        raise SourceError(
            f"Expected a data URI of the form data:image/png;base64,... but received "
            f"one that begins {uri[:32]!r}; encode the bytes as base64"
        )
    try:
        # Line breaks are common in hand-made URIs and mean nothing.
        compact = "".join(body.split())
        return pybase64.b64decode(compact, validate=True), media_type.strip().lower()
    except (binascii.Error, ValueError) as exc:
        raise SourceError(
            f"Expected base64 after the comma of the data URI but it is damaged "
            f"({exc}); encode the bytes again"
        ) from exc
