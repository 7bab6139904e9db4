"""Which boxes, found in several tiles of a picture, are one thing."""

from __future__ import annotations

from itertools import combinations, product
from numbers import Real
from typing import TYPE_CHECKING, Any, TypeAlias

from qwenvl_prep.coordinates import Box
from qwenvl_prep.tiles import TilePlan

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from qwenvl_prep.coordinates import CoordinateMap
    from qwenvl_prep.cut import PreparedTile

__all__ = ["merge_boxes"]

# Left, top, right, bottom in pixels of the upright picture.
_Corners: TypeAlias = tuple[float, float, float, float]

_LEAST_IOU = 0.5


def merge_boxes(
    tiles: TilePlan | Sequence[PreparedTile],
    found: Iterable[Iterable[Box]],
    *,
    min_iou: float = _LEAST_IOU,
    **how: Any,
) -> tuple[Box, ...]:
    """
    Bring what was found in the tiles back to the picture, each thing once.

    Two boxes are one thing if they come from two tiles that overlap, have the same
    label, and lie alike in what both tiles show: cut down to the overlap, they have
    at least *min_iou* of their union in common.  They give way to the box around
    both.  So a thing that two tiles show whole is joined, and one that their borders
    cut is put together from its parts.  The best matches are joined first, and two
    boxes of one tile never become one, also not by way of a third.

    Parameters
    ----------
    tiles : TilePlan or sequence of PreparedTile
        Which tiles were sent.
    found : iterable of iterable of Box
        What the model found in each of them, in order, as
        :func:`qwenvl_prep.parse_boxes` gives it.  Points are brought back, and not
        joined.
    min_iou : float, default 0.5
        Intersection over union from which two boxes are one thing, above 0 and up
        to 1.
    **how
        As for :meth:`qwenvl_prep.CoordinateMap.to_original`, but for ``outward``.

    Returns
    -------
    tuple of Box
        In pixels of the upright picture, in the order in which they were first found.

    Raises
    ------
    TypeError, ValueError
        If there is not one answer for each tile, *min_iou* is out of range, or these
        are no boxes.

    Examples
    --------
    >>> import numpy as np
    >>> from qwenvl_prep import plan_tiles
    >>> plan = plan_tiles(np.zeros((3000, 1000), np.uint8), model="qwen3-vl-plus")
    >>> [tile.crop for tile in plan.tiles]
    [(0, 0, 1568, 1000), (1432, 0, 1568, 1000)]
    >>> upper = [Box("cat", (100, 900, 300, 1000)), Box("dog", (0, 0, 50, 50))]
    >>> lower = [Box("cat", (100, 0, 300, 200))]
    >>> [one.label for one in merge_boxes(plan, [upper, lower])]
    ['cat', 'dog']
    """
    if not isinstance(min_iou, Real):
        raise TypeError(f"Expected a number for min_iou but received {min_iou!r}")
    if isinstance(min_iou, bool) or not 0 < min_iou <= 1:
        raise ValueError(
            f"Expected min_iou above 0 and up to 1 but received {min_iou!r}"
        )
    maps = _maps(tiles)
    answers = _answers(found)
    if len(answers) != len(maps):
        raise ValueError(
            f"Expected what was found in each of {len(maps)} tiles but received "
            f"{len(answers)} answers; an empty list stands for nothing found"
        )
    things = [
        _Thing(index, box)
        for index, (where, boxes) in enumerate(zip(maps, answers, strict=True))
        for box in where.to_original(boxes, **how)
    ]
    shown = [_shown(where) for where in maps]
    # Of equal matches, the first found is joined first.
    for _, first, second in sorted(
        _matches(things, shown, min_iou), key=lambda match: (-match[0], *match[1:])
    ):
        things[first].join(things[second])
    return tuple(
        Box(thing.label, thing.around()) for thing in things if thing.is_first()
    )


