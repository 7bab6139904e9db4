"""Laws of fitting a limit: it is kept or refused, in 8 encodings, whatever it is."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from qwenvl_prep.decode import Pixels
from qwenvl_prep.encode import encode, encode_within
from qwenvl_prep.errors import EncodedSizeError
from qwenvl_prep.plan import plan
from qwenvl_prep.resize import resize

LOSSLESS = ("png", "webp-lossless")


def picture(kind: str, height: int, width: int, seed: int) -> np.ndarray:
    """Give a picture of a kind: grain, a soft photo, plain areas, or grey."""
    random = np.random.default_rng(seed)
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
    kind=st.sampled_from(["noise", "drawn", "photo", "grey"]),
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
