"""Whether an image is legal for a model, and if not, what mends it."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from qwenvl_prep.data_uri import data_uri_length
from qwenvl_prep.errors import (
    DamagedImageError,
    DecodeLimitError,
    ImageError,
    NotAnImageError,
    SourceError,
    UnsupportedFormatError,
)
from qwenvl_prep.findings import Finding
from qwenvl_prep.icc import conversion_for
from qwenvl_prep.limits import DEFAULT_LIMITS, Limits
from qwenvl_prep.probe import probe, with_profile
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile, get_model
from qwenvl_prep.sources import as_source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qwenvl_prep.headers import ImageInfo
    from qwenvl_prep.options import Color

__all__ = ["PICTURE_SUFFIXES", "Finding", "ValidationReport", "find", "validate"]

# The format table of the provider's vision page, early 2025 (RULES 3), and what the
# same types are called elsewhere; only used to warn of a suffix that misleads.
_SUFFIXES: Mapping[str, frozenset[str]] = {
    "AVIF": frozenset({".avif", ".avifs"}),
    "BMP": frozenset({".bmp", ".dib"}),
    "DIB": frozenset({".dib", ".bmp"}),
    "GIF": frozenset({".gif"}),
    "HEIF": frozenset({".heic", ".heif", ".heics", ".heifs", ".hif"}),
    "ICNS": frozenset({".icns"}),
    "ICO": frozenset({".ico"}),
    "JPEG": frozenset({".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"}),
    "JPEG2000": frozenset({".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx"}),
    "PNG": frozenset({".apng", ".png"}),
    "SGI": frozenset({".bw", ".rgb", ".rgba", ".sgi"}),
    "TIFF": frozenset({".tif", ".tiff"}),
    "WEBP": frozenset({".webp"}),
}
PICTURE_SUFFIXES = frozenset().union(*_SUFFIXES.values())


@dataclass(frozen=True, slots=True, repr=False)
class ValidationReport:
    """
    Everything that was found about one image at once.

    Attributes
    ----------
    name : str
        Name of the input.
    model : str
        Model that it was held against.
    info : ImageInfo or None
        What the header says; None where it could not be read.
    findings : tuple of Finding
        Errors first, then warnings.
    """

    name: str
    model: str
    info: ImageInfo | None
    findings: tuple[Finding, ...] = field(default=())

    @property
    def is_legal(self) -> bool:
        """Whether the API takes the file as it is."""
        return not any(finding.severity == "error" for finding in self.findings)

    @property
    def is_mendable(self) -> bool:
        """Whether the file is legal or can be made so by preparing it."""
        return all(
            finding.is_mendable
            for finding in self.findings
            if finding.severity == "error"
        )

    def __repr__(self) -> str:
        codes = ", ".join(finding.code for finding in self.findings) or "nothing found"
        return f"<ValidationReport {self.name} for {self.model}: {codes}>"


def validate(
    source: Any,
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    limits: Limits = DEFAULT_LIMITS,
) -> ValidationReport:
    """
    Hold an image against the rules of a model, from its header alone.

    Parameters
    ----------
    source : str, path, bytes-like, binary file, Pillow image or array
        See :func:`qwenvl_prep.sources.as_source`.
    model : str or ModelProfile
        Whose rules apply.
    limits : Limits
        What preparing may decode; a picture above them is told of.

    Returns
    -------
    ValidationReport
        With all findings; an input that is no image is a finding, not an exception.

    Raises
    ------
    UnknownModelError
        If no profile has that name.

    Examples
    --------
    >>> import numpy as np
    >>> [f.code for f in validate(np.zeros((10, 3000), np.uint8)).findings]
    ['side-too-small', 'aspect-ratio']
    """
    profile = get_model(model)
    name = _short_name(source)
    try:
        source = as_source(source, limits=limits)
        name = source.name
        info = with_profile(source, probe(source))
    except (SourceError, ImageError) as exc:
        return ValidationReport(name, profile.name, None, (_from_error(exc),))
    findings = find(info, profile, suffix=source.suffix, label=source.label)
    # What is above the model's cap is resized, and may be read row by row for that.
    is_whole = info.height * info.width <= profile.max_pixels
    try:
        limits.check_header(info, is_whole=is_whole)
    except DecodeLimitError as exc:
        findings = (*findings, _above_limits(exc))
    return ValidationReport(name, profile.name, info, findings)


def find(
    info: ImageInfo,
    model: ModelProfile,
    *,
    suffix: str = "",
    label: str = "",
    color: Color = "srgb",
) -> tuple[Finding, ...]:
    """
    Hold a header against the rules of a model.

    Parameters
    ----------
    info : ImageInfo
        What the header says.
    model : ModelProfile
        Whose rules apply.
    suffix : str
        Ending of the file's name, to warn of one that misleads.
    label : str
        Media type that a data URI claims.
    color : {"srgb", "keep"}
        Whether a colour profile counts.

    Returns
    -------
    tuple of Finding
        Errors first, then warnings.
    """
    return (*_errors(info, model, label), *_warnings(info, model, suffix, color))


def _errors(info: ImageInfo, model: ModelProfile, label: str) -> list[Finding]:
    found = []
    shortest, longest = sorted((info.height, info.width))
    if shortest < model.min_side:
        found.append(
            Finding(
                "side-too-small",
                "error",
                f"Expected both sides above {model.min_side - 1} px but received "
                f"{info.height} × {info.width}",
                "enlarge or pad the image yourself; preparing never invents pixels",
                is_mendable=False,
                actual=shortest,
                limit=model.min_side,
            )
        )
    if longest > model.max_ratio * shortest:
        found.append(
            Finding(
                "aspect-ratio",
                "error",
                f"Expected a ratio of at most {model.max_ratio}:1 but received "
                f"{info.height} × {info.width} ({longest / shortest:.1f}:1)",
                "crop the image, pad it or cut it into tiles",
                is_mendable=False,
                actual=f"{longest / shortest:.1f}",
                limit=model.max_ratio,
            )
        )
    if info.format == "PIXELS":
        return found
    formats = model.formats_for(info.height * info.width)
    if info.format not in formats:
        where = " at this size" if info.format in model.formats else ""
        found.append(
            Finding(
                "format-not-accepted",
                "error",
                f"Expected one of {', '.join(formats)} for {model.name}{where} "
                f"but received {info.format}",
                "prepare converts it"
                if _can_read(info)
                else "convert it to JPEG, or install pillow-heif for prepare to do so",
                is_mendable=_can_read(info),
                actual=info.format,
                limit=", ".join(formats),
            )
        )
    if info.encoded_size > model.max_file_bytes:
        found.append(
            Finding(
                "file-too-large",
                "error",
                f"Expected a file of at most {model.max_file_bytes:,} bytes but "
                f"received {info.encoded_size:,}",
                "prepare resizes or encodes it again",
                is_mendable=True,
                actual=info.encoded_size,
                limit=model.max_file_bytes,
            )
        )
    length = data_uri_length(info.encoded_size, info.media_type)
    if length > model.max_data_uri_bytes:
        found.append(
            Finding(
                "data-uri-too-long",
                "error",
                f"Expected a data URI of at most {model.max_data_uri_bytes:,} bytes "
                f"but base64 makes these {info.encoded_size:,} bytes {length:,}",
                "prepare resizes or encodes it again; a URL has the file's limit",
                is_mendable=True,
                actual=length,
                limit=model.max_data_uri_bytes,
            )
        )
    if label and label != info.media_type:
        found.append(
            Finding(
                "label-mismatch",
                "error",
                f"Expected the label {info.media_type}, which the content has, but "
                f"the data URI says {label}",
                "prepare writes the label that belongs to the bytes",
                is_mendable=True,
                actual=label,
                limit=info.media_type,
            )
        )
    return found


def _can_read(info: ImageInfo) -> bool:
    """Tell whether the extra that reads this type is there, without loading it."""
    return info.format != "HEIF" or find_spec("pillow_heif") is not None


def _warnings(
    info: ImageInfo, model: ModelProfile, suffix: str, color: Color
) -> list[Finding]:
    found = []
    pixels = info.height * info.width
    if pixels > model.recommended_pixels:
        found.append(
            Finding(
                "above-recommended-pixels",
                "warning",
                f"{pixels:,} pixels are above the {model.recommended_pixels:,} "
                f"recommended for {model.name}; the model does not see more",
                "prepare sends only the pixels that the model looks at",
                is_mendable=True,
                actual=pixels,
                limit=model.recommended_pixels,
            )
        )
    if info.orientation != 1:
        found.append(
            Finding(
                "not-upright",
                "warning",
                f"EXIF orientation {info.orientation} is not applied by the API: the "
                f"model would see the photo turned",
                "prepare turns the pixels",
                is_mendable=True,
                actual=info.orientation,
                limit=1,
            )
        )
    if info.has_alpha:
        found.append(
            Finding(
                "transparent",
                "warning",
                "Transparent parts may arrive black",
                "prepare lays the picture on white",
                is_mendable=True,
            )
        )
    if _has_other_colours(info, color):
        found.append(
            Finding(
                "colour-profile",
                "warning",
                "A colour profile other than sRGB is not applied by the API: colours "
                "would arrive changed",
                "prepare brings them to sRGB",
                is_mendable=True,
            )
        )
    if info.n_frames > 1:
        found.append(
            Finding(
                "many-frames",
                "warning",
                f"Only one of {info.n_frames} frames, pages or pictures is seen",
                "prepare sends one alone, the first unless frame= says otherwise",
                is_mendable=True,
                actual=info.n_frames,
                limit=1,
            )
        )
    if suffix in PICTURE_SUFFIXES and suffix not in _SUFFIXES.get(info.format, ()):
        found.append(
            Finding(
                "suffix-mismatch",
                "warning",
                f"The name ends in {suffix} but the content is {info.format}",
                "prepare labels it by its content",
                is_mendable=True,
                actual=suffix,
                limit=info.format,
            )
        )
    return found


def _has_other_colours(info: ImageInfo, color: Color) -> bool:
    try:
        return conversion_for(info, color) is not None
    except UnsupportedFormatError:  # there is nothing here that could tell
        return False


def _above_limits(exc: DecodeLimitError) -> Finding:
    return Finding(
        "above-limits",
        "warning",
        f"Decoding would take {exc.actual:,} where {exc.limit_name} allows "
        f"{exc.limit:,}",
        "preparing refuses it; make it smaller, or raise the limit if you trust it",
        is_mendable=False,
        actual=exc.actual,
        limit=exc.limit,
    )


def _from_error(exc: SourceError | ImageError) -> Finding:
    codes = {
        SourceError: "unreadable-source",
        NotAnImageError: "not-an-image",
        UnsupportedFormatError: "format-unreadable",
        DamagedImageError: "damaged",
    }
    return Finding(
        codes.get(type(exc), "refused"),
        "error",
        str(exc),
        "give another file",
        is_mendable=False,
    )


def _short_name(source: Any) -> str:
    # A data URI that cannot be read is long, and none of it belongs into a table.
    text = source if isinstance(source, str) else type(source).__name__
    return text if len(text) <= 60 else f"{text[:59]}…"
