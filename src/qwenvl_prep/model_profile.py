"""What a model accepts: its numbers, with their source and date."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from qwenvl_prep.errors import ModelFeatureError

if TYPE_CHECKING:
    import datetime as dt

__all__ = [
    "MAY_LACK",
    "OF_VIDEO",
    "BoxConvention",
    "ModelProfile",
    "PriceTier",
    "Prices",
]

BoxConvention: TypeAlias = Literal["relative-1000", "absolute-resized"]

# How well a number is known.
_CONFIDENCES = ("H", "M", "L")

# Whole numbers that a profile holds; those that it may lack, and that may be 0.
OF_VIDEO = (
    "min_frames",
    "max_frames",
    "frame_min_pixels",
    "frame_max_pixels",
    "video_pixels",
)
MAY_LACK = frozenset(
    {
        *OF_VIDEO,
        "high_resolution_pixels",
        "large_pixels",
        "max_body_bytes",
        "max_data_uris",
        "max_images",
        "max_thinking_input_tokens",
    }
)
_COUNTS = (
    "factor",
    "marker_tokens",
    "max_data_uri_bytes",
    "max_file_bytes",
    "max_input_tokens",
    "max_output_tokens",
    "max_pixels",
    "max_ratio",
    "max_string_length",
    "max_url_bytes",
    "min_pixels",
    "min_side",
    "recommended_pixels",
    "template_tokens",
    *sorted(MAY_LACK),
)
_LEAST = {"marker_tokens": 0, "template_tokens": 0}


@dataclass(frozen=True, slots=True)
class PriceTier:
    """
    What a million tokens cost, in requests up to a size.

    Attributes
    ----------
    input, output : decimal.Decimal
        Price of a million tokens.
    up_to : int or None
        Most input tokens of a request that is charged at these prices; None: any.
    """

    input: Decimal
    output: Decimal
    up_to: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Prices:
    """
    What a model costs, with the date of the price list.

    Attributes
    ----------
    tiers : tuple of PriceTier
        Smallest requests first; a whole request is charged at the tier of its input.
    batch_factor : decimal.Decimal
        Share of the price that a Batch request costs.
    currency, region : str
        Whose prices these are.
    source : str
        Where they come from.
    date : datetime.date
        When they were read there.
    confidence : {"H", "M", "L"}
        How well they are known.
    """

    tiers: tuple[PriceTier, ...]
    batch_factor: Decimal
    currency: str
    region: str
    source: str
    date: dt.date
    confidence: str

    def __post_init__(self) -> None:
        import datetime as dt

        for name in ("currency", "region", "source"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ValueError(
                    f"Expected text for {name} of prices but received {value!r}"
                )
        if type(self.date) is not dt.date:
            raise ValueError(f"Expected a date of prices but received {self.date!r}")
        if self.confidence not in _CONFIDENCES:
            raise ValueError(
                f"Expected H, M or L for confidence of prices but received "
                f"{self.confidence!r}"
            )
        # None, where nothing goes by Batch.
        if self.batch_factor is not None:
            _check_price("batch_factor", self.batch_factor)
        if not isinstance(self.tiers, tuple) or not self.tiers:
            raise ValueError(
                f"Expected a tuple of PriceTier but received {self.tiers!r}"
            )
        edge = 0
        for number, tier in enumerate(self.tiers, 1):
            if not isinstance(tier, PriceTier):
                raise ValueError(f"Expected PriceTier in tiers but received {tier!r}")
            _check_price("input", tier.input)
            _check_price("output", tier.output)
            if tier.up_to is None and number == len(self.tiers):
                continue
            if type(tier.up_to) is not int or tier.up_to <= edge:
                raise ValueError(
                    f"Expected price tiers with rising edges, whole numbers above "
                    f"{edge:,}, but received up_to = {tier.up_to!r} for tier {number}"
                )
            edge = tier.up_to

    def __repr__(self) -> str:
        first = self.tiers[0]
        more = f", {len(self.tiers)} tiers" if len(self.tiers) > 1 else ""
        return (
            f"<Prices {first.input}/{first.output} {self.currency} a million{more}, "
            f"{self.date}>"
        )


def _check_price(name: str, price: Any) -> None:
    is_number = isinstance(price, (int, float, Decimal)) and type(price) is not bool
    if is_number:
        is_number = (
            price.is_finite()
            if isinstance(price, Decimal)
            else (isinstance(price, int) or math.isfinite(price))
        )
    if not is_number or price < 0:
        raise ValueError(
            f"Expected a price of at least 0 for {name} but received {price!r}"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ModelProfile:
    """
    What one model accepts and how it counts, as dated data.

    Attributes
    ----------
    name, family : str
        Name as the API takes it, and the table of ``profiles.toml`` it stands in.
    factor : int
        Side in pixels of the square that becomes one token.
    min_pixels, max_pixels : int
        Areas in pixels that an image is enlarged or shrunk to by default.
    high_resolution_pixels : int or None
        The cap under ``vl_high_resolution_images``; None where there is none.
    high_resolution_wires : tuple of str
        On which wires that can be asked for.
    image_pixels : bool
        Whether a request may set ``min_pixels`` and ``max_pixels`` for each image.
    recommended_pixels : int
        Area above which more pixels bring nothing; a recommendation, no limit.
    marker_tokens : int
        Tokens billed with every image beside its vision tokens.
    template_tokens : int
        Tokens of a chat of one question around its text: roles, markers, the default
        system prompt.
    max_input_tokens, max_output_tokens : int
        The sum of all input must stay *below* the first.
    max_thinking_input_tokens : int or None
        The same while the model thinks; None where it does not, or it is not known.
    min_side : int
        Least pixels of a side.
    max_ratio : int
        Longest side over shortest side, at most.
    max_file_bytes, max_url_bytes, max_data_uri_bytes : int
        Largest file, largest file behind an address, longest data URI, in bytes.
    max_string_length : int
        Most characters of any one string of a request.
    max_body_bytes : int or None
        Largest request; None, as the provider names none beside Batch files.
    formats : tuple of str
        Types that the API reads, by the names of :class:`~qwenvl_prep.ImageInfo`.
    large_pixels, large_formats : int or None, tuple of str
        Area above which only these types are read; None where all are.
    max_images, max_data_uris : int or None
        Most images in one request, and most of them as data URIs, beside the token
        limit.
    min_frames, max_frames : int or None
        Bounds for a video as a list of frames; None where it takes no video.
    frame_min_pixels, frame_max_pixels : int or None
        Areas in pixels that each frame is enlarged or shrunk to.
    video_pixels : int or None
        Area of all frames together, at most.
    boxes : {"relative-1000", "absolute-resized"} or None
        In what the model answers boxes: thousandths of the sides, or pixels of the
        image as the API resized it.  None where no source says so.
    stream_only : bool
        Whether it answers as a stream only.
    prices : Prices or None
        What it costs; None where that is not known.
    source : str
        Where the numbers come from.
    date : datetime.date
        When they were read there.
    confidence : {"H", "M", "L"}
        How well they are known; see the head of ``profiles.toml``.
    retired : datetime.date or None
        When the provider moved the name to another model; None where it did not.
    successor : str or None
        The name to use instead.
    note : str
        What else has to be known about this row.
    """

    name: str
    family: str
    factor: int
    min_pixels: int
    max_pixels: int
    high_resolution_pixels: int | None = None
    high_resolution_wires: tuple[str, ...] = ()
    image_pixels: bool = False
    recommended_pixels: int
    marker_tokens: int
    template_tokens: int
    max_input_tokens: int
    max_output_tokens: int
    max_thinking_input_tokens: int | None = None
    min_side: int
    max_ratio: int
    max_file_bytes: int
    max_url_bytes: int
    max_data_uri_bytes: int
    max_string_length: int
    max_body_bytes: int | None = None
    formats: tuple[str, ...]
    large_pixels: int | None = None
    large_formats: tuple[str, ...] = ()
    max_images: int | None = None
    max_data_uris: int | None = None
    min_frames: int | None = None
    max_frames: int | None = None
    frame_min_pixels: int | None = None
    frame_max_pixels: int | None = None
    video_pixels: int | None = None
    boxes: BoxConvention | None = None
    stream_only: bool = False
    prices: Prices | None = None
    source: str
    date: dt.date
    confidence: str
    retired: dt.date | None = None
    successor: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if value is None and name in MAY_LACK:
                continue
            if type(value) is not int or value < _LEAST.get(name, 1):
                raise ValueError(
                    f"Expected a whole number of at least {_LEAST.get(name, 1)} for "
                    f"{name} of {self.name} but received {value!r}"
                )
        high = self.high_resolution_pixels or self.max_pixels
        if not self.min_pixels <= self.max_pixels <= high:
            raise ValueError(
                f"Expected min_pixels <= max_pixels <= high_resolution_pixels for "
                f"{self.name} but received {self.min_pixels:,}, {self.max_pixels:,} "
                f"and {high:,}"
            )
        if self.boxes not in (None, *get_args(BoxConvention)):
            raise ValueError(
                f"Expected one of {', '.join(get_args(BoxConvention))} for boxes of "
                f"{self.name} but received {self.boxes!r}"
            )
        if self.confidence not in _CONFIDENCES:
            raise ValueError(
                f"Expected H, M or L for confidence of {self.name} but received "
                f"{self.confidence!r}"
            )

    @property
    def takes_video(self) -> bool:
        """Whether a video can be sent as a list of frames."""
        return self.max_frames is not None

    def cap_pixels(self, *, high_resolution: bool = False) -> int:
        """
        Give the area that one image is shrunk to.

        Raises
        ------
        ModelFeatureError
            If *high_resolution* is asked of a model without it.
        """
        if not high_resolution:
            return self.max_pixels
        if self.high_resolution_pixels is None:
            raise ModelFeatureError(
                f"Expected a model with vl_high_resolution_images but received "
                f"{self.name}, whose cap is fixed at {self.max_pixels:,} pixels; "
                f"drop high_resolution or take another model",
                model=self.name,
                feature="high_resolution",
            )
        return self.high_resolution_pixels

    def formats_for(self, pixels: int) -> tuple[str, ...]:
        """Give the types that the API reads for an image of this area."""
        is_large = self.large_pixels is not None and pixels > self.large_pixels
        return self.large_formats if is_large else self.formats

    def replace(self, **changes: Any) -> ModelProfile:
        """
        Give a copy with other numbers, for a model that has no row here.

        Raises
        ------
        TypeError, ValueError
            If there is no such field, or the number is not sound.
        """
        return dataclasses.replace(self, **changes)

    def __repr__(self) -> str:
        return (
            f"<ModelProfile {self.name}: factor {self.factor}, "
            f"cap {self.max_pixels // self.factor**2} tokens, "
            f"input < {self.max_input_tokens:,}, {self.date}>"
        )
