"""The pieces of ``make reliability`` can fail: what breaks a promise is seen."""

from __future__ import annotations

import importlib
import io
import random
import struct
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

from qwenvl_prep import errors, prepare, probe

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script():
    """The script, imported as it is run."""
    sys.path.insert(0, str(TESTS))
    try:
        return importlib.import_module("reliability")
    finally:
        sys.path.remove(str(TESTS))


@pytest.fixture(scope="module")
def child(script):
    """The process that does the jobs."""
    child = script.Child()
    yield child
    child.close()


@pytest.fixture(scope="module")
def photo():
    """A PNG whose rows all matter."""
    target = io.BytesIO()
    noise = random.Random(0).randbytes(64 * 64 * 3)
    Image.frombytes("RGB", (64, 64), noise).save(target, "PNG")
    return target.getvalue()


def test_child_tells_prepared_from_refused(child, photo):
    """One process answers job after job, good and bad."""
    assert child.ask("prepare", photo, {})["outcome"] == "prepared"
    assert child.ask("prepare", b"", {})["outcome"] == "refused"
    assert child.ask("prepare", photo, {"encoding": "jpeg"})["kind"] == "PNG"


def test_api_refusals_are_told_apart(child):
    """A side of 10 pixels is the API's refusal, broken bytes are not."""
    target = io.BytesIO()
    Image.new("RGB", (10, 64)).save(target, "PNG")
    assert child.ask("prepare", target.getvalue(), {})["is_apis"]
    assert not child.ask("prepare", target.getvalue()[:40], {})["is_apis"]


def test_foreign_exception_is_told_with_its_traceback(child, photo):
    """What is not one of our errors comes back as what it is."""
    answer = child.ask("prepare", photo, {"no_such_option": 1})
    assert answer["outcome"] == "foreign"
    assert "TypeError" in answer["detail"]
    assert child.ask("prepare", photo, {})["outcome"] == "prepared"


def test_cuts_are_judged_by_their_pixels(child, photo):
    """Half a PNG is refused; one byte behind the picture's end is no loss."""
    assert child.ask("cut", photo, len(photo) // 2)["outcome"] == "refused"
    assert child.ask("cut", photo + b"behind", len(photo))["outcome"] == "same"


@pytest.mark.parametrize(
    ("behaviour", "outcome", "word"),
    [
        ("os.abort()", "crash", "-6"),
        ("sys.exit(3)", "crash", "ended with 3"),
        ("time.sleep(60)", "hang", "stopped"),
    ],
    ids=["abort", "exit", "sleep"],
)
def test_ends_of_a_process_are_seen(script, tmp_path, behaviour, outcome, word):
    """A process that dies or never answers is told apart, and the next one works."""
    broken = tmp_path / "child.py"
    broken.write_text(
        "import os, sys, time\n"
        'print(\'{"outcome": "ready"}\', flush=True)\n'
        f"sys.stdin.readline()\n{behaviour}\n",
        encoding="utf-8",
    )
    child = script.Child(broken)
    for _ in range(2):
        answer = child.ask("prepare", b"", {}, seconds=1.0)
        assert answer["outcome"] == outcome
        assert word in answer["detail"]
    child.close()


def test_mutations_are_the_same_each_time(script, photo):
    """A number names one mutation, and nearly every mutation changes something."""
    pictures = [script.Picture("a", photo), script.Picture("b", photo[::-1])]
    first, second = (
        [script.mutation(pictures, pictures, 7, number) for number in range(100)]
        for _ in range(2)
    )
    made = [job.make() for job in first]
    assert made == [job.make() for job in second]
    assert [job.name for job in first] == [job.name for job in second]
    assert sum(data not in {photo, photo[::-1]} for data in made) > 90


def test_checksums_are_mended(script, photo):
    """Damage behind a mended checksum reaches what stands behind the checksum."""
    damaged = bytearray(photo)
    damaged[17] ^= 1  # the width
    assert probe(script.with_checksums(bytes(damaged))).width != 64
    end = 8 + 8 + 13
    mended = script.with_checksums(bytes(damaged))
    assert struct.unpack_from(">I", mended, end)[0] == zlib.crc32(mended[12:end])
    assert script.with_checksums(b"GIF89a") == b"GIF89a"


def test_verdicts_can_be_broken(script):
    """Each promise is not kept as soon as one thing is wrong."""
    job = script.Job("a.png", "prepare", bytes)
    good = (job, {"outcome": "prepared"})
    refused = (job, {"outcome": "refused", "detail": "DamagedImageError: broken"})
    for outcome in ("crash", "hang", "foreign", "illegal"):
        bad = (job, {"outcome": outcome, "detail": "why", "kept": "there"})
        assert script.promise_1([good, refused], {"whole": 2}).is_kept
        verdict = script.promise_1([good, refused, bad], {"whole": 3})
        assert not verdict.is_kept
        assert "R1  NOT" in str(verdict)
        assert f"{outcome}: a.png" in str(verdict)
    files = {str(number): good[1] for number in range(200)}
    assert script.promise_2(files, list(files)).is_kept
    files["0"] = {**refused[1], "is_apis": True}
    assert script.promise_2(files, list(files)).is_kept
    files["1"] = files["2"] = refused[1]
    assert not script.promise_2(files, list(files)).is_kept
    assert script.promise_3([refused, (job, {"outcome": "same"})]).is_kept
    assert not script.promise_3([refused, (job, {"outcome": "lost"})]).is_kept
    assert not script.promise_3([]).is_kept


def test_many_faults_are_told_by_kind(script):
    """A thousand alike are one fault and their number."""
    alike = [f"foreign: {n}.png\nTypeError: {n}\nbytes in {n}" for n in range(1_000)]
    shown = script.shown([*alike, "crash: b.png\nended with -11"])
    assert shown[1:] == ["... and 999 that end alike", "crash: b.png\nended with -11"]


def test_bombs_are_what_they_are_called(script):
    """Those with a header that is too large are refused for that, and are small."""
    found = {bomb.name: bomb for bomb in script.bombs()}
    giants = [one for one in found.values() if one.kind == "header"]
    assert len(giants) >= 16
    for bomb in giants:
        # The scans themselves have to be there.
        assert len(bomb.data) < 4_096 or "scans" in bomb.name
        with pytest.raises((errors.DecodeLimitError, errors.DamagedImageError)):
            prepare(bomb.data)
    scans = found["progressive JPEG of 1,000 scans"].data
    assert scans.count(b"\xff\xda") == 1_000


@pytest.mark.usefixtures("script")
def test_progressive_bomb_is_a_good_jpeg():
    """Few scans of the bomb's kind are a picture that any decoder accepts."""
    bombs = sys.modules["bombs"]
    picture = Image.open(io.BytesIO(bombs.many_scans(40, 1_032)))
    assert picture.info["progressive"]
    assert picture.convert("RGB").getextrema() == ((128, 128),) * 3


def test_bomb_that_goes_off_is_seen(script):
    """A large picture called a bomb is neither refused nor small."""
    target = io.BytesIO()
    Image.new("RGB", (3_000, 3_000)).save(target, "PNG")
    bombs = sys.modules["bombs"]
    bomb = bombs.Bomb("no bomb", target.getvalue(), "header", "PNG")
    is_kept, _, words = script.detonate(bomb, "prepare")
    assert not is_kept
    assert words.startswith("NOT")
    assert "prepared" in words
