"""What the bench compares, each way with the check of its own answer."""

from __future__ import annotations

import base64
import contextlib
import importlib
import importlib.util
import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

import qwenvl_prep as qp
from qwenvl_prep.bench_measure import Comparison, Way
from qwenvl_prep.bench_peers import (
    count_in_numpy,
    count_in_python,
    picture_of_pillow,
    prepare_with_pillow,
)
from qwenvl_prep.bench_pictures import photo_pixels
from qwenvl_prep.decode import decode
from qwenvl_prep.errors import QwenVLPrepError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from qwenvl_prep.options import Encoding
    from qwenvl_prep.plan import ImagePlan
    from qwenvl_prep.prepare import PreparedImage

__all__ = [
    "Picture",
    "count_files",
    "count_sizes",
    "prepare_cases",
    "prepare_many_cases",
    "problem_of",
    "resize_cases",
]


@dataclass(frozen=True, slots=True)
class Picture:
    """A file that was prepared once without refusal, by us and by Pillow."""

    name: str
    path: Path
    plan: ImagePlan

    @property
    def megapixels(self) -> float:
        """Area of the original."""
        return self.plan.info.height * self.plan.info.width / 1e6


def count_sizes(*, quick: bool) -> Iterator[Comparison]:
    """Count tokens from sizes alone, beside NumPy and a Python loop."""
    n, n_sample = (20_000, 2_000) if quick else (1_000_000, 20_000)
    rng = np.random.default_rng(1)
    # Evenly spread over orders of magnitude: every branch of the rule is taken.
    heights, widths = np.exp(rng.uniform(0, math.log(12_000), (2, n))).astype(np.int64)
    sample = list(
        zip(heights[:n_sample].tolist(), widths[:n_sample].tolist(), strict=True)
    )
    counts = qp.count_tokens_many(heights, widths)
    by_rule = [count_in_python(height, width) for height, width in sample]
    problem = ""
    if counts[:n_sample].tolist() != by_rule:
        problem = "counts differ from the rule in Python"
    elif not np.array_equal(counts, count_in_numpy(heights, widths)):
        problem = "counts differ from the rule in NumPy"
    yield Comparison(
        group="count-sizes",
        subject=f"{n:,} random sizes",
        unit="sizes",
        ours=Way("ours", lambda: qp.count_tokens_many(heights, widths), n),
        peers=(
            Way("NumPy", lambda: count_in_numpy(heights, widths), n),
            Way(
                "Python loop",
                lambda: [count_in_python(height, width) for height, width in sample],
                n_sample,
            ),
        ),
        problem=problem,
    )


def count_files(pictures: Sequence[Picture]) -> Iterator[Comparison]:
    """Count tokens from files, beside those who read a header too."""
    paths = [picture.path for picture in pictures]

    def with_pillow() -> list[int]:
        counts = []
        for path in paths:
            with Image.open(path) as image:
                width, height = image.size
            # The rule is symmetric, so the orientation does not matter to the count.
            counts.append(count_in_python(height, width))
        return counts

    def ours() -> list[int]:
        return [qp.count_tokens(path) for path in paths]

    peers = [Way("Pillow", with_pillow, len(paths))]
    if importlib.util.find_spec("imagesize") is not None:
        imagesize = importlib.import_module("imagesize")

        def with_imagesize() -> list[int]:
            sizes = [imagesize.get(path) for path in paths]
            return [count_in_python(height, width) for width, height in sizes]

        # It raises, or gives (-1, -1), for what it does not read; half an answer is
        # no peer.
        with contextlib.suppress(Exception):
            if with_imagesize() == with_pillow():
                peers.append(Way("imagesize", with_imagesize, len(paths)))
    is_right = ours() == with_pillow()
    yield Comparison(
        group="count-files",
        subject=f"{len(paths)} files, from the page cache",
        unit="files",
        ours=Way("ours", ours, len(paths)),
        peers=tuple(peers),
        problem="" if is_right else "counts differ from the rule on Pillow's sizes",
    )


def resize_cases(*, quick: bool) -> Iterator[Comparison]:
    """Resize bare pixels, beside Pillow."""
    rng = np.random.default_rng(2)
    pixels = photo_pixels(*((900, 1200) if quick else (3024, 4032)), rng=rng)
    height, width = qp.smart_resize(*pixels.shape[:2])
    # Each side gets the pixels where it keeps them anyway.
    picture = Image.fromarray(pixels)

    def with_pillow() -> Image.Image:
        return picture.resize((width, height), Image.Resampling.BICUBIC)

    is_right = np.array_equal(
        qp.resize(pixels, height, width), np.asarray(with_pillow())
    )
    yield Comparison(
        group="resize",
        subject=f"{picture.height}×{picture.width} → {height}×{width}, pixels only",
        unit="images",
        ours=Way("ours", lambda: qp.resize(pixels, height, width)),
        peers=(Way("Pillow", with_pillow),),
        problem="" if is_right else "pixels differ from Pillow's",
        megapixels=picture.height * picture.width / 1e6,
    )


