"""What each model accepts: every number of the table, and how names are looked up."""

from __future__ import annotations

import dataclasses
import datetime as dt
from decimal import Decimal

import pytest

import qwenvl_prep as qp
from qwenvl_prep.errors import (
    ModelFeatureError,
    ModelTableError,
    UnknownModelError,
)
from qwenvl_prep.profiles import DEFAULT_MODEL

SEED = [
    "qwen-vl-max",
    "qwen-vl-max-latest",
    "qwen-vl-max-0125",
    "qwen-vl-max-1230",
    "qwen-vl-max-1119",
    "qwen-vl-max-1030",
    "qwen-vl-max-0809",
    "qwen-vl-plus-latest",
    "qwen-vl-plus-0125",
    "qwen-vl-plus-0102",
    "qwen-vl-plus-0809",
    "qwen2-vl-72b-instruct",
    "qwen2-vl-7b-instruct",
    "qwen2-vl-2b-instruct",
]
SEED_FIRST = ["qwen-vl-max-0201", "qwen-vl-plus"]
LONG_INPUT = ["qwen-vl-max-0125", "qwen-vl-plus-0125"]
THIRD = ["qwen3-vl-plus", "qwen3-vl-flash"]

SEED_FORMATS = {
    "BMP",
    "DIB",
    "ICNS",
    "ICO",
    "JPEG",
    "JPEG2000",
    "PNG",
    "SGI",
    "TIFF",
    "WEBP",
}


@pytest.mark.parametrize("name", SEED + SEED_FIRST)
def test_numbers_of_every_seed_model(name):
    """Prove every number that the seed gives for its sixteen models."""
    model = qp.get_model(name)
    assert model.name == name
    assert model.factor == 28
    assert model.min_pixels == 3_136
    assert model.max_pixels == 1_003_520
    assert model.high_resolution_pixels == (None if name in SEED_FIRST else 12_845_056)
    assert model.recommended_pixels == (1_048_576 if name in SEED_FIRST else 12_000_000)
    assert model.marker_tokens == 2
    assert model.max_input_tokens == (129_024 if name in LONG_INPUT else 30_720)
    assert model.max_output_tokens == (8_192 if name in LONG_INPUT else 2_048)
    assert model.min_side == 11
    assert model.max_ratio == 200
    assert model.max_file_bytes == 10_485_760
    assert model.max_data_uri_bytes == 10_485_760
    assert set(model.formats) == SEED_FORMATS
    assert model.max_images is None
    frames = (None, None) if name == "qwen-vl-plus" else (4, 80)
    assert (model.min_frames, model.max_frames) == frames
    assert model.date.year == 2025
    assert model.confidence == "H"
    retired = {
        "qwen-vl-max": dt.date(2025, 8, 13),
        "qwen-vl-plus": dt.date(2025, 8, 15),
    }
    assert model.retired == retired.get(name)
    assert model.successor == ("qwen3-vl-plus" if model.retired else None)


@pytest.mark.parametrize("name", THIRD)
def test_numbers_of_the_third_generation(name):
    """Prove every number of the Qwen3-VL family."""
    model = qp.get_model(name)
    assert model.family == "qwen3-vl"
    assert model.factor == 32
    assert model.min_pixels == 65_536
    assert model.max_pixels == 2_621_440
    assert model.high_resolution_pixels == 16_777_216
    assert model.marker_tokens == 2
    assert model.max_input_tokens == 260_096
    assert model.max_output_tokens == 32_768
    assert model.min_side == 11
    assert model.max_ratio == 200
    assert model.max_file_bytes == 10_485_760
    assert model.max_data_uri_bytes == 10_485_760
    assert set(model.formats) == {"BMP", "JPEG", "PNG", "TIFF", "WEBP", "HEIF"}
    assert model.max_images == 256
    assert (model.min_frames, model.max_frames) == (4, 2000)
    assert model.confidence == "H"
    assert not model.retired


def test_caps_in_tokens():
    """Prove that the caps are 1280, 16384 and 2560 tokens, as the sources say them."""
    seed, third = qp.get_model("qwen-vl-max"), qp.get_model("qwen3-vl-plus")
    assert seed.cap_pixels() == 1280 * 28 * 28
    assert seed.cap_pixels(high_resolution=True) == 16384 * 28 * 28
    assert third.cap_pixels() == 2560 * 32 * 32
    assert third.cap_pixels(high_resolution=True) == 16384 * 32 * 32


