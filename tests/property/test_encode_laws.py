"""Laws of fitting a limit: kept in 8 encodings, or refused where nothing fits."""

from __future__ import annotations

import dataclasses
import functools
import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from qwenvl_prep.decode import Pixels
from qwenvl_prep.encode import encode
from qwenvl_prep.errors import EncodedSizeError
from qwenvl_prep.plan import plan
from qwenvl_prep.resize import resize
from qwenvl_prep.within import encode_within

LOSSLESS = ("png", "webp-lossless")
KINDS = ("noise", "drawn", "photo", "grey", "flat")
# One of each factor: 28 and 32.
MODELS = ("qwen-vl-max", "qwen3-vl-plus")


def picture(kind: str, height: int, width: int, seed: int) -> np.ndarray:
    """Give a picture of a kind: grain, a soft photo, plain areas, one, or grey."""
    random = np.random.default_rng(seed)
    if kind == "flat":
        return np.full((height, width, 3), random.integers(0, 256, 3), np.uint8)
    if kind == "noise":
        return random.integers(0, 256, (height, width, 3), np.uint8)
    if kind == "drawn":
        areas = random.integers(0, 4, (height // 9 + 1, width // 13 + 1))
        palette = random.integers(0, 256, (4, 3), np.uint8)
        whole = palette[areas].repeat(9, axis=0).repeat(13, axis=1)
        return np.ascontiguousarray(whole[:height, :width])
    y, x = np.mgrid[:height, :width]
    soft = [128 + 90 * np.sin(a * x + b * y) for a, b in random.uniform(0, 0.2, (3, 2))]
    grain = random.normal(0, 4, (height, width, 1))
    photo = (np.stack(soft, axis=-1) + grain).clip(0, 255).astype(np.uint8)
    return photo if kind == "photo" else np.ascontiguousarray(photo[..., 0])


def planned(data: np.ndarray, **options):
    """Give a plan for pixels at their own size."""
    made = plan(np.broadcast_to(np.uint8(0), (*data.shape[:2], 3)), **options)
    return dataclasses.replace(made, height=data.shape[0], width=data.shape[1])


@settings(max_examples=300)
@given(
    kind=st.sampled_from(KINDS),
    size=st.tuples(st.integers(20, 330), st.integers(20, 330)),
    seed=st.integers(0, 999),
    encoding=st.sampled_from(["auto", "jpeg", "webp", *LOSSLESS]),
    quality=st.integers(1, 95),
    # Of the length without a limit, in the steps of a logarithm.
    share=st.one_of(st.floats(-5, 0.1).map(np.exp), st.floats(-1.5, 0).map(np.exp)),
    # Or what a lower quality takes, to the byte.
    lower=st.none() | st.integers(30, 95),
    less=st.integers(0, 4),
)
@example("noise", (300, 300), 0, "auto", 95, 1.0, None, 0)
@example("drawn", (330, 330), 0, "auto", 90, 0.9, None, 0)
@example("photo", (20, 330), 0, "jpeg", 1, 0.5, None, 0)
def test_limit_is_kept_or_refused(
    kind, size, seed, encoding, quality, share, lower, less
):
    """Kept or refused in 8 encodings; what is handed out is what was encoded."""
    data = picture(kind, *size, seed)
    free = encode(Pixels(data), planned(data, encoding=encoding, quality=quality))
    limit = max(int(free.data_uri_length * share), 1)
    if lower is not None and lower < quality:
        nearby = encode(Pixels(data), planned(data, encoding=encoding, quality=lower))
        limit = nearby.data_uri_length - less
    made = planned(data, encoding=encoding, quality=quality, max_bytes=limit)
    rendered: list[tuple[int, int]] = []
    saved: list[tuple[int, int]] = []

    def render(height, width):
        rendered.append((height, width))
        is_own = (height, width) == data.shape[:2]
        return Pixels(data if is_own else resize(data, height, width))

    real = Image.Image.save

    def save(image, *args, **kwargs):
        # Rows that are tried first are no encoding of the picture.
        if image.size == rendered[-1][::-1]:
            saved.append(image.size)
        return real(image, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image.Image, "save", save)
        try:
            encoded, pixels = encode_within(render, made)
        except EncodedSizeError as exc:
            encoded, refusal = None, exc
    assert 1 <= len(saved) <= 8
    assert rendered[0] == data.shape[:2]
    assert len(set(rendered)) == len(rendered)
    for height, width in rendered[1:]:
        assert height % made.model.factor == width % made.model.factor == 0
        assert height * width >= made.model.min_pixels
        assert height <= data.shape[0]
        assert width <= data.shape[1]
    if encoded is None:
        assert limit < free.data_uri_length
        assert refusal.limit == limit < refusal.reached
        return
    assert encoded.data_uri_length <= limit
    if free.data_uri_length <= limit:
        assert encoded == free
        assert rendered == [data.shape[:2]]
    image = Image.open(io.BytesIO(encoded.data))
    assert Image.MIME[image.format] == encoded.media_type
    assert (pixels.height, pixels.width) == image.size[::-1]
    assert image.size[::-1] in rendered
    if encoded.label in ("PNG", "WebP lossless"):
        mode = "L" if pixels.is_grey else "RGB"
        assert np.array_equal(np.asarray(image.convert(mode)), pixels.data)
    else:
        assert int(encoded.label.split()[1]) <= quality


def renderer(data: np.ndarray):
    """Give what makes smaller pixels of a picture, each size once for all tries."""

    @functools.cache
    def render(height, width):
        is_own = (height, width) == data.shape[:2]
        return Pixels(data if is_own else resize(data, height, width))

    return render


def legal_sizes(height: int, width: int, model) -> list[tuple[int, int]]:
    """List what the search may shrink to, keeping the shape as well as the grid can."""
    factor = model.factor
    scales = [k * factor / max(height, width) for k in range(1, 100)]
    sizes = [
        tuple(max(round(side * scale / factor), 1) * factor for side in (height, width))
        for scale in scales
    ]
    return [
        size
        for size in sizes
        if size[0] <= height
        and size[1] <= width
        and size != (height, width)
        and size[0] * size[1] >= model.min_pixels
    ]


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    size=st.tuples(st.integers(50, 700), st.integers(50, 700)),
    seed=st.integers(0, 999),
    encoding=st.sampled_from(["auto", "jpeg", "webp", *LOSSLESS]),
    model=st.sampled_from(MODELS),
    quality=st.integers(1, 95),
    share=st.floats(0, 1),
)
@example("flat", (700, 896), 0, "webp", MODELS[0], 90, 0.9)
@example("noise", (560, 560), 0, "jpeg", MODELS[0], 90, 0.05)
@example("photo", (700, 700), 0, "png", MODELS[1], 90, 0.0)
@example("drawn", (700, 500), 0, "png", MODELS[1], 90, 0.0)
def test_what_fits_is_never_refused(kind, size, seed, encoding, model, quality, share):
    """Neither the own size, nor the smallest at the least quality, fits in vain."""
    data = picture(kind, *size, seed)
    render = renderer(data)

    def planned_for(encoding, **options):
        return planned(data, model=model, encoding=encoding, **options)

    own = encode(Pixels(data), planned_for(encoding, quality=quality))
    lossy = "jpeg" if encoding == "auto" else encoding
    lowest = planned_for(lossy, quality=min(quality, 30))
    possible = [encode(Pixels(data), lowest).data_uri_length]
    sizes = legal_sizes(*data.shape[:2], lowest.model)
    if sizes:
        possible.append(encode(render(*sizes[0]), lowest).data_uri_length)
    least, most = min(possible), own.data_uri_length
    limit = int(least * (most / least) ** share) if most > least else least
    made = planned_for(encoding, quality=quality, max_bytes=max(limit, least))
    encoded, _ = encode_within(render, made)
    assert encoded.data_uri_length <= made.max_data_uri_bytes


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    size=st.tuples(st.integers(50, 500), st.integers(50, 500)),
    seed=st.integers(0, 999),
    encoding=st.sampled_from(["auto", "jpeg", "webp", *LOSSLESS]),
    model=st.sampled_from(MODELS),
    shares=st.lists(st.floats(0.9, 1.3) | st.floats(0.8, 8), min_size=2, max_size=5),
)
def test_larger_limit_is_not_refused(kind, size, seed, encoding, model, shares):
    """Where a limit could be kept, every larger one can be kept too."""
    data = picture(kind, *size, seed)
    render = renderer(data)
    lossy = "jpeg" if encoding == "auto" else encoding
    lowest = planned(data, model=model, encoding=lossy, quality=30)
    sizes = legal_sizes(*data.shape[:2], lowest.model) or [data.shape[:2]]
    least = encode(render(*sizes[0]), lowest).data_uri_length
    kept = []
    for limit in sorted(int(least * share) for share in shares):
        made = planned(data, model=model, encoding=encoding, max_bytes=limit)
        try:
            encode_within(render, made)
        except EncodedSizeError:
            assert not kept, f"{limit} is refused, {kept[0]} is not"
        else:
            kept.append(limit)
