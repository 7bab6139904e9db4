"""The commands about money: tables that fit, exact JSON, and a status that tells."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from PIL import Image

import qwenvl_prep as qp
from qwenvl_prep.text_tokens import text_tokens_of

if TYPE_CHECKING:
    from pathlib import Path

PLUS = "qwen3-vl-plus"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Give pictures of known sizes and a file that is none."""
    Image.new("RGB", (1280, 1280)).save(tmp_path / "a.png")
    Image.new("RGB", (512, 512)).save(tmp_path / "b.png")
    (tmp_path / "notes.txt").write_bytes(b"not a picture\n")
    return tmp_path


# ------------------------------------------------------------------------------ cost


def test_each_image_is_a_request(run, folder):
    """By default the question is asked of every image by itself."""
    seen = run("cost", folder, "--text-tokens", 10, "--output-tokens", 100, "--json")
    assert seen.code == 0, seen.err
    first = seen.lines[0]
    # The worked table of RULES: 1227 and 326 tokens; the template is 19.
    assert first["input_tokens"] == 1227 + 326 + 2 * 29
    assert (first["requests"], first["images"]) == (2, 2)
    wanted = qp.cost_many([1256, 355], 100)
    assert Decimal(first["cost"]) == wanted.total
    assert Decimal(first["input_cost"]) + Decimal(first["output_cost"]) == wanted.total
    assert first["price_date"] == str(wanted.date)
    assert first["currency"] == "CNY"
    assert first["notes"]
    labels = [line["label"] for line in seen.lines]
    assert labels == ["default cap", "high resolution", "default cap by Batch"]
    assert Decimal(seen.lines[2]["cost"]) * 2 == wanted.total
    assert seen.lines[2]["batch"]


def test_together_is_one_request(run, folder):
    seen = run("cost", folder, "--together", "--json")
    assert [line["requests"] for line in seen.lines] == [1, 1, 1]
    assert seen.lines[0]["input_tokens"] == 1227 + 326 + 19


def test_text_is_called_a_bound_only_where_it_is_one(run, folder):
    """Each model counts the question by its own vocabulary, and "at most" says so."""
    text = "这张图表现了什么内容?"
    words = ("cost", folder / "a.png", "-t", text, "--compare", "qwen3.8-max")
    counted = text_tokens_of(text)
    said = "7" if counted.is_exact else "at most 31"
    err = " ".join(run(*words).err.split())
    assert f"19 tokens of chat template, text of {said} tokens and an answer" in err
    assert ("qwen3.8-max: text of at most 31 tokens" in err) is counted.is_exact
    lines = run(*words, "--json").lines
    for line in lines:
        is_later = line["model"] == "qwen3.8-max"
        assert line["is_text_exact"] is (counted.is_exact and not is_later)
        assert line["text_tokens"] == (31 if is_later else counted.count)
        assert line["template_tokens"] == (17 if is_later else 19)
        assert line["input_tokens"] == (
            line["image_tokens"] + line["text_tokens"] + line["template_tokens"]
        )
    known = run("cost", folder / "a.png", "-m", "qwen3.8-max", "--text-tokens", "1")
    assert "text of 1 token and an answer" in " ".join(known.err.split())


def test_rows_that_are_asked_for(run, folder):
    """Caps, models and Batch become rows; the first is what the options say."""
    seen = run(
        "cost",
        folder,
        "--high-resolution",
        "--max-tokens",
        300,
        "--max-tokens",
        600,
        "--compare",
        f"{PLUS}, qwen3-vl-flash",
        "--batch",
        "--json",
    )
    assert [(line["model"], line["label"]) for line in seen.lines] == [
        ("qwen-vl-max", "high resolution by Batch"),
        ("qwen-vl-max", "default cap by Batch"),
        ("qwen-vl-max", "up to 300 tokens, high res. by Batch"),
        ("qwen-vl-max", "up to 600 tokens, high res. by Batch"),
        (PLUS, "high resolution by Batch"),
        ("qwen3-vl-flash", "high resolution by Batch"),
    ]
    assert seen.lines[0]["image_tokens"] == 2118 + 326


def test_the_table_fits_a_terminal(run, folder):
    """Every row stands on one line of 80 columns, with the date of its prices."""
    seen = run(
        "cost", folder, "-m", PLUS, "--max-tokens", 4000, "--compare", "qwen-vl-max"
    )
    assert seen.code == 0
    rows = seen.out.splitlines()
    assert max(map(len, rows)) <= 80
    dates = [row for row in rows if str(qp.get_model(PLUS).prices.date) in row]
    assert len(dates) == 5
    assert "−50 %" in rows[-1]
    assert "months old" in seen.err
    assert "mainland China" in seen.err


def test_quiet_has_no_talk(run, folder):
    seen = run("cost", folder, "-q")
    assert seen.err == ""
    assert "default cap" in seen.out


