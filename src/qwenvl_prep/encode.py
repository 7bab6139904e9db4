"""Bytes of the wanted type under the wanted limit."""

from __future__ import annotations

import contextlib
import io
import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from qwenvl_prep.content import is_neutral, palette_of, study
from qwenvl_prep.data_uri import data_uri_length
from qwenvl_prep.errors import EncodedSizeError, ImageError
from qwenvl_prep.geometry import is_above_ratio, smart_resize

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from qwenvl_prep.decode import Pixels
    from qwenvl_prep.plan import ImagePlan

__all__ = ["EncodedImage", "encode", "encode_within"]

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

# Of encoding, to fit a limit: so often, and no more.
_MOST_TRIES = 8
# Below this quality a smaller picture of the same length is the better one.
_LEAST_QUALITY = 30
# This much of the limit is enough; each further try costs as much as the first.
_ENOUGH = 0.92
# Aimed at, so that a prediction that is a little off still fits.
_AIM = 0.97
# The same for sizes: they are predicted less well, and come in steps.
_ENOUGH_SIZE = 0.8
_AIM_SIZE = 0.92
# How the logarithm of the length goes with that of JPEG's scale, and of the area,
# until two tries tell it better; medians of the public corpora.
_SLOPE_OF_SCALE = -0.6
_SLOPE_OF_AREA = 0.9
# Where the least quality is expected this far above the limit, it is not tried.
_HOPELESS = 0.35


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
    return _encode(_Picture(pixels.data), plan, plan.options.quality)


def encode_within(
    render: Callable[[int, int], Pixels], plan: ImagePlan
) -> tuple[EncodedImage, Pixels]:
    """
    Encode a picture so that its data URI keeps the plan's limit.

    Lower qualities are tried before smaller sizes, and 8 encodings at most.  Sizes lie
    on the model's grid, so that the server resizes nothing once more.  Lossless types
    have no quality, and ``"auto"`` gives up being lossless first.

    Parameters
    ----------
    render : callable
        Given height and width, it gives the exact pixels at that size.  Called with
        the plan's own size first, then with smaller ones.
    plan : ImagePlan
        Type, quality, chroma and limit.

    Returns
    -------
    (EncodedImage, Pixels)
        The first encoding where it fits; else one that fills the limit as well as
        could be found.  The pixels are those that were encoded.

    Raises
    ------
    EncodedSizeError
        If nothing that was tried fits; it says what came closest.
    ImageError
        As for :func:`encode`, and whatever *render* raises.
    """
    search = _Search(render, plan)
    search.resize(plan.height, plan.width)
    length = search.attempt(plan.options.quality)
    if search.best is None and plan.options.encoding in ("png", "webp-lossless"):
        search.shrink(plan.options.quality, length)
    elif search.best is None:
        search.lower(length)
    if search.best is None:
        raise search.refusal()
    return search.best


class _Picture:
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
        if self._image is None:
            self._image = _image(self.data)
        return self._image


def _image(data: NDArray[np.uint8]) -> Image.Image:
    # Not by fromarray, which blackens the picture before it fills it.
    height, width = data.shape[:2]
    image = Image.new("L" if data.ndim == 2 else "RGB", (width, height), None)
    image.frombytes(data)
    return image


def _encode(
    picture: _Picture,
    plan: ImagePlan,
    quality: int,
    *,
    limit: float = math.inf,
    is_first: bool = True,
) -> EncodedImage:
    """Encode; ``"auto"`` tries PNG only at first, and takes it within *limit*."""
    encoding, chroma = plan.options.encoding, plan.options.chroma
    if encoding == "png":
        return _png(picture.data)
    if encoding == "webp-lossless":
        return _webp(picture.image, "WebP lossless", lossless=True)
    if encoding == "webp":
        return _webp(picture.image, f"WebP {quality}", quality=quality)
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
        most = int(len(data) * _LOSSLESS_WORTH)
        lossless = _png_up_to(picture.data, most)
        if lossless and lossless.data_uri_length <= limit:
            return lossless
    return encoded


