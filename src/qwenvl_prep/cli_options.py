"""The options that several commands of the command line share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import click

from qwenvl_prep.options import Chroma, Color, Encoding, Fidelity, OnTruncated
from qwenvl_prep.profiles import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ASKING",
    "BACKGROUND",
    "FRAME",
    "HIGH",
    "INPUTS",
    "JSON",
    "MODEL",
    "PREPARING",
    "QUALITY",
    "QUIET",
    "with_options",
]


def with_options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    """Put several options on one command."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


INPUTS = click.argument("inputs", nargs=-1, required=True)
MODEL = click.option(
    "-m", "--model", default=DEFAULT_MODEL, show_default=True, help="Model name."
)
HIGH = click.option(
    "--high-resolution", is_flag=True, help="With vl_high_resolution_images set."
)
JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")
QUALITY = click.option(
    "--quality",
    type=click.IntRange(1, 95),
    default=90,
    show_default=True,
    help="Of JPEG and WebP.",
)
BACKGROUND = click.option(
    "--background",
    default="white",
    show_default=True,
    help="Under transparent parts: white, black or #rrggbb.",
)
FRAME = click.option(
    "--frame", type=click.IntRange(0), help="Frame, page or picture, from 0."
)
PREPARING = with_options(
    click.option(
        "--max-tokens",
        type=click.IntRange(1),
        help="Vision tokens of an image, at most.",
    ),
    click.option(
        "--max-bytes", type=click.IntRange(1), help="Bytes of a data URI, at most."
    ),
    click.option(
        "--encoding",
        type=click.Choice(get_args(Encoding)),
        default="auto",
        show_default=True,
        help="auto keeps legal bytes, else picks PNG or JPEG by the picture.",
    ),
    QUALITY,
    click.option(
        "--chroma",
        type=click.Choice(get_args(Chroma)),
        default="auto",
        show_default=True,
        help="Resolution of a JPEG's colour.",
    ),
    BACKGROUND,
    click.option(
        "--color",
        type=click.Choice(get_args(Color)),
        default="srgb",
        show_default=True,
        help="Apply a colour profile, or keep the numbers.",
    ),
    FRAME,
    click.option(
        "--strip-metadata", is_flag=True, help="Also from files that are kept."
    ),
    click.option(
        "--on-truncated",
        type=click.Choice(get_args(OnTruncated)),
        default="error",
        show_default=True,
        help="What to do with a JPEG or PNG that is cut off.",
    ),
    click.option(
        "--fidelity",
        type=click.Choice(get_args(Fidelity)),
        default="exact",
        show_default=True,
        help="fast decodes large JPEGs at a part of their size.",
    ),
    click.option(
        "--report", is_flag=True, help="Measure what is sent against the exact pixels."
    ),
    click.option("--workers", type=click.IntRange(1), help="Threads; one a core."),
)
ASKING = with_options(
    click.option("-t", "--text", default="", help="The question."),
    click.option("--system", help="The system prompt."),
    click.option(
        "--wire",
        type=click.Choice(["openai", "dashscope"]),
        default="openai",
        show_default=True,
        help="Form of the request.",
    ),
    click.option("--stream", is_flag=True, help="Ask for the answer in pieces."),
    click.option("--video", is_flag=True, help="The images are frames of one video."),
)
