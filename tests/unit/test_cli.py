"""The command line: data on stdout, talk on stderr, a status, and no traceback."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from qwenvl_prep import list_models, validate

COMMANDS = (
    "bench",
    "check",
    "cost",
    "count",
    "fit",
    "models",
    "prepare",
    "probe",
    "reconcile",
    "request",
    "send",
    "tiles",
    "video",
)
PATH = os.pathsep.join(entry for entry in sys.path if entry)


@pytest.fixture
def folder(tmp_path, photo, encoded) -> Path:
    """Give a folder as people have them: pictures, a document, hidden files."""
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (512, 512)), "PNG"))
    (tmp_path / "b.jpg").write_bytes(encoded(Image.new("RGB", (1280, 1280)), "JPEG"))
    (tmp_path / "notes.txt").write_bytes(b"not a picture at all\n")
    (tmp_path / ".c.png").write_bytes(encoded(photo, "PNG"))
    (tmp_path / ".hidden" / "d.png").write_bytes(encoded(photo, "PNG"))
    (tmp_path / "sub" / "a.png").write_bytes(encoded(photo, "PNG"))
    return tmp_path


@pytest.fixture
def png(tmp_path, photo, encoded) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(photo, "PNG"))
    return path


@pytest.fixture
def broken(tmp_path, photo, encoded) -> Path:
    path = tmp_path / "broken.jpg"
    path.write_bytes(encoded(photo, "JPEG")[:-300])
    return path


# ----------------------------------------------------------------- the seed's table


def test_worked_table_of_the_provider(run, folder):
    """512² costs 326, 1280² costs 1227, and 2118 with high resolution."""
    seen = run("count", "--json", folder / "a.png", folder / "b.jpg")
    assert [line["tokens"] for line in seen.lines] == [326, 1227]
    high = run("count", "--json", "--high-resolution", folder / "b.jpg")
    assert [line["tokens"] for line in high.lines] == [2118]


def test_count_keeps_a_cap_as_prepare_does(run, folder):
    """The number under a cap is that of the prepared image; a cap too small is told."""
    seen = run("count", "--json", "--max-tokens", 400, folder / "b.jpg")
    made = run("prepare", "--json", "--max-tokens", 400, folder / "b.jpg")
    assert seen.lines[0]["tokens"] == made.lines[0]["tokens"] == 402
    assert run("count", "--max-tokens", 3, folder / "b.jpg").code == 2


def test_how_many_fit_is_the_provider_s_figure(run, folder):
    """25 images of 1280² fit the maximum input, 14 with high resolution."""
    many = [folder / "b.jpg"] * 26
    default = run("fit", "--json", *many)
    assert default.code == 1
    record = default.lines[0]
    assert (record["fits"], record["fitting_images"]) == (False, 25)
    assert (record["total"], record["limit"]) == (26 * 1227 + 19, 30_720)
    high = run("fit", "--json", "--high-resolution", *many)
    assert high.lines[0]["fitting_images"] == 14
    exact = run("fit", "--json", *many[:25])
    assert (exact.code, exact.lines[0]["fits"]) == (0, True)
    assert exact.lines[0]["total"] == 30_694


def test_text_counts_in_the_budget(run, folder):
    """25 images leave 25 tokens; a text of 26 digits is too long."""
    many = [folder / "b.jpg"] * 25
    assert run("fit", *many, "-t", "1" * 25).code == 0
    refused = run("fit", *many, "-t", "1" * 26)
    assert refused.code == 1
    assert "30,720" in refused.err
    assert run("fit", *many, "-t", "1" * 90, "--text-tokens", "25").code == 0
    assert run("fit", *many, "--reserve", "25").code == 0
    assert run("fit", *many, "--reserve", "26").code == 1


# ----------------------------------------------------------------------------- help


def test_help_names_every_command(run):
    """--help lists all commands; each has its own help, and both leave with 0."""
    seen = run("--help")
    assert seen.code == 0
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", seen.out, re.MULTILINE)
        assert run(command, "--help").code == 0 or command == "bench"
    assert run("-h").out == seen.out


def test_version_is_told(run):
    """--version names the program and its version."""
    from qwenvl_prep import __version__

    assert __version__ in run("--version").out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["count"],
        ["count", "--nonsense", "x"],
        ["prepare", "x.png", "--quality", "96"],
        ["prepare", "x.png", "--max-tokens", "0"],
        ["prepare", "x.png", "--max-bytes", "-1"],
        ["prepare", "x.png", "--encoding", "gif"],
        ["prepare", "x.png", "--workers", "0"],
        ["request", "x.png", "--wire", "telegraph"],
        ["send"],
        ["send", "--request", "no-such-file.json"],
        ["count", "x.png", "-m", "qwen-vl-plus", "--high-resolution"],
    ],
    ids=" ".join,
)
def test_wrong_usage_leaves_with_two(run, words):
    """A wrong call is told on stderr with status 2, and nothing is on stdout."""
    seen = run(*words)
    assert seen.code == 2
    assert seen.out == ""
    assert seen.err


def test_cap_below_the_models_least_is_wrong_usage(run, png):
    """--max-tokens 1 once ended in a traceback from a worker."""
    for command in ("prepare", "request"):
        seen = run(command, png, "--max-tokens", "1")
        assert seen.code == 2
        assert "at least 4" in seen.err


def test_unknown_model_suggests_near_names(run, png):
    """A mistyped model is wrong usage, and the nearest names are told."""
    for command in ("count", "check", "prepare", "fit", "request"):
        seen = run(command, png, "-m", "qwen-vl-mx")
        assert seen.code == 2
        assert "did you mean qwen-vl-max" in seen.err
    assert run("models", "qwen-vl-mx").code == 2


# ------------------------------------------------------------------------- commands


def test_count_shows_a_table_and_the_sum(run, folder):
    """Without --json there is a table on stdout and the sum on stderr."""
    seen = run("count", folder / "a.png", folder / "b.jpg")
    assert seen.code == 0
    assert re.search(r"a\.png +512×512 +326", seen.out)
    assert re.search(r"b\.jpg +1280×1280 +1,227", seen.out)
    assert "1,553" in seen.err
    assert "30,720" in seen.err
    assert run("count", "-q", folder / "a.png").err == ""


def test_probe_tells_the_header(run, png):
    """Probe gives the header's fields, as a table and as JSON."""
    record = run("probe", "--json", png).lines[0]
    assert record["file"] == str(png)
    assert (record["format"], record["media_type"]) == ("PNG", "image/png")
    assert (record["height"], record["width"]) == (90, 120)
    assert "png" in run("probe", png).out.lower()


