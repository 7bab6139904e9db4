"""Counting behind addresses: a few KB by ranges, and every way a server goes wrong."""

from __future__ import annotations

import io
import random
import re
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner
from PIL import Image

from qwenvl_prep import Fetcher, addresses, count_tokens, probe
from qwenvl_prep.cli import cli
from qwenvl_prep.errors import (
    AddressError,
    DamagedImageError,
    FetchDeadlineError,
    FetchError,
    ImageError,
    NotAnImageError,
    QwenVLPrepError,
    SourceError,
)

HEAD = 4096
BUDGET = 256 * 1024
HOST = "pictures.example"


def jpeg(size: int = 0, *, before: int = 0) -> bytes:
    """Give a JPEG of 60 × 80, padded behind and, by APP15 segments, before the size."""
    file = io.BytesIO()
    Image.new("RGB", (80, 60), (200, 30, 30)).save(file, "JPEG")
    data = file.getvalue()
    rest, segments = before, b""
    while rest > 0:
        length = min(rest, 60_000)
        segments += b"\xff\xef" + struct.pack(">H", length + 2) + bytes(length)
        rest -= length
    data = data[:2] + segments + data[2:]
    return data + random.Random(7).randbytes(max(size - len(data), 0))


LARGE = jpeg(10_000_000)


class Site:
    """A server on loopback whose every answer is written by the test."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.pages = {}
        self.heads: list[str] = []
        self.bodies_sent = 0
        self.connections = 0
        self._context = context
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(
                target=self._serve, args=(connection,), daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), ExitStack() as stack:
            stack.enter_context(connection)
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
                stack.enter_context(connection)
            file = stack.enter_context(connection.makefile("rb"))
            while True:
                head = ""
                while not head.endswith("\r\n\r\n"):
                    line = file.readline().decode("latin-1")
                    if not line:
                        return
                    head += line
                self.heads.append(head)
                path = head.split(" ")[1].partition("?")[0]
                keep = self.pages[path](self, connection, head)
                if not keep:
                    return

    def pause(self, seconds: float) -> bool:
        """Wait, but not beyond the end of the test; tell whether that has come."""
        return self._stop.wait(seconds)

    def close(self) -> None:
        """Take no more connections, and let those that trickle go."""
        self._stop.set()
        self._listener.close()


def respond(site, connection, status, headers, body=b""):
    """Write a whole answer."""
    lines = [f"HTTP/1.1 {status} X", *(f"{k}: {v}" for k, v in headers.items())]
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
    # In pieces, so that what a client did not wait for is not counted.
    for start in range(0, len(body), 4096):
        # Before it is sent: the client may be done before this thread goes on.
        site.bodies_sent += len(body[start : start + 4096])
        connection.sendall(body[start : start + 4096])
    return True


def span_of(head: str) -> tuple[int, int] | None:
    found = re.search(r"(?im)^range: bytes=(\d+)-(\d+)\r$", head)
    return (int(found[1]), int(found[2])) if found else None


def ranged(data: bytes, **more: str):
    """Serve a file as a good server does."""

    def page(site, connection, head):
        span = span_of(head)
        if span is None:
            length = {"Content-Length": len(data)}
            return respond(site, connection, 200, length | more, data)
        start, stop = span[0], min(span[1], len(data) - 1)
        if start >= len(data):
            return respond(site, connection, 416, {"Content-Length": 0})
        part = data[start : stop + 1]
        headers = {
            "Content-Length": len(part),
            "Content-Range": f"bytes {start}-{stop}/{len(data)}",
        }
        return respond(site, connection, 206, headers | more, part)

    return page


def plain(data: bytes, **headers: str):
    """Serve a file as a server does that knows no ranges."""

    def page(site, connection, _head):
        length = {} if headers else {"Content-Length": len(data)}
        respond(site, connection, 200, length | headers, data)
        return bool(length)

    return page


def chunked(data: bytes):
    """Serve a file without telling its length."""

    def page(site, connection, _head):
        respond(site, connection, 200, {"Transfer-Encoding": "chunked"})
        for start in range(0, len(data), 4096):
            piece = data[start : start + 4096]
            site.bodies_sent += len(piece)
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
        return True

    return page


def fixed(status: int, body: bytes = b"", **headers: str):
    """Give one answer to every question."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def page(site, connection, _head):
        length = {"Content-Length": len(body)}
        return respond(site, connection, status, length | named, body)

    return page


def to(location: str, status: int = 302):
    """Redirect."""
    return fixed(status, Location=location)


@pytest.fixture
def site():
    running = Site()
    yield running
    running.close()


