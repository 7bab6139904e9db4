"""The benchmark checks its answers, tells what it refuses, and never asserts a time."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

import qwenvl_prep as qp
from qwenvl_prep import bench, bench_large, bench_peers, bench_rivals, pixels
from qwenvl_prep.bench_measure import Comparison, Measurement, Way, measure
from qwenvl_prep.bench_pictures import photo_pixels, screen_pixels
from qwenvl_prep.bench_targets import differing

REPORT = Path(__file__).resolve().parents[2] / "benches" / "report.py"

HEADER_FIELDS = {
    "date", "cpu", "cores", "load", "python", "qwenvl_prep", "pillow", "numpy",
    "pyvips", "libvips", "model",
}  # fmt: skip
# Told where they are known: a stripped library names no compiler.
MORE_FIELDS = {"compiler", "backend"}
TOLD_FIELDS = {
    "bench", "input", "unit", "megapixels", "rounds", "target", "reached", "correct",
    "problem",
}  # fmt: skip
ROW_FIELDS = TOLD_FIELDS | {
    "peer", "ours_per_second", "peer_per_second", "ratio", "differs",
}  # fmt: skip
VALUE_FIELDS = TOLD_FIELDS | {"value"}

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
    assert HEADER_FIELDS <= set(header) <= HEADER_FIELDS | MORE_FIELDS
    groups = {"count-sizes", "count-files", "resize", "prepare", "prepare-many"}
    assert {row["bench"] for row in rows} == groups
    for row in rows:
        assert set(row) == ROW_FIELDS
        assert row["correct"], row
        assert row["problem"] == ""
        assert row["target"] is None
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
    monkeypatch.setattr(
        qp, "count_tokens_many", lambda h, w, **by: honest(h, w, **by) + 1
    )
    assert bench.main(["--quick", "--only", "count-sizes"]) == 1
    assert "WRONG: counts differ" in capsys.readouterr().out


def test_wrong_pixels_are_found_behind_jpeg(capsys, monkeypatch, tmp_path):
    """One byte of one pixel is enough, though JPEG would have rounded it away."""

    class OffByOne(qp.Resizer):
        """As prepare uses it, but for the first byte of each part."""

        def feed(self, rows, *, out=None):
            ready = super().feed(rows, out=out)
            ready.reshape(-1)[:1] ^= 1
            return ready

    monkeypatch.setattr(pixels, "Resizer", OffByOne)
    path = tmp_path / "photo.jpg"
    rng = np.random.default_rng(0)
    Image.fromarray(photo_pixels(900, 1200, rng=rng)).save(path)
    status, (_, *rows) = run_json(capsys, "--quick", "--only", "prepare", str(path))
    assert status == 1
    assert {row["problem"] for row in rows} == {"pixels differ from Pillow's"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--fast"],
        ["--only", "everything"],
        ["--rounds", "0"],
        ["--only", "kernel"],
        ["--peers", "--only", "resize"],
    ],
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


# ------------------------------------------------------------------ the real peers


def test_quick_run_beside_peers_gives_targets(capsys):
    """Every row has a target and is right; who is not installed is told, no error."""
    threads, cached = pyvips.concurrency_get(), pyvips.cache_get_max()
    status, (header, *records) = run_json(capsys, "--peers", "--quick")
    assert status == 0
    assert header["libvips_threads"] == 1
    # They belong to the process, which is not only ours.
    assert (pyvips.concurrency_get(), pyvips.cache_get_max()) == (threads, cached)
    rows = [record for record in records if "bench" in record]
    missing = {record["missing"] for record in records if "missing" in record}
    assert missing == set(bench_rivals.missing_rivals())
    rows_of = {"fast_image_resize": 1, "libjpeg-turbo": 2, "imagesize": 1}
    assert len(rows) + sum(rows_of[name] for name in missing) == 19
    for row in rows:
        assert set(row) == (VALUE_FIELDS if "value" in row else ROW_FIELDS)
        assert row["correct"], row
        assert row["target"] is not None
        assert isinstance(row["reached"], bool)
    beside_vips = [row for row in rows if row.get("peer", "").startswith("pyvips")]
    assert [row["bench"] for row in beside_vips] == ["kernel", "photo"]
    for row in beside_vips:
        assert 0 < row["differs"]["percent"] < 100
    memory, exact, imported = (row for row in rows if "value" in row)
    # The interpreter and NumPy alone take more.
    assert memory["value"]["min"] > 20
    assert exact["value"] == {"median": 0, "min": 0, "max": 0}
    # A smoke run is too short for its number to mean anything.
    assert imported["unit"] == "× NumPy's import"
    counting = {
        row.get("peer"): row["target"] for row in rows if row["bench"] == "counting"
    }
    assert counting.pop("imagesize", 1.3) == 1.3
    assert counting == {
        "NumPy": 4,
        "Python loop": 100,
        "60 × count_tokens_many": 1,
        "Pillow": 3,
        None: 0.5,
    }


def test_counting_needs_no_photo_and_races_usual_formats(capsys, tmp_path):
    """A small GIF beside a PNG is left out, and no large JPEG is asked for."""
    for name in ("one.png", "two.gif"):
        Image.new("RGB", (300, 200), "navy").save(tmp_path / name)
    status, (_, *rows) = run_json(
        capsys, "--peers", "--quick", "--only", "counting", str(tmp_path)
    )
    assert status == 0
    rows = [row for row in rows if "bench" in row]
    assert {row["bench"] for row in rows} == {"counting"}
    files = [row for row in rows if row["unit"] == "files"]
    assert {row["input"] for row in files} == {"1 files, from the page cache"}
    (imported,) = (row for row in rows if "value" in row)
    assert imported["unit"] == "× NumPy's import"
    assert imported["input"].startswith("import qwenvl_prep adds ")


def test_wrong_count_reaches_no_target(capsys, monkeypatch, tmp_path):
    """What is faster because it is wrong is told as wrong, beside every peer."""
    honest = qp.count_tokens_many
    monkeypatch.setattr(
        qp, "count_tokens_many", lambda h, w, **by: honest(h, w, **by) + 1
    )
    Image.new("RGB", (300, 200)).save(tmp_path / "one.png")
    status, (_, *rows) = run_json(
        capsys, "--peers", "--quick", "--only", "counting", str(tmp_path)
    )
    assert status == 1
    sizes = [row for row in rows if row.get("unit") == "sizes"]
    assert [row["reached"] for row in sizes] == [False, False]


def test_missing_peer_is_told_with_what_to_install(capsys, monkeypatch):
    """A table without it ends with a line for it, and the exit status is 0."""
    absent = {"fast_image_resize": ("no_such_module", "cykooz.resizer")}
    monkeypatch.setattr(
        bench_rivals, "_OPTIONAL", {**absent, "libjpeg-turbo": ("nor_this", "it")}
    )
    assert bench.main(["--peers", "--quick", "--only", "kernel"]) == 0
    out = capsys.readouterr().out
    assert "fast_image_resize was not measured: pip install cykooz.resizer" in out
    assert "beside fast_image_resize" not in out
    assert "wanted" in out


@pytest.fixture
def simplejpeg(monkeypatch) -> types.ModuleType:
    """Put a module made of Pillow where simplejpeg would be."""

    def decode_jpeg(data: bytes, min_height: int, min_width: int) -> np.ndarray:
        with Image.open(io.BytesIO(data)) as picture:
            if min_height:
                picture.draft("RGB", (min_width, min_height))
            return np.asarray(picture)

    def encode_jpeg(pixels: np.ndarray, quality: int, colorsubsampling: str) -> bytes:
        assert colorsubsampling == "420"
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=2)
        return file.getvalue()

    module = types.ModuleType("jpeg_of_pillow")
    module.__spec__ = importlib.machinery.ModuleSpec("jpeg_of_pillow", None)
    module.decode_jpeg, module.encode_jpeg = decode_jpeg, encode_jpeg
    monkeypatch.setitem(sys.modules, "jpeg_of_pillow", module)
    # The package is one that has a version, wherever the tests run.
    monkeypatch.setattr(
        bench_rivals,
        "_OPTIONAL",
        {
            "libjpeg-turbo": ("jpeg_of_pillow", "pillow"),
            "fast_image_resize": ("no", ""),
        },
    )
    return module


@pytest.mark.usefixtures("simplejpeg")
def test_floor_is_decoding_and_encoding(capsys):
    """Its pixels are the decoded file's, here by Pillow and so without difference."""
    _, (_, *records) = run_json(capsys, "--peers", "--quick", "--only", "photo")
    (floor,) = (one for one in records if one.get("peer") == "libjpeg-turbo alone")
    assert floor["correct"]
    assert floor["target"] == 0.8
    assert floor["differs"] == {"percent": 0.0, "most": 0}


