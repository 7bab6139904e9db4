"""
Print what is promised about strangers' files, measured: R1 to R4, a line each.

R1  whatever comes is prepared and legal, or refused in our words
R2  valid files are accepted
R3  no truncated file is accepted in silence
R4  bombs are refused from their header, or cost no more than told

Pictures run in processes of their own, so that one which ends or never ends is seen
and named; its bytes are kept in out/reliability.  Ends with 1 where a promise is not
kept.  Times are printed, and only hangs count: clocks of shared machines are noisy.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import random
import selectors
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bombs import Bomb, bombs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

TESTS = Path(__file__).resolve().parent
CHILD = TESTS / "isolated" / "reliability_child.py"
CORPUS = Path(
    os.environ.get("QWENVL_PREP_CORPORA")
    or TESTS.parents[1] / "shared" / "corpora" / "public"
)
KEPT = TESTS.parent / "out" / "reliability"

# Above, faults are told by kind; their bytes are kept all the same.
MOST_SHOWN = 40

HANG_SECONDS = 10.0
START_SECONDS = 120.0
# Of R1, so that two cores are done with everything in some minutes.
MUTATIONS = 60_000
CUTS_OF_EACH = 19
# Every way by which pixels go; a mutation takes one of them.
WAYS: tuple[dict[str, Any], ...] = (
    {},
    {"max_tokens": 64},
    {"encoding": "jpeg"},
    {"encoding": "png"},
    {"fidelity": "fast"},
    {"on_truncated": "accept"},
    {"encoding": "keep", "strip_metadata": True},
    {"encoding": "webp", "max_bytes": 20_000},
    {"frame": 1, "color": "keep", "background": "#336699"},
)

ACCEPTED_SHARE = 0.995

CUT_PICTURES, CUT_POINTS = 40, 30
CUT_LEAST_BYTES = 2_048
# The end is where a loss is smallest and so the easiest to overlook.
CUT_FROM_END = (1, 2, 3, 5, 8, 16, 32, 64, 128, 512)

# By task and kind of bomb: seconds and MiB.
BOUNDS = {
    ("prepare", "header"): (0.020, 8.0),
    ("count", "metadata"): (0.005, 2.0),
    ("prepare", "metadata"): (HANG_SECONDS, 32.0),
}


# ------------------------------------------------------------------------- processes


class Child:
    """A process that does one job after another, and is replaced when it is gone."""

    def __init__(self, script: Path = CHILD) -> None:
        self._script = script
        self._process: subprocess.Popen[bytes] | None = None

    def ask(
        self,
        task: str,
        data: bytes,
        *arguments: Any,
        seconds: float = HANG_SECONDS,
    ) -> dict[str, Any]:
        """Give the answer, or ``{"outcome": "crash" | "hang"}`` where none came."""
        process = self._started()
        job = {"task": task, "arguments": arguments, "size": len(data)}
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n" + data)
            process.stdin.flush()
        except BrokenPipeError:
            return self._ended("crash")
        return self._answer(seconds)

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._complaints.close()
            self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed above
            self._process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", str(self._script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._complaints,
                bufsize=1 << 16,
            )
            ready = self._answer(START_SECONDS)
            if ready["outcome"] != "ready":
                sys.exit(f"{self._script} does not start: {ready['detail']}")
        return self._process

    def _answer(self, seconds: float) -> dict[str, Any]:
        stdout = self._process.stdout
        end = time.monotonic() + seconds
        line = b""
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    return self._ended("hang")
                part = os.read(stdout.fileno(), 1 << 16)
                if not part:
                    return self._ended("crash")
                line += part
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self, outcome: str) -> dict[str, Any]:
        if outcome == "hang":
            detail = "no answer in time, and stopped"
        else:
            detail = f"ended with {self._process.wait()}"
        size = self._complaints.seek(0, os.SEEK_END)
        self._complaints.seek(max(0, size - 2_000))
        said = self._complaints.read().decode(errors="replace")
        self.close()
        return {"outcome": outcome, "detail": f"{detail}\n{said}".strip()}


@dataclass(frozen=True)
class Job:
    """What a child is asked, and the name under which its end is told."""

    name: str
    task: str
    make: Callable[[], bytes]
    arguments: tuple[Any, ...] = ()


def run(jobs: Iterable[Job], processes: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Do all jobs on several processes; their order does not matter."""
    waiting = iter(jobs)
    lock = threading.Lock()
    done: list[tuple[Job, dict[str, Any]]] = []

    def work() -> None:
        child = Child()
        try:
            while True:
                with lock:
                    job = next(waiting, None)
                if job is None:
                    return
                data = job.make()
                answer = child.ask(job.task, data, *job.arguments)
                if answer["outcome"] in {"crash", "hang", "foreign", "illegal", "lost"}:
                    lasting = data[: job.arguments[0]] if job.task == "cut" else data
                    answer["kept"] = keep(job.name, lasting)
                done.append((job, answer))
        finally:
            child.close()

    with ThreadPoolExecutor(processes) as pool:
        workers = [pool.submit(work) for _ in range(processes)]
        for worker in workers:
            worker.result()
    return iter(done)


