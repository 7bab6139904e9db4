"""
What the open model's own processor makes of what we send.

It is transformers' Qwen2VLImageProcessorPil (extra ``test-hf``), which the open
Qwen2-VL, Qwen2.5-VL and, with patches of 16, Qwen3-VL are run with; it needs no torch.
"""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
from PIL import Image

import qwenvl_prep as qp

image_processing = pytest.importorskip(
    "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl"
)

MODELS = {"qwen-vl-max": 14, "qwen3-vl-plus": 16}

# Height and width: above each cap, on the grid, beside it, small, long, and wide.
SIZES = [
    (1700, 2000),
    (1100, 1300),
    (504, 504),
    (431, 646),
    (100, 75),
    (30, 720),
    (1500, 90),
]


@pytest.fixture(scope="module", params=MODELS)
def model(request) -> qp.ModelProfile:
    return qp.get_model(request.param)


@pytest.fixture(scope="module")
def processor(model):
    patch = MODELS[model.name]
    assert model.factor == 2 * patch
    return image_processing.Qwen2VLImageProcessorPil(
        min_pixels=model.min_pixels,
        max_pixels=model.max_pixels,
        patch_size=patch,
        merge_size=2,
    )


@pytest.fixture(scope="module")
def seen(processor):
    """Give a function that says what the model sees of an RGB array."""

    def see(rgb):
        # As an image, because the processor guesses which side of an array is colour.
        batch = processor(images=[Image.fromarray(rgb)], return_tensors="np")
        return batch["image_grid_thw"], batch["pixel_values"]

    return see


@functools.cache
def picture_of(height: int, width: int):
    rng = np.random.default_rng(height * width)
    coarse = rng.integers(0, 256, (17, 23, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noise = rng.integers(-12, 13, (height, width, 3))
    return np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)


def agree(seen, sent_pixels, right, tokens: int, model) -> None:
    grid, values = seen(sent_pixels)
    right_grid, right_values = seen(right)
    assert np.array_equal(grid, right_grid)
    assert np.array_equal(values, right_values)
    assert grid[0].prod() // 4 + model.marker_tokens == tokens


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_model_sees_the_same(size, model, seen, sent, saved):
    """Grid and every value are those of the original, and tokens those predicted."""
    picture = picture_of(*size)
    data = saved(picture, "TIFF")
    image = sent(data, model=model)
    agree(seen, image.pixels, picture, image.prepared.tokens, model)
    assert qp.count_tokens(data, model=model) == image.prepared.tokens


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_model_sees_it_upright(orientation, model, seen, sent, saved, stated):
    """A turned photo is seen as if it had been stored upright."""
    picture = picture_of(431, 646)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = sent(saved(picture, "TIFF", exif=exif), model=model)
    upright = (431, 646) if orientation < 5 else (646, 431)
    right = stated(picture, upright, orientation=orientation)
    agree(seen, image.pixels, right, image.prepared.tokens, model)


@pytest.mark.parametrize("size", [(431, 646), (1100, 1300)], ids=str)
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_the_model_sees_it_flattened(
    file_format, size, model, seen, sent, saved, stated
):
    """A transparent picture is seen on white, not on what lay under its alpha."""
    picture = picture_of(*size)
    alpha = np.linspace(0, 255, size[1]).astype(np.uint8)
    alpha = np.ascontiguousarray(np.broadcast_to(alpha, size))
    exact = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    data = saved(np.dstack([picture, alpha]), file_format, **exact)
    image = sent(data, model=model)
    right = stated(picture, size, alpha=alpha)
    agree(seen, image.pixels, right, image.prepared.tokens, model)


@pytest.mark.parametrize("kind", ["L", "P", "1", "CMYK", "16-bit"])
def test_the_model_sees_the_same_colours(kind, model, seen, sent, saved, tiff_file):
    """Grey, palette, two colours, ink and 16 bits are seen as their RGB."""
    picture = picture_of(431, 646)
    if kind == "16-bit":
        data, right = tiff_file(picture.astype(np.uint16) << 8, photometric=2), picture
    else:
        image = Image.fromarray(picture)
        image = image.quantize(32) if kind == "P" else image.convert(kind)
        data, right = saved(image, "TIFF"), np.asarray(image.convert("RGB"))
    image = sent(data, model=model)
    agree(seen, image.pixels, right, image.prepared.tokens, model)


def test_the_model_sees_the_photo_of_a_phone(model, seen, sent, saved, stated):
    """A JPEG on its side, above the cap: what is seen is the decoded photo, turned."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(picture_of(1100, 1300), "JPEG", quality=90, exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        decoded = np.asarray(opened)
    image = sent(data, model=model)
    right = stated(decoded, (1300, 1100), orientation=6)
    agree(seen, image.pixels, right, image.prepared.tokens, model)


def test_the_whole_line_as_callers_use_it(processor, model, saved):
    """Opened files go in as they are sent, without a hand of ours in between."""
    data = saved(picture_of(1100, 1300), "PNG")
    prepared = qp.prepare(data, model=model, encoding="png")
    with (
        Image.open(io.BytesIO(data)) as original,
        Image.open(io.BytesIO(prepared.data)) as ours,
    ):
        first = processor(images=[original], return_tensors="np")
        second = processor(images=[ours], return_tensors="np")
    assert np.array_equal(first["image_grid_thw"], second["image_grid_thw"])
    assert np.array_equal(first["pixel_values"], second["pixel_values"])