def test_peer_of_another_size_is_wrong(capsys, monkeypatch, simplejpeg):
    """A peer that does less is told as wrong: beside it nothing is reached."""
    honest = simplejpeg.decode_jpeg
    monkeypatch.setattr(
        simplejpeg,
        "decode_jpeg",
        lambda *args, **least: honest(*args, **least)[::2, ::2],
    )
    status, (_, *records) = run_json(capsys, "--peers", "--quick", "--only", "photo")
    assert status == 1
    wrong = [record for record in records if record.get("problem")]
    assert [row["peer"] for row in wrong] == [
        "libjpeg-turbo alone",
        "libjpeg-turbo alone at 1/1",
    ]
    assert "libjpeg-turbo alone is of the size" in wrong[0]["problem"]
    assert wrong[0]["reached"] is False


def test_byte_that_differs_from_pillow_is_counted(capsys, monkeypatch):
    """One wrong byte of each picture is as many as there are pictures."""
    honest = qp.resize

    def off_by_one(pixels, height, width):
        resized = honest(pixels, height, width)
        resized.reshape(-1)[0] ^= 1
        return resized

    monkeypatch.setattr(qp, "resize", off_by_one)
    status, (_, row, *_) = run_json(capsys, "--peers", "--quick", "--only", "exact")
    assert status == 1
    assert row["value"]["max"] == 40
    assert row["reached"] is False


