"""What a colour profile makes of the samples: their sRGB, by LittleCMS in Pillow."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from qwenvl_prep.errors import UnsupportedFormatError
from qwenvl_prep.headers.embedded import MAX_PROFILE
from qwenvl_prep.icc_shaper import TAGS, Shaper, check_colours, shaper_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray
    from PIL.ImageCms import ImageCmsTransform

    from qwenvl_prep.headers import ImageInfo
    from qwenvl_prep.options import Color

__all__ = ["Conversion", "conversion_for", "to_srgb"]

# Samples per pixel -> the profile's colour space, Pillow's mode, a name without one.
_SPACES = {
    1: (b"GRAY", "L", "grey profile"),
    3: (b"RGB ", "RGB", "RGB profile"),
    4: (b"CMYK", "CMYK", "CMYK profile"),
}
# Samples of colour, by what a header calls it.
_CHANNELS = {"grey": 1, "rgb": 3, "palette": 3, "cmyk": 4}
# Input, display, output and colour space; not device link, abstract, named colours.
_CLASSES = frozenset((b"scnr", b"mntr", b"prtr", b"spac"))
_CONNECTIONS = frozenset((b"XYZ ", b"Lab "))
# Chains of any number of steps, each of any size: a profile of 1 MiB may ask for
# hours and for all memory before the first pixel. Cameras and scanners write none.
_CHAINS = frozenset((b"D2B0", b"D2B1", b"D2B2", b"D2B3"))
# As LittleCMS has it.
_MAX_TAGS = 100

_head = struct.Struct(">12x4s4s4s12x4s88xI")
_tag = struct.Struct(">4sII")

# Real sRGB profiles differ from LittleCMS' own by at most 1, over the whole cube;
# the least that any other profile differs by is 9 (grey of gamma 2.2). 2 leaves room
# for the rounded curves of compact profiles.
_MAX_DIFFERENCE = 2
_MAX_NAME = 40
_MAX_LANGUAGES = 64
# Converted at once: rows that stay in the cache, and a bound for what Pillow holds.
_BLOCK_PIXELS = 1 << 17


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Conversion:
    """
    From the colours of one profile to sRGB.

    One object may be used by any number of threads at once: LittleCMS only reads
    its tables, and Pillow releases the GIL while it does.

    Attributes
    ----------
    name : str
        What the profile calls itself, for people: at most 40 characters that can
        be printed; ``"grey profile"``, ``"RGB profile"`` or ``"CMYK profile"``
        if it has no name.
    channels : int
        Samples a pixel has before: 1, 3 or 4.
    out_channels : int
        Samples a pixel has afterwards: 3, or 1 where grey stays grey.
    """

    name: str
    channels: int
    out_channels: int
    _engine: ImageCmsTransform | Shaper | NDArray[np.uint8]

    def __repr__(self) -> str:
        return f"<Conversion {self.name}>"

    def apply(self, samples: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """
        Convert samples to sRGB.

        Parameters
        ----------
        samples : ndarray of uint8, shape (rows, width, channels)
            As Pillow has them: CMYK with 255 for full ink. Not written to; may
            be a view with gaps.

        Returns
        -------
        ndarray of uint8, shape (rows, width, out_channels)
            New memory, 0 to 255: for RGB and CMYK, byte for byte, what
            ``PIL.ImageCms.profileToProfile`` gives with its defaults.

        Raises
        ------
        ValueError
            If *samples* have another number of channels or another type.
        """
        if samples.ndim != 3 or samples.shape[2] != self.channels:
            raise ValueError(
                f"Expected samples of shape (rows, width, {self.channels}) but "
                f"received {samples.shape}"
            )
        if samples.dtype != "uint8":
            raise ValueError(f"Expected uint8 samples but received {samples.dtype}")
        if isinstance(self._engine, Shaper):
            return self._engine.apply(samples)
        if self.channels == 1:
            return _by_table(samples, self._engine)  # type: ignore[arg-type]
        return _by_engine(samples, self._engine)  # type: ignore[arg-type]


@lru_cache(maxsize=16)
def to_srgb(profile: bytes, channels: int) -> Conversion | None:
    """
    Tell what a colour profile makes of samples.

    Whether a profile means sRGB is decided by what it does to a lattice of
    colours, not by its name. The intent is perceptual, as Pillow and browsers
    have it. The last 16 answers are kept.

    Parameters
    ----------
    profile : bytes
        The profile as it was embedded; a stranger's, so it may be anything.
    channels : int
        Colour samples a pixel has: 1 for grey, 3 for RGB, 4 for CMYK.

    Returns
    -------
    Conversion or None
        None where there is nothing to convert: the profile is empty, broken, above
        1 MiB, for another colour space or purpose, made of chains of processing
        elements (which may take hours), or moves no colour by more than 2 of 255.

    Raises
    ------
    UnsupportedFormatError
        If Pillow was built without LittleCMS, so that nobody can tell.
    ValueError
        If *channels* is not 1, 3 or 4.

    Examples
    --------
    >>> to_srgb(b"not a profile", 3) is None
    True
    """
    if channels not in _SPACES:
        raise ValueError(f"Expected 1, 3 or 4 channels but received {channels}")
    space, mode, unnamed = _SPACES[channels]
    # Most of what is broken is told without loading the colour engine.
    if not _is_usable(profile, space):
        return None
    engine = _build(profile, mode)
    if engine is None:
        return None
    name = _printable(_description(profile)) or unnamed
    if channels == 4:
        return Conversion(name, 4, 3, engine)
    if channels == 3:
        if _is_srgb(engine):
            return None
        return Conversion(name, 3, 3, _shaper(profile, engine) or engine)
    table = _grey_table(engine)
    if abs(table.astype("int16") - _greys()[0]).max() <= _MAX_DIFFERENCE:
        return None
    if (table == table[:, :1]).all():
        table = table[:, :1].copy()
    return Conversion(name, 1, table.shape[1], table)


def _is_usable(profile: bytes, space: bytes) -> bool:
    """Tell from header and table of tags whether the engine should see a profile."""
    if not _head.size <= len(profile) <= MAX_PROFILE:
        return False
    kind, of_samples, connection, magic, count = _head.unpack_from(profile)
    return (
        magic == b"acsp"
        and of_samples == space
        and kind in _CLASSES
        and connection in _CONNECTIONS
        and count <= _MAX_TAGS
        and len(profile) >= _head.size + _tag.size * count
        and not any(name in _CHAINS for name, _, _ in _tags(profile))
    )


def _tags(profile: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Give name, offset and length of what a profile holds."""
    *_, count = _head.unpack_from(profile)
    end = _head.size + _tag.size * count
    return _tag.iter_unpack(profile[_head.size : end])


