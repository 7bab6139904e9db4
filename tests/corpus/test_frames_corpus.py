"""Every frame of real and broken files, as Pillow finds it after its own seek."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageOps

from qwenvl_prep.decode import decode
from qwenvl_prep.errors import DamagedImageError, FrameError, QwenVLPrepError
from qwenvl_prep.options import PlanOptions
from qwenvl_prep.probe import ImageInfo, probe_file

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(
    os.environ.get("QWENVL_PREP_CORPORA")
    or Path(__file__).resolve().parents[3] / "shared" / "corpora" / "public"
)

if not ROOT.is_dir():
    pytest.skip(
        f"no corpus in {ROOT}; set QWENVL_PREP_CORPORA to a folder of pictures",
        allow_module_level=True,
    )

ICONS = {"ICO", "ICNS"}
# A frame far back takes the time of all before it.
MAX_FRAMES = 25


def _counted(path: Path) -> ImageInfo | None:
    try:
        return probe_file(path.read_bytes())
    except QwenVLPrepError:
        return None


FOUND = {
    path: info
    for path in sorted(ROOT.rglob("*"))
    if path.is_file() and (info := _counted(path)) and info.n_frames > 1
}
FILES = [path for path, info in FOUND.items() if info.format not in ICONS]
ICON_FILES = [path for path, info in FOUND.items() if info.format == "ICO"]


@pytest.fixture(scope="module", autouse=True)
def heif_opener():
    """Let Pillow read HEIC while these tests run, where pillow_heif is installed."""
    try:
        import pillow_heif
    except ImportError:
        yield
        return
    Image.preinit()
    pillow_heif.register_heif_opener()
    yield
    Image.ID.remove("HEIF")
    Image.OPEN.pop("HEIF")


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def flattened(image: Image.Image) -> np.ndarray:
    """State the upright pixels on white; 16 bits lose their lower eight."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", rgba.size, "white")
        image.paste(rgba, mask=rgba.getchannel("A"))
    return np.asarray(image.convert("RGB"))


def seen_by_pillow(path: Path, n_frames: int) -> Iterator[tuple[int, np.ndarray]]:
    """Give each frame that Pillow reads, each from the file opened anew."""
    for frame in range(min(n_frames, MAX_FRAMES)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with Image.open(path) as image:
                    image.seek(frame)
                    image.load()
                    yield frame, flattened(image)
            except Exception:  # noqa: BLE001 - Pillow raises a good dozen kinds here
                continue


@pytest.mark.parametrize("path", FILES, ids=_id)
def test_each_frame_is_pillows(path):
    """Size and pixels of every frame that Pillow reads are those after its seek."""
    data = path.read_bytes()
    for frame, pixels in seen_by_pillow(path, FOUND[path].n_frames):
        info = probe_file(data, frame=frame)
        assert info.frame == frame
        assert (info.upright_height, info.upright_width) == pixels.shape[:2], frame
        assert info.n_frames == FOUND[path].n_frames
        try:
            given = decode(data, info, options=PlanOptions(color="keep")).rgb
        except DamagedImageError:
            # libheif leaves out the tiles that a file which was cut off lacks.
            assert (path.parent.name, info.format) == ("broken", "HEIF")
            continue
        np.testing.assert_array_equal(given, pixels, str(frame))


@pytest.mark.parametrize("path", ICON_FILES, ids=_id)
def test_each_picture_of_an_icon_is_pillows(path):
    """The pictures that an icon's numbers give are, together, those that Pillow has."""
    data = path.read_bytes()
    ours: Counter[bytes] = Counter()
    for frame in range(FOUND[path].n_frames):
        rgb = decode(data, probe_file(data, frame=frame)).rgb
        ours[rgb.tobytes()] += 1
    with Image.open(path) as image:
        each = (image.ico.frame(number) for number in range(len(image.ico.entry)))
        assert ours == Counter(flattened(picture).tobytes() for picture in each)


@pytest.mark.parametrize("path", list(FOUND), ids=_id)
def test_one_too_many_is_refused(path):
    """The number behind the last frame's is refused, by a count that is the file's."""
    info = FOUND[path]
    with pytest.raises(
        FrameError, match=f"from 0 to {info.n_frames - 1} but"
    ) as caught:
        probe_file(path.read_bytes(), frame=info.n_frames)
    assert (caught.value.frame, caught.value.n_frames) == (info.n_frames,) * 2


def test_every_frame_is_an_answer_or_our_error():
    """No number of a frame, in any file however broken, brings another exception."""
    for path in sorted(ROOT.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        for frame in (0, 1, 2, 7, 10**9):
            try:
                info = probe_file(data, frame=frame)
            except QwenVLPrepError:
                continue
            assert info.frame == frame < info.n_frames, _id(path)
