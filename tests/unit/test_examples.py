"""The committed pictures: what the demo shows is what Pillow would have made."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from qwenvl_prep import prepare, resize

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

# Name, upright size, size sent, billed tokens, media type sent, kept.
TABLE = [
    ("chart.png", (790, 1189), (790, 1189), 1178, "image/png", True),
    ("earth-at-night.jpg", (2832, 4256), (812, 1204), 1249, "image/jpeg", False),
    ("page-of-text.tif", (800, 1024), (800, 1024), 1075, "image/tiff", True),
    ("screenshot.png", (1079, 1919), (728, 1316), 1224, "image/jpeg", False),
    ("waterfall-on-its-side.jpg", (1200, 1800), (812, 1204), 1249, "image/jpeg", False),
]


def upright_on_white(path: Path) -> Image.Image:
    """Say in Pillow's words what a person sees."""
    with Image.open(path) as opened:
        image = ImageOps.exif_transpose(opened)
        if not image.has_transparency_data:
            return image.convert("RGB")
        rgba = image.convert("RGBA")
        ground = Image.new("RGB", rgba.size, "white")
        ground.paste(rgba, mask=rgba.getchannel("A"))
        return ground


@pytest.mark.parametrize(
    ("name", "upright", "sent", "tokens", "media_type", "is_kept"), TABLE
)
def test_example_is_prepared_as_shown(name, upright, sent, tokens, media_type, is_kept):
    """Size, tokens, type and fate of each example are those of the README."""
    image = prepare(EXAMPLES / name)
    info = image.plan.info
    assert (info.upright_height, info.upright_width) == upright
    assert (image.height, image.width) == sent
    assert image.tokens == tokens
    assert image.media_type == media_type
    assert image.plan.is_kept is is_kept
    assert (image.data == (EXAMPLES / name).read_bytes()) is is_kept


@pytest.mark.parametrize("name", [row[0] for row in TABLE])
def test_resized_example_has_pillows_bytes(name):
    """Both the resizer and the whole line give Pillow's bicubic pixels exactly."""
    original = upright_on_white(EXAMPLES / name)
    small = prepare(EXAMPLES / name, max_tokens=400, encoding="png")
    expected = np.asarray(
        original.resize((small.width, small.height), Image.Resampling.BICUBIC)
    )
    sent = np.asarray(Image.open(io.BytesIO(small.data)).convert("RGB"))
    assert np.array_equal(sent, expected)
    resized = resize(np.asarray(original), small.height, small.width)
    assert np.array_equal(resized, expected)


def test_examples_have_their_licences():
    """Each picture has its origin and licence in the table beside it."""
    text = (EXAMPLES / "LICENCES.md").read_text("utf-8")
    pictures = {path.name for path in EXAMPLES.iterdir()} - {"LICENCES.md"}
    assert pictures == {row[0] for row in TABLE}
    assert all(f"`{name}`" in text for name in pictures)


def test_demo_writes_a_request(tmp_path):
    """The demo's command writes a finished body with all five pictures."""
    written = tmp_path / "request.json"
    command = ("request", str(EXAMPLES), "-t", "What?", "-o", str(written))
    done = subprocess.run(
        [sys.executable, "-m", "qwenvl_prep", *command],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert "5 images with 5,975 tokens" in done.stderr
    assert "of 30,720" in done.stderr
    content = json.loads(written.read_text("utf-8"))["messages"][0]["content"]
    labels = [part["image_url"]["url"][:15] for part in content[:-1]]
    assert labels == [
        "data:image/png;",
        "data:image/jpeg",
        "data:image/tiff",
        "data:image/jpeg",
        "data:image/jpeg",
    ]
    assert content[-1] == {"type": "text", "text": "What?"}