@pytest.fixture
def fetcher():
    with Fetcher(allow_private=True, timeout=5) as running:
        yield running


# ---------------------------------------------------------------------------- few bytes


def test_a_large_photo_costs_a_few_kilobytes(site, fetcher):
    """A JPEG of 10 MB is counted by one request and 4 KiB, its length included."""
    site.pages["/a.jpg"] = ranged(LARGE)
    info = fetcher.probe(f"{site.url}/a.jpg")
    assert info == probe(LARGE)
    assert info.encoded_size == len(LARGE)
    assert site.bodies_sent == HEAD
    assert HEAD < fetcher.bytes_received < HEAD + 300
    assert len(site.heads) == 1


@pytest.mark.parametrize("before", [5_000, 60_000, 170_000, 900_000])
def test_a_size_behind_long_metadata_is_jumped_to(site, fetcher, before):
    """Where the size lies deep in the file, only what leads there is read."""
    data = jpeg(2_000_000, before=before)
    site.pages["/a.jpg"] = ranged(data)
    assert fetcher.probe(f"{site.url}/a.jpg") == probe(data)
    assert site.bodies_sent <= HEAD * (2 + before // 60_000)
    assert site.connections == 1


@pytest.mark.parametrize(
    "kind", ["PNG", "WEBP", "TIFF", "BMP", "GIF", "ICO", "JPEG2000"]
)
def test_every_kind_says_what_its_file_says(site, fetcher, kind):
    """What is read in parts equals what is read from the bytes at once."""
    image = Image.effect_noise((300, 200), 90).convert("RGB")
    file = io.BytesIO()
    frames = {"save_all": True, "append_images": [image.rotate(90)]}
    image.save(file, kind, **(frames if kind in {"GIF", "TIFF", "WEBP"} else {}))
    data = file.getvalue()
    for name, page in (("r", ranged), ("p", plain), ("c", chunked)):
        site.pages[f"/{name}"] = page(data)
        found = fetcher.probe(f"{site.url}/{name}")
        if name == "c" and found.encoded_size == 0:
            found = replace(found, encoded_size=len(data))
        assert found == probe(data), name


def test_a_long_animation_is_counted_as_far_as_the_bytes_reach(site, fetcher):
    """A GIF that would be walked from end to end costs at most the header's budget."""
    image = Image.effect_noise((400, 400), 90)
    file = io.BytesIO()
    image.save(file, "GIF", save_all=True, append_images=[image.rotate(1)] * 20)
    site.pages["/a.gif"] = ranged(file.getvalue())
    info = fetcher.probe(f"{site.url}/a.gif")
    assert (info.height, info.width) == (400, 400)
    assert info.n_frames > 1
    assert site.bodies_sent <= BUDGET
    assert len(site.heads) < 12


def test_one_frame_can_be_asked_for(site, fetcher):
    """frame= means what it means for a file."""
    pages = [Image.new("L", (30, 20)), Image.new("L", (50, 40))]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    site.pages["/a.tif"] = ranged(file.getvalue())
    assert fetcher.probe(f"{site.url}/a.tif", frame=1).height == 40


def test_connections_are_used_again(site, fetcher):
    """Three pictures of one host, one of them in parts, need one connection."""
    for name, before in (("a", 0), ("b", 90_000), ("c", 0)):
        site.pages[f"/{name}"] = ranged(jpeg(500_000, before=before))
        fetcher.probe(f"{site.url}/{name}")
    assert site.connections == 1
    assert len(site.heads) > 3


def test_threads_share_a_fetcher(site, fetcher):
    """Eight threads get the answers of one, and every byte is counted."""
    data = jpeg(400_000, before=90_000)
    site.pages["/a.jpg"] = ranged(data)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(fetcher.probe, [f"{site.url}/a.jpg"] * 64))
    assert found == {probe(data)}
    assert site.bodies_sent < fetcher.bytes_received < site.bodies_sent + 64 * 3 * 200


