"""
What this package set out to reach, beside the real peers.

Each row has its target, and says whether it is reached.  Peers have pixels of their
own; their answers are pictures of the right size that look the same, and each row
tells how many of their bytes are not Pillow's.
"""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, JpegImagePlugin

import qwenvl_prep as qp
from qwenvl_prep.bench_cases import prepare_many_cases, problem_of
from qwenvl_prep.bench_measure import Comparison, Measurement, Way
from qwenvl_prep.bench_pictures import photo_pixels
from qwenvl_prep.bench_rivals import (
    FAST_IMAGE_RESIZE,
    LIBJPEG_TURBO,
    FastImageResize,
    data_uri_by_pillow,
    data_uri_by_vips,
    libjpeg_turbo,
    missing_rivals,
    shrunk_by_pillow,
    shrunk_by_vips,
    vips_resize,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from qwenvl_prep.bench_cases import Picture

__all__ = [
    "differing",
    "exact_case",
    "fast_case",
    "kept_case",
    "kernel_case",
    "photo_case",
    "two_threads_cases",
]

# How many times as fast as the peer ours has to be.
_KERNEL_BESIDE_PILLOW = 10.0
_KERNEL_BESIDE_OTHERS = 1.0
_PHOTO_BESIDE_PILLOW = 2.6
_PHOTO_BESIDE_VIPS = 1.0
# No more than 1.25 times the time of decoding and encoding alone.
_PHOTO_BESIDE_FLOOR = 0.8
_TWO_THREADS_BESIDE_ONE = 1.7
_FAST_BESIDE_PILLOW = 3.8
# No more than 1.3 times the time of decoding at a part of the size, and encoding.
_FAST_BESIDE_FLOOR = 0.77
_KEPT_BESIDE_PILLOW = 20.0

# Mean difference, in 8-bit steps, above which a peer's answer is another picture.
# Filters differ by less than 1, JPEG 90 by about 2.
_SAME_PICTURE = 4.0

# As JPEG's headers number it: one colour sample for two by two pixels.
_CHROMA_420 = 2

_LONGEST_SIDE = 400


def differing(
    ours: NDArray[np.uint8], theirs: NDArray[np.uint8]
) -> tuple[dict[str, float] | None, str]:
    """
    Tell how far a peer's pixels are from ours.

    Returns
    -------
    tuple of (dict, str)
        ``percent`` of the bytes that differ and by how much at ``most``, and what is
        wrong; no numbers where the size is wrong.

    Examples
    --------
    >>> black, grey = np.zeros((2, 2), np.uint8), np.full((2, 2), 3, np.uint8)
    >>> differing(black, grey)
    ({'percent': 100.0, 'most': 3}, '')
    """
    if ours.shape != theirs.shape:
        return None, f"is of the size {theirs.shape}, not {ours.shape}"
    gap = np.abs(ours.astype(np.int16) - theirs)
    differs = {
        "percent": round(100 * float(np.mean(gap > 0)), 1),
        "most": int(gap.max()),
    }
    return differs, "" if gap.mean() <= _SAME_PICTURE else "shows another picture"


# ---------------------------------------------------------------- pixels alone


def kernel_case(photo: Picture) -> Comparison:
    """Resize the photo's bare pixels."""
    with Image.open(photo.path) as picture:
        picture.load()
    pixels = np.asarray(picture)
    height, width = photo.plan.height, photo.plan.width
    exact = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
    rivals = []
    if FAST_IMAGE_RESIZE not in missing_rivals():
        fast = FastImageResize(pixels, height, width)
        way = Way(
            f"{FAST_IMAGE_RESIZE} {fast.extension}",
            fast.run,
            target=_KERNEL_BESIDE_OTHERS,
        )
        rivals.append(_judged(way, exact, fast.answer()))
    by_vips = vips_resize(pixels, height, width)
    way = Way("pyvips cubic", by_vips, target=_KERNEL_BESIDE_OTHERS)
    rivals.append(_judged(way, exact, by_vips()))
    is_right = np.array_equal(qp.resize(pixels, height, width), exact)
    return Comparison(
        group="kernel",
        subject=f"{picture.height}×{picture.width} → {height}×{width}, pixels only",
        unit="images",
        ours=Way("ours", lambda: qp.resize(pixels, height, width)),
        peers=(
            Way(
                "Pillow",
                lambda: picture.resize((width, height), Image.Resampling.BICUBIC),
                target=_KERNEL_BESIDE_PILLOW,
            ),
            *rivals,
        ),
        problem="" if is_right else "pixels differ from Pillow's",
        megapixels=photo.megapixels,
    )


def _judged(
    way: Way, ours: NDArray[np.uint8], theirs: NDArray[np.uint8], problem: str = ""
) -> Way:
    """Note on a peer's way how far its pixels are from ours, and what is wrong."""
    differs, otherwise = differing(ours, theirs)
    problem = problem or otherwise
    return replace(way, differs=differs, problem=problem and f"{way.name} {problem}")


def exact_case(*, quick: bool) -> Measurement:
    """Count the bytes that are not the installed Pillow's, over random shapes."""
    rng = np.random.default_rng(5)
    n_shapes = 40 if quick else 400
    n_wrong = n_height_first = n_width_first = 0
    for _ in range(n_shapes):
        # Spread over orders of magnitude: 1 × 300 to 20 × 2 is as likely as 200 × 300.
        sides = np.exp(rng.uniform(0, np.log(_LONGEST_SIDE), 4)).astype(int)
        height, width, new_height, new_width = sides.tolist()
        mode, channels = (("L", ()), ("RGB", (3,)), ("CMYK", (4,)))[rng.integers(3)]
        # Black and white alone reaches furthest beyond both ends of the range.
        samples = rng.integers(0, 256, (height, width, *channels), np.uint8)
        if rng.random() < 0.5:
            samples = np.where(samples < 128, np.uint8(0), np.uint8(255))
        picture = Image.frombytes(mode, (width, height), samples.tobytes())
        expected = _resized(picture, (new_width, new_height))
        ours = qp.resize(samples, new_height, new_width).reshape(-1)
        n_wrong += int(np.count_nonzero(ours != expected))
        # Between the passes pixels are rounded, so their order can be told.
        height_first = _resized(picture, (width, new_height), (new_width, new_height))
        width_first = _resized(picture, (new_width, height), (new_width, new_height))
        if not np.array_equal(height_first, width_first):
            n_height_first += np.array_equal(expected, height_first)
            n_width_first += np.array_equal(expected, width_first)
    return Measurement(
        group="exact",
        subject=(
            f"bytes that differ from Pillow's, {n_shapes} random shapes "
            f"({n_height_first} height first, {n_width_first} width first)"
        ),
        unit="bytes",
        values=(n_wrong,),
        target=0,
        problem="pixels differ from Pillow's" if n_wrong else "",
    )


def _resized(picture: Image.Image, *sizes: tuple[int, int]) -> NDArray[np.uint8]:
    for size in sizes:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return np.frombuffer(picture.tobytes(), np.uint8)


# ---------------------------------------------------------------- file to data URI


def photo_case(photo: Picture) -> Comparison:
    """Take the photo's file to a data URI."""
    path, (height, width) = photo.path, (photo.plan.height, photo.plan.width)
    image = qp.prepare(path)
    exact = np.asarray(shrunk_by_pillow(path, height, width))
    pillow = Way(
        "Pillow",
        lambda: data_uri_by_pillow(path, height, width),
        target=_PHOTO_BESIDE_PILLOW,
    )
    vips = Way(
        "pyvips thumbnail",
        lambda: data_uri_by_vips(path, height, width),
        target=_PHOTO_BESIDE_VIPS,
    )
    peers = [
        replace(pillow, problem=_problem_of_uri(pillow, exact)),
        _judged(
            vips,
            exact,
            shrunk_by_vips(path, height, width),
            _problem_of_uri(vips, exact),
        ),
    ]
    if LIBJPEG_TURBO not in missing_rivals():
        codec = libjpeg_turbo(path.read_bytes(), exact)
        floor = Way(f"{LIBJPEG_TURBO} alone", codec, target=_PHOTO_BESIDE_FLOOR)
        full, written = codec()
        with Image.open(path) as picture:
            peers.append(
                _judged(
                    floor,
                    np.asarray(picture),
                    full,
                    _problem_of_jpeg(written, exact),
                )
            )
    return Comparison(
        group="photo",
        subject=f"{photo.name} {photo.plan.info.height}×{photo.plan.info.width} "
        f"→ {height}×{width} JPEG 90 4:2:0",
        unit="images",
        ours=Way("ours", lambda: qp.prepare(path).data_uri),
        peers=tuple(peers),
        problem=problem_of(path, image) or _problem_of_jpeg(image.data, exact),
        megapixels=photo.megapixels,
    )


def fast_case(photo: Picture) -> Comparison:
    """Take the photo's file to a data URI, decoded at a part of its size."""
    path, (height, width) = photo.path, (photo.plan.height, photo.plan.width)
    image = qp.prepare(path, fidelity="fast", report=True)
    exact = np.asarray(shrunk_by_pillow(path, height, width))
    _, problem = differing(exact, np.asarray(Image.open(io.BytesIO(image.data))))
    pillow = Way(
        "Pillow",
        lambda: data_uri_by_pillow(path, height, width),
        target=_FAST_BESIDE_PILLOW,
    )
    peers = [replace(pillow, problem=_problem_of_uri(pillow, exact))]
    if LIBJPEG_TURBO not in missing_rivals():
        info, shrink = image.plan.info, image.plan.shrink
        least = (info.height // shrink, info.width // shrink)
        codec = libjpeg_turbo(path.read_bytes(), exact, least=least)
        smaller, written = codec()
        is_smaller = smaller.shape[:2] == (
            -(-info.height // shrink),
            -(-info.width // shrink),
        )
        floor = Way(
            f"{LIBJPEG_TURBO} alone at 1/{shrink}", codec, target=_FAST_BESIDE_FLOOR
        )
        wrong = "" if is_smaller else f"{floor.name} decodes at another size"
        peers.append(replace(floor, problem=wrong or _problem_of_jpeg(written, exact)))
    return Comparison(
        group="photo",
        subject=f"{photo.name} {photo.plan.info.height}×{photo.plan.info.width} "
        f"→ {height}×{width} fidelity=fast: decoded at 1/{image.plan.shrink}, "
        f"{image.report}",
        unit="images",
        ours=Way("ours", lambda: qp.prepare(path, fidelity="fast").data_uri),
        peers=tuple(peers),
        problem=problem,
        megapixels=photo.megapixels,
    )


def kept_case(folder: Path) -> Comparison:
    """Pass a legal file through, beside opening, resizing and encoding it."""
    path = folder / "photo-small.jpg"
    pixels = photo_pixels(480, 640, rng=np.random.default_rng(2))
    Image.fromarray(pixels).save(path, quality=85)
    image = qp.prepare(path)
    size = qp.smart_resize(image.height, image.width)
    return Comparison(
        group="kept",
        subject=f"{path.name} {image.height}×{image.width} kept",
        unit="images",
        ours=Way("ours", lambda: qp.prepare(path).data_uri),
        peers=(
            Way(
                "Pillow",
                lambda: data_uri_by_pillow(path, *size),
                target=_KEPT_BESIDE_PILLOW,
            ),
        ),
        problem=problem_of(path, image),
        megapixels=image.height * image.width / 1e6,
    )


def _problem_of_uri(way: Way, exact: NDArray[np.uint8]) -> str:
    data, _ = qp.from_data_uri(str(way.run()))
    return _problem_of_jpeg(data, exact)


def _problem_of_jpeg(data: bytes, exact: NDArray[np.uint8]) -> str:
    """Say what is wrong with what would be sent, or nothing."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as sent:
        if JpegImagePlugin.get_sampling(sent) != _CHROMA_420:
            return "is written otherwise than JPEG 4:2:0"
        return differing(exact, np.asarray(sent))[1]


def two_threads_cases(
    photo: Picture, folder: Path, *, quick: bool
) -> Iterator[Comparison]:
    """Take copies of the photo to data URIs on two threads, beside one."""
    copies = []
    # Enough of them that the last one, which is alone, does not count for much.
    for number in range(2 if quick else 12):
        path = folder / f"copy-{number}.jpg"
        shutil.copyfile(photo.path, path)
        copies.append(replace(photo, name=path.name, path=path))
    yield from prepare_many_cases(copies, target=_TWO_THREADS_BESIDE_ONE)
