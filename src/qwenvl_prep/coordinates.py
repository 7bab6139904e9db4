"""
A box that the model answers, on the original image; and back.

A model answers in the picture that *it* sees: turned upright, perhaps cut, resized
here and perhaps once more by the server.  Which numbers it uses is a matter of its
family (RULES 5): Qwen2-VL and, since Qwen3-VL, all later ones count 0 to 1000 along
both sides, whatever the size (``"relative-1000"``); Qwen2.5-VL counts pixels of the
picture as the server resized it (``"absolute-resized"``).

Everything is ``(x1, y1, x2, y2)`` or ``(x, y)``, x before y, as the models write it,
from the left and the top.  Coordinates lie on the edges between pixels: a picture of
width 5 reaches from 0.0 to 5.0, resizing maps edge to edge (``x · new / old``, no half
pixel is added), and the pixel in column 3 is the box from 3 to 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

from qwenvl_prep.geometry import integer, server_size
from qwenvl_prep.profiles import BoxConvention

if TYPE_CHECKING:
    from collections.abc import Callable

    from qwenvl_prep.headers import ImageInfo
    from qwenvl_prep.profiles import ModelProfile

__all__ = ["Box", "CoordinateMap", "coordinate_map"]


_CONVENTIONS = get_args(BoxConvention)
_RELATIVE_SIDE = 1000

# The orientations of EXIF that mirror after their sides have changed places (CIPA
# DC-008, tag 0x0112); the same sets turn the pixels.
_MIRRORED_ACROSS = frozenset({2, 3, 6, 7})
_MIRRORED_DOWN = frozenset({3, 4, 7, 8})

# What floats leave of a whole pixel after a few multiplications; less than this is
# no part of another pixel.
_ROUNDING_ERROR = 1e-6

# Beyond this a float64 no longer tells one pixel from the next, and the integers of
# an array soon end.
_FARTHEST = 2**53

# A list of boxes for each tile of each page is three deep.
_DEEPEST = 16

# A column of numbers: one coordinate of one box, or of all rows of an array.
_Columns: TypeAlias = list[Any]


@dataclass(frozen=True, slots=True)
class Box:
    """
    One thing that a model found.

    Attributes
    ----------
    label : str
        What it was called; empty where the reply says nothing.
    box : tuple of float
        ``(x1, y1, x2, y2)``, or ``(x, y)`` of a point, as answered.
    """

    label: str
    box: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CoordinateMap:
    """
    How the picture that a model sees lies on the original.

    Attributes
    ----------
    height, width : int
        Size of the original in pixels, upright, as every viewer shows it.
    orientation : int
        EXIF orientation of its stored pixels, 1 to 8.
    is_seen_upright : bool
        Whether the model sees it turned; it does not where ``encoding="keep"`` sent
        bytes that only a tag turns, which the API ignores.
    top, left : int
        Where the part that was sent begins in the upright original; 0 for the whole.
    region_height, region_width : int
        Size of that part in pixels of the upright original.
    seen_height, seen_width : int
        Size at which the model sees that part: what the server's own size rule makes
        of the file that it receives.
    convention : {"relative-1000", "absolute-resized"} or None
        How the model answers; None where that is not known.
    model : str
        Its name.

    Examples
    --------
    >>> import numpy as np
    >>> from qwenvl_prep import plan
    >>> where = plan(np.zeros((1280, 1280, 3), np.uint8)).coordinates()
    >>> where
    <CoordinateMap 980x980 seen of 1280x1280>
    >>> where.to_original((49, 98, 490, 980), convention="absolute-resized")
    (64.0, 128.0, 640.0, 1280.0)
    >>> where.to_sent((64, 128, 640, 1280), convention="relative-1000")
    (50.0, 100.0, 500.0, 1000.0)
    """

    height: int
    width: int
    orientation: int = 1
    is_seen_upright: bool = True
    top: int = 0
    left: int = 0
    region_height: int
    region_width: int
    seen_height: int
    seen_width: int
    convention: BoxConvention | None = None
    model: str = ""

    def to_original(
        self,
        boxes: Any,
        *,
        convention: BoxConvention | None = None,
        stored: bool = False,
        clamp: bool = True,
        outward: bool = False,
    ) -> Any:
        """
        Bring what the model answered back to the original image.

        Parameters
        ----------
        boxes : tuple, Box, list of them, or array_like of shape (n, 4) or (n, 2)
            One box ``(x1, y1, x2, y2)``, one point ``(x, y)``, several, or what
            :func:`parse_boxes` gives.
        convention : {"relative-1000", "absolute-resized"}, optional
            How the numbers are meant; by default as the model's profile says.
        stored : bool
            Give the file's own axes, before its EXIF orientation is applied, for a
            reader that does not apply it.  By default the upright picture's, which
            every viewer shows.
        clamp : bool
            Move what lies outside the picture that was sent onto its edge.
        outward : bool
            Round boxes to whole pixels so that nothing of them is lost, for a crop.

        Returns
        -------
        tuple, Box, list or ndarray of float64
            The same form as *boxes*, in pixels of the original, with fractions.
            Corners keep their order, also where the model's is wrong.  With *outward*,
            whole numbers (int64 in an array), the low corner first.

        Raises
        ------
        TypeError, ValueError
            If these are no boxes, or no convention is known.
        """
        scale = self._scale(convention)

        def move(xs: _Columns, ys: _Columns) -> tuple[_Columns, _Columns]:
            sides = self._region()
            xs = [x * sides[1] / scale[1] for x in xs]
            ys = [y * sides[0] / scale[0] for y in ys]
            if clamp:
                xs, ys = _clamped(xs, sides[1]), _clamped(ys, sides[0])
            if self.is_seen_upright:
                xs, ys = [x + self.left for x in xs], [y + self.top for y in ys]
                if stored:
                    xs, ys = self._to_stored(xs, ys)
            elif not stored:
                xs, ys = self._to_upright(xs, ys)
            _check_reach([*xs, *ys], whole=outward)
            return _outward(xs, ys) if outward else (xs, ys)

        return _each(boxes, move, needs_boxes=outward)

    def to_sent(
        self,
        boxes: Any,
        *,
        convention: BoxConvention | None = None,
        stored: bool = False,
        clamp: bool = True,
    ) -> Any:
        """
        Bring boxes on the original image to the numbers that the model uses.

        Parameters and errors are those of :meth:`to_original`, the other way round:
        *boxes* are pixels of the original, what comes back is in the model's
        convention, for a question or an example in a prompt.
        """
        scale = self._scale(convention)

        def move(xs: _Columns, ys: _Columns) -> tuple[_Columns, _Columns]:
            sides = self._region()
            if self.is_seen_upright:
                if stored:
                    xs, ys = self._to_upright(xs, ys)
                xs, ys = [x - self.left for x in xs], [y - self.top for y in ys]
            elif not stored:
                xs, ys = self._to_stored(xs, ys)
            if clamp:
                xs, ys = _clamped(xs, sides[1]), _clamped(ys, sides[0])
            xs = [x * scale[1] / sides[1] for x in xs]
            ys = [y * scale[0] / sides[0] for y in ys]
            _check_reach([*xs, *ys])
            return xs, ys

        return _each(boxes, move)

    def as_crop(
        self,
        top: int,
        left: int,
        *,
        original_height: int,
        original_width: int,
        height: int | None = None,
        width: int | None = None,
        orientation: int = 1,
    ) -> CoordinateMap:
        """
        Say that this image was cut out of a larger one.

        Parameters
        ----------
        top, left : int
            Where the cut begins, in pixels of the larger image, upright.
        original_height, original_width : int
            Size of the larger image, upright; boxes are given on it from now on.
        height, width : int, optional
            Size of the cut in pixels of the larger image; by default this image's
            own, and another where the cut was resized before it became this image.
        orientation : int
            EXIF orientation of the larger image's stored pixels.

        Raises
        ------
        ValueError
            If the cut does not lie inside the larger image, or this image is not
            seen upright.
        """
        is_whole = (self.region_height, self.region_width) == (self.height, self.width)
        if not (self.is_seen_upright and is_whole):
            raise ValueError("Expected a whole and upright image to place as a crop")
        # Sums of NumPy's small integers overflow, so they become Python's.
        top, left = integer("offset", top), integer("offset", left)
        height = integer("length", self.height if height is None else height)
        width = integer("length", self.width if width is None else width)
        original_height = integer("height", original_height)
        original_width = integer("width", original_width)
        sides = (
            (top, height, original_height, "height"),
            (left, width, original_width, "width"),
        )
        for start, length, whole, name in sides:
            if whole > _FARTHEST:
                raise ValueError(f"Expected a {name} of at most {_FARTHEST} pixels")
            if start < 0 or length < 1 or start + length > whole:
                raise ValueError(
                    f"Expected a cut inside a {name} of {whole} pixels but received "
                    f"{length} pixels from {start}"
                )
        orientation = _checked_orientation(orientation)
        return replace(
            self,
            height=original_height,
            width=original_width,
            orientation=orientation,
            top=top,
            left=left,
            region_height=height,
            region_width=width,
        )

    def _scale(self, convention: BoxConvention | None) -> tuple[int, int]:
        """Give height and width of the picture in the numbers of a convention."""
        convention = convention or self.convention
        if convention is None:
            raise ValueError(
                f"Expected a convention because it is not known how "
                f"{self.model or 'the model'} answers boxes but received None; pass "
                f"convention='relative-1000' or 'absolute-resized'"
            )
        if convention == "relative-1000":
            return _RELATIVE_SIDE, _RELATIVE_SIDE
        if convention == "absolute-resized":
            return self.seen_height, self.seen_width
        raise ValueError(
            f"Expected one of {', '.join(map(repr, _CONVENTIONS))} for convention but "
            f"received {convention!r}"
        )

    def _region(self) -> tuple[int, int]:
        """Give height and width of what was sent, on the axes that the model sees."""
        if self.is_seen_upright or self.orientation < 5:
            return self.region_height, self.region_width
        return self.region_width, self.region_height

    def _to_upright(self, xs: _Columns, ys: _Columns) -> tuple[_Columns, _Columns]:
        """Turn stored coordinates as EXIF says (CIPA DC-008, tag 0x0112)."""
        if self.orientation >= 5:
            xs, ys = ys, xs
        return self._mirrored(xs, ys)

    def _to_stored(self, xs: _Columns, ys: _Columns) -> tuple[_Columns, _Columns]:
        """Turn upright coordinates back to the file's own axes."""
        xs, ys = self._mirrored(xs, ys)
        return (ys, xs) if self.orientation >= 5 else (xs, ys)

    def _mirrored(self, xs: _Columns, ys: _Columns) -> tuple[_Columns, _Columns]:
        # A mirrored right edge is a left one, so the corners change places.
        if self.orientation in _MIRRORED_ACROSS:
            xs = [self.width - x for x in reversed(xs)]
        if self.orientation in _MIRRORED_DOWN:
            ys = [self.height - y for y in reversed(ys)]
        return xs, ys

    def __repr__(self) -> str:
        region = (self.region_height, self.region_width)
        part = ""
        if region != (self.height, self.width):
            part = f"{region[0]}x{region[1]} at {self.top},{self.left} of "
        turned = f", orientation {self.orientation}" if self.orientation != 1 else ""
        return (
            f"<CoordinateMap {self.seen_height}x{self.seen_width} seen of {part}"
            f"{self.height}x{self.width}{turned}>"
        )