def test_every_seed_name_is_listed_first():
    """Prove that list_models gives the seed's names, in order, without repeats."""
    names = [model.name for model in qp.list_models()]
    assert names[:16] == SEED + SEED_FIRST
    assert set(THIRD) <= set(names)
    assert len(set(names)) == len(names)
    assert names[0] == DEFAULT_MODEL


@pytest.mark.parametrize("model", qp.list_models(), ids=lambda model: model.name)
def test_every_row_is_dated_and_sound(model):
    """Prove that each row has source, date and confidence, and numbers in order."""
    assert len(model.source) > 10
    assert isinstance(model.date, dt.date)
    assert dt.date(2024, 1, 1) <= model.date <= dt.date(2027, 12, 31)
    assert model.confidence in {"H", "M", "L"}
    assert model.factor in {28, 32}
    assert 0 < model.min_pixels < model.max_pixels
    assert model.max_pixels % model.factor**2 == 0
    if model.high_resolution_pixels is not None:
        assert model.high_resolution_pixels > model.max_pixels
    assert model.max_output_tokens < model.max_input_tokens
    assert isinstance(model.formats, tuple)
    assert len(set(model.formats)) == len(model.formats)
    assert (model.min_frames is None) == (model.max_frames is None)
    if model.successor is not None:
        assert qp.get_model(model.successor).successor is None
    # A row and its name find each other.
    assert qp.get_model(model.name) is model


@pytest.mark.parametrize("name", ["qwen-vl-plus", "qwen-vl-max-0201"])
def test_high_resolution_is_refused_for_the_first_models(name):
    """Prove that the two models without high resolution refuse it, naming both."""
    model = qp.get_model(name)
    assert model.cap_pixels() == 1_003_520
    with pytest.raises(ModelFeatureError, match="Expected a model with") as caught:
        model.cap_pixels(high_resolution=True)
    assert caught.value.model == name
    assert caught.value.feature == "high_resolution"
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("qwen-vl-mx", "qwen-vl-max"),
        ("qwen-vl-pluss", "qwen-vl-plus"),
        ("qwen3-vl-flsh", "qwen3-vl-flash"),
    ],
)
def test_unknown_name_lists_the_nearest(name, first):
    """Prove that a slip in a name is refused with the nearest name first."""
    with pytest.raises(UnknownModelError, match="Expected the name of") as caught:
        qp.get_model(name)
    assert caught.value.name == name
    assert caught.value.nearest[0] == first
    assert 1 <= len(caught.value.nearest) <= 3
    assert f"did you mean {first}" in str(caught.value)
    assert isinstance(caught.value, LookupError)


@pytest.mark.parametrize("name", ["qwen2-vl-7b", "qwen2-vl-72b", "qwen2-vl-2b"])
def test_the_beginning_of_a_name_is_among_the_nearest(name):
    """Prove that an open model without its ending is offered with it."""
    with pytest.raises(UnknownModelError) as caught:
        qp.get_model(name)
    assert f"{name}-instruct" in caught.value.nearest


@pytest.mark.parametrize("name", ["", "%%%", "0"])
def test_a_name_like_no_other_points_to_the_list(name):
    """Prove that a name without neighbours is refused with the way to the list."""
    with pytest.raises(UnknownModelError, match="list_models") as caught:
        qp.get_model(name)
    assert caught.value.nearest == ()
    assert "replace" in str(caught.value)


@pytest.mark.parametrize("name", [None, 28, b"qwen-vl-max"])
def test_a_name_of_another_type_is_refused(name):
    """Prove that what is no name at all is refused, not silently defaulted."""
    with pytest.raises((UnknownModelError, TypeError), match="Expected"):
        qp.get_model(name)  # type: ignore[arg-type]


def test_names_are_exact():
    """Prove that capitals and spaces are not forgiven silently."""
    for name in ("Qwen-VL-Max", " qwen-vl-max", "qwen-vl-max "):
        with pytest.raises(UnknownModelError) as caught:
            qp.get_model(name)
        assert caught.value.name == name


