"""Which grid of equal tiles shows a picture at the largest scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qwenvl_prep.profiles import ModelProfile

__all__ = [
    "LEAST_ROUNDED",
    "Grid",
    "GridRules",
    "best_grid",
    "cheapest_grid",
    "least_length",
    "starts",
]

# A side that one tile covers alone is rounded to the model's grid as the server does
# it, up or down; down only where so much of the scale is left.
LEAST_ROUNDED = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """
    Rows and columns of tiles that have one size and overlap.

    Attributes
    ----------
    rows, columns : int
        How many tiles stand below and beside each other.
    height, width : int
        Of each tile, in pixels of the picture.
    sent_height, sent_width : int
        What each tile is resized to, multiples of the model's factor.
    tokens : int
        Billed tokens of all tiles, with their markers.
    vision_tokens : int
        The same without the markers, which is what a budget counts.
    scale : float
        Sent over original, at most 1; a side that one tile covers alone counts as 1
        where it is only rounded to the model's grid.
    """

    rows: int
    columns: int
    height: int
    width: int
    sent_height: int
    sent_width: int
    tokens: int
    vision_tokens: int
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GridRules:
    """
    What a grid has to keep.

    Attributes
    ----------
    model : ModelProfile
        Its factor, least area, longest ratio, shortest side and markers count.
    cap_pixels : int
        Area that one tile may be sent with.
    overlap : int
        Pixels of the picture that neighbours share, at least.
    max_tiles : int
        Tiles, at most.
    max_tokens : int or None
        Vision tokens of all tiles together, at most; markers come on top, as for
        one image.
    """

    model: ModelProfile
    cap_pixels: int
    overlap: int
    max_tiles: int
    max_tokens: int | None = None


def best_grid(height: int, width: int, rules: GridRules) -> Grid | None:
    """
    Give the grid with the largest scale; of those the one of fewest tiles, then tokens.

    Fewer tiles come first because every border cuts something.

    Parameters
    ----------
    height, width : int
        Of the upright picture, in pixels.
    rules : GridRules
        What the grid has to keep.

    Returns
    -------
    Grid or None
        None where no grid keeps the rules.

    Notes
    -----
    All rows and columns that may be the best are looked at.  A grid that shows the
    picture at a scale has at least the picture's area at that scale, and more the
    more overlaps there are, which ends the search.

    Examples
    --------
    >>> from qwenvl_prep import get_model
    >>> qwen = get_model("qwen-vl-max")
    >>> rules = GridRules(
    ...     model=qwen, cap_pixels=qwen.max_pixels, overlap=64, max_tiles=99
    ... )
    >>> grid = best_grid(4000, 980, rules)
    >>> grid.rows, grid.columns, grid.height, grid.width, grid.tokens
    (5, 1, 868, 980, 5435)
    """
    return _search(height, width, rules, 1.0, is_cheapest=False)


def cheapest_grid(
    height: int, width: int, rules: GridRules, scale: float
) -> Grid | None:
    """
    Give the grid of fewest vision tokens that reaches a scale, up to 1.

    Returns
    -------
    Grid or None
        Its ``scale`` is no larger than *scale*; None where no grid reaches that.
    """
    grid = _search(height, width, rules, scale, is_cheapest=True)
    return grid if grid is not None and grid.scale >= scale else None


def least_length(length: int, count: int, overlap: int) -> int:
    """
    Give the shortest tile of which *count* cover a length, overlapping.

    Examples
    --------
    >>> least_length(1000, 3, 50)
    367
    """
    return -(-(length + (count - 1) * overlap) // count)


def starts(length: int, tile: int, count: int) -> list[int]:
    """
    Spread tiles of one length evenly over a picture, from edge to edge.

    The last is never thin, and what is covered twice is shared by all overlaps.

    Examples
    --------
    >>> starts(1000, 400, 3)
    [0, 300, 600]
    """
    if count == 1:
        return [0]
    return [index * (length - tile) // (count - 1) for index in range(count)]


def _search(
    height: int, width: int, rules: GridRules, goal: float, *, is_cheapest: bool
) -> Grid | None:
    """Give the best grid; scales above the goal count as much as the goal."""
    best: Grid | None = None

    def rank(grid: Grid) -> tuple[float, int, int]:
        costs = -grid.vision_tokens, -grid.rows * grid.columns
        return (grid.scale, *(costs if is_cheapest else reversed(costs)))

    def is_beaten(rows: int, columns: int) -> bool:
        """Tell that neither this grid nor one of more rows or columns is the best."""
        if best is None:
            return False
        least = _least_tokens(height, width, rows, columns, rules, best.scale)
        if rules.max_tokens is not None and least > rules.max_tokens:
            return True
        if best.scale < goal:
            return False
        if is_cheapest:
            return least > best.vision_tokens
        return rows * columns > best.rows * best.columns

    for columns in range(1, rules.max_tiles + 1):
        if columns > 1 and rules.overlap >= width:
            break
        for rows in range(1, rules.max_tiles // columns + 1):
            if rows > 1 and rules.overlap >= height:
                break
            most = _most_squares(rows * columns, rules)
            if most < 1 or is_beaten(rows, columns):
                if rows == 1:  # so is every wider grid
                    return best
                break
            grid = _grid(height, width, rows, columns, most, rules, goal)
            if grid is not None and (best is None or rank(grid) > rank(best)):
                best = grid
    return best


def _least_tokens(
    height: int, width: int, rows: int, columns: int, rules: GridRules, scale: float
) -> float:
    """Give vision tokens that no such grid is below at a scale."""
    area = (height + (rows - 1) * rules.overlap) * (
        width + (columns - 1) * rules.overlap
    )
    return area * (scale * LEAST_ROUNDED / rules.model.factor) ** 2


def _most_squares(tiles: int, rules: GridRules) -> int:
    """Tell how many squares of ``factor × factor`` one of so many tiles may have."""
    most = rules.cap_pixels // rules.model.factor**2
    if rules.max_tokens is None:
        return most
    return min(most, rules.max_tokens // tiles)


def _grid(
    height: int,
    width: int,
    rows: int,
    columns: int,
    most: int,
    rules: GridRules,
    goal: float,
) -> Grid | None:
    """Give the grid of so many tiles, if it is legal."""
    model, overlap = rules.model, rules.overlap
    tall = _Side(height, rows, overlap, model.factor, goal)
    wide = _Side(width, columns, overlap, model.factor, goal)
    found = _largest_squares(tall, wide, most, -(-model.min_pixels // model.factor**2))
    if found is None:
        return None
    scale, down, across = found
    # Too long a tile loses squares along its length before it is refused.
    longest = model.max_ratio * min(down, across)
    if max(down, across) > longest:
        down, across = min(down, longest), min(across, longest)
        scale = min(tall.reach(down), wide.reach(across))
    if (
        down * across * model.factor**2 < model.min_pixels
        or (rows > 1 and tall.least < model.min_side)
        or (columns > 1 and wide.least < model.min_side)
    ):
        return None
    return Grid(
        rows=rows,
        columns=columns,
        height=tall.length(down, scale),
        width=wide.length(across, scale),
        sent_height=down * model.factor,
        sent_width=across * model.factor,
        tokens=rows * columns * (down * across + model.marker_tokens),
        vision_tokens=rows * columns * down * across,
        scale=scale,
    )


class _Side:
    """One side of a picture that is covered by a number of tiles."""

    def __init__(
        self, whole: int, count: int, overlap: int, factor: int, goal: float
    ) -> None:
        self.whole = whole
        self.count = count
        self.factor = factor
        self.goal = goal
        self.least = least_length(whole, count, overlap)
        self.full = self._full()
        in_part = max(math.ceil(goal * self.least / factor), 1)
        self.enough = min(in_part, self.full)

    def _full(self) -> int:
        """Give the squares that show the side in full."""
        full = math.ceil(self.least / self.factor)
        nearest = max(round(self.least / self.factor), 1)
        if self.count == 1 and nearest * self.factor >= LEAST_ROUNDED * self.least:
            full = nearest
        return full

    def reach(self, squares: int) -> float:
        """Give the scale that so many squares show the side at."""
        if squares >= self.enough:
            return self.goal
        return squares * self.factor / self.least

    def squares(self, scale: float) -> int:
        """Give the fewest squares that show the side at a scale."""
        squares = max(min(math.ceil(scale * self.least / self.factor), self.enough), 1)
        # Division and multiplication may round apart.
        while squares > 1 and self.reach(squares - 1) >= scale:
            squares -= 1
        while self.reach(squares) < scale:
            squares += 1
        return squares

    def length(self, squares: int, scale: float) -> int:
        """Give the pixels that a tile of so many squares shows at a scale."""
        if self.count == 1:
            return self.whole
        fitting = math.floor(squares * self.factor / scale)
        return min(max(fitting, self.least), self.whole)


def _largest_squares(
    tall: _Side, wide: _Side, most: int, least: int
) -> tuple[float, int, int] | None:
    """
    Give the largest scale at which a tile is legal, and the fewest squares for it.

    With less than *least* the server would enlarge it as it likes; so it gets as many,
    as far as they show more.
    """
    scale = _largest_scale(tall, wide, most)
    down, across = tall.squares(scale), wide.squares(scale)
    if down * across >= least:
        return scale, down, across
    found = []
    for down in range(1, min(tall.full, most) + 1):
        across = min(wide.full, most // down)
        if down * across >= least:
            scale = min(tall.reach(down), wide.reach(across))
            across = max(wide.squares(scale), -(-least // down))
            found.append((scale, -down * across, down, across))
    if not found:
        return None
    scale, _, down, across = max(found)
    return scale, down, across


def _largest_scale(tall: _Side, wide: _Side, most: int) -> float:
    """Give the largest scale at which a tile has no more than *most* squares."""
    if tall.enough * wide.enough <= most:
        return tall.goal
    # The more squares one side takes, the fewer are left for the other: the best
    # stands where the two cross.
    low, high = 1, min(tall.enough, most)
    while low < high:
        middle = (low + high + 1) // 2
        if tall.reach(middle) <= wide.reach(most // middle):
            low = middle
        else:
            high = middle - 1
    return max(
        min(tall.reach(down), wide.reach(most // down)) for down in {low, low + 1}
    )
