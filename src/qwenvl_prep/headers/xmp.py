"""The orientation that an XMP packet states."""

from __future__ import annotations

__all__ = ["xmp_orientation"]

_NAME = b"tiff:Orientation"


def xmp_orientation(packet: bytes) -> int:
    """
    Find the EXIF orientation in an XMP packet.

    Decoders fall back on it where a picture has no EXIF orientation.

    Parameters
    ----------
    packet : bytes
        The packet, as an attribute or as an element: ``tiff:Orientation="6"``
        or ``<tiff:Orientation>6``.

    Returns
    -------
    int
        1 to 8; 1 if none is stated.
    """
    at = packet.find(_NAME)
    while at >= 0:
        at += len(_NAME)
        if packet[at : at + 2] == b'="':
            digit = packet[at + 2 : at + 3]
        elif packet[at : at + 1] == b">":
            digit = packet[at + 1 : at + 2]
        else:
            digit = b""
        if digit.isdigit():
            return int(digit) if b"1" <= digit <= b"8" else 1
        at = packet.find(_NAME, at)
    return 1
