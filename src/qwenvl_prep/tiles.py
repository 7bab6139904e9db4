"""How a picture that is too long or too large for one image is cut."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Unpack

from qwenvl_prep.coordinates import coordinate_map
from qwenvl_prep.errors import IllegalImageError, LegibilityError
from qwenvl_prep.geometry import integer, is_above_ratio, server_size
from qwenvl_prep.limits import DEFAULT_LIMITS, Limits
from qwenvl_prep.options import PlanKeywords, PlanOptions
from qwenvl_prep.plan import ImagePlan, plan_image
from qwenvl_prep.probe import probe, with_profile
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile, get_model
from qwenvl_prep.sources import Source, as_source
from qwenvl_prep.strips import is_streamed
from qwenvl_prep.tile_grid import (
    LEAST_ROUNDED,
    Grid,
    GridRules,
    best_grid,
    cheapest_grid,
    starts,
)
from qwenvl_prep.validate import find

if TYPE_CHECKING:
    from qwenvl_prep.coordinates import CoordinateMap
    from qwenvl_prep.findings import Finding
    from qwenvl_prep.headers import ImageInfo

__all__ = [
    "DEFAULT_MIN_SCALE",
    "DEFAULT_OVERLAP",
    "DEFAULT_TILES",
    "MOST_TILES",
    "Tile",
    "TilePlan",
    "TileWishes",
    "is_cut_as_read",
    "plan_tiles",
    "tile_coordinates",
    "tile_plan",
]

# The browsers' own 16 px text keeps 12 px, and small labels of 12 px keep 9. Text of
# 10 px is what VisInContext (2024) draws for an encoder with patches of 16.
DEFAULT_MIN_SCALE = 0.75
# A line of this height that one border cuts is whole in the neighbour: a heading of
# 32 points on a phone's screenshot at three pixels a point, 23 points at 300 dpi.
DEFAULT_OVERLAP = 96
# As many images as one request of late 2025 takes.
DEFAULT_TILES = 256
# Looking for the best of so many takes nearly a second.
MOST_TILES = 4096


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Tile:
    """
    One part of a picture that is sent as an image of its own.

    Attributes
    ----------
    index : int
        Place in the plan, from 0: row by row, from the left.
    top, left : int
        Where it begins, in pixels of the upright picture.
    height, width : int
        What it shows, in pixels of the upright picture.
    sent_height, sent_width : int
        Size that is sent, in pixels.
    tokens : int
        Predicted billed tokens: vision tokens and the two markers.
    """

    index: int
    top: int
    left: int
    height: int
    width: int
    sent_height: int
    sent_width: int
    tokens: int

    @property
    def crop(self) -> tuple[int, int, int, int]:
        """Top, left, height and width, in pixels of the upright picture."""
        return self.top, self.left, self.height, self.width

    @property
    def scale(self) -> float:
        """Sent over original, of the side that is shrunk more; at most 1."""
        down = self.sent_height / self.height
        return min(down, self.sent_width / self.width, 1.0)

    @property
    def is_resized(self) -> bool:
        """Whether its pixels are resized before they are sent."""
        return (self.sent_height, self.sent_width) != (self.height, self.width)

    def __repr__(self) -> str:
        return (
            f"<Tile {self.index}: {self.height}x{self.width} at {self.top}, "
            f"{self.left}, sent {self.sent_height}x{self.sent_width}, "
            f"{self.tokens} tokens>"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TilePlan:
    """
    How a picture is cut into tiles, and what they cost together.

    Attributes
    ----------
    name : str
        Name of the input.
    info : ImageInfo
        What its header says.
    model : ModelProfile
        Model that will read the tiles.
    options : PlanOptions
        What was asked for; ``max_tokens`` are the vision tokens of all tiles.
    overlap : int
        Pixels of the picture that neighbours share, at least.
    min_scale : float
        Scale below which text was not to fall.
    rows, columns : int
        How many tiles stand below and beside each other.
    tiles : tuple of Tile
        Row by row, from the left.
    image : ImagePlan or None
        Plan of the picture in one piece, where it needs no tiles.
    warnings : tuple of Finding
        What the header showed that is worth knowing.
    """

    name: str
    info: ImageInfo
    model: ModelProfile
    options: PlanOptions
    overlap: int
    min_scale: float
    rows: int
    columns: int
    tiles: tuple[Tile, ...]
    image: ImagePlan | None
    warnings: tuple[Finding, ...]

    @property
    def tokens(self) -> int:
        """Predicted billed tokens of all tiles, with their markers."""
        return sum(tile.tokens for tile in self.tiles)

    @property
    def scale(self) -> float:
        """Sent over original, of the tile and side that is shrunk most; at most 1."""
        return min(tile.scale for tile in self.tiles)

    def coordinates(self, index: int) -> CoordinateMap:
        """Give the map between the boxes answered for a tile and the whole picture."""
        return tile_coordinates(self.tiles[index], self.info, self.model, self.options)

    def to_original(self, index: int, boxes: Any, **how: Any) -> Any:
        """
        Bring boxes that the model answered for one tile back to the whole picture.

        Parameters
        ----------
        index : int
            Which tile, from 0.
        boxes, **how
            As for :meth:`qwenvl_prep.CoordinateMap.to_original`.

        Examples
        --------
        >>> import numpy as np
        >>> plan = plan_tiles(np.zeros((3000, 980), np.uint8), model="qwen3-vl-plus")
        >>> plan.to_original(1, (0, 0, 500, 1000))
        (0.0, 1432.0, 490.0, 3000.0)
        """
        return self.coordinates(index).to_original(boxes, **how)

    def to_sent(self, index: int, boxes: Any, **how: Any) -> Any:
        """Bring boxes on the whole picture to the numbers used for one tile."""
        return self.coordinates(index).to_sent(boxes, **how)

    def __repr__(self) -> str:
        count = len(self.tiles)
        tiles = "1 tile" if count == 1 else f"{count} tiles"
        return (
            f"<TilePlan {self.name}: {tiles} ({self.rows} × {self.columns}), "
            f"{self.tokens:,} tokens, scale {self.scale:.2f}>"
        )


def plan_tiles(
    source: Any,
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    overlap: int = DEFAULT_OVERLAP,
    min_scale: float = DEFAULT_MIN_SCALE,
    max_tiles: int = DEFAULT_TILES,
    limits: Limits = DEFAULT_LIMITS,
    **options: Unpack[PlanKeywords],
) -> TilePlan:
    """
    Decide how a picture is cut so that its text stays readable, from its header alone.

    Without a budget every tile is sent at the picture's own scale, in as few tiles as
    that takes.  With one, the grid is taken that fits it at the largest scale.  A
    picture that one image shows at its own scale gets one tile.

    Parameters
    ----------
    source : str, path, bytes-like, binary file, Pillow image or array
        See :func:`qwenvl_prep.sources.as_source`.  Its ratio may be above 200:1.
    model : str or ModelProfile
        Model that will read the tiles; its cap bounds each of them.
    overlap : int, default 96
        Pixels of the picture that neighbours share, at least: what is no higher and
        is cut by one border is whole in the neighbour.  96 is a heading of 32 points
        on a phone at three pixels a point.
    min_scale : float, default 0.75
        Least scale, sent over original, above 0 and up to 1.  Text should stay about
        10 pixels high: 0.75 leaves 12 of a browser's 16, and 9 of a small label's 12.
        Where the smallest text is higher, as on phones or in scans, 10 over its height
        does.  A side that is only rounded to the model's grid, by up to 5 %, counts
        as 1.
    max_tiles : int, default 256
        Tiles, at most; up to 4096.
    limits : Limits
        What may be decoded.  Of an upright JPEG of one scan, a PNG without
        interlacing or a TIFF, only a few rows of tiles are held at once; everything
        else is decoded as a whole, three bytes a pixel, before it is cut.
    **options
        The attributes of :class:`PlanOptions`, with two differences: ``max_tokens``
        is the budget of the vision tokens of all tiles together, their markers on
        top, and ``encoding="keep"`` is refused.

    Returns
    -------
    TilePlan
        With the place, size and predicted tokens of each tile.

    Raises
    ------
    LegibilityError
        If the budget or *max_tiles* force the scale below *min_scale*.
    IllegalImageError
        If the model refuses the picture for more than its ratio.
    DecodeLimitError
        If decoding it would take more than *limits* allow.
    ImageError, SourceError
        As for :func:`qwenvl_prep.probe`.
    UnknownModelError, ModelFeatureError
        If the model is not known, or has no high resolution.
    TypeError, ValueError
        If a number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> page = np.zeros((20_000, 1080), np.uint8)
    >>> plan_tiles(page, model="qwen3-vl-plus")
    <TilePlan pixels: 9 tiles (9 × 1), 22,356 tokens, scale 1.00>
    >>> plan_tiles(page, model="qwen3-vl-plus", max_tokens=16_000)
    <TilePlan pixels: 7 tiles (7 × 1), 15,848 tokens, scale 0.85>
    """
    wanted = TileWishes.of(model, overlap, min_scale, max_tiles, options)
    source = as_source(source, limits=limits)
    info = probe(source, frame=wanted.options.frame)
    if wanted.options.color == "srgb":
        info = with_profile(source, info)
    return tile_plan(info, wanted, source, limits)


# ---------------------------------------------------------------------- deciding


@dataclass(frozen=True, slots=True, kw_only=True)
class TileWishes:
    """
    What the caller asked for, checked.

    Attributes
    ----------
    model : ModelProfile
        Model that will read the tiles.
    options : PlanOptions
        How they are made; ``max_tokens`` is that of all together.
    min_scale : float
        Least scale, above 0 and up to 1.
    rules : GridRules
        What their grid has to keep.
    """

    model: ModelProfile
    options: PlanOptions
    min_scale: float
    rules: GridRules

    @classmethod
    def of(
        cls,
        model: str | ModelProfile,
        overlap: Any,
        min_scale: Any,
        max_tiles: Any,
        options: PlanKeywords,
    ) -> TileWishes:
        """Check what :func:`plan_tiles` was given."""
        profile = get_model(model)
        wanted = PlanOptions.of(options)
        if wanted.encoding == "keep":
            raise ValueError(
                "Expected an encoding for tiles, whose files are new, but received "
                "'keep'; 'auto' picks one"
            )
        overlap = integer("overlap", overlap, least=0)
        max_tiles = integer("max_tiles", max_tiles)
        if not 1 <= max_tiles <= MOST_TILES:
            raise ValueError(
                f"Expected 1 to {MOST_TILES} for max_tiles but received {max_tiles}"
            )
        if isinstance(min_scale, bool) or not isinstance(min_scale, (int, float)):
            raise TypeError(
                f"Expected a number for min_scale but received {min_scale!r}"
            )
        if not 0 < min_scale <= 1:
            raise ValueError(
                f"Expected min_scale above 0 and up to 1 but received {min_scale}"
            )
        return cls(
            model=profile,
            options=wanted,
            min_scale=float(min_scale),
            rules=GridRules(
                model=profile,
                cap_pixels=profile.cap_pixels(high_resolution=wanted.high_resolution),
                overlap=overlap,
                max_tiles=max_tiles,
                max_tokens=wanted.max_tokens,
            ),
        )


def tile_plan(
    info: ImageInfo, wanted: TileWishes, source: Source, limits: Limits
) -> TilePlan:
    """Decide how a picture whose header is known is cut; see :func:`plan_tiles`."""
    findings = find(
        info,
        wanted.model,
        suffix=source.suffix,
        label=source.label,
        color=wanted.options.color,
    )
    _check_mendable(source.name, wanted.model, findings)
    height, width = info.upright_height, info.upright_width
    budget, image = wanted.options.max_tokens, _in_one_piece(info, wanted, source)
    whole = image.vision_tokens if image is not None else None
    if image is not None and budget is not None and image.vision_tokens > budget:
        image = None
    is_whole = not is_cut_as_read(info, wanted.options)
    if image is not None:
        is_whole = not image.is_resized
    limits.check_header(info, is_whole=is_whole)
    if image is not None:
        rows, columns = 1, 1
        tiles = [
            _tile(0, (0, 0, height, width), (image.height, image.width), image.tokens)
        ]
    else:
        grid = _grid(height, width, source.name, wanted, whole)
        rows, columns = grid.rows, grid.columns
        sent, tokens = _sent(grid, wanted), grid.tokens // (rows * columns)
        places = product(
            starts(height, grid.height, rows), starts(width, grid.width, columns)
        )
        tiles = [
            _tile(index, (*place, grid.height, grid.width), sent, tokens)
            for index, place in enumerate(places)
        ]
    return TilePlan(
        name=source.name,
        info=info,
        model=wanted.model,
        options=wanted.options,
        overlap=wanted.rules.overlap,
        min_scale=wanted.min_scale,
        rows=rows,
        columns=columns,
        tiles=tuple(tiles),
        image=image,
        warnings=tuple(f for f in findings if f.severity == "warning"),
    )


def _tile(
    index: int, crop: tuple[int, int, int, int], sent: tuple[int, int], tokens: int
) -> Tile:
    return Tile(
        index=index,
        top=crop[0],
        left=crop[1],
        height=crop[2],
        width=crop[3],
        sent_height=sent[0],
        sent_width=sent[1],
        tokens=tokens,
    )


def _check_mendable(
    name: str, model: ModelProfile, findings: tuple[Finding, ...]
) -> None:
    """Refuse what cutting does not mend either; it mends the ratio."""
    fatal = [
        finding
        for finding in findings
        if finding.severity == "error"
        and not finding.is_mendable
        and finding.code != "aspect-ratio"
    ]
    if fatal:
        raise IllegalImageError(
            f"{name} cannot be made legal for {model.name}: "
            f"{'; '.join(finding.message for finding in fatal)}. What helps: "
            f"{'; '.join(finding.remedy for finding in fatal)}",
            findings=findings,
        )


def _in_one_piece(
    info: ImageInfo, wanted: TileWishes, source: Source
) -> ImagePlan | None:
    """Give the plan of the picture as one image, if that shows it at its own scale."""
    model, height, width = wanted.model, info.upright_height, info.upright_width
    if max(height, width) > model.max_ratio * min(height, width):
        return None
    is_high = wanted.options.high_resolution
    seen = server_size(height, width, model, high_resolution=is_high)
    if min(seen[0] / height, seen[1] / width) < LEAST_ROUNDED:
        return None
    return plan_image(
        info,
        model,
        dataclasses.replace(wanted.options, max_tokens=None),
        name=source.name,
        suffix=source.suffix,
        label=source.label,
    )


def _grid(
    height: int, width: int, name: str, wanted: TileWishes, whole: int | None
) -> Grid:
    """
    Give the best grid, or refuse what it would make of the text.

    *whole* are the vision tokens of the picture in one piece, where that is legal.
    """
    rules, least = wanted.rules, wanted.min_scale
    best = best_grid(height, width, rules)
    scale = best.scale if best is not None else 0.0
    if best is not None and scale >= least:
        return best
    without_budget = dataclasses.replace(rules, max_tokens=None)
    cheapest = cheapest_grid(height, width, without_budget, least)
    fits = f"what fits shows {scale:.3f}" if best else "nothing fits"
    enough = [whole] if whole is not None else []
    if cheapest is not None:
        enough.append(cheapest.vision_tokens)
    if enough and rules.max_tokens is not None:
        raise LegibilityError(
            f"Expected tiles of {name} at {least:g} of its size or more within "
            f"{rules.max_tokens:,} vision tokens but they take {min(enough):,}, and "
            f"{fits}; raise max_tokens, or lower min_scale if its text is large",
            scale=scale,
            min_scale=least,
            needed=min(enough),
            limit=rules.max_tokens,
        )
    raise LegibilityError(
        f"Expected at most {rules.max_tiles} tiles of {name} at {least:g} of its "
        f"size or more but {fits}; raise max_tiles, or lower overlap, or min_scale "
        f"if its text is large",
        scale=scale,
        min_scale=least,
        needed=None,
        limit=rules.max_tokens,
    )


def _sent(grid: Grid, wanted: TileWishes) -> tuple[int, int]:
    """
    Give the size that tiles are sent with: on the model's grid, or their own.

    Their own where the server enlarges it to just that: it costs fewer bytes, and
    the pixels stay as they were drawn.
    """
    size, on_grid = (grid.height, grid.width), (grid.sent_height, grid.sent_width)
    is_legal = min(size) >= wanted.model.min_side and not is_above_ratio(*size)
    is_enlarged = on_grid[0] >= size[0] and on_grid[1] >= size[1]
    if not (is_legal and is_enlarged):
        return on_grid
    is_high = wanted.options.high_resolution
    seen = server_size(*size, wanted.model, high_resolution=is_high)
    return size if seen == on_grid else on_grid


def is_cut_as_read(info: ImageInfo, options: PlanOptions) -> bool:
    """Tell whether rows come upright and one after another, so that few are held."""
    is_strict = options.on_truncated == "error"
    return is_strict and info.orientation == 1 and is_streamed(info)


# ------------------------------------------------------------------ coordinates


def tile_coordinates(
    tile: Tile, info: ImageInfo, model: ModelProfile, options: PlanOptions
) -> CoordinateMap:
    """Give the map between boxes that are answered for a tile and the picture."""
    whole = coordinate_map(
        info,
        model,
        tile.sent_height,
        tile.sent_width,
        high_resolution=options.high_resolution,
    )
    return dataclasses.replace(
        whole,
        top=tile.top,
        left=tile.left,
        region_height=tile.height,
        region_width=tile.width,
    )
