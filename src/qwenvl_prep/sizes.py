"""Which size is sent under a cap, and what that is billed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qwenvl_prep._native import caps as _native
from qwenvl_prep.geometry import (
    MAX_RATIO,
    int64_array,
    is_above_ratio,
    server_size,
    size_arrays,
    smart_resize,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from qwenvl_prep.profiles import ModelProfile

__all__ = [
    "cap_tokens",
    "grid_size",
    "is_above_cap",
    "least_tokens",
    "shrunk_size",
    "tokens_under_caps",
]


def is_above_cap(height: int, width: int, model: ModelProfile, cap: int) -> bool:
    """Tell whether the size, rounded to the model's grid, is above *cap* pixels."""
    squares = round(height / model.factor) * round(width / model.factor)
    return squares * model.factor**2 > cap


def shrunk_size(
    height: int,
    width: int,
    model: ModelProfile,
    cap: int,
    *,
    high_resolution: bool = False,
) -> tuple[int, int]:
    """
    Give the size to shrink to where the rounded area is above the cap.

    Parameters
    ----------
    height, width : int
        Size of the upright image in pixels.
    model : ModelProfile
        Model that will read it.
    cap : int
        Area in pixels, at most the model's own cap.
    high_resolution : bool
        Whether the request sets ``vl_high_resolution_images``.

    Returns
    -------
    tuple of (int, int)
        ``(height, width)`` in pixels.
    """
    is_own_cap = cap < model.cap_pixels(high_resolution=high_resolution)
    size = smart_resize(
        height,
        width,
        factor=model.factor,
        min_pixels=model.min_pixels,
        max_pixels=cap,
        rule="strict" if is_own_cap else "server",
    )
    if not is_own_cap:
        # The server shrinks by itself, to the same tokens: where our doing it would
        # enlarge a side or break the ratio, the original size is sent.
        is_enlarged = size[0] > height or size[1] > width
        return (height, width) if is_enlarged or is_above_ratio(*size) else size
    # Nobody else keeps a cap of the caller's own, so here the ratio has to give.
    size = (
        min(size[0], model.max_ratio * size[1]),
        min(size[1], model.max_ratio * size[0]),
    )
    # Below the least area the server would enlarge again: better to keep the pixels.
    lifted = server_size(*size, model, high_resolution=high_resolution)
    is_within = lifted[0] <= height and lifted[1] <= width
    is_better = is_within and lifted[0] * lifted[1] <= cap
    return lifted if is_better and not is_above_ratio(*lifted) else size


def grid_size(
    height: int, width: int, model: ModelProfile, *, high_resolution: bool = False
) -> tuple[int, int]:
    """
    Give the size for pixels that are encoded anew anyway, below the cap.

    On the model's grid the server's own resize changes nothing more.  Enlarging is
    left to the server: it costs bytes and adds no information.
    """
    size = server_size(height, width, model, high_resolution=high_resolution)
    is_enlarged = size[0] > height or size[1] > width
    return (height, width) if is_enlarged or is_above_ratio(*size) else size


def least_tokens(model: ModelProfile) -> int:
    """Give the least cap in vision tokens: the server enlarges to that many."""
    return -(-model.min_pixels // model.factor**2)


def cap_tokens(model: ModelProfile, *, high_resolution: bool = False) -> int:
    """Give the least number of vision tokens that caps nothing the model does not."""
    cap = model.cap_pixels(high_resolution=high_resolution)
    return -(-cap // model.factor**2)


def tokens_under_caps(
    heights: ArrayLike,
    widths: ArrayLike,
    caps: ArrayLike,
    model: ModelProfile,
    *,
    high_resolution: bool = False,
) -> NDArray[np.int64]:
    """
    Predict what images are billed, each under a cap of its own, without the GIL.

    Parameters
    ----------
    heights, widths : array_like of int, shape (n,)
        Sizes of the upright images in pixels, at least 1.
    caps : array_like of int, shape (n,)
        ``max_tokens`` of each image: its vision tokens at most, at least
        :func:`least_tokens`.
    model : ModelProfile
        Model that will read them.
    high_resolution : bool
        Whether the request sets ``vl_high_resolution_images``.

    Returns
    -------
    ndarray of int64, shape (n,)
        Vision tokens and markers, as ``plan(..., max_tokens=cap).tokens``; 0 where
        the ratio is above 200:1.  Where the vision tokens are above the cap, the
        server enlarges the shape above it, and ``plan`` refuses the cap.

    Raises
    ------
    TypeError
        If an array does not hold ints.
    ValueError
        If a side or a cap is too small (its index is named) or the shapes differ.

    Examples
    --------
    >>> from qwenvl_prep import get_model
    >>> model = get_model("qwen-vl-max")
    >>> tokens_under_caps([1280] * 3, [1280] * 3, [1280, 1000, 99], model).tolist()
    [1227, 963, 83]
    """
    import numpy as np

    first, second = size_arrays(heights, widths)
    most = int64_array("caps", caps)
    if most.shape != first.shape:
        raise ValueError(
            f"Expected a cap for each of {first.shape[0]} sizes but received "
            f"{most.shape[0]}"
        )
    counts = np.empty(first.shape[0], dtype=np.int64)
    refused = _native.vision_tokens_under(
        first,
        second,
        most,
        counts,
        model.factor,
        model.min_pixels,
        model.cap_pixels(high_resolution=high_resolution),
        min(model.max_ratio, MAX_RATIO),
    )
    if refused >= 0:
        raise ValueError(
            f"Expected sides of at least 1 with an area inside 64 bits and a cap of at "
            f"least {least_tokens(model)} tokens but received {first[refused]} × "
            f"{second[refused]} under {most[refused]} at index {refused}"
        )
    counts += np.where(counts > 0, model.marker_tokens, 0)
    return counts
