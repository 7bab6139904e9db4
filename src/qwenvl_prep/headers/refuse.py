"""The sentences with which a header is refused."""

from __future__ import annotations

from qwenvl_prep.errors import DamagedImageError, UnsupportedFormatError

__all__ = ["damaged", "unsupported"]


def damaged(name: str, expected: str, received: str) -> DamagedImageError:
    """Build the error for a header that contradicts its own format."""
    return DamagedImageError(
        f"Expected {expected} in the {name} header but received {received}; "
        "the file is damaged, obtain it again or save it anew",
        format=name,
    )


def unsupported(name: str, what: str) -> UnsupportedFormatError:
    """Build the error for a picture of a type that is not read here."""
    return UnsupportedFormatError(
        f"Expected a picture of a supported type but received {what}; "
        "convert it to PNG or JPEG first",
        format=name,
        extra=None,
    )
