"""
The command line: ``qwenvl-prep`` and ``python -m qwenvl_prep``.

stdout is data, stderr is talk.  Exit status 0: fine; 1: some input was refused;
2: wrong usage; 3: the network or the API.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from qwenvl_prep import cli_tables as show
from qwenvl_prep._version import __version__
from qwenvl_prep.budget import fit_items
from qwenvl_prep.cli_inputs import Inputs, expand
from qwenvl_prep.errors import (
    BudgetError,
    ImageError,
    MissingKeyError,
    ModelFeatureError,
    QwenVLPrepError,
    RequestError,
    SendError,
    SourceError,
    UnknownModelError,
)
from qwenvl_prep.geometry import billed_tokens
from qwenvl_prep.plan import count_tokens
from qwenvl_prep.prepare import PreparedImage, prepare_many
from qwenvl_prep.probe import probe
from qwenvl_prep.profiles import DEFAULT_MODEL, ModelProfile, get_model, list_models
from qwenvl_prep.request import chat_request, http_body
from qwenvl_prep.validate import validate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from qwenvl_prep.sender import Reply

__all__ = ["main"]

_REFUSED, _USAGE, _NETWORK = 1, 2, 3

# A refused input, by its name.
_Refused = list[tuple[str, QwenVLPrepError]]


def main() -> NoReturn:
    """Run the command line and leave with its exit status."""
    # This process is ours: decoders' own warnings about a file say nothing that the
    # refusal or the table does not say.
    warnings.simplefilter("ignore")
    try:
        cli.main(prog_name="qwenvl-prep", standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        sys.exit(_USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has left; nobody is there to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(_REFUSED)
    except QwenVLPrepError as exc:
        show.console(stderr=True).print(f"Error: {exc}", markup=False, soft_wrap=True)
        sys.exit(_exit_status(exc))
    sys.exit(0)


def _exit_status(exc: QwenVLPrepError) -> int:
    if isinstance(exc, (UnknownModelError, ModelFeatureError, MissingKeyError)):
        return _USAGE
    return _NETWORK if isinstance(exc, SendError) else _REFUSED


# ---------------------------------------------------------------- shared options


def _options(*decorators: Callable[..., Any]) -> Callable[..., Any]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


_INPUTS = click.argument("inputs", nargs=-1, required=True)
_MODEL = click.option(
    "-m", "--model", default=DEFAULT_MODEL, show_default=True, help="Model name."
)
_HIGH = click.option(
    "--high-resolution", is_flag=True, help="Count with vl_high_resolution_images."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
_QUIET = click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")
_PREPARING = _options(
    click.option("--max-tokens", type=click.IntRange(1), help="Cap for one image."),
    click.option("--max-bytes", type=click.IntRange(1), help="Cap for one data URI."),
    click.option(
        "--encoding", type=click.Choice(["auto", "jpeg", "png"]), default="auto"
    ),
    click.option("--quality", type=click.IntRange(1, 95), default=90),
    click.option("--workers", type=click.IntRange(1), help="Threads."),
)
_ASKING = _options(
    click.option("-t", "--text", default="", help="The question."),
    click.option("--system", help="The system prompt."),
    click.option(
        "--wire", type=click.Choice(["openai", "dashscope"]), default="openai"
    ),
    click.option("--stream", is_flag=True, help="Ask for the answer in pieces."),
    click.option("--video", is_flag=True, help="The images are frames of one video."),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="qwenvl-prep")
def cli() -> None:
    """Make pictures ready for Qwen-VL: legal, upright, counted, small.

    INPUTS are files, folders (walked in order) and - for an image on stdin.
    """


@cli.command()
@_INPUTS
@_options(_MODEL, _HIGH, _JSON, _QUIET)
def count(
    inputs: tuple[str, ...],
    model: str,
    high_resolution: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Predict the billed tokens of images, from their headers alone."""
    profile = _profile(model, high_resolution=high_resolution)
    refused: _Refused = []
    rows = []
    for name, source in _sources(inputs, quiet=quiet, refused=refused):
        try:
            info = probe(source)
            tokens = count_tokens(
                source, model=profile, high_resolution=high_resolution
            )
        except QwenVLPrepError as exc:
            _refuse(refused, name, exc, as_json=as_json)
            continue
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
        for name, info, tokens in rows:
            size = f"{info.upright_height}×{info.upright_width}"
            table.add_row(name, size, f"{tokens:,}")
        show.console().print(table)
    if not quiet:
        total = sum(tokens for _, _, tokens in rows)
        _talk(
            f"{len(rows)} images, {total:,} tokens for {profile.name} "
            f"(maximum input {profile.max_input_tokens:,})"
        )
    _finish(refused, as_json=as_json)


