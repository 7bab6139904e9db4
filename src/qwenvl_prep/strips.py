"""Which pictures are read strip by strip, and how high a strip is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwenvl_prep.headers import ImageInfo

__all__ = ["is_for_vips", "is_streamed", "strips"]

# A strip should still be in the processor's cache when it is resized; and malloc maps
# fresh pages for each large buffer. With strips of 4 MiB, a JPEG of 280 megapixels
# takes 1.7 times as long and nearly twice the memory.
_STRIP_BYTES = 384 * 1024

# Fetching a strip takes some 10 µs whatever its height, so more rows save no time.
_MAX_ROWS = 64

# The resizer takes so many rows at once from where they lie, and copies fewer.
_BLOCK_ROWS = 16

_VIPS_FORMATS = frozenset({"JPEG", "PNG", "TIFF", "WEBP"})

# Above, libvips' time to open an animation grows with the square of its frames.
_MANY_FRAMES = 1_000


def is_for_vips(info: ImageInfo) -> bool:
    """Tell whether libvips reads a file to the same pixels as Pillow, in strips."""
    if info.frame:
        # libvips takes the first frame, unless its loader is told another one.
        return False
    if info.format == "TIFF":
        # Extra samples and orientation mean something else to each TIFF reader;
        # Pillow is the reference there.
        return (
            not info.has_alpha
            and info.colour in {"grey", "rgb"}
            and (info.bit_depth in {8, 16} and info.channels in {1, 3})
        )
    if info.n_frames > _MANY_FRAMES:
        return False
    # Inverted CMYK is a matter of Adobe's marker, which Pillow minds.
    return info.format in _VIPS_FORMATS and info.colour != "cmyk"


def is_streamed(info: ImageInfo) -> bool:
    """
    Tell whether a file's rows come one after another, and no decoder holds them all.

    Progressive JPEG and interlaced PNG have their rows all over the file, WebP is
    decoded as a whole, and so is everything that Pillow reads.
    """
    return (
        is_for_vips(info)
        and info.format != "WEBP"
        and not info.is_progressive
        and info.rows_at_once < info.height
    )


def strips(height: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    """
    Cut a picture into strips that stay in the processor's cache.

    Parameters
    ----------
    height : int
        Rows of the picture.
    row_bytes : int
        Length of one row in memory.

    Yields
    ------
    top, rows : int
        First row of a strip, and how many rows it has.

    Examples
    --------
    >>> list(strips(100, 3 * 4000))
    [(0, 32), (32, 32), (64, 32), (96, 4)]
    """
    step = min(_MAX_ROWS, max(1, _STRIP_BYTES // row_bytes))
    if step > _BLOCK_ROWS:
        step -= step % _BLOCK_ROWS
    for top in range(0, height, step):
        yield top, min(step, height - top)
