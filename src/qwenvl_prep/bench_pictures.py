"""
Which pictures the benchmark measures: made here, the same on every run.

Pure noise would be encoded ten times as large as a photo, and a flat colour hundreds
of times smaller; either would measure something that nobody sends.  So a photo is
light that falls off slowly, objects with edges, and a sensor's grain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["make_pictures", "photo_pixels", "screen_pixels"]

_SEED = 20250213

# Standard deviation of the grain, in 8-bit steps: a phone in a lit room.
_GRAIN = 3.0

# What a phone held upright writes into EXIF: turn by 90 degrees to see it upright.
_ORIENTATION_TAG, _TURNED = 0x0112, 6


def make_pictures(folder: Path, *, quick: bool = False) -> Iterator[Path]:
    """
    Write the benchmark's pictures, one of each kind that people send.

    Parameters
    ----------
    folder : Path
        Where to write; it has to exist.
    quick : bool
        Whether to make them small; two are still large enough to be shrunk.

    Yields
    ------
    Path
        Each file, as soon as it is written.
    """
    rng = np.random.default_rng(_SEED)

    def photo(full: tuple[int, int], small: tuple[int, int]) -> Image.Image:
        return Image.fromarray(photo_pixels(*(small if quick else full), rng=rng))

    path = folder / "photo-large.jpg"
    photo((3024, 4032), (900, 1200)).save(path, quality=92)
    yield path

    # As the sensor lies in the phone: on its side, with a tag that says so.
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = _TURNED
    path = folder / "photo-turned.jpg"
    photo((1536, 2048), (240, 320)).save(path, quality=92, exif=exif)
    yield path

    path = folder / "photo-small.jpg"
    photo((480, 640), (240, 320)).save(path, quality=85)
    yield path

    path = folder / "photo.webp"
    photo((1536, 2048), (900, 1200)).save(path, quality=85, method=2)
    yield path

    screen = Image.fromarray(
        screen_pixels(*((240, 320) if quick else (1080, 1920)), rng=rng)
    )
    path = folder / "screen.png"
    screen.save(path)
    yield path

    cut_out = photo((1200, 1200), (200, 200))
    cut_out.putalpha(Image.radial_gradient("L").resize(cut_out.size))
    path = folder / "cut-out.png"
    cut_out.save(path)
    yield path

    path = folder / "scan.tiff"
    photo((1200, 1600), (240, 320)).save(path, compression="tiff_lzw")
    yield path

    path = folder / "photo.bmp"
    photo((1200, 1600), (240, 320)).save(path)
    yield path


def photo_pixels(
    height: int, width: int, *, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """
    Make something that compresses like a photo: about 1.7 bits a pixel at JPEG 92.

    Parameters
    ----------
    height, width : int
        Size in pixels.
    rng : numpy.random.Generator
        Where chance comes from.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB.
    """
    down = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None]
    right = np.linspace(0.0, 1.0, width, dtype=np.float32)[None, :]
    light = np.empty((height, width, 3), np.float32)
    for channel in range(3):
        a, b, c = rng.uniform(-1.0, 1.0, 3)
        light[:, :, channel] = 128 + 50 * (
            a * down + b * right + c * np.sin(9 * down + 7 * right)
        )
    for _ in range(60):
        _lay_object(light, rng)
    # Grain is the same in all three channels: what cameras leave is mostly luminance.
    light += _GRAIN * rng.standard_normal((height, width, 1), np.float32)
    return light.clip(0, 255).astype(np.uint8)


def _lay_object(light: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Put one textured rectangle on the picture, as a wall or a leaf would lie."""
    height, width = light.shape[:2]
    tall = max(2, int(height * rng.uniform(0.02, 0.25)))
    broad = max(2, int(width * rng.uniform(0.02, 0.25)))
    top = int(rng.integers(0, height - tall + 1))
    left = int(rng.integers(0, width - broad + 1))
    pitch = rng.uniform(0.05, 0.8, 2)
    texture = np.sin(pitch[0] * np.arange(tall, dtype=np.float32))[:, None] * np.sin(
        pitch[1] * np.arange(broad, dtype=np.float32)
    )
    colour = rng.uniform(30, 220, 3).astype(np.float32)
    shade = rng.uniform(4, 20) * texture[:, :, None] + colour
    patch = light[top : top + tall, left : left + broad]
    # Half of what was behind shines through, so edges are of every contrast.
    patch[:] = 0.5 * patch + 0.5 * shade


def screen_pixels(
    height: int, width: int, *, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """
    Make something that compresses like a screenshot: flat areas, text, one picture.

    Parameters, result and their meaning are those of :func:`photo_pixels`.
    """
    screen = np.full((height, width, 3), 250, np.uint8)
    screen[: height // 20] = (45, 55, 72)
    screen[:, : width // 6] = (226, 232, 240)
    glyphs = rng.random((64, 9, 6)) < 0.4
    left, right = width // 6 + 20, width - 20
    for top in range(height // 20 + 20, height - 20, 16):
        end = int(rng.integers(left + 60, right))
        for column in range(left, end - 6, 8):
            glyph = glyphs[rng.integers(0, len(glyphs))]
            screen[top : top + 9, column : column + 6][glyph] = (26, 32, 44)
    tall, broad = height // 4, width // 4
    screen[-tall - 20 : -20, -broad - 20 : -20] = photo_pixels(tall, broad, rng=rng)
    return screen