def coordinate_map(
    info: ImageInfo,
    model: ModelProfile,
    height: int,
    width: int,
    *,
    is_upright: bool = True,
    high_resolution: bool = False,
) -> CoordinateMap:
    """
    Give the map for an image whose sent size is known; see ``ImagePlan.coordinates``.

    Parameters
    ----------
    info : ImageInfo
        What the original's header says.
    model : ModelProfile
        Model that reads it.
    height, width : int
        Size that is sent, in pixels.
    is_upright : bool
        Whether the pixels are sent upright; where not, on their stored axes.
    high_resolution : bool
        Whether the request sets ``vl_high_resolution_images``.
    """
    # The server resizes by itself whatever is not on its grid or outside its caps.
    seen = server_size(height, width, model, high_resolution=high_resolution)
    return CoordinateMap(
        height=info.upright_height,
        width=info.upright_width,
        orientation=info.orientation,
        is_seen_upright=is_upright or info.orientation == 1,
        region_height=info.upright_height,
        region_width=info.upright_width,
        seen_height=seen[0],
        seen_width=seen[1],
        convention=model.boxes,
        model=model.name,
    )


# ------------------------------------------------------------------ forms of boxes


def _each(
    boxes: Any,
    move: Callable[[_Columns, _Columns], tuple[_Columns, _Columns]],
    *,
    needs_boxes: bool = False,
    depth: int = 0,
) -> Any:
    """Move one box, several or the columns of an array, and keep the form."""
    if isinstance(boxes, Box):
        if not _is_one(boxes.box):
            raise TypeError(
                f"Expected the numbers of one box or point in a Box but received "
                f"{type(boxes.box).__name__}"
            )
        return replace(boxes, box=_each(boxes.box, move, needs_boxes=needs_boxes))
    if _is_array(boxes):
        return _each_row(boxes, move, needs_boxes)
    if not isinstance(boxes, (list, tuple)):
        raise TypeError(
            f"Expected a box (x1, y1, x2, y2), a point (x, y), several or an array "
            f"but received {type(boxes).__name__}"
        )
    if not _is_one(boxes):
        # Also ends a list that holds itself.
        if depth == _DEEPEST:
            raise ValueError(
                f"Expected boxes in at most {_DEEPEST} lists inside each other but "
                f"received more"
            )
        return [
            _each(box, move, needs_boxes=needs_boxes, depth=depth + 1) for box in boxes
        ]
    _check_length(len(boxes), needs_boxes)
    numbers = [_number(value) for value in boxes]
    xs, ys = move(numbers[::2], numbers[1::2])
    return tuple(value for pair in zip(xs, ys, strict=True) for value in pair)


