"""Which profile a name stands for."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from qwenvl_prep.errors import ModelTableError, UnknownModelError
from qwenvl_prep.model_profile import BoxConvention, ModelProfile, Prices, PriceTier
from qwenvl_prep.model_tables import nearest_names, read_tables

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

# The model of the document that this package reproduces.
DEFAULT_MODEL = "qwen-vl-max"

# Names a file of the user's own tables, read on top of ours.
_USER_FILE = "QWENVL_PREP_MODELS"


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
    nearest = nearest_names(str(name), profiles)
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
        return read_tables(text, _profiles(""), os.fspath(path))
    except OSError as exc:
        raise ModelTableError(
            f"Expected a file of models that can be read but received {path}: "
            f"{exc.strerror}"
        ) from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as exc:
        raise ModelTableError(f"{path} is not TOML: {exc}") from exc
    except (ValueError, TypeError) as exc:
        raise ModelTableError(f"{path}: {exc}") from exc


@functools.cache
def _profiles(user_file: str) -> dict[str, ModelProfile]:
    """Read the package's own tables, and the user's on top of them."""
    if user_file:
        return {**_profiles(""), **load_models(user_file)}
    text = Path(__file__).with_name("profiles.toml").read_text("utf-8")
    return read_tables(text, {})
