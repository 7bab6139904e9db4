"""Which pictures are read strip by strip, and how high a strip is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qwenvl_prep.headers import ImageInfo

__all__ = ["is_for_vips", "is_streamed", "jpeg_shrink", "strips"]

# A strip should still be in the processor's cache when it is resized; and malloc maps
# fresh pages for each large buffer. With strips of 4 MiB, a JPEG of 280 megapixels
# takes 1.7 times as long and nearly twice the memory.
_STRIP_BYTES = 384 * 1024

# Fetching a strip takes some 10 µs whatever its height, so more rows save no time.
_MAX_ROWS = 64

# The resizer takes so many rows at once from where they lie, and copies fewer.
_BLOCK_ROWS = 16

_VIPS_FORMATS = frozenset({"JPEG", "PNG", "TIFF", "WEBP"})

# How many times the pixels of the target a JPEG decoded at a part of its size has.
_LEFT_PIXELS = 2

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


def jpeg_shrink(info: ImageInfo, height: int, width: int) -> int:
    """
    Tell at which part of its size a JPEG may be decoded to be resized from there.

    Its code holds blocks of 8 × 8 frequencies, and a decoder that leaves out the high
    ones gives the block smaller.  Twice the target's pixels must be left: then what
    was left out is nearly all above what the target can show.

    Parameters
    ----------
    info : ImageInfo
        What the header says.
    height, width : int
        Size it is resized to, as stored.

    Returns
    -------
    int
        1, 2, 4 or 8.
    """
    if info.format != "JPEG" or not is_for_vips(info):
        return 1
    for shrink in (8, 4, 2):
        left = (info.height // shrink, info.width // shrink)
        is_larger = left[0] >= height and left[1] >= width
        if is_larger and left[0] * left[1] >= _LEFT_PIXELS * height * width:
            return shrink
    return 1


def strips(
    height: int, row_bytes: int, *, max_rows: int | None = None
) -> Iterator[tuple[int, int]]:
    """
    Cut a picture into strips that stay in the processor's cache.

    Parameters
    ----------
    height : int
        Rows of the picture.
    row_bytes : int
        Length of one row in memory.
    max_rows : int, optional
        Rows of a strip at most, where fewer are wanted.

    Yields
    ------
    top, rows : int
        First row of a strip, and how many rows it has.

    Examples
    --------
    >>> list(strips(100, 3 * 4000))
    [(0, 32), (32, 32), (64, 32), (96, 4)]
    """
    step = min(max_rows or _MAX_ROWS, max(1, _STRIP_BYTES // row_bytes))
    if step > _BLOCK_ROWS:
        step -= step % _BLOCK_ROWS
    for top in range(0, height, step):
        yield top, min(step, height - top)
