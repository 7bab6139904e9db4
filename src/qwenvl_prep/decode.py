"""
Upright 8-bit RGB out of a file or a pixel source: the only file that knows decoders.

libvips reads what it reads exactly as Pillow does (JPEG, PNG, WebP and plain TIFF,
in strips of rows); Pillow reads the rest, with its plugins named one by one.  Each
library is entered through one door, where its exceptions become ours.

Loaders are called by name, never found by content: the type was read by our own
header reader, so none of libvips' untested loaders (SVG, PDF, ImageMagick, ...) can
be reached, and no switch of the process has to be set for that.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from qwenvl_prep._native.flatten import flatten_rgba
from qwenvl_prep.errors import (
    DamagedImageError,
    DecodeLimitError,
    ForkedProcessError,
    ImageError,
    UnsupportedFormatError,
)
from qwenvl_prep.headers import ImageInfo
from qwenvl_prep.jpeg_structure import without_junk
from qwenvl_prep.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL import Image


__all__ = [
    "Pixels",
    "decode",
    "decode_pixels",
    "empty_vips_cache",
    "own_pixels",
    "probe_pillow",
]

# Rows fetched at once: enough to amortise the call, few enough to stay in cache.
_STRIP_ROWS = 64

_WHITE = 255

# Above, libvips' time to open an animation grows with the square of its frames.
_MANY_FRAMES = 1_000

# EXIF tag of the orientation (CIPA DC-008).
_ORIENTATION_TAG = 0x0112

# Formats that Pillow reads here, by the names of its plugins.
_PILLOW_PLUGINS = {
    "AVIF": ["AVIF"],
    "BMP": ["BMP"],
    "DIB": ["DIB"],
    "GIF": ["GIF"],
    "ICNS": ["ICNS"],
    "ICO": ["ICO"],
    "JPEG": ["JPEG"],
    "JPEG2000": ["JPEG2000"],
    "SGI": ["SGI"],
    "TIFF": ["TIFF"],
    "WEBP": ["WEBP"],
}

_VIPS_LOADERS = {
    "JPEG": "jpegload_buffer",
    "PNG": "pngload_buffer",
    "TIFF": "tiffload_buffer",
    "WEBP": "webpload_buffer",
}

_VIPS_SAMPLES = frozenset({"uchar", "ushort"})


@dataclass(frozen=True, slots=True, repr=False)
class Pixels:
    """
    An upright picture.

    Attributes
    ----------
    data : ndarray of uint8, shape (height, width, 3)
        RGB, rows from the top, contiguous.
    """

    data: NDArray[np.uint8]

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.data.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.data.shape[1])

    def __repr__(self) -> str:
        return f"<Pixels {self.height}x{self.width} RGB>"


def decode(data: bytes, info: ImageInfo, *, limits: Limits = DEFAULT_LIMITS) -> Pixels:
    """
    Decode a file to upright RGB on white.

    Parameters
    ----------
    data : bytes
        The whole file.
    info : ImageInfo
        What its header says.
    limits : Limits
        What may be decoded; checked before a decoder sees a byte.

    Returns
    -------
    Pixels
        The first frame, turned upright, transparent parts laid on white.

    Raises
    ------
    DecodeLimitError
        If the header announces more than *limits* allow.
    DamagedImageError
        If the data is broken, ends early or does not keep what the header promised.
    UnsupportedFormatError
        If the samples are of a kind that has no one meaning in 8 bits.
    """
    limits.check_header(info)
    if info.format == "JPEG" and info.bit_depth > 8:
        raise UnsupportedFormatError(
            f"Expected a JPEG with 8 bits per sample but this one has "
            f"{info.bit_depth}; convert it to PNG or 8-bit JPEG first",
            format="JPEG",
        )
    if info.format == "HEIF":
        pixels = _decode_heif(data, info)
    elif _is_for_vips(info):
        pixels = _decode_vips_mended(data, info)
    else:
        pixels = _decode_pillow(data, info)
    if (pixels.height, pixels.width) != (info.upright_height, info.upright_width):
        raise DamagedImageError(
            f"Expected {info.upright_height} × {info.upright_width} pixels, as the "
            f"{info.format} header says, but its data holds "
            f"{pixels.height} × {pixels.width}",
            format=info.format,
        )
    return pixels


def decode_pixels(
    pixels: Any, info: ImageInfo, *, limits: Limits = DEFAULT_LIMITS
) -> Pixels:
    """
    Bring a Pillow image or an array to upright RGB on white.

    Parameters, result and errors are those of :func:`decode`, with the pixel source
    itself in place of the file.
    """
    limits.check_header(info)
    if isinstance(pixels, np.ndarray):
        samples = pixels if pixels.ndim == 3 else pixels[:, :, None]
        return Pixels(_to_rgb(samples))
    with _pillow_door("Pillow image", info):
        return _from_pillow(pixels, pixels.format or "image")


def _is_for_vips(info: ImageInfo) -> bool:
    if info.format == "TIFF":
        # Extra samples and orientation mean something else to each TIFF reader;
        # Pillow is the reference there.
        return (
            not info.has_alpha
            and info.colour in {"grey", "rgb"}
            and (info.bit_depth in {8, 16} and info.channels in {1, 3})
        )
    if info.n_frames > _MANY_FRAMES:
        return False
    # Inverted CMYK is a matter of Adobe's marker, which Pillow minds.
    return info.format in _VIPS_LOADERS and info.colour != "cmyk"


def _damaged(name: str, reason: str) -> DamagedImageError:
    return DamagedImageError(
        f"Expected a whole {name} but its data is broken or ends early ({reason}); "
        f"export or download the file again",
        format=name,
    )


# ---------------------------------------------------------------- libvips

# libjpeg fills the rows that a JPEG lacks with grey and calls that a warning, so its
# warnings count as damage; libpng's are about colour profiles and the like.
_FAIL_ON = {"JPEG": "warning"}

# The process that libvips' threads belong to, once they exist.
_user_of_vips: int | None = None


def _decode_vips_mended(data: bytes, info: ImageInfo) -> Pixels:
    try:
        return _decode_vips(data, info)
    except DamagedImageError:
        mended = without_junk(data) if info.format == "JPEG" else data
        if mended == data:
            raise
    return _decode_vips(mended, info)


def _decode_vips(data: bytes, info: ImageInfo) -> Pixels:
    _check_not_forked()
    with _vips_door(info.format):
        rgb = _read_rows(data, info)
    return Pixels(_turn_upright(rgb, info.orientation))


def _read_rows(data: bytes, info: ImageInfo) -> NDArray[np.uint8]:
    """Read all rows in strips; nothing of libvips' outlives this call."""
    import pyvips

    load = getattr(pyvips.Image, _VIPS_LOADERS[info.format])
    # fail_on works in a loader; libvips' thumbnail functions ignore it (#5195).
    fail_on = _FAIL_ON.get(info.format, "error")
    image = load(data, access="sequential", fail_on=fail_on)
    if image.format not in _VIPS_SAMPLES or image.bands > 4:
        raise UnsupportedFormatError(
            f"Expected 8 or 16 bits per sample but this {info.format} has "
            f"{image.bands} samples of the kind {image.format}",
            format=info.format,
        )
    if image.format == "ushort":
        # The high byte, as Pillow reads 16-bit RGB; a cast alone would clip.
        image = (image >> 8).cast("uchar")
    height, width, bands = image.height, image.width, image.bands
    rgb = np.empty((height, width, 3), np.uint8)
    region = pyvips.Region.new(image)
    for top in range(0, height, _STRIP_ROWS):
        rows = min(_STRIP_ROWS, height - top)
        strip = np.frombuffer(region.fetch(0, top, width, rows), np.uint8)
        _to_rgb(strip.reshape(rows, width, bands), out=rgb[top : top + rows])
    return rgb


