"""What the caller may ask for: every field, its good values and its bad ones."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import get_type_hints

import numpy as np
import pytest

from qwenvl_prep import ImagePlan, PlanOptions, plan, prepare, prepare_many
from qwenvl_prep.options import PlanKeywords, Rgb

DEFAULTS = {
    "high_resolution": False,
    "max_tokens": None,
    "max_bytes": None,
    "encoding": "auto",
    "quality": 90,
    "chroma": "auto",
    "background": (255, 255, 255),
    "color": "srgb",
    "frame": None,
    "strip_metadata": False,
    "on_truncated": "error",
    "fidelity": "exact",
    "report": False,
}

GOOD = {
    "high_resolution": [False, True],
    "max_tokens": [None, 1, 4, 10**9],
    "max_bytes": [None, 1, 10**12],
    "encoding": ["auto", "jpeg", "webp", "png", "webp-lossless", "keep"],
    "quality": [1, 2, 50, 94, 95],
    "chroma": ["auto", "4:4:4", "4:2:2", "4:2:0"],
    "background": [(0, 0, 0), (255, 255, 255), (1, 2, 3)],
    "color": ["srgb", "keep"],
    "frame": [None, 0, 1, 10**6],
    "strip_metadata": [False, True],
    "on_truncated": ["error", "accept"],
    "fidelity": ["exact", "fast"],
    "report": [False, True],
}

OF_OTHER_TYPES = {
    "quality": ["90", 90.0, None, True, [90]],
    "max_tokens": ["5", 5.0, True, (5,)],
    "max_bytes": ["5", 5.5, False],
    "frame": ["0", 0.0, True, float("nan")],
}

OUT_OF_RANGE = {
    "quality": [0, -1, 96, 100],
    "max_tokens": [0, -1],
    "max_bytes": [0, -1],
    "frame": [-1, -(10**9)],
}

UNKNOWN_WORDS = {
    "encoding": ["gif", "JPEG", "jpg", "", None, 0, True, "webp lossless"],
    "chroma": ["4:1:1", "420", 444, None, ""],
    "color": ["sRGB", "adobe", None, True, ""],
    "fidelity": ["slow", "Exact", None, ""],
    "on_truncated": ["ignore", "Accept", True, None, ""],
}

NO_COLOURS = [
    *("red", "White", "BLACK", "", " white", "white "),
    *("#fff", "#ffffff ", "#fffffff", "#ggg000", "ffffff", "#", "#-12345"),
    *("#ffffff\n", "#１２３４５６"),  # digits, but not hex
    *((), (1,), (1, 2), (1, 2, 3, 4), (0, 0, 256), (-1, 0, 0), ((1, 2, 3),) * 2),
    *(None, 0, 0xFFFFFF, True, 1.5, b"#ffffff", b"abc", {1, 2, 3}, {"r": 1}),
    *(np.array([1, 2, 3]), range(3)),
]


def pairs(table: dict[str, list]) -> list[tuple[str, object]]:
    return [(name, value) for name, values in table.items() for value in values]


# --------------------------------------------------------------------------- fields


def test_defaults_are_those_of_the_page():
    """Every field has its default, in the order in which they are documented."""
    assert dataclasses.asdict(PlanOptions()) == DEFAULTS
    assert [field.name for field in dataclasses.fields(PlanOptions)] == list(DEFAULTS)
    assert set(GOOD) == set(DEFAULTS)


def test_keywords_are_the_fields():
    """The keywords of a call have the names of the fields, and their types."""
    of_calls, of_fields = get_type_hints(PlanKeywords), get_type_hints(PlanOptions)
    assert list(of_calls) == list(of_fields) == list(DEFAULTS)
    # A colour may be given by its name, but is always stored as numbers.
    assert of_calls.pop("background") == str | Rgb
    assert of_fields.pop("background") == Rgb
    assert of_calls == of_fields
    # None has to be given.
    assert PlanKeywords.__required_keys__ == frozenset()


@pytest.mark.parametrize(("name", "value"), pairs(GOOD))
def test_good_values_are_kept(name, value):
    """A good value is what the field holds, however it was handed over."""
    for options in (PlanOptions(**{name: value}), PlanOptions.of({name: value})):
        assert getattr(options, name) == value
        others = {key: one for key, one in DEFAULTS.items() if key != name}
        held = dataclasses.asdict(options)
        assert {key: held[key] for key in others} == others


@pytest.mark.parametrize(("name", "value"), pairs(OUT_OF_RANGE | UNKNOWN_WORDS))
def test_bad_values_are_refused_by_name(name, value):
    """A refusal names the field and what was received."""
    with pytest.raises(ValueError, match=f"for {name} but received") as caught:
        PlanOptions(**{name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(("name", "value"), pairs(OF_OTHER_TYPES))
def test_numbers_of_other_types_are_refused(name, value):
    """A string, a float or a truth value is no number of anything."""
    with pytest.raises(TypeError, match=f"int for {name}"):
        PlanOptions(**{name: value})


@pytest.mark.parametrize("name", ["encoding", "chroma", "color", "fidelity"])
def test_refusals_list_what_is_allowed(name):
    """All choices stand in the message, so that nobody has to look them up."""
    with pytest.raises(ValueError, match="Expected one of") as caught:
        PlanOptions(**{name: "nonsense"})
    assert all(repr(choice) in str(caught.value) for choice in GOOD[name])


@pytest.mark.parametrize("name", ["quality", "max_tokens", "max_bytes", "frame"])
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.int16])
def test_numbers_of_numpy_are_numbers(name, kind):
    """A number out of an array does what the same number of Python's does."""
    options = PlanOptions(**{name: kind(7)})
    assert options == PlanOptions(**{name: 7})
    assert hash(options) == hash(PlanOptions(**{name: 7}))


