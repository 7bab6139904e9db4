"""What a model accepts: its numbers, with their source and date."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from qwenvl_prep.errors import ModelFeatureError, ModelTableError, UnknownModelError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping

__all__ = [
    "DEFAULT_MODEL",
    "BoxConvention",
    "ModelProfile",
    "PriceTier",
    "Prices",
    "get_model",
    "list_models",
    "load_models",
]

BoxConvention: TypeAlias = Literal["relative-1000", "absolute-resized"]

# Letters that a name has to share before its family is guessed: "qwen-".
_SHORTEST_FAMILY = 5

# The model of the document that this package reproduces.
DEFAULT_MODEL = "qwen-vl-max"

# How well a number is known.
_CONFIDENCES = ("H", "M", "L")

# Names a file of the user's own tables, read on top of ours.
_USER_FILE = "QWENVL_PREP_MODELS"

# What stands in tables of its own, under a name.
_SHARED = ("limits", "frames", "prices")

# What a file may hold; and of prices of one's own, what need not be said.
_TABLES = frozenset({"model", "family", "limits", "frames", "prices", "price-list"})
_OWN_PRICES = {
    "region": "an unnamed region",
    "confidence": "L",
    "batch_factor": Decimal(1),
}

# Fields that are no numbers, and what they are.
_KINDS = {
    "family": "text",
    "source": "text",
    "confidence": "text",
    "successor": "text",
    "note": "text",
    "date": "date",
    "retired": "date",
    "image_pixels": "true or false",
    "stream_only": "true or false",
    "formats": "a list of text",
    "large_formats": "a list of text",
    "high_resolution_wires": "a list of text",
}

# Whole numbers that a profile holds; those that it may lack, and that may be 0.
_OF_VIDEO = (
    "min_frames",
    "max_frames",
    "frame_min_pixels",
    "frame_max_pixels",
    "video_pixels",
)
_MAY_LACK = frozenset(
    {
        *_OF_VIDEO,
        "high_resolution_pixels",
        "large_pixels",
        "max_body_bytes",
        "max_data_uris",
        "max_images",
        "max_thinking_input_tokens",
    }
)
_COUNTS = (
    "factor",
    "marker_tokens",
    "max_data_uri_bytes",
    "max_file_bytes",
    "max_input_tokens",
    "max_output_tokens",
    "max_pixels",
    "max_ratio",
    "max_string_length",
    "max_url_bytes",
    "min_pixels",
    "min_side",
    "recommended_pixels",
    "template_tokens",
    *sorted(_MAY_LACK),
)
_LEAST = {"marker_tokens": 0, "template_tokens": 0}


@dataclass(frozen=True, slots=True)
class PriceTier:
    """
    What a million tokens cost, in requests up to a size.

    Attributes
    ----------
    input, output : decimal.Decimal
        Price of a million tokens.
    up_to : int or None
        Most input tokens of a request that is charged at these prices; None: any.
    """

    input: Decimal
    output: Decimal
    up_to: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Prices:
    """
    What a model costs, with the date of the price list.

    Attributes
    ----------
    tiers : tuple of PriceTier
        Smallest requests first; a whole request is charged at the tier of its input.
    batch_factor : decimal.Decimal
        Share of the price that a Batch request costs.
    currency, region : str
        Whose prices these are.
    source : str
        Where they come from.
    date : datetime.date
        When they were read there.
    confidence : {"H", "M", "L"}
        How well they are known.
    """

    tiers: tuple[PriceTier, ...]
    batch_factor: Decimal
    currency: str
    region: str
    source: str
    date: dt.date
    confidence: str

    def __post_init__(self) -> None:
        import datetime as dt

        for name in ("currency", "region", "source"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ValueError(
                    f"Expected text for {name} of prices but received {value!r}"
                )
        if type(self.date) is not dt.date:
            raise ValueError(f"Expected a date of prices but received {self.date!r}")
        if self.confidence not in _CONFIDENCES:
            raise ValueError(
                f"Expected H, M or L for confidence of prices but received "
                f"{self.confidence!r}"
            )
        # None, where nothing goes by Batch.
        if self.batch_factor is not None:
            _check_price("batch_factor", self.batch_factor)
        if not isinstance(self.tiers, tuple) or not self.tiers:
            raise ValueError(
                f"Expected a tuple of PriceTier but received {self.tiers!r}"
            )
        edge = 0
        for number, tier in enumerate(self.tiers, 1):
            if not isinstance(tier, PriceTier):
                raise ValueError(f"Expected PriceTier in tiers but received {tier!r}")
            _check_price("input", tier.input)
            _check_price("output", tier.output)
            if tier.up_to is None and number == len(self.tiers):
                continue
            if type(tier.up_to) is not int or tier.up_to <= edge:
                raise ValueError(
                    f"Expected price tiers with rising edges, whole numbers above "
                    f"{edge:,}, but received up_to = {tier.up_to!r} for tier {number}"
                )
            edge = tier.up_to

    def __repr__(self) -> str:
        first = self.tiers[0]
        more = f", {len(self.tiers)} tiers" if len(self.tiers) > 1 else ""
        return (
            f"<Prices {first.input}/{first.output} {self.currency} a million{more}, "
            f"{self.date}>"
        )


def _check_price(name: str, price: Any) -> None:
    is_number = isinstance(price, (int, float, Decimal)) and type(price) is not bool
    if is_number:
        is_number = (
            price.is_finite()
            if isinstance(price, Decimal)
            else (isinstance(price, int) or math.isfinite(price))
        )
    if not is_number or price < 0:
        raise ValueError(
            f"Expected a price of at least 0 for {name} but received {price!r}"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ModelProfile:
    """
    What one model accepts and how it counts, as dated data.

    Attributes
    ----------
    name, family : str
        Name as the API takes it, and the table of ``profiles.toml`` it stands in.
    factor : int
        Side in pixels of the square that becomes one token.
    min_pixels, max_pixels : int
        Areas in pixels that an image is enlarged or shrunk to by default.
    high_resolution_pixels : int or None
        The cap under ``vl_high_resolution_images``; None where there is none.
    high_resolution_wires : tuple of str
        On which wires that can be asked for.
    image_pixels : bool
        Whether a request may set ``min_pixels`` and ``max_pixels`` for each image.
    recommended_pixels : int
        Area above which more pixels bring nothing; a recommendation, no limit.
    marker_tokens : int
        Tokens billed with every image beside its vision tokens.
    template_tokens : int
        Tokens of a chat of one question around its text: roles, markers, the default
        system prompt.
    max_input_tokens, max_output_tokens : int
        The sum of all input must stay *below* the first.
    max_thinking_input_tokens : int or None
        The same while the model thinks; None where it does not, or it is not known.
    min_side : int
        Least pixels of a side.
    max_ratio : int
        Longest side over shortest side, at most.
    max_file_bytes, max_url_bytes, max_data_uri_bytes : int
        Largest file, largest file behind an address, longest data URI, in bytes.
    max_string_length : int
        Most characters of any one string of a request.
    max_body_bytes : int or None
        Largest request; None, as the provider names none beside Batch files.
    formats : tuple of str
        Types that the API reads, by the names of :class:`~qwenvl_prep.ImageInfo`.
    large_pixels, large_formats : int or None, tuple of str
        Area above which only these types are read; None where all are.
    max_images, max_data_uris : int or None
        Most images in one request, and most of them as data URIs, beside the token
        limit.
    min_frames, max_frames : int or None
        Bounds for a video as a list of frames; None where it takes no video.
    frame_min_pixels, frame_max_pixels : int or None
        Areas in pixels that each frame is enlarged or shrunk to.
    video_pixels : int or None
        Area of all frames together, at most.
    boxes : {"relative-1000", "absolute-resized"} or None
        In what the model answers boxes: thousandths of the sides, or pixels of the
        image as the API resized it.  None where no source says so.
    stream_only : bool
        Whether it answers as a stream only.
    prices : Prices or None
        What it costs; None where that is not known.
    source : str
        Where the numbers come from.
    date : datetime.date
        When they were read there.
    confidence : {"H", "M", "L"}
        How well they are known; see the head of ``profiles.toml``.
    retired : datetime.date or None
        When the provider moved the name to another model; None where it did not.
    successor : str or None
        The name to use instead.
    note : str
        What else has to be known about this row.
    """

    name: str
    family: str
    factor: int
    min_pixels: int
    max_pixels: int
    high_resolution_pixels: int | None = None
    high_resolution_wires: tuple[str, ...] = ()
    image_pixels: bool = False
    recommended_pixels: int
    marker_tokens: int
    template_tokens: int
    max_input_tokens: int
    max_output_tokens: int
    max_thinking_input_tokens: int | None = None
    min_side: int
    max_ratio: int
    max_file_bytes: int
    max_url_bytes: int
    max_data_uri_bytes: int
    max_string_length: int
    max_body_bytes: int | None = None
    formats: tuple[str, ...]
    large_pixels: int | None = None
    large_formats: tuple[str, ...] = ()
    max_images: int | None = None
    max_data_uris: int | None = None
    min_frames: int | None = None
    max_frames: int | None = None
    frame_min_pixels: int | None = None
    frame_max_pixels: int | None = None
    video_pixels: int | None = None
    boxes: BoxConvention | None = None
    stream_only: bool = False
    prices: Prices | None = None
    source: str
    date: dt.date
    confidence: str
    retired: dt.date | None = None
    successor: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name)
            if value is None and name in _MAY_LACK:
                continue
            if type(value) is not int or value < _LEAST.get(name, 1):
                raise ValueError(
                    f"Expected a whole number of at least {_LEAST.get(name, 1)} for "
                    f"{name} of {self.name} but received {value!r}"
                )
        high = self.high_resolution_pixels or self.max_pixels
        if not self.min_pixels <= self.max_pixels <= high:
            raise ValueError(
                f"Expected min_pixels <= max_pixels <= high_resolution_pixels for "
                f"{self.name} but received {self.min_pixels:,}, {self.max_pixels:,} "
                f"and {high:,}"
            )
        if self.boxes not in (None, *get_args(BoxConvention)):
            raise ValueError(
                f"Expected one of {', '.join(get_args(BoxConvention))} for boxes of "
                f"{self.name} but received {self.boxes!r}"
            )
        if self.confidence not in _CONFIDENCES:
            raise ValueError(
                f"Expected H, M or L for confidence of {self.name} but received "
                f"{self.confidence!r}"
            )

    @property
    def takes_video(self) -> bool:
        """Whether a video can be sent as a list of frames."""
        return self.max_frames is not None

    def cap_pixels(self, *, high_resolution: bool = False) -> int:
        """
        Give the area that one image is shrunk to.

        Raises
        ------
        ModelFeatureError
            If *high_resolution* is asked of a model without it.
        """
        if not high_resolution:
            return self.max_pixels
        if self.high_resolution_pixels is None:
            raise ModelFeatureError(
                f"Expected a model with vl_high_resolution_images but received "
                f"{self.name}, whose cap is fixed at {self.max_pixels:,} pixels; "
                f"drop high_resolution or take another model",
                model=self.name,
                feature="high_resolution",
            )
        return self.high_resolution_pixels

    def formats_for(self, pixels: int) -> tuple[str, ...]:
        """Give the types that the API reads for an image of this area."""
        is_large = self.large_pixels is not None and pixels > self.large_pixels
        return self.large_formats if is_large else self.formats

    def replace(self, **changes: Any) -> ModelProfile:
        """
        Give a copy with other numbers, for a model that has no row here.

        Raises
        ------
        TypeError, ValueError
            If there is no such field, or the number is not sound.
        """
        return dataclasses.replace(self, **changes)

    def __repr__(self) -> str:
        return (
            f"<ModelProfile {self.name}: factor {self.factor}, "
            f"cap {self.max_pixels // self.factor**2} tokens, "
            f"input < {self.max_input_tokens:,}, {self.date}>"
        )


def get_model(name: str | ModelProfile) -> ModelProfile:
    """
    Give the profile of a model.

    Parameters
    ----------
    name : str or ModelProfile
        Name as the API takes it; a profile is handed back as it is.  The file named
        by the environment's ``QWENVL_PREP_MODELS`` is read first, see
        :func:`load_models`.

    Raises
    ------
    UnknownModelError
        If no profile has that name; it lists the nearest names.
    ModelTableError
        If the user's own file is not sound.

    Examples
    --------
    >>> get_model("qwen-vl-max").factor
    28
    """
    if isinstance(name, ModelProfile):
        return name
    profiles = _profiles(os.environ.get(_USER_FILE, ""))
    if name in profiles:
        return profiles[name]
    nearest = _nearest(str(name), profiles)
    hint = f"did you mean {', '.join(nearest)}?" if nearest else "see list_models()."
    raise UnknownModelError(
        f"Expected the name of a known model but received {name!r}; {hint} For one "
        f"that is not listed, pass get_model(...).replace(name=..., ...), or name a "
        f"file of your own in {_USER_FILE}",
        name=str(name),
        nearest=nearest,
    )


def list_models() -> tuple[ModelProfile, ...]:
    """
    Give every profile, in the order of ``profiles.toml``; the user's own come last.

    Examples
    --------
    >>> list_models()[0].name
    'qwen-vl-max'
    """
    return tuple(_profiles(os.environ.get(_USER_FILE, "")).values())


def load_models(path: str | os.PathLike[str]) -> dict[str, ModelProfile]:
    r'''
    Read profiles of one's own from a file.

    Parameters
    ----------
    path : str or path
        A TOML file of ``[model.NAME]`` tables.  Each holds what differs from a known
        model, which it names as ``like = "..."``; a name that is known already need
        not say so.  A name with a dot stands in quotes: ``[model."qwen9.1-vl"]``;
        ``false`` takes a limit away.  Whole families may stand there too, in the form
        of the package's own ``profiles.toml``.

        ``prices`` is a table, or the name of a ``[prices.NAME]`` table.  What it does
        not say is looked for in ``[price-list]``; *tiers*, *currency* and *date* have
        to be said, *source* is else the file, *region* ``"an unnamed region"``,
        *confidence* ``"L"`` and *batch_factor* 1.

        Unless a table says otherwise, its model has *source* ``"FILE, like NAME"``
        and confidence ``"L"``; one of a new name also *note* ``"built on NAME"``.

    Returns
    -------
    dict of str to ModelProfile
        To be handed to the ``model`` of every function.  A file that the
        environment's ``QWENVL_PREP_MODELS`` names is known by name everywhere, on the
        command line too.

    Raises
    ------
    ModelTableError
        If the file cannot be read, or a table has an unknown or unsound value.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "models.toml")
    >>> tables = """
    ... [model.qwen9-vl]
    ... like = "qwen3-vl-plus"
    ... factor = 36
    ... prices = "mine"
    ...
    ... [prices.mine]
    ... currency = "USD"
    ... date = 2026-11-01
    ... tiers = [
    ...     { up_to = 32_768, input = 0.2, output = 1.6 },
    ...     { input = 0.4, output = 3 },
    ... ]
    ... """
    >>> _ = path.write_text(tables)
    >>> model = load_models(path)["qwen9-vl"]
    >>> model.factor, model.confidence, model.note
    (36, 'L', 'built on qwen3-vl-plus')
    >>> model.prices
    <Prices 0.2/1.6 USD a million, 2 tiers, 2026-11-01>
    '''
    import tomllib

    try:
        text = Path(path).read_text("utf-8")
        return _read_tables(text, _profiles(""), os.fspath(path))
    except OSError as exc:
        raise ModelTableError(
            f"Expected a file of models that can be read but received {path}: "
            f"{exc.strerror}"
        ) from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as exc:
        raise ModelTableError(f"{path} is not TOML: {exc}") from exc
    except (ValueError, TypeError) as exc:
        raise ModelTableError(f"{path}: {exc}") from exc


def _nearest(name: str, profiles: Iterable[str]) -> tuple[str, ...]:
    """Give up to three known names: those of its own family first, then those alike."""
    import difflib

    family = "-".join(name.split("-")[:2])
    is_named = len(family) >= _SHORTEST_FAMILY
    siblings = [known for known in profiles if is_named and known.startswith(family)]
    ranked = [
        *difflib.get_close_matches(name, siblings, n=3, cutoff=0.0),
        *difflib.get_close_matches(name, profiles, n=3, cutoff=0.6),
    ]
    return tuple(dict.fromkeys(ranked))[:3]


# What a table of a model may hold.
_KEYS = frozenset(ModelProfile.__dataclass_fields__) - {"name"} | {
    *_SHARED,
    "video",
}


@functools.cache
def _profiles(user_file: str) -> dict[str, ModelProfile]:
    """Read the package's own tables, and the user's on top of them."""
    if user_file:
        return {**_profiles(""), **load_models(user_file)}
    text = Path(__file__).with_name("profiles.toml").read_text("utf-8")
    return _read_tables(text, {})


def _read_tables(
    text: str, known: Mapping[str, ModelProfile], file: str = ""
) -> dict[str, ModelProfile]:
    """Turn tables into profiles; *known* are the models that they may build on.

    *file* names a file of the user's own, whose numbers are nobody else's.
    """
    import tomllib

    # As they are written: 0.15 is a price, not the nearest double.
    tables = tomllib.loads(text, parse_float=Decimal)
    _check_keys("the file", tables, _TABLES)
    for kind in set(tables) & (_TABLES - {"price-list"}):
        _check_table(f"[{kind}.NAME]", tables[kind])
        for name, table in tables[kind].items():
            _check_table(f"[{kind}.{name}]", table)
    if not tables.get("model") and not tables.get("family"):
        raise ValueError(
            "Expected a [model.NAME] or a [family.NAME] table but received none"
        )
    reader = _Tables(tables, file)
    single = {name: dict(table) for name, table in tables.get("model", {}).items()}
    profiles: dict[str, ModelProfile] = {}
    for family, table in tables.get("family", {}).items():
        shared = dict(table)
        names = shared.pop("names", None)
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise ValueError(
                f"Expected names = [...] in [family.{family}] but received {names!r}"
            )
        for name in names:
            values = {"family": family, **shared, **single.pop(name, {})}
            profiles[name] = reader.profile(name, values)
    for name, values in single.items():
        like = values.pop("like", name)
        own = reader.resolved(name, values)
        base = profiles.get(like) or known.get(like)
        if base is None:
            raise ValueError(_no_base(name, like, [*known, *profiles]))
        changes = {"name": name}
        if file and (values or like != name):
            # Numbers that somebody wrote down are not as well known as the others.
            changes |= {"source": f"{file}, like {like}", "confidence": "L"}
        if like != name:
            # What is said of the other name is not said of this one.
            about = {"retired": None, "successor": None, "note": f"built on {like}"}
            changes |= about
        profiles[name] = dataclasses.replace(base, **{**changes, **own})
    return profiles


def _no_base(name: str, like: Any, known: Iterable[str]) -> str:
    nearest = _nearest(str(like), known)
    hint = f"; did you mean {', '.join(nearest)}?" if nearest else "; see list_models()"
    if like == name:
        return (
            f'Expected like = "..." in [model.{name}], as no model of that name is '
            f"known, but received none{hint}"
        )
    return f"Expected a known model for like of {name} but received {like!r}{hint}"


def _check_table(where: str, table: Any) -> None:
    if not isinstance(table, dict):
        raise ValueError(f"Expected a table {where} but received {table!r}")


def _check_keys(where: str, table: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse a key that nobody reads, most often a slip of the keyboard."""
    import difflib

    names = sorted(known)
    for key in sorted(set(table) - set(names)):
        if isinstance(table[key], dict) and where.startswith("[model."):
            hint = "quote a name with a dot in it: [model.'qwen9.1-vl']"
        else:
            near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
            one_of = ", ".join(names)
            hint = f"did you mean {near[0]}?" if near else f"it holds {one_of}"
        raise ValueError(f"Expected no {key!r} in {where} but received one; {hint}")


