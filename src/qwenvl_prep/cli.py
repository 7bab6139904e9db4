"""
The command line: ``qwenvl-prep`` and ``python -m qwenvl_prep``.

stdout is data, stderr is talk.  Exit status 0: fine; 1: some input was refused;
2: wrong usage; 3: the network or the API.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from qwenvl_prep import cli_steps as steps
from qwenvl_prep import cli_tables as show
from qwenvl_prep._version import __version__
from qwenvl_prep.cli_budget import fit
from qwenvl_prep.cli_cost import cost_command, reconcile_command
from qwenvl_prep.cli_fetch import FETCH, reading
from qwenvl_prep.cli_options import (
    ASKING,
    HIGH,
    INPUTS,
    JSON,
    MODEL,
    PREPARING,
    QUIET,
    with_options,
)
from qwenvl_prep.cli_tiles import tiles_command
from qwenvl_prep.cli_video import video
from qwenvl_prep.errors import (
    MissingKeyError,
    ModelFeatureError,
    ModelTableError,
    QwenVLPrepError,
    SendError,
    SourceError,
    UnknownModelError,
)
from qwenvl_prep.geometry import billed_tokens
from qwenvl_prep.options import PlanOptions
from qwenvl_prep.plan import plan_image
from qwenvl_prep.prepare import PreparedImage
from qwenvl_prep.profiles import list_models
from qwenvl_prep.request import http_body, warn_unreachable
from qwenvl_prep.validate import validate

if TYPE_CHECKING:
    from qwenvl_prep.headers import ImageInfo

__all__ = ["main"]

_USAGE, _NETWORK = 2, 3

# Mistakes in the call or in what the environment names, not in a picture.
_USAGE_ERRORS = (
    MissingKeyError,
    ModelFeatureError,
    ModelTableError,
    UnknownModelError,
)


def main() -> NoReturn:
    """Run the command line and leave with its exit status."""
    # This process is ours: decoders' own warnings about a file say nothing that the
    # refusal or the table does not say.
    warnings.simplefilter("ignore")
    os.environ.setdefault("VIPS_WARNING", "1")  # libvips' word for: do not write any
    for library in ("PIL", "pyvips"):
        logging.getLogger(library).addHandler(logging.NullHandler())
    # Python leaves None where the caller closed a stream.
    nowhere = Path(os.devnull)
    sys.stdout = sys.stdout or nowhere.open("w", encoding="utf-8")
    sys.stderr = sys.stderr or nowhere.open("w", encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        # A file's name may hold what the terminal's encoding cannot say.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        cli.main(prog_name="qwenvl-prep", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as exc:
        exc.show()
        sys.exit(_USAGE)
    except (click.Abort, KeyboardInterrupt):
        steps.talk("Stopped.")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has left; nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(steps.REFUSED)
    except QwenVLPrepError as exc:
        steps.talk(f"Error: {show.spoken(exc)}")
        sys.exit(_exit_status(exc))
    except OSError as exc:
        steps.talk(f"Error: writing the output failed: {exc.strerror}")
        os._exit(steps.REFUSED)  # the interpreter would try to write it once more
    sys.exit(0)


def _exit_status(exc: QwenVLPrepError) -> int:
    if isinstance(exc, _USAGE_ERRORS):
        return _USAGE
    return _NETWORK if isinstance(exc, SendError) else steps.REFUSED


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="qwenvl-prep")
def cli() -> None:
    """Make pictures ready for Qwen-VL: legal, upright, counted, small.

    INPUTS are files, folders (walked in order) and - for an image on stdin.
    """


@cli.command()
@INPUTS
@with_options(MODEL, HIGH)
@click.option(
    "--max-tokens",
    type=click.IntRange(1),
    help="Under this cap of vision tokens, as prepare keeps it.",
)
@with_options(FETCH, JSON, QUIET)
def count(
    inputs: tuple[str, ...],
    model: str,
    high_resolution: bool,
    max_tokens: int | None,
    fetch: bool,
    allow_private: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Predict the billed tokens of images, from their headers alone."""
    options = {"high_resolution": high_resolution, "max_tokens": max_tokens}
    profile = steps.profile_of(model, options, quiet=quiet)
    refused: steps.Refused = []
    rows = []

    with reading(fetch=fetch, allow_private=allow_private, quiet=quiet) as read:

        def counted(source: Any) -> tuple[ImageInfo, int]:
            info = read(source)
            if max_tokens is not None:
                wanted = PlanOptions(**steps.preparing(options))
                return info, plan_image(info, profile, wanted).tokens
            size = (info.upright_height, info.upright_width)
            return info, billed_tokens(*size, profile, high_resolution=high_resolution)

        for name, (info, tokens) in steps.each(
            inputs,
            counted,
            quiet=quiet,
            as_json=as_json,
            refused=refused,
            allow_urls=fetch,
        ):
            rows.append((name, info, tokens))
            if as_json:
                show.print_json(
                    {
                        "file": name,
                        "height": info.upright_height,
                        "width": info.upright_width,
                        "tokens": tokens,
                        "model": profile.name,
                    }
                )
    if not as_json:
        table = show.table("file", "h×w", "tokens", right=("h×w", "tokens"))
        names = show.short_names([name for name, _, _ in rows])
        for name, info, tokens in rows:
            size = f"{info.upright_height}×{info.upright_width}"
            table.add_row(show.plain(names[name]), size, f"{tokens:,}")
        show.print_table(table)
    if not quiet:
        total = sum(tokens for _, _, tokens in rows)
        steps.talk(
            f"{show.counted(len(rows), 'image')}, {total:,} tokens for {profile.name} "
            f"(maximum input {profile.max_input_tokens:,})"
        )
    steps.finish(refused, as_json=as_json)