def empty_vips_cache() -> None:
    """
    Let libvips forget what it has finished, from now on.

    By default it keeps the last hundred operations, some 200 MB of lines of pictures
    that never come again.  The setting belongs to the process, so only programs of
    our own call this; whoever owns another may call ``pyvips.cache_set_max(0)``.
    """
    import pyvips

    pyvips.cache_set_max(0)


def _check_not_forked() -> None:
    """
    Refuse to use libvips in a child of a process that has used it.

    Its threads do not survive a fork but their locks do, and a few children in a
    hundred would wait for them for ever.
    """
    global _user_of_vips
    if _user_of_vips not in {None, os.getpid()}:
        raise ForkedProcessError(
            "Expected a process of its own start but libvips was used before this one "
            "was forked; start workers by multiprocessing's 'spawn' or 'forkserver'"
        )
    _user_of_vips = os.getpid()


@contextmanager
def _vips_door(name: str) -> Iterator[None]:
    import pyvips

    try:
        yield
    except pyvips.Error as exc:
        # Its frames hold libvips' objects, which log when they are freed. Were that
        # left to a garbage collection inside pyvips' own log handler, glib would take
        # it for endless recursion and abort the process.
        exc.__traceback__ = None
        raise _damaged(name, _vips_reason(exc)) from exc


