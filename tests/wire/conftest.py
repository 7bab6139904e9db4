"""The endpoint in a process of its own, and pictures to send to it."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from qwenvl_prep import PreparedImage, prepare_many

SCRIPT = Path(__file__).with_name("endpoint.py")
KEY = "sk-loopback-0123456789abcdef"


@dataclass(frozen=True)
class Endpoint:
    """Where the endpoint listens, as each SDK wants to be told."""

    root: str
    key: str = KEY

    @property
    def openai(self) -> str:
        """The base of OpenAI's wire."""
        return f"{self.root}/compatible-mode/v1"

    @property
    def dashscope(self) -> str:
        """The base of DashScope's wire."""
        return f"{self.root}/api/v1"

    def base_url(self, wire: str) -> str:
        """Give the base of a wire by its name."""
        return getattr(self, wire)


@pytest.fixture(scope="session")
def endpoint():
    """Start the endpoint once, and end it whatever happens."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        port = listener.getsockname()[1]
        # Isolated (-I): neither PYTHONPATH nor this folder reach the endpoint.
        process = subprocess.Popen(
            [sys.executable, "-I", str(SCRIPT), str(listener.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
    try:
        started = Endpoint(f"http://127.0.0.1:{port}")
        wait_for(started, process)
        yield started
    finally:
        process.stdin.close()
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(endpoint: Endpoint, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    with httpx2.Client(trust_env=False, timeout=5) as client:
        while time.monotonic() < until and process.poll() is None:
            with suppress(httpx2.TransportError):
                client.get(f"{endpoint.root}/healthy").raise_for_status()
                return
            time.sleep(0.05)
    pytest.fail(f"The endpoint did not start (exit status {process.poll()})")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """Keep proxies, keys and addresses of the surroundings out of the tests."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(
            ("OPENAI_", "DASHSCOPE_")
        ):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def picture():
    """Give the bytes of a generated picture; equal arguments, equal bytes."""

    def make(
        height: int,
        width: int,
        format: str = "PNG",  # noqa: A002 - Pillow's word
        mode: str = "RGB",
        orientation: int = 1,
    ) -> bytes:
        ramp = Image.linear_gradient("L").resize((width, height))
        image = Image.merge("RGB", (ramp, ramp.rotate(180), ramp)).convert(mode)
        if mode == "RGBA":
            image.putalpha(ramp)
        options = {}
        if orientation != 1:
            exif = Image.Exif()
            exif[0x0112] = orientation
            options["exif"] = exif
        file = io.BytesIO()
        image.save(file, format, **options)
        return file.getvalue()

    return make


CASES = {
    "jpeg-512x512": (512, 512, "JPEG"),
    "png-1280x1280": (1280, 1280, "PNG"),
    "webp-720x1280": (720, 1280, "WEBP"),
    "bmp-300x200": (300, 200, "BMP"),
    "tiff-1000x1365": (1000, 1365, "TIFF"),
    "jpeg-1365x2048": (1365, 2048, "JPEG"),
    "jpeg-turned": (300, 900, "JPEG", "RGB", 6),
    "png-rgba": (640, 480, "PNG", "RGBA"),
    "png-11x11": (11, 11, "PNG"),
    "png-29x5615": (29, 5615, "PNG"),
    "jpeg-2000x3000": (2000, 3000, "JPEG"),
}


@pytest.fixture(params=CASES.values(), ids=CASES)
def assorted(request, picture):
    """Pictures of all sizes and formats, one after the other."""
    return picture(*request.param)


@pytest.fixture(params=["qwen-vl-max", "qwen3-vl-plus"])
def model(request):
    """One model of each size rule."""
    return request.param


@pytest.fixture(scope="session")
def corpus():
    """Prepare photographs and scanned pages, where the public corpus is at hand."""
    beside = Path(__file__).parents[3] / "shared" / "corpora" / "public"
    root = Path(os.environ.get("QWENVL_PREP_CORPORA", beside))
    files = sorted(
        path
        for folder in ("photos", "documents")
        for path in (root / folder).glob("**/*")
        if path.is_file()
    )
    if not files:
        pytest.skip("no public corpus beside the repository")

    @cache
    def prepared(model: str) -> list[PreparedImage]:
        return [
            result
            for result in prepare_many(files, model=model)
            if isinstance(result, PreparedImage)
        ]

    return prepared
