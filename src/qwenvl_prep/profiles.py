"""What a model accepts: its numbers, with their source and date."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

from qwenvl_prep.errors import ModelFeatureError, UnknownModelError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

__all__ = ["DEFAULT_MODEL", "ModelProfile", "get_model", "list_models"]

# Letters that a name has to share before its family is guessed: "qwen-".
_SHORTEST_FAMILY = 5

# The model of the document that this package reproduces.
DEFAULT_MODEL = "qwen-vl-max"


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
    recommended_pixels : int
        Area above which more pixels bring nothing; a recommendation, no limit.
    marker_tokens : int
        Tokens billed with every image beside its vision tokens.
    max_input_tokens, max_output_tokens : int
        The sum of all input must stay *below* the first.
    min_side : int
        Least pixels of a side.
    max_ratio : int
        Longest side over shortest side, at most.
    max_file_bytes, max_data_uri_bytes : int
        Largest file, and longest data URI, in bytes.
    formats : tuple of str
        Types that the API reads, by the names of :class:`~qwenvl_prep.ImageInfo`.
    large_pixels, large_formats : int or None, tuple of str
        Area above which only these types are read; None where all are.
    max_images : int or None
        Most images in one request, beside the token limit.
    min_frames, max_frames : int or None
        Bounds for a video as a list of frames; None where it takes no video.
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
    recommended_pixels: int
    marker_tokens: int
    max_input_tokens: int
    max_output_tokens: int
    min_side: int
    max_ratio: int
    max_file_bytes: int
    max_data_uri_bytes: int
    formats: tuple[str, ...]
    large_pixels: int | None = None
    large_formats: tuple[str, ...] = ()
    max_images: int | None = None
    min_frames: int | None = None
    max_frames: int | None = None
    source: str
    date: dt.date
    confidence: str
    retired: dt.date | None = None
    successor: str | None = None
    note: str = ""

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
        """Give a copy with other numbers, for a model that has no row here."""
        return dataclasses.replace(self, **changes)

    def __repr__(self) -> str:
        return (
            f"<ModelProfile {self.name}: factor {self.factor}, "
            f"cap {self.max_pixels // self.factor**2} tokens, "
            f"input below {self.max_input_tokens:,}, {self.date}>"
        )


def get_model(name: str | ModelProfile) -> ModelProfile:
    """
    Give the profile of a model.

    Parameters
    ----------
    name : str or ModelProfile
        Name as the API takes it; a profile is handed back as it is.

    Raises
    ------
    UnknownModelError
        If no profile has that name; it lists the nearest names.

    Examples
    --------
    >>> get_model("qwen-vl-max").factor
    28
    """
    if isinstance(name, ModelProfile):
        return name
    profiles = _profiles()
    if name in profiles:
        return profiles[name]
    nearest = _nearest(str(name))
    hint = f"did you mean {', '.join(nearest)}?" if nearest else "see list_models()."
    raise UnknownModelError(
        f"Expected the name of a known model but received {name!r}; {hint} For one "
        f"that is not listed, pass get_model(...).replace(name=..., ...)",
        name=str(name),
        nearest=nearest,
    )


def list_models() -> tuple[ModelProfile, ...]:
    """
    Give every profile, in the order of ``profiles.toml``.

    Examples
    --------
    >>> list_models()[0].name
    'qwen-vl-max'
    """
    return tuple(_profiles().values())


def _nearest(name: str) -> tuple[str, ...]:
    """Give up to three known names: those of its own family first, then those alike."""
    family = "-".join(name.split("-")[:2])
    is_named = len(family) >= _SHORTEST_FAMILY
    siblings = [known for known in _profiles() if is_named and known.startswith(family)]
    ranked = [
        *difflib.get_close_matches(name, siblings, n=3, cutoff=0.0),
        *difflib.get_close_matches(name, _profiles(), n=3, cutoff=0.6),
    ]
    return tuple(dict.fromkeys(ranked))[:3]


@functools.cache
def _profiles() -> dict[str, ModelProfile]:
    text = resources.files("qwenvl_prep").joinpath("profiles.toml").read_text("utf-8")
    tables = tomllib.loads(text)
    profiles: dict[str, ModelProfile] = {}
    for family, table in tables["family"].items():
        shared = {
            key: value for key, value in table.items() if key not in {"names", "limits"}
        }
        limits = {
            key: value
            for key, value in tables["limits"][table["limits"]].items()
            if key not in {"source", "date"}
        }
        for name in table["names"]:
            own = tables["model"].get(name, {})
            profiles[name] = _profile(name, family, {**limits, **shared, **own})
    return profiles


def _profile(name: str, family: str, values: Mapping[str, Any]) -> ModelProfile:
    fields = dict(values)
    for name_of_list in ("formats", "large_formats"):
        fields[name_of_list] = tuple(fields.get(name_of_list, ()))
    if not fields.pop("video", True):
        fields["min_frames"] = fields["max_frames"] = None
    return ModelProfile(name=name, family=family, **fields)