def test_check_tells_findings(run, tmp_path, photo, encoded, png):
    """Check lists every finding with its code, and leaves with 1 if one is illegal."""
    gif = tmp_path / "small.gif"
    gif.write_bytes(encoded(photo.resize((10, 50)), "GIF"))
    assert run("check", png).code == 0
    seen = run("check", "--json", png, gif, tmp_path / "none.png")
    assert seen.code == 1
    legal, small, missing = seen.lines
    assert (legal["is_legal"], legal["findings"]) == (True, [])
    codes = [finding["code"] for finding in small["findings"]]
    assert codes == ["side-too-small", "format-not-accepted"]
    assert (small["findings"][0]["actual"], small["findings"][0]["limit"]) == (10, 11)
    assert not small["is_mendable"]
    assert missing["findings"][0]["code"] == "unreadable-source"
    table = run("check", png, gif)
    assert "side-too-small" in table.out
    assert run("check", gif, "-m", "qwen3-vl-plus").code == 1


def test_models_are_listed(run):
    """Every model has its line, and one model has all its fields."""
    names = [model.name for model in list_models()]
    seen = run("models")
    assert all(name in seen.out for name in names)
    assert [line["name"] for line in run("models", "--json").lines] == names
    record = run("models", "qwen-vl-max", "--json").lines[0]
    assert (record["factor"], record["max_input_tokens"]) == (28, 30_720)
    assert "qwen3-vl-plus" in run("models", "qwen-vl-max").out


def test_prepare_shows_what_would_be_sent(run, folder):
    """Prepare without -o writes nothing and tells sizes, tokens and changes."""
    before = sorted(folder.rglob("*"))
    seen = run("prepare", "--json", folder / "a.png", folder / "b.jpg")
    assert seen.code == 0
    kept, resized = seen.lines
    assert (kept["tokens"], resized["tokens"]) == (326, 1227)
    assert (resized["height"], resized["width"]) == (980, 980)
    assert "data_uri" not in kept
    assert sorted(folder.rglob("*")) == before
    assert "kept" in run("prepare", folder / "a.png").out


def test_prepare_gives_data_uris_when_asked(run, png):
    """--json --data-uri adds the URI whole."""
    record = run("prepare", "--json", "--data-uri", png).lines[0]
    head, body = record["data_uri"].split(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body) == png.read_bytes()


def test_prepare_options_reach_the_work(run, folder):
    """Cap, bytes, encoding and workers do what they say."""
    wide = folder / "b.jpg"
    words = ("--max-tokens", "100", "--encoding", "png", "--workers", "2")
    record = run("prepare", "--json", *words, wide).lines[0]
    assert record["tokens"] <= 102
    assert record["media_type"] == "image/png"
    seen = run("prepare", "--max-bytes", "100", wide)
    assert seen.code == 1
    assert "100" in seen.err


def test_prepare_writes_files(run, folder):
    """-o writes each file under its own name, with the suffix of its content."""
    out = folder / "out" / "deep"
    seen = run("prepare", folder / "a.png", folder / "b.jpg", "-o", out)
    assert seen.code == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png"]
    for path in out.iterdir():
        assert validate(path).findings == ()
    assert (out / "a.png").read_bytes() == (folder / "a.png").read_bytes()


def test_a_profile_s_name_is_no_markup(run, photo, encoded, tmp_path):
    """A stranger's words are shown, and steer neither table nor terminal."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"swap"), (b"gXYZ", b"rXYZ"), (b"swap", b"gXYZ")):
        profile = profile.replace(old, new)
    name = "[/x]".encode("utf-16-be")
    profile = profile.replace("sRGB".encode("utf-16-be"), name)
    path = tmp_path / "strange.png"
    path.write_bytes(encoded(photo, "PNG", icc_profile=profile))
    seen = run("prepare", path)
    assert seen.code == 0
    assert "[/x] built-in → sRGB" in seen.out


def test_prepare_refuses_to_overwrite(run, png, tmp_path):
    """A file that is there already stays, unless --overwrite is given."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "photo.png").write_bytes(b"mine")
    seen = run("prepare", png, "-o", out)
    assert seen.code == 1
    assert "--overwrite" in seen.err
    assert (out / "photo.png").read_bytes() == b"mine"
    record = run("prepare", "--json", png, "-o", out).lines[0]
    assert record["error"] == "SourceError"
    assert run("prepare", png, "-o", out, "--overwrite").code == 0
    assert (out / "photo.png").read_bytes() == png.read_bytes()
    assert [path.name for path in out.iterdir()] == ["photo.png"]