def _vips_reason(exc: Exception) -> str:
    # libvips keeps one message for the whole process, so under threads it may speak of
    # another file: it is shown, and nothing is ever decided by it.
    detail = str(getattr(exc, "detail", "") or exc)
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    return lines[-1] if lines else "libvips gave no reason"


# ---------------------------------------------------------------- Pillow


# What Pillow says of a sound file whose kind it does not read.
_UNSUPPORTED = re.compile("unsupported|not supported|not configured", re.IGNORECASE)


def probe_pillow(image: Image.Image) -> ImageInfo:
    """Describe a Pillow image that somebody else has opened, without loading it."""
    bare = ImageInfo("PIXELS", "", image.height, image.width)
    with _pillow_door("Pillow image", bare):
        # Pillow turns a TIFF while loading it; its sides are upright from the start.
        is_turned = image.format == "TIFF"
        orientation = 1 if is_turned else image.getexif().get(_ORIENTATION_TAG, 1)
        bands = image.getbands()
        is_grey = len(bands) < 3
        return dataclasses.replace(
            bare,
            orientation=orientation if orientation in range(1, 9) else 1,
            channels=len(bands),
            bit_depth=16 if image.mode[:1] in {"I", "F"} else 8,
            has_alpha=image.has_transparency_data,
            colour="cmyk" if image.mode == "CMYK" else "grey" if is_grey else "rgb",
            is_lossless=True,
        )


def own_pixels(pixels: Any, info: ImageInfo) -> Any:
    """Copy a Pillow image or an array, which its owner may close or fill anew."""
    if isinstance(pixels, np.ndarray):
        return pixels.copy()
    with _pillow_door("Pillow image", info):
        return pixels.copy()


def _decode_pillow(data: bytes, info: ImageInfo) -> Pixels:
    from PIL import Image

    with (
        _pillow_door(info.format, info),
        Image.open(io.BytesIO(data), formats=_PILLOW_PLUGINS[info.format]) as image,
    ):
        return _from_pillow(image, info.format, info.orientation)


def _from_pillow(
    image: Image.Image, name: str, orientation: int | None = None
) -> Pixels:
    """Turn a Pillow image into upright RGB; the only reader of Pillow's modes."""
    image.load()
    if image.format == "TIFF":
        # Pillow turns a TIFF while loading it, and drops the tag.
        orientation = None
    if orientation is None:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    if image.mode in {"I", "F"}:
        raise UnsupportedFormatError(
            f"Expected 8 or 16 bits per sample but this {name} has 32, which have no "
            f"one range of brightness; scale them to 0..255 first",
            format=name,
        )
    if image.mode == "La":
        image = image.convert("LA")  # the only conversion that Pillow has from it
    rgb = np.empty((image.height, image.width, 3), np.uint8)
    for top in range(0, image.height, _STRIP_ROWS):
        bottom = min(top + _STRIP_ROWS, image.height)
        # In strips: a conversion of the whole would hold the picture once more.
        strip = image.crop((0, top, image.width, bottom))
        _to_rgb(_samples(strip), out=rgb[top:bottom])
    return Pixels(_turn_upright(rgb, orientation))


