"""What will it cost: tokens turned into money, exactly, at prices with a date."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact
from typing import TYPE_CHECKING, Any

from qwenvl_prep.budget import RequestPlan
from qwenvl_prep.errors import BudgetError, ModelFeatureError, UnknownPriceError
from qwenvl_prep.geometry import integer
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile, get_model

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from qwenvl_prep.profiles import Prices, PriceTier

__all__ = ["Cost", "TierShare", "cost", "cost_many", "cost_of", "money", "money_places"]

# Prices are told for a million tokens.
_PER_DIGITS = 6

# After a quarter of a year, prices are said to be old; the provider changed those of
# its picture models about twice a year.
_OLD_DAYS = 92

# All money goes through this, whatever the caller's own arithmetic is set to: digits
# for the product of a price and any count that Python reads from text (4,300 digits),
# and what were rounded raises instead.
_EXACT = Context(prec=20_000, traps=[Inexact])

# Inputs up to which the sum of a million requests stays inside int64 by far.
_MOST_TOKENS = 2**40


@dataclass(frozen=True, slots=True, kw_only=True)
class TierShare:
    """
    The requests that are charged at one tier.

    Attributes
    ----------
    tier : PriceTier
        Whose prices hold for them.
    requests, input_tokens, output_tokens : int
        How many they are, and their tokens together.
    disputed : int
        How many of them are cheaper only because "32K" is read as 32,768 and not as
        32,000; see :func:`cost`.
    """

    tier: PriceTier
    requests: int
    input_tokens: int
    output_tokens: int
    disputed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Cost:
    """
    What requests cost, and by which prices.

    Costs of one model at the same prices can be added, also by ``sum``.

    Attributes
    ----------
    model : str
        Name of the model that is paid for.
    prices : Prices
        The prices used: currency, region, date, source and confidence.
    is_batch : bool
        Whether this is Batch, at a part of the price.
    shares : tuple of TierShare
        The requests by the tier that they are charged at, the cheapest tier first.
    """

    model: str
    prices: Prices
    is_batch: bool
    shares: tuple[TierShare, ...]

    @property
    def requests(self) -> int:
        """How many requests this is for."""
        return sum(share.requests for share in self.shares)

    @property
    def input_tokens(self) -> int:
        """Tokens of all input together: images, text and chat template."""
        return sum(share.input_tokens for share in self.shares)

    @property
    def output_tokens(self) -> int:
        """Tokens of all answers together."""
        return sum(share.output_tokens for share in self.shares)

    @property
    def input_cost(self) -> Decimal:
        """Money for the input, exact."""
        return self._amount(
            (share.input_tokens, share.tier.input) for share in self.shares
        )

    @property
    def output_cost(self) -> Decimal:
        """Money for the answers, exact."""
        return self._amount(
            (share.output_tokens, share.tier.output) for share in self.shares
        )

    @property
    def total(self) -> Decimal:
        """Money for everything, exact."""
        return _EXACT.add(self.input_cost, self.output_cost)

    @property
    def tiers(self) -> tuple[PriceTier, ...]:
        """The tiers that any of the requests is charged at."""
        return tuple(share.tier for share in self.shares)

    @property
    def currency(self) -> str:
        """Currency of all amounts, for example ``"CNY"``."""
        return self.prices.currency

    @property
    def region(self) -> str:
        """Where the prices hold."""
        return self.prices.region

    @property
    def date(self) -> dt.date:
        """When the prices were read."""
        return self.prices.date

    @property
    def source(self) -> str:
        """Where the prices were read."""
        return self.prices.source

    @property
    def confidence(self) -> str:
        """How well the prices are known: ``"H"``, ``"M"`` or ``"L"``."""
        return self.prices.confidence

    def notes(self, today: dt.date | None = None) -> tuple[str, ...]:
        """
        Tell what is doubtful about the amount, in sentences.

        Parameters
        ----------
        today : datetime.date or None
            The day to count the age of the prices to; None for today.

        Returns
        -------
        tuple of str
            Old prices, prices of low confidence, and requests so near the edge of a
            tier that sources disagree about their price; empty where all is well.
        """
        return (*self._about_prices(today), *self._about_edges())

    def _about_prices(self, today: dt.date | None) -> list[str]:
        import datetime as dt

        notes = []
        days = ((today or dt.date.today()) - self.date).days  # noqa: DTZ011
        if days > _OLD_DAYS:
            notes.append(
                f"Prices of {self.date} are {days // 30} months old; check them before "
                f"relying on an amount"
            )
        if self.confidence == "L":
            notes.append(
                f"The prices of {self.model} are not well known ({self.source})"
            )
        return notes

    def _about_edges(self) -> list[str]:
        notes = []
        for share in self.shares:
            edge = share.tier.up_to
            if share.disputed and edge is not None:
                what = "request has" if share.disputed == 1 else "requests have"
                notes.append(
                    f"{share.disputed:,} {what} more than {edge // 1024},000 and at "
                    f"most {edge:,} input tokens; whether that is inside the "
                    f"provider's “{edge // 1024}K” is not written down, and outside "
                    f"it costs more"
                )
        return notes

    def _amount(self, parts: Iterable[tuple[int, Any]]) -> Decimal:
        total = _decimal(0)
        for tokens, price in parts:
            amount = _EXACT.multiply(_decimal(tokens), _decimal(price))
            total = _EXACT.add(total, amount)
        if self.is_batch:
            total = _EXACT.multiply(total, _decimal(self.prices.batch_factor))
        # A shift, because a division would work out all the digits there may be.
        return total.scaleb(-_PER_DIGITS, _EXACT).normalize(_EXACT)

    def __add__(self, other: Cost) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        own = (self.model, self.prices, self.is_batch)
        if own != (other.model, other.prices, other.is_batch):
            raise ValueError(
                f"Expected costs of one model at the same prices but received {self} "
                f"and {other}; add their totals"
            )
        return Cost(
            model=self.model,
            prices=self.prices,
            is_batch=self.is_batch,
            shares=_merged(self.prices, (*self.shares, *other.shares)),
        )

    def __radd__(self, other: object) -> Cost:
        # sum() starts from 0.
        return self if other == 0 else NotImplemented

    def __repr__(self) -> str:
        many = f" for {self.requests:,} requests" if self.requests != 1 else ""
        batch = " by Batch" if self.is_batch else ""
        return (
            f"<Cost {money(self.total)} {self.currency}{many}, {self.model}{batch} "
            f"at {self.date} prices>"
        )


def cost(
    input_tokens: int,
    output_tokens: int = 0,
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    batch: bool = False,
    requests: int = 1,
) -> Cost:
    """
    Tell what a request costs.

    Parameters
    ----------
    input_tokens : int
        All input of one request: image tokens, text and chat template.
    output_tokens : int
        Tokens of the answer, as you expect them.
    model : str or ModelProfile
        Model that answers.
    batch : bool
        Whether the request goes by Batch, within 24 hours at half the price.
    requests : int
        How many such requests; each one is charged by its own input.

    Returns
    -------
    Cost
        With exact amounts.  What the provider takes off (a free quota, a cache, a
        savings plan) is not in it.

    Raises
    ------
    UnknownPriceError
        If no price is known for the model.
    BudgetError
        If the input is not below the model's maximum, so that the API refuses it.
    TypeError, ValueError
        If a number is no int or negative.

    Notes
    -----
    The whole request, its output too, is charged at the tier of its input.  The tiers'
    edges are powers of two, "32K" being 32,768, with confidence M: the provider's
    pages only write "32K", but on the same pages "254K" is 260,096 and "256K" is
    262,144 tokens; and with 1,000 for K, requests of 256,001 to 260,095 tokens would
    be allowed but have no price.  Some published price lists read 32,000 instead, so
    :meth:`Cost.notes` counts the requests for which it matters.

    Examples
    --------
    >>> made = cost(20_000, 500, model="qwen3-vl-plus", requests=100)
    >>> made.total, made.currency, len(made.tiers)
    (Decimal('2.5'), 'CNY', 1)
    >>> cost(40_000, 500, model="qwen3-vl-plus").total
    Decimal('0.0675')
    """
    profile, prices = _priced(model, batch=batch)
    requests = integer("requests", requests, least=0)
    given = integer("input_tokens", input_tokens, least=0)
    made = integer("output_tokens", output_tokens, least=0)
    edges = _edges(prices)
    _check_input(given, profile, prices)
    tier = prices.tiers[bisect_left(edges, given)]
    share = TierShare(
        tier=tier,
        requests=requests,
        input_tokens=given * requests,
        output_tokens=made * requests,
        disputed=requests if _is_disputed(given, tier, prices) else 0,
    )
    return _cost(profile, prices, batch, [share] if requests else [])


def cost_many(
    input_tokens: ArrayLike | Iterable[int],
    output_tokens: ArrayLike | Iterable[int] | int = 0,
    *,
    model: str | ModelProfile = DEFAULT_MODEL,
    batch: bool = False,
) -> Cost:
    """
    Tell what many requests cost together, each charged at its own tier.

    Parameters
    ----------
    input_tokens : iterable or array of int, shape (n,)
        All input of each request.
    output_tokens : int, or iterable or array of int, shape (n,)
        Tokens of each answer, or of every one.
    model, batch
        As for :func:`cost`.

    Returns
    -------
    Cost
        The sum.  Arrays are counted by NumPy; anything else needs no NumPy.

    Raises
    ------
    UnknownPriceError, BudgetError, TypeError, ValueError
        As for :func:`cost`; the index of the request is named.

    Examples
    --------
    >>> cost_many([20_000, 40_000], 500, model="qwen3-vl-plus")
    <Cost 0.0925 CNY for 2 requests, qwen3-vl-plus at ... prices>
    """
    profile, prices = _priced(model, batch=batch)
    if hasattr(input_tokens, "__array__") or hasattr(output_tokens, "__array__"):
        shares = _array_shares(input_tokens, output_tokens, profile, prices)
    else:
        shares = _listed_shares(input_tokens, output_tokens, profile, prices)
    return _cost(profile, prices, batch, shares)


def cost_of(
    plans: RequestPlan | Iterable[RequestPlan],
    output_tokens: int | Sequence[int] = 0,
    *,
    batch: bool = False,
) -> Cost:
    """
    Tell what planned requests cost.

    Parameters
    ----------
    plans : RequestPlan or iterable of RequestPlan
        From :func:`qwenvl_prep.fit`, for one model.  Text that could not be counted
        (``is_text_exact`` is false) counts by its upper bound, and the reserve counts
        as used, so this is rather too much than too little.
    output_tokens : int or sequence of int
        Tokens of every answer, or of each.
    batch : bool
        As for :func:`cost`.

    Raises
    ------
    UnknownPriceError
        If no price is known for the model.
    ValueError
        If there is no plan, or plans are for several models.

    Examples
    --------
    >>> import numpy as np
    >>> from qwenvl_prep import fit
    >>> cost_of(fit([np.zeros((1280, 1280), np.uint8)]), 200).total
    Decimal('0.005538')
    """
    made = [plans] if isinstance(plans, RequestPlan) else list(plans)
    if not made:
        raise ValueError("Expected at least one plan but received none")
    for plan in made:
        if not isinstance(plan, RequestPlan):
            raise TypeError(
                f"Expected a RequestPlan but received {plan!r}; fit(...) makes one"
            )
        if plan.model != made[0].model:
            raise ValueError(
                f"Expected plans for one model but received {made[0].model.name} and "
                f"{plan.model.name}; ask for each model by itself"
            )
    totals = [plan.total for plan in made]
    return cost_many(totals, output_tokens, model=made[0].model, batch=batch)


def money(amount: Decimal, places: int | None = None) -> str:
    """
    Give an amount as a person reads it: cents, or four digits where it is less.

    With *places*, so many decimals, so that amounts of one column stand in line.

    Examples
    --------
    >>> from decimal import Decimal
    >>> money(Decimal("1234.5")), money(Decimal("0.00368149")), money(Decimal(0))
    ('1,234.50', '0.003681', '0.00')
    >>> money(Decimal("0.023"), 6)
    '0.023000'
    """
    if places is not None:
        return f"{amount:,.{places}f}"
    places = money_places(amount)
    shown = f"{amount:,.{places}f}"
    while places > 2 and shown.endswith("0"):
        shown = shown[:-1]
        places -= 1
    return shown


def money_places(amount: Decimal) -> int:
    """Give the decimals that show an amount to four digits, or to cents."""
    # An amount far below any coin is as good as nothing.
    return 2 if amount >= 1 or not amount else min(8, 3 - amount.adjusted())


def _decimal(number: Any) -> Decimal:
    # Through its text: of a float 0.15 is meant, not the binary number next to it.
    return Decimal(str(number)) if isinstance(number, float) else Decimal(number)


def _priced(model: str | ModelProfile, *, batch: bool) -> tuple[ModelProfile, Prices]:
    profile = get_model(model)
    prices = profile.prices
    if prices is None:
        raise UnknownPriceError(
            f"Expected a model with known prices but received {profile.name}; give "
            f"them as get_model({profile.name!r}).replace(prices=Prices(...)), or in a "
            f"file for load_models(...)",
            model=profile.name,
        )
    if batch and prices.batch_factor is None:
        raise ModelFeatureError(
            f"Expected a model with a Batch price but received {profile.name}; drop "
            f"batch",
            model=profile.name,
            feature="batch",
        )
    return profile, prices


def _edges(prices: Prices) -> list[int]:
    return [tier.up_to for tier in prices.tiers if tier.up_to is not None]


def _check_input(
    tokens: int, profile: ModelProfile, prices: Prices, index: int | None = None
) -> None:
    """Refuse what the API refuses: it has no price, and mostly was not meant."""
    last = prices.tiers[-1].up_to
    limit = profile.max_input_tokens
    if last is not None:
        limit = min(limit, last + 1)
    if tokens < limit:
        return
    where = "" if index is None else f" at index {index}"
    raise BudgetError(
        f"Expected input below {limit:,} tokens, which {profile.name} takes in one "
        f"request, but received {tokens:,}{where}; for several requests give each "
        f"one's own tokens",
        needed=tokens,
        limit=limit,
        fits=0,
        items=(),
    )


def _least_disputed(tier: PriceTier, prices: Prices) -> int | None:
    """Give the input above which a tier holds only if K is 1,024."""
    edge = tier.up_to
    if edge is None or edge % 1024 or tier == prices.tiers[-1]:
        return None
    return edge // 1024 * 1000


def _is_disputed(tokens: int, tier: PriceTier, prices: Prices) -> bool:
    least = _least_disputed(tier, prices)
    return least is not None and tokens > least


def _listed_shares(
    input_tokens: Any, output_tokens: Any, profile: ModelProfile, prices: Prices
) -> list[TierShare]:
    given = list(input_tokens)
    is_one = not hasattr(output_tokens, "__iter__")
    made = [output_tokens] * len(given) if is_one else list(output_tokens)
    _check_lengths(len(given), len(made))
    if is_one:
        integer("output_tokens", output_tokens, least=0)
    edges = _edges(prices)
    # Requests, input, output and disputed ones of each tier.
    sums = [[0, 0, 0, 0] for _ in prices.tiers]
    for index, (tokens, answer) in enumerate(zip(given, made, strict=True)):
        known = integer(f"input_tokens[{index}]", tokens, least=0)
        _check_input(known, profile, prices, index)
        number = bisect_left(edges, known)
        mine = sums[number]
        mine[0] += 1
        mine[1] += known
        mine[2] += integer(f"output_tokens[{index}]", answer, least=0)
        mine[3] += _is_disputed(known, prices.tiers[number], prices)
    return [_share(tier, *mine) for tier, mine in zip(prices.tiers, sums, strict=True)]


def _array_shares(
    input_tokens: Any, output_tokens: Any, profile: ModelProfile, prices: Prices
) -> list[TierShare]:
    import numpy as np

    given = _token_array("input_tokens", input_tokens)
    is_one = not hasattr(output_tokens, "__iter__")
    if is_one:
        answer = integer("output_tokens", output_tokens, least=0)
        made = np.empty(0, np.int64)
    else:
        made = _token_array("output_tokens", output_tokens)
        _check_lengths(len(given), len(made))
    if given.size:
        index = int(given.argmax())
        _check_input(int(given[index]), profile, prices, index)
    tier_of = np.searchsorted(np.array(_edges(prices), np.int64), given, side="left")
    shares = []
    for number, tier in enumerate(prices.tiers):
        mask = tier_of == number
        mine = given[mask]
        least = _least_disputed(tier, prices)
        shares.append(
            _share(
                tier,
                len(mine),
                int(mine.sum()),
                answer * len(mine) if is_one else int(made[mask].sum()),
                0 if least is None else int(np.count_nonzero(mine > least)),
            )
        )
    return shares


def _token_array(name: str, values: Any) -> NDArray[np.int64]:
    import numpy as np

    # Of an iterator, NumPy would make one object.
    is_array = hasattr(values, "__array__")
    array = np.asarray(values if is_array else list(values))
    if array.ndim != 1:
        raise ValueError(
            f"Expected one dimension for {name} but received shape {array.shape}"
        )
    if not array.size:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"Expected ints for {name} but received {array.dtype}")
    for worst, is_bad in (
        (int(array.min()), int(array.min()) < 0),
        (int(array.max()), int(array.max()) > _MOST_TOKENS),
    ):
        if is_bad:
            raise ValueError(
                f"Expected 0 to {_MOST_TOKENS:,} for {name} but received {worst:,}"
            )
    return array.astype(np.int64)


def _check_lengths(given: int, made: int) -> None:
    if given != made:
        raise ValueError(
            f"Expected input_tokens and output_tokens of one length but received "
            f"{given} and {made}"
        )


def _share(
    tier: PriceTier, requests: int, given: int, made: int, disputed: int
) -> TierShare:
    return TierShare(
        tier=tier,
        requests=requests,
        input_tokens=given,
        output_tokens=made,
        disputed=disputed,
    )


def _merged(prices: Prices, shares: Iterable[TierShare]) -> tuple[TierShare, ...]:
    """Put the shares of one tier together, in the order of the tiers."""
    given = list(shares)
    merged = []
    for tier in prices.tiers:
        mine = [share for share in given if share.tier == tier]
        if mine:
            merged.append(
                _share(
                    tier,
                    sum(share.requests for share in mine),
                    sum(share.input_tokens for share in mine),
                    sum(share.output_tokens for share in mine),
                    sum(share.disputed for share in mine),
                )
            )
    return tuple(merged)


def _cost(
    profile: ModelProfile, prices: Prices, batch: bool, shares: Iterable[TierShare]
) -> Cost:
    used = tuple(share for share in shares if share.requests)
    return Cost(model=profile.name, prices=prices, is_batch=bool(batch), shares=used)