def test_large_picture_that_is_refused_is_listed(capsys, monkeypatch):
    """What its process says at last is the reason; exit status 1."""
    monkeypatch.setattr(bench_large, "_CHILD", "raise ValueError('too large')")
    status, (_, *records) = run_json(capsys, "--peers", "--quick", "--only", "large")
    assert status == 1
    (refusal,) = (record for record in records if "error" in record)
    assert refusal["file"] == "the large picture"
    assert refusal["message"].endswith("ValueError: too large")


def test_photo_is_looked_for_among_the_inputs(capsys, tmp_path):
    """A name with brackets is no option of libvips, and a small one is no photo."""
    path = tmp_path / "photo[1].jpg"
    rng = np.random.default_rng(0)
    Image.fromarray(photo_pixels(900, 1200, rng=rng)).save(path)
    only = ("--peers", "--only", "photo", str(path))
    status, (_, row, *_) = run_json(capsys, "--quick", *only)
    assert status == 0
    assert row["input"].startswith(f"{path} 900×1200 → ")
    assert bench.main(list(only)) == 2
    assert "10 to 15 megapixels" in capsys.readouterr().err


def timed(seconds: float, **more: object) -> Way:
    return Way("one", lambda: seconds, keeps_time=True, **more)


def race(problem: str = "", **more: object) -> dict:
    """Measure a way of one second beside one of two."""
    peer = timed(2.0, **more)
    case = Comparison(
        group="", subject="", unit="", ours=timed(1.0), peers=(peer,), problem=problem
    )
    (row,) = measure(case, rounds=3, least=0)
    assert row["ratio"] == {"median": 2.0, "min": 2.0, "max": 2.0}
    return row


def test_target_is_reached_at_its_ratio_and_never_by_a_wrong_answer():
    """Twice as fast reaches 2 and no more; wrong answers reach nothing."""
    assert race()["reached"] is None
    assert race(target=2.0)["reached"] is True
    assert race(target=2.1)["reached"] is False
    assert race(target=2.0, problem="shows another picture")["reached"] is False
    assert race("pixels differ", target=2.0)["reached"] is False


def test_rounds_of_what_takes_long_are_capped():
    """Whoever asks for 25 turns does not wait for 25 large pictures."""
    case = Comparison(
        group="",
        subject="",
        unit="",
        ours=timed(1.0),
        peers=(timed(1.0),),
        problem="",
        most_rounds=5,
    )
    assert [row["rounds"] for row in measure(case, rounds=25, least=0)] == [5]
    assert [row["rounds"] for row in measure(case, rounds=2, least=0)] == [2]


def test_limit_is_kept_only_if_every_run_keeps_it():
    """A median below the limit is not enough for memory."""
    case = Measurement(
        group="", subject="", unit="MB", values=(200.0, 201.0, 230.0), target=220.0
    )
    (row,) = measure(case, rounds=9, least=0)
    assert row["value"]["median"] == 201.0
    assert row["reached"] is False


def test_difference_is_counted_in_bytes_and_steps():
    """Some steps are another filter; a mean of more than four is another picture."""
    black = np.zeros((2, 2, 3), np.uint8)
    near = black.copy()
    near[0, 0] = (9, 0, 1)
    assert differing(black, near) == ({"percent": 16.7, "most": 9}, "")
    assert differing(black, black + np.uint8(5))[1] == "shows another picture"
    assert differing(black, black[:1])[0] is None


@pytest.mark.skipif(not REPORT.exists(), reason="needs benches/, which is in a clone")
def test_report_writes_both_pages(capsys, tmp_path):
    """The page gets all rows, the README those with a target, in at most 12 lines."""
    spec = importlib.util.spec_from_file_location("report", REPORT)
    report = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(report)
    for page in (report.PAGE, report.README):
        text = page.read_text("utf-8")
        assert text.count(report.START) == text.count(report.END) == 1
    _, (header, *records) = run_json(
        capsys, "--peers", "--quick", *("--only", "kernel", "--only", "exact")
    )
    rows = [record for record in records if "bench" in record]
    page = tmp_path / "page.md"
    page.write_text(f"above\n{report.START}\nold\n{report.END}\nbelow\n", "utf-8")
    lines = [*report.facts(header), *report.table(rows)]
    assert report.put(page, lines)
    text = page.read_text("utf-8")
    assert text.startswith("above\n")
    assert text.endswith("\nbelow\n")
    assert "old" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert "| ≥ 10 |" in text
    short = list(report.short_table(rows))
    assert len({line.count("|") for line in short}) == 1
    assert len(short) == 2 + len(rows)
