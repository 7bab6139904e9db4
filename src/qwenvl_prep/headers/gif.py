"""GIF: the screen, the pictures up to the wanted one, and how many there are."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from qwenvl_prep.headers.info import ImageInfo
from qwenvl_prep.headers.reader import BudgetExceeded, ShortRead
from qwenvl_prep.headers.refuse import damaged

if TYPE_CHECKING:
    from qwenvl_prep.headers.reader import HeaderReader

__all__ = ["read_gif"]

_screen = struct.Struct("<HHB")
_picture = struct.Struct("<HHHHB")

_EXTENSION, _PICTURE, _TRAILER = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9

# A block holds up to 255 bytes, so pictures within the first 5 MB are counted.
_MAX_STEPS = 20_000
# After so many bytes only the lengths of blocks are fetched, not the blocks.
_CONTIGUOUS = 160 * 1024


class _Walk:
    """A position in the file, and the steps that are left."""

    __slots__ = ("at", "reader", "steps")

    def __init__(self, reader: HeaderReader, at: int) -> None:
        self.reader = reader
        self.at = at
        self.steps = _MAX_STEPS

    def byte(self) -> int:
        """Give the next byte, or -1 where the file ends."""
        self.steps -= 1
        if self.steps < 0:
            raise BudgetExceeded(_MAX_STEPS)
        if self.at < _CONTIGUOUS:
            found = self.reader.read_up_to(self.at, 1, 8192)
        else:
            found = self.reader.peek(self.at, 1)
        self.at += 1
        return found[0] if found else -1

    def skip_blocks(self) -> None:
        """Pass over data blocks up to the empty one."""
        while (length := self.byte()) > 0:
            self.at += length

    def next_picture(self) -> tuple[tuple[int, ...], bool] | None:
        """
        Walk to the next picture and past the head of its data.

        Gives its left, top, width, height and flags, and whether one colour is
        transparent; None where there is no further picture.
        """
        transparent = False
        while True:
            kind = self.byte()
            if kind < 0 or kind == _TRAILER:
                return None
            if kind == _EXTENSION:
                label = self.byte()
                start = self.at
                self.skip_blocks()
                if label == _GRAPHIC_CONTROL:
                    control = self.reader.peek(start, 2)
                    if len(control) == 2 and control[0] and control[1] & 1:
                        transparent = True
            elif kind == _PICTURE:
                head = self.reader.peek(self.at, 9)
                if len(head) < 9:
                    raise ShortRead(self.at + 9)
                found = _picture.unpack(head)
                # Its own palette, if any, and the byte of LZW code length.
                self.at += 10 + _palette_size(found[4])
                return found, transparent


def _palette_size(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def read_gif(reader: HeaderReader, frame: int = 0) -> ImageInfo:
    """Read up to the wanted picture, then count the others."""
    width, height, flags = _screen.unpack(reader.read(6, 5))
    walk = _Walk(reader, 13 + _palette_size(flags))
    picture = walk.next_picture()
    if picture is None:
        raise damaged("GIF", "a picture", "none")
    (left, top, picture_width, picture_height, _), transparent = picture
    # A first picture that reaches over the edge enlarges the screen, in Pillow.
    width = max(width, left + picture_width)
    height = max(height, top + picture_height)
    frames = 1
    # What is too far away to be found is too far away to be counted.
    with suppress(BudgetExceeded):
        while frames <= frame:
            walk.skip_blocks()
            following = walk.next_picture()
            if following is None:
                break
            frames += 1
            (left, top, picture_width, picture_height, _), has_clear = following
            # So does a later one, and what it adds is as clear as it is itself.
            if left + picture_width > width or top + picture_height > height:
                width = max(width, left + picture_width)
                height = max(height, top + picture_height)
                transparent = has_clear
    if not height or not width:
        raise damaged("GIF", "a height and width above 0", f"{height}x{width}")
    return ImageInfo(
        "GIF",
        "image/gif",
        height,
        width,
        channels=4 if transparent else 3,
        has_alpha=transparent,
        colour="palette",
        n_frames=frames + (_count(walk) if reader.tail else 0),
        is_lossless=True,
        encoded_size=reader.size,
    )


def _count(walk: _Walk) -> int:
    """Count the pictures behind the one whose data comes, as far as the steps reach."""
    frames = 0
    try:
        walk.skip_blocks()
        while walk.next_picture() is not None:
            frames += 1
            walk.skip_blocks()
    except BudgetExceeded:
        # One picture is what is sent; that there are more is all that counts.
        pass
    return frames
