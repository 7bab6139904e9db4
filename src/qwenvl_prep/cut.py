"""How the tiles of a picture are made ready to be sent."""

from __future__ import annotations

import dataclasses
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Unpack

from qwenvl_prep.changes import lost, steps_to
from qwenvl_prep.errors import LegibilityError
from qwenvl_prep.geometry import integer
from qwenvl_prep.limits import DEFAULT_LIMITS, Limits
from qwenvl_prep.plan import ImagePlan
from qwenvl_prep.prepare import PreparedImage, carry_out, prepare, usable_cores
from qwenvl_prep.probe import probe, probe_file, with_profile
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile
from qwenvl_prep.sources import Source, as_source, open_source
from qwenvl_prep.tile_grid import LEAST_ROUNDED
from qwenvl_prep.tiles import (
    DEFAULT_MIN_SCALE,
    DEFAULT_OVERLAP,
    DEFAULT_TILES,
    Tile,
    TilePlan,
    TileWishes,
    is_cut_as_read,
    tile_coordinates,
    tile_plan,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from qwenvl_prep.coordinates import CoordinateMap
    from qwenvl_prep.decode import Pixels
    from qwenvl_prep.headers import ImageInfo
    from qwenvl_prep.options import PlanKeywords

__all__ = ["PreparedTile", "prepare_tiles"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PreparedTile(PreparedImage):
    """
    One tile, ready to be sent wherever a :class:`PreparedImage` is.

    Attributes
    ----------
    tile : Tile
        Which part of the picture it shows, at the size that is sent.
    original : ImageInfo
        What the header of the whole picture says; ``plan.info`` is about the part.
    """

    tile: Tile
    original: ImageInfo

    @property
    def crop(self) -> tuple[int, int, int, int]:
        """Top, left, height and width, in pixels of the upright picture."""
        return self.tile.crop

    def coordinates(self) -> CoordinateMap:
        """Give the map between boxes that the model answers and the whole picture."""
        return tile_coordinates(
            self.tile, self.original, self.plan.model, self.plan.options
        )

    def to_original(self, boxes: Any, **how: Any) -> Any:
        """Bring boxes back to the whole picture; see :meth:`TilePlan.to_original`."""
        return self.coordinates().to_original(boxes, **how)

    def to_sent(self, boxes: Any, **how: Any) -> Any:
        """Bring boxes on the whole picture to the numbers used for this tile."""
        return self.coordinates().to_sent(boxes, **how)

    def __repr__(self) -> str:
        return (
            f"<PreparedTile {self.name}: {self.height}x{self.width} "
            f"{self.media_type}, {self.tokens} tokens, {self.encoded_size:,} bytes>"
        )


def prepare_tiles(
    source: Any,
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    overlap: int = DEFAULT_OVERLAP,
    min_scale: float = DEFAULT_MIN_SCALE,
    max_tiles: int = DEFAULT_TILES,
    limits: Limits = DEFAULT_LIMITS,
    workers: int | None = None,
    **options: Unpack[PlanKeywords],
) -> tuple[PreparedTile, ...]:
    """
    Cut a picture into tiles and make each ready, as :func:`plan_tiles` decides.

    The picture is decoded once, to upright sRGB on its background; each tile is
    cut out of that, resized with Pillow's bicubic pixels and encoded by itself.  A
    picture that needs no tiles is prepared as :func:`qwenvl_prep.prepare` does it.

    Parameters
    ----------
    source, model, overlap, min_scale, max_tiles, limits, **options
        As for :func:`plan_tiles`.
    workers : int, optional
        Threads; by default one for each core this process may use.

    Returns
    -------
    tuple of PreparedTile
        Row by row; each passes :func:`qwenvl_prep.validate` for the same model.

    Raises
    ------
    LegibilityError
        As for :func:`plan_tiles`, and if ``max_bytes`` forces the scale of a tile
        below *min_scale*.
    ImageError, SourceError, UnknownModelError, ModelFeatureError
        As for :func:`qwenvl_prep.prepare`.

    Examples
    --------
    >>> import numpy as np
    >>> tiles = prepare_tiles(np.zeros((3000, 980), np.uint8), model="qwen3-vl-plus")
    >>> [tile.tile for tile in tiles]
    [<Tile 0: 1568x980 at 0, 0, sent 1568x980, 1521 tokens>,
     <Tile 1: 1568x980 at 1432, 0, sent 1568x980, 1521 tokens>]
    """
    wanted = TileWishes.of(model, overlap, min_scale, max_tiles, options)
    if workers is None:
        workers = usable_cores()
    workers = integer("workers", workers, least=1)
    source = as_source(source, limits=limits)
    plan, made = _cut_out(source, wanted, limits, workers)
    if made:
        return made
    alone = dataclasses.replace(wanted.options, max_tokens=None)
    whole = prepare(
        source, model=wanted.model, limits=limits, **dataclasses.asdict(alone)
    )
    return (_as_tile(whole, plan.tiles[0], plan),)


# ------------------------------------------------------------------------- doing


def _cut_out(
    source: Source, wanted: TileWishes, limits: Limits, workers: int
) -> tuple[TilePlan, tuple[PreparedTile, ...]]:
    """Give the plan, and the tiles; none where the picture needs none."""
    options = wanted.options
    if source.pixels is not None:
        info = probe(source, frame=options.frame)
        plan = tile_plan(info, wanted, source, limits)
        if plan.image is not None:
            return plan, ()
        from qwenvl_prep.decode import decode_pixels

        pixels = decode_pixels(source.pixels, info, options=options, limits=limits)
        return plan, _each(_slices(pixels, plan), plan, limits, workers)
    with open_source(
        source, at_once=wanted.model.max_file_bytes, limits=limits
    ) as file:
        info = probe_file(file, frame=options.frame)
        if options.color == "srgb":
            info = with_profile(file, info)
        plan = tile_plan(info, wanted, source, limits)
        if plan.image is not None:
            return plan, ()
        if is_cut_as_read(info, options):
            from qwenvl_prep.decode import decode_rows

            return plan, decode_rows(
                file,
                info,
                lambda parts: _each(_bands(parts, plan), plan, limits, workers),
                options=options,
                limits=limits,
            )
        from qwenvl_prep.decode import decode

        pixels = decode(file, info, options=options, limits=limits)
    return plan, _each(_slices(pixels, plan), plan, limits, workers)


def _slices(pixels: Pixels, plan: TilePlan) -> Iterator[Pixels]:
    """Give what each row of tiles shows, out of the whole picture."""
    for tile in plan.tiles[:: plan.columns]:
        rows = pixels.data[tile.top : tile.top + tile.height]
        yield dataclasses.replace(pixels, data=rows)


def _bands(parts: Iterator[NDArray[np.uint8]], plan: TilePlan) -> Iterator[Pixels]:
    """Give what each row of tiles shows, out of rows as they are read."""
    import numpy as np

    from qwenvl_prep.decode import Pixels

    height = plan.tiles[0].height
    tops = [tile.top for tile in plan.tiles[:: plan.columns]]
    overlaps = [one + height - other for one, other in pairwise(tops)]
    band, filled = None, 0
    for part in parts:
        if band is None:
            band = np.empty((height, *part.shape[1:]), np.uint8)
        while part.shape[0]:
            taken = part[: height - filled]
            band[filled : filled + taken.shape[0]] = taken
            filled += taken.shape[0]
            part = part[taken.shape[0] :]
            if filled < height:
                break
            yield Pixels(band[:, :, 0] if band.shape[2] == 1 else band)
            if overlaps:
                # A new one: tiles of the last are still being encoded.
                filled = overlaps.pop(0)
                after = np.empty_like(band)
                after[:filled] = band[height - filled :]
                band = after


def _each(
    bands: Iterator[Pixels], plan: TilePlan, limits: Limits, workers: int
) -> tuple[PreparedTile, ...]:
    """Make all tiles ready on several threads, holding few rows of them at once."""
    made: list[PreparedTile] = []
    waiting: deque[Future[PreparedTile]] = deque()
    tiles = iter(plan.tiles)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="qwenvl_prep")
    try:
        for band in bands:
            for tile in islice(tiles, plan.columns):
                waiting.append(pool.submit(_cut, tile, band, plan, limits))
            while len(waiting) > max(workers, plan.columns):
                made.append(waiting.popleft().result())
        made.extend(one.result() for one in waiting)
    finally:
        pool.shutdown(cancel_futures=True)
    return tuple(made)


def _cut(tile: Tile, band: Pixels, plan: TilePlan, limits: Limits) -> PreparedTile:
    """Make one tile ready, out of the rows that its row of tiles shows."""
    part = band.data[:, tile.left : tile.left + tile.width]
    # Not recognised anew: another thread may be loading Pillow at this moment.
    name = f"{plan.name} [{tile.index + 1} of {len(plan.tiles)}]"
    info = probe(Source(name=name, pixels=part))
    made = ImagePlan(
        name=name,
        info=info,
        model=plan.model,
        # What all tiles may take together says nothing about one.
        options=dataclasses.replace(plan.options, max_tokens=None),
        is_kept=False,
        height=tile.sent_height,
        width=tile.sent_width,
        tokens=tile.tokens,
        warnings=(),
    )

    def pixels_at(size: tuple[int, int] | None, _: int) -> Pixels:
        from qwenvl_prep.decode import decode_pixels

        return decode_pixels(part, info, size=size, options=plan.options, limits=limits)

    prepared = carry_out(made, pixels_at)
    whole = (plan.info.upright_height, plan.info.upright_width)
    before = (
        *steps_to(*whole, plan.info, plan.options, shrink=1),
        *lost(band, plan.options),
    )
    if len(plan.tiles) > 1:
        size = f"{tile.height}×{tile.width}"
        before = (*before, f"{size} cut out at {tile.top}, {tile.left}")
    prepared = dataclasses.replace(prepared, changes=(*before, *prepared.changes))
    return _as_tile(prepared, tile, plan)


def _as_tile(image: PreparedImage, tile: Tile, plan: TilePlan) -> PreparedTile:
    """Give a prepared image as a tile, at the size that its bytes came to."""
    at = dataclasses.replace(
        tile, sent_height=image.height, sent_width=image.width, tokens=image.tokens
    )
    if at.scale < min(plan.min_scale, LEAST_ROUNDED, tile.scale):
        raise LegibilityError(
            f"Expected {image.name} at {plan.min_scale:g} of its size or more but its "
            f"bytes only fit at {at.scale:.3f}; raise max_bytes, or take another "
            f"encoding",
            scale=at.scale,
            min_scale=plan.min_scale,
            needed=None,
            limit=None,
        )
    fields = {
        field.name: getattr(image, field.name) for field in dataclasses.fields(image)
    }
    return PreparedTile(**fields, tile=at, original=plan.info)
