"""What each model accepts: every number of the table, and how names are looked up."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest

import qwenvl_prep as qp
from qwenvl_prep.errors import ModelFeatureError, UnknownModelError
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
        "input below 30,720, 2025-02-28>"
    )


def test_large_images_have_fewer_formats():
    """Qwen3-VL reads only JPEG and PNG above 3840 x 2160; the seed has no such rule."""
    newer, seed = qp.get_model("qwen3-vl-plus"), qp.get_model("qwen-vl-max")
    assert newer.formats_for(3840 * 2160) == newer.formats
    assert newer.formats_for(3840 * 2160 + 1) == ("JPEG", "PNG")
    assert seed.formats_for(10**9) == seed.formats