class _Tables:
    """The tables of one file, and what of them a model is made of."""

    def __init__(self, tables: Mapping[str, Any], file: str) -> None:
        self._tables = tables
        self._file = file

    def profile(self, name: str, values: dict[str, Any]) -> ModelProfile:
        """Make a model of its family's table and its own."""
        fields = self.resolved(name, values)
        if self._file:
            fields = {"source": self._file, "confidence": "L", **fields}
        lacking = [
            field.name
            for field in dataclasses.fields(ModelProfile)
            if field.default is dataclasses.MISSING and field.name not in fields
        ]
        lacking.remove("name")
        if lacking:
            raise ValueError(
                f"Expected all numbers of {name} in [family.{values['family']}] but "
                f"received none for {', '.join(lacking)}"
            )
        return ModelProfile(name=name, **fields)

    def resolved(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """Put what is named in the place of the names, and check the rest."""
        _check_keys(f"[model.{name}]", values, _KEYS)
        fields = dict(values)
        named = {kind: fields.pop(kind, None) for kind in _SHARED}
        below: dict[str, Any] = {}
        for kind in ("limits", "frames"):
            if named[kind] is not None:
                table = self._named(name, kind, named[kind])
                _check_keys(f"[{kind}.{named[kind]}]", table, _KEYS)
                below |= {
                    key: value
                    for key, value in table.items()
                    if key not in {"source", "date"}
                }
        fields = {**below, **fields}
        if named["prices"]:
            fields["prices"] = self._prices(name, named["prices"])
        elif named["prices"] is not None:
            fields["prices"] = None
        if not fields.pop("video", True):
            fields |= dict.fromkeys(_OF_VIDEO)
        for key, value in fields.items():
            # TOML has no word for nothing.
            if value is False and key in _MAY_LACK:
                fields[key] = None
            _check_kind(f"{key} of {name}", key, value)
            if isinstance(value, list):
                fields[key] = tuple(value)
        return fields

    def _named(self, name: str, kind: str, wanted: Any) -> dict[str, Any]:
        there = self._tables.get(kind, {})
        if not isinstance(wanted, str) or wanted not in there:
            raise ValueError(
                f"Expected the name of a [{kind}.NAME] table for {kind} of {name} but "
                f"received {wanted!r}; there is {', '.join(there) or 'none'}"
            )
        table: dict[str, Any] = there[wanted]
        return table

    def _prices(self, name: str, wanted: Any) -> Prices:
        is_inline = isinstance(wanted, dict)
        own = wanted if is_inline else self._named(name, "prices", wanted)
        where = f"the prices of {name}" if is_inline else f"[prices.{wanted}]"
        shared = self._tables.get("price-list", {})
        _check_table("[price-list]", shared)
        keys = [field.name for field in dataclasses.fields(Prices)]
        _check_keys("[price-list]", shared, keys)
        _check_keys(where, own, keys)
        table = {**shared, **own}
        if self._file:
            table = {"source": self._file, **_OWN_PRICES, **table}
        lacking = [key for key in keys if key not in table]
        if lacking:
            raise ValueError(
                f"Expected {', '.join(lacking)} in {where} or in [price-list] but "
                f"received neither"
            )
        tiers = table["tiers"]
        if not isinstance(tiers, list) or not tiers:
            raise ValueError(
                f"Expected tiers = [{{ input = ..., output = ... }}] in {where} but "
                f"received {tiers!r}"
            )
        return Prices(**{**table, "tiers": tuple(_tier(where, t) for t in tiers)})


def _tier(where: str, tier: Any) -> PriceTier:
    _check_table(f"{{ input = ..., output = ... }} among the tiers of {where}", tier)
    _check_keys(f"a tier of {where}", tier, ("input", "output", "up_to"))
    for key in ("input", "output"):
        if key not in tier:
            raise ValueError(
                f"Expected {key} in each tier of {where} but received none"
            )
    # Numbers without a point are ints in TOML; what is none is refused later.
    exact = {
        key: Decimal(tier[key]) if type(tier[key]) is int else tier[key]
        for key in ("input", "output")
    }
    return PriceTier(**exact, up_to=tier.get("up_to"))


def _check_kind(what: str, key: str, value: Any) -> None:
    """Refuse what is no text, date or list where one belongs."""
    import datetime as dt

    kind = _KINDS.get(key)
    if kind is None or (value is None and key in _MAY_LACK):
        return
    wanted = {"text": str, "date": dt.date, "true or false": bool}.get(kind)
    if wanted is not None:
        is_right = type(value) is wanted
    else:
        is_right = isinstance(value, list) and all(isinstance(v, str) for v in value)
    if not is_right:
        raise ValueError(f"Expected {kind} for {what} but received {value!r}")