def test_numbers_of_numpy_reach_the_work():
    """They go all the way to the bytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8)
    given = {"max_tokens": 100, "max_bytes": 60_000, "quality": 80, "frame": 0}
    exact = prepare(pixels, encoding="jpeg", **given)
    of_numpy = {name: np.int64(value) for name, value in given.items()}
    assert prepare(pixels, encoding="jpeg", **of_numpy).data == exact.data


# ----------------------------------------------------------------------- background


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("white", (255, 255, 255)),
        ("black", (0, 0, 0)),
        ("#336699", (0x33, 0x66, 0x99)),
        ("#AbCdEf", (0xAB, 0xCD, 0xEF)),
        ("#000000", (0, 0, 0)),
        ([1, 2, 3], (1, 2, 3)),
        ((0, 128, 255), (0, 128, 255)),
        (tuple(np.array([9, 8, 7], np.uint8)), (9, 8, 7)),
        (list(np.array([9, 8, 7], np.int64)), (9, 8, 7)),
    ],
)
def test_spellings_of_a_background(given, stored):
    """Names, hex digits and numbers are all stored as three ints of Python's."""
    options = PlanOptions(background=given)
    assert options == PlanOptions(background=stored)
    assert hash(options) == hash(PlanOptions(background=stored))
    assert options.background == stored
    assert type(options.background) is tuple
    assert [type(level) for level in options.background] == [int, int, int]


@pytest.mark.parametrize("given", NO_COLOURS, ids=repr)
def test_what_is_no_background(given):
    """What is no colour is refused, and never guessed at."""
    with pytest.raises((TypeError, ValueError), match="background"):
        PlanOptions(background=given)


@pytest.mark.parametrize(
    "given", [(1.0, 2, 3), ("1", 2, 3), (None, 0, 0), (True, 0, 0)], ids=repr
)
def test_levels_of_other_types_are_refused(given):
    """The levels are ints; 1.0 may have been meant for 255."""
    with pytest.raises(TypeError, match="int for background"):
        PlanOptions(background=given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("white", "white"),
        ((255, 255, 255), "white"),
        ("#FFFFFF", "white"),
        ("black", "black"),
        ("#000000", "black"),
        ("#0A0B0C", "#0a0b0c"),
        ([255, 0, 16], "#ff0010"),
    ],
)
def test_background_is_told_by_its_name(given, told):
    """The same colour has the same name, however it was spelled."""
    made = plan(np.zeros((56, 56, 4), np.uint8), background=given)
    assert f"flattened on {told}" in made.steps


