"""The command line asks the endpoint: what the demo does when there is a key."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def run(endpoint):
    """Run the program in a process of its own, with the endpoint's key."""

    def run(*arguments, wire="openai", key=endpoint.key):
        environment = {
            **os.environ,
            "DASHSCOPE_API_KEY": key,
            "QWENVL_PREP_BASE_URL": endpoint.base_url(wire),
        }
        return subprocess.run(
            [sys.executable, "-m", "qwenvl_prep", *map(str, arguments)],
            env=environment,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def photo_file(tmp_path, picture):
    """A picture that is resized on the way."""
    path = tmp_path / "photo.jpg"
    path.write_bytes(picture(1280, 1280, "JPEG"))
    return path


@pytest.mark.parametrize("wire", ["openai", "dashscope"])
@pytest.mark.parametrize("stream", [[], ["--stream"]], ids=["whole", "stream"])
def test_answer_and_bill_are_shown(run, photo_file, wire, stream):
    """The answer goes to stdout; stderr holds billed against predicted tokens."""
    done = run("send", photo_file, "-t", "What?", "--wire", wire, *stream, wire=wire)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "qwen-vl-max"
    assert "predicted 1,227, billed 1,227" in done.stderr


@pytest.mark.parametrize("wire", ["openai", "dashscope"])
def test_written_request_is_sent_as_it_is(run, photo_file, tmp_path, wire):
    """A request file is sent on the wire that it was written for."""
    written = tmp_path / "request.json"
    asked = ("-t", "What?", "--high-resolution", "--wire", wire, "-o", written)
    assert run("request", photo_file, *asked).returncode == 0
    done = run("send", "--request", written, "--json", wire=wire)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["predicted_image_tokens"] == 2118
    assert record["billed_image_tokens"] == 2118
    assert record["sizes"] == [[1280, 1280]] or record["sizes"] == [[1288, 1288]]
    # What send has written, reconcile reads: prediction and bill agree.
    bill = tmp_path / "bill.jsonl"
    bill.write_text(done.stdout)
    told = run("reconcile", bill, "--json")
    assert told.returncode == 0, told.stderr
    bill.write_text(json.dumps({**record, "billed_image_tokens": 1227}))
    told = run("reconcile", bill)
    assert told.returncode == 1, told.stdout


def test_wrong_key_is_told_without_the_key(run, photo_file):
    """A refusal exits 3 in our words, and the key stands nowhere."""
    done = run("send", photo_file, "-t", "What?", key="sk-wrong-key-0123456789")
    assert done.returncode == 3
    assert "401" in done.stderr
    assert "Traceback" not in done.stderr
    assert "sk-wrong-key" not in done.stdout + done.stderr


def test_nobody_there_exits_3(run, photo_file):
    """An endpoint that does not answer is a network error, not a traceback."""
    address = ("--base-url", "http://127.0.0.1:1/compatible-mode/v1")
    done = run("send", photo_file, "-t", "What?", *address)
    assert done.returncode == 3
    assert "connection failed" in done.stderr
    assert "Traceback" not in done.stderr
