"""What the header bytes of an input say, without decoding a pixel."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwenvl_prep._native.headers import sides_of_plain
from qwenvl_prep.errors import FrameError, ImageError, NotAnImageError
from qwenvl_prep.geometry import integer
from qwenvl_prep.headers import UNKNOWN_SIZE, HeaderReader, ImageInfo, read_header
from qwenvl_prep.headers.refuse import as_frame, check_frame
from qwenvl_prep.sources import (
    OPEN_FLAGS,
    LargeFile,
    as_source,
    can_seek_to_end,
    is_url,
    open_file_header,
    open_header,
)

if TYPE_CHECKING:
    from qwenvl_prep.remote import Fetcher
    from qwenvl_prep.sources import Source

__all__ = [
    "ImageInfo",
    "plain_sides",
    "probe",
    "probe_address",
    "probe_file",
    "probe_prefix",
    "with_profile",
]

# The longest profile that is used is of 1 MiB; as much may stand in front of it.
_DEEP = 2 * 1024 * 1024


def probe(
    source: Any, *, frame: int | None = None, fetch: bool | Fetcher = False
) -> ImageInfo:
    """
    Read what the header of an image says.

    Parameters
    ----------
    source : str, path, bytes-like, binary file, Pillow image or array
        See :func:`qwenvl_prep.sources.as_source`.  Of a path, and of a file object
        that can seek, only the header's bytes are read, up to 256 KiB here and there;
        of a file object that cannot, all bytes, for they could not be put back.
    frame : int, optional
        Which frame of an animation, page of a TIFF, picture of an icon, of an MPO or
        of a HEIF is described, counted from 0 in the order of the file.  Without it:
        the first one, the largest of an icon, the primary one of a HEIF.  A Pillow
        image is taken where it stands, so only that frame can be asked for; of an
        array, frame 0.
    fetch : bool or Fetcher
        Whether *source* may be an ``http`` or ``https`` address, whose header is then
        read by a few ranged requests; with a :class:`qwenvl_prep.Fetcher` by that one,
        which keeps its connections for the next.

    Returns
    -------
    ImageInfo
        Type, size, orientation, alpha, depth, frames; taken from the content only.
        A frame of an animation is the whole canvas, not the part that changes.

    Raises
    ------
    SourceError
        If the input cannot be read.
    NotAnImageError
        If it is something else: a PDF, a video, text.
    UnsupportedFormatError
        If it is a picture of a type that is not read here.
    DamagedImageError
        If the header is broken or ends too early.
    FrameError
        If there is no such frame.  Frames are counted as far as 256 KiB of header
        bytes reach, which for a GIF are some 5 MB of the file.

    Examples
    --------
    >>> import numpy as np
    >>> probe(np.zeros((20, 30, 3), np.uint8))
    <ImageInfo PIXELS 20x30>
    """
    if fetch and is_url(source):
        return probe_address(source, fetch, frame=frame)
    if can_seek_to_end(source):
        with open_file_header(source) as reader:
            return read_header(reader, frame)
    source = as_source(source)
    if source.pixels is not None:
        return _probe_pixels(source, frame)
    with open_header(source) as reader:
        return read_header(reader, frame)


def probe_address(
    url: str, fetch: bool | Fetcher, *, frame: int | None = None, tail: bool = True
) -> ImageInfo:
    """Read what the header behind an address says; see :func:`probe`."""
    from qwenvl_prep.remote import Fetcher  # loads a library for HTTP

    if isinstance(fetch, Fetcher):
        return fetch.probe(url, frame=frame, tail=tail)
    with Fetcher() as fetcher:
        return fetcher.probe(url, frame=frame, tail=tail)


def probe_prefix(
    data: bytes | bytearray | memoryview,
    *,
    size: int | None = None,
    tail: bool = True,
) -> ImageInfo:
    """
    Read what the header of an image says, from the first bytes of its file.

    For who has a file bit by bit: from a network, or out of an archive.

    Parameters
    ----------
    data : bytes-like
        The first bytes, or all of them.
    size : int, optional
        Length of the whole file in bytes.  Not known if left out; whoever comes to
        the end of the file then knows it, and has to tell.
    tail : bool, default: True
        Whether what stands behind the pixels is wanted too: the orientation of some
        PNG and WebP files, and the number of frames of a GIF, WebP or TIFF, for which
        nearly the whole file is needed.  False is enough to count tokens, because the
        sides are the same; orientation and frames then tell only what stands in front.

    Returns
    -------
    ImageInfo
        As :func:`probe` gives for the whole file; ``encoded_size`` is *size*, or 0 if
        that is not known.

    Raises
    ------
    NeedMoreBytesError
        If *data* is too short; ``needed`` says how long it has to be to go on.  A call
        with so many bytes gives an answer or asks for more than that, but for a JPEG
        of a camera rarely more than twice.
    NotAnImageError, UnsupportedFormatError, DamagedImageError
        As for :func:`probe`.
    TypeError, ValueError
        If *size* is no int, or smaller than *data*.

    Examples
    --------
    >>> from qwenvl_prep import probe_prefix
    >>> from qwenvl_prep.errors import NeedMoreBytesError
    >>> file = bytes.fromhex("01da 0001 0003 0028 0018 0003") + bytes(9_000)
    >>> try:
    ...     probe_prefix(file[:500], size=len(file))
    ... except NeedMoreBytesError as error:
    ...     error.needed
    4096
    >>> probe_prefix(file[:4096], size=len(file))
    <ImageInfo SGI 24x40>
    """
    length = memoryview(data).nbytes
    if size is not None:
        size = integer("size", size)
        if not length <= size < UNKNOWN_SIZE:
            raise ValueError(
                f"Expected a size of at least the {length:,} bytes that are here but "
                f"received {size:,}"
            )
    reader = HeaderReader.from_prefix(data, size=size, tail=tail)
    info = read_header(reader)
    return dataclasses.replace(info, encoded_size=0) if size is None else info


def plain_sides(source: Any) -> tuple[int, int] | None:
    """
    Give the sides that :func:`probe` would find, of a plain file and fast.

    Returns
    -------
    tuple of (int, int) or None
        ``(height, width)`` in pixels as stored, of a path to a JPEG, PNG, WebP, BMP
        or TIFF with nothing unusual in its header.  None for everything else, what is
        broken or cannot be opened included: :func:`probe` tells why.
    """
    # A colon is in each text that is a data URI or an address.
    if not isinstance(source, Path) and (type(source) is not str or ":" in source):
        return None
    try:
        descriptor = os.open(source, OPEN_FLAGS)
    except (OSError, ValueError):
        return None
    try:
        return sides_of_plain(descriptor)
    finally:
        os.close(descriptor)


def probe_file(file: bytes | LargeFile, *, frame: int | None = None) -> ImageInfo:
    """Read what the header of an opened file says; see :func:`probe`."""
    if isinstance(file, bytes):
        return read_header(HeaderReader.from_bytes(file), frame)
    return read_header(file.header(), frame)


def with_profile(file: bytes | LargeFile | Source, info: ImageInfo) -> ImageInfo:
    """Add a colour profile that lies deeper in a file than headers are read."""
    if not info.has_icc or info.icc_profile or info.format == "PIXELS":
        return info
    if isinstance(file, bytes):
        deep = read_header(HeaderReader.from_bytes(file, budget=_DEEP), info.frame)
    elif isinstance(file, LargeFile):
        deep = read_header(file.header(budget=_DEEP), info.frame)
    else:
        with open_header(file, budget=_DEEP) as reader:
            deep = read_header(reader, info.frame)
    return dataclasses.replace(info, icc_profile=deep.icc_profile)


def _probe_pixels(source: Source, frame: int | None) -> ImageInfo:
    pixels = source.pixels
    if frame is not None:
        frame = as_frame(frame)
        _check_standing(pixels, frame)
    if hasattr(pixels, "getexif"):
        from qwenvl_prep.decode import probe_pillow

        info = probe_pillow(pixels)
    else:
        info = _probe_array(pixels)
    if info.height < 1 or info.width < 1:
        raise ImageError(
            f"Expected a picture but received {info.height} × {info.width} pixels"
        )
    return info if frame is None else dataclasses.replace(info, frame=frame)


def _check_standing(pixels: Any, frame: int) -> None:
    """Refuse any frame but the one at which a Pillow image stands, or an array's 0."""
    # Seeking, or only counting, would change an image that belongs to the caller.
    stands_at = pixels.tell() if hasattr(pixels, "tell") else 0
    if frame == stands_at:
        return
    if not hasattr(pixels, "tell"):
        check_frame(frame, 1)
    raise FrameError(
        f"Expected frame {stands_at}, at which this Pillow image stands, but received "
        f"{frame}; call its seek({frame}) first, or hand over the file",
        frame=frame,
        n_frames=0,
    )


def _probe_array(array: Any) -> ImageInfo:
    shape = array.shape
    is_grey = len(shape) == 2
    if array.dtype != "uint8" or not (
        is_grey or (len(shape) == 3 and shape[2] in {3, 4})
    ):
        raise NotAnImageError(
            f"Expected a uint8 array of shape (height, width), (height, width, 3) or "
            f"(height, width, 4) but received {array.dtype} {shape}; scale floats to "
            f"0..255 and put channels last",
            kind=f"a {array.dtype} array of shape {shape}",
        )
    channels = 1 if is_grey else shape[2]
    return ImageInfo(
        format="PIXELS",
        media_type="",
        height=shape[0],
        width=shape[1],
        channels=channels,
        has_alpha=channels == 4,
        colour="grey" if is_grey else "rgb",
        is_lossless=True,
    )