@cli.command("probe")
@INPUTS
@click.option(
    "--frame",
    type=click.IntRange(0),
    help="Frame, page or picture of a file with several, from 0.",
)
@with_options(FETCH, JSON, QUIET)
def probe_command(
    inputs: tuple[str, ...],
    frame: int | None,
    fetch: bool,
    allow_private: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show what the headers of images say."""
    refused: steps.Refused = []
    rows = []
    with reading(fetch=fetch, allow_private=allow_private, quiet=quiet) as read:
        for name, info in steps.each(
            inputs,
            partial(read, frame=frame),
            quiet=quiet,
            as_json=as_json,
            refused=refused,
            allow_urls=fetch,
        ):
            rows.append((name, info))
            if as_json:
                show.print_json(show.probe_record(name, info))
    if not as_json:
        show.print_table(show.probe_table(rows))
    steps.finish(refused, as_json=as_json)


@cli.command()
@INPUTS
@with_options(MODEL, JSON, QUIET)
def check(inputs: tuple[str, ...], model: str, as_json: bool, quiet: bool) -> None:
    """Tell whether images are legal as they are, and what would mend them.

    Only headers are read.  A file that is cut off in its pixels is found by prepare.
    """
    profile = steps.profile_of(model)
    refused: steps.Refused = []
    reports = []
    for name, report in steps.each(
        inputs,
        lambda source: validate(source, model=profile),
        quiet=quiet,
        as_json=as_json,
        refused=refused,
    ):
        reports.append(report)
        if as_json:
            show.print_json(
                {
                    "file": name,
                    "model": profile.name,
                    "is_legal": report.is_legal,
                    "is_mendable": report.is_mendable,
                    "findings": [
                        {key: getattr(f, key) for key in f.__dataclass_fields__}
                        for f in report.findings
                    ],
                }
            )
    if not as_json:
        show.print_table(show.findings_table(reports))
    illegal = sum(not report.is_legal for report in reports)
    if not quiet:
        mendable = sum(not r.is_legal and r.is_mendable for r in reports)
        steps.talk(
            f"{show.counted(len(reports), 'image')}, {illegal} not legal as it is for "
            f"{profile.name}" + (f"; preparing mends {mendable}" if illegal else "")
        )
    steps.finish(refused, as_json=as_json)
    if illegal:
        sys.exit(steps.REFUSED)


@cli.command()
@INPUTS
@with_options(MODEL, HIGH, PREPARING, JSON, QUIET)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for the files."
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--data-uri", is_flag=True, help="With --json: add the data URI.")
def prepare(
    inputs: tuple[str, ...],
    model: str,
    as_json: bool,
    quiet: bool,
    output: Path | None,
    overwrite: bool,
    data_uri: bool,
    **options: Any,
) -> None:
    """Make images ready; show what is sent and, with -o, write the files."""
    profile = steps.profile_of(model, options, quiet=quiet)
    refused: steps.Refused = []
    images: list[PreparedImage] = []
    taken: set[Path] = set()
    if output is not None and output.exists() and not output.is_dir():
        raise click.UsageError(f"{output} is a file; -o names a folder.")
    expanded = steps.expanded_inputs(inputs, quiet=quiet)
    for name, result in steps.prepared(expanded, profile, options, quiet=quiet):
        if isinstance(result, PreparedImage):
            written = None
            try:
                if output is not None:
                    written = steps.write_image(
                        result, output, taken, expanded, overwrite=overwrite
                    )
            except SourceError as exc:
                steps.refuse(refused, name, exc, as_json=as_json)
                continue
            images.append(result)
            if as_json:
                record = show.prepared_record(result, with_data_uri=data_uri)
                if written is not None:
                    record["output"] = str(written)
                show.print_json(record)
        elif isinstance(result, QwenVLPrepError):
            steps.refuse(refused, name, result, as_json=as_json)
    if not as_json:
        show.print_table(show.prepared_table(images))
    if not quiet:
        before = sum(image.plan.info.encoded_size for image in images)
        after = sum(image.encoded_size for image in images)
        tokens = sum(image.tokens for image in images)
        steps.talk(
            f"{show.counted(len(images), 'image')}, {tokens:,} tokens for "
            f"{profile.name} (maximum input {profile.max_input_tokens:,}), "
            f"{show.bytes_text(before)} → "
            f"{show.bytes_text(after)}"
            + (f", written to {output}" if output and images else "")
        )
    steps.finish(refused, as_json=as_json)


@cli.command("request")
@INPUTS
@with_options(MODEL, HIGH, PREPARING, ASKING, QUIET)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.")
@click.option("--sdk", is_flag=True, help="Arguments for the SDK, not the HTTP body.")
def request_command(
    inputs: tuple[str, ...],
    model: str,
    quiet: bool,
    output: Path | None,
    sdk: bool,
    **options: Any,
) -> None:
    """Prepare images and write the finished request as JSON."""
    profile = steps.profile_of(model, options, quiet=quiet)
    wire = options["wire"]
    request = steps.build_request(inputs, profile, options, quiet=quiet)
    body = request if sdk else http_body(request, wire=wire)
    if output is None and sys.stdout.isatty():
        steps.talk("Data URIs are shortened on a terminal; -o FILE writes them whole.")
        body = steps.shortened(body)
    text = json.dumps(body, ensure_ascii=False, indent=None if output else 2)
    if output is None:
        click.echo(text)
        return
    # A lone surrogate from the command line becomes its JSON escape.
    steps.write_file(output, text.encode("utf-8", "backslashreplace"))
    if not quiet:
        steps.talk(f"The request stands in {output} ({show.bytes_text(len(text))}).")


@cli.command()
@click.argument("inputs", nargs=-1)
@with_options(MODEL, HIGH, PREPARING, ASKING, JSON, QUIET)
@click.option(
    "--request",
    "request_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Send this file, written by the request command.",
)
@click.option(
    "--base-url",
    envvar="QWENVL_PREP_BASE_URL",
    show_envvar=True,
    help="Where the API lives, if not in mainland China.",
)
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=120.0)
def send(
    inputs: tuple[str, ...],
    model: str,
    as_json: bool,
    quiet: bool,
    request_file: Path | None,
    base_url: str | None,
    timeout: float,
    **options: Any,
) -> None:
    """Ask the model about images; the key comes from DASHSCOPE_API_KEY."""
    from qwenvl_prep.sender import Sender

    if bool(inputs) == (request_file is not None):
        raise click.UsageError("Give either INPUTS or --request FILE.")
    wire = options["wire"]
    if request_file is not None:
        _refuse_others("request_file", "base_url", "timeout", "as_json", "quiet")
        request, wire = steps.stored_request(request_file)
        warn_unreachable(request["messages"])
        profile = steps.profile_of(request["model"])
    else:
        profile = steps.profile_of(model, options, quiet=quiet)
    # Before minutes of preparing: a missing key is a mistake in the call.
    try:
        sender = Sender(base_url=base_url, wire=wire, timeout=timeout)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    with sender:
        if request_file is None:
            request = steps.build_request(inputs, profile, options, quiet=quiet)
        reply = steps.answer(sender, request, as_json=as_json)
    is_high = steps.is_high_resolution(request)
    sizes = steps.sent_sizes(request)
    predicted = None
    if sizes is not None:
        predicted = steps.predicted_tokens(sizes, profile, high_resolution=is_high)
    if as_json:
        usage = reply.usage
        show.print_json(
            {
                "model": profile.name,
                "high_resolution": is_high,
                "sizes": sizes,
                "text": reply.text,
                "finish_reason": reply.finish_reason,
                "request_id": reply.request_id,
                "predicted_image_tokens": predicted,
                "billed_image_tokens": usage.image_tokens if usage else None,
                "billed_input_tokens": usage.input_tokens if usage else None,
                "billed_output_tokens": usage.output_tokens if usage else None,
            }
        )
    elif not quiet:
        steps.talk(steps.usage_line(reply, predicted))


def _refuse_others(*allowed: str) -> None:
    """Refuse options beside --request, whose file has said all that they say."""
    context = click.get_current_context()
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in allowed and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"--request sends its file as it is; --{name.replace('_', '-')} "
                f"belongs to the request command."
            )


@cli.command()
@click.argument("name", required=False)
@JSON
def models(name: str | None, as_json: bool) -> None:
    """Show the models that are known, or everything about one."""
    if name is not None:
        profile = steps.profile_of(name)
        if as_json:
            show.print_json(show.model_record(profile))
        else:
            show.print_table(show.model_details(profile))
        return
    if as_json:
        for profile in list_models():
            show.print_json(show.model_record(profile))
    else:
        show.print_table(show.models_table(list_models()))
        steps.talk(
            "in/out: CNY for a million tokens, smallest requests, early 2026. Sources, "
            "dates and all numbers of one: qwenvl-prep models NAME"
        )


@cli.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure throughput; the same as python -m qwenvl_prep.bench."""
    from qwenvl_prep.bench import main as bench_main

    sys.exit(bench_main(list(arguments)))


cli.add_command(fit)
cli.add_command(cost_command)
cli.add_command(reconcile_command)
cli.add_command(tiles_command)
cli.add_command(video)