def test_replace_makes_another_profile():
    """Prove that replace changes what it is told, keeps the rest, and the original."""
    model = qp.get_model("qwen-vl-max")
    own = model.replace(name="mine", max_pixels=784 * 100)
    assert (own.name, own.max_pixels, own.factor) == ("mine", 78_400, 28)
    assert model.max_pixels == 1_003_520
    assert own != model
    assert model.replace() == model
    assert qp.get_model(own) is own
    assert qp.count_tokens_many([1280], [1280], model=own).tolist() == [102]
    with pytest.raises(TypeError):
        model.replace(cap=5)


def test_profiles_are_frozen():
    """Prove that no field of a profile can be set, added or deleted."""
    model = qp.get_model("qwen-vl-max")
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.factor = 32  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del model.factor
    with pytest.raises((AttributeError, TypeError)):
        model.colour = "red"  # type: ignore[attr-defined]
    assert model.factor == 28
    assert hash(model) == hash(model.replace())


def test_the_list_cannot_be_changed():
    """Prove that what list_models gives is no door to the table."""
    assert isinstance(qp.list_models(), tuple)


def test_repr_is_one_short_line():
    """Prove that the repr of each profile is one line of less than 100 letters."""
    for model in qp.list_models():
        assert repr(model).startswith(f"<ModelProfile {model.name}:")
        assert "\n" not in repr(model)
        assert len(repr(model)) < 100
    assert repr(qp.get_model("qwen-vl-max")) == (
        "<ModelProfile qwen-vl-max: factor 28, cap 1280 tokens, "
        "input < 30,720, 2025-02-28>"
    )


def test_large_images_have_fewer_formats():
    """Qwen3-VL reads only JPEG and PNG above 3840 x 2160; the seed has no such rule."""
    newer, seed = qp.get_model("qwen3-vl-plus"), qp.get_model("qwen-vl-max")
    assert newer.formats_for(3840 * 2160) == newer.formats
    assert newer.formats_for(3840 * 2160 + 1) == ("JPEG", "PNG")
    assert seed.formats_for(10**9) == seed.formats


# ------------------------------------------------------------------ the whole family

# One row a family: names, factor, tokens of an image at least, at most, in high
# resolution, maximum input and output, frames, boxes, confidence.
FAMILIES = [
    (
        (
            "qwen-vl-max-2025-04-08 qwen-vl-max-2025-04-02 qwen-vl-max-2025-01-25 "
            "qwen-vl-plus-2025-05-07 qwen-vl-plus-2025-01-25"
        ),
        *(28, 4, 1280, 16384, 129_024, 8_192, (4, 80), None, "M"),
    ),
    (
        "qwen-vl-max-2024-12-30 qwen-vl-max-2024-11-19 qwen-vl-plus-2025-01-02",
        *(28, 4, 1280, 16384, 30_720, 2_048, (4, 80), None, "M"),
    ),
    (
        (
            "qwen2.5-vl-72b-instruct qwen2.5-vl-32b-instruct qwen2.5-vl-7b-instruct "
            "qwen2.5-vl-3b-instruct"
        ),
        *(28, 4, 1280, 16384, 129_024, 8_192, (4, 512), "absolute-resized", "M"),
    ),
    ("qvq-max", 28, 4, 1280, 16384, 106_496, 8_192, (4, 512), None, "M"),
    (
        "qwen-vl-max-2025-08-13 qwen-vl-plus-2025-08-15",
        *(32, 4, 1280, 16384, 129_024, 8_192, (4, 80), None, "L"),
    ),
    ("qwen-vl-plus-2025-07-10", 32, 4, 1280, 16384, 30_720, 8_192, (4, 80), None, "L"),
    (
        "qwen3-vl-plus qwen3-vl-flash",
        *(32, 64, 2560, 16384, 260_096, 32_768, (4, 2000), "relative-1000", "H"),
    ),
    (
        (
            "qwen3-vl-235b-a22b-instruct qwen3-vl-235b-a22b-thinking "
            "qwen3-vl-32b-instruct qwen3-vl-32b-thinking qwen3-vl-30b-a3b-instruct "
            "qwen3-vl-30b-a3b-thinking qwen3-vl-8b-instruct qwen3-vl-8b-thinking"
        ),
        *(32, 64, 2560, 16384, 126_976, 32_768, (4, 80), "relative-1000", "M"),
    ),
    (
        (
            "qwen3.5-plus qwen3.5-flash qwen3.5-397b-a17b qwen3.5-122b-a10b "
            "qwen3.5-35b-a3b qwen3.5-27b qwen3.6-plus"
        ),
        *(32, 64, 2560, 16384, 260_096, 32_768, (4, 8000), "relative-1000", "M"),
    ),
    (
        "qwen3.7-plus qwen3.8-max",
        *(32, 64, 2560, 16384, 991_808, 131_072, (4, 8000), "relative-1000", "H"),
    ),
    (
        (
            "qwen-vl-ocr qwen-vl-ocr-2025-08-28 qwen-vl-ocr-2025-04-13 "
            "qwen-vl-ocr-2024-10-28"
        ),
        *(28, 4, 8192, 30_000, 30_000, 8_192, (None, None), None, "M"),
    ),
    (
        "qwen-vl-ocr-latest qwen-vl-ocr-2025-11-20 qwen3.5-ocr",
        *(32, 3, 8192, 30_000, 30_000, 8_192, (None, None), None, "M"),
    ),
]
ROWS = [(name, *row[1:]) for row in FAMILIES for name in row[0].split()]