def test_nothing_of_ours_is_sent(site, monkeypatch):
    """No cookie, no password of netrc, no proxy: only what the request needs."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    site.pages["/a.jpg"] = ranged(LARGE, **{"Set-Cookie": "k=canary; Path=/"})
    with Fetcher(allow_private=True) as fetcher:
        for _ in range(2):
            fetcher.probe(f"{site.url}/a.jpg?q=1")
    names = {line.partition(":")[0].lower() for line in site.heads[1].split("\r\n")[1:]}
    wanted = {"host", "user-agent", "accept", "accept-encoding", "range"}
    assert names - {""} == wanted
    assert "accept-encoding: identity" in site.heads[1].lower()
    assert site.heads[1].startswith("GET /a.jpg?q=1 HTTP/1.1\r\n")


# --------------------------------------------------------------- servers without ranges


def test_a_server_without_ranges_is_left_early(site, fetcher):
    """A 200 is read only as far as the header goes, then the connection is closed."""
    site.pages["/a.jpg"] = plain(LARGE)
    assert fetcher.probe(f"{site.url}/a.jpg") == probe(LARGE)
    assert fetcher.bytes_received <= 2 * 16 * 1024
    # The rest lies in the buffers of the operating system at most.
    assert site.bodies_sent < len(LARGE) / 2


def test_a_length_that_nobody_tells_is_0(site, fetcher):
    """A stream without a length is read as far as needed, and has no size."""
    for name, page in (("c", chunked), ("n", lambda d: plain(d, Connection="close"))):
        site.pages[f"/{name}"] = page(LARGE)
        info = fetcher.probe(f"{site.url}/{name}")
        assert (info.height, info.width, info.encoded_size) == (60, 80, 0)
    assert fetcher.bytes_received < 100_000


def test_a_range_of_unknown_total_is_taken(site, fetcher):
    """A total of * is legal; the size is then not known."""
    data = jpeg(400_000, before=90_000)

    def page(site, connection, head):
        start, stop = span_of(head)
        part = data[start : stop + 1]
        headers = {
            "Content-Length": len(part),
            "Content-Range": f"bytes {start}-{start + len(part) - 1}/*",
        }
        return respond(site, connection, 206, headers, part)

    site.pages["/a.jpg"] = page
    info = fetcher.probe(f"{site.url}/a.jpg")
    assert (info.height, info.encoded_size) == (60, 0)


@pytest.mark.parametrize("page", [plain, chunked])
def test_a_header_too_deep_for_a_stream_is_told_as_that(site, fetcher, page):
    """Without ranges the reading ends at 256 KiB; the file is not called damaged."""
    site.pages["/a.jpg"] = page(jpeg(3_000_000, before=900_000))
    with pytest.raises(FetchError, match="gives no ranges"):
        fetcher.probe(f"{site.url}/a.jpg")
    assert fetcher.bytes_received < BUDGET + 70_000


@pytest.mark.parametrize("page", [ranged, plain, chunked])
def test_what_is_no_picture_is_told_as_that(site, fetcher, page):
    """An error page, an archive, nothing and half a header: the usual errors."""
    site.pages["/page"] = page(b"<!doctype html><html>" + b" " * 6_000)
    site.pages["/zip"] = page(b"PK\3\4" + bytes(9_000))
    site.pages["/junk"] = page(random.Random(3).randbytes(9_000))
    site.pages["/half"] = page(jpeg(before=20_000)[:15_000])
    for name in ("page", "zip", "junk"):
        with pytest.raises(NotAnImageError):
            fetcher.probe(f"{site.url}/{name}")
    with pytest.raises(DamagedImageError, match="15,000"):
        fetcher.probe(f"{site.url}/half")
    if page is not ranged:
        site.pages["/empty"] = page(b"")
        with pytest.raises(ImageError):
            fetcher.probe(f"{site.url}/empty")


# --------------------------------------------------------------------- servers that lie


def lying(content_range: str | None, part: bytes = LARGE[:HEAD], **more: str):
    """Answer 206 with whatever is said here."""
    headers = {"Content-Length": len(part), "Content-Range": content_range}

    def page(site, connection, _head):
        told = {k: v for k, v in (headers | more).items() if v is not None}
        return respond(site, connection, 206, told, part)

    return page


LIES = {
    "no range told": lying(None),
    "another start": lying("bytes 1-4096/10000000"),
    "longer than asked": lying("bytes 0-8191/10000000", LARGE[:8192]),
    "backwards": lying("bytes 4095-0/10000000"),
    "beyond the end": lying("bytes 0-4095/100"),
    "empty file": lying("bytes 0-4095/0"),
    "more than told": lying("bytes 0-99/10000000"),
    "fewer than told": lying("bytes 0-4095/10000000", LARGE[:100]),
    "another unit": lying("pixels 0-4095/10000000"),
    "endless number": lying("bytes 0-4095/" + "9" * 400),
    "negative": lying("bytes -1-4095/10000000"),
    "many parts": lying(None, Content_Type="multipart/byteranges; boundary=x"),
    "compressed": lying("bytes 0-4095/10000000", **{"Content-Encoding": "gzip"}),
    "compressed whole": fixed(200, b"\x1f\x8b" * 900, Content_Encoding="gzip"),
    "brotli": fixed(200, b"\x1f\x8b" * 900, Content_Encoding="br"),
    "no content": fixed(204),
    "not modified": fixed(304),
    "not found": fixed(404, b"<html>" * 900),
    "range refused": fixed(416, Content_Range="bytes */10000000"),
    "failure": fixed(500),
    "redirect to nowhere": fixed(302),
    "multiple choices": fixed(300),
}


@pytest.mark.parametrize("page", LIES.values(), ids=LIES)
def test_a_wrong_answer_is_an_error_of_fetching(site, fetcher, page):
    """Whatever does not fit the question is refused, and shows no secret."""
    site.pages["/a.jpg"] = page
    with pytest.raises(FetchError) as caught:
        fetcher.probe(f"{site.url}/a.jpg?Signature=canary")
    assert "canary" not in f"{caught.value} {caught.value!r} {caught.value.address}"
    assert caught.value.address == f"{site.url}/a.jpg"


def test_parts_of_one_byte_are_an_error_of_fetching(site, fetcher):
    """As many questions as a header is worth do not give its first page."""

    def page(site, connection, head):
        at = span_of(head)[0]
        told = {"Content-Length": 1, "Content-Range": f"bytes {at}-{at}/{len(LARGE)}"}
        return respond(site, connection, 206, told, LARGE[at : at + 1])

    site.pages["/a.jpg"] = page
    with pytest.raises(FetchError, match="too few"):
        fetcher.probe(f"{site.url}/a.jpg")
    assert len(site.heads) == 32


def test_neither_of_two_codings_hides_the_other(site, fetcher):
    """What is told in two lines is one list."""

    def page(_site, connection, _head):
        lines = "Content-Encoding: gzip\r\nContent-Encoding: identity\r\n"
        head = f"HTTP/1.1 200 X\r\n{lines}Content-Length: {len(LARGE)}\r\n\r\n"
        connection.sendall(head.encode() + LARGE)
        return False

    site.pages["/a.jpg"] = page
    with pytest.raises(FetchError, match="compressed"):
        fetcher.fetch(f"{site.url}/a.jpg")


def test_the_status_is_a_number_of_the_error(site, fetcher):
    """Nobody has to read a 404 out of a message."""
    site.pages["/a.jpg"] = fixed(404)
    with pytest.raises(FetchError) as caught:
        fetcher.probe(f"{site.url}/a.jpg")
    assert caught.value.status == 404


RAW = {
    "nothing": b"",
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "half a head": b"HTTP/1.1 206 X\r\nContent-Le",
    "wrong length": b"HTTP/1.1 200 X\r\nContent-Length: -5\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 X\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    "wrong chunks": b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "endless head": b"HTTP/1.1 200 X\r\n" + b"A: " + b"b" * 300_000,
    "cut off": b"HTTP/1.1 200 X\r\nContent-Length: 9000\r\n\r\n\xff\xd8\xff",
    "cut part": b"HTTP/1.1 206 X\r\nContent-Length: 4096\r\n"
    b"Content-Range: bytes 0-4095/9999\r\n\r\n\xff\xd8\xff",
    "zero in head": b"HTTP/1.1 200 X\r\nA: \0\r\n\r\n",
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW)
def test_what_is_no_http_is_an_error_of_fetching(site, fetcher, raw):
    """Broken and foreign protocols end as errors of ours, without what was sent."""

    def page(_site, connection, _head):
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        return False

    site.pages["/a.jpg"] = page
    with pytest.raises(FetchError) as caught:
        fetcher.probe(f"{site.url}/a.jpg")
    assert "SSH" not in str(caught.value)


def test_a_file_that_changes_between_two_parts_is_refused(site, fetcher):
    """Half of one picture and half of another would be counted as a third."""
    data = jpeg(400_000, before=90_000)
    for name, following in {
        "tag": ranged(data, ETag='"2"'),
        "size": ranged(data + b"x", ETag='"1"'),
        "whole": plain(data),
    }.items():
        pages = [ranged(data, ETag='"1"'), following]

        def page(site, connection, head, pages=pages):
            start = span_of(head)[0]
            return pages[bool(start)](site, connection, head)

        site.pages[f"/{name}"] = page
        with pytest.raises(FetchError, match=r"changes while|no more"):
            fetcher.probe(f"{site.url}/{name}")


def test_other_bytes_under_a_right_label_are_an_error_of_ours(site, fetcher):
    """A cache that always sends the first bytes is caught by the header itself."""

    def page(site, connection, head):
        start, stop = span_of(head)
        part = jpeg(400_000, before=90_000)[: stop - start + 1]
        headers = {
            "Content-Length": len(part),
            "Content-Range": f"bytes {start}-{stop}/400000",
        }
        return respond(site, connection, 206, headers, part)

    site.pages["/a.jpg"] = page
    with pytest.raises(QwenVLPrepError):
        fetcher.probe(f"{site.url}/a.jpg")


def test_nobody_listens(fetcher):
    """A refused connection is told, without a traceback of the library."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(FetchError, match="refused"):
        fetcher.probe(f"http://127.0.0.1:{port}/a.jpg")


