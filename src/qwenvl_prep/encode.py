"""Bytes of the wanted type."""

from __future__ import annotations

import contextlib
import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from qwenvl_prep.content import is_neutral, palette_of, study
from qwenvl_prep.data_uri import data_uri_length
from qwenvl_prep.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from qwenvl_prep.decode import Pixels
    from qwenvl_prep.plan import ImagePlan

__all__ = ["Candidates", "EncodedImage", "Picture", "encode", "encode_picture"]

# PNG may be this much longer than JPEG and is still sent, because it loses nothing.
_LOSSLESS_WORTH = 1.25

# Rows that are tried as PNG before the whole, 16 of every 128, and how much more than
# their share they may take, because rows of one picture differ.
_SAMPLE_ROWS = 16
_SAMPLE_SHARE = 8
_SAMPLE_SLACK = 1.3

# zlib's own default; 9 takes three times as long for about one percent.
_PNG_LEVEL = 6

# libwebp's own limit for a side.
_WEBP_SIDE = 16_383


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
        How it was encoded, in words: ``"JPEG 90 4:2:0"``, ``"JPEG 90 grey"``,
        ``"PNG"``, ``"WebP 90"`` or ``"WebP lossless"``.
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
    Encode pixels as the plan asks, whatever length that takes.

    ``"auto"`` is decided by the pixels: PNG for drawn pictures where it is at most a
    quarter longer than JPEG, else JPEG, with colour of full size (4:4:4) where half of
    it would be seen.  A JPEG of quality *q* loses no more, in SSIM, than libjpeg's own
    tables at *q* and 4:2:0 do, as far as a sample of the picture can tell; from 85 on
    its tables are flatter and coarser where that makes it shorter.

    Parameters
    ----------
    pixels : Pixels
        What to encode, RGB or grey.
    plan : ImagePlan
        Its options tell type, quality and chroma.

    Returns
    -------
    EncodedImage
        The same bytes for the same pixels and options, on every run and thread.

    Raises
    ------
    ImageError
        If the type cannot hold a picture of this size.
    """
    return encode_picture(Picture(pixels.data), plan, plan.options.quality).wanted


class Picture:
    """Pixels with what is found out about them once, for all attempts."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        # One channel says it all where three are equal: it is shorter, and faster.
        if data.ndim == 3 and is_neutral(data):
            data = np.ascontiguousarray(data[..., 0])
        self.data = data
        self.is_grey = data.ndim == 2
        self._image: Image.Image | None = None

    @property
    def image(self) -> Image.Image:
        """The pixels as Pillow's encoders take them; made once."""
        if self._image is None:
            self._image = _image(self.data)
        return self._image


def _image(data: NDArray[np.uint8]) -> Image.Image:
    # Not by fromarray, which blackens the picture before it fills it.
    height, width = data.shape[:2]
    image = Image.new("L" if data.ndim == 2 else "RGB", (width, height), None)
    image.frombytes(data)
    return image


class Candidates(NamedTuple):
    """What the options ask for, and what ``"auto"`` made beside it as PNG."""

    encoded: EncodedImage
    lossless: EncodedImage | None = None

    @property
    def wanted(self) -> EncodedImage:
        """The one to send where both may be as long as they are."""
        lossless = self.lossless
        most = len(self.encoded.data) * _LOSSLESS_WORTH
        return lossless if lossless and len(lossless.data) <= most else self.encoded