# In and out for a million tokens in CNY; the tier's end in input tokens.
PRICES = {
    "qwen3-vl-plus": [(32_768, 1, 10), (131_072, "1.5", 15), (262_144, 3, 30)],
    "qwen3-vl-flash": [
        (32_768, "0.15", "1.5"),
        (131_072, "0.3", 3),
        (262_144, "0.6", 6),
    ],
    "qwen-vl-max-2025-08-13": [(None, "1.6", 4)],
    "qwen-vl-max": [(None, 3, 9)],
    "qwen-vl-max-2025-04-08": [(None, 3, 9)],
    "qwen-vl-max-0809": [(None, 3, 9)],
    "qwen-vl-plus-2025-08-15": [(None, "0.8", 2)],
    "qwen-vl-plus-0125": [(None, "1.5", "4.5")],
    "qwen-vl-plus-2025-05-07": [(None, "1.5", "4.5")],
    "qvq-max": [(None, 8, 32)],
    "qwen-vl-ocr-2025-11-20": [(None, "0.3", "0.5")],
}


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_numbers_of_every_later_model(row):
    """Prove the rows that came after the document which this package reproduces."""
    name, factor, least, most, high, inputs, outputs, frames, boxes, confidence = row
    model = qp.get_model(name)
    square = factor**2
    assert model.factor == factor
    assert model.min_pixels == least * square
    assert model.max_pixels == most * square
    assert model.high_resolution_pixels == high * square
    assert (model.max_input_tokens, model.max_output_tokens) == (inputs, outputs)
    assert (model.min_frames, model.max_frames) == frames
    assert model.takes_video == (frames[0] is not None)
    assert model.boxes == boxes
    assert model.confidence == confidence


def test_every_model_stands_in_a_table_of_these_tests():
    """Prove that no name slipped in without its numbers being stated twice."""
    told = {*SEED, *SEED_FIRST, *THIRD, *(row[0] for row in ROWS)}
    assert {model.name for model in qp.list_models()} == told


@pytest.mark.parametrize("name", PRICES)
def test_prices_of_early_2026(name):
    """Prove the prices, their date, and that Batch costs half."""
    prices = qp.get_model(name).prices
    told = [
        qp.PriceTier(input=Decimal(into), output=Decimal(out), up_to=end)
        for end, into, out in PRICES[name]
    ]
    assert list(prices.tiers) == told
    assert prices.currency == "CNY"
    assert prices.batch_factor == Decimal("0.5")
    assert prices.date.year == 2026
    assert prices.confidence == "M"


def test_what_no_source_prices_has_no_price():
    """Prove that a model without a published price is not given a sibling's."""
    for name in ("qwen2-vl-7b-instruct", "qwen3.7-plus", "qwen-vl-plus-0809"):
        assert qp.get_model(name).prices is None