def _saved(image: Image.Image, **settings: Any) -> bytes:
    """Save as JPEG without holding up other threads, where the system allows that."""
    if hasattr(os, "memfd_create"):
        # Pillow holds the GIL while it writes to anything but a descriptor. None may
        # be left, or it may be forbidden here; then it takes the common way.
        with (
            contextlib.suppress(OSError),
            os.fdopen(os.memfd_create("jpeg"), "w+b") as file,
        ):
            image.save(file, "JPEG", **settings)
            file.seek(0)
            return file.read()
    memory = io.BytesIO()
    image.save(memory, "JPEG", **settings)
    return memory.getvalue()


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


def _png_up_to(data: NDArray[np.uint8], most: int) -> EncodedImage | None:
    """Encode as PNG, if that takes *most* bytes; some rows are tried first."""
    height = len(data)
    rows = [
        data[top : top + _SAMPLE_ROWS]
        for top in range(0, height, _SAMPLE_ROWS * _SAMPLE_SHARE)
    ]
    sample = np.concatenate(rows)
    share = len(sample) / height
    if share < 1 and len(_png(sample).data) > most * share * _SAMPLE_SLACK:
        return None
    encoded = _png(data)
    return encoded if len(encoded.data) <= most else None


# --------------------------------------------------------------- fitting into a limit


class _Try(NamedTuple):
    """One point of a curve: where, and the logarithm of how long."""

    place: float
    length: float


@dataclass(slots=True)
class _Search:
    """
    The way to the longest encoding that a limit allows.

    Lengths are logarithms: they fall evenly with the logarithm of JPEG's scale of
    steps, and with that of the area, so a straight line leads close in one or two
    tries.
    """

    render: Callable[[int, int], Pixels]
    plan: ImagePlan
    best: tuple[EncodedImage, Pixels] | None = None
    tries: int = 0
    shortest: tuple[int, str] | None = None
    pixels: Pixels = field(init=False)
    picture: _Picture = field(init=False)

    def resize(self, height: int, width: int) -> None:
        """Go on with pixels of this size."""
        self.pixels = self.render(height, width)
        self.picture = _Picture(self.pixels.data)

    def attempt(self, quality: int) -> float:
        """Encode once, keep what fits, and give the length as :class:`_Search` does."""
        plan, limit = self.plan, self.plan.max_data_uri_bytes
        is_first = not self.tries
        encoded = _encode(self.picture, plan, quality, limit=limit, is_first=is_first)
        # What auto tried as PNG is an encoding too.
        self.tries += 2 if is_first and plan.options.encoding == "auto" else 1
        length = encoded.data_uri_length
        if self.shortest is None or length < self.shortest[0]:
            size = f"{self.pixels.height} × {self.pixels.width}"
            self.shortest = length, f"{encoded.label} at {size}"
        is_longer = self.best is None or length > self.best[0].data_uri_length
        if length <= limit and is_longer:
            self.best = encoded, self.pixels
        return math.log(length / limit)

    def lower(self, length: float) -> None:
        """Try lower qualities, then smaller sizes at the least of them."""
        most = self.plan.options.quality
        least = min(_LEAST_QUALITY, most)
        lengths = {most: length}
        self._fill(lengths, least, most)
        if self.best is not None:
            return
        expected = lengths.get(least)
        if expected is None:
            expected = _line(_by_scale(lengths)).length_at(_scale(least))
        reached = self.shrink(least, expected)
        if self.best is not None:
            self._fill({least: reached}, least, most)

    def _fill(self, lengths: dict[int, float], least: int, most: int) -> None:
        """Try qualities from *least* to *most* until one fills the limit."""
        while self.tries < _MOST_TRIES:
            low = max((q for q, way in lengths.items() if way <= 0), default=least - 1)
            high = min((q for q, way in lengths.items() if way > 0), default=most + 1)
            is_enough = low in lengths and lengths[low] >= math.log(_ENOUGH)
            if is_enough or high - low <= 1:
                return
            line = _line(_by_scale(lengths))
            is_hopeless = line.length_at(_scale(least)) > _HOPELESS
            if low not in lengths and is_hopeless:
                return
            quality = _quality(line.place_of(math.log(_AIM)))
            is_outside = not low < quality < high
            if is_outside and low in lengths and high in lengths:
                # The curve is no line here; halving always comes closer.
                quality = _quality((_scale(low) + _scale(high)) / 2)
            quality = min(max(quality, low + 1), high - 1)
            lengths[quality] = self.attempt(quality)

    def shrink(self, quality: int, length: float) -> float:
        """Try smaller sizes; *length* is that of the first.  Gives the last one's."""
        area = self.plan.height * self.plan.width
        points = [_Try(math.log(area), length)]
        is_lossless = self.plan.options.encoding in ("png", "webp-lossless")
        tried = {(self.plan.height, self.plan.width)}
        aim = math.log(_AIM_SIZE)
        while self.tries < _MOST_TRIES:
            # The last try has to fit, however small that is.
            is_last = self.best is None and self.tries == _MOST_TRIES - 1
            line = _line(points, slope=_SLOPE_OF_AREA)
            size = self._size(math.exp(line.place_of(2 * aim if is_last else aim)))
            if size in tried and self.best is None:
                size = self._size(0.75 * min(h * w for h, w in tried))
            elif size in tried:
                size = self._size(math.exp(line.place_of(0)))
            if size is None or size in tried:
                break
            tried.add(size)
            self.resize(*size)
            length = self.attempt(quality)
            points.append(_Try(math.log(size[0] * size[1]), length))
            if length > 0:
                aim -= 0.05
            elif not is_lossless or length >= math.log(_ENOUGH_SIZE):
                break
        return length

    def _size(self, area: float) -> tuple[int, int] | None:
        """Give the size on the model's grid that has at most this area, if one can."""
        model, info = self.plan.model, self.plan.info
        size = smart_resize(
            info.upright_height,
            info.upright_width,
            factor=model.factor,
            min_pixels=model.min_pixels,
            max_pixels=max(int(area), model.min_pixels),
            rule="strict",
        )
        is_larger = size[0] > self.plan.height or size[1] > self.plan.width
        # Below its least area the server would enlarge what was shrunk.
        is_too_small = size[0] * size[1] < model.min_pixels
        return None if is_larger or is_too_small or is_above_ratio(*size) else size

    def refusal(self) -> EncodedSizeError:
        """Say what came closest."""
        limit = self.plan.max_data_uri_bytes
        shortest, what = self.shortest or (0, "nothing")
        is_lossless = self.plan.options.encoding in ("png", "webp-lossless")
        remedy = "allow JPEG" if is_lossless else "crop the picture"
        return EncodedSizeError(
            f"Expected a data URI of at most {limit:,} bytes for {self.plan.name} but "
            f"the shortest reached is {shortest:,} ({what}); {remedy} or raise "
            f"max_bytes",
            reached=shortest,
            limit=limit,
        )


