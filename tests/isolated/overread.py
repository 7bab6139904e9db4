"""
Break one rule of memory through a native module, so that what watches it must tell.

``python overread.py resample`` resizes a picture that is said to be one byte longer
than the block it lies in.  Where a sanitizer or valgrind says nothing to that, its
silence about everything else is worth nothing either.
"""

from __future__ import annotations

import ctypes
import sys

# Fewer than a vector of x86 takes: those may begin anywhere.
SIDES = (500).to_bytes(8, sys.byteorder) * 3

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]


def block(content: bytes) -> int:
    """Give the address of a block of the heap with this content, never freed."""
    address = libc.malloc(len(content))
    ctypes.memmove(address, content, len(content))
    return address


def caps() -> None:
    from qwenvl_prep._native.caps import vision_tokens_under

    sides = (ctypes.c_int64 * 3).from_address(block(SIDES[: 3 * 8 - 1]))
    counts = memoryview(bytearray(24)).cast("q")
    vision_tokens_under(sides, sides, sides, counts, 28, 1, 784_000, 200)


def content() -> None:
    from qwenvl_prep._native.content import is_neutral

    is_neutral((ctypes.c_ubyte * 33).from_address(block(bytes(32))))


def content_sample() -> None:
    import numpy as np

    from qwenvl_prep._native.content import sample

    source = (ctypes.c_ubyte * 1200).from_address(block(bytes(1199)))
    steps = np.ones(128, np.float32)
    sample(source, 20, 20, 3, steps, 9, np.zeros(3))


def content_colours() -> None:
    from qwenvl_prep._native.content import index_colours

    source = (ctypes.c_ubyte * 33).from_address(block(bytes(32)))
    index_colours(source, 3, bytearray(11), bytearray(6))


def flatten() -> None:
    from qwenvl_prep._native.flatten import flatten_rgba

    source = (ctypes.c_ubyte * 32).from_address(block(bytes(31)))
    flatten_rgba(source, bytearray(24), 255, 255, 255)


def geometry(address: int = 0) -> None:
    from qwenvl_prep._native.geometry import smart_resize_many

    sides = (ctypes.c_int64 * 3).from_address(address or block(SIDES[:-1]))
    sizes = memoryview(bytearray(48)).cast("q", (3, 2))
    smart_resize_many(sides, sides, sizes, 28, 1, 100, False)


def resample() -> None:
    import numpy as np

    import qwenvl_prep as qp

    source = (ctypes.c_ubyte * 60).from_address(block(bytes(59)))
    qp.resize(np.ctypeslib.as_array(source).reshape(4, 5, 3), 2, 3)


def scan() -> None:
    from qwenvl_prep._native.scan import end_of_scan

    end_of_scan((ctypes.c_ubyte * 32).from_address(block(bytes(30) + b"\xff")), 0)


def shaper() -> None:
    from qwenvl_prep._native.shaper import shape_rgb

    source = (ctypes.c_ubyte * 60).from_address(block(bytes(59)))
    parts = memoryview(bytes(3 * 256 * 4 * 4)).cast("i", (3, 256, 4))
    shape_rgb(source, bytearray(60), parts, bytes(16_385))


def alignment() -> None:
    """Stay inside the block: only the check for undefined behaviour sees this one."""
    geometry(block(b"1234" + SIDES) + 4)


if __name__ == "__main__":
    tasks = (
        caps,
        content,
        content_colours,
        content_sample,
        flatten,
        geometry,
        resample,
        scan,
        shaper,
        alignment,
    )
    {task.__name__: task for task in tasks}[sys.argv[1]]()
