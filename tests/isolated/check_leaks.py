"""
Call the native functions thousands of times and hold the process's own memory.

Run in a fresh process; ends with an error where memory grows.  Every kind of call
is made before measuring, so that what is allocated once does not count.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np

import qwenvl_prep as qp
from qwenvl_prep._native import resample
from qwenvl_prep._native.flatten import flatten_rgba

CALLS = 3_000
# Losing the smallest buffers, the starts of each axis, would cost 7 MB.
ALLOWED_KIB = 2_048

PIXELS = np.arange(96 * 128 * 3, dtype=np.uint32).astype(np.uint8).reshape(96, 128, 3)
RGBA = np.full((64, 64, 4), 100, np.uint8)
HEIGHTS = np.arange(11, 1_011)


def resident_kib() -> int:
    """Give the memory that this process holds, in KiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS in /proc/self/status")


def resize() -> None:
    """Both passes in both orders, and each pass alone."""
    for size in ((48, 60), (20, 120), (96, 70), (70, 128), (150, 200)):
        qp.resize(PIXELS, *size)


def flatten() -> None:
    """Lay one transparent picture on white."""
    flatten_rgba(RGBA.reshape(-1), np.empty(64 * 64 * 3, np.uint8), 255)


def sizes() -> None:
    """Count many sizes by both rules."""
    qp.smart_resize_many(HEIGHTS, HEIGHTS)
    qp.smart_resize_many(HEIGHTS, HEIGHTS, max_pixels=784 * 9, rule="strict")
    qp.count_tokens_many(HEIGHTS, HEIGHTS)
    qp.smart_resize(512, 512)


def refused() -> None:
    """Make each kind of call that is refused."""
    target = bytearray(18)
    calls = (
        lambda: qp.resize(PIXELS, 0, 5),
        lambda: qp.smart_resize(1, 201),
        lambda: qp.smart_resize(0, 1),
        lambda: qp.smart_resize_many([1, 0], [1, 1]),
        lambda: flatten_rgba(bytes(5), target, 255),
        lambda: resample.resample(bytes(59), target, 4, 5, 3, 2, 3, False),
        lambda: resample.resample(bytes(60), target, 4, 5, 3, 2, 4, False),
        lambda: resample.resample(bytes(60), bytes(18), 4, 5, 3, 2, 3, False),
        lambda: resample.resample(bytes(60), target, 4, 5, 2, 2, 3, False),
    )
    for call in calls:
        try:
            call()
        except (ValueError, TypeError, BufferError):
            continue
        raise RuntimeError("a call that has to be refused was not")


def main() -> None:
    """Warm up, call, and compare."""
    tasks = (resize, flatten, sizes, refused)
    for task in tasks:
        for _ in range(200):
            task()
    gc.collect()
    before = resident_kib()
    for task in tasks:
        for _ in range(CALLS):
            task()
    gc.collect()
    grown = resident_kib() - before
    sys.stdout.write(f"{grown}\n")
    if grown > ALLOWED_KIB:
        sys.exit(f"memory grew by {grown} KiB in {CALLS} calls of each kind")


if __name__ == "__main__":
    main()