# -------------------------------------------------------------------------- whole files


def test_a_whole_file_is_fetched(site, fetcher):
    """What arrives are the bytes, with or without a length."""
    data = jpeg(300_000)
    for name, page in (("r", ranged), ("p", plain), ("c", chunked)):
        site.pages[f"/{name}"] = page(data)
        assert fetcher.fetch(f"{site.url}/{name}") == data
    assert "range:" not in site.heads[0].lower()


def test_a_file_above_the_limit_is_not_fetched(site):
    """A length above the limit ends it at once, a stream above it as soon as it is."""
    site.pages["/p"], site.pages["/c"] = plain(LARGE), chunked(LARGE)
    with Fetcher(allow_private=True, max_bytes=100_000) as fetcher:
        with pytest.raises(FetchError, match="announces 10,000,000"):
            fetcher.fetch(f"{site.url}/p")
        assert fetcher.bytes_received < 20_000
        with pytest.raises(FetchError, match="sends more"):
            fetcher.fetch(f"{site.url}/c")
        assert fetcher.bytes_received < 100_000 + 50_000


def test_a_part_instead_of_the_whole_is_refused(site, fetcher):
    """Nobody asked for a 206."""
    site.pages["/a.jpg"] = lying("bytes 0-4095/10000000")
    with pytest.raises(FetchError, match="status 206"):
        fetcher.fetch(f"{site.url}/a.jpg")


