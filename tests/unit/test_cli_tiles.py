"""The tiles command: a table or JSON, files that are new, and a status."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from PIL import Image

import qwenvl_prep as qp

MODEL = ("-m", "qwen3-vl-plus")


@pytest.fixture
def run(run):
    """Give a function that runs the command in this process."""
    return partial(run, "tiles")


@pytest.fixture
def page(tmp_path):
    """Write a page that needs two tiles, with a dot in its name."""
    path = tmp_path / "page.v2.png"
    pixels = np.zeros((3_000, 980), np.uint8)
    pixels[::40] = 255
    Image.fromarray(pixels).save(path)
    return path


def test_the_table_tells_each_tile(run, page):
    done = run(page, *MODEL)
    assert done.code == 0
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[0] == ["file", "tile", "top", "left", "h×w", "sent", "tokens"]
    assert rows[2:] == [
        ["page.v2.png", "1", "0", "0", "1568×980", "1568×980", "1,521"],
        ["2", "1432", "0", "1568×980", "1568×980", "1,521"],
    ]
    assert "1 image, 2 tiles, 3,042 tokens for qwen3-vl-plus" in done.err
    assert [one.name for one in page.parent.iterdir()] == [page.name]


def test_json_holds_the_plan(run, page):
    done = run(page, *MODEL, "--json", "--quiet", "--overlap", 10)
    (record,) = map(json.loads, done.out.splitlines())
    plan = qp.plan_tiles(page, model="qwen3-vl-plus", overlap=10)
    assert record["tokens"] == plan.tokens
    assert (record["rows"], record["columns"], record["scale"]) == (2, 1, 1.0)
    assert (record["original_height"], record["original_width"]) == (3_000, 980)
    assert [one["top"] for one in record["tiles"]] == [one.top for one in plan.tiles]
    assert done.err == ""


def test_files_are_written_and_never_replaced_unasked(run, page, tmp_path):
    folder = tmp_path / "out"
    done = run(page, *MODEL, "-o", folder, "--json")
    assert done.code == 0
    names = ["page.v2-1.png", "page.v2-2.png"]
    assert sorted(one.name for one in folder.iterdir()) == names
    (record,) = map(json.loads, done.out.splitlines())
    for tile in record["tiles"]:
        data = (folder / tile["output"]).read_bytes()
        assert len(data) == tile["encoded_size"]
        assert qp.validate(data, model="qwen3-vl-plus").is_legal
        assert qp.count_tokens(data, model="qwen3-vl-plus") == tile["tokens"]
    again = run(page, *MODEL, "-o", folder)
    assert again.code == 1
    assert "exists already" in again.err
    assert run(page, *MODEL, "-o", folder, "--overwrite").code == 0


def test_an_original_is_never_overwritten(run, page, tmp_path):
    """Not even where a tile would take its name, and replacing is asked for."""
    other = tmp_path / "page.v2-1.png"
    other.write_bytes(page.read_bytes())
    before = other.read_bytes()
    done = run(page, other, *MODEL, "-o", tmp_path, "--overwrite")
    assert done.code == 1
    assert "is an original" in done.err
    assert other.read_bytes() == before


def test_one_refusal_stops_no_other(run, page, tmp_path):
    thin = tmp_path / "thin.png"
    Image.new("L", (10, 9_000)).save(thin)
    done = run(thin, page, *MODEL, "--json")
    refused, planned = map(json.loads, done.out.splitlines())
    assert done.code == 1
    assert refused["error"] == "IllegalImageError"
    assert len(planned["tiles"]) == 2


def test_a_budget_that_is_too_small(run, page):
    done = run(page, *MODEL, "--max-tokens", 500)
    assert done.code == 1
    assert "raise max_tokens" in done.err
    done = run(page, *MODEL, "--max-tokens", 2_000, "--min-scale", 0.5)
    assert done.code == 0
    assert "(at most 2,000 an image)" in done.err


def test_stdin_is_read_once(run, page, tmp_path):
    done = run("-", *MODEL, "-o", tmp_path / "out", stdin=page.read_bytes())
    assert done.code == 0
    assert len(list((tmp_path / "out").glob("stdin-*.png"))) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("--min-scale", "0"),
        ("--max-tiles", "5000"),
        ("--encoding", "keep"),
        ("--background", "blue-ish"),
        ("-m", "qwen-nothing"),
    ],
)
def test_wrong_usage(run, page, words):
    assert run(page, *words).code == 2


def test_a_file_is_no_folder(run, page):
    done = run(page, "-o", page)
    assert done.code == 2
    assert "-o names a folder" in done.err


def test_tiles_that_do_not_fit_one_request_are_told(run, tmp_path):
    """Prove that the maximum input is named, and what helps where it is exceeded."""
    path = tmp_path / "long.png"
    Image.new("1", (1_000, 30_000)).save(path)
    done = run(path, "-m", "qwen-vl-max")
    (record,) = map(json.loads, run(path, "--json", "-q").out.splitlines())
    assert record["tokens"] > record["limit"] == 30_720
    assert not record["fits"]
    assert f"{record['tokens']:,} tokens for qwen-vl-max (maximum input 30,720)" in (
        done.err
    )
    assert "does not fit one request of qwen-vl-max" in done.err
    assert "--max-tokens below 30,700" in done.err
    assert "or 2 requests" in done.err
    # Each of these ways is one.
    for words in (("--max-tokens", 30_699, "--min-scale", 0.5), MODEL):
        helped = run(path, *words)
        assert helped.code == 0
        assert "maximum input" in helped.err
        assert "does not fit" not in helped.err
    (record,) = map(json.loads, run(path, *MODEL, "--json").out.splitlines())
    assert record["fits"]


def test_a_tile_too_large_for_any_request_is_told(run, tmp_path):
    """Prove that several requests are no advice where one tile exceeds them all."""
    path = tmp_path / "huge.png"
    Image.new("1", (4_200, 5_600)).save(path)
    done = run(path, "-m", "qwen-vl-ocr", "--high-resolution")
    assert done.code == 0
    assert "does not fit one request of qwen-vl-ocr" in done.err
    assert "larger input (-m)." in done.err
