"""Which models the tables of a file describe."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from qwenvl_prep.model_profile import (
    MAY_LACK,
    OF_VIDEO,
    ModelProfile,
    Prices,
    PriceTier,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["nearest_names", "read_tables"]

# Letters that a name has to share before its family is guessed: "qwen-".
_SHORTEST_FAMILY = 5

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

# What a table of a model may hold.
_KEYS = frozenset(ModelProfile.__dataclass_fields__) - {"name"} | {
    *_SHARED,
    "video",
}


def read_tables(
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
    nearest = nearest_names(str(like), known)
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
            fields |= dict.fromkeys(OF_VIDEO)
        for key, value in fields.items():
            # TOML has no word for nothing.
            if value is False and key in MAY_LACK:
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
    if kind is None or (value is None and key in MAY_LACK):
        return
    wanted = {"text": str, "date": dt.date, "true or false": bool}.get(kind)
    if wanted is not None:
        is_right = type(value) is wanted
    else:
        is_right = isinstance(value, list) and all(isinstance(v, str) for v in value)
    if not is_right:
        raise ValueError(f"Expected {kind} for {what} but received {value!r}")


def nearest_names(name: str, profiles: Iterable[str]) -> tuple[str, ...]:
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