# ---------------------------------------------------------------------------- redirects


def test_redirects_are_followed_up_to_five(site, fetcher):
    """Five hops are followed, relative ones too; the sixth is not."""
    site.pages["/0"] = ranged(jpeg(300_000, before=90_000))
    for number, status in zip(range(1, 7), [301, 302, 303, 307, 308, 302], strict=True):
        near, far = f"../{number - 1}", f"{site.url}/{number - 1}?q=ä ü"
        site.pages[f"/{number}"] = to(near if number % 2 else far, status)
    assert fetcher.probe(f"{site.url}/5").height == 60
    # The parts that follow go where the redirects ended.
    assert sum(" /5 " in head for head in site.heads) == 1
    with pytest.raises(FetchError, match="max_redirects"):
        fetcher.probe(f"{site.url}/6")
    site.pages["/loop"] = to("/loop")
    with pytest.raises(FetchError, match="max_redirects"):
        fetcher.fetch(f"{site.url}/loop")
    with (
        Fetcher(allow_private=True, max_redirects=0) as strict,
        pytest.raises(FetchError, match="max_redirects"),
    ):
        strict.probe(f"{site.url}/1")


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:{port}/secret",
        "//127.0.0.1:{port}/secret",
        "http://0x7f.1:{port}/secret",
        "http://[::ffff:127.0.0.1]:{port}/secret",
        "http://localhost:{port}/secret",
        "http://10.0.0.1/secret",
        "http://169.254.169.254/latest/meta-data/",
        "http://user:word@pictures.example:{port}/secret",
        "file:///etc/passwd",
        "ftp://pictures.example/",
        "http://[::1",
        "gopher://127.0.0.1:{port}/_",
    ],
)
def test_a_redirect_to_a_private_place_is_refused(site, monkeypatch, target):
    """Each hop is held against the rules; the private one is never connected to."""
    look_up = addresses._look_up
    monkeypatch.setattr(
        addresses,
        "_look_up",
        lambda host, port: ("8.8.8.8",) if host == HOST else look_up(host, port),
    )
    # The test's way to this machine: the address passes as public, and leads here.
    monkeypatch.setattr(socket, "create_connection", to_loopback(site))
    site.pages["/a.jpg"] = to(target.format(port=site.port))
    site.pages["/secret"] = ranged(LARGE)
    with Fetcher() as fetcher, pytest.raises(AddressError):
        fetcher.probe(f"http://{HOST}:{site.port}/a.jpg")
    assert [head.split(" ")[1] for head in site.heads] == ["/a.jpg"]