def test_a_bad_picture_is_named_and_the_others_priced(run, folder):
    """An unreadable and an illegal picture are refused, with their names."""
    (folder / "c.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    Image.new("RGB", (300, 8)).save(folder / "d.png")
    seen = run("cost", folder)
    assert seen.code == 1
    assert "c.jpg" in seen.err
    assert "d.png" in seen.err
    assert "default cap" in seen.out
    lines = run("cost", folder, "--json").lines
    assert "error" in lines[0]
    assert lines[1]["images"] == 2
    assert lines[1]["refused"][0]["file"].endswith("d.png")
    assert not any("image 3" in json.dumps(line) for line in lines)
    assert "image 3" not in seen.err
    assert run("cost", folder / "c.jpg").code == 1
    assert run("cost", folder / "d.png").code == 1


def test_what_does_not_fit_has_no_price(run, folder):
    """Thirty large images in one request are refused by the API, so cost nothing."""
    many = [folder / "a.png"] * 30
    seen = run("cost", *many, "--together", "--json")
    assert seen.code == 1
    assert seen.lines[0]["cost"] is None
    assert "first 25 of 30" in seen.lines[0]["problem"]
    assert "first 25 of 30" in run("cost", *many, "--together").err


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "qwen-nothing"),
        ("--compare", "qwen-nothing"),
        ("--max-tokens", "3"),
        ("--max-tokens", "0"),
        ("--output-tokens", "-1"),
        ("-m", "qwen-vl-plus", "--high-resolution"),
    ],
)
def test_wrong_usage_is_status_2(run, folder, words):
    seen = run("cost", folder, *words)
    assert seen.code == 2, seen.err
    assert seen.out == ""


# ------------------------------------------------------------------------- reconcile

EXACT = {
    "text": "a cat",
    "request_id": "r1",
    "model": "qwen-vl-max",
    "predicted_image_tokens": 1249,
    "billed_image_tokens": 1249,
    "billed_input_tokens": 1275,
    "billed_output_tokens": 9,
}
DRIFT = {
    **EXACT,
    "request_id": "r2",
    "sizes": [[1365, 2048]],
    "billed_image_tokens": 2503,
    "billed_input_tokens": 2529,
}


@pytest.fixture
def log(tmp_path):
    """Give a function that writes records, one a line."""

    def log_(*records) -> Path:
        path = tmp_path / "log.jsonl"
        lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
        path.write_text("\n".join(lines) + "\n", "utf-8")
        return path

    return log_


def test_a_log_that_agrees_is_status_0(run, log):
    seen = run("reconcile", log(EXACT, EXACT))
    assert seen.code == 0, seen.err
    assert "qwen-vl-max" in seen.out
    assert "2,498" in seen.out
    assert "Billed to qwen-vl-max: 0.007812 CNY for 2 requests" in seen.err


def test_drift_is_status_1_with_a_suggestion(run, log):
    """The request that drifted is named, and what would have predicted it."""
    seen = run("reconcile", log(EXACT, DRIFT))
    assert seen.code == 1
    assert "+1,254" in seen.out
    assert "r2" in seen.out
    assert "r1" not in seen.out
    assert "factor = 32" in seen.err
    assert "get_model" not in seen.err  # that is for Python
    assert "at the table's prices for qwen-vl-max" in seen.err
    assert max(map(len, seen.out.splitlines())) <= 80


def test_reconcile_as_json(run, log):
    """One object a request, then one a model."""
    seen = run("reconcile", "--json", log(EXACT, DRIFT))
    assert [line.get("status") for line in seen.lines] == ["exact", "drift", None]
    model = seen.lines[-1]
    assert (model["requests"], model["drifted"], model["drift"]) == (2, 1, 1254)
    assert model["drifts"] == [[0, 1], [1254, 1]]
    assert model["corrections"][0]["changes"]["factor"] == 32
    assert Decimal(model["costs"][0]["cost"]) == (qp.cost_many([1275, 2529], 9).total)
    assert model["costs"][0]["price_date"]


def test_raw_replies_and_files_of_one_value(run, tmp_path):
    """A saved reply, laid out over lines, and a list of them are read as well."""
    reply = {
        "id": "chatcmpl-1",
        "model": PLUS,
        "sizes": [[1365, 2048]],
        "usage": {
            "prompt_tokens": 2520,
            "completion_tokens": 3,
            "prompt_tokens_details": {"image_tokens": 2503},
        },
    }
    path = tmp_path / "reply.json"
    path.write_text(json.dumps(reply, indent=2), "utf-8")
    assert run("reconcile", path).code == 0
    path.write_text("\ufeff" + json.dumps([reply, reply]), "utf-8")
    assert run("reconcile", "--json", path).lines[-1]["requests"] == 2
    stdin = json.dumps(reply).encode()
    assert run("reconcile", "-", stdin=stdin).code == 0
    assert run("reconcile", path, "-", "--json", stdin=stdin).lines[-1]["compared"] == 3


