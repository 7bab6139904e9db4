"""What the caller asks for beyond the model's rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias, TypedDict, get_args

from qwenvl_prep.geometry import integer

__all__ = [
    "WHITE",
    "Chroma",
    "Color",
    "Encoding",
    "Fidelity",
    "OnTruncated",
    "PlanKeywords",
    "PlanOptions",
    "Rgb",
]

Encoding: TypeAlias = Literal["auto", "jpeg", "webp", "png", "webp-lossless", "keep"]
Chroma: TypeAlias = Literal["auto", "4:4:4", "4:2:2", "4:2:0"]
Color: TypeAlias = Literal["srgb", "keep"]
Fidelity: TypeAlias = Literal["exact", "fast"]
OnTruncated: TypeAlias = Literal["error", "accept"]
Rgb: TypeAlias = tuple[int, int, int]

WHITE: Rgb = (255, 255, 255)

_CHOICES = {
    "encoding": get_args(Encoding),
    "chroma": get_args(Chroma),
    "color": get_args(Color),
    "fidelity": get_args(Fidelity),
    "on_truncated": get_args(OnTruncated),
}
_FLAGS = ("high_resolution", "strip_metadata", "report")
_NAMED = {"white": WHITE, "black": (0, 0, 0)}
_HEX = re.compile("#[0-9a-fA-F]{6}")


class PlanKeywords(TypedDict, total=False):
    """The fields of :class:`PlanOptions`, which ``plan`` and ``prepare`` take."""

    high_resolution: bool
    max_tokens: int | None
    max_bytes: int | None
    encoding: Encoding
    quality: int
    chroma: Chroma
    background: str | Rgb
    color: Color
    frame: int | None
    strip_metadata: bool
    on_truncated: OnTruncated
    fidelity: Fidelity
    report: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """
    What the caller asks for beyond the model's rules.

    Attributes
    ----------
    high_resolution : bool
        Whether the request will set ``vl_high_resolution_images``.
    max_tokens : int or None
        Cap on the image's vision tokens below the model's own; the two markers are
        billed on top.
    max_bytes : int or None
        Cap on the data URI in bytes below the model's own.  Quality gives way first,
        then size.
    encoding : {"auto", "jpeg", "webp", "png", "webp-lossless", "keep"}
        ``"auto"`` keeps legal bytes where nothing has to change, else writes PNG for
        line art, documents and screenshots that it makes short, else JPEG.
        ``"keep"`` sends legal bytes as they are, whatever they look like, and
        refuses the others.
    quality : int
        Of JPEG and lossy WebP, 1 to 95.
    chroma : {"auto", "4:4:4", "4:2:2", "4:2:0"}
        Resolution of colour in a JPEG; ``"auto"`` looks at the picture.
    background : (int, int, int) or str
        What transparent parts are laid on: red, green, blue of 0 to 255, or
        ``"white"``, ``"black"``, ``"#rrggbb"``.
    color : {"srgb", "keep"}
        Whether an embedded colour profile is applied, or the numbers are sent as
        they are; what is encoded anew has no profile.
    frame : int or None
        Which frame, page or picture of a file with several, from 0; by default the
        first, and the largest of an icon.
    strip_metadata : bool
        Whether bytes that are kept lose their metadata; what is encoded anew never
        has any.
    on_truncated : {"error", "accept"}
        Whether a JPEG or PNG that is broken or ends early is refused, or what arrived
        of it is sent, the rest in the background's colour.  Rows have to come one
        after another for that: CMYK and interlaced PNG are refused anyway, and of a
        progressive JPEG the scans that arrived whole are sent.
    fidelity : {"exact", "fast"}
        ``"fast"`` decodes a JPEG at a half, a quarter or an eighth of its size where
        twice the pixels of the target are left.
    report : bool
        Whether the result says how far it is from the exact pixels.
    """

    high_resolution: bool = False
    max_tokens: int | None = None
    max_bytes: int | None = None
    encoding: Encoding = "auto"
    quality: int = 90
    chroma: Chroma = "auto"
    background: Rgb = WHITE
    color: Color = "srgb"
    frame: int | None = None
    strip_metadata: bool = False
    on_truncated: OnTruncated = "error"
    fidelity: Fidelity = "exact"
    report: bool = False

    def __post_init__(self) -> None:
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise TypeError(
                    f"Expected True or False for {name} but received "
                    f"{getattr(self, name)!r}"
                )
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"Expected one of {', '.join(map(repr, choices))} for {name} but "
                    f"received {getattr(self, name)!r}"
                )
        integer("quality", self.quality)
        # Above 95 a JPEG only grows; libjpeg's manual advises against it.
        if not 1 <= self.quality <= 95:
            raise ValueError(
                f"Expected 1 to 95 for quality but received {self.quality}"
            )
        for name, least in (("max_tokens", 1), ("max_bytes", 1), ("frame", 0)):
            value = getattr(self, name)
            if value is not None:
                integer(name, value, least=least)
        object.__setattr__(self, "background", _rgb(self.background))

    @classmethod
    def of(cls, keywords: PlanKeywords) -> PlanOptions:
        """Make the options that a call's keywords ask for."""
        unknown = sorted(set(keywords) - {field.name for field in fields(cls)})
        if unknown:
            known = ", ".join(field.name for field in fields(cls))
            raise TypeError(f"Expected options among {known} but received {unknown[0]}")
        # A name is turned into numbers above, which mypy cannot see.
        return cls(**keywords)  # type: ignore[arg-type]


def _rgb(background: Any) -> Rgb:
    if isinstance(background, str):
        if background in _NAMED:
            return _NAMED[background]
        if _HEX.fullmatch(background):
            red, green, blue = bytes.fromhex(background[1:])
            return red, green, blue
    elif isinstance(background, (tuple, list)) and len(background) == 3:
        red, green, blue = (integer("background", level) for level in background)
        if all(0 <= level <= 255 for level in (red, green, blue)):
            return red, green, blue
    raise ValueError(
        f"Expected 'white', 'black', '#rrggbb' or red, green and blue of 0 to 255 for "
        f"background but received {background!r}"
    )