def test_two_files_of_one_name_are_both_written(run, folder):
    """a.png of two folders become a.png and a-2.png, in the order given."""
    out = folder / "out"
    run("prepare", folder / "sub" / "a.png", folder / "a.png", "-o", out)
    assert sorted(path.name for path in out.iterdir()) == ["a-2.png", "a.png"]
    assert (out / "a.png").read_bytes() == (folder / "sub" / "a.png").read_bytes()
    assert (out / "a-2.png").read_bytes() == (folder / "a.png").read_bytes()


def test_written_suffix_belongs_to_the_content(run, tmp_path, photo, encoded):
    """A WebP named .jpg is written as .webp; the misleading name once was kept."""
    lying = tmp_path / "photo.jpg"
    lying.write_bytes(encoded(photo, "WEBP"))
    run("prepare", lying, "-o", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["photo.webp"]


@pytest.mark.parametrize("command", ["prepare", "request"])
def test_output_that_cannot_be_written_is_refused(run, command, png, tmp_path):
    """A file in the way of a folder once ended in a traceback."""
    blocked = tmp_path / "blocked"
    blocked.write_bytes(b"")
    words = ["-t", "hi"] if command == "request" else []
    for output in (blocked / "sub", blocked / "sub" / "deep"):
        seen = run(command, png, *words, "-o", output)
        assert seen.code == 1
        assert "Writing" in seen.err
    if command == "prepare":
        assert run(command, png, "-o", blocked).code == 2
    else:
        assert run(command, png, *words, "-o", tmp_path).code == 1
        assert run(command, png, *words, "-o", ".").code == 1
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


# --------------------------------------------------------------------------- inputs


def test_folders_are_walked_in_order(run, folder):
    """A folder gives its pictures, sorted; hidden ones and documents stay out."""
    seen = run("count", "--json", folder)
    names = [Path(line["file"]).relative_to(folder) for line in seen.lines]
    assert names == [Path("a.png"), Path("b.jpg"), Path("sub", "a.png")]
    assert seen.code == 0
    assert "notes.txt" in seen.err
    assert "notes.txt" not in run("count", "-q", folder).err


def test_document_named_on_its_own_is_refused(run, folder):
    """In a folder a document is left out; named by its own it is an error."""
    seen = run("count", folder / "notes.txt", folder / "a.png")
    assert seen.code == 1
    assert "notes.txt" in seen.err
    assert "326" in seen.out


def test_damaged_picture_in_a_folder_is_not_left_out(run, broken):
    """A broken picture is still a picture: it is refused, not passed over."""
    seen = run("prepare", "--json", broken.parent)
    assert seen.code == 1
    assert [line["error"] for line in seen.lines] == ["DamagedImageError"]


def test_folder_without_pictures_is_wrong_usage(run, tmp_path):
    """Nothing to do is told, not passed over."""
    (tmp_path / "notes.txt").write_bytes(b"words\n")
    seen = run("count", tmp_path)
    assert seen.code == 2
    assert "no picture" in seen.err


def test_stdin_is_an_input(run, png):
    """A single - reads the image from stdin."""
    seen = run("count", "--json", "-", stdin=png.read_bytes())
    assert [(line["file"], line["tokens"]) for line in seen.lines] == [("stdin", 14)]
    assert run("prepare", "-", stdin=b"").code == 1


def test_data_uri_is_an_input(run, png):
    """A data URI on the command line is read, however long its parts are."""
    uri = "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode()
    record = run("count", "--json", uri).lines[0]
    assert (record["file"], record["tokens"]) == ("data URI", 14)
    # One part longer than a file's name may be once was an OSError.
    long = run("count", "x" * 5_000)
    assert long.code == 1


@pytest.mark.parametrize("word", ["", "https://a.org/b.png", "data:image/png,abc"])
def test_inputs_refused_early_are_told_too(run, png, word):
    """What is refused before it is read stands in the JSON and on stderr as well."""
    seen = run("count", "--json", word, png)
    assert seen.code == 1
    assert sorted("error" in line for line in seen.lines) == [False, True]
    talked = run("prepare", word, png)
    assert talked.code == 1
    assert "refused" in talked.err


def test_one_refusal_does_not_stop_the_others(run, png, broken, tmp_path):
    """Good inputs are done, bad ones listed with their reason, and the status is 1."""
    words = (broken, png, tmp_path / "none.png")
    seen = run("prepare", *words, "-o", tmp_path / "out")
    assert seen.code == 1
    assert (tmp_path / "out" / "photo.png").is_file()
    assert "broken.jpg" in seen.err
    assert "none.png" in seen.err
    lines = run("prepare", "--json", *words).lines
    assert [line.get("error") for line in lines] == [
        "DamagedImageError",
        None,
        "SourceError",
    ]


def test_markup_and_controls_in_names_do_nothing(run, tmp_path, photo, encoded):
    """A name with brackets and escapes is shown as it is, and acts on nothing."""
    path = tmp_path / "[red]x[bold].\x1b[31mpng"
    path.write_bytes(encoded(photo, "PNG"))
    seen = run("count", path)
    assert "[red]x[bold]" in seen.out
    assert "\x1b" not in seen.out
    broken = tmp_path / "[bold]\x1b]0;title\x07"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "\x1b" not in run("count", broken).err


# -------------------------------------------------------------------------- requests


def test_request_of_the_openai_wire(run, png):
    """The body parses and has the form of the OpenAI-compatible API."""
    words = ("-t", "What?", "--system", "Be short.", "--stream", "--high-resolution")
    seen = run("request", png, *words)
    assert seen.code == 0
    body = json.loads(seen.out)
    assert body["model"] == "qwen-vl-max"
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert body["vl_high_resolution_images"] is True
    system, user = body["messages"]
    assert system["content"] == [{"type": "text", "text": "Be short."}]
    image, text = user["content"]
    assert image["type"] == "image_url"
    uri = "data:image/png;base64," + base64.b64encode(png.read_bytes()).decode()
    assert image["image_url"] == {"url": uri}
    assert text == {"type": "text", "text": "What?"}


def test_request_of_the_dashscope_wire(run, png):
    """The body parses and has the form of DashScope's own API."""
    words = ("-t", "What?", "--wire", "dashscope", "--high-resolution")
    body = json.loads(run("request", png, *words).out)
    image, text = body["input"]["messages"][0]["content"]
    assert image["image"].startswith("data:image/png;base64,")
    assert text == {"text": "What?"}
    assert body["parameters"]["vl_high_resolution_images"] is True


def test_request_takes_addresses(run):
    """An address is handed on as it is; the server fetches it."""
    body = json.loads(run("request", "https://a.org/b.png", "-t", "What?").out)
    part = body["messages"][0]["content"][0]
    assert part["image_url"] == {"url": "https://a.org/b.png"}


def test_request_is_written_to_a_file(run, png, tmp_path):
    """-o writes the JSON whole and says so; stdout stays empty."""
    path = tmp_path / "deep" / "request.json"
    seen = run("request", png, "-t", "图中描绘的是什么?", "-o", path)
    assert (seen.code, seen.out) == (0, "")
    body = json.loads(path.read_bytes())
    assert body["messages"][0]["content"][1]["text"] == "图中描绘的是什么?"
    assert [one.name for one in path.parent.iterdir()] == ["request.json"]


def test_request_with_arguments_for_the_sdk(run, png):
    """--sdk gives keyword arguments, where the flag goes through extra_body."""
    seen = run("request", png, "-t", "x", "--sdk", "--high-resolution")
    assert json.loads(seen.out)["extra_body"] == {"vl_high_resolution_images": True}


def test_request_of_a_video(run, png):
    """Four frames are one video; fewer are refused."""
    seen = run("request", *[png] * 4, "--video", "-t", "What?")
    part = json.loads(seen.out)["messages"][0]["content"][0]
    assert part["type"] == "video"
    assert len(part["video"]) == 4
    assert run("request", *[png] * 3, "--video", "-t", "What?").code == 1


def test_request_refuses_what_does_not_fit(run, folder, broken):
    """A refused image or a full budget writes no request."""
    seen = run("request", broken, "-t", "x")
    assert (seen.code, seen.out) == (1, "")
    full = run("request", *[folder / "b.jpg"] * 26, "-t", "x")
    assert (full.code, full.out) == (1, "")
    assert "30,720" in full.err


def test_request_takes_any_argument_for_text(spawn, tmp_path, png):
    """A text that is no UTF-8 is refused or written as JSON, without a traceback."""
    if os.name != "posix":
        pytest.skip("arguments are text here")
    path = tmp_path / "request.json"
    seen = spawn("request", png, "-t", os.fsdecode(b"caf\xe9"), "-o", path)
    assert seen.code in {0, 1, 2}
    if seen.code == 0:
        json.loads(path.read_bytes())


def test_send_without_a_key_is_wrong_usage(run, png):
    """No key is found before any image is prepared, and the variable is named."""
    seen = run("send", png, "-t", "What?")
    assert seen.code == 2
    assert "DASHSCOPE_API_KEY" in seen.err
    assert run("send", png, "--request", png).code == 2


def test_send_refuses_a_file_that_is_no_request(run, tmp_path):
    """A file that is not JSON, or no request, is refused with its name."""
    path = tmp_path / "request.json"
    for text in ("", "[]", "{}", '{"model": 3}', "\x00"):
        path.write_text(text, encoding="utf-8")
        seen = run("send", "--request", path)
        assert seen.code in {1, 2}
        assert "request.json" in seen.err


def test_send_that_reaches_nobody_leaves_with_three(run, png, monkeypatch):
    """A network that is not there is status 3, and the key is in no output."""
    monkeypatch.setenv("NO_PROXY", "*")
    original = run

    def with_key(*words):
        monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-canary-4711")
        return original(*words)

    base = "http://127.0.0.1:9/v1"  # the discard port, where nobody listens
    seen = with_key("send", png, "-t", "x", "--base-url", base, "--timeout", "2")
    assert seen.code == 3
    assert "sk-canary-4711" not in seen.out + seen.err


# ------------------------------------------------------------------- real processes


def test_process_separates_data_and_talk(spawn, folder):
    """In a real process stdout is data alone, stderr is talk, the status is 1."""
    seen = spawn("count", "--json", folder, folder / "notes.txt")
    assert seen.code == 1
    assert [line.get("tokens") for line in seen.lines] == [326, 1227, 14, None]
    assert "1,567" in seen.err
    assert "tokens" not in spawn("count", "--json", "-q", folder).err


def test_no_colour_where_there_is_no_terminal(spawn, folder, broken):
    """Piped output has no escapes; NO_COLOR keeps them out even if colour is forced."""
    plain = spawn("prepare", folder, broken)
    assert "\x1b" not in plain.out + plain.err
    silent = spawn("prepare", folder, broken, NO_COLOR="1", TERM="xterm-256color")
    assert "\x1b[31m" not in silent.out + silent.err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict"])
def test_any_encoding_of_the_terminal_works(spawn, folder, encoding):
    """A terminal that cannot say × or a file's name gets a substitute."""
    if os.name == "posix":
        strange = folder / os.fsdecode(b"\xff\xfe.png")
        strange.write_bytes((folder / "a.png").read_bytes())
    for words in (("count",), ("count", "--json"), ("prepare",), ("check",)):
        seen = spawn(*words, folder, PYTHONIOENCODING=encoding)
        assert seen.code == 0
        assert "326" in seen.out or words[0] == "check"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_full_disk_behind_stdout_is_told(folder):
    """An output that cannot be written ends with status 1 and one line."""
    for words in (["models"], ["count", "--json", str(folder)]):
        with open("/dev/full", "w") as full:  # noqa: PTH123
            done = subprocess.run(
                [sys.executable, "-m", "qwenvl_prep", *words],
                stdout=full,
                stderr=subprocess.PIPE,
                timeout=60,
                env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": PATH},
                check=False,
            )
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_closed_streams_are_no_crash(folder):
    """A reader that leaves early, and a closed stdin, end without a traceback."""
    python = f"{sys.executable} -m qwenvl_prep"
    for line in (
        f"{python} models --json | head -1",
        f"{python} models | head -1",
        f"{python} count - <&-",
        f"{python} count '{folder}' >&-",
    ):
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            capture_output=True,
            timeout=60,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": PATH},
            check=False,
        )
        assert b"Traceback" not in done.stderr, (line, done.stderr)