def test_thinking_streaming_and_bytes():
    """Prove what single families have of their own."""
    assert qp.get_model("qwen3-vl-plus").max_thinking_input_tokens == 258_048
    assert qp.get_model("qwen3.8-max").max_thinking_input_tokens == 983_616
    assert qp.get_model("qwen-vl-max").max_thinking_input_tokens is None
    assert [m.name for m in qp.list_models() if m.stream_only] == ["qvq-max"]
    assert qp.get_model("qwen3-vl-plus").max_url_bytes == 20 * 1024**2
    assert qp.get_model("qwen-vl-max").max_url_bytes == 10 * 1024**2
    assert qp.get_model("qwen3.7-plus").max_images == 2048
    assert qp.get_model("qwen3-vl-plus").max_data_uris == 250
    assert qp.get_model("qwen-vl-max").high_resolution_wires == ("dashscope",)
    assert qp.get_model("qwen3-vl-plus").high_resolution_wires == (
        "dashscope",
        "openai",
    )
    # A live record each: 26 tokens with a question of 7; later 17 with a short one.
    assert qp.get_model("qwen-vl-max").template_tokens == 26 - 7
    assert qp.get_model("qwen3.7-plus").template_tokens == 17


@pytest.mark.parametrize("model", qp.list_models(), ids=lambda model: model.name)
def test_video_limits_are_whole(model):
    """Prove that a model has all limits of a video or none, in order."""
    limits = (
        model.min_frames,
        model.max_frames,
        model.frame_min_pixels,
        model.frame_max_pixels,
        model.video_pixels,
    )
    assert all(limits) or not any(limits)
    if model.takes_video:
        assert model.frame_min_pixels < model.frame_max_pixels < model.video_pixels
        assert model.frame_min_pixels % model.factor**2 == 0
        assert model.frame_max_pixels % model.factor**2 == 0


@pytest.mark.parametrize(
    ("height", "width", "name", "size", "billed"),
    [
        (512, 512, "qwen-vl-max", (504, 504), 326),
        (1280, 1280, "qwen-vl-max", (980, 980), 1227),
        (1365, 2048, "qwen-vl-max-latest", (812, 1204), 1249),
        (1365, 2048, "qwen3.7-plus", (1312, 1952), 2503),
    ],
)
def test_published_records(height, width, name, size, billed):
    """Prove the published bills, each by the model that they were made for."""
    model = qp.get_model(name)
    caps = {"min_pixels": model.min_pixels, "max_pixels": model.max_pixels}
    assert qp.smart_resize(height, width, factor=model.factor, **caps) == size
    assert int(qp.count_tokens_many([height], [width], model=name)[0]) == billed


# ------------------------------------------------------------------ tables of one's own


def test_a_file_of_ones_own_is_known_by_name(tmp_path, monkeypatch):
    """Prove that the named file adds models, changes known ones, and nothing else."""
    path = tmp_path / "models.toml"
    path.write_text(
        """
        [model.qwen9-vl]
        like = "qwen3-vl-plus"
        max_pixels = 4_194_304
        prices = "mine"
        [model.qwen-vl-max]
        max_input_tokens = 129_024
        [prices.mine]
        tiers = [{ input = 0.1, output = 0.2 }]
        [price-list]
        source = "a letter"
        date = 2026-11-01
        confidence = "M"
        currency = "USD"
        region = "Singapore"
        batch_factor = 0.5
        """
    )
    own = qp.load_models(path)
    assert list(own) == ["qwen9-vl", "qwen-vl-max"]
    with pytest.raises(UnknownModelError):
        qp.get_model("qwen9-vl")
    monkeypatch.setenv("QWENVL_PREP_MODELS", str(path))
    model = qp.get_model("qwen9-vl")
    assert model.max_pixels == 4_194_304
    assert model.name == "qwen9-vl"
    assert model.min_pixels == 65_536
    assert model.prices.tiers[0].input == Decimal("0.1")
    assert qp.get_model("qwen-vl-max").max_input_tokens == 129_024
    assert qp.get_model("qwen-vl-max").retired  # the rest of the row stays
    assert qp.list_models()[-1].name == "qwen9-vl"
    assert qp.get_model("qwen-vl-plus").max_input_tokens == 30_720


