"""One thing that was found about an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """
    One thing that was found about an image.

    Attributes
    ----------
    code : str
        Stable name, listed in ``docs/errors.md``.
    severity : {"error", "warning"}
        An error is what the API refuses.
    message : str
        What was expected and what came.
    remedy : str
        What would mend it.
    is_mendable : bool
        Whether :func:`qwenvl_prep.prepare` mends it.
    actual, limit : int, str or None
        The numbers or names behind the message.
    """

    code: str
    severity: Literal["error", "warning"]
    message: str
    remedy: str
    is_mendable: bool
    actual: int | str | None = None
    limit: int | str | None = None
