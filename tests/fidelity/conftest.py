"""
What is right, said with NumPy and Pillow alone, and files to say it of.

Files whose kind Pillow does not write (16 bits, associated alpha, transparent
colours) are put together here byte by byte, so that their samples are known.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import qwenvl_prep as qp

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

WHITE = (255, 255, 255)

# How stored rows become upright ones (CIPA DC-008, tag 0x0112).  The standard says
# where the stored first row and first column belong: for 6, right and top.
TURNS: dict[int, Callable[[NDArray], NDArray]] = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: np.rot90(stored, 2),
    4: lambda stored: stored[::-1],
    5: lambda stored: np.rot90(stored, -1)[:, ::-1],
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 1)[:, ::-1],
    8: lambda stored: np.rot90(stored, 1),
}


@dataclass(frozen=True)
class Sent:
    """What was sent: its pixels as RGB, and the whole result."""

    pixels: NDArray[np.uint8]
    prepared: qp.PreparedImage

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.prepared.height, self.prepared.width

    @property
    def changes(self) -> tuple[str, ...]:
        """What was done, in words."""
        return self.prepared.changes


@pytest.fixture(scope="session")
def sent():
    """Give a function that prepares without loss and decodes what was sent."""

    def send(source, **options) -> Sent:
        prepared = qp.prepare(source, **{"encoding": "png", **options})
        with Image.open(io.BytesIO(prepared.data)) as image:
            assert image.format == "PNG"
            assert not image.has_transparency_data
            assert image.size == (prepared.width, prepared.height)
            pixels = np.asarray(image.convert("RGB"))
        return Sent(pixels, prepared)

    return send


@pytest.fixture(scope="session")
def stated():
    """Give the function that says what pixels are right."""

    def state(
        samples: NDArray[np.uint8],
        size: tuple[int, int],
        *,
        alpha: NDArray[np.uint8] | None = None,
        background: tuple[int, int, int] = WHITE,
        orientation: int = 1,
    ) -> NDArray[np.uint8]:
        """Lay 8-bit grey or RGB on the background, turn it and resize it."""
        image = Image.fromarray(samples).convert("RGB")
        if alpha is not None:
            image.putalpha(Image.fromarray(alpha))
            ground = Image.new("RGBA", image.size, (*background, 255))
            image = Image.alpha_composite(ground, image).convert("RGB")
        upright = np.ascontiguousarray(TURNS[orientation](np.asarray(image)))
        if upright.shape[:2] == size:
            return upright
        image = Image.fromarray(upright)
        return np.asarray(image.resize(size[::-1], Image.Resampling.BICUBIC))

    return state


@pytest.fixture(scope="session")
def turned():
    """Give the function that turns stored rows upright."""
    return lambda samples, orientation: TURNS[orientation](samples)


@pytest.fixture(scope="session", params=["resized", "not resized"])
def picture(request) -> NDArray[np.uint8]:
    """Give RGB that lies beside the model's grid, and RGB that lies on it."""
    height, width = {"resized": (118, 201), "not resized": (84, 112)}[request.param]
    coarse = np.random.default_rng(11).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


@pytest.fixture(scope="session")
def veil(picture) -> NDArray[np.uint8]:
    """Give an alpha of every value for the picture, with wholly clear rows."""
    height, width = picture.shape[:2]
    values = np.arange(height * width, dtype=np.uint32).reshape(height, width) * 7 % 256
    values[:5] = 0
    values[5:9] = 255
    return values.astype(np.uint8)


@pytest.fixture(scope="session")
def saved():
    """Give a function that writes samples by Pillow."""

    def save(samples, file_format: str, **options) -> bytes:
        image = samples
        if not isinstance(samples, Image.Image):
            image = Image.fromarray(samples)
        file = io.BytesIO()
        image.save(file, file_format, **options)
        return file.getvalue()

    return save


# ----------------------------------------------------------------------------- PNG


@pytest.fixture(scope="session")
def png_file():
    """Give a function that writes a PNG of any depth, with chunks of one's own."""

    def write(
        samples: NDArray,
        *,
        colour_type: int,
        depth: int = 8,
        chunks: tuple[tuple[bytes, bytes], ...] = (),
    ) -> bytes:
        height, width = samples.shape[:2]
        if depth < 8:
            bits = samples[:, :, None] >> np.arange(depth - 1, -1, -1) & 1
            packed = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
        else:
            packed = samples.astype(">u2" if depth == 16 else np.uint8)
        rows = b"".join(b"\0" + row.tobytes() for row in packed.reshape(height, -1))
        header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
        body = ((b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)))
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(data))
            + name
            + data
            + struct.pack(">I", zlib.crc32(name + data))
            for name, data in (*body, (b"IEND", b""))
        )

    return write


# ---------------------------------------------------------------------------- TIFF

_KINDS = {"B": 1, "H": 3, "I": 4, "b": 7}


@pytest.fixture(scope="session")
def tiff_file():
    """Give a function that writes an uncompressed TIFF with tags of one's own."""

    def write(
        samples: NDArray,
        *,
        photometric: int,
        order: str = "<",
        extra: tuple[tuple[int, str, tuple[int, ...] | bytes], ...] = (),
    ) -> bytes:
        height, width = samples.shape[:2]
        bands = samples.shape[2] if samples.ndim == 3 else 1
        pixels = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
        kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
        fields = [
            (256, "I", (width,)),
            (257, "I", (height,)),
            (258, "H", (samples.dtype.itemsize * 8,) * bands),
            (259, "H", (1,)),
            (262, "H", (photometric,)),
            (273, "I", (8,)),
            (277, "H", (bands,)),
            (278, "I", (height,)),
            (279, "I", (len(pixels),)),
            (284, "H", (1,)),
            (339, "H", (kind,) * bands),
            *extra,
        ]
        fields.sort()
        at = 8 + len(pixels) + len(pixels) % 2
        behind = at + 2 + 12 * len(fields) + 4
        table, values = b"", b""
        for tag, code, value in fields:
            if isinstance(value, bytes):
                data, count = value, len(value)
            else:
                data = struct.pack(f"{order}{len(value)}{code}", *value)
                count = len(value)
            entry = struct.pack(order + "HHI", tag, _KINDS[code], count)
            if len(data) <= 4:
                table += entry + data.ljust(4, b"\0")
            else:
                table += entry + struct.pack(order + "I", behind + len(values))
                values += data + b"\0" * (len(data) % 2)
        return (
            (b"II*\0" if order == "<" else b"MM\0*")
            + struct.pack(order + "I", at)
            + pixels
            + b"\0" * (len(pixels) % 2)
            + struct.pack(order + "H", len(fields))
            + table
            + bytes(4)
            + values
        )

    return write