def test_unreadable_lines_are_named(run, log):
    """They are status 1, and the others are compared all the same."""
    seen = run("reconcile", log("not json", EXACT, {"error": {"message": "no"}}))
    assert seen.code == 1
    assert "unreadable #1: is not JSON" in seen.err
    assert "was refused: no" in seen.err
    assert "1,249" in seen.out
    many = run("reconcile", log(EXACT, *["x"] * 30))
    assert "and 20 more unreadable" in many.err


def test_records_without_a_model(run, log):
    """-m says what the DashScope wire does not."""
    bare = {name: value for name, value in DRIFT.items() if name != "model"}
    del bare["predicted_image_tokens"]
    seen = run("reconcile", log(bare))
    assert seen.code == 1
    assert "-m says which" in seen.err
    # The rule is found, so it would be wrong to say that nothing was compared.
    assert "explains 1 of 1 bill." in seen.err
    assert "get_model" not in seen.err
    assert "Nothing can be compared" not in seen.err
    del bare["sizes"]
    assert "Nothing can be compared" in run("reconcile", log(bare)).err
    bare["sizes"] = DRIFT["sizes"]
    assert run("reconcile", log(bare), "-m", PLUS).code == 0
    assert run("reconcile", log(bare), "-m", "qwen-nothing").code == 2


def test_many_drifts_are_counted(run, log):
    seen = run("reconcile", log(*[DRIFT] * 14))
    assert "and 4 more" in seen.out


def test_what_cannot_be_read_is_refused(run, tmp_path):
    """A missing file, a folder and an empty file are told in a sentence."""
    empty = tmp_path / "empty"
    empty.write_bytes(b"\n\n")
    for path in (tmp_path / "none", tmp_path, empty):
        seen = run("reconcile", path)
        assert seen.code == 1
        assert seen.err.startswith("Error: ")
    assert run("reconcile").code == 2


def test_the_advice_is_a_table_that_can_be_used(run, log, tmp_path, monkeypatch):
    """What is said on stderr goes into a file, and then the bill agrees."""
    del (line := dict(DRIFT))["predicted_image_tokens"]
    for model in ("qwen-vl-max", "qwen9.1-vl"):
        path = log({**line, "model": model})
        said = run("reconcile", path).err
        rows = run("reconcile", path, "--json").lines[-1]["corrections"]
        assert f"QWENVL_PREP_MODELS names:\n{rows[0]['table']}\n" in said
        for number, row in enumerate(rows):
            # A file is read once a process.
            mine = tmp_path / f"{model}-{number}.toml"
            mine.write_text(row["table"], "utf-8")
            with monkeypatch.context() as patched:
                patched.setenv("QWENVL_PREP_MODELS", str(mine))
                assert run("reconcile", path).code == 0


def test_records_of_several_files_name_theirs(run, log, tmp_path):
    """A number alone does not tell which of the files is meant."""
    bare = {name: value for name, value in DRIFT.items() if name != "request_id"}
    path = log(EXACT, "", bare)
    other = tmp_path / "b.json"
    other.write_text(json.dumps([EXACT, bare]), "utf-8")
    checks = run("reconcile", path, other, "--json").lines
    assert [line.get("request") for line in checks[:4]] == [
        *("r1", f"{path}:3", "r1", f"{other}#2")
    ]
    assert run("reconcile", path, "--json").lines[1]["request"] == "#3"


def test_what_is_no_log_takes_one_line(run, log, folder):
    """Each line of a picture used to be told as a bad record of its own."""
    seen = run("reconcile", folder / "a.png")
    assert (seen.code, seen.out) == (1, "")
    assert seen.err.count("\n") == 1
    assert "a.png holds no JSON" in seen.err
    seen = run("reconcile", log(EXACT), folder / "a.png")
    assert seen.code == 1
    assert seen.err.count("a.png") == 1


def test_answers_that_nobody_counted_are_said(run, folder, log):
    """Without --output-tokens the amounts are for the input alone."""
    seen = run("cost", folder)
    assert "\nAnswers are counted as 0 tokens; --output-tokens" in seen.err
    seen = run("cost", folder, "--output-tokens", 100)
    assert "Answers are counted as 0" not in seen.err
    assert "an answer of 100 tokens (200 in all)." in " ".join(seen.err.split())
    # In a bill as well.
    line = {name: v for name, v in EXACT.items() if name != "billed_output_tokens"}
    seen = run("reconcile", log(EXACT, line))
    assert seen.code == 0
    assert "1 record without the tokens of the answer" in seen.err
    told = run("reconcile", log(line), "--json").lines[0]
    assert told["billed_output_tokens"] is None
