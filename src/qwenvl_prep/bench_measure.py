"""How ways of doing one thing are timed: in turns, and pair by pair."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Comparison", "Measurement", "Way", "measure"]


@dataclass(frozen=True, slots=True)
class Way:
    """
    One way to do it.

    Attributes
    ----------
    name : str
        Who does it.
    run : callable
        The call that is timed.
    items : float
        How many items one call works off.
    target : float, optional
        Of a peer: the ratio that ours has to reach beside it.
    differs : dict, optional
        Of a peer with pixels of its own: ``percent`` of the bytes that are not ours,
        and by how much at ``most``.
    problem : str
        What its answer got wrong.
    keeps_time : bool
        Whether *run* gives the seconds itself, as a process of its own does.
    """

    name: str
    run: Callable[[], object]
    items: float = 1
    target: float | None = None
    differs: dict[str, float] | None = None
    problem: str = ""
    keeps_time: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Our way beside others on one input; *problem* says what ours got wrong."""

    group: str
    subject: str
    unit: str
    ours: Way
    peers: tuple[Way, ...]
    problem: str
    megapixels: float | None = None
    most_rounds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Something of ours that is no time, such as memory, and what it may be at most."""

    group: str
    subject: str
    unit: str
    values: tuple[float, ...]
    target: float
    problem: str = ""
    megapixels: float | None = None


def measure(
    case: Comparison | Measurement, *, rounds: int, least: float
) -> Iterator[dict[str, Any]]:
    """
    Time all ways of a comparison in turns, A B A B.

    Parameters
    ----------
    case : Comparison or Measurement
        What to time; a measurement was made already and is only told.
    rounds : int
        Turns each.
    least : float
        Seconds that one turn takes at least: a shorter call is repeated within it, as
        a single call of some microseconds would measure the clock.

    Yields
    ------
    dict
        One record for each peer.  What is wrong is timed all the same, and told; no
        target is reached by it.
    """
    if isinstance(case, Measurement):
        yield _told(case)
        return
    ways = (case.ours, *case.peers)
    rounds = min(rounds, case.most_rounds or rounds)
    # The warm-up also tells how often a short call is repeated within one turn.
    repeats = [
        1 if way.keeps_time else max(1, math.ceil(least / _seconds(way, 1)))
        for way in ways
    ]
    rates: list[list[float]] = [[] for _ in ways]
    for _ in range(rounds):
        for way, repeat, known in zip(ways, repeats, rates, strict=True):
            known.append(repeat * way.items / _seconds(way, repeat))
    ours, *others = rates
    for peer, theirs in zip(case.peers, others, strict=True):
        # Pair by pair: what slows the machine down for a while slows both.
        ratio = _spread([a / b for a, b in zip(ours, theirs, strict=True)])
        problem = case.problem or peer.problem
        is_reached = peer.target is None or ratio["median"] >= peer.target
        yield {
            "bench": case.group,
            "input": case.subject,
            "unit": case.unit,
            "megapixels": case.megapixels,
            "peer": peer.name,
            "rounds": rounds,
            "ours_per_second": _spread(ours),
            "peer_per_second": _spread(theirs),
            "ratio": ratio,
            "target": peer.target,
            "reached": None if peer.target is None else is_reached and not problem,
            "differs": peer.differs,
            "correct": not problem,
            "problem": problem,
        }


def _told(case: Measurement) -> dict[str, Any]:
    return {
        "bench": case.group,
        "input": case.subject,
        "unit": case.unit,
        "megapixels": case.megapixels,
        "rounds": len(case.values),
        "value": _spread(case.values),
        "target": case.target,
        # A limit is kept when every run keeps it.
        "reached": max(case.values) <= case.target and not case.problem,
        "correct": not case.problem,
        "problem": case.problem,
    }


def _seconds(way: Way, repeats: int) -> float:
    if way.keeps_time:
        return float(way.run())  # type: ignore[arg-type]
    start = perf_counter()
    for _ in range(repeats):
        way.run()
    # Never 0, whatever the clock's resolution.
    return max(perf_counter() - start, 1e-9)


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}
