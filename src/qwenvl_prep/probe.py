"""What the header bytes of an input say, without decoding a pixel."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from qwenvl_prep.errors import FrameError, ImageError, NotAnImageError
from qwenvl_prep.headers import HeaderReader, ImageInfo, read_header
from qwenvl_prep.headers.refuse import as_frame, check_frame
from qwenvl_prep.sources import LargeFile, as_source, open_header

if TYPE_CHECKING:
    from qwenvl_prep.sources import Source

__all__ = ["ImageInfo", "probe", "probe_file", "with_profile"]

# The longest profile that is used is of 1 MiB; as much may stand in front of it.
_DEEP = 2 * 1024 * 1024


def probe(source: Any, *, frame: int | None = None) -> ImageInfo:
    """
    Read what the header of an image says.

    Parameters
    ----------
    source : str, path, bytes-like, binary file, Pillow image or array
        See :func:`qwenvl_prep.sources.as_source`.
    frame : int, optional
        Which frame of an animation, page of a TIFF, picture of an icon, of an MPO or
        of a HEIF is described, counted from 0 in the order of the file.  Without it:
        the first one, the largest of an icon, the primary one of a HEIF.  A Pillow
        image is taken where it stands, so only that frame can be asked for; of an
        array, frame 0.

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
    source = as_source(source)
    if source.pixels is not None:
        return _probe_pixels(source, frame)
    with open_header(source) as reader:
        return read_header(reader, frame)


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