def test_a_copy_of_a_retired_model_is_not_retired(tmp_path):
    """Prove that what is said of one name is not said of one that is built on it."""
    path = tmp_path / "models.toml"
    path.write_text('[model.mine]\nlike = "qwen-vl-max"')
    mine = qp.load_models(path)["mine"]
    assert (mine.retired, mine.successor, mine.note) == (
        *(None, None),
        "built on qwen-vl-max",
    )
    # Numbers that somebody made up are not as well known as the original's.
    assert (mine.source, mine.confidence) == (f"{path}, like qwen-vl-max", "L")
    path.write_text(
        '[model.mine]\nlike = "qwen-vl-max"\nsource = "a letter"\nconfidence = "M"\n'
        'note = "mine"\nhigh_resolution_pixels = false\n'
        "[model.qwen-vl-max]\nmax_images = 3"
    )
    own = qp.load_models(path)
    mine = own["mine"]
    assert (mine.source, mine.confidence, mine.note) == ("a letter", "M", "mine")
    assert mine.high_resolution_pixels is None
    changed = own["qwen-vl-max"]
    assert (changed.source, changed.confidence) == (f"{path}, like qwen-vl-max", "L")
    assert changed.note == qp.get_model("qwen-vl-max").note


@pytest.mark.parametrize(
    "table",
    [
        "[model.mine",
        "[model.mine]",
        '[model.mine]\nlike = "qwen-none"',
        '[model.mine]\nlike = "qwen-vl-max"\nfactr = 28',
        '[model.mine]\nlike = "qwen-vl-max"\nfactor = "28"',
        '[model.mine]\nlike = "qwen-vl-max"\nfactor = 0',
        '[model.mine]\nlike = "qwen-vl-max"\nmax_pixels = 12',
        '[model.mine]\nlike = "qwen-vl-max"\nprices = "none"',
        '[model.mine]\nlike = "qwen-vl-max"\nboxes = "inches"',
        "model = 3",
        '[family.mine]\nnames = ["a"]\nfactor = 28',
        "[family.mine]\nfactor = 28",
    ],
)
def test_unsound_tables_are_refused(tmp_path, table):
    """Prove that each mistake in a file is an error of ours that names the file."""
    path = tmp_path / "models.toml"
    path.write_text(table)
    with pytest.raises(ModelTableError, match=r"models\.toml"):
        qp.load_models(path)


def test_a_missing_file_is_refused(tmp_path, monkeypatch):
    """Prove that a name in the environment that leads nowhere is told."""
    monkeypatch.setenv("QWENVL_PREP_MODELS", str(tmp_path / "none.toml"))
    with pytest.raises(ModelTableError, match=r"none\.toml"):
        qp.get_model("qwen-vl-max")


@pytest.mark.parametrize(
    "changes",
    [{"factor": 0}, {"factor": 28.0}, {"max_pixels": 1}, {"max_images": 0}],
)
def test_replace_refuses_unsound_numbers(changes):
    """Prove that a profile cannot be made with a number that nothing can hold."""
    with pytest.raises(ValueError, match="Expected"):
        qp.get_model("qwen-vl-max").replace(**changes)


