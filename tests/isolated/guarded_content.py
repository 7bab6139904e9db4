"""
Look at pictures that lie flush against pages which nobody may touch.

One byte read or written beside a buffer ends the process; ``python guarded_content.py
behind`` and ``before`` do that on purpose.
"""

from __future__ import annotations

import ctypes
import mmap
import sys

import numpy as np

from qwenvl_prep._native import content

PAGE = mmap.PAGESIZE
STEPS = np.arange(1, 257, dtype=np.float32)
KEPT: list[mmap.mmap] = []  # while an array of ctypes looks into them


def guarded(size: int, *, at_end: bool) -> np.ndarray:
    """Give bytes that touch an inaccessible page at one end."""
    pages = max(-(-size // PAGE), 1)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    KEPT.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for guard in (start, start + (pages + 1) * PAGE):
        if libc.mprotect(guard, PAGE, 0) != 0:
            raise OSError(ctypes.get_errno(), "mprotect")
    first = (pages + 1) * PAGE - size if at_end else PAGE
    return np.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(start + first))


def look(height: int, width: int, channels: int, *, at_end: bool) -> None:
    """Call all three functions with nothing but guarded buffers."""
    pixels = guarded(height * width * channels, at_end=at_end)
    pixels[:] = np.arange(pixels.size) // channels % 251
    steps = guarded(STEPS.nbytes, at_end=at_end).view(np.float32)
    steps[:] = STEPS
    losses = guarded(6 * 8, at_end=at_end).view(np.float64)
    content.sample(pixels, height, width, channels, steps, 9, losses)
    if channels == 3 and not content.is_neutral(pixels):
        raise AssertionError((height, width))
    indices = guarded(height * width, at_end=at_end)
    colours = guarded(251 * channels, at_end=at_end)
    if not content.index_colours(pixels, channels, indices, colours):
        raise AssertionError((height, width, channels))


def main(task: str) -> None:
    """Look at pictures of all kinds of size, or break the rule."""
    if task == "between":
        sizes = (1, 2, 15, 16, 17, 31, 33, 48, 64)
        for height in sizes:
            for width in sizes:
                for channels in (1, 3):
                    look(height, width, channels, at_end=True)
                    look(height, width, channels, at_end=False)
        sys.stdout.write(str(len(KEPT)))
        return
    pixels = guarded(99, at_end=task == "behind")
    address = pixels.ctypes.data + (1 if task == "behind" else -1)
    content.is_neutral((ctypes.c_ubyte * 99).from_address(address))


if __name__ == "__main__":
    main(sys.argv[1])
