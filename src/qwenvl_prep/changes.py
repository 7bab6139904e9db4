"""What is done to a picture, in the words of a person who looks at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwenvl_prep.icc import conversion_for
from qwenvl_prep.options import WHITE, PlanOptions, Rgb

if TYPE_CHECKING:
    from qwenvl_prep.headers import ImageInfo
    from qwenvl_prep.pixels import Pixels

__all__ = ["lost", "steps_to"]

# What a file's several pictures are called.
_FRAMES = {
    "TIFF": "pages",
    **dict.fromkeys(("HEIF", "ICNS", "ICO", "JPEG"), "pictures"),
}
# And which of them is taken unasked, if that is not the first.
_CHOSEN = {"ICO": "largest", "ICNS": "largest", "HEIF": "primary"}

_NAMES_OF_COLOURS = {WHITE: "white", (0, 0, 0): "black"}

# How EXIF's eight orientations are mended (CIPA DC-008, tag 0x0112).
_TURNS = {
    2: "mirrored",
    3: "turned 180°",
    4: "flipped",
    5: "turned 90° and mirrored",
    6: "turned 90°",
    7: "turned 270° and mirrored",
    8: "turned 270°",
}


def steps_to(
    height: int, width: int, info: ImageInfo, options: PlanOptions, *, shrink: int
) -> tuple[str, ...]:
    """
    Tell what becomes of a picture before it is encoded.

    Parameters
    ----------
    height, width : int
        Size that it gets, upright.
    info : ImageInfo
        What it is.
    options : PlanOptions
        What was asked for.
    shrink : int
        By what its sides are divided while it is decoded.
    """
    steps = []
    if info.n_frames > 1:
        steps.append(_chosen(info))
    if shrink > 1:
        steps.append(f"decoded at 1/{shrink}")
    if info.bit_depth > 8:
        steps.append(f"{info.bit_depth} → 8 bit")
    conversion = conversion_for(info, options.color)
    if conversion is not None:
        steps.append(f"{conversion.name} → sRGB")
    elif info.colour == "cmyk":
        steps.append("CMYK → RGB")
    if info.orientation != 1:
        steps.append(_TURNS[info.orientation])
    if info.has_alpha:
        steps.append(f"flattened on {_named(options.background)}")
    upright = (info.upright_height, info.upright_width)
    if (height, width) != upright:
        steps.append(f"resized {upright[0]}×{upright[1]} → {height}×{width}")
    return tuple(steps)


def lost(pixels: Pixels, options: PlanOptions) -> tuple[str, ...]:
    """Tell what a broken file, of which the rest was accepted, did not hold."""
    if pixels.missing:
        share = f"{pixels.missing:.0%}".replace("%", " %")
        ground = _named(options.background)
        return (f"cut off: {share} of the picture is missing and {ground}",)
    if pixels.is_coarse:
        return ("cut off: the details are missing",)
    return ()


def _chosen(info: ImageInfo) -> str:
    """Tell which of several pictures is taken."""
    several = f"{info.n_frames} {_FRAMES.get(info.format, 'frames')}"
    if info.frame is not None:
        return f"frame {info.frame} of {several}, counted from 0"
    return f"{_CHOSEN.get(info.format, 'first')} of {several}"


def _named(colour: Rgb) -> str:
    return _NAMES_OF_COLOURS.get(colour) or f"#{bytes(colour).hex()}"