def _is_array(boxes: Any) -> bool:
    return hasattr(boxes, "__array__") and hasattr(boxes, "ndim")


def _is_one(boxes: Any) -> bool:
    """Tell whether these are the numbers of one box or point."""
    if _is_array(boxes):
        return bool(boxes.ndim == 1)
    is_row = isinstance(boxes, (list, tuple)) and len(boxes) > 0
    return is_row and isinstance(boxes[0], Real)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"Expected numbers in a box but received {type(value).__name__}"
        )
    try:
        number = float(value)
    except OverflowError:  # an int of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(
            "Expected finite numbers in a box, none beyond what a float holds, but "
            "received one that is not"
        )
    return number


def _check_reach(columns: _Columns, *, whole: bool = False) -> None:
    """Refuse what has left the numbers; clamped coordinates never do."""
    for values in columns:
        if hasattr(values, "dtype"):
            most = float(abs(values).max(initial=0.0))
        else:
            most = abs(values)
        if not math.isfinite(most) or (whole and most > _FARTHEST):
            raise ValueError(
                "Expected boxes near the picture but received one too far away to be "
                "told in pixels; clamp=True moves it onto the edge"
            )


def _each_row(boxes: Any, move: Callable[..., Any], needs_boxes: bool) -> Any:
    import numpy as np

    array = np.asarray(boxes)
    if array.dtype.kind not in "iuf" or array.ndim not in {1, 2}:
        raise TypeError(
            f"Expected numbers of shape (n, 4) or (n, 2) for boxes but received "
            f"{array.dtype} of shape {array.shape}"
        )
    _check_length(array.shape[-1], needs_boxes)
    # What overflows is infinite, and refused below or moved onto the edge.
    with np.errstate(all="ignore"):
        rows = np.atleast_2d(array.astype(np.float64))
        if not np.isfinite(rows).all():
            raise ValueError("Expected finite numbers in boxes but received NaN or inf")
        columns = list(rows.T)
        xs, ys = move(columns[::2], columns[1::2])
    moved = [column for pair in zip(xs, ys, strict=True) for column in pair]
    return np.stack(moved, axis=-1).reshape(array.shape)