def prepare_cases(pictures: Sequence[Picture]) -> Iterator[Comparison]:
    """Take files to data URIs one by one, beside Pillow."""
    for picture in pictures:
        yield _prepare_one(picture, "auto")
        # "auto" writes a lossless original twice and keeps the shorter: by choice
        # twice the work.  The second row is the like-for-like one.
        if picture.plan.info.is_lossless and not picture.plan.is_kept:
            yield _prepare_one(picture, "jpeg")


def _prepare_one(picture: Picture, encoding: Encoding) -> Comparison:
    path = picture.path
    image = qp.prepare(path, encoding=encoding)
    info = image.plan.info
    # Where we keep the bytes, Pillow's way is still the whole way.
    label = "JPEG 90 4:2:0" if image.plan.is_kept else written_as(image)
    peers = [
        Way(
            "Pillow",
            lambda: prepare_with_pillow(path, image.height, image.width, label),
        )
    ]
    size = f"{picture.name} {info.upright_height}×{info.upright_width}"
    if image.plan.is_kept:
        done = "kept"
        peers.append(Way("read + base64", lambda: _as_it_is(path, image.media_type)))
    else:
        is_chosen = encoding == "auto" and info.is_lossless
        done = f"→ {image.height}×{image.width} {'auto: ' * is_chosen}{label}"
    return Comparison(
        group="prepare",
        subject=f"{size} {done}",
        unit="images",
        ours=Way("ours", lambda: qp.prepare(path, encoding=encoding).data_uri),
        peers=tuple(peers),
        problem=problem_of(path, image),
        megapixels=picture.megapixels,
    )


def written_as(image: PreparedImage) -> str:
    """Give the last of the changes without its verb, as "JPEG 90 4:2:0"."""
    return image.changes[-1].partition(" ")[2]


def _as_it_is(path: Path, media_type: str) -> str:
    body = base64.b64encode(path.read_bytes()).decode("ascii")
    return f"data:{media_type};base64,{body}"


def problem_of(path: Path, image: PreparedImage) -> str:
    """Say what is wrong with a prepared image, or nothing."""
    info = image.plan.info
    if image.tokens != count_in_python(info.upright_height, info.upright_width):
        return "tokens differ from the rule in Python"
    if image.plan.is_kept:
        is_right = image.data_uri == _as_it_is(path, image.media_type)
        return "" if is_right else "kept bytes differ from the file's"
    with Image.open(io.BytesIO(image.data)) as sent:
        if sent.size != (image.width, image.height):
            return f"sent as {sent.height}×{sent.width}, planned otherwise"
    # Compared before JPEG, which would hide what it rounds away.
    size = (image.height, image.width) if image.plan.is_resized else None
    pixels = decode(path.read_bytes(), info, size=size).rgb
    of_pillow = np.asarray(picture_of_pillow(path, image.height, image.width))
    return "" if np.array_equal(pixels, of_pillow) else "pixels differ from Pillow's"


def prepare_many_cases(
    pictures: Sequence[Picture], *, target: float | None = None
) -> Iterator[Comparison]:
    """Take files to data URIs on two threads, beside one; *target* is the ratio."""
    paths = [picture.path for picture in pictures]

    def prepare(workers: int) -> list[str]:
        # As JPEG: writing one PNG beside it would take longer than all the rest.
        results = qp.prepare_many(paths, encoding="jpeg", workers=workers)
        # None was refused when it was prepared alone.
        return [one.data_uri for one in results if not isinstance(one, QwenVLPrepError)]

    one_by_one = [qp.prepare(path, encoding="jpeg").data_uri for path in paths]
    is_right = prepare(2) == one_by_one
    yield Comparison(
        group="prepare-many",
        subject=f"{len(paths)} pictures as JPEG, 2 workers",
        unit="images",
        ours=Way("ours", lambda: prepare(2), len(paths)),
        peers=(Way("1 worker", lambda: prepare(1), len(paths), target),),
        problem="" if is_right else "results differ from those of prepare",
        megapixels=sum(picture.megapixels for picture in pictures) / len(paths),
    )