def _description(profile: bytes) -> str:
    """
    Read what a profile calls itself; in English, if it does so in many languages.

    LittleCMS takes memory for as many languages as are announced, 200 MB in a file
    of 588 bytes, and gives no name at all if a letter in it is not ASCII.
    """
    for name, at, length in _tags(profile):
        if name != b"desc":
            continue
        data = profile[at : at + length]
        if data[:4] == b"desc":
            return data[12 : 12 + int.from_bytes(data[8:12], "big")].decode("latin-1")
        if data[:4] != b"mluc":
            continue
        count = min(int.from_bytes(data[8:12], "big"), _MAX_LANGUAGES)
        records = data[16 : 16 + 12 * count]
        found = [records[i : i + 12] for i in range(0, len(records) - 11, 12)]
        # The first of the best: sorting keeps the order among equals.
        found.sort(key=lambda record: (record[:4] != b"enUS", record[:2] != b"en"))
        for record in found:
            size, start = struct.unpack(">II", record[4:])
            return data[start : start + size].decode("utf-16-be", "replace")
    return ""


def _build(profile: bytes, mode: str) -> ImageCmsTransform | None:
    """Build the engine's transform, or none; the one door to ImageCms."""
    try:
        from PIL import ImageCms, _imagingcms  # noqa: F401 - the second may be missing
    except ImportError as exc:
        raise UnsupportedFormatError(
            "Expected a Pillow with LittleCMS, for a picture with a colour profile, "
            "but received one that was built without; install Pillow's own wheel, or "
            'pass color="keep" to leave the colours as they are stored',
            format="ICC",
        ) from exc
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        # A profile of our own for each, so that no two threads share one.
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        return ImageCms.ImageCmsTransform(opened, srgb, mode, "RGB")
    except (OSError, ValueError):
        # OSError: no profile; ValueError: one from which no transform can be made.
        return None


