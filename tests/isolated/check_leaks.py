"""
Call the native functions thousands of times and hold the process's own memory.

Run in a fresh process; ends with an error where memory grows.  Every kind of call
is made before measuring, so that what is allocated once does not count.
"""

from __future__ import annotations

import gc
import random
import sys
from pathlib import Path

import numpy as np

import qwenvl_prep as qp
from qwenvl_prep._native import content, geometry, resample
from qwenvl_prep._native.flatten import flatten_rgba
from qwenvl_prep._native.scan import end_of_scan
from qwenvl_prep._native.shaper import shape_rgb

CALLS = 20_000
# Losing the smallest buffer of a call, one line of a few weights, would cost 2 MB.
ALLOWED_KIB = 1_024

# Sizes in and out of both orders of passes; one in three has one pass alone.
RANDOM = random.Random(1)
SIZES = [[RANDOM.randint(10, 90) for _ in range(4)] for _ in range(60)]
for index in range(0, 60, 3):
    SIZES[index][2 + index % 2] = SIZES[index][index % 2]
PIXELS = {
    channels: np.arange(90 * 90 * channels, dtype=np.uint8).reshape(90, 90, -1)
    for channels in (1, 3, 4)
}
RGBA = np.full((64, 64, 4), 100, np.uint8)
STEPS = np.full(128, 9, np.float32)
LOSSES = np.zeros(3)
PARTS = np.zeros((3, 256, 4), np.int32)
LEVELS = bytes(16_385)
HEIGHTS = np.arange(11, 211)


def resident_kib() -> int:
    """Give the memory that this process holds, in KiB."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS in /proc/self/status")


def resize(call: int) -> None:
    """Resize another size than the last time."""
    height, width, out_height, out_width = SIZES[call % len(SIZES)]
    pixels = PIXELS[(1, 3, 4)[call % 3]][:height, :width]
    qp.resize(pixels.squeeze(), out_height, out_width)


def stream(call: int) -> None:
    """Feed nothing, the half, all but one row or all of a picture, and drop it."""
    height, width, out_height, out_width = SIZES[call % len(SIZES)]
    channels = (1, 3, 4)[call % 3]
    pixels = PIXELS[channels][:height, :width]
    pixels = pixels[:, :, 0] if channels == 1 else pixels
    resizer = qp.Resizer(
        height,
        width,
        out_height,
        out_width,
        channels=channels,
        orientation=call % 8 + 1,
    )
    fed = (0, height // 2, height - 1, height)[call // 3 % 4]
    band = call % 13 + 1
    for top in range(0, fed, band):
        resizer.feed(pixels[top : min(top + band, fed)])
    try:
        resizer.feed(pixels[:1] if fed == height else pixels[:1, 1:])
    except ValueError:
        return
    raise RuntimeError("a row too many, or too short, was taken")


def flatten(call: int) -> None:
    """Lay a transparent picture on white, another size than the last time."""
    rows = call % 64 + 1
    flatten_rgba(
        RGBA[:rows].reshape(-1), np.empty(rows * 64 * 3, np.uint8), 255, 255, 255
    )


def sizes(call: int) -> None:
    """Count many sizes by one of the rules."""
    heights = HEIGHTS[call % 100 :]
    (
        lambda: qp.smart_resize_many(heights, heights),
        lambda: qp.smart_resize_many(
            heights, heights, max_pixels=784 * 9, rule="strict"
        ),
        lambda: qp.count_tokens_many(heights, heights),
        lambda: qp.smart_resize(512, 512),
        lambda: qp.fit_sizes(heights, 9 * heights, text=29_000 - 10 * len(heights)),
    )[call % 5]()


def scan(call: int) -> None:
    """Find the end of a scan, each time another one."""
    end_of_scan(bytes(call % 200) + b"\xff\xd0ab\xff\xd9", call % 7)


def study(call: int) -> None:
    """Look at a picture of another size than the last time."""
    height, width = call % 40 + 1, call % 41 + 1
    channels = (1, 3)[call % 2]
    pixels = PIXELS[channels].reshape(-1)[: height * width * channels]
    (
        lambda: content.sample(pixels, height, width, channels, STEPS, 2, LOSSES),
        lambda: content.index_colours(
            pixels,
            channels,
            np.empty(height * width, np.uint8),
            np.empty((call % 256 + 1) * channels, np.uint8),
        ),
        lambda: content.is_neutral(bytes(call % 100 * 3)),
    )[call // 2 % 3]()


def shape(call: int) -> None:
    """Convert colours, each time another number of them."""
    shape_rgb(bytes(call % 200 * 3), bytearray(call % 200 * 3), PARTS, LEVELS)


def refused(call: int) -> None:
    """Make one kind of call that is refused."""
    target = bytearray(18)
    side = resample.MAX_SIDE
    calls = (
        lambda: qp.resize(PIXELS[3], 0, 5),
        lambda: end_of_scan(bytes(5), -1),
        lambda: content.is_neutral(bytes(5)),
        lambda: content.is_neutral(RGBA.reshape(-1)[::2]),
        lambda: content.index_colours(bytes(6), 3, bytearray(3), target),
        lambda: content.index_colours(bytes(6), 3, bytes(2), target),
        lambda: content.sample(bytes(6), 1, 1, 3, STEPS, 1, LOSSES),
        lambda: content.sample(bytes(3), 1, 1, 3, 0 * STEPS, 1, LOSSES),
        lambda: content.sample(bytes(3), 1, 1, 3, STEPS, 1, target),
        lambda: shape_rgb(bytes(18), target, PARTS[:, :, ::2], LEVELS),
        lambda: shape_rgb(bytes(18), target, PARTS[:2], LEVELS),
        lambda: shape_rgb(bytes(18), target, PARTS, LEVELS[1:]),
        lambda: qp.smart_resize(1, 201),
        lambda: qp.smart_resize(0, 1),
        lambda: qp.smart_resize_many([1, 0], [1, 1]),
        lambda: geometry.smart_resize(1, 1, 0, 1, 1, False),
        lambda: flatten_rgba(bytes(5), target, 255, 255, 255),
        lambda: flatten_rgba(bytes(4), target, 255, 256, 255),
        lambda: flatten_rgba(RGBA.reshape(-1)[::2], target, 255, 255, 255),
        lambda: resample.resample(bytes(59), target, 4, 5, 3, 2, 3, False),
        lambda: resample.resample(bytes(60), target, 4, 5, 3, 2, 4, False),
        lambda: resample.resample(bytes(60), bytes(18), 4, 5, 3, 2, 3, False),
        lambda: resample.resample(bytes(60), target, 4, 5, 2, 2, 3, False),
        lambda: resample.resample(bytes(60), target, side, side, 4, 2, 3, False),
        lambda: resample.resample(memoryview(target), target, 2, 3, 3, 3, 2, False),
    )
    try:
        calls[call % len(calls)]()
    except (ValueError, TypeError, BufferError, OverflowError, MemoryError):
        return
    raise RuntimeError(f"call {call % len(calls)} has to be refused and was not")


def main() -> None:
    """Warm up, call, and compare."""
    tasks = (resize, stream, flatten, scan, shape, study, sizes, refused)
    for task in tasks:
        for call in range(2_000):
            task(call)
    gc.collect()
    before = resident_kib()
    for task in tasks:
        for call in range(CALLS):
            task(call)
    gc.collect()
    grown = resident_kib() - before
    sys.stdout.write(f"{grown}\n")
    if grown > ALLOWED_KIB:
        sys.exit(f"memory grew by {grown} KiB in {CALLS} calls of each kind")


if __name__ == "__main__":
    main()