@cli.command("probe")
@_INPUTS
@_options(_JSON, _QUIET)
def probe_command(inputs: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Show what the headers of images say."""
    refused: _Refused = []
    rows = []
    for name, source in _sources(inputs, quiet=quiet, refused=refused):
        try:
            info = probe(source)
        except QwenVLPrepError as exc:
            _refuse(refused, name, exc, as_json=as_json)
            continue
        rows.append((name, info))
        if as_json:
            show.print_json(show.probe_record(name, info))
    if not as_json:
        show.console().print(show.probe_table(rows))
    _finish(refused, as_json=as_json)


@cli.command()
@_INPUTS
@_options(_MODEL, _JSON, _QUIET)
def check(inputs: tuple[str, ...], model: str, as_json: bool, quiet: bool) -> None:
    """Tell whether images are legal as they are, and what would mend them."""
    profile = _profile(model)
    refused: _Refused = []
    reports = []
    for name, source in _sources(inputs, quiet=quiet, refused=refused):
        report = validate(source, model=profile)
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
        show.console().print(show.findings_table(reports))
    illegal = sum(not report.is_legal for report in reports)
    if not quiet:
        mendable = sum(not r.is_legal and r.is_mendable for r in reports)
        _talk(
            f"{len(reports) - illegal} of {len(reports)} images are legal for "
            f"{profile.name}; preparing mends {mendable} of the other {illegal}"
        )
    _finish(refused, as_json=as_json)
    if illegal:
        sys.exit(_REFUSED)


@cli.command()
@_INPUTS
@_options(_MODEL, _HIGH, _PREPARING, _JSON, _QUIET)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="Folder for the files."
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option("--data-uri", is_flag=True, help="With --json: add the data URI.")
def prepare(
    inputs: tuple[str, ...],
    model: str,
    high_resolution: bool,
    max_tokens: int | None,
    max_bytes: int | None,
    encoding: str,
    quality: int,
    workers: int | None,
    as_json: bool,
    quiet: bool,
    output: Path | None,
    overwrite: bool,
    data_uri: bool,
) -> None:
    """Make images ready; show what is sent and, with -o, write the files."""
    profile = _profile(model, high_resolution=high_resolution)
    refused: _Refused = []
    images = []
    taken: set[Path] = set()
    options = {
        "high_resolution": high_resolution,
        "max_tokens": max_tokens,
        "max_bytes": max_bytes,
        "encoding": encoding,
        "quality": quality,
        "workers": workers,
    }
    for name, image in _prepared(inputs, profile, options, quiet=quiet):
        result = image
        if output is not None and isinstance(result, PreparedImage):
            try:
                _write(result, output, taken, overwrite=overwrite)
            except QwenVLPrepError as exc:
                result = exc
        if isinstance(result, QwenVLPrepError):
            _refuse(refused, name, result, as_json=as_json)
            continue
        images.append(result)
        if as_json:
            show.print_json(show.prepared_record(result, with_data_uri=data_uri))
    if not as_json:
        show.console().print(show.prepared_table(images))
    if not quiet:
        before = sum(image.plan.info.encoded_size for image in images)
        after = sum(image.encoded_size for image in images)
        tokens = sum(image.tokens for image in images)
        _talk(
            f"{len(images)} images, {tokens:,} tokens for {profile.name} (maximum "
            f"input {profile.max_input_tokens:,}), {show.bytes_text(before)} → "
            f"{show.bytes_text(after)}" + (f", written to {output}" if output else "")
        )
    _finish(refused, as_json=as_json)


@cli.command()
@_INPUTS
@_options(_MODEL, _HIGH, _JSON, _QUIET)
@click.option("-t", "--text", default="", help="All text of the request.")
@click.option("--text-tokens", type=click.IntRange(0), help="Its tokens, if known.")
@click.option("--reserve", type=click.IntRange(0), default=0, help="Keep this free.")
def fit(
    inputs: tuple[str, ...],
    model: str,
    high_resolution: bool,
    as_json: bool,
    quiet: bool,
    text: str,
    text_tokens: int | None,
    reserve: int,
) -> None:
    """Hold images and text against the model's maximum input."""
    profile = _profile(model, high_resolution=high_resolution)
    refused: _Refused = []
    items = []
    for name, source in _sources(inputs, quiet=quiet, refused=refused):
        try:
            tokens = count_tokens(
                source, model=profile, high_resolution=high_resolution
            )
        except QwenVLPrepError as exc:
            _refuse(refused, name, exc, as_json=as_json)
            continue
        items.append((name, tokens))
    known = text if text_tokens is None else text_tokens
    error = None
    try:
        request = fit_items(items, model=profile, text=known, reserve=reserve)
    except BudgetError as exc:
        error = exc
    if as_json:
        record: dict[str, Any] = {
            "model": profile.name,
            "limit": profile.max_input_tokens,
            "total": error.needed if error else request.total,
            "fits": error is None,
            "fitting_images": error.fits if error else len(items),
            "images": [{"file": name, "tokens": tokens} for name, tokens in items],
        }
        show.print_json(record)
    else:
        table = show.table("file", "tokens", "sum", right=("tokens", "sum"))
        total = 0
        for name, tokens in items:
            total += tokens
            table.add_row(name, f"{tokens:,}", f"{total:,}")
        show.console().print(table)
        if error is None:
            show.console().print(show.budget_line(request), markup=False)
        else:
            _talk(str(error))
    _finish(refused, as_json=as_json)
    if error is not None:
        sys.exit(_REFUSED)


@cli.command("request")
@_INPUTS
@_options(_MODEL, _HIGH, _PREPARING, _ASKING, _QUIET)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.")
@click.option("--sdk", is_flag=True, help="Arguments for the SDK, not the HTTP body.")
def request_command(
    inputs: tuple[str, ...],
    model: str,
    high_resolution: bool,
    quiet: bool,
    output: Path | None,
    sdk: bool,
    **options: Any,
) -> None:
    """Prepare images and write the finished request as JSON."""
    profile = _profile(model, high_resolution=high_resolution)
    wire = options["wire"]
    request = _build(inputs, profile, high_resolution, options, quiet=quiet)
    body = request if sdk else http_body(request, wire=wire)
    if output is None and sys.stdout.isatty():
        _talk("Data URIs are shortened on a terminal; -o FILE writes them whole.")
        body = _shortened(body)
    text = json.dumps(body, ensure_ascii=False, indent=None if output else 2)
    if output is None:
        click.echo(text)
        return
    _write_file(output, text.encode())
    if not quiet:
        _talk(f"The request stands in {output} ({show.bytes_text(len(text))}).")


@cli.command()
@click.argument("inputs", nargs=-1)
@_options(_MODEL, _HIGH, _PREPARING, _ASKING, _JSON, _QUIET)
@click.option(
    "--request",
    "request_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Send this file, written by the request command.",
)
@click.option("--base-url", help="Where the API lives, if not in mainland China.")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), default=120.0)
def send(
    inputs: tuple[str, ...],
    model: str,
    high_resolution: bool,
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
        request = _stored_request(request_file)
        wire = "dashscope" if "input" in request else "openai"
        request = _as_sdk_request(request)
        profile = _profile(str(request.get("model")))
    else:
        profile = _profile(model, high_resolution=high_resolution)
    # Before minutes of preparing: a missing key is a mistake in the call.
    try:
        sender = Sender(base_url=base_url, wire=wire, timeout=timeout)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    with sender:
        if request_file is None:
            request = _build(inputs, profile, high_resolution, options, quiet=quiet)
        reply = _answer(sender, request, as_json=as_json)
    predicted = _predicted_tokens(request, profile)
    if as_json:
        usage = reply.usage
        show.print_json(
            {
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
        _talk(_usage_line(reply, predicted))


@cli.command()
@click.argument("name", required=False)
@_JSON
def models(name: str | None, as_json: bool) -> None:
    """Show the models that are known, or everything about one."""
    if name is not None:
        profile = _profile(name)
        if as_json:
            show.print_json(show.model_record(profile))
        else:
            show.console().print(show.model_details(profile))
        return
    if as_json:
        for profile in list_models():
            show.print_json(show.model_record(profile))
    else:
        show.console().print(show.models_table(list_models()))


@cli.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": []}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure throughput; the same as python -m qwenvl_prep.bench."""
    from qwenvl_prep.bench import main as bench_main

    sys.exit(bench_main(list(arguments)))


# ---------------------------------------------------------------- steps


def _profile(model: str, *, high_resolution: bool = False) -> ModelProfile:
    profile = get_model(model)
    profile.cap_pixels(high_resolution=high_resolution)
    return profile


def _talk(text: str) -> None:
    show.console(stderr=True).print(text, markup=False, soft_wrap=True)


def _refuse(
    refused: _Refused, name: str, exc: QwenVLPrepError, *, as_json: bool
) -> None:
    refused.append((name, exc))
    if as_json:
        show.print_json(show.error_record(name, exc))


def _finish(refused: _Refused, *, as_json: bool) -> None:
    """List what was refused, and leave with the status that says so."""
    if not refused:
        return
    if not as_json:
        show.refusals(refused)
    sys.exit(_REFUSED)


def _expanded(inputs: Sequence[str], *, quiet: bool, allow_urls: bool = False) -> Inputs:
    expanded = expand(inputs, allow_urls=allow_urls)
    if expanded.skipped and not quiet:
        names = ", ".join(Path(name).name for name in expanded.skipped[:3])
        more = ", …" if len(expanded.skipped) > 3 else ""
        _talk(f"Left out {len(expanded.skipped)} files that are no pictures: {names}{more}")
    if not expanded.sources:
        raise click.UsageError("There is no picture among the inputs.")
    return expanded


def _sources(
    inputs: Sequence[str], *, quiet: bool, refused: _Refused
) -> Iterator[tuple[str, Any]]:
    expanded = _expanded(inputs, quiet=quiet)
    for name, source in _progress(expanded.sources, len(expanded.sources), quiet=quiet):
        if isinstance(source, QwenVLPrepError):
            refused.append((name, source))
        else:
            yield name, source


def _progress(items: Any, total: int, *, quiet: bool) -> Any:
    """Show a bar on a terminal where the work is long enough to wonder."""
    if quiet or total < 2 or not sys.stderr.isatty():
        return items
    from rich.progress import track

    return track(
        items,
        total=total,
        description="",
        console=show.console(stderr=True),
        transient=True,
    )


def _prepared(
    inputs: Sequence[str],
    profile: ModelProfile,
    options: dict[str, Any],
    *,
    quiet: bool,
    allow_urls: bool = False,
) -> Iterator[tuple[str, PreparedImage | QwenVLPrepError | str]]:
    """Prepare what the inputs stand for; addresses are handed on as they are."""
    expanded = _expanded(inputs, quiet=quiet, allow_urls=allow_urls)
    todo = [
        source
        for _, source in expanded.sources
        if not isinstance(source, (QwenVLPrepError, str))
    ]
    results = prepare_many(todo, model=profile, **options)
    for name, source in _progress(expanded.sources, len(expanded.sources), quiet=quiet):
        is_ready = isinstance(source, (QwenVLPrepError, str))
        yield name, source if is_ready else next(results)


def _build(
    inputs: Sequence[str],
    profile: ModelProfile,
    high_resolution: bool,
    options: dict[str, Any],
    *,
    quiet: bool,
) -> dict[str, Any]:
    """Prepare, show and budget the images, and build the request."""
    preparing = ("max_tokens", "max_bytes", "encoding", "quality", "workers")
    wanted = {key: options[key] for key in preparing}
    wanted["high_resolution"] = high_resolution
    refused: _Refused = []
    pictures: list[PreparedImage | str] = []
    for name, image in _prepared(
        inputs, profile, wanted, quiet=quiet, allow_urls=True
    ):
        if isinstance(image, QwenVLPrepError):
            refused.append((name, image))
        else:
            pictures.append(image)
    images = [picture for picture in pictures if isinstance(picture, PreparedImage)]
    if images and not quiet:
        show.console(stderr=True).print(show.prepared_table(images))
    if refused:
        show.refusals(refused)
        sys.exit(_REFUSED)
    if not options["video"]:
        text = (options["system"] or "") + options["text"]
        items = [(image.name, image.tokens) for image in images]
        request_plan = fit_items(items, model=profile, text=text)
        if not quiet:
            _talk(show.budget_line(request_plan))
    media = {"video": pictures} if options["video"] else {"images": pictures}
    return chat_request(
        **media,
        text=options["text"],
        model=profile,
        wire=options["wire"],
        system=options["system"],
        stream=options["stream"],
        high_resolution=high_resolution,
    )


def _answer(sender: Any, request: dict[str, Any], *, as_json: bool) -> Reply:
    if not request.get("stream"):
        reply = sender.send(request)
        if not as_json:
            click.echo(reply.text)
        return reply  # type: ignore[no-any-return]
    with sender.stream(request) as pieces:
        for piece in pieces:
            if not as_json:
                click.echo(piece, nl=False)
        if not as_json:
            click.echo()
        return pieces.reply  # type: ignore[no-any-return]


def _usage_line(reply: Reply, predicted: int) -> str:
    usage = reply.usage
    if usage is None:
        return f"Predicted {predicted:,} image tokens; the server told no usage."
    billed = "not told" if usage.image_tokens is None else f"{usage.image_tokens:,}"
    return (
        f"Image tokens: predicted {predicted:,}, billed {billed}. All input: "
        f"{usage.input_tokens:,}, output: {usage.output_tokens:,}."
    )


def _stored_request(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
        raise RequestError(
            f"Expected a request written by the request command in {path} but it "
            f"cannot be read: {exc}"
        ) from exc
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise RequestError(f"Expected a request with a model in {path}")
    return body


def _as_sdk_request(body: dict[str, Any]) -> dict[str, Any]:
    """Bring a DashScope HTTP body back to the arguments of its SDK."""
    if "input" not in body:
        return body
    return {
        "model": body["model"],
        "messages": body["input"].get("messages", []),
        **body.get("parameters", {}),
    }


def _predicted_tokens(request: dict[str, Any], profile: ModelProfile) -> int:
    """Count the images that a request carries, from the headers in its data URIs."""
    extra = request.get("extra_body", {})
    is_high = bool({**request, **extra}.get("vl_high_resolution_images"))
    total = 0
    for address in _addresses(request):
        try:
            info = probe(address)
        except (ImageError, SourceError):
            continue  # an address that only the server reads
        total += billed_tokens(
            info.height, info.width, profile, high_resolution=is_high
        )
    return total


def _addresses(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _addresses(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _addresses(item)
    elif isinstance(value, str) and value.startswith("data:image/"):
        yield value


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shortened(item) for item in value]
    if isinstance(value, str) and value.startswith("data:") and len(value) > 80:
        return f"{value[:60]}… ({len(value):,} characters)"
    return value


def _write(
    image: PreparedImage, folder: Path, taken: set[Path], *, overwrite: bool
) -> None:
    """Write a prepared image under its own name, with the suffix of its content."""
    suffix = {"image/jpeg": ".jpg", "image/png": ".png"}.get(
        image.media_type, Path(image.name).suffix
    )
    stem = Path(image.name).stem or "image"
    path = folder / f"{stem}{suffix}"
    number = 2
    while path in taken:  # two inputs of one name from two folders
        path = folder / f"{stem}-{number}{suffix}"
        number += 1
    if path.exists() and not overwrite:
        raise SourceError(f"{path} exists already; --overwrite replaces it")
    taken.add(path)
    _write_file(path, image.data)


def _write_file(path: Path, data: bytes) -> None:
    """Write all or nothing: a reader never finds half a file under the name."""
    half = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        half.write_bytes(data)
        half.replace(path)
    except OSError as exc:
        half.unlink(missing_ok=True)
        raise SourceError(f"Writing {path} failed: {exc.strerror}") from exc