class _Thing:
    """A box of one tile, and whatever it was joined with."""

    def __init__(self, tile: int, box: Box) -> None:
        self.tile = tile
        self.label = box.label
        self.box = box.box
        self.corners = _ordered(box.box)
        self.group = [self]

    def join(self, other: _Thing) -> None:
        """Make one thing of two, unless two boxes of one tile would be in it."""
        tiles = {one.tile for one in self.group}
        if tiles.isdisjoint(one.tile for one in other.group):
            self.group += other.group
            for one in self.group:
                one.group = self.group

    def is_first(self) -> bool:
        """Tell whether it was found before all it was joined with."""
        return self is min(self.group, key=lambda one: one.tile)

    def around(self) -> tuple[float, ...]:
        """Give the box around all of them; what was found once stays as it is."""
        if len(self.group) == 1:
            return self.box
        corners = [one.corners for one in self.group]
        return (
            min(one[0] for one in corners),
            min(one[1] for one in corners),
            max(one[2] for one in corners),
            max(one[3] for one in corners),
        )


def _answers(found: Any) -> list[list[Box]]:
    """Give the boxes of each tile, and refuse what is none."""
    answers = []
    for boxes in _each_of("answers, one for each tile,", found):
        answers.append(_each_of("the boxes found in a tile", boxes))
        for box in answers[-1]:
            if not isinstance(box, Box):
                raise TypeError(
                    f"Expected each thing found in a tile as a Box, as parse_boxes "
                    f"gives it, but received {type(box).__name__}; Box('', ...) has "
                    f"no label"
                )
    return answers


def _each_of(what: str, values: Any) -> list[Any]:
    try:
        return list(values)
    except TypeError as exc:
        raise TypeError(
            f"Expected {what} but received {type(values).__name__}"
        ) from exc


def _maps(tiles: TilePlan | Sequence[PreparedTile]) -> list[CoordinateMap]:
    if isinstance(tiles, TilePlan):
        return [tiles.coordinates(index) for index in range(len(tiles.tiles))]
    return [tile.coordinates() for tile in tiles]


def _shown(where: CoordinateMap) -> _Corners:
    """Give the part of the picture that a tile shows."""
    right, bottom = where.left + where.region_width, where.top + where.region_height
    return where.left, where.top, right, bottom


def _matches(
    things: Sequence[_Thing], shown: Sequence[_Corners], min_iou: float
) -> Iterator[tuple[float, int, int]]:
    """Give how alike two boxes are, and their places, where they are one thing."""
    places: list[list[int]] = [[] for _ in shown]
    for place, thing in enumerate(things):
        if len(thing.box) == 4:
            places[thing.tile].append(place)
    # Most tiles share nothing, and most boxes lie outside what two tiles share.
    for one, other in combinations(range(len(shown)), 2):
        both = _common(shown[one], shown[other])
        if not _area(both):
            continue
        near, far = (
            [at for at in places[tile] if _area(_common(things[at].corners, both))]
            for tile in (one, other)
        )
        for first, second in product(near, far):
            alike = _alike(things[first], things[second], both)
            if alike >= min_iou:
                yield alike, first, second


def _alike(first: _Thing, second: _Thing, both: _Corners) -> float:
    """Give the intersection over union inside what both tiles show."""
    if first.label != second.label:
        return 0.0
    one, other = _common(first.corners, both), _common(second.corners, both)
    shared = _area(_common(one, other))
    union = _area(one) + _area(other) - shared
    return shared / union if shared else 0.0


def _ordered(box: tuple[float, ...]) -> _Corners:
    """Give the corners from the upper left to the lower right."""
    xs, ys = box[::2], box[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def _common(one: _Corners, other: _Corners) -> _Corners:
    return (
        max(one[0], other[0]),
        max(one[1], other[1]),
        min(one[2], other[2]),
        min(one[3], other[3]),
    )


def _area(box: _Corners) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)