class _Line(NamedTuple):
    """A straight line through a try."""

    place: float
    length: float
    slope: float

    def length_at(self, place: float) -> float:
        return self.length + (place - self.place) * self.slope

    def place_of(self, length: float) -> float:
        return self.place + (length - self.length) / self.slope


def _line(points: list[_Try], slope: float = _SLOPE_OF_SCALE) -> _Line:
    """
    Give the line through the two tries that are nearest to the limit, one each side.

    Where there is only one, or two that say nothing, the usual slope is taken.
    """
    inside = [point for point in points if point.length <= 0]
    outside = [point for point in points if point.length > 0]
    if inside and outside:
        nearest = [
            max(inside, key=lambda point: point.length),
            min(outside, key=lambda point: point.length),
        ]
    else:
        # Drawn pictures may grow at first when they shrink, so the furthest way in
        # counts and not the length.
        nearest = sorted(points, key=lambda point: point.place * slope)
        nearest = nearest[::-1] if inside else nearest
    first = nearest[0]
    if len(nearest) > 1 and nearest[1].place != first.place:
        measured = (nearest[1].length - first.length) / (nearest[1].place - first.place)
        if 0.3 < measured / slope < 3:
            slope = measured
    return _Line(first.place, first.length, slope)


def _by_scale(lengths: dict[int, float]) -> list[_Try]:
    return [_Try(_scale(quality), length) for quality, length in lengths.items()]


def _scale(quality: int) -> float:
    """Give the logarithm of what libjpeg multiplies its tables with, in percent."""
    return math.log(5000 / quality if quality < 50 else 200 - 2 * quality)


def _quality(scale: float) -> int:
    """Undo :func:`_scale`, rounding down."""
    percent = math.exp(min(scale, 10))
    return int(5000 / percent if percent > 100 else (200 - percent) / 2)
