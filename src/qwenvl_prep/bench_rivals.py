"""
The real peers: fast libraries for the same work, each used as its own manual says.

fast_image_resize (by ``cykooz.resizer``), libvips (by ``pyvips``), libjpeg-turbo (by
``simplejpeg``) and Pillow without a needless copy.  The first and the third come with
the extra ``bench``; where one is not installed, its row is left out and that is told.
"""

from __future__ import annotations

import base64
import importlib
import importlib.metadata
import importlib.util
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pyvips
from PIL import Image

from qwenvl_prep.decode import empty_vips_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "FAST_IMAGE_RESIZE",
    "IMAGESIZE",
    "LIBJPEG_TURBO",
    "FastImageResize",
    "data_uri_by_pillow",
    "data_uri_by_vips",
    "libjpeg_turbo",
    "missing_rivals",
    "rival_versions",
    "shrunk_by_pillow",
    "shrunk_by_vips",
    "vips_on_one_thread",
    "vips_resize",
]

FAST_IMAGE_RESIZE, LIBJPEG_TURBO = "fast_image_resize", "libjpeg-turbo"
IMAGESIZE = "imagesize"

# By the peer's name: the module, and the package that brings it.
_OPTIONAL = {
    FAST_IMAGE_RESIZE: ("cykooz_resizer", "cykooz.resizer"),
    LIBJPEG_TURBO: ("simplejpeg", "simplejpeg"),
    IMAGESIZE: ("imagesize", "imagesize"),
}


def missing_rivals() -> dict[str, str]:
    """Give the peers that are not installed, each with the package that brings it."""
    return {
        name: package
        for name, (module, package) in _OPTIONAL.items()
        if importlib.util.find_spec(module) is None
    }


def rival_versions() -> dict[str, str]:
    """Give the packages of the peers that are installed, each with its version."""
    missing = missing_rivals()
    return {
        package: importlib.metadata.version(package)
        for name, (_, package) in _OPTIONAL.items()
        if name not in missing
    }


def _module(name: str) -> Any:
    return importlib.import_module(_OPTIONAL[name][0])


# ---------------------------------------------------------------- pixels alone


class FastImageResize:
    """
    Catmull-Rom convolution by fast_image_resize, on its best CPU extension.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (h, w, 3)
        The picture, which is handed over once.
    height, width : int
        Size wanted, in pixels.
    """

    def __init__(self, pixels: NDArray[np.uint8], height: int, width: int) -> None:
        self._library = library = _module(FAST_IMAGE_RESIZE)
        self._shape = (height, width, 3)
        size = (pixels.shape[1], pixels.shape[0])
        # RGB as it lies in memory: with a fourth byte it is slower.
        self._source = library.ImageData(
            *size, library.PixelType.U8x3, pixels.tobytes()
        )
        # Kept, as its manual does: it holds the memory between the passes.
        self._resizer = library.Resizer()
        convolution = library.ResizeAlg.convolution(library.FilterType.catmull_rom)
        # Without a pool of threads it works on the caller's.
        self._options = library.ResizeOptions(resize_alg=convolution)

    @property
    def extension(self) -> str:
        """The CPU extension that it chose for itself."""
        return str(self._resizer.cpu_extensions.name)

    def run(self) -> Any:
        """Resize once, into a new picture of its own kind."""
        height, width, _ = self._shape
        target = self._library.ImageData(width, height, self._library.PixelType.U8x3)
        self._resizer.resize(self._source, target, self._options)
        return target

    def answer(self) -> NDArray[np.uint8]:
        """Give the result as an array."""
        return np.frombuffer(self.run().get_buffer(), np.uint8).reshape(self._shape)


def vips_resize(
    pixels: NDArray[np.uint8], height: int, width: int
) -> Callable[[], NDArray[np.uint8]]:
    """
    Make ready a cubic resize by libvips, from memory to memory.

    Returns
    -------
    callable
        Gives an array of shape (height, width, 3); each call computes it anew.
    """
    picture = pyvips.Image.new_from_array(pixels)
    across, down = width / picture.width, height / picture.height

    def run() -> NDArray[np.uint8]:
        resized = picture.resize(across, vscale=down, kernel="cubic")
        # Until somebody wants its pixels, libvips only notes what is to be done.
        return _array(resized)

    return run


def _array(picture: pyvips.Image) -> NDArray[np.uint8]:
    flat = np.frombuffer(picture.write_to_memory(), np.uint8)
    return flat.reshape(picture.height, picture.width, picture.bands)


# ---------------------------------------------------------------- file to data URI


def shrunk_by_pillow(path: Path, height: int, width: int) -> Image.Image:
    """Open and resize by Pillow, for an upright RGB file: nothing else is done."""
    with Image.open(path) as picture:
        return picture.resize((width, height), Image.Resampling.BICUBIC)


def data_uri_by_pillow(path: Path, height: int, width: int) -> str:
    """Open, resize and write as JPEG 90 by Pillow."""
    file = io.BytesIO()
    picture = shrunk_by_pillow(path, height, width)
    picture.save(file, "JPEG", quality=90, subsampling="4:2:0")
    return _data_uri(file.getvalue())


def shrunk_by_vips(path: Path, height: int, width: int) -> NDArray[np.uint8]:
    """Give the pixels of libvips' thumbnail."""
    return _array(_thumbnail(path, height, width))


def data_uri_by_vips(path: Path, height: int, width: int) -> str:
    """Open, resize and write as JPEG 90 by libvips."""
    picture = _thumbnail(path, height, width)
    # From quality 90 on it would keep the full colour, and take longer.
    return _data_uri(picture.jpegsave_buffer(Q=90, subsample_mode="on", keep="none"))


def _thumbnail(path: Path, height: int, width: int) -> pyvips.Image:
    return pyvips.Image.thumbnail(str(path), width, height=height, size="force")


def _data_uri(data: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"


def libjpeg_turbo(
    data: bytes, small: NDArray[np.uint8], *, least: tuple[int, int] = (0, 0)
) -> Callable[[], tuple[NDArray[np.uint8], bytes]]:
    """
    Make ready what cannot be left out: decode the file, encode the ready result.

    Parameters
    ----------
    data : bytes
        A JPEG.
    small : ndarray of uint8, shape (h, w, 3)
        What it is to become.
    least : (int, int)
        Height and width below which it is not decoded; (0, 0) for its full size.

    Returns
    -------
    callable
        Gives the pixels of *data*, and *small* as JPEG 90.
    """
    library = _module(LIBJPEG_TURBO)

    def run() -> tuple[NDArray[np.uint8], bytes]:
        pixels = library.decode_jpeg(data, min_height=least[0], min_width=least[1])
        return pixels, library.encode_jpeg(small, quality=90, colorsubsampling="420")

    return run


# ---------------------------------------------------------------- libvips, held still


@contextmanager
def vips_on_one_thread() -> Iterator[None]:
    """
    Keep libvips to one thread, with nothing answered from its cache.

    Both belong to the process, so both hold for our own way too, and are put back.
    """
    threads, cached = pyvips.concurrency_get(), pyvips.cache_get_max()
    pyvips.concurrency_set(1)
    empty_vips_cache()
    try:
        yield
    finally:
        pyvips.concurrency_set(threads)
        pyvips.cache_set_max(cached)
