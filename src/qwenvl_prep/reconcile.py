"""Does the bill agree with the prediction, and if not, what would predict it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from qwenvl_prep.billed_rule import UNNAMED, Correction, corrections, model_table
from qwenvl_prep.bills import Bill, predicted, read_bill
from qwenvl_prep.cost import Cost, cost_many
from qwenvl_prep.errors import (
    BudgetError,
    ModelFeatureError,
    UnknownModelError,
    UnknownPriceError,
)
from qwenvl_prep.profiles import ModelProfile, get_model

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BillCheck", "ModelBill", "Overhead", "Reconciliation", "reconcile"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class BillCheck:
    """
    One request: what was predicted, what was billed.

    Attributes
    ----------
    bill : Bill
        The record as it was read.
    predicted_image_tokens, billed_image_tokens : int or None
        None where not known.
    status : {"exact", "drift", "unknown", "unreadable"}
        Image tokens are expected to agree to the token.  ``"unknown"`` where one of
        the two numbers is missing, ``"unreadable"`` where the record has a problem.
    drift : int or None
        Billed minus predicted image tokens; None where it is not known.
    """

    bill: Bill
    predicted_image_tokens: int | None
    billed_image_tokens: int | None
    status: Literal["exact", "drift", "unknown", "unreadable"]
    drift: int | None

    @property
    def overhead(self) -> int | None:
        """Input billed beside images and known text: the chat template."""
        usage, text = self.bill.usage, self.bill.text_tokens
        if usage is None or text is None or self.status == "unreadable":
            return None
        images = self.billed_image_tokens
        # A text-only request may leave the field out.
        if images is None and self.predicted_image_tokens != 0:
            return None
        return usage.input_tokens - (images or 0) - text

    def __repr__(self) -> str:
        told = "" if self.drift is None else f", {self.drift:+,} tokens"
        return f"<BillCheck {self.bill.name}: {self.status}{told}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overhead:
    """
    Tokens of the chat template, as the bills show them.

    Attributes
    ----------
    least, middle, most : int
        Over the requests whose text tokens are known.
    requests : int
        How many those are.
    """

    least: int
    middle: int
    most: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ModelBill:
    """
    All requests to one model.

    Attributes
    ----------
    model : str
        Name of the model; ``"unnamed"`` where records do not say it.
    profile : ModelProfile or None
        The profile that predicted; None where the model is not known.
    checks : tuple of BillCheck
        The requests, in order.
    corrections : tuple of Correction
        Rules that explain the bills better; several where the bills do not tell them
        apart.
    template : Overhead or None
        What the chat template takes; None where no text tokens are known.
    costs : tuple of Cost
        What was billed, at the prices known here: synchronous requests and Batch by
        themselves.  Empty where no price is known.
    """

    model: str
    profile: ModelProfile | None
    checks: tuple[BillCheck, ...]
    corrections: tuple[Correction, ...]
    template: Overhead | None
    costs: tuple[Cost, ...]

    @property
    def compared(self) -> tuple[BillCheck, ...]:
        """The requests for which both numbers are known."""
        return tuple(check for check in self.checks if check.drift is not None)

    @property
    def drifted(self) -> tuple[BillCheck, ...]:
        """The requests that were billed otherwise than predicted."""
        return tuple(check for check in self.checks if check.status == "drift")

    @property
    def predicted_image_tokens(self) -> int:
        """Predicted image tokens of the requests that are compared."""
        return sum(check.predicted_image_tokens or 0 for check in self.compared)

    @property
    def billed_image_tokens(self) -> int:
        """Billed image tokens of the requests that are compared."""
        return sum(check.billed_image_tokens or 0 for check in self.compared)

    @property
    def drift(self) -> int:
        """Billed minus predicted image tokens of the requests that are compared."""
        return self.billed_image_tokens - self.predicted_image_tokens

    @property
    def drifts(self) -> tuple[tuple[int, int], ...]:
        """How often each drift occurs: (drift, requests), the most frequent first."""
        counted = Counter(check.drift for check in self.compared)
        pairs = [
            (drift, times) for drift, times in counted.items() if drift is not None
        ]
        return tuple(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))

    @property
    def is_exact(self) -> bool:
        """Whether something was compared and all of it agrees."""
        return bool(self.compared) and not self.drifted

    @property
    def findings(self) -> tuple[str, ...]:
        """What the bills show, in sentences; *advice* adds how to use it."""
        return self._said([one.finding for one in self.corrections], "")

    @property
    def advice(self) -> tuple[str, ...]:
        """What follows from the bills, in sentences, for Python."""
        use = f"; use get_model({self.model!r}).replace(template_tokens={{}})"
        return self._said([one.sentence for one in self.corrections], use)

    @property
    def table(self) -> str:
        """
        The first correction for the file that ``QWENVL_PREP_MODELS`` names, as TOML.

        Empty where the profile is right, and where the bills name no model.
        """
        if self.corrections:
            return self.corrections[0].table
        taken = self._template_taken()
        if taken is None:
            return ""
        return model_table(self.model, [("template_tokens", taken)])

    def _template_taken(self) -> int | None:
        """Give the tokens of the chat template where the profile's are wrong."""
        known = self.template
        if known is None or self.profile is None:
            return None
        is_right = known.least <= self.profile.template_tokens <= known.most
        return None if is_right else known.middle

    def _said(self, said: list[str], use: str) -> tuple[str, ...]:
        if len(said) > 1:
            said.insert(
                0,
                f"These bills do not tell {len(said)} rules apart; records of other "
                f"sizes would",
            )
        if self.drifted and not said:
            said.append(self._why_none())
        taken = self._template_taken()
        if taken is not None and self.profile is not None:
            said.append(
                f"The chat template of {self.model} took {taken} tokens where "
                f"{self.profile.template_tokens} are expected{use.format(taken)}"
            )
        return tuple(said)

    def _why_none(self) -> str:
        if any(check.bill.sizes for check in self.drifted):
            return (
                "No rule explains these bills better than the profile does; see "
                "whether the sizes are those that were sent, and the predictions "
                "those of the same requests"
            )
        return (
            "Add the sizes as they were sent to the records, and the rule that "
            "explains the bills is searched"
        )

    def __repr__(self) -> str:
        return (
            f"<ModelBill {self.model}: {len(self.compared):,} of "
            f"{len(self.checks):,} compared, {len(self.drifted):,} drifted, "
            f"{self.drift:+,} tokens>"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Reconciliation:
    """
    Predicted against billed image tokens of all requests.

    Attributes
    ----------
    checks : tuple of BillCheck
        One for each record, in order; also for those that could not be read.
    models : tuple of ModelBill
        The same by model, in the order in which the models appear.
    """

    checks: tuple[BillCheck, ...]
    models: tuple[ModelBill, ...]

    @property
    def drifted(self) -> tuple[BillCheck, ...]:
        """The requests that were billed otherwise than predicted."""
        return tuple(check for check in self.checks if check.status == "drift")

    @property
    def unreadable(self) -> tuple[BillCheck, ...]:
        """The records that say nothing, each with its problem."""
        return tuple(check for check in self.checks if check.status == "unreadable")

    @property
    def is_exact(self) -> bool:
        """Whether something was compared and all of it agrees, to the token."""
        is_compared = any(check.drift is not None for check in self.checks)
        return is_compared and not self.drifted

    def __repr__(self) -> str:
        compared = sum(check.drift is not None for check in self.checks)
        drift = sum(model.drift for model in self.models)
        return (
            f"<Reconciliation of {len(self.checks):,} records: {compared:,} compared, "
            f"{len(self.drifted):,} drifted, {drift:+,} tokens>"
        )


def reconcile(
    records: Iterable[Any], *, model: str | ModelProfile | None = None
) -> Reconciliation:
    """
    Hold what was billed against what was predicted.

    Parameters
    ----------
    records : iterable
        Replies, usage, mappings, JSON lines, or pairs of a plan and one of these; see
        :func:`qwenvl_prep.bills.read_bill`.  Blank lines are left out.  One bad
        record does not hide the others.
    model : str, ModelProfile or None
        The model of records that do not name theirs, as replies of the DashScope
        wire do not.  A profile also predicts for the records that do name it.

    Returns
    -------
    Reconciliation
        Each request, totals of each model, and where bills and sizes say that the
        profile is wrong, the numbers that would be right.

    Raises
    ------
    UnknownModelError
        If *model* is given and not known.  Unknown models in records are no error.
    TypeError
        If *records* is a single record.

    Notes
    -----
    Image tokens have to agree exactly: rule and size decide them alone.  Text differs
    by the chat template, which is told apart only where a record knows its
    ``text_tokens``.

    Examples
    --------
    >>> usage = {"prompt_tokens": 2529, "completion_tokens": 9,
    ...          "prompt_tokens_details": {"image_tokens": 2503}}
    >>> record = {"model": "qwen-vl-max", "sizes": [[1365, 2048]], "usage": usage}
    >>> told = reconcile([record])
    >>> told
    <Reconciliation of 1 records: 1 compared, 1 drifted, +1,254 tokens>
    >>> told.models[0].corrections[0].rule.factor
    32
    """
    if isinstance(records, (str, bytes, bytearray, dict)):
        raise TypeError(
            f"Expected an iterable of records but received one "
            f"{type(records).__name__}; put it in a list, or split it into lines"
        )
    fallback = None if model is None else get_model(model)
    checks = []
    groups: dict[str, list[BillCheck]] = {}
    profiles: dict[str, ModelProfile | None] = {}
    for position, record in enumerate(records, 1):
        if isinstance(record, (str, bytes, bytearray)) and not record.strip():
            continue
        bill = _with_model(read_bill(record, position=position), fallback)
        check = _check(bill)
        checks.append(check)
        if bill.problem and bill.model is None:
            continue  # it belongs to no model
        name = bill.model or UNNAMED
        groups.setdefault(name, []).append(check)
        if profiles.get(name) is None:
            profiles[name] = bill.profile or _known(bill.model)
    return Reconciliation(
        checks=tuple(checks),
        models=tuple(
            _model_bill(name, profiles[name], mine) for name, mine in groups.items()
        ),
    )


def _with_model(bill: Bill, fallback: ModelProfile | None) -> Bill:
    if fallback is None or bill.model not in (None, fallback.name):
        return bill
    return replace(bill, model=fallback.name, profile=bill.profile or fallback)


def _known(name: str | None) -> ModelProfile | None:
    try:
        return get_model(name or "")
    except UnknownModelError:
        return None


def _check(bill: Bill) -> BillCheck:
    wanted = predicted(bill)
    usage = bill.usage
    billed = usage.image_tokens if usage is not None else None
    drift = None
    status: Literal["exact", "drift", "unknown", "unreadable"] = "unknown"
    if bill.problem:
        status, billed = "unreadable", None
    elif billed is None and usage is not None and wanted is not None:
        # All input is more than its images: that much at least was predicted amiss.
        if wanted > usage.input_tokens:
            status = "drift"
    elif billed is not None and wanted is not None:
        drift = billed - wanted
        status = "drift" if drift else "exact"
    return BillCheck(
        bill=bill,
        predicted_image_tokens=wanted,
        billed_image_tokens=billed,
        status=status,
        drift=drift,
    )


def _model_bill(
    name: str, profile: ModelProfile | None, checks: list[BillCheck]
) -> ModelBill:
    return ModelBill(
        model=name,
        profile=profile,
        checks=tuple(checks),
        corrections=_corrections(name, profile, checks),
        template=_template(checks),
        costs=_costs(profile, checks),
    )


def _corrections(
    name: str, profile: ModelProfile | None, checks: list[BillCheck]
) -> tuple[Correction, ...]:
    found: list[Correction] = []
    for is_high in (False, True):
        sized = [
            (check.bill.sizes, check.billed_image_tokens)
            for check in checks
            if check.bill.sizes
            and check.billed_image_tokens is not None
            and check.bill.high_resolution == is_high
        ]
        found += corrections(name, profile, sized, high_resolution=is_high)
    return tuple(found)


def _template(checks: list[BillCheck]) -> Overhead | None:
    taken = [check.overhead for check in checks]
    known = [tokens for tokens in taken if tokens is not None and tokens >= 0]
    if not known:
        return None
    return Overhead(
        least=min(known),
        middle=int(median(known)),
        most=max(known),
        requests=len(known),
    )


def _costs(profile: ModelProfile | None, checks: list[BillCheck]) -> tuple[Cost, ...]:
    if profile is None:
        return ()
    costs = []
    for is_batch in (False, True):
        usages = [
            check.bill.usage
            for check in checks
            if check.bill.usage is not None
            and check.status != "unreadable"
            and check.bill.is_batch == is_batch
        ]
        if not usages:
            continue
        try:
            costs.append(
                cost_many(
                    [usage.input_tokens for usage in usages],
                    [usage.output_tokens for usage in usages],
                    model=profile,
                    batch=is_batch,
                )
            )
        except (UnknownPriceError, ModelFeatureError, BudgetError):
            # The bill is real even where the profile knows no price for it.
            continue
    return tuple(costs)
