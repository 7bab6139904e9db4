"""Which size an image becomes, and how many tokens that is."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from qwenvl_prep._native import geometry as _native
from qwenvl_prep.errors import AspectRatioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from qwenvl_prep.profiles import ModelProfile

__all__ = [
    "MAX_RATIO",
    "SizeRule",
    "billed_tokens",
    "billed_tokens_many",
    "int64_array",
    "integer",
    "is_above_ratio",
    "server_size",
    "size_arrays",
    "smart_resize",
    "smart_resize_many",
    "vision_tokens",
]

SizeRule: TypeAlias = Literal["server", "strict"]

# Longest side over shortest side. The API's limit (RULES 1 and 3, seed 2025-02) is
# also where the published size rule stops.
MAX_RATIO: int = _native.MAX_RATIO

# The published defaults of smart_resize: 4 and 1280 patches of 28 x 28.
_FACTOR = 28
_MIN_PIXELS = 4 * 28 * 28
_MAX_PIXELS = 1280 * 28 * 28


def smart_resize(
    height: int,
    width: int,
    *,
    factor: int = _FACTOR,
    min_pixels: int = _MIN_PIXELS,
    max_pixels: int = _MAX_PIXELS,
    rule: SizeRule = "server",
) -> tuple[int, int]:
    """
    Give the size that the model resizes an image to.

    Both sides are rounded to multiples of *factor* (ties to even); an area above
    *max_pixels* is shrunk, one below *min_pixels* is enlarged.

    Parameters
    ----------
    height, width : int
        Size of the upright image in pixels, at least 1.
    factor : int
        Side of one token's square in pixels: 28 or 32 for published models.
    min_pixels, max_pixels : int
        Smallest and largest area in pixels, ``1 <= min_pixels <= max_pixels``.
    rule : {"server", "strict"}
        ``"server"`` is what is published, bit for bit; with caps of one's own it
        can give a side of 0 or exceed *max_pixels*.  ``"strict"`` gives the legal
        size closest to it: never 0, never above *max_pixels*.

    Returns
    -------
    tuple of (int, int)
        ``(height, width)`` in pixels, multiples of *factor*.

    Raises
    ------
    AspectRatioError
        If one side is more than 200 times the other.
    TypeError
        If an argument is not an int (bool and float are refused).
    ValueError
        If a number is out of range, or the sides' product leaves int64.

    Notes
    -----
    Source: the provider's sample code, equal to ``smart_resize`` of transformers
    from 4.57 for every published cap (``tests/reference``).

    Examples
    --------
    >>> smart_resize(1280, 1280)
    (980, 980)
    >>> smart_resize(15, 575, max_pixels=20 * 28 * 28)
    (0, 756)
    >>> smart_resize(15, 575, max_pixels=20 * 28 * 28, rule="strict")
    (28, 560)
    """
    height = integer("height", height, least=1)
    width = integer("width", width, least=1)
    size = _native.smart_resize(
        height,
        width,
        *_checked_rule(height, width, factor, min_pixels, max_pixels),
        _is_strict(rule),
    )
    if size is None:
        raise AspectRatioError(
            f"Expected sides with a ratio of at most {MAX_RATIO}:1 but received "
            f"{height} × {width}; crop the image or cut it into tiles",
            height=height,
            width=width,
            limit=MAX_RATIO,
        )
    return size


def smart_resize_many(
    heights: ArrayLike,
    widths: ArrayLike,
    *,
    factor: int = _FACTOR,
    min_pixels: int = _MIN_PIXELS,
    max_pixels: int = _MAX_PIXELS,
    rule: SizeRule = "server",
) -> NDArray[np.int64]:
    """
    Give the sizes that the model resizes many images to, without the GIL.

    Parameters
    ----------
    heights, widths : array_like of int, shape (n,)
        Sizes of the upright images in pixels, at least 1.
    factor, min_pixels, max_pixels, rule
        As for :func:`smart_resize`.

    Returns
    -------
    ndarray of int64, shape (n, 2)
        ``(height, width)`` rows, multiples of *factor*.  A size with a ratio above
        200:1 has no answer and gives a row of ``(0, 0)``, so that one such image
        does not hide the others.

    Raises
    ------
    TypeError
        If an array does not hold ints.
    ValueError
        If a side is below 1 (its index is named) or the shapes differ.

    Examples
    --------
    >>> smart_resize_many([512, 1280, 1], [512, 1280, 201]).tolist()
    [[504, 504], [980, 980], [0, 0]]
    """
    import numpy as np

    first, second = size_arrays(heights, widths)
    sizes = np.empty((first.shape[0], 2), dtype=np.int64)
    refused = _native.smart_resize_many(
        first,
        second,
        sizes,
        *_checked_rule(1, 1, factor, min_pixels, max_pixels),
        _is_strict(rule),
    )
    _raise_refused(refused, first, second)
    return sizes


def server_size(
    height: int, width: int, model: ModelProfile, *, high_resolution: bool = False
) -> tuple[int, int]:
    """
    Give the size that the API itself resizes an image to, as its model sees it.

    Parameters and errors are those of :func:`vision_tokens`.

    Returns
    -------
    tuple of (int, int)
        ``(height, width)`` in pixels, multiples of the model's factor.

    Examples
    --------
    >>> from qwenvl_prep import get_model
    >>> server_size(1280, 1280, get_model("qwen-vl-max"))
    (980, 980)
    """
    return smart_resize(
        height,
        width,
        factor=model.factor,
        min_pixels=model.min_pixels,
        max_pixels=model.cap_pixels(high_resolution=high_resolution),
    )


def vision_tokens(
    height: int, width: int, model: ModelProfile, *, high_resolution: bool = False
) -> int:
    """
    Count the vision tokens of an image that the API itself resizes.

    Parameters
    ----------
    height, width : int
        Size of the upright image in pixels.
    model : ModelProfile
        Whose factor and caps apply.
    high_resolution : bool
        Whether the request sets ``vl_high_resolution_images``.

    Returns
    -------
    int
        Squares of ``factor × factor``, without the two markers.

    Examples
    --------
    >>> from qwenvl_prep import get_model
    >>> vision_tokens(1280, 1280, get_model("qwen-vl-max"))
    1225
    """
    resized = server_size(height, width, model, high_resolution=high_resolution)
    return (resized[0] // model.factor) * (resized[1] // model.factor)


def billed_tokens(
    height: int, width: int, model: ModelProfile, *, high_resolution: bool = False
) -> int:
    """
    Predict the tokens that one image adds to the bill: vision tokens and markers.

    Parameters and errors are those of :func:`vision_tokens`.

    Examples
    --------
    >>> from qwenvl_prep import get_model
    >>> billed_tokens(1280, 1280, get_model("qwen-vl-max"))
    1227
    """
    vision = vision_tokens(height, width, model, high_resolution=high_resolution)
    return vision + model.marker_tokens


def billed_tokens_many(
    heights: ArrayLike,
    widths: ArrayLike,
    model: ModelProfile,
    *,
    high_resolution: bool = False,
) -> NDArray[np.int64]:
    """
    Predict the tokens that many images add to the bill, without the GIL.

    Returns
    -------
    ndarray of int64, shape (n,)
        As :func:`billed_tokens`, one by one; 0 where the ratio is above 200:1.
    """
    import numpy as np

    first, second = size_arrays(heights, widths)
    counts = np.empty(first.shape[0], dtype=np.int64)
    refused = _native.billed_tokens_many(
        first,
        second,
        counts,
        model.factor,
        model.min_pixels,
        model.cap_pixels(high_resolution=high_resolution),
        model.marker_tokens,
    )
    _raise_refused(refused, first, second)
    return counts


def is_above_ratio(height: int, width: int) -> bool:
    """Tell whether one side is more than 200 times the other, without rounding."""
    return max(height, width) > MAX_RATIO * min(height, width)


def integer(name: str, value: Any, *, least: int | None = None) -> int:
    """
    Take an int, also one of NumPy's, and refuse everything that only looks so.

    Raises
    ------
    TypeError
        If it is none.
    ValueError
        If it is below *least*.
    """
    # bool is an int to Python, not to us.
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:  # told in our words below
        number = None
    if number is None:
        raise TypeError(f"Expected an int for {name} but received {value!r}")
    if least is not None and number < least:
        raise ValueError(f"Expected at least {least} for {name} but received {number}")
    return number


def _checked_rule(
    height: int, width: int, factor: Any, min_pixels: Any, max_pixels: Any
) -> tuple[int, int, int]:
    factor = integer("factor", factor)
    min_pixels = integer("min_pixels", min_pixels)
    max_pixels = integer("max_pixels", max_pixels)
    if not 1 <= factor <= _native.MAX_FACTOR:
        raise ValueError(
            f"Expected 1 to {_native.MAX_FACTOR} for factor but received {factor}"
        )
    if not 1 <= min_pixels <= max_pixels <= _native.MAX_PIXELS:
        raise ValueError(
            f"Expected 1 <= min_pixels <= max_pixels <= {_native.MAX_PIXELS} "
            f"but received {min_pixels} and {max_pixels}"
        )
    if (height + factor) * (width + factor) >= 2**63:
        raise ValueError(
            f"Expected an area inside 64 bits but received {height} × {width} pixels"
        )
    return factor, min_pixels, max_pixels


def _is_strict(rule: str) -> bool:
    if rule not in ("server", "strict"):
        raise ValueError(
            f"Expected 'server' or 'strict' for rule but received {rule!r}"
        )
    return rule == "strict"


def size_arrays(
    heights: ArrayLike, widths: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take heights and widths of one length as arrays that C can read."""
    first = int64_array("heights", heights)
    second = int64_array("widths", widths)
    if first.shape != second.shape:
        raise ValueError(
            f"Expected heights and widths of one length but received "
            f"{first.shape[0]} and {second.shape[0]}"
        )
    return first, second


def int64_array(name: str, values: ArrayLike) -> NDArray[np.int64]:
    """Take ints in one dimension as an array that C can read."""
    import numpy as np

    array = np.asarray(values)
    if array.size == 0 and array.ndim == 1:
        return np.empty(0, dtype=np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"Expected ints for {name} but received {array.dtype}")
    if array.ndim != 1:
        raise ValueError(
            f"Expected one dimension for {name} but received shape {array.shape}"
        )
    if array.dtype.kind == "u" and array.max() >= 2**63:
        raise ValueError(f"Expected {name} inside 64 bits but received {array.max()}")
    # Aligned too, as a view into the middle of a record need not be: C relies on it.
    return np.require(array, np.int64, ["C_CONTIGUOUS", "ALIGNED"])


def _raise_refused(
    index: int, heights: NDArray[np.int64], widths: NDArray[np.int64]
) -> None:
    if index >= 0:
        raise ValueError(
            f"Expected sides of at least 1 with an area inside 64 bits but received "
            f"{heights[index]} × {widths[index]} at index {index}"
        )