LIKE = '[model.mine]\nlike = "qwen-vl-max"\n'
MINE = f'{LIKE}prices = "mine"\n[prices.mine]\n'
DATED = 'currency = "USD"\ndate = 2026-11-01\n'
TIERS = "tiers = [{ input = 1, output = 2.5 }]\n"


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("", r"Expected a \[model.NAME\] or a \[family.NAME\] table"),
        (f"[prices.mine]\n{DATED}{TIERS}", r"\[family.NAME\] table but received none"),
        ("[models.mine]\nfactor = 28", "did you mean model?"),
        (f"{LIKE}factr = 28", "did you mean factor?"),
        (f"{LIKE}zzz = 28", "'zzz' in .*; it holds boxes, confidence"),
        ("[model.qwen9.1-vl]\nfactor = 28", "quote a name with a dot"),
        ('[model.mine]\nlike = "qwen-vl-mox"', "did you mean qwen-vl-max"),
        ("[model.mine]\nfactor = 28", "Expected like = "),
        ("[family.mine]\nfactor = 28", r"names = \[...\] in \[family.mine\]"),
        ("[family.mine]\nnames = 'ab'", r"names = \[...\] in \[family.mine\]"),
        ('[family.f]\nnames = ["a"]\nfactor = 28', "none for min_pixels, max_pixels"),
        ('[family.f]\nnames = ["a"]\nlimits = "x"', "table for limits of a"),
        (f"{LIKE}date = 3", "Expected date for date of mine but received 3"),
        (f"{LIKE}source = 3", "Expected text for source of mine"),
        (f"{LIKE}formats = 'PNG'", "Expected a list of text for formats"),
        (f"{LIKE}stream_only = 1", "Expected true or false for stream_only"),
        (f"{LIKE}confidence = 'X'", "Expected H, M or L"),
        (f"{LIKE}prices = 'none'", r"\[prices.NAME\] table .* 'none'; there is none"),
        (f"{LIKE}prices = 5", r"\[prices.NAME\] table .* received 5"),
        (MINE + TIERS, "Expected currency, date in .prices.mine. or in .price-list."),
        (MINE + DATED, "Expected tiers in"),
        (f"{MINE}{DATED}tiers = 4", "Expected tiers = "),
        (f"{MINE}{DATED}tiers = []", "Expected tiers = "),
        (f"{MINE}{DATED}tiers = [1]", "Expected a table { input"),
        (f"{MINE}{DATED}tiers = [{{ input = 1 }}]", "Expected output in each tier"),
        (f"{MINE}{DATED}tiers = [{{ inptu = 1 }}]", "did you mean input?"),
        (
            f"{MINE}{DATED}tiers = [{{ input = 'x', output = 1 }}]",
            "input but .*'x'",
        ),
        (f"{MINE}{DATED}tiers = [{{ input = nan, output = 1 }}]", "at least 0 for inp"),
        (f"{MINE}{DATED}tiers = [{{ input = 1, output = -1 }}]", "at least 0 for outp"),
        (f"{MINE}{DATED}{TIERS}curency = 'USD'", "did you mean currency?"),
        (f"{MINE}{DATED}{TIERS}batch_factor = 'half'", "for batch_factor but"),
        (f"{MINE}{TIERS}currency = 'USD'\ndate = 'now'", "a date of prices but"),
        (f"price-list = 4\n{MINE}{TIERS}", "Expected a table .price-list."),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(tmp_path, table, said):
    """Prove that it names the file and the key, and nothing of Python's insides."""
    path = tmp_path / "models.toml"
    path.write_text(table)
    with pytest.raises(ModelTableError, match=said) as caught:
        qp.load_models(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: Expected")
    assert text.count("Expected") == 1
    assert "__" not in text


def test_what_prices_need_not_say(tmp_path):
    """Prove the defaults, and that prices may stand in the model's own table."""
    path = tmp_path / "models.toml"
    inline = 'prices = { currency = "USD", date = 2026-11-01, ' + TIERS.strip() + " }"
    for table in (MINE + DATED + TIERS, f"[price-list]\n{DATED}{MINE}{TIERS}"):
        path.write_text(table)
        prices = qp.load_models(path)["mine"].prices
        assert (prices.currency, str(prices.date)) == ("USD", "2026-11-01")
        assert prices.tiers == (qp.PriceTier(Decimal(1), Decimal("2.5")),)
        assert (prices.source, prices.confidence) == (str(path), "L")
        assert (prices.batch_factor, prices.region) == (1, "an unnamed region")
        path.write_text(LIKE + inline)
        assert qp.load_models(path)["mine"].prices == prices
    path.write_text(f'{LIKE}prices = ""')
    assert qp.load_models(path)["mine"].prices is None


@pytest.mark.parametrize(
    "changes",
    [
        {"tiers": ()},
        {"tiers": [qp.PriceTier(1, 1)]},
        {"tiers": ((1, 1),)},
        {"tiers": (qp.PriceTier(-1, 1),)},
        {"tiers": (qp.PriceTier(1, float("nan")),)},
        {"tiers": (qp.PriceTier(1, "1"),)},
        {"tiers": (qp.PriceTier(True, 1),)},
        {"tiers": (qp.PriceTier(1, 1, 9), qp.PriceTier(1, 1, 9))},
        {"tiers": (qp.PriceTier(1, 1), qp.PriceTier(1, 1, 9))},
        {"tiers": (qp.PriceTier(1, 1, 9.5),)},
        {"tiers": (qp.PriceTier(1, 1, 0),)},
        {"batch_factor": -1},
        {"batch_factor": Decimal("Infinity")},
        {"currency": ""},
        {"region": None},
        {"date": "2026-01-01"},
        {"confidence": "X"},
    ],
)
def test_unsound_prices_cannot_be_made(changes):
    """Prove that it shows where they are written, not where they are used."""
    prices = qp.get_model("qwen3-vl-plus").prices
    with pytest.raises(ValueError, match="Expected"):
        dataclasses.replace(prices, **changes)
