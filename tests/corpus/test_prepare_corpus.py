"""Every file of a large corpus is prepared and legal, or refused in our words."""

from __future__ import annotations

import csv
import io
import os
import time
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from qwenvl_prep import PlanOptions, PreparedImage, prepare, probe, validate
from qwenvl_prep.decode import decode
from qwenvl_prep.errors import QwenVLPrepError

ROOT = Path(
    os.environ.get("QWENVL_PREP_CORPORA")
    or Path(__file__).resolve().parents[3] / "shared" / "corpora" / "public"
)

if not ROOT.is_dir():
    pytest.skip(
        f"no corpus in {ROOT}; set QWENVL_PREP_CORPORA to a folder of pictures",
        allow_module_level=True,
    )

FILES = sorted(
    path
    for path in ROOT.rglob("*")
    if path.is_file() and path.name not in ("MANIFEST.tsv", "SOURCES.md")
)

# Decoders warn about broken files in many words; the outcome is what counts here.
pytestmark = pytest.mark.filterwarnings("ignore")

# Above this, the independent decoding is left out: it is Pillow's time.
MAX_PIXELS = 30_000_000


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    path: Path
    prepared: PreparedImage | None
    error: BaseException | None
    seconds: float

    @property
    def name(self) -> str:
        """Path inside the corpus, as the manifest has it."""
        return str(self.path.relative_to(ROOT))


@cache
def outcomes() -> tuple[Outcome, ...]:
    """Prepare every file once, for all tests here."""
    found = []
    for path in FILES:
        start = time.perf_counter()
        prepared = error = None
        try:
            prepared = prepare(path)
        except Exception as exc:  # noqa: BLE001 - which kind it is, a test asks
            error = exc
        found.append(Outcome(path, prepared, error, time.perf_counter() - start))
    return tuple(found)


def test_every_file_ends_in_one_of_two_ways():
    """No file brings out an exception that is not ours, or takes ten seconds."""
    foreign = [
        (one.name, repr(one.error))
        for one in outcomes()
        if one.error is not None and not isinstance(one.error, QwenVLPrepError)
    ]
    assert foreign == []
    assert [one.name for one in outcomes() if one.seconds > 10] == []


def test_what_is_prepared_is_legal():
    """Whatever came through is legal for the same model, label and size included."""
    wrong = []
    for one in outcomes():
        if one.prepared is None:
            continue
        report = validate(one.prepared.data_uri)
        info = report.info
        is_right = (
            report.is_legal
            and info.media_type == one.prepared.media_type
            and (info.upright_height, info.upright_width)
            == (one.prepared.height, one.prepared.width)
            and info.orientation == 1
            and not info.has_alpha
        )
        if not is_right:
            wrong.append((one.name, report))
    assert wrong == []


def test_valid_files_are_accepted():
    """Of the files that two decoders accept, at least 99.5 % are accepted."""
    manifest = ROOT / "MANIFEST.tsv"
    if not manifest.is_file():
        pytest.skip(f"no {manifest.name} beside the files")
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    wanted = {row["file"] for row in rows if row["expect"] == "accept"}
    refused = [
        (one.name, str(one.error))
        for one in outcomes()
        if one.name in wanted and one.error is not None
    ]
    assert len(refused) <= 0.005 * len(wanted), refused


# Files whose pixels differ from Pillow's for a reason that is held to be right.
JUSTIFIED: dict[str, str] = {
    "broken/pillow__hopper_bad_exif.jpg": (
        "kept: bytes too many inside a scan are only seen by decoding it"
    ),
    "broken/jpeg-decoder__id_001792_src_000728_op_int32_pos_227_val_be__1000.jpg": (
        "kept: damage in the middle of a JPEG's scan is only seen by decoding it"
    ),
}


def stated_by_pillow(data: bytes) -> np.ndarray | None:
    """Give upright RGB on white in Pillow's own words; None where it refuses."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            image.load()
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I;16"):
                # Pillow has no words for this: convert("RGB") clips at 255.
                high = (np.asarray(image) >> 8).astype(np.uint8)
                return np.repeat(high[:, :, None], 3, axis=2)
            if image.mode in {"I", "F"}:
                return None
            if image.has_transparency_data:
                rgba = image.convert("RGBA")
                ground = Image.new("RGB", rgba.size, "white")
                ground.paste(rgba, mask=rgba.getchannel("A"))
                return np.asarray(ground)
            return np.asarray(image.convert("RGB"))
    except Exception:  # noqa: BLE001 - Pillow's refusals have many types
        return None


def test_pixels_equal_pillows():
    """Wherever both decode, each byte of the pixels is the one that Pillow gives."""
    different = []
    compared = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in outcomes():
            if one.prepared is None or one.prepared.plan.info.format == "HEIF":
                continue
            data = one.path.read_bytes()
            info = one.prepared.plan.info
            if info.height * info.width > MAX_PIXELS:
                continue
            expected = stated_by_pillow(data)
            if expected is None:
                continue
            try:
                pixels = decode(data, info, options=PlanOptions(color="keep")).rgb
            except QwenVLPrepError as exc:
                different.append((one.name, str(exc)))
                continue
            compared += 1
            if pixels.shape != expected.shape:
                different.append((one.name, f"{pixels.shape} {expected.shape}"))
            elif not np.array_equal(pixels, expected):
                most = int(np.abs(pixels.astype(int) - expected).max())
                share = float((pixels != expected).any(axis=2).mean())
                different.append((one.name, f"by {most}, {share:.1%} of pixels"))
    unexpected = [row for row in different if row[0] not in JUSTIFIED]
    assert unexpected == []
    assert compared > 0


def test_profiles_bring_the_colours_of_littlecms():
    """Wherever a profile is embedded, colours are those of ImageCms, or 2 beside."""
    compared = 0
    for one in outcomes():
        info = one.prepared.plan.info if one.prepared is not None else None
        if info is None or info.format == "HEIF" or not info.icc_profile:
            continue
        data = one.path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            image = ImageOps.exif_transpose(image)
            profile = ImageCms.ImageCmsProfile(io.BytesIO(info.icc_profile))
            if image.mode not in {"L", "RGB", "CMYK"} or image.has_transparency_data:
                continue
            srgb = ImageCms.createProfile("sRGB")
            try:
                expected = ImageCms.profileToProfile(
                    image, profile, srgb, outputMode="RGB"
                )
            except ImageCms.PyCMSError:  # of another colour space
                expected = image.convert("RGB")
        pixels = decode(data, info).rgb.astype(int)
        assert abs(pixels - np.asarray(expected)).max() <= 2, one.name
        compared += 1
    assert compared >= 10


def test_header_and_plan_agree_for_every_file():
    """What is planned from a path is planned from its bytes, and neither decodes."""
    for one in outcomes():
        if one.prepared is not None:
            assert probe(one.path) == probe(one.path.read_bytes())