def test_large_folder_is_prepared_in_order(run, tmp_path):
    """Forty pictures on four threads come out in the order of their names."""
    for index in range(40):
        array = np.full((40, 40 + index, 3), index, np.uint8)
        Image.fromarray(array).save(tmp_path / f"{index:02}.png")
    lines = run("prepare", "--json", "--workers", "4", tmp_path).lines
    assert [Path(line["file"]).stem for line in lines] == [
        f"{index:02}" for index in range(40)
    ]


def test_broken_pictures_in_a_folder_are_never_left_out(run, png, tmp_path):
    """An empty or broken .jpg was once skipped as "no picture", with exit 0."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "good.png").write_bytes(png.read_bytes())
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "page.png").write_bytes(b"<html>404</html>")
    (folder / "notes.txt").write_bytes(b"hello")
    seen = run("count", folder, "--json")
    assert seen.code == 1
    records = {Path(r["file"]).name: r for r in map(json.loads, seen.out.splitlines())}
    assert sorted(records) == ["empty.jpg", "good.png", "page.png"]
    assert records["empty.jpg"]["error"] == "NotAnImageError"
    assert "Left out 1 file that no picture is in: notes.txt" in seen.err


def test_originals_are_never_overwritten(run, photo, tmp_path):
    """Preparing a folder into itself once replaced the originals."""
    folder = tmp_path / "own"
    folder.mkdir()
    original = folder / "large.jpg"
    photo.resize((1600, 1600)).save(original, quality=90)
    before = original.read_bytes()
    seen = run("prepare", folder, "-o", folder, "--overwrite")
    assert seen.code == 1
    assert "is an original" in seen.err
    assert original.read_bytes() == before


def test_written_path_stands_in_the_json(run, photo, tmp_path):
    """A script can tell which output belongs to which input."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        photo.save(tmp_path / name / "same.png")
    seen = run(
        "prepare", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "o", "--json"
    )
    records = [json.loads(line) for line in seen.out.splitlines()]
    assert [Path(record["output"]).name for record in records] == [
        "same.png",
        "same-2.png",
    ]
    assert all(Path(record["output"]).exists() for record in records)