def to_loopback(site, asked=None):
    """Stand in for the way to a public IP address, which no test goes."""
    real = socket.create_connection

    def connect(address, *rest, **more):
        if asked is not None:
            asked.append(address)
        assert address[0] == "8.8.8.8", "connected to something that was not checked"
        return real(("127.0.0.1", site.port), *rest, **more)

    return connect


def test_a_redirect_keeps_the_bytes_of_its_address(site, fetcher):
    """A Location that is UTF-8, as most servers write it, leads to that file."""
    site.pages["/a"] = to("/caf\xc3\xa9.jpg")  # sent as latin-1
    site.pages["/caf%C3%A9.jpg"] = ranged(LARGE)
    assert fetcher.probe(f"{site.url}/a").width == 80


def test_a_redirect_to_no_address_is_refused_as_that(site, fetcher):
    """The message names what the server gave."""
    site.pages["/a"] = to("http://[?k=canary")
    with pytest.raises(
        AddressError, match=r"received http://\[, which cannot"
    ) as caught:
        fetcher.probe(f"{site.url}/a")
    assert "canary" not in str(caught.value)


def test_no_log_repeats_where_a_redirect_leads(site, fetcher, caplog):
    """Even the library's own log at DEBUG shows no signature."""
    site.pages["/a"] = to("/b?Signature=canary")
    site.pages["/b"] = ranged(LARGE)
    with caplog.at_level("DEBUG"):
        fetcher.probe(f"{site.url}/a?Signature=canary")
    assert "canary" not in caplog.text
    assert "send_request_headers" in caplog.text  # the rest of it stays


def test_a_name_that_changes_its_mind_gains_nothing(site, monkeypatch):
    """DNS rebinding: one look-up a call, and its answer is what is connected to."""
    answers = []

    def rebinding(host, _port):
        assert host == HOST
        answers.append("8.8.8.8" if not answers else "127.0.0.1")
        return (answers[-1],)

    asked = []
    monkeypatch.setattr(addresses, "_look_up", rebinding)
    monkeypatch.setattr(socket, "create_connection", to_loopback(site, asked))
    site.pages["/a.jpg"] = ranged(jpeg(400_000, before=90_000), Connection="close")
    with Fetcher() as fetcher:
        fetcher.probe(f"http://{HOST}:{site.port}/a.jpg")
        assert answers == ["8.8.8.8"]
        assert {host for host, _ in asked} == {"8.8.8.8"}
        assert len(asked) > 1
        with pytest.raises(AddressError, match=r"127\.0\.0\.1"):
            fetcher.probe(f"http://{HOST}:{site.port}/a.jpg")
    assert f"host: {HOST}:{site.port}\r\n" in site.heads[0].lower()


def test_the_next_ip_address_is_tried(site, monkeypatch):
    """A host with a dead IP address and a live one is read from the live one."""
    monkeypatch.setattr(addresses, "_look_up", lambda *_: ("127.0.0.2", "127.0.0.1"))
    site.pages["/a.jpg"] = ranged(LARGE)
    with Fetcher(allow_private=True) as fetcher:
        assert fetcher.probe(f"http://{HOST}:{site.port}/a.jpg").height == 60


def test_private_places_are_refused_unless_asked(site):
    """Without the switch nothing on this machine is connected to."""
    site.pages["/a.jpg"] = ranged(LARGE)
    with Fetcher() as fetcher:
        for call in (fetcher.probe, fetcher.fetch):
            with pytest.raises(AddressError):
                call(f"{site.url}/a.jpg")
    assert site.connections == 0


# ----------------------------------------------------------------------------- deadline


def trickle(head: bytes, piece: bytes):
    """Send something at once, and then a little every 50 ms for ever."""

    def page(site, connection, _head):
        connection.sendall(head)
        for _ in range(200):
            site.pause(0.05)
            connection.sendall(piece)
        return False

    return page


