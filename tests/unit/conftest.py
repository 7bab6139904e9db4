"""How the unit tests run the command line, in this process and in one of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import types
import warnings

import pytest

from qwenvl_prep import cli

PATH = os.pathsep.join(entry for entry in sys.path if entry)


class Result(types.SimpleNamespace):
    """What a run left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[dict]:
        """Every line of stdout, as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def words(self) -> str:
        """Everything on stdout, with single spaces."""
        return " ".join(self.out.split())

    def __repr__(self) -> str:
        return f"status {self.code}\n{self.out}\n---\n{self.err}"


@pytest.fixture
def run(monkeypatch, capsys):
    """Give a function that runs the command line in this process."""
    monkeypatch.delenv("DASHSCOPE_API_KEY", raising=False)

    def run_(*words, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "argv", ["qwenvl-prep", *map(str, words)])
        stream = io.TextIOWrapper(io.BytesIO(stdin))
        monkeypatch.setattr(sys, "stdin", stream)
        with warnings.catch_warnings(), pytest.raises(SystemExit) as left:
            cli.main()
        captured = capsys.readouterr()
        result = Result(code=left.value.code, out=captured.out, err=captured.err)
        assert "Traceback" not in result.out + result.err, result
        return result

    return run_


@pytest.fixture
def spawn():
    """Give a function that runs the command line as a process of its own."""

    def spawn_(*words, stdin: bytes = b"", cwd=None, **environ: str) -> Result:
        environ = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": PATH,
            "PYTHONIOENCODING": "utf-8",
            **environ,
        }
        done = subprocess.run(
            [sys.executable, "-m", "qwenvl_prep", *map(os.fspath, words)],
            input=stdin,
            capture_output=True,
            timeout=60,
            cwd=cwd,
            env=environ,
            check=False,
        )
        result = Result(
            code=done.returncode,
            out=done.stdout.decode("utf-8", "replace"),
            err=done.stderr.decode("utf-8", "replace"),
        )
        assert "Traceback" not in result.out + result.err, result
        return result

    return spawn_