def test_refused_picture_makes_no_request_and_says_so(run, png, tmp_path):
    """Whoever waits for a file has to be told that there is none."""
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    seen = run("request", png, bad, "-t", "hi", "-o", tmp_path / "request.json")
    assert seen.code == 1
    assert "No request was made: 1 of 2 images refused." in seen.err
    assert not (tmp_path / "request.json").exists()


def test_request_file_takes_no_other_options(run, png, tmp_path, monkeypatch):
    """Options beside --request were once ignored in silence."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-loopback")
    written = tmp_path / "request.json"
    assert run("request", png, "-t", "hi", "-o", written).code == 0
    seen = run("send", "--request", written, "-t", "something else")
    assert seen.code == 2
    assert "--text belongs to the request command" in seen.err


def test_retired_model_is_told_of(run, png):
    """The default name is billed by another rule today; nobody should find that out
    on a bill.
    """
    assert "qwen3-vl-plus" in run("count", png).err
    assert "qwen3-vl-plus" not in run("count", png, "-m", "qwen3-vl-flash").err
    assert run("count", png, "-q").err == ""


def test_base64_without_its_head_is_explained_in_short(run):
    """A bare base64 text once came back whole in the message."""
    seen = run("count", "QUJD" * 50_000)
    assert seen.code == 1
    assert "if they are base64" in seen.err
    assert len(seen.err) < 1_000


# -------------------------------------------------------------- options of preparing


@pytest.fixture
def veiled(tmp_path) -> Path:
    """Give a PNG that is clear above and red below."""
    pixels = np.zeros((112, 112, 4), np.uint8)
    pixels[56:] = (200, 0, 0, 255)
    path = tmp_path / "veiled.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def moving(tmp_path) -> Path:
    """Give a GIF of three plain frames."""
    first, *others = (Image.new("L", (56, 84), level) for level in (0, 100, 200))
    path = tmp_path / "moving.gif"
    first.save(path, save_all=True, append_images=others)
    return path


def written(folder: Path) -> np.ndarray:
    """Decode the only file that was written."""
    (path,) = folder.iterdir()
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    ("words", "colour"),
    [
        ([], (255, 255, 255)),
        (["--background", "white"], (255, 255, 255)),
        (["--background", "black"], (0, 0, 0)),
        (["--background", "#336699"], (0x33, 0x66, 0x99)),
    ],
)
def test_background_is_that_asked_for(run, veiled, tmp_path, words, colour):
    """White unless another colour is given, and the record says which."""
    out = tmp_path / "out"
    seen = run("prepare", "--json", veiled, "--encoding", "png", "-o", out, *words)
    assert seen.code == 0
    told = {(255, 255, 255): "white", (0, 0, 0): "black"}.get(colour, "#336699")
    assert f"flattened on {told}" in seen.lines[0]["changes"]
    pixels = written(out)
    assert pixels[0, 0].tolist() == list(colour)
    assert pixels[-1, 0].tolist() == [200, 0, 0]


@pytest.mark.parametrize("command", ["prepare", "request"])
@pytest.mark.parametrize("word", ["red", "#fff", "", "255,255,255", "#gggggg", "White"])
def test_bad_background_is_wrong_usage(run, command, word, veiled, tmp_path):
    """It is told before any file is read, and nothing is written."""
    out = tmp_path / "out"
    for name in (veiled, tmp_path / "not-there.png"):
        seen = run(command, name, "--background", word, "-o", out)
        assert seen.code == 2
        assert seen.out == ""
        assert "for background but received" in seen.err
        assert repr(word) in seen.err
    assert not out.exists()


@pytest.mark.parametrize(
    "words",
    [
        ["--chroma", "4:1:1"],
        ["--color", "adobe"],
        ["--frame", "-1"],
        ["--frame", "first"],
        ["--on-truncated", "ignore"],
        ["--fidelity", "slow"],
        ["--quality", "0"],
        ["--strip-metadata=yes"],
        ["--report", "--background"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("command", ["prepare", "request"])
def test_bad_options_of_preparing_are_wrong_usage(run, command, words, png, tmp_path):
    """Each is refused with status 2, and nothing is on stdout."""
    out = tmp_path / "out"
    seen = run(command, png, "-o", out, *words)
    assert seen.code == 2
    assert seen.out == ""
    assert seen.err
    assert not out.exists()


def test_prepare_frame(run, moving, png, tmp_path):
    """--frame picks one; a file without it is refused, and stops no other."""
    out = tmp_path / "out"
    words = ("prepare", "--json", "--encoding", "png", "--frame", "2")
    seen = run(*words, moving, png, "-o", out)
    assert seen.code == 1
    picked, missing = seen.lines
    assert picked["changes"][0] == "frame 2 of 3 frames, counted from 0"
    assert (picked["media_type"], picked["tokens"]) == ("image/png", 8)
    assert missing["error"] == "FrameError"
    assert missing["file"] == str(png)
    assert (written(out) == 200).all()
    unasked = run("prepare", "--json", moving).lines[0]
    assert unasked["changes"][0] == "first of 3 frames"


def test_probe_frame(run, moving, png, tmp_path):
    """Probe tells how many there are, and refuses a number that is none."""
    record = run("probe", "--json", moving).lines[0]
    assert (record["n_frames"], record["height"], record["width"]) == (3, 84, 56)
    pages = tmp_path / "pages.tif"
    first, second = Image.new("L", (30, 40)), Image.new("RGB", (50, 60))
    first.save(pages, save_all=True, append_images=[second])
    record = run("probe", "--json", "--frame", "1", pages).lines[0]
    assert (record["height"], record["width"]) == (60, 50)
    assert (record["channels"], record["n_frames"]) == (3, 2)
    seen = run("probe", "--json", "--frame", "1", pages, png)
    assert seen.code == 1
    assert [line.get("error") for line in seen.lines] == [None, "FrameError"]
    table = run("probe", "--frame", "3", moving)
    assert table.code == 1
    assert "moving.gif" in table.err
    for word in ("-1", "x", "1.5"):
        wrong = run("probe", "--frame", word, moving)
        assert (wrong.code, wrong.out) == (2, "")


def test_report_of_kept_files(run, png):
    """What is kept has no PSNR, as JSON has no infinity, and an SSIM of one."""
    record = run("prepare", "--json", "--report", png).lines[0]
    assert record["is_kept"] is True
    assert (record["psnr"], record["ssim"]) == (None, 1.0)
    assert "Infinity" not in run("prepare", "--json", "--report", png).out
    plain = run("prepare", "--json", png).lines[0]
    assert not {"psnr", "ssim"} & set(plain)
    assert "the same pixels" in " ".join(run("prepare", "--report", png).out.split())


def test_report_of_encoded_files(run, png, tmp_path):
    """The figures are those of what was written, in JSON and in the table."""
    out = tmp_path / "out"
    words = ("prepare", "--report", "--encoding", "jpeg", "--quality", "40")
    record = run(*words, "--json", png, "-o", out).lines[0]
    with Image.open(png) as image:
        size = (record["width"], record["height"])
        exact = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC))
    error = np.square(written(out).astype(float) - exact).mean()
    assert record["psnr"] == pytest.approx(10 * np.log10(255**2 / error))
    assert 0.5 < record["ssim"] < 1
    told = f"PSNR {record['psnr']:.1f} dB, SSIM {record['ssim']:.4f}"
    assert told in " ".join(run(*words, png).out.split())


def test_fast_is_told(run, tmp_path):
    """--fidelity fast decodes a large JPEG at a part of its size, and says so."""
    path = tmp_path / "large.jpg"
    Image.linear_gradient("L").resize((1600, 1200)).save(path)
    words = ("prepare", "--json", "--max-tokens", "60", path)
    fast = run(*words, "--fidelity", "fast").lines[0]
    exact = run(*words, "--fidelity", "exact").lines[0]
    assert fast["changes"][0] == "decoded at 1/4"
    assert exact["changes"] == fast["changes"][1:]
    for name in ("height", "width", "tokens", "media_type"):
        assert exact[name] == fast[name]


@pytest.mark.parametrize("encoding", ["webp", "webp-lossless"])
def test_webp_is_written_as_webp(run, encoding, png, tmp_path):
    """The suffix is that of the type that was asked for."""
    out = tmp_path / "out"
    seen = run("prepare", "--json", "--encoding", encoding, png, "-o", out)
    assert seen.code == 0
    assert seen.lines[0]["media_type"] == "image/webp"
    assert [path.name for path in out.iterdir()] == ["photo.webp"]
    with Image.open(out / "photo.webp") as image:
        assert image.format == "WEBP"
    assert validate(out / "photo.webp").findings == ()


def test_quality_and_chroma_reach_the_work(run, png):
    """The last change says how it was encoded."""
    words = ("prepare", "--json", "--encoding", "jpeg", png)
    record = run(*words, "--quality", "41", "--chroma", "4:2:2").lines[0]
    assert record["changes"][-1] == "re-encoded JPEG 41 4:2:2"


@pytest.fixture
def personal(tmp_path, photo) -> Path:
    """Give a JPEG that says who made it."""
    tags = Image.Exif()
    tags[0x010F] = "canary-9b2e"
    path = tmp_path / "personal.jpg"
    photo.save(path, exif=tags, comment=b"canary-9b2e")
    return path


def test_metadata_is_removed_on_demand(run, personal, tmp_path):
    """--strip-metadata takes it out of kept files too; the pixels stay."""
    for words, is_bare in (([], False), (["--strip-metadata"], True)):
        for encoding in ("auto", "keep"):
            out = tmp_path / f"out-{encoding}-{is_bare}"
            seen = run(
                *("prepare", "--json", "--encoding", encoding, *words),
                *(personal, "-o", out),
            )
            assert seen.code == 0
            record = seen.lines[0]
            assert record["is_kept"] is True
            assert record["changes"] == ["metadata removed"] * is_bare
            data = (out / "personal.jpg").read_bytes()
            assert (b"canary" in data) is not is_bare
            assert record["encoded_size"] == len(data)
            with Image.open(personal) as image:
                assert np.array_equal(written(out), np.asarray(image))


def test_keep_refuses_what_it_cannot_send(run, moving, png):
    """A GIF is not legal as it is: status 1, its name, and the others go on."""
    seen = run("prepare", "--json", "--encoding", "keep", moving, png)
    assert seen.code == 1
    assert seen.lines[0]["error"] == "IllegalImageError"
    assert seen.lines[1]["is_kept"] is True


def test_cut_off_pictures_are_accepted_on_demand(run, tmp_path, photo):
    """--on-truncated accept sends what arrived, and says what is missing."""
    path = tmp_path / "cut.jpg"
    photo.resize((600, 450)).save(path, quality=95)
    path.write_bytes(path.read_bytes()[:-9000])
    assert run("prepare", path).code == 1
    assert run("prepare", path, "--on-truncated", "error").code == 1
    seen = run("prepare", "--json", path, "--on-truncated", "accept")
    assert seen.code == 0
    assert any("cut off" in change for change in seen.lines[0]["changes"])


def test_profile_is_applied_or_left(run, tmp_path, photo):
    """--color keep sends the numbers as they are, and so the file itself."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Red and green exchanged, so that it is no sRGB.
    profile = profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ")
    path = tmp_path / "wide.jpg"
    photo.save(path, icc_profile=profile.replace(b"????", b"gXYZ"))
    converted = run("prepare", "--json", path).lines[0]
    assert "sRGB built-in → sRGB" in converted["changes"]
    kept = run("prepare", "--json", "--color", "keep", path).lines[0]
    assert (kept["is_kept"], kept["changes"]) == (True, [])