def _samples(strip: Image.Image) -> NDArray[np.uint8]:
    """Give 1, 3 or 4 samples a pixel out of any of Pillow's modes."""
    if strip.mode.startswith("I;16"):
        # convert("L") would clip everything above 255 to white.
        return (np.asarray(strip) >> 8).astype(np.uint8)[:, :, None]
    mode = "RGBA" if strip.has_transparency_data else "RGB"
    return np.asarray(strip if strip.mode == mode else strip.convert(mode))


@contextmanager
def _pillow_door(name: str, info: ImageInfo) -> Iterator[None]:
    from PIL import Image

    try:
        yield
    except (MemoryError, ImageError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        # Pillow's own limit, which belongs to the process; ours was kept already.
        raise DecodeLimitError(
            f"Pillow refuses this {name} by its own limit of "
            f"PIL.Image.MAX_IMAGE_PIXELS; if you trust the file, raise that",
            limit_name="PIL.Image.MAX_IMAGE_PIXELS",
            actual=info.height * info.width,
            limit=Image.MAX_IMAGE_PIXELS or 0,
        ) from exc
    # Broken files make Pillow raise OSError, SyntaxError, ValueError, IndexError,
    # KeyError, struct.error, zlib.error and more; all of them mean the same here.
    except Exception as exc:
        reason = str(exc).strip() or type(exc).__name__
        if reason.startswith("cannot identify"):  # and then a memory address
            reason = "its structure is not understood"
        if _UNSUPPORTED.search(reason):
            raise UnsupportedFormatError(
                f"This kind of {name} is not read here ({reason}); convert it to PNG "
                f"or JPEG first",
                format=name,
            ) from exc
        raise _damaged(name, reason) from exc


def _decode_heif(data: bytes, info: ImageInfo) -> Pixels:
    try:
        import pillow_heif
    except ImportError as exc:
        raise UnsupportedFormatError(
            "Expected a type that is read without extras but received HEIC (HEIF); "
            "pip install pillow-heif, which is the extra 'heif'",
            format=info.format,
            extra="heif",
        ) from exc
    with _pillow_door(info.format, info):
        # libheif turns the picture by itself; the EXIF tag must not turn it again.
        image = pillow_heif.open_heif(data, convert_hdr_to_8bit=True).to_pillow()
        return _from_pillow(image, info.format, orientation=1)


# ---------------------------------------------------------------- arrays


def _to_rgb(
    samples: NDArray[np.uint8], out: NDArray[np.uint8] | None = None
) -> NDArray[np.uint8]:
    """Bring 1 to 4 interleaved samples to RGB on white; 2 and 4 end in alpha."""
    height, width, bands = samples.shape
    if out is None:
        out = np.empty((height, width, 3), np.uint8)
    if bands in {2, 4}:
        rgba = samples if bands == 4 else samples[:, :, [0, 0, 0, 1]]
        flatten_rgba(np.ascontiguousarray(rgba).reshape(-1), out.reshape(-1), _WHITE)
    else:
        out[:] = samples
    return out


def _turn_upright(rgb: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Apply one of EXIF's eight orientations (CIPA DC-008, tag 0x0112)."""
    if orientation not in range(2, 9):
        return np.ascontiguousarray(rgb)
    # One item a pixel: NumPy then moves three bytes at once instead of one by one.
    pixels = np.ascontiguousarray(rgb).view("V3")[:, :, 0]
    if orientation in {5, 6, 7, 8}:
        pixels = pixels.T
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels).view(np.uint8).reshape(*pixels.shape, 3)