# --------------------------------------------------------------------------- values


def test_options_cannot_be_changed():
    """No field can be set, deleted or added once the options exist."""
    options = PlanOptions()
    for name in DEFAULTS:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(options, name, None)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(options, name)
    # Python 3.11 calls this a TypeError, because of the slots.
    with pytest.raises((AttributeError, TypeError)):
        options.qualty = 80
    assert not hasattr(options, "__dict__")


def test_options_are_compared_by_value():
    """Each field counts, and equal options are one key."""
    assert PlanOptions() == PlanOptions(**DEFAULTS)
    others = {name: values[-1] for name, values in GOOD.items()}
    many = [PlanOptions(**{name: value}) for name, value in others.items()]
    for options, name in zip(many, others, strict=True):
        is_default = others[name] == DEFAULTS[name]
        assert (options == PlanOptions()) is is_default, name
    assert len({*many, *many}) == len(set(many)) == len(many)
    assert PlanOptions() != DEFAULTS


def test_options_are_pickled_and_copied():
    """Options go to another process and come out equal; a copy is checked anew."""
    options = PlanOptions(
        quality=70, background="#336699", frame=3, encoding="webp", max_bytes=10**6
    )
    for level in range(2, pickle.HIGHEST_PROTOCOL + 1):  # slots need 2
        assert pickle.loads(pickle.dumps(options, level)) == options
    assert copy.copy(options) == copy.deepcopy(options) == options
    assert dataclasses.replace(options, quality=90).background == (0x33, 0x66, 0x99)
    with pytest.raises(ValueError, match="quality"):
        dataclasses.replace(options, quality=0)


def test_repr_can_be_read_back():
    """The repr is the call that makes the same options."""
    options = PlanOptions(background="black", max_tokens=100, encoding="keep")
    assert eval(repr(options)) == options


def test_options_have_names_only():
    """Thirteen values in a row would be read by nobody."""
    with pytest.raises(TypeError, match="positional"):
        PlanOptions(True)


# ---------------------------------------------------------------------------- calls


@pytest.mark.parametrize("name", ["qualty", "colour", "format", "workers", "Quality"])
def test_unknown_keywords_are_refused_at_the_call(name):
    """A misspelt option is told at once, before any input is taken or read."""

    def untouched():
        raise AssertionError("an input was taken")
        yield

    with pytest.raises(TypeError, match=name):
        PlanOptions(**{name: 1})
    for call in (plan, prepare):
        with pytest.raises(TypeError, match=name):
            call(np.zeros((56, 56), np.uint8), **{name: 1})
    if name != "workers":
        with pytest.raises(TypeError, match=name):
            prepare_many(untouched(), **{name: 1})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("quality", 96, ValueError),
        ("quality", "90", TypeError),
        ("encoding", "gif", ValueError),
        ("background", "red", ValueError),
        ("background", (1.0, 2, 3), TypeError),
        ("frame", -1, ValueError),
        ("frame", True, TypeError),
        ("max_tokens", 0, ValueError),
        ("max_tokens", 3, ValueError),  # below what the model enlarges to
        ("max_bytes", 0, ValueError),
        ("fidelity", "slow", ValueError),
        ("on_truncated", "ignore", ValueError),
        ("chroma", "4:1:1", ValueError),
        ("color", "adobe", ValueError),
    ],
)
def test_bad_options_are_refused_at_the_call(name, value, error):
    """Preparing many images refuses at the call, not at the first result."""

    def untouched():
        raise AssertionError("an input was taken")
        yield

    with pytest.raises(error, match=name):
        prepare_many(untouched(), **{name: value})
    for call in (plan, prepare):
        with pytest.raises(error, match=name):
            call(np.zeros((300, 300), np.uint8), **{name: value})


def test_options_stand_in_the_plan():
    """What was asked for can be read in the plan and in the result."""
    given = {"quality": 70, "background": "#336699", "fidelity": "fast"}
    made = plan(np.zeros((56, 56), np.uint8), **given)
    assert isinstance(made, ImagePlan)
    assert made.options == PlanOptions(**given)
    prepared = prepare(np.zeros((56, 56), np.uint8), **given)
    assert prepared.plan.options == PlanOptions(**given)
