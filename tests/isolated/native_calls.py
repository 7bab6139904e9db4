"""
Call each native function once for every kind of size, for valgrind to watch.

The results are compared with Pillow's bytes, and written to nowhere: valgrind tells
of each byte that is written out without ever having been set.
"""

from __future__ import annotations

import io
import math
import os
import tempfile

import numpy as np
from PIL import Image

import qwenvl_prep as qp
from qwenvl_prep._native import content, geometry
from qwenvl_prep._native.flatten import flatten_rgba
from qwenvl_prep._native.headers import sides_of_plain
from qwenvl_prep._native.scan import end_of_scan
from qwenvl_prep._native.shaper import shape_rgb

MODES = {1: "L", 3: "RGB", 4: "CMYK"}
EDGES = (1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 65)
# (height, width) to (height, width): the width first, the height first, enlarged.
BOTH_AXES = [
    ((19, 67), (13, 21)),
    ((67, 19), (21, 13)),
    ((40, 33), (7, 61)),
    ((9, 7), (31, 37)),
    ((1, 1), (5, 9)),
    ((65, 129), (1, 1)),
    ((3, 521), (2, 511)),
]
NOWHERE = os.open(os.devnull, os.O_WRONLY)
SAMPLES = bytes(sample * 37 % 251 for sample in range(251)) * 1_000
# No array is given back: NumPy would hand small ones out again, their bytes set.
KEPT: list[np.ndarray] = []


def picture(*shape: int) -> np.ndarray:
    """Give samples that differ from their neighbours."""
    return np.frombuffer(SAMPLES, np.uint8, math.prod(shape)).reshape(shape)


def write(result: np.ndarray) -> None:
    """Write the bytes of a result, so that each has to have been set."""
    KEPT.append(result)
    os.write(NOWHERE, result.data)


def resize(size: tuple[int, int], out: tuple[int, int], channels: int) -> None:
    """Resize one picture by both."""
    pixels = picture(*size) if channels == 1 else picture(*size, channels)
    given = qp.resize(pixels, *out)
    write(given)
    image = Image.frombytes(MODES[channels], size[::-1], pixels.tobytes())
    expected = image.resize(out[::-1], Image.Resampling.BICUBIC).tobytes()
    if given.tobytes() != expected:
        raise AssertionError((size, out, channels))
    resizer = qp.Resizer(*size, *out, channels=channels)
    bands = [resizer.feed(pixels[top : top + 5]) for top in range(0, size[0], 5)]
    for band in bands:
        write(band)
    if b"".join(band.tobytes() for band in bands) != expected:
        raise AssertionError((size, out, channels, "streamed"))


def flatten(pixels: int) -> None:
    """Lay so many transparent pixels on white."""
    target = np.empty(pixels * 3, np.uint8)
    flatten_rgba(picture(pixels * 4), target, 255, 255, 255)
    write(target)


def scan(length: int) -> None:
    """Look for a marker behind so many bytes of code, and for none."""
    code = picture(length).tobytes().replace(b"\xff", b"\xfe")
    for data in (code, code + b"\xff\xd9", code + b"\xff\xd0", code + b"\xff"):
        if end_of_scan(data, 0)[0] != (length if data.endswith(b"\xd9") else -1):
            raise AssertionError(length)


def studied(height: int, width: int) -> None:
    """Look at a picture of this size, grey and in colour."""
    steps = np.full(3 * 128, 7, np.float32)
    for channels in (1, 3):
        pixels = picture(height * width * channels)
        losses = np.empty(3 * 3)
        found = content.sample(pixels, height, width, channels, steps, 9, losses)
        write(losses)
        write(np.array(found))
        indices = np.empty(height * width, np.uint8)
        colours = np.empty(256 * channels, np.uint8)
        count = content.index_colours(pixels, channels, indices, colours)
        colours = colours[: count * channels].reshape(-1, channels)
        if count:
            write(indices)
            write(colours)
        if count and not np.array_equal(colours[indices].reshape(-1), pixels):
            raise AssertionError((height, width, channels))
    pixels = picture(height * width).repeat(3)
    for place in (0, pixels.size - 1):
        if not content.is_neutral(pixels):
            raise AssertionError((height, width, place))
        pixels[place] ^= 1
        if content.is_neutral(pixels):
            raise AssertionError((height, width, place))
        pixels[place] ^= 1


def shape(pixels: int) -> None:
    """Convert so many colours, by tables that swap red and blue."""
    parts = np.zeros((3, 256, 4), np.int32)
    # 64 levels for each code, with 14 bits behind the point.
    parts[0, :, 2] = parts[1, :, 1] = parts[2, :, 0] = np.arange(256) << 20
    levels = (np.arange(16_385) >> 6).clip(max=255).astype(np.uint8)
    source, target = picture(pixels * 3), np.empty(pixels * 3, np.uint8)
    shape_rgb(source, target, parts, levels)
    write(target)
    if (target.reshape(-1, 3) != source.reshape(-1, 3)[:, ::-1]).any():
        raise AssertionError(pixels)


def sides(file_format: str, *, is_far: bool = False) -> None:
    """Look for the sides of a file, and of its beginnings; the rest is not set."""
    saved = io.BytesIO()
    options = {"exif": b"Exif\0\0" + bytes(20)} if file_format == "WEBP" else {}
    if is_far:  # beyond the piece that is read at once
        options["icc_profile"] = SAMPLES[:9_000]
    image = Image.new("L" if file_format == "TIFF" else "RGB", (40, 24))
    image.save(saved, file_format, **options)
    data = saved.getvalue()
    if is_far and file_format == "TIFF":
        data = b"II*\0" + (5_008).to_bytes(4, "little") + bytes(5_000) + data[8:]
    with tempfile.TemporaryFile(buffering=0) as file:
        for end in (
            *range(min(len(data), 700)),
            *range(4_090, len(data), 61),
            len(data),
        ):
            file.seek(0)
            file.truncate()
            file.write(data[:end])
            found = sides_of_plain(file.fileno())
            if found != (24, 40) and (found is not None or end >= len(data)):
                raise AssertionError((file_format, end, found))


def sizes(count: int) -> None:
    """Count so many sizes by each rule, in each way that this CPU has."""
    sides = np.arange(11, 11 + count)
    write(qp.smart_resize_many(sides, sides, max_pixels=784 * 9, rule="strict"))
    for name in geometry.backends():
        geometry.use_backend(name)
        write(qp.smart_resize_many(sides, sides[::-1]))
        write(qp.count_tokens_many(sides, sides))
    for tokens, most in ((28_000, None), (30_660 - 12 * count, None), (28_000, 99)):
        fitted = qp.fit_sizes(sides, 9 * sides, text=tokens, max_tokens=most)
        write(fitted.caps)
        write(fitted.tokens)


def main() -> None:
    if qp.backend() != os.environ.get("QWENVL_PREP_BACKEND", qp.backend()):
        raise AssertionError(qp.backend())
    for channels in MODES:
        for side in EDGES:
            for out in (1, 2, 7, 16, 33):
                if side != out:
                    resize((3, side), (3, out), channels)
                    resize((side, 3), (out, 3), channels)
        for size, out in BOTH_AXES:
            resize(size, out, channels)
    for file_format in ("JPEG", "PNG", "WEBP", "BMP", "TIFF"):
        sides(file_format)
        sides(file_format, is_far=file_format != "BMP")
    studied(70, 90)
    for count in EDGES:
        flatten(count)
        scan(count)
        studied(count, 3)
        studied(17, count)
        shape(count)
        sizes(count)


if __name__ == "__main__":
    main()