def keep(name: str, data: bytes) -> str:
    """Store what went wrong, to be looked at."""
    KEPT.mkdir(parents=True, exist_ok=True)
    path = KEPT / "".join(c if c.isalnum() or c in ".-_" else "_" for c in name)
    path.write_bytes(data)
    return str(path)


# ------------------------------------------------------------------------- mutations


@dataclass(frozen=True)
class Picture:
    """One file of the corpus."""

    name: str
    data: bytes


def read_corpus(root: Path) -> list[Picture]:
    """Read every file, in one order."""
    names = sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and path.name not in {"MANIFEST.tsv", "SOURCES.md"}
    )
    return [Picture(str(path.relative_to(root)), path.read_bytes()) for path in names]


# Lengths, sizes and counts that overflow, or are just not what they should be.
ODD_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31)
ODD_NUMBERS += (2**32 - 1, 10_000, 40_000)


def mutated(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """Damage a file in one to four places; the first bytes are hit more often."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        reach = max(1, len(changed))
        if chance.random() < 0.5:
            reach = min(reach, 512)
        at = chance.randrange(reach)
        length = min(chance.choice((1, 2, 4, 16, 64, 1_000)), len(changed) - at)
        match chance.randrange(7):
            case 0 if changed:
                changed[min(at, len(changed) - 1)] ^= 1 << chance.randrange(8)
            case 1:
                changed[at : at + length] = chance.randbytes(length)
            case 2:
                size = chance.choice((1, 2, 4))
                number = chance.choice(ODD_NUMBERS) % 256**size
                order = chance.choice(("big", "little"))
                changed[at : at + size] = number.to_bytes(size, order)
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at : at + length] * chance.randint(1, 8)
            case 5:
                # Another file's bytes at the same place: its header, its chunks.
                changed[at : at + length] = other[at : at + length]
            case _:
                del changed[chance.randrange(len(changed) + 1) :]
    return bytes(changed)


def with_checksums(data: bytes) -> bytes:
    """Mend the checksums of a PNG, or its damage would be found at the door."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    mended, at = bytearray(data), 8
    while at + 12 <= len(mended):
        end = at + 8 + int.from_bytes(mended[at : at + 4])
        if end + 4 > len(mended):
            break
        mended[end : end + 4] = zlib.crc32(mended[at + 4 : end]).to_bytes(4)
        at = end + 4
    return bytes(mended)


def mutation(
    accepted: list[Picture], pictures: list[Picture], seed: int, number: int
) -> Job:
    """Give the mutation of a number: the same for the same corpus."""
    chance = random.Random(f"{seed}:{number}")
    # Damage gets further into a file that is whole; most of a corpus is broken.
    picture = chance.choice(accepted if chance.random() < 0.8 else pictures)
    other, way = chance.choice(pictures), chance.choice(WAYS)
    is_mended = chance.random() < 0.8
    name = f"mutation {seed}-{number} of {picture.name} {json.dumps(way)}"

    def make() -> bytes:
        data = mutated(picture.data, other.data, chance)
        return with_checksums(data) if is_mended else data

    return Job(name, "prepare", make, (way,))


def truncations(picture: Picture) -> Iterator[Job]:
    """Cut a file at every twentieth of its length."""
    size = len(picture.data)
    ends = {size * part // (CUTS_OF_EACH + 1) for part in range(1, CUTS_OF_EACH + 1)}
    for end in sorted(ends):
        yield Job(
            f"first {end} bytes of {picture.name}",
            "prepare",
            lambda end=end: picture.data[:end],
            ({},),
        )


# -------------------------------------------------------------------------- promises


@dataclass(frozen=True)
class Verdict:
    """One promise: the line that tells it, and what broke it."""

    promise: str
    is_kept: bool
    measured: str
    wanted: str
    faults: tuple[str, ...] = ()

    def __str__(self) -> str:
        word = "ok" if self.is_kept else "NOT"
        line = f"{self.promise}  {word:3}  {self.measured}; wanted {self.wanted}"
        return "\n".join([line, *map(indented, shown(self.faults))])


def shown(faults: Sequence[str]) -> list[str]:
    """Give one fault for each way to end, where there are many."""
    if len(faults) <= MOST_SHOWN:
        return list(faults)
    alike: dict[str, list[str]] = defaultdict(list)
    for fault in faults:
        # Names and numbers differ from one case to the next; the last words before
        # the place of the bytes tell the way.
        words = [line for line in fault.split("\n") if not line.startswith("bytes in")]
        alike["".join(c for c in words[-1] if not c.isdigit())].append(fault)
    lines = []
    for group in list(alike.values())[:MOST_SHOWN]:
        lines.append(group[0])
        if len(group) > 1:
            lines.append(f"... and {len(group) - 1:,} that end alike")
    if len(alike) > MOST_SHOWN:
        lines.append(f"... and {len(alike) - MOST_SHOWN} other ways to end")
    return lines


def indented(text: str) -> str:
    return "      " + text.replace("\n", "\n        ")


def told(job: Job, answer: dict[str, Any]) -> str:
    """Give what went wrong with a job, and where its bytes are."""
    parts = [f"{answer['outcome']}: {job.name}", answer.get("detail", "").strip()]
    if "kept" in answer:
        parts.append(f"bytes in {answer['kept']}")
    return "\n".join(part for part in parts if part)


def promise_1(
    answers: list[tuple[Job, dict[str, Any]]], counts: dict[str, int]
) -> Verdict:
    """R1: legal or refused, and nothing else."""
    outcomes = Counter(answer["outcome"] for _, answer in answers)
    good = {"prepared", "refused"}
    bad = [pair for pair in answers if pair[1]["outcome"] not in good]
    parts = ", ".join(f"{number:,} {name}" for name, number in counts.items())
    return Verdict(
        "R1",
        not bad,
        f"{len(answers):,} runs ({parts}): {outcomes['crash']} crashes, "
        f"{outcomes['hang']} hangs > {HANG_SECONDS:.0f} s, "
        f"{outcomes['foreign']} foreign exceptions, {outcomes['illegal']} illegal "
        f"({outcomes['prepared']:,} prepared, {outcomes['refused']:,} refused)",
        "0 of each",
        tuple(told(*pair) for pair in bad),
    )


def promise_2(whole: dict[str, dict[str, Any]], valid: list[str]) -> Verdict:
    """R2: valid files are accepted, except where the API takes no such picture."""
    answers = {name: whole[name] for name in valid if name in whole}
    apis = [name for name, one in answers.items() if one.get("is_apis")]
    refusals = [
        f"{name}\n{one.get('detail', one['outcome'])}"
        for name, one in answers.items()
        if one["outcome"] != "prepared" and name not in apis
    ]
    number = len(answers) - len(apis)
    share = 1 - len(refusals) / number if number else 0.0
    return Verdict(
        "R2",
        share >= ACCEPTED_SHARE,
        f"{number - len(refusals):,} of {number:,} valid files accepted, {share:.1%} "
        f"(not counted: {len(apis)} whose sides or ratio the API refuses)",
        f"≥ {ACCEPTED_SHARE:.1%}",
        tuple(refusals),
    )


def cut_jobs(
    pictures: list[Picture], whole: dict[str, dict[str, Any]], seed: int
) -> list[Job]:
    """Choose pictures of every kind in turn, and cut each at many points."""
    chance = random.Random(f"cuts {seed}")
    kinds: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        answer = whole[picture.name]
        if answer["outcome"] == "prepared" and len(picture.data) >= CUT_LEAST_BYTES:
            kinds[answer["kind"]].append(picture)
    for group in kinds.values():
        chance.shuffle(group)
        # The largest is the likeliest to be made of pieces, such as a phone's tiles,
        # which can be missing one by one.
        largest = max(group, key=lambda picture: len(picture.data))
        group.remove(largest)
        group.insert(0, largest)
    rounds = itertools.zip_longest(*(kinds[kind] for kind in sorted(kinds)))
    chosen = [one for turn in rounds for one in turn if one][:CUT_PICTURES]
    jobs = []
    for picture in chosen:
        size = len(picture.data)
        parts = CUT_POINTS - len(CUT_FROM_END)
        ends = [int(size * (part + chance.random()) / parts) for part in range(parts)]
        ends += [size - less for less in CUT_FROM_END]
        kind = whole[picture.name]["kind"]
        for end in ends:
            end = min(max(end, 1), size - 1)
            name = f"first {end} of {size} bytes of {picture.name} ({kind})"
            jobs.append(Job(name, "cut", lambda picture=picture: picture.data, (end,)))
    return jobs


def promise_3(answers: list[tuple[Job, dict[str, Any]]]) -> Verdict:
    """R3: what lost pixels is refused."""
    outcomes = Counter(answer["outcome"] for _, answer in answers)
    bad = [pair for pair in answers if pair[1]["outcome"] not in {"refused", "same"}]
    return Verdict(
        "R3",
        not bad and bool(answers),
        f"{len(bad)} of {len(answers):,} truncated files accepted in silence "
        f"({outcomes['refused']:,} refused, {outcomes['same']} accepted with every "
        f"pixel there)",
        "0",
        tuple(told(*pair) for pair in bad),
    )


def detonate(bomb: Bomb, task: str) -> tuple[bool, bool, str]:
    """Measure one bomb in a new process: kept to its memory, to its time, in words."""
    child = Child()
    # What it may take is told by the line; the watchdog is for what never ends.
    answer = child.ask("bomb", bomb.data, task, bomb.format, seconds=60.0)
    child.close()
    most_seconds, most_mib = BOUNDS[task, bomb.kind]
    outcome = answer["outcome"]
    if "growth" not in answer:
        detail = answer.get("detail", "")
        return False, False, f"NOT  {task} {bomb.name}: {outcome} {detail}"
    allowed = {"refused"}
    if bomb.kind == "metadata":
        allowed |= {"counted", "prepared"}
    is_kept = outcome in allowed and answer["growth"] <= most_mib
    is_in_time = answer["seconds"] <= most_seconds
    word = "NOT" if not is_kept else "ok" if is_in_time else "slow"
    figures = f"{answer['seconds'] * 1_000:.2f} ms, {answer['growth']:.1f} MiB"
    name = f"{bomb.name} ({len(bomb.data):,} bytes)"
    return is_kept, is_in_time, f"{word:4} {task:7} {name}: {outcome}, {figures}"


def promise_4() -> Verdict:
    """R4: each bomb by itself, in what it may take."""
    rows = []
    for bomb in bombs():
        tasks = ["prepare"] if bomb.kind == "header" else ["count", "prepare"]
        rows += [detonate(bomb, task) for task in tasks]
    kept = sum(row[0] for row in rows)
    in_time = sum(row[1] for row in rows)
    return Verdict(
        "R4",
        kept == len(rows),
        f"{kept} of {len(rows)} measurements of bombs within what they may take, "
        f"{in_time} in time",
        "all: refused from the header ≤ 20 ms and ≤ 8 MiB; metadata counted ≤ 5 ms and "
        "≤ 2 MiB, prepared ≤ 32 MiB",
        tuple(row[2] for row in rows),
    )


# ------------------------------------------------------------------------------ main


def valid_files(root: Path) -> list[str]:
    """Give the files that two decoders accept."""
    with (root / "MANIFEST.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return [row["file"] for row in rows if row["expect"] == "accept"]


def say(verdict: Verdict) -> bool:
    sys.stdout.write(f"{verdict}\n")
    sys.stdout.flush()
    return verdict.is_kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--mutations", type=int, default=MUTATIONS, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--corpus", type=Path, default=CORPUS)
    options = parser.parse_args()
    if not options.corpus.is_dir():
        say(promise_4())
        sys.exit(
            f"R1 to R3 are not measured: there is no corpus in {options.corpus}; set "
            "QWENVL_PREP_CORPORA to a folder of pictures with its MANIFEST.tsv"
        )
    pictures = read_corpus(options.corpus)
    jobs = [
        Job(picture.name, "prepare", lambda picture=picture: picture.data, ({},))
        for picture in pictures
    ]
    answers = list(run(jobs, options.processes))
    whole = {job.name: answer for job, answer in answers}
    accepted = [one for one in pictures if whole[one.name]["outcome"] == "prepared"]
    cuts = [job for picture in pictures for job in truncations(picture)]
    answers += run(cuts, options.processes)
    numbers = range(options.mutations)
    mutations = (
        mutation(accepted or pictures, pictures, options.seed, number)
        for number in numbers
    )
    answers += run(mutations, options.processes)
    counts = {"whole": len(whole), "truncated": len(cuts), "mutated": options.mutations}
    kept = [say(promise_1(answers, counts))]
    if (options.corpus / "MANIFEST.tsv").is_file():
        kept.append(say(promise_2(whole, valid_files(options.corpus))))
    else:
        sys.stdout.write("R2  not measured: there is no MANIFEST.tsv\n")
    losses = cut_jobs(pictures, whole, options.seed)
    kept.append(say(promise_3(list(run(losses, options.processes)))))
    kept.append(say(promise_4()))
    sys.exit(not all(kept))


if __name__ == "__main__":
    main()
