"""
Strips of samples out of Pillow: the file that knows its modes, plugins and exceptions.

Pillow holds its own whole picture; nothing here holds a second one.
"""

from __future__ import annotations

import dataclasses
import io
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from qwenvl_prep.damage import broken, check_size
from qwenvl_prep.errors import DecodeLimitError, ImageError, UnsupportedFormatError
from qwenvl_prep.headers import ImageInfo
from qwenvl_prep.headers.boxes import reaches_end_of_boxes
from qwenvl_prep.headers.icons import one_of_icns, one_of_ico
from qwenvl_prep.headers.tiff import has_whole_directory
from qwenvl_prep.strips import strips

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from numpy.typing import NDArray
    from PIL import Image

__all__ = [
    "copied_image",
    "heif_strips",
    "image_strips",
    "pillow_strips",
    "probe_pillow",
]

# What a header calls the colours of Pillow's modes; RGB if nothing else.
_COLOURS = {
    "CMYK": "cmyk",
    **dict.fromkeys(("1", "L", "LA", "La", "I", "F"), "grey"),
    **dict.fromkeys(("I;16", "I;16L", "I;16B", "I;16N"), "grey"),
}

_DEPTHS = {"I;16": 16, "I": 32, "F": 32}

# EXIF tag of the orientation (CIPA DC-008).
_ORIENTATION_TAG = 0x0112

# Formats that Pillow reads here, by the names of its plugins.
_PLUGINS = {
    "AVIF": ["AVIF"],
    "BMP": ["BMP"],
    "DIB": ["DIB"],
    "GIF": ["GIF"],
    "ICNS": ["ICNS"],
    "ICO": ["ICO"],
    "JPEG": ["JPEG"],
    "JPEG2000": ["JPEG2000"],
    "PNG": ["PNG"],
    "SGI": ["SGI"],
    "TIFF": ["TIFF"],
    "WEBP": ["WEBP"],
}

_MAX_BITS = 16

_ONE_OF = {"ICNS": one_of_icns, "ICO": one_of_ico}

# What Pillow says of a sound file whose kind it does not read.
_UNSUPPORTED = re.compile("unsupported|not supported|not configured", re.IGNORECASE)


def probe_pillow(image: Image.Image) -> ImageInfo:
    """Describe a Pillow image that somebody else has opened, without loading it."""
    bare = ImageInfo("PIXELS", "", image.height, image.width)
    with _door("Pillow image", bare):
        # Pillow turns a TIFF while loading it; its sides are upright from the start.
        is_turned = image.format == "TIFF"
        orientation = 1 if is_turned else image.getexif().get(_ORIENTATION_TAG, 1)
        profile = bytes(image.info.get("icc_profile") or b"")
        bands = image.getbands()
        is_palette = image.mode in {"P", "PA"}
        return dataclasses.replace(
            bare,
            orientation=orientation if orientation in range(1, 9) else 1,
            channels=len(bands) + 2 * is_palette,
            bit_depth=_DEPTHS.get(image.mode[:4], 8),
            has_alpha=image.has_transparency_data,
            colour="palette" if is_palette else _COLOURS.get(image.mode, "rgb"),
            is_lossless=True,
            has_icc=bool(profile),
            icc_profile=profile,
        )


def copied_image(image: Image.Image, info: ImageInfo) -> Image.Image:
    """Copy a Pillow image, which its owner may close."""
    with _door("Pillow image", info):
        return image.copy()


def pillow_strips(
    data: bytes, info: ImageInfo, *, is_cmyk: bool = False
) -> Generator[NDArray[np.uint8]]:
    """
    Read a file with the one plugin of its type; see :func:`image_strips`.

    A frame of an animation is the whole canvas, as Pillow lays the frames up to it on
    each other; so it takes the time of them all.
    """
    from PIL import Image

    _check_depth(info.bit_depth > _MAX_BITS, info.format)
    if info.format == "TIFF" and not has_whole_directory(data):
        raise broken(info.format, "its directory is cut off")
    with _door(info.format, info):
        if info.frame is not None and info.format in _ONE_OF:
            # Pillow tells an icon's pictures apart by their size, which two may share.
            data = _ONE_OF[info.format](data, info.frame)
        with Image.open(io.BytesIO(data), formats=_PLUGINS[info.format]) as image:
            if info.frame and info.format not in _ONE_OF:
                image.seek(info.frame)
            yield from _strips_of(image, info.format, info, is_cmyk=is_cmyk)


