"""The commands about money: what asking costs, and whether the bill agrees."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qwenvl_prep import cli_steps as steps
from qwenvl_prep import cli_tables as show
from qwenvl_prep.billed_rule import UNNAMED
from qwenvl_prep.bills import Bill, read_bill
from qwenvl_prep.cli_options import HIGH, INPUTS, JSON, MODEL, QUIET, with_options
from qwenvl_prep.cost import money, money_places
from qwenvl_prep.errors import SourceError
from qwenvl_prep.probe import probe
from qwenvl_prep.profiles import get_model
from qwenvl_prep.reconcile import reconcile
from qwenvl_prep.scenarios import what_if

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from qwenvl_prep.cost import Cost
    from qwenvl_prep.reconcile import BillCheck, ModelBill
    from qwenvl_prep.scenarios import Scenario

__all__ = ["cost_command", "reconcile_command"]

# Decimals of an amount in a table, at most.
_PLACES = 6

# Of a file that is no log at all.
_NO_JSON = "holds no JSON"

# Requests that are listed one by one; the rest are counted.
_LISTED = 10


@click.command("cost")
@INPUTS
@with_options(MODEL, HIGH, JSON, QUIET)
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    multiple=True,
    help="Also with this cap on an image's vision tokens; may be repeated.",
)
@click.option("--compare", default="", help="Also with these models: NAME,NAME.")
@click.option("-t", "--text", default="", help="The question.")
@click.option("--text-tokens", type=click.IntRange(0), help="Its tokens, if known.")
@click.option(
    "--output-tokens",
    type=click.IntRange(0),
    help="Tokens of an answer, as you expect them; 0 if not said.",
)
@click.option("--batch", is_flag=True, help="Everything by Batch.")
@click.option(
    "--together", is_flag=True, help="All images in one request, not one each."
)
def cost_command(
    inputs: tuple[str, ...],
    model: str,
    high_resolution: bool,
    as_json: bool,
    quiet: bool,
    max_tokens: tuple[int, ...],
    compare: str,
    text: str,
    text_tokens: int | None,
    output_tokens: int | None,
    batch: bool,
    together: bool,
) -> None:
    """Tell what asking about images costs, and what it could cost instead.

    Each image is asked about in a request of its own, or --together in one.  The
    first row is what the options ask for; the others are the other resolution, the
    caps, the other models, and Batch.
    """
    profile = steps.profile_of(model, {"high_resolution": high_resolution}, quiet=quiet)
    others = [get_model(name.strip()) for name in compare.split(",") if name.strip()]
    for cap in max_tokens:
        steps.profile_of(model, {"max_tokens": cap})
    refused: steps.Refused = []
    infos = list(
        steps.each(inputs, probe, quiet=quiet, as_json=as_json, refused=refused)
    )
    if not infos:
        steps.finish(refused, as_json=as_json)
        return
    rows = what_if(
        [info for _, info in infos],
        model=profile,
        models=others,
        max_tokens=max_tokens,
        high_resolution=high_resolution,
        text=text if text_tokens is None else text_tokens,
        output_tokens=output_tokens or 0,
        batch=batch,
        together=together,
        names=[name for name, _ in infos],
    )
    if as_json:
        for row in rows:
            show.print_json(_scenario_record(row))
    else:
        show.print_table(_scenario_table(rows))
    if not quiet:
        _talk_about(rows)
        if output_tokens is None:
            steps.talk("Answers are counted as 0 tokens; --output-tokens says more.")
    refused += rows[0].refused
    steps.finish(refused, as_json=as_json)
    if rows[0].problem and rows[0].images:
        sys.exit(steps.REFUSED)


def _scenario_table(rows: Sequence[Scenario]) -> Table:
    made = show.table(
        "asked how",
        "tokens in",
        "cost",
        "to first",
        "prices of",
        right=("tokens in", "cost", "to first", "prices of"),
    )
    amounts = [row.cost.total for row in rows if row.cost is not None]
    places = min(_PLACES, max(map(money_places, amounts), default=2))
    for row in rows:
        cost = row.cost
        made.add_row(
            show.plain(_how(row, rows[0])),
            f"{row.input_tokens:,}",
            "–" if cost is None else f"{money(cost.total, places)} {cost.currency}",
            _against(row, rows[0]),
            "–" if cost is None else str(cost.date),
        )
    return made


def _how(row: Scenario, first: Scenario) -> str:
    if row.model == first.model:
        return row.label
    is_default = row.label == "default cap"
    return row.model.name if is_default else f"{row.model.name}, {row.label}"


def _against(row: Scenario, first: Scenario) -> str:
    """Give the difference to the first row in percent, where there is one."""
    if row is first or row.cost is None or first.cost is None:
        return ""
    if row.cost.currency != first.cost.currency or not first.cost.total:
        return ""
    if row.images != first.images:
        return ""  # not the same pictures
    percent = round(100 * float(row.cost.total) / float(first.cost.total)) - 100
    return f"{percent:+,} %".replace("-", "−") if percent else "0 %"


def _talk_about(rows: Sequence[Scenario]) -> None:
    first = rows[0]
    already = {name for name, _ in first.refused}
    count = show.counted(first.images, "image")
    requests = show.counted(first.requests, "request")
    steps.talk(
        f"{count} for {first.model.name} in {requests}, each with "
        f"{first.model.template_tokens} tokens of chat template, "
        f"{_question(first)} and {_answer(first)}."
    )
    said: list[str] = []
    for row in rows:
        name = f"{row.model.name}, {row.label.removesuffix(' by Batch')}"
        if row.text != first.text:  # another vocabulary
            said.append(f"{row.model.name}: {_question(row)}")
        if row.problem:
            said.append(f"{name}: {row.problem}")
        more = [one for one, _ in row.refused if one not in already]
        if more:
            said.append(f"{name}: {show.counted(len(more), 'image')} more refused")
        if row.cost is not None:
            said += row.cost.notes()
    if first.cost is not None:
        said.append(
            f"Prices for {first.cost.region} from {first.cost.source}; a free quota, "
            f"caches and savings plans are not in them."
        )
    for sentence in dict.fromkeys(said):
        steps.talk(sentence)


def _question(row: Scenario) -> str:
    bound = "" if row.text.is_exact else "at most "
    return f"text of {bound}{show.counted(row.text.count, 'token')}"


def _answer(row: Scenario) -> str:
    """Give the tokens of each answer, and of all where there are several."""
    if not row.requests:
        return "an answer"
    each = show.counted(row.output_tokens // row.requests, "token")
    is_sum = row.requests > 1 and row.output_tokens
    together = f" ({row.output_tokens:,} in all)" if is_sum else ""
    return f"an answer of {each}{together}"


def _scenario_record(row: Scenario) -> dict[str, Any]:
    cost = row.cost
    return {
        "label": row.label,
        "model": row.model.name,
        "high_resolution": row.high_resolution,
        "max_tokens": row.max_tokens,
        "images": row.images,
        "requests": row.requests,
        "image_tokens": row.image_tokens,
        "text_tokens": row.text.count,
        "is_text_exact": row.text.is_exact,
        "template_tokens": row.model.template_tokens,
        "input_tokens": row.input_tokens,
        "output_tokens": row.output_tokens,
        # Text, because a JSON number is read as a float.
        "cost": None if cost is None else f"{cost.total:f}",
        "input_cost": None if cost is None else f"{cost.input_cost:f}",
        "output_cost": None if cost is None else f"{cost.output_cost:f}",
        "currency": None if cost is None else cost.currency,
        "batch": row.is_batch,
        "price_date": None if cost is None else str(cost.date),
        "price_region": None if cost is None else cost.region,
        "price_source": None if cost is None else cost.source,
        "price_confidence": None if cost is None else cost.confidence,
        "notes": [] if cost is None else list(cost.notes()),
        "problem": row.problem or None,
        "refused": [show.error_record(name, error) for name, error in row.refused],
    }


@click.command("reconcile")
@click.argument("files", nargs=-1, required=True, metavar="FILES...")
@click.option("-m", "--model", help="Model of records that do not name theirs.")
@with_options(JSON, QUIET)
def reconcile_command(
    files: tuple[str, ...], model: str | None, as_json: bool, quiet: bool
) -> None:
    """Hold what was billed against what was predicted.

    FILES hold JSON, one record a line (- is stdin): what send --json prints, replies
    of either wire, or Batch results.  Exit status 1 where image tokens differ, a
    record cannot be read, or nothing can be compared.
    """
    fallback = None if model is None else steps.profile_of(model)
    bills = [bill for name in files for bill in _bills(name, is_one=len(files) == 1)]
    if not bills:
        raise SourceError("Expected records of usage but the files are empty")
    if all(bill.problem == _NO_JSON for bill in bills):
        names = ", ".join(bill.name for bill in bills)
        raise SourceError(f"Expected JSON, one record a line, but {names} {_NO_JSON}")
    told = reconcile(bills, model=fallback)
    if as_json:
        for check in told.checks:
            show.print_json(_check_record(check))
        for one in told.models:
            show.print_json(_model_record(one))
    else:
        show.print_table(_model_table(told.models))
        _print_drifted(told.drifted)
    if not quiet:
        said = [sentence for one in told.models for sentence in _advice(one)]
        for sentence in dict.fromkeys(said):
            steps.talk(sentence)
    for check in told.unreadable[:_LISTED]:
        steps.talk(f"unreadable {check.bill.name}: {check.bill.problem}")
    if len(told.unreadable) > _LISTED:
        steps.talk(f"and {len(told.unreadable) - _LISTED:,} more unreadable")
    if not told.is_exact or told.unreadable:
        # Where a rule explains the bills, there was something to hold them against.
        if not any(one.compared or one.corrections for one in told.models):
            steps.talk(
                "Nothing can be compared: a record needs the billed image tokens, and "
                "the predicted ones or model and sizes."
            )
        sys.exit(steps.REFUSED)


def _bills(name: str, *, is_one: bool) -> list[Bill]:
    """Read the records of a file; one of several files names those without a name."""
    records, mark = _records(name)
    file = "stdin" if name == "-" else name
    bills = []
    for position, record in records:
        bill = read_bill(record, position=position)
        if not is_one and bill.name == f"#{position}":
            bill = replace(bill, name=f"{file}{mark}{position}")
        bills.append(bill)
    # A picture has as many lines as it likes, and says nothing in any of them.
    if bills and all(bill.problem == "is not JSON" for bill in bills):
        return [Bill(name=file, problem=_NO_JSON)]
    return bills


def _records(name: str) -> tuple[list[tuple[int, Any]], str]:
    """Read the records of a file: one a line, or all of it one JSON value.

    Each has its number, which the mark puts behind the file's name.
    """
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as exc:
        raise SourceError(f"{name} cannot be read: {exc.strerror}") from exc
    # Editors of one well known system begin a file with this mark.
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        lines = enumerate(data.splitlines(), 1)
        return [(at, line) for at, line in lines if line.strip()], ":"
    return list(enumerate(whole if isinstance(whole, list) else [whole], 1)), "#"


def _model_table(models: Sequence[ModelBill]) -> Table:
    numbers = ("requests", "compared", "drifted", "predicted", "billed", "drift")
    made = show.table("model", *numbers, right=numbers)
    for one in models:
        drift = f"{one.drift:+,}" if one.drift else "0"
        made.add_row(
            show.plain(one.model),
            f"{len(one.checks):,}",
            f"{len(one.compared):,}",
            f"{len(one.drifted):,}",
            f"{one.predicted_image_tokens:,}",
            f"{one.billed_image_tokens:,}",
            drift.replace("-", "−"),
        )
    return made


def _print_drifted(drifted: Sequence[BillCheck]) -> None:
    if not drifted:
        return
    made = show.table(
        "request that drifted",
        "predicted",
        "billed",
        "drift",
        right=("predicted", "billed", "drift"),
    )
    for check in drifted[:_LISTED]:
        billed, drift = check.billed_image_tokens, check.drift
        made.add_row(
            show.plain(check.bill.name),
            f"{check.predicted_image_tokens:,}",
            "–" if billed is None else f"{billed:,}",
            "–" if drift is None else f"{drift:+,}".replace("-", "−"),
        )
    show.console().print()
    show.print_table(made)
    if len(drifted) > _LISTED:
        show.console().print(f"and {len(drifted) - _LISTED:,} more")


def _advice(one: ModelBill) -> list[str]:
    said = [f"{sentence}." for sentence in one.findings]
    if one.profile is None and one.model != UNNAMED:
        said.insert(0, f"{one.model} is not a known model.")
    elif one.profile is None:
        said.insert(0, "Some records name no model; -m says which it was.")
    if one.table:
        which = "by the first of them" if len(one.corrections) > 1 else "so"
        said.append(
            f"To predict {which}, put this into the file that QWENVL_PREP_MODELS "
            f"names:\n{one.table}"
        )
    silent = sum(
        not check.bill.is_output_known
        for check in one.checks
        if check.status != "unreadable"
    )
    said += [_billed(one, cost) for cost in one.costs]
    if one.costs and silent:
        said.append(
            f"{show.counted(silent, 'record')} without the tokens of the answer, "
            f"which that leaves out."
        )
    for cost in one.costs[:1]:
        said += cost.notes()
    return said


def _billed(one: ModelBill, cost: Cost) -> str:
    batch = " by Batch" if cost.is_batch else ""
    amount = (
        f"Billed to {one.model}{batch}: {money(cost.total)} {cost.currency} for "
        f"{show.counted(cost.requests, 'request')}, at "
    )
    if not one.corrections:
        return f"{amount}prices of {cost.date}."
    return (
        f"{amount}the table's prices for {cost.model} of {cost.date}; the bill "
        f"follows another rule, so its prices may be others too."
    )


def _check_record(check: BillCheck) -> dict[str, Any]:
    usage = check.bill.usage
    return {
        "request": check.bill.name,
        "model": check.bill.model,
        "status": check.status,
        "predicted_image_tokens": check.predicted_image_tokens,
        "billed_image_tokens": check.billed_image_tokens,
        "billed_input_tokens": usage.input_tokens if usage else None,
        "billed_output_tokens": (
            usage.output_tokens if usage and check.bill.is_output_known else None
        ),
        "drift": check.drift,
        "problem": check.bill.problem or None,
    }


def _model_record(one: ModelBill) -> dict[str, Any]:
    template = one.template
    return {
        "model": one.model,
        "is_known": one.profile is not None,
        "requests": len(one.checks),
        "compared": len(one.compared),
        "drifted": len(one.drifted),
        "predicted_image_tokens": one.predicted_image_tokens,
        "billed_image_tokens": one.billed_image_tokens,
        "drift": one.drift,
        "drifts": [list(pair) for pair in one.drifts],
        "template_tokens": template
        and [template.least, template.middle, template.most],
        "corrections": [
            {
                "high_resolution": found.high_resolution,
                "base": found.base,
                "changes": dict(found.changes),
                "table": found.table or None,
                "alike": list(found.alike),
                "explained": found.explained,
                "bills": found.bills,
            }
            for found in one.corrections
        ],
        "costs": [
            {
                "cost": f"{cost.total:f}",
                "currency": cost.currency,
                "batch": cost.is_batch,
                "requests": cost.requests,
                "price_date": str(cost.date),
            }
            for cost in one.costs
        ],
        "advice": list(one.advice),
    }