PART = b"HTTP/1.1 206 X\r\nContent-Length: 4096\r\nContent-Range: bytes 0-4095/9999\r\n"
SLOW = {
    "silence": trickle(b"", b""),
    "head": trickle(b"HTTP/1.1 200 X\r\nA: ", b"b"),
    "heads": trickle(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "body": trickle(b"HTTP/1.1 200 X\r\nContent-Length: 90000\r\n\r\n", b"\xff"),
    "part": trickle(PART + b"\r\n", b"\xff"),
    "chunks": trickle(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"),
}


@pytest.mark.parametrize("page", SLOW.values(), ids=SLOW)
@pytest.mark.parametrize("method", ["probe", "fetch"])
def test_a_trickle_ends_at_the_deadline(site, page, method):
    """A byte now and then keeps no call alive, wherever in the answer it falls."""
    if page is SLOW["part"] and method == "fetch":
        pytest.skip("nobody asks for a part there")
    site.pages["/a.jpg"] = page
    start = time.monotonic()
    with (
        Fetcher(allow_private=True, timeout=0.4) as fetcher,
        pytest.raises(FetchDeadlineError) as caught,
    ):
        getattr(fetcher, method)(f"{site.url}/a.jpg?k=canary")
    assert 0.3 < time.monotonic() - start < 0.9
    assert caught.value.seconds == 0.4
    assert "canary" not in str(caught.value)


def torrent(head: bytes, piece: bytes):
    """Send something at once, and then as fast as it goes, but never an end."""

    def page(site, connection, _head):
        connection.sendall(head)
        while not site.pause(0):
            connection.sendall(piece)

    return page


FAST = {
    "heads": torrent(
        b"", b"HTTP/1.1 103 Early Hints\r\nA: %b\r\n\r\n" % (b"b" * 60_000)
    ),
    "chunks": torrent(
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"1;%b\r\n\xff\r\n" % (b"x" * 60_000),
    ),
}


@pytest.mark.parametrize("page", FAST.values(), ids=FAST)
@pytest.mark.parametrize("method", ["probe", "fetch"])
def test_what_stands_around_a_file_has_an_end_too(site, page, method):
    """No server fills the line until the deadline with what is no byte of a file."""
    site.pages["/a.jpg"] = page
    with Fetcher(allow_private=True, timeout=20, max_bytes=1_000_000) as fetcher:
        with pytest.raises(FetchError, match="something else") as caught:
            getattr(fetcher, method)(f"{site.url}/a.jpg?k=canary")
        assert fetcher.bytes_received < 4_000_000
    assert not isinstance(caught.value, FetchDeadlineError)
    assert "canary" not in str(caught.value)


def test_the_deadline_is_for_all_parts_together(site):
    """Redirects and parts that each come in time do not add up to more."""

    def slowly(page):
        def late(site, connection, head):
            site.pause(0.15)
            return page(site, connection, head)

        return late

    site.pages["/loop"] = slowly(to("/loop"))
    site.pages["/deep"] = slowly(ranged(jpeg(900_000, before=700_000)))
    for path in ("/loop", "/deep"):
        start = time.monotonic()
        with (
            Fetcher(allow_private=True, timeout=0.4, max_redirects=99) as fetcher,
            pytest.raises(FetchDeadlineError),
        ):
            fetcher.probe(site.url + path)
        assert time.monotonic() - start < 0.9


# ---------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """Give a CA of our own and a certificate of it for one name."""
    pytest.importorskip("cryptography", reason="comes with the DashScope SDK")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.now(UTC)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
        for text in ("Our CA", HOST)
    ]

    def certificate(index, *extensions):
        builder = (
            x509.CertificateBuilder()
            .subject_name(names[index])
            .issuer_name(names[0])
            .public_key(keys[index].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, is_critical)
        return builder.sign(keys[0], hashes.SHA256())

    own = certificate(0, (x509.BasicConstraints(ca=True, path_length=0), True))
    leaf = certificate(
        1,
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.SubjectAlternativeName([x509.DNSName(HOST)]), False),
    )
    folder = tmp_path_factory.mktemp("tls")
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(own.public_bytes(pem))
    (folder / "leaf.pem").write_bytes(
        leaf.public_bytes(pem)
        + keys[1].private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return folder


@pytest.fixture
def secure(authority, monkeypatch):
    """Give a server with that certificate, reached by any name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "leaf.pem")
    running = Site(context)
    running.names = []
    context.sni_callback = lambda _socket, name, _context: running.names.append(name)
    monkeypatch.setattr(addresses, "_look_up", lambda *_: ("127.0.0.1",))
    yield running
    running.close()


def trusting(authority, **more) -> Fetcher:
    context = ssl.create_default_context(cafile=authority / "ca.pem")
    return Fetcher(allow_private=True, timeout=5, ssl_context=context, **more)


def test_the_certificate_is_that_of_the_name(secure, authority):
    """The connection goes to the IP address, SNI and certificate to the name."""
    secure.pages["/a.jpg"] = ranged(LARGE)
    with trusting(authority) as fetcher:
        url = f"https://{HOST}:{secure.port}/a.jpg"
        assert fetcher.probe(url).encoded_size == len(LARGE)
        assert fetcher.probe(url).height == 60
        assert secure.connections == 1
        # The same machine under another name: no connection is shared, none made.
        with pytest.raises(FetchError, match="mismatch"):
            fetcher.probe(f"https://other.example:{secure.port}/a.jpg")
    assert secure.names == [HOST, "other.example"]
    assert len(secure.heads) == 2


def test_an_unknown_authority_is_refused(secure):
    """Without our CA, the certificate of a stranger is not believed."""
    secure.pages["/a.jpg"] = ranged(LARGE)
    with (
        Fetcher(allow_private=True) as fetcher,
        pytest.raises(FetchError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        fetcher.probe(f"https://{HOST}:{secure.port}/a.jpg")
    assert secure.heads == []


def test_from_https_no_redirect_leads_to_http(secure, site, authority):
    """The other way round is fine."""
    secure.pages["/down"] = to(f"{site.url}/a.jpg?k=canary")
    secure.pages["/a.jpg"] = site.pages["/a.jpg"] = ranged(LARGE)
    site.pages["/up"] = to(f"https://{HOST}:{secure.port}/a.jpg")
    with trusting(authority) as fetcher:
        with pytest.raises(AddressError, match="stay with https") as caught:
            fetcher.probe(f"https://{HOST}:{secure.port}/down")
        assert "canary" not in str(caught.value)
        assert site.connections == 0
        assert fetcher.probe(f"{site.url}/up").height == 60


def test_a_handshake_that_never_ends_is_left():
    """The deadline holds before any HTTP is spoken."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        start = time.monotonic()
        with (
            Fetcher(allow_private=True, timeout=0.4) as fetcher,
            pytest.raises(FetchDeadlineError),
        ):
            fetcher.probe(f"https://127.0.0.1:{port}/")
        assert time.monotonic() - start < 0.9


# ------------------------------------------------------------------------ odds and ends


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": 0},
        {"timeout": float("nan")},
        {"max_bytes": 0},
        {"max_redirects": -1},
    ],
)
def test_numbers_out_of_range_are_mistakes_in_the_call(wrong):
    """They are plain ValueErrors."""
    with pytest.raises(ValueError, match="Expected"):
        Fetcher(**wrong)