def heif_strips(data: bytes, info: ImageInfo) -> Generator[NDArray[np.uint8]]:
    """Read a HEIC with pillow_heif, upright; see :func:`image_strips`."""
    try:
        import pillow_heif
    except ImportError as exc:
        raise UnsupportedFormatError(
            "Expected a type that is read without extras but received HEIC (HEIF); "
            "pip install pillow-heif, which is the extra 'heif'",
            format=info.format,
            extra="heif",
        ) from exc
    with _door(info.format, info):
        # libheif leaves out the tiles that are missing, and says nothing.
        if not reaches_end_of_boxes(data):
            raise broken(info.format, "its end is missing")
        # libheif turns the picture by itself; the EXIF tag must not turn it again.
        found = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
        if info.frame is None:
            image = found.to_pillow()
        elif info.frame < len(found):
            image = found[info.frame].to_pillow()
        else:
            raise UnsupportedFormatError(
                f"Expected a picture of its own but frame {info.frame} of this HEIF is "
                f"one of a sequence, which is not read here; convert it first",
                format=info.format,
            )
        yield from _strips_of(image, info.format, info)


def image_strips(
    image: Image.Image, info: ImageInfo, *, is_cmyk: bool = False
) -> Generator[NDArray[np.uint8]]:
    """
    Convert an image that somebody else has opened, strip by strip.

    Parameters
    ----------
    image : Image
        Loaded here if need be.
    info : ImageInfo
        Its size, as Pillow has it once it is loaded.
    is_cmyk : bool
        Whether CMYK is wanted as it is, because its profile is known.

    Yields
    ------
    ndarray of uint8, shape (rows, width, 1 | 3 | 4)
        Grey, RGB or RGBA, from the top; or CMYK.

    Raises
    ------
    DamagedImageError
        If the data is broken, ends early or is of another size.
    UnsupportedFormatError
        If the samples have no one meaning in 8 bits.
    DecodeLimitError
        If Pillow refuses by its own limit.
    """
    with _door("Pillow image", info):
        yield from _strips_of(image, image.format or "image", info, is_cmyk=is_cmyk)


def _strips_of(
    image: Image.Image, name: str, info: ImageInfo, *, is_cmyk: bool = False
) -> Generator[NDArray[np.uint8]]:
    image.load()
    check_size(image.height, image.width, info)
    _check_depth(image.mode in {"I", "F"}, name)
    width = image.width
    for top, rows in strips(image.height, 4 * width):
        strip = image.crop((0, top, width, top + rows))
        yield np.asarray(strip) if is_cmyk and strip.mode == "CMYK" else _samples(strip)


def _check_depth(is_deep: bool, name: str) -> None:
    if is_deep:
        raise UnsupportedFormatError(
            f"Expected 8 or 16 bits per sample but this {name} has 32 or more, which "
            f"have no one range of brightness; scale them to 0..255 first",
            format=name,
        )


def _samples(strip: Image.Image) -> NDArray[np.uint8]:
    """Give 1, 3 or 4 samples a pixel out of any of Pillow's modes."""
    if strip.mode.startswith("I;16"):
        # convert("L") would clip everything above 255 to white.
        deep = np.asarray(strip)
        grey = (deep >> 8).astype(np.uint8)
        clear = strip.info.get("transparency")
        if clear is None:
            return grey[:, :, None]
        return np.dstack((grey, np.where(deep == clear, 0, 255).astype(np.uint8)))
    if strip.mode == "La":
        strip = strip.convert("LA")  # the only conversion that Pillow has from it
    if strip.has_transparency_data:
        mode = "RGBA"
    else:
        mode = "L" if strip.mode in {"1", "L"} else "RGB"
    samples = np.asarray(strip if strip.mode == mode else strip.convert(mode))
    return samples[:, :, None] if mode == "L" else samples


@contextmanager
def _door(name: str, info: ImageInfo) -> Iterator[None]:
    """Turn Pillow's exceptions into ours; the only place that does."""
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
        raise broken(name, reason) from exc
