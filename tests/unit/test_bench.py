"""The benchmark checks its answers, tells what it refuses, and never asserts a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import qwenvl_prep as qp
from qwenvl_prep import bench, bench_peers
from qwenvl_prep.bench_pictures import photo_pixels, screen_pixels

HEADER_FIELDS = {
    "date", "cpu", "cores", "load", "python", "qwenvl_prep", "pillow", "numpy",
    "pyvips", "libvips", "model",
}  # fmt: skip
ROW_FIELDS = {
    "bench", "input", "unit", "megapixels", "peer", "rounds", "ours_per_second",
    "peer_per_second", "ratio", "correct", "problem",
}  # fmt: skip

# Sizes at which the published rule turns: halves, both caps, the ratio, one pixel.
EDGES = {
    (1, 1): 6,
    (14, 28): 8,
    (11, 98): 8,
    (720, 1280): 1198,
    (512, 512): 326,
    (1280, 1280): 1227,
    (1365, 2048): 1249,
    (29, 5615): 203,
    (1, 200): 31,
    (1, 201): 0,
    (201, 1): 0,
    (100_000, 500): 1012,
}


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list]:
    status = bench.main([*arguments, "--json", "--quiet"])
    lines = capsys.readouterr().out.splitlines()
    return status, [json.loads(line) for line in lines]


def test_quick_run_gives_header_and_correct_rows(capsys):
    """The smoke run covers every group, and every answer in it is right."""
    status, (header, *rows) = run_json(capsys, "--quick")
    assert status == 0
    assert set(header) == HEADER_FIELDS
    groups = {"count-sizes", "count-files", "resize", "prepare", "prepare-many"}
    assert {row["bench"] for row in rows} == groups
    for row in rows:
        assert set(row) == ROW_FIELDS
        assert row["correct"], row
        assert row["problem"] == ""
        for name in ("ours_per_second", "peer_per_second", "ratio"):
            spread = row[name]
            assert 0 < spread["min"] <= spread["median"] <= spread["max"]


def test_table_names_every_peer_of_a_group(capsys):
    """Without --json a person reads a table on stdout, and progress on stderr."""
    assert bench.main(["--quick", "--only", "count-sizes"]) == 0
    out, err = capsys.readouterr()
    assert "NumPy" in out
    assert "Python loop" in out
    assert "WRONG" not in out
    assert "count-sizes: 20,000 random sizes" in err


def test_only_leaves_the_other_groups_out(capsys):
    """--only can be given more than once."""
    only = ("--only", "resize", "--only", "count-sizes")
    _, (_, *rows) = run_json(capsys, "--quick", "--rounds", "1", *only)
    assert {row["bench"] for row in rows} == {"resize", "count-sizes"}
    assert {row["rounds"] for row in rows} == {1}


def test_broken_input_is_listed_and_the_others_are_measured(capsys, tmp_path):
    """A file that ends too early is refused by name; exit status 1."""
    rng = np.random.default_rng(0)
    good, broken = tmp_path / "good.jpg", tmp_path / "broken.jpg"
    Image.fromarray(photo_pixels(120, 160, rng=rng)).save(good)
    broken.write_bytes(good.read_bytes()[:900])
    status, (_, *rows, refusal) = run_json(
        capsys, "--quick", "--only", "prepare", str(broken), str(good)
    )
    assert status == 1
    assert refusal["file"] == str(broken)
    assert refusal["error"] == "DamagedImageError"
    assert [row["input"].split()[0] for row in rows] == [str(good)] * 2


def test_missing_input_is_refused_on_stderr(capsys, tmp_path):
    """A name without a file gives no rows and no traceback."""
    path = tmp_path / "missing[1].png"
    assert bench.main(["--quick", "--only", "count-files", str(path)]) == 1
    assert f"refused {path}" in capsys.readouterr().err.replace("\n", "")


def test_what_pillow_cannot_read_is_no_race(capsys, monkeypatch, tmp_path):
    """Where only we read a file, it is listed as having no peer."""
    path = tmp_path / "one.png"
    Image.new("RGB", (40, 40)).save(path)

    def give_up(*_: object) -> None:
        raise SyntaxError("not a codec of mine")

    monkeypatch.setattr(bench.Image, "open", give_up)
    status, (_, refusal) = run_json(capsys, "--quick", "--only", "prepare", str(path))
    assert status == 1
    assert "nothing to compare with" in refusal["message"]


def test_wrong_answer_is_shown_and_exits_1(capsys, monkeypatch):
    """A count that is off by one is timed all the same, and called wrong."""
    honest = qp.count_tokens_many
    monkeypatch.setattr(qp, "count_tokens_many", lambda h, w: honest(h, w) + 1)
    assert bench.main(["--quick", "--only", "count-sizes"]) == 1
    assert "WRONG: counts differ" in capsys.readouterr().out


def test_wrong_pixels_are_found_behind_jpeg(capsys, monkeypatch, tmp_path):
    """One byte of one pixel is enough, though JPEG would have rounded it away."""
    honest = qp.resize

    def off_by_one(pixels, height, width):
        resized = honest(pixels, height, width)
        resized[0, 0, 0] ^= 1
        return resized

    monkeypatch.setattr(qp, "resize", off_by_one)
    path = tmp_path / "photo.jpg"
    rng = np.random.default_rng(0)
    Image.fromarray(photo_pixels(900, 1200, rng=rng)).save(path)
    status, (_, *rows) = run_json(capsys, "--quick", "--only", "prepare", str(path))
    assert status == 1
    assert {row["problem"] for row in rows} == {"pixels differ from Pillow's"}


@pytest.mark.parametrize(
    "arguments", [["--fast"], ["--only", "everything"], ["--rounds", "0"]]
)
def test_wrong_usage_exits_2(capsys, arguments):
    """Usage errors speak on stderr and leave stdout empty."""
    assert bench.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Error" in err


def test_folder_without_pictures_exits_2(capsys, tmp_path):
    """There is nothing to measure, which is the caller's mistake."""
    Path(tmp_path, "notes.txt").write_text("no picture", "utf-8")
    assert bench.main(["--only", "prepare", str(tmp_path)]) == 2
    assert "no picture" in capsys.readouterr().err


def test_help_exits_0(capsys):
    """Help is data."""
    assert bench.main(["--help"]) == 0
    assert "--quick" in capsys.readouterr().out


def test_statements_of_the_rule_agree_on_edges():
    """Both peers and our own count give the published numbers where the rule turns."""
    heights, widths = np.array(list(EDGES)).T
    expected = list(EDGES.values())
    in_python = [bench_peers.count_in_python(*size) for size in EDGES]
    assert in_python == expected
    assert bench_peers.count_in_numpy(heights, widths).tolist() == expected
    assert qp.count_tokens_many(heights, widths).tolist() == expected


def test_pictures_are_the_same_on_every_run():
    """What is measured today is what was measured yesterday."""
    first = photo_pixels(40, 60, rng=np.random.default_rng(3))
    again = photo_pixels(40, 60, rng=np.random.default_rng(3))
    assert first.shape == (40, 60, 3)
    assert np.array_equal(first, again)
    screen = screen_pixels(240, 320, rng=np.random.default_rng(3))
    assert screen.shape == (240, 320, 3)
    assert screen.dtype == np.uint8


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.5, "0.50"), (9.996, "10.00"), (62.04, "62.0"), (1000, "1.00k"), (2e8, "200M")],
)
def test_numbers_keep_three_digits(value, text):
    """Rates from half an image to hundreds of millions of sizes fit one column."""
    assert bench.number_text(value) == text