def test_a_fetcher_says_how_much_it_received(fetcher):
    """Its repr is short and shows no address."""
    assert repr(fetcher) == "<Fetcher 0 bytes received>"
    with pytest.raises(TypeError, match="not pickled"):
        fetcher.__reduce__()


def test_the_command_line_counts_addresses_when_asked(site):
    """--fetch reads headers, tells the bytes, and shows no signature."""
    site.pages["/a.jpg"] = ranged(LARGE)
    url = f"{site.url}/a.jpg?Signature=canary"
    run = CliRunner().invoke
    done = run(cli, ["count", "--fetch", "--allow-private", url])
    assert done.exit_code == 0
    assert "60×80" in done.stdout
    assert "4 kB received" in done.stderr
    done_json = run(cli, ["probe", "--json", "--fetch", "--allow-private", url])
    assert '"encoded_size": 10000000' in done_json.stdout
    refused = run(cli, ["count", "--fetch", url])
    assert refused.exit_code == 1
    assert "--allow-private" in refused.stderr
    for each in (done, done_json, refused):
        assert "canary" not in each.output
    assert run(cli, ["count", "--allow-private", "a.jpg"]).exit_code == 2
    assert run(cli, ["count", url]).exit_code == 1
    assert site.connections == 2


def test_counting_and_probing_fetch_when_asked(site, fetcher):
    """A fetcher or True may be given, whose rules hold; without it nothing is read."""
    image = Image.effect_noise((400, 300), 90)
    file = io.BytesIO()
    image.save(file, "GIF", save_all=True, append_images=[image.rotate(1)] * 30)
    site.pages["/a.gif"] = ranged(file.getvalue() + bytes(2_000_000))
    url = f"{site.url}/a.gif"
    tokens = count_tokens(url, fetch=fetcher)
    assert tokens == count_tokens(file.getvalue())
    assert site.bodies_sent == HEAD
    assert probe(url, fetch=fetcher).n_frames > 1
    requests = len(site.heads)
    for call in (count_tokens, probe):
        assert call(file.getvalue(), fetch=True)
        with pytest.raises(AddressError):
            call(url, fetch=True)
        with pytest.raises(SourceError, match="fetch=True") as caught:
            call(f"{url}?Signature=canary")
        assert "canary" not in str(caught.value)
    assert len(site.heads) == requests
