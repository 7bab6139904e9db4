"""Bytes of the wanted type under the wanted limit."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from qwenvl_prep.data_uri import data_uri_length
from qwenvl_prep.errors import EncodedSizeError

if TYPE_CHECKING:
    from qwenvl_prep.decode import Pixels
    from qwenvl_prep.plan import ImagePlan

__all__ = ["EncodedImage", "encode"]

# Tried in turn below the wanted quality where the bytes do not fit.
_QUALITY_LADDER = (80, 65, 50, 35, 20)

# Rows that are tried as PNG before the whole: 16 of every 128, and half as much again
# as their share may take, because rows of one picture differ.
_SAMPLE_ROWS = 16
_SAMPLE_SHARE = 8
_SAMPLE_SLACK = 1.5

# zlib's own default; 9 takes three times as long for about one percent.
_PNG_LEVEL = 6


@dataclass(frozen=True, slots=True, repr=False)
class EncodedImage:
    """
    A picture as the bytes of a file.

    Attributes
    ----------
    data : bytes
        The file, without any metadata.
    media_type : str
        The label that belongs to it.
    label : str
        How it was encoded, in words, for example ``"JPEG 90 4:2:0"``.
    """

    data: bytes
    media_type: str
    label: str

    @property
    def data_uri_length(self) -> int:
        """Characters of the data URI."""
        return data_uri_length(len(self.data), self.media_type)

    def __repr__(self) -> str:
        return f"<EncodedImage {self.label}, {len(self.data):,} bytes>"


def encode(pixels: Pixels, plan: ImagePlan) -> EncodedImage:
    """
    Encode pixels as the plan asks.

    JPEG keeps full colour resolution (4:4:4) where the source was lossless, because
    thin coloured edges of text suffer first; photos get 4:2:0, which they have had
    since the camera.

    Parameters
    ----------
    pixels : Pixels
        What to encode.
    plan : ImagePlan
        Type, quality and limit.

    Returns
    -------
    EncodedImage
        The same bytes for the same pixels and plan, on every run.

    Raises
    ------
    EncodedSizeError
        If no quality on offer fits the limit.
    """
    # Not by fromarray, which blackens the picture before it fills it.
    picture = Image.new("RGB", (pixels.width, pixels.height), None)
    picture.frombytes(pixels.data)
    is_graphic = plan.info.is_lossless
    encoding = plan.options.encoding
    if encoding == "png":
        encoded = _png(picture)
    else:
        encoded = _jpeg(picture, plan.options.quality, full_colour=is_graphic)
        if encoding == "auto" and is_graphic:
            encoded = _png_up_to(picture, pixels, len(encoded.data)) or encoded
    limit = plan.max_data_uri_bytes
    shortest = encoded.data_uri_length
    if shortest > limit and encoding != "png":
        for quality in _QUALITY_LADDER:
            if quality >= plan.options.quality:
                continue
            encoded = _jpeg(picture, quality, full_colour=False)
            shortest = min(shortest, encoded.data_uri_length)
            if encoded.data_uri_length <= limit:
                break
    if encoded.data_uri_length > limit:
        remedy = "allow JPEG" if encoding == "png" else "lower max_tokens"
        raise EncodedSizeError(
            f"Expected a data URI of at most {limit:,} bytes for {plan.name} but "
            f"the shortest reached is {shortest:,}; {remedy} or raise max_bytes",
            reached=shortest,
            limit=limit,
        )
    return encoded


def _jpeg(picture: Image.Image, quality: int, *, full_colour: bool) -> EncodedImage:
    chroma = "4:4:4" if full_colour else "4:2:0"
    data = _saved(picture, quality=quality, subsampling=chroma)
    return EncodedImage(data, "image/jpeg", f"JPEG {quality} {chroma}")


def _saved(picture: Image.Image, **settings: Any) -> bytes:
    """Save as JPEG without holding up other threads, where the system allows that."""
    if hasattr(os, "memfd_create"):
        # Pillow holds the GIL while it writes to anything but a descriptor. None may
        # be left, or it may be forbidden here; then it takes the common way.
        with (
            contextlib.suppress(OSError),
            os.fdopen(os.memfd_create("jpeg"), "w+b") as file,
        ):
            picture.save(file, "JPEG", **settings)
            file.seek(0)
            return file.read()
    memory = io.BytesIO()
    picture.save(memory, "JPEG", **settings)
    return memory.getvalue()


def _png(picture: Image.Image, file: io.BytesIO | None = None) -> EncodedImage:
    file = file or io.BytesIO()
    picture.save(file, "PNG", compress_level=_PNG_LEVEL)
    return EncodedImage(file.getvalue(), "image/png", "PNG")


def _png_up_to(picture: Image.Image, pixels: Pixels, limit: int) -> EncodedImage | None:
    """Encode as PNG, but give up as soon as it would be longer than *limit* bytes."""
    rows = [
        pixels.data[top : top + _SAMPLE_ROWS]
        for top in range(0, pixels.height, _SAMPLE_ROWS * _SAMPLE_SHARE)
    ]
    sample = np.concatenate(rows)
    share = len(sample) / pixels.height
    try:
        # A photo as PNG is several times its JPEG; some of its rows show that.
        _png(Image.fromarray(sample), _BoundedFile(int(limit * share * _SAMPLE_SLACK)))
        return _png(picture, _BoundedFile(limit))
    except _TooLongError:
        return None


class _TooLongError(Exception):
    """More was written than wanted; never leaves this module."""


class _BoundedFile(io.BytesIO):
    """
    Memory that takes a number of bytes and no more.

    A photo as PNG is many times its JPEG, and compressing it takes most of the time
    of preparing; the first part that is too long is reason enough to stop.
    """

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > self._limit:
            raise _TooLongError
        return super().write(data)