def _printable(text: str) -> str:
    """Shorten a name, without what could steer a terminal or turn a line around."""
    # Some writers leave old bytes behind the zero that ends the name.
    text = text.split("\0", 1)[0][: 16 * _MAX_NAME]
    text = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(text.split())[:_MAX_NAME].rstrip()


def _is_srgb(transform: ImageCmsTransform) -> bool:
    import numpy as np

    steps = np.minimum(np.arange(0, 257, 16), 255).astype(np.uint8)
    lattice = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(17, -1, 3)
    moved = _by_engine(lattice, transform).astype(np.int16) - lattice
    return bool(abs(moved).max() <= _MAX_DIFFERENCE)


def _shaper(profile: bytes, transform: ImageCmsTransform) -> Shaper | None:
    """
    Give tables that do what the engine does, eight times as fast, or none.

    The engine stays the rule: tables that differ from it in one byte of one of
    100,000 colours are dropped.
    """
    import numpy as np

    # The first of each name, as LittleCMS has it.
    tags = {
        name: profile[at : at + length]
        for name, at, length in reversed(list(_tags(profile)))
        if name in TAGS
    }
    srgb = transform.output_profile.profile
    colours = (srgb.red_colorant, srgb.green_colorant, srgb.blue_colorant)
    shaper = shaper_for(tags, tuple(colour[0] for colour in colours if colour))
    if shaper is None:
        return None
    sample = check_colours()
    is_equal = np.array_equal(shaper.apply(sample), _by_engine(sample, transform))
    return shaper if is_equal else None


def _greys() -> NDArray[np.uint8]:
    import numpy as np

    return np.arange(256, dtype=np.uint8).reshape(1, 256, 1)


def _grey_table(transform: ImageCmsTransform) -> NDArray[np.uint8]:
    """Give the colour of each of the 256 greys, shape (256, 3)."""
    table: NDArray[np.uint8] = _by_engine(_greys(), transform)[0]
    return table


def _by_table(
    samples: NDArray[np.uint8], table: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    import numpy as np

    if table.shape[1] == 3:
        return np.take(table, samples[:, :, 0], axis=0)
    # Four times as fast as indexing, which makes a wide index of each sample first.
    moved = bytearray(samples.tobytes()).translate(table.tobytes())
    return np.frombuffer(moved, np.uint8).reshape(samples.shape)


def _by_engine(
    samples: NDArray[np.uint8], transform: ImageCmsTransform
) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image

    rows, width, _ = samples.shape
    mode = transform.input_mode
    out = np.empty((rows, width, 3), np.uint8)
    step = max(1, _BLOCK_PIXELS // max(width, 1))
    for top in range(0, rows if width else 0, step):
        block = np.ascontiguousarray(samples[top : top + step])
        size = (width, len(block))
        image = Image.frombuffer(mode, size, block, "raw", mode, 0, 1)
        # RGB was copied into four bytes a pixel, so it may be overwritten; the
        # others are seen in place.
        target = image if mode == "RGB" else Image.new("RGB", size)
        # Not ``transform.apply``, which serialises the sRGB profile each time.
        transform.transform.apply(image.getim(), target.getim())
        converted = np.frombuffer(target.tobytes(), np.uint8)
        out[top : top + step] = converted.reshape(len(block), width, 3)
    return out


def conversion_for(info: ImageInfo, color: Color) -> Conversion | None:
    """
    Tell what is done to the colours that a header describes.

    Parameters
    ----------
    info : ImageInfo
        With the profile, and what it is about.
    color : {"srgb", "keep"}
        Whether profiles count.

    Returns
    -------
    Conversion or None
        None where the colours are sent as they are stored: without a profile, with
        one that means sRGB, or with one that cannot be used.

    Raises
    ------
    UnsupportedFormatError
        As :func:`to_srgb`.
    """
    channels = _CHANNELS.get(info.colour)
    if color == "keep" or channels is None or not info.icc_profile:
        return None
    return to_srgb(info.icc_profile, channels)
