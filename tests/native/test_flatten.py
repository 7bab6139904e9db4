"""Transparent pixels on a plain background: Pillow's bytes, for every pair of bytes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from qwenvl_prep._native.flatten import flatten_rgba


def flatten(
    pixels: np.ndarray, background: tuple[int, int, int] = (255, 255, 255)
) -> np.ndarray:
    target = np.zeros((*pixels.shape[:-1], 3), np.uint8)
    flatten_rgba(pixels.reshape(-1), target.reshape(-1), *background)
    return target


def by_pillow(pixels: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """Paste the picture, its alpha as mask, on a plain one."""
    image = Image.frombytes("RGBA", pixels.shape[1::-1], pixels.tobytes())
    ground = Image.new("RGB", image.size, background)
    ground.paste(image, mask=image.getchannel("A"))
    return np.asarray(ground)


def every_pair() -> np.ndarray:
    """Give 256 × 256 pixels: every colour with every alpha, each channel its own."""
    colour, alpha = np.indices((256, 256), dtype=np.uint8)
    return np.stack([colour, 255 - colour, np.roll(colour, 77, 0), alpha], axis=2)


@pytest.mark.parametrize(
    "background",
    [*((level,) * 3 for level in (255, 0, 1, 127, 128, 254)), (255, 0, 128), (1, 2, 3)],
)
def test_every_colour_and_alpha_is_pillow_s(background):
    """Prove that all 65,536 pairs come out as Pillow's paste with a mask."""
    pixels = every_pair()
    given = flatten(pixels, background)
    assert np.array_equal(given, by_pillow(pixels, background))


def test_ends_of_alpha():
    """Prove that alpha 0 is the background and 255 the colour, to the byte."""
    pixels = every_pair()
    assert (flatten(pixels)[:, 0] == 255).all()
    assert np.array_equal(flatten(pixels)[:, 255], pixels[:, 255, :3])


def test_half_is_rounded_to_nearest():
    """Prove the rounding in numbers: 128 of 255 on white."""
    pixels = np.array([[[0, 100, 255, 128], [255, 0, 1, 127]]], np.uint8)
    # 0 + 255 × 127/255 = 127; (100 × 128 + 255 × 127) / 255 = 177.196...
    # (1 × 127 + 255 × 128) / 255 = 128.498
    assert flatten(pixels).tolist() == [[[127, 177, 255], [255, 128, 128]]]


def test_no_pixels_are_no_error():
    """Prove that empty buffers belong together."""
    flatten_rgba(b"", bytearray(), 255, 255, 255)


@pytest.mark.parametrize(
    ("source", "target"),
    [(4, 0), (4, 2), (4, 4), (0, 3), (3, 3), (5, 3), (7, 3), (8, 3), (8, 7), (4, 6)],
)
def test_lengths_that_do_not_belong_together_are_refused(source, target):
    """Prove that a byte too few or too many is refused and nothing is written."""
    canvas = bytearray(b"\xa5" * target)
    with pytest.raises(ValueError, match="Expected 4 bytes in and 3 out"):
        flatten_rgba(bytes(source), canvas, 255, 255, 255)
    assert bytes(canvas) == b"\xa5" * target


@pytest.mark.parametrize("background", [-1, 256, 2**40])
def test_background_that_is_no_byte_is_refused(background):
    """Prove that a background beyond a byte does not wrap around."""
    for channel in range(3):
        ground = [255, 255, 255]
        ground[channel] = background
        with pytest.raises((OverflowError, ValueError)):
            flatten_rgba(bytes(4), bytearray(3), *ground)


def test_buffers_of_another_kind_are_refused():
    """Prove that only contiguous bytes, and a writable target, are taken."""
    for source, target in [
        (bytes(4), bytes(3)),
        (np.zeros(8, np.uint8)[::2], bytearray(3)),
        (bytes(4), np.zeros(6, np.uint8)[::2]),
        (np.zeros(4, np.int8), bytearray(3)),
        (None, bytearray(3)),
        (bytes(4), None),
    ]:
        with pytest.raises((TypeError, ValueError, BufferError)):
            flatten_rgba(source, target, 255, 255, 255)


def test_input_is_not_written():
    """Prove that a read-only source is taken and stays as it was."""
    pixels = every_pair()
    before = pixels.tobytes()
    pixels.flags.writeable = False
    flatten(pixels)
    assert pixels.tobytes() == before