def test_request_prepares_as_asked(run, veiled, moving, personal):
    """The options of preparing shape what stands in the request."""

    def images(*words) -> list[bytes]:
        seen = run("request", *words, "-t", "What?")
        assert seen.code == 0, seen
        *parts, _ = json.loads(seen.out)["messages"][0]["content"]
        uris = [part["image_url"]["url"].split(",") for part in parts]
        return [(head, base64.b64decode(body)) for head, body in uris]

    def shown(data: bytes) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    ((head, data),) = images(veiled, "--background", "black", "--encoding", "png")
    assert head == "data:image/png;base64"
    assert shown(data)[0, 0].tolist() == [0, 0, 0]
    ((head, data),) = images(moving, "--frame", "1", "--encoding", "webp-lossless")
    assert head == "data:image/webp;base64"
    assert (shown(data) == 100).all()
    ((_, data),) = images(personal)
    assert b"canary" in data
    ((_, data),) = images(personal, "--strip-metadata", "--encoding", "keep")
    assert b"canary" not in data
    ((_, data),) = images(veiled, "--encoding", "jpeg", "--chroma", "4:2:2")
    assert data[data.index(b"\xff\xc0") + 11] == 0x21


def test_request_with_a_frame_that_is_missing(run, moving, png):
    """One picture without that frame makes no request."""
    seen = run("request", moving, png, "--frame", "2", "-t", "What?")
    assert seen.code == 1
    assert seen.out == ""
    assert "No request was made: 1 of 2 images refused." in seen.err
    assert "photo.png" in seen.err