def _check_length(length: int, needs_boxes: bool) -> None:
    if length == 4 or (length == 2 and not needs_boxes):
        return
    what = "4 numbers of a box" if needs_boxes else "4 numbers of a box or 2 of a point"
    raise ValueError(f"Expected {what} but received {length}")


def _clamped(values: _Columns, most: int) -> _Columns:
    return [
        value.clip(0.0, most)
        if hasattr(value, "clip")
        else min(max(value, 0.0), float(most))
        for value in values
    ]


def _outward(xs: _Columns, ys: _Columns) -> tuple[_Columns, _Columns]:
    """Round the corners of a box away from its middle."""

    def rounded(first: Any, second: Any) -> _Columns:
        if hasattr(first, "dtype"):
            import numpy as np

            low = np.floor(np.minimum(first, second) + _ROUNDING_ERROR)
            high = np.ceil(np.maximum(first, second) - _ROUNDING_ERROR)
            return [low.astype(np.int64), high.astype(np.int64)]
        first, second = sorted((first, second))
        return [
            math.floor(first + _ROUNDING_ERROR),
            math.ceil(second - _ROUNDING_ERROR),
        ]

    return rounded(*xs), rounded(*ys)


def _checked_orientation(orientation: int) -> int:
    orientation = integer("orientation", orientation)
    if orientation not in range(1, 9):
        raise ValueError(f"Expected an orientation of 1..8 but received {orientation}")
    return orientation