def encode_picture(
    picture: Picture, plan: ImagePlan, quality: int, *, is_first: bool = True
) -> Candidates:
    """
    Encode at one quality.

    Parameters
    ----------
    picture : Picture
        What to encode.
    plan : ImagePlan
        Its options tell type and chroma.
    quality : int
        Of JPEG and lossy WebP, 1 to 95.
    is_first : bool
        Whether ``"auto"`` tries PNG as well.

    Raises
    ------
    ImageError
        If the type cannot hold a picture of this size.
    """
    encoding, chroma = plan.options.encoding, plan.options.chroma
    if encoding == "png":
        return Candidates(_png(picture.data))
    if encoding == "webp-lossless":
        return Candidates(_webp(picture.image, "WebP lossless", lossless=True))
    if encoding == "webp":
        return Candidates(_webp(picture.image, f"WebP {quality}", quality=quality))
    content = study(picture.data, quality)
    if chroma == "auto":
        chroma = "4:4:4" if content.is_colourful else "4:2:0"
    settings: dict[str, Any] = {} if picture.is_grey else {"subsampling": chroma}
    # Codes made for the picture shorten a drawn one by a twelfth, and a photo by 1 %.
    if content.is_drawn and plan.options.fidelity == "exact":
        settings["optimize"] = True
    steps = content.steps[:1] if picture.is_grey else content.steps
    data = _saved(picture.image, qtables=steps, **settings)
    kind = "grey" if picture.is_grey else chroma
    encoded = EncodedImage(data, "image/jpeg", f"JPEG {quality} {kind}")
    if encoding == "auto" and is_first and content.is_drawn:
        return Candidates(
            encoded, _png_up_to(picture.data, len(data) * _LOSSLESS_WORTH)
        )
    return Candidates(encoded)


def _saved(image: Image.Image, **settings: Any) -> bytes:
    """Save as JPEG without holding up other threads, where the system allows that."""
    try:
        with _memory_file() as file:
            image.save(file, "JPEG", **settings)
            file.seek(0)
            return file.read()
    except OSError:
        # Pillow's buffer is too small for some pictures with codes of their own, and
        # the system's memory for files may be used up.
        settings.pop("optimize", None)
    memory = io.BytesIO()
    try:
        image.save(memory, "JPEG", **settings)
    except OSError as exc:
        raise ImageError(f"Pillow cannot write this picture as JPEG ({exc})") from exc
    return memory.getvalue()


def _memory_file() -> BinaryIO:
    if hasattr(os, "memfd_create"):
        # Pillow holds the GIL while it writes to anything but a descriptor. None may
        # be left, or it may be forbidden here; then it takes the common way.
        with contextlib.suppress(OSError):
            return os.fdopen(os.memfd_create("jpeg"), "w+b")
    return io.BytesIO()


def _webp(image: Image.Image, label: str, **settings: Any) -> EncodedImage:
    if max(image.size) > _WEBP_SIDE:
        raise ImageError(
            f"Expected sides of at most {_WEBP_SIDE:,} pixels for WebP but received "
            f"{image.height:,} × {image.width:,}; choose another encoding"
        )
    # libwebp works without the GIL by itself.
    memory = io.BytesIO()
    image.save(memory, "WEBP", **settings)
    return EncodedImage(memory.getvalue(), "image/webp", label)


def _png(data: NDArray[np.uint8]) -> EncodedImage:
    """Write exact pixels in the plainest form that holds them: palette, grey or RGB."""
    # Grey of 8 bits needs no palette.
    palette = palette_of(data, 16 if data.ndim == 2 else 256)
    if palette is None:
        image = _image(data)
    else:
        height, width = data.shape[:2]
        image = Image.new("P", (width, height), None)
        image.frombytes(palette.indices)
        # Pillow counts these colours, and writes 1, 2, 4 or 8 bits a pixel.
        image.putpalette(palette.rgb.tobytes())
    # Pillow's compressor works without the GIL, whatever it writes to.
    memory = io.BytesIO()
    image.save(memory, "PNG", compress_level=_PNG_LEVEL)
    return EncodedImage(memory.getvalue(), "image/png", "PNG")


def _png_up_to(data: NDArray[np.uint8], most: float) -> EncodedImage | None:
    """Encode as PNG, unless some rows tell that it takes more than *most* bytes."""
    height = len(data)
    rows = [
        data[top : top + _SAMPLE_ROWS]
        for top in range(0, height, _SAMPLE_ROWS * _SAMPLE_SHARE)
    ]
    sample = np.concatenate(rows)
    share = len(sample) / height
    if share < 1 and len(_png(sample).data) > most * share * _SAMPLE_SLACK:
        return None
    return _png(data)