def test_request_tells_the_report(run, png):
    """The table beside the request has the figures, and the body has none."""
    words = ("request", png, "-t", "What?", "--report", "--encoding", "jpeg")
    seen = run(*words)
    assert "PSNR" in seen.err
    assert "SSIM" in seen.err
    assert "SSIM" not in seen.out


def test_what_keeping_leaves_as_it_is_is_told(run, photo, encoded, tmp_path):
    """Who keeps a sideways or transparent file is told what the model will see."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(encoded(photo, "JPEG", exif=exif))
    (tmp_path / "b.png").write_bytes(encoded(photo.convert("RGBA"), "PNG"))
    seen = run("prepare", tmp_path, "--encoding", "keep")
    assert "kept as it is, not upright for the model" in seen.out
    assert "kept as it is, transparent parts may arrive black" in seen.out
    mended = run("prepare", tmp_path)
    assert "for the model" not in mended.out
    assert "arrive black" not in mended.out


# ----------------------------------------------------------------- said to a person


def test_request_that_cannot_fit_is_refused_from_headers(run, tmp_path):
    """Pictures without their pixels show it: nothing is decoded before the refusal."""
    file = io.BytesIO()
    noise = np.random.default_rng(3).integers(0, 256, (1400, 1400), np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    path = tmp_path / "cut.png"
    path.write_bytes(file.getvalue()[:50_000])
    seen = run("request", *[path] * 26, "-t", "x")
    assert (seen.code, seen.out) == (1, "")
    assert "26 images with" in seen.err
    assert "qwenvl-prep fit --policy shrink shows the caps" in seen.err
    assert "policy='shrink'" not in seen.err
    # What fits is decoded, and refused for what it is; so is what is refused early.
    assert "1 of 1 image refused" in run("request", path, "-t", "x").err
    many = run("request", *[path] * 26, tmp_path / "none.png", "-t", "x")
    assert "27 of 27 images refused" in many.err


def test_request_is_prepared_where_its_bytes_may_lower_its_tokens(run, tmp_path):
    """--max-bytes makes pictures smaller, so that more of them fit than planned."""
    noise = np.random.default_rng(3).integers(0, 256, (1280, 1280, 3), np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(noise).save(path)
    few = ("-t", "x", "--max-bytes", 60_000, "-o", tmp_path / "body.json")
    assert run("fit", *[path] * 26).code == 1
    assert run("request", *[path] * 26, *few).code == 0


@pytest.mark.parametrize("text", [None, "no TOML [", "[model.x]\nfactor = 1\n"])
def test_a_file_of_models_that_is_not_sound_is_wrong_usage(
    run, png, tmp_path, monkeypatch, text
):
    """It is named by the environment, so no picture is at fault."""
    path = tmp_path / "models.toml"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("QWENVL_PREP_MODELS", str(path))
    seen = run("count", png, "-m", "my-own-model")
    assert (seen.code, seen.out) == (2, "")
    assert "models.toml" in seen.err


def test_names_of_models_keep_their_line(run, monkeypatch):
    """At 80 columns no name is broken, and the table is no wider."""
    from rich.console import Console

    def narrow(*, stderr=False):
        stream = sys.stderr if stderr else sys.stdout
        return Console(file=stream, width=80, highlight=False, emoji=False)

    monkeypatch.setattr("qwenvl_prep.cli_tables.console", narrow)
    lines = run("models").out.splitlines()
    assert max(map(len, lines)) <= 80
    names = [line.split()[0] for line in lines[2:]]
    assert names == [model.name for model in list_models()]


def test_check_says_what_it_does_not_read(run):
    """A file that is cut off in its pixels has a header that is whole."""
    assert "Only headers are read" in run("check", "--help").out


def test_check_speaks_of_size_only_where_size_matters(run, tmp_path):
    """No size of a picture makes a model take a type that it never takes."""
    small, large = tmp_path / "small.gif", tmp_path / "large.webp"
    Image.new("P", (60, 60)).save(small)
    Image.new("RGB", (4_000, 2_200)).save(large)
    words = ("-m", "qwen3-vl-plus", "--json")
    (finding,) = run("check", small, *words).lines[0]["findings"]
    assert "HEIF for qwen3-vl-plus but received GIF" in finding["message"]
    finding = run("check", large, *words).lines[0]["findings"][0]
    assert "PNG for qwen3-vl-plus at this size but received" in finding["message"]


def test_messages_use_the_words_of_the_command_line(run, broken, png):
    """No message asks a person for an argument of Python."""
    seen = run("prepare", broken)
    assert "qwenvl-prep prepare --on-truncated accept" in seen.err
    assert run("prepare", broken, "--on-truncated", "accept").code == 0
    assert "--on-truncated accept" in run("prepare", "--json", broken).out
    seen = run("prepare", "https://example.org/a.jpg")
    assert "hand it to qwenvl-prep request" in seen.err
    assert "count it with qwenvl-prep count --fetch" in seen.err
    seen = run("count", png, "-m", "zzzzzz")
    assert "see qwenvl-prep models. For one that is not listed, name a file" in seen.err
    seen = run("fit", *[png] * 30, "-t", "1" * 30_719)
    assert "shorten the text" in seen.err
    seen = run("fit", *[png] * 26, "--reserve", "30690")
    assert "Not even the first image fits; lower --max-tokens" in seen.err
    seen = run("count", "--fetch", "http://127.0.0.1:9/a.png")
    assert "--allow-private" in seen.err


@pytest.mark.parametrize("words", [(), ("--fetch",)])
def test_only_the_web_is_fetched(run, words):
    """An address of another kind is called one, not a file that is missing."""
    seen = run("count", "ftp://user:word@example.org/b.jpg?key=1", *words)
    assert (seen.code, seen.out) == (1, "")
    assert "Expected an http or https address" in seen.err
    assert "ftp://example.org/b.jpg" in seen.err
    assert "word" not in seen.err
    assert "key=1" not in seen.err
