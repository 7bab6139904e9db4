"""The command fit: requests shown, grouped and refused; data on stdout."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from qwenvl_prep.text_tokens import text_tokens_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def fit(run):
    """Give a function that runs the command in this process."""
    return partial(run, "fit")


@pytest.fixture
def album(tmp_path, encoded) -> Path:
    """Give two folders of squares of 1280: 20 and 12 of them."""
    data = encoded(Image.new("L", (1280, 1280)), "PNG")
    for folder, count in (("a", 20), ("b", 12)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            (tmp_path / folder / f"{number:02}.png").write_bytes(data)
    return tmp_path


def test_what_fits_is_summed_up(fit, album):
    """Prove that each image, the sum and the room left are shown."""
    seen = fit(album / "a", "--text-tokens", "10", "--reserve", "5")
    assert seen.code == 0
    assert "19.png 1,227 24,540" in seen.words
    assert (
        "20 images with 24,540 tokens + text 10 + template 19 + reserve 5 = 24,574"
        in seen.words
    )


def test_text_is_called_a_bound_only_where_it_is_one(fit, album):
    """Prove that "at most" stands where no tokenizer counted."""
    text = "What is this?"
    exactly = text_tokens_of(text)
    seen = fit(album / "b", "-t", text)
    assert f" + {exactly} + template 19 = " in seen.words
    seen = fit(album / "b", "-t", text, "-m", "qwen3.8-max")
    assert " + text at most 13 + template 17 = " in seen.words
    record = fit("--json", album / "b", "-t", text, "-m", "qwen3.8-max").lines[0]
    assert (record["text_tokens"], record["is_text_exact"]) == (13, False)


def test_what_does_not_fit_is_refused(fit, album):
    """Prove that the default refuses, with how many would fit, and status 1."""
    seen = fit(album)
    assert seen.code == 1
    assert "31,902" not in seen.err
    assert "received 39,283: 32 images" in seen.err
    assert "The first 25 images would fit" in seen.err
    (record,) = fit("--json", album).lines
    assert (record["fits"], record["fitting_images"]) == (False, 25)
    assert len(record["images"]) == 32


def test_max_tokens_makes_images_cheaper(fit, album):
    """Prove that a cap of one's own reaches every image."""
    (record,) = fit("--json", album, "--max-tokens", "256").lines
    assert record["fits"]
    assert {image["tokens"] for image in record["images"]} == {258}
    assert fit(album, "--max-tokens", "1").code == 2


def test_split_shows_every_request(fit, album):
    """Prove that requests, their images and their sums are shown, text in each."""
    seen = fit(album, "--policy", "split", "--text-tokens", "7")
    assert seen.code == 0
    assert "request 1: images 1–25, 30,701 tokens" in seen.words
    assert "request 2: images 26–32, 8,615 tokens" in seen.words
    assert "b/11.png 1,227 8,615" in seen.words
    assert "32 images in 2 requests: 39,316 tokens" in seen.words
    assert "each below 30,720 (qwen-vl-max)" in seen.words


def test_split_writes_one_object_a_request(fit, album):
    """Prove that JSON has a line for each request, and no image twice or lost."""
    first, second = fit("--json", "--policy", "split", album).lines
    assert (first["request"], first["requests"]) == (1, 2)
    assert (second["request"], second["requests"]) == (2, 2)
    assert (first["total"], second["total"]) == (30_694, 8_608)
    names = [image["file"] for one in (first, second) for image in one["images"]]
    assert names == sorted(str(path) for path in album.glob("*/*.png"))


def test_folders_stay_together(fit, album):
    """Prove that no request cuts a folder, and that one too large is refused."""
    grouped = ("--policy", "split", "--group-by", "folder")
    first, second = fit("--json", *grouped, album).lines
    assert [len(one["images"]) for one in (first, second)] == [20, 12]
    high = fit(*grouped, "--high-resolution", album)
    assert high.code == 1
    assert "images 1 to 20" in high.err
    assert "together with 42,360 + 19 = 42,379 tokens" in high.err
    assert "b/" not in high.err
    (record,) = fit("--json", *grouped, "--high-resolution", album).lines
    assert (record["fits"], record["total"]) == (False, 42_379)


def test_a_folder_that_comes_back_is_a_mistake_of_the_call(fit, album):
    """Prove that files out of order are told, with status 2."""
    files = [album / "a" / "00.png", album / "b" / "00.png", album / "a" / "01.png"]
    seen = fit("--policy", "split", "--group-by", "folder", *files)
    assert seen.code == 2
    assert "comes back at image 3" in seen.err


@pytest.mark.parametrize(
    "words", [("--floor", "4"), ("--group-by", "folder"), ("--policy", "squeeze")]
)
def test_options_of_another_policy_are_refused(fit, album, words):
    """Prove that an option that would do nothing is wrong usage."""
    assert fit(album, *words).code == 2


def test_a_refused_image_stops_no_other(fit, album):
    """Prove that a broken file is told, and the others are split."""
    (album / "a" / "05.png").write_bytes(b"no picture")
    seen = fit("--json", "--policy", "split", album)
    assert seen.code == 1
    error, first, second = seen.lines
    assert error["error"] == "NotAnImageError"
    assert [len(one["images"]) for one in (first, second)] == [25, 6]


def test_shrink_shows_the_caps(fit, album):
    """Prove that everything fits, and what each image gave up is shown."""
    (record,) = fit("--json", "--policy", "shrink", album).lines
    assert record["fits"]
    assert record["total"] < 30_720
    assert len(record["images"]) == 32
    for image in record["images"]:
        assert image["tokens"] <= image["tokens_before"] == 1_227
    assert sum(image["tokens"] for image in record["images"]) == record["total"] - 19
    seen = fit("--policy", "shrink", album)
    assert seen.code == 0
    assert "before cap h×w tokens" in seen.words
    assert "room for" in seen.words


def test_a_floor_can_be_too_high(fit, album):
    """Prove that images are not made smaller than what was asked for."""
    seen = fit("--policy", "shrink", "--floor", "1000", album)
    assert seen.code == 1
    assert "as qwenvl-prep fit --policy split does" in seen.err


def test_folders_are_named_where_they_stay_together(fit, album):
    """Prove that a request, and what is too large for one, is told by its folder."""
    grouped = ("--policy", "split", "--group-by", "folder")
    seen = fit(*grouped, album)
    assert "request 1: folder a, images 1–20, 24,559 tokens" in seen.words
    assert "request 2: folder b, images 21–32, 14,743 tokens" in seen.words
    high = fit(*grouped, "--high-resolution", album)
    assert high.code == 1
    assert high.err.rstrip().endswith("Too large for one request: folder a")
    (record,) = fit("--json", *grouped, "--high-resolution", album).lines
    assert record["message"].endswith("folder a")
    assert "folder" not in fit("--policy", "split", album).out
