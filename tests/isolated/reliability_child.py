"""
Prepare what comes down the pipe, and say in one line each what became of it.

Run by tests/reliability.py, so that a picture that ends the process, or never ends,
takes only this one along.  A job is a line of JSON, which tells how many bytes follow.
"""

from __future__ import annotations

import gc
import io
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import qwenvl_prep as qp
from qwenvl_prep.decode import decode

# What asks for more is to fail here and not to take the machine along.
MEMORY = 4 * 2**30
# The API refuses such pictures, however they are stored.
REFUSED_BY_API = {"side-too-small", "aspect-ratio"}
ROUNDS = 7
DONE = {"count": "counted", "prepare": "prepared"}


def prepared(data: bytes, options: dict[str, Any]) -> dict[str, Any]:
    """Prepare, and hold the result against what was promised."""
    try:
        image = qp.prepare(data, **options)
    except qp.errors.QwenVLPrepError as exc:
        return refused(exc)
    report = qp.validate(image.data_uri)
    faults = [one.message for one in report.findings if one.severity == "error"]
    info = report.info
    # What is kept on request is sent as it is stored, and only promised to be legal.
    is_kept = options.get("encoding") == "keep"
    if info is None or info.media_type != image.media_type:
        faults.append(f"labelled {image.media_type}")
    elif (image.height, image.width) != (
        (info.height, info.width)
        if is_kept
        else (info.upright_height, info.upright_width)
    ):
        faults.append(f"said to be {image.height} × {image.width}")
    elif not is_kept and (info.orientation != 1 or info.has_alpha):
        faults.append("not upright, or not opaque")
    if faults:
        return {"outcome": "illegal", "detail": "; ".join(faults)}
    source = image.plan.info
    kind = source.format + (", progressive" if source.is_progressive else "")
    return {"outcome": "prepared", "kind": kind}


def refused(exc: Exception) -> dict[str, Any]:
    codes = {finding.code for finding in getattr(exc, "findings", ())}
    is_apis = bool(codes & REFUSED_BY_API) or isinstance(
        exc, qp.errors.AspectRatioError
    )
    return {
        "outcome": "refused",
        "detail": f"{type(exc).__name__}: {exc}",
        "is_apis": is_apis,
    }


def cut(data: bytes, length: int) -> dict[str, Any]:
    """Prepare the beginning of a file; where that is accepted, look for what lacks."""
    beginning = data[:length]
    try:
        qp.prepare(beginning)
    except qp.errors.QwenVLPrepError as exc:
        return refused(exc)
    # What was accepted may have been kept undecoded, so both are decoded here.
    whole = decode(data, qp.probe(data)).data
    try:
        part = decode(beginning, qp.probe(beginning)).data
    except qp.errors.QwenVLPrepError as exc:
        return {"outcome": "lost", "detail": f"accepted, yet {exc}"}
    if np.array_equal(whole, part):
        return {"outcome": "same"}
    share = float((whole != part).mean()) if whole.shape == part.shape else float("nan")
    return {"outcome": "lost", "detail": f"{share:.1%} of the samples differ"}


def bomb(data: bytes, work: str, kind: str) -> dict[str, Any]:
    """Measure the memory of a first run, and the time of the best of several."""
    task = {"count": qp.count_tokens, "prepare": qp.prepare}[work]
    small = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 90, 40)).save(small, kind)
    # What is loaded once for any picture of the type is not the bomb's.
    qp.count_tokens(small.getvalue())
    qp.prepare(small.getvalue())
    gc.collect()
    # Sets the peak to what is held now; see proc(5).
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = status_kib("VmHWM")
    seconds, spent = [], 0.0
    while not seconds or (len(seconds) < ROUNDS and spent < 1):
        start = time.perf_counter()
        try:
            task(data)
            reply = {"outcome": DONE[work]}
        except qp.errors.QwenVLPrepError as exc:
            reply = refused(exc)
        seconds.append(time.perf_counter() - start)
        spent += seconds[-1]
        if len(seconds) == 1:
            growth = status_kib("VmHWM") - before
    return {**reply, "seconds": min(seconds), "growth": growth / 1_024}


def status_kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise RuntimeError(f"no {field} in /proc/self/status")


TASKS = {"prepare": prepared, "cut": cut, "bomb": bomb}


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    jobs = sys.stdin.buffer
    # What libraries print to the standard output is not to be taken for an answer.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    replies.write('{"outcome": "ready"}\n')
    replies.flush()
    while line := jobs.readline():
        job = json.loads(line)
        data = jobs.read(job["size"])
        try:
            reply = TASKS[job["task"]](data, *job["arguments"])
        except BaseException:  # noqa: BLE001 - anything that is not ours is the finding
            reply = {"outcome": "foreign", "detail": traceback.format_exc()}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    main()
