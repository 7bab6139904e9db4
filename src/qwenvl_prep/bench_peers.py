"""What one would write without this package: plain Python, NumPy, Pillow."""

from __future__ import annotations

import base64
import io
import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from qwenvl_prep.profiles import DEFAULT_MODEL, get_model

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_MODEL = get_model(DEFAULT_MODEL)

# Read once, so that the plain loops pay for no attribute either.
_FACTOR, _MARKERS, _MAX_RATIO = _MODEL.factor, _MODEL.marker_tokens, _MODEL.max_ratio
_MIN_PIXELS, _MAX_PIXELS = _MODEL.min_pixels, _MODEL.max_pixels


def count_in_python(height: int, width: int) -> int:
    """
    Count billed tokens as the provider's sample code does, for the default model.

    Parameters
    ----------
    height, width : int
        Size of the upright image in pixels, at least 1.

    Returns
    -------
    int
        Vision tokens and markers; 0 where the ratio is above 200:1.

    Examples
    --------
    >>> count_in_python(1280, 1280)
    1227
    """
    if max(height, width) > _MAX_RATIO * min(height, width):
        return 0
    rows = round(height / _FACTOR) * _FACTOR
    columns = round(width / _FACTOR) * _FACTOR
    if rows * columns > _MAX_PIXELS:
        beta = math.sqrt(height * width / _MAX_PIXELS)
        rows = math.floor(height / beta / _FACTOR) * _FACTOR
        columns = math.floor(width / beta / _FACTOR) * _FACTOR
    elif rows * columns < _MIN_PIXELS:
        beta = math.sqrt(_MIN_PIXELS / (height * width))
        rows = math.ceil(height * beta / _FACTOR) * _FACTOR
        columns = math.ceil(width * beta / _FACTOR) * _FACTOR
    return rows * columns // _FACTOR**2 + _MARKERS


def count_in_numpy(
    heights: NDArray[np.int64], widths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """
    Count billed tokens of many images with whole-array arithmetic.

    Parameters
    ----------
    heights, widths : ndarray of int64, shape (n,)
        Sizes of the upright images in pixels, at least 1.

    Returns
    -------
    ndarray of int64, shape (n,)
        As :func:`count_in_python`, one by one.
    """
    rows = np.rint(heights / _FACTOR)
    columns = np.rint(widths / _FACTOR)
    squares = rows * columns
    large = squares > _MAX_PIXELS // _FACTOR**2
    small = squares < _MIN_PIXELS // _FACTOR**2
    high, wide = heights[large], widths[large]
    beta = np.sqrt(high * wide / _MAX_PIXELS)
    squares[large] = np.floor(high / beta / _FACTOR) * np.floor(wide / beta / _FACTOR)
    high, wide = heights[small], widths[small]
    beta = np.sqrt(_MIN_PIXELS / (high * wide))
    squares[small] = np.ceil(high * beta / _FACTOR) * np.ceil(wide * beta / _FACTOR)
    longest, shortest = np.maximum(heights, widths), np.minimum(heights, widths)
    return np.where(
        longest > _MAX_RATIO * shortest, 0, squares.astype(np.int64) + _MARKERS
    )


def prepare_with_pillow(path: Path, height: int, width: int, label: str) -> str:
    """
    Go from a file to a data URI with Pillow and the standard library alone.

    Parameters
    ----------
    path : Path
        The file.
    height, width : int
        Size to send, in pixels.
    label : str
        How to encode: ``"PNG"`` or, for example, ``"JPEG 90 4:2:0"`` or
        ``"JPEG 90 grey"``.

    Returns
    -------
    str
        The data URI.
    """
    picture = picture_of_pillow(path, height, width)
    file = io.BytesIO()
    name, *settings = label.split()
    if settings:
        quality, chroma = settings
        if chroma == "grey":
            picture.convert("L").save(file, name, quality=int(quality))
        else:
            picture.save(file, name, quality=int(quality), subsampling=chroma)
    else:
        picture.save(file, name)
    body = base64.b64encode(file.getvalue()).decode("ascii")
    return f"data:image/{name.lower()};base64,{body}"


def picture_of_pillow(path: Path, height: int, width: int) -> Image.Image:
    """Open, turn, flatten and resize a file with Pillow alone."""
    with Image.open(path) as opened:
        opened.load()
    picture: Image.Image = opened
    # In place, as a copy would cost Pillow a tenth of its time.
    ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I;16"):
        # convert("RGB") would clip everything above 255 to white.
        high_bytes = (np.asarray(picture) >> 8).astype(np.uint8)
        picture = Image.fromarray(high_bytes)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        ground = Image.new("RGB", picture.size, "white")
        ground.paste(picture, mask=picture.getchannel("A"))
        picture = ground
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return picture
