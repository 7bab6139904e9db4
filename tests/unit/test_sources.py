"""Every kind of input is recognised, and what is none is refused in our words."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import os
import pathlib
import sys
import threading
import types
import zipfile

import numpy as np
import pytest
from PIL import Image

from qwenvl_prep import Limits, count_tokens, prepare, probe, sources
from qwenvl_prep.errors import (
    DamagedImageError,
    DecodeLimitError,
    NotAnImageError,
    QwenVLPrepError,
    SourceError,
)
from qwenvl_prep.sources import (
    LargeFile,
    Source,
    as_source,
    can_seek_to_end,
    is_url,
    open_file_header,
    open_header,
    open_source,
)


def read_bytes(source: Source, **options) -> bytes:
    """Give the whole of an input, as it is opened for preparing."""
    with open_source(source, **options) as file:
        return file


@pytest.fixture(scope="module")
def png(photo, encoded) -> bytes:
    return encoded(photo, "PNG")


@pytest.fixture
def path(tmp_path, png) -> pathlib.Path:
    path = tmp_path / "a picture.png"
    path.write_bytes(png)
    return path


class Fspath:
    """A path of another library."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return self.path


# ------------------------------------------------------------------------ accepted


def test_path_forms_are_one_file(path, png):
    """A str, a Path, a PathLike of str or bytes and a file URL give the same bytes."""
    url = path.as_uri()
    assert "%20" in url
    as_bytes = Fspath(os.fsencode(path))
    for form in (str(path), path, Fspath(str(path)), as_bytes, url):
        source = as_source(form)
        assert (source.path, source.suffix) == (path, ".png")
        assert read_bytes(source) == png
        assert (probe(form).height, probe(form).width) == (90, 120)


def test_scheme_of_file_url_has_no_case(path, png):
    """FILE:// means what file:// means."""
    assert read_bytes(as_source("FILE://" + str(path).replace(" ", "%20"))) == png


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_like_objects_are_the_file(kind, png):
    """Bytes, bytearray and memoryview are files themselves, never names of files."""
    source = as_source(kind(png))
    assert source.data == png
    assert isinstance(source.data, bytes)
    assert (source.path, source.suffix, source.name) == (None, "", "bytes")


def test_memoryview_with_gaps_is_read_whole(png):
    """A memoryview that is not contiguous gives the bytes that it shows."""
    doubled = bytes(byte for value in png for byte in (value, 0))
    assert as_source(memoryview(doubled)[::2]).data == png


def test_bytearray_is_copied_at_once(png):
    """Writing into a bytearray afterwards does not change what is sent."""
    buffer = bytearray(png)
    source = as_source(buffer)
    buffer[:] = bytes(len(buffer))
    assert source.data == png


def test_file_object_is_read_from_its_position_and_put_back(png):
    """A file object counts from where it stands, and stands there afterwards."""
    file = io.BytesIO(b"front" + png)
    file.seek(5)
    assert as_source(file).data == png
    assert file.tell() == 5
    assert probe(file).width == 120
    assert prepare(file).data == png
    assert file.tell() == 5


def test_open_file_lends_its_name(path, png):
    """An open file gives name and suffix, and is not closed."""
    with path.open("rb") as file:
        source = as_source(file)
        assert not file.closed
        assert file.tell() == 0
    assert (source.data, source.name, source.suffix) == (png, str(path), ".png")


def test_pipe_is_read_to_its_end(encoded):
    """A file that cannot seek is read once, to its end."""
    noise = np.random.default_rng(3).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "PNG")  # more than a pipe holds
    read_end, write_end = os.pipe()

    def feed():
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(data)

    writer = threading.Thread(target=feed)
    writer.start()
    with os.fdopen(read_end, "rb") as pipe:
        source = as_source(pipe)
    writer.join()
    assert source.data == data


def test_unbuffered_pipe_is_read_to_its_end(encoded):
    """A raw pipe hands over a piece at a time; once the first was taken for all."""
    noise = np.random.default_rng(3).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "PNG")
    read_end, write_end = os.pipe()

    def feed():
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(data)

    writer = threading.Thread(target=feed)
    writer.start()
    try:
        with os.fdopen(read_end, "rb", buffering=0) as pipe:
            source = as_source(pipe)
            while pipe.read(65_536):  # lets the writer go, whatever was read
                pass
    finally:
        writer.join()
    assert source.data == data


def test_object_with_read_alone_is_a_file(png):
    """Whoever has seekable() and read() is a file; a name that is no str is ignored."""

    class Stream:
        name = 3

        def seekable(self):
            return False

        def read(self, size=-1):
            piece, self.rest = self.rest[:size], self.rest[size:]
            return piece

        rest = png

    source = as_source(Stream())
    assert (source.data, source.name, source.suffix) == (png, "file", "")


def test_data_uri_is_decoded_with_its_label(png):
    """A data URI gives its bytes and its label; white space in it means nothing."""
    body = base64.b64encode(png).decode()
    lines = "\n ".join(body[i : i + 60] for i in range(0, len(body), 60))
    for text in (
        f"data:image/png;base64,{body}",
        f"DATA:image/PNG;BASE64,{lines}\r\n",
        f"data:image/png;charset=x;base64,{lines}",
    ):
        source = as_source(text)
        assert (source.data, source.label) == (png, "image/png")
        assert source.name == "data URI"


def test_pixels_are_handed_through(photo):
    """A Pillow image and an array stay what they are."""
    array = np.asarray(photo)
    assert as_source(photo).pixels is photo
    assert as_source(array).pixels is array
    assert as_source(array, name="frame 1").name == "frame 1"


def test_source_is_handed_back(png):
    """A Source is its own source."""
    source = as_source(png, name="x")
    assert as_source(source) is source


def test_header_is_read_without_the_file(path, png):
    """Asking for the header of a path does not read the whole file."""
    path.write_bytes(png + bytes(1_000_000))
    with open_header(as_source(path)) as reader:
        reader.read(0, 8)
        assert reader.bytes_read < 10_000


def test_folder_symlinks_and_relative_names_work(path, png, monkeypatch):
    """A symlink to a file and a relative name are files too."""
    link = path.with_name("link.jpg")
    link.symlink_to(path)
    monkeypatch.chdir(path.parent)
    assert read_bytes(as_source(link)) == png
    assert read_bytes(as_source("link.jpg")) == png
    assert as_source("link.jpg").suffix == ".jpg"


# ------------------------------------------------------------------------- refused


def refusal(value, **options) -> str:
    with pytest.raises(SourceError) as caught:
        read_bytes(as_source(value, **options))
    return str(caught.value)


def test_every_form_of_a_path_is_counted_alike(tmp_path, png, monkeypatch):
    """The fast way takes paths as they are, and leaves what else a text may be."""
    monkeypatch.chdir(tmp_path)
    expected = count_tokens(png)
    for name in ("a.png", "with: colon.png", "data", "ünïcode\udcff.png", "%41.png"):
        path = tmp_path / name
        path.write_bytes(png)
        for form in (path, str(path), Fspath(str(path)), name, f"{path}/", f"./{name}"):
            assert count_tokens(form) == expected
    assert count_tokens((tmp_path / "a.png").as_uri()) == expected
    os.mkfifo("fifo")
    for form in ("", "\0", "none.png", tmp_path, "fifo", "x" * 5_000, "http://a/b.png"):
        with pytest.raises(SourceError):
            count_tokens(form)


class Counting(io.BytesIO):
    """A file object that tells how much of it was read."""

    bytes_read = 0

    def read(self, size=-1):
        """Count what is given."""
        piece = super().read(size)
        self.bytes_read += len(piece)
        return piece


def test_header_of_a_file_object_is_read_without_the_file(png):
    """What seeks is read here and there, from where it stands, and put back."""
    file = Counting(b"front" + png + bytes(1_000_000))
    file.seek(5)
    assert probe(file).width == 120
    assert count_tokens(file) == count_tokens(png)
    assert file.bytes_read < 20_000
    assert file.tell() == 5
    assert probe(file).encoded_size == len(png) + 1_000_000


def test_a_refused_file_object_is_put_back(png):
    """Damage, and a position behind the end, leave a file object where it stood."""
    file = io.BytesIO(png[:20])
    with pytest.raises(DamagedImageError):
        probe(file)
    assert file.tell() == 0
    file.seek(100)
    with pytest.raises(NotAnImageError):
        probe(file)
    assert file.tell() == 100


def test_what_was_written_to_a_file_object_is_seen(tmp_path, png):
    """What still lies in the buffer of an open file belongs to it."""
    with (tmp_path / "new.png").open("w+b") as file:
        file.write(png)
        file.seek(0)
        assert probe(file).width == 120


def test_sparse_giant_as_a_file_object_is_probed_at_once(tmp_path, png):
    """The header of an open file of a terabyte takes no more than that of a path."""
    giant = tmp_path / "giant.png"
    giant.write_bytes(png)
    with giant.open("r+b") as file:
        file.truncate(2**40)
        assert probe(file).encoded_size == probe(giant).encoded_size == 2**40


def test_packed_files_are_read_as_a_whole(png):
    """To seek, they unpack everything between: once is enough, and bounded."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("a.png", png)
    with (
        gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(png))) as of_gzip,
        bz2.BZ2File(io.BytesIO(bz2.compress(png))) as of_bz2,
        lzma.LZMAFile(io.BytesIO(lzma.compress(png))) as of_lzma,
        zipfile.ZipFile(archive) as packed,
        packed.open("a.png") as of_zip,
    ):
        for file in (of_gzip, of_bz2, of_lzma, of_zip, io.BufferedReader(of_gzip)):
            assert not can_seek_to_end(file)
            assert probe(file).width == 120


def test_only_file_objects_seek(path, png, photo):
    """Paths, bytes, pixels and text files are none."""
    for value in (path, str(path), png, photo, np.asarray(photo), None, as_source(png)):
        assert not can_seek_to_end(value)
    with path.open(encoding="latin-1") as text:
        assert not can_seek_to_end(text)
        with pytest.raises(TypeError, match="binary mode"):
            probe(text)


def test_failing_file_object_is_translated(png):
    """Whatever a file object raises while its header is read becomes ours."""

    class Failing(io.BytesIO):
        def __init__(self, data, failing):
            super().__init__(data)
            self.failing = failing

        def read(self, _size=-1):
            if self.failing == "read":
                raise EOFError("cut off")
            return super().read(_size)

        def seek(self, position, whence=0):
            if self.failing == "seek":
                raise LookupError("no such place")
            return super().seek(position, whence)

    for failing, reason in (("read", "cut off"), ("seek", "no such place")):
        with pytest.raises(SourceError, match=reason):
            probe(Failing(png, failing))

    class Text(io.BytesIO):
        def read(self, _size=-1):
            return "text"

    with pytest.raises(TypeError, match="binary mode"):
        probe(Text(png))


def test_file_object_that_gives_more_is_cut(png):
    """A read that gives more than was asked moves nothing."""

    class Generous(io.BytesIO):
        def read(self, size=-1):
            return super().read(size) + b"more"

    with open_file_header(Generous(png)) as reader:
        assert reader.head == png[:4096]


def test_missing_file_is_named(tmp_path):
    """A name that leads nowhere is told with the system's reason."""
    assert "No such file" in refusal(tmp_path / "none.png")
    assert "none.png" in refusal(str(tmp_path / "none.png"))


def test_folder_is_no_file(tmp_path):
    """A folder is refused, as a path and as a header."""
    assert "folder" in refusal(tmp_path)
    with pytest.raises(SourceError), open_header(as_source(tmp_path)):
        pass


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_fifo_does_not_hang(tmp_path):
    """Opening a FIFO would wait for its writer for ever; it is refused instead."""
    fifo = tmp_path / "fifo.png"
    os.mkfifo(fifo)
    done = []
    waiter = threading.Thread(target=lambda: done.append(refusal(fifo)), daemon=True)
    waiter.start()
    waiter.join(5)
    assert done
    assert "device" in done[0]


@pytest.mark.parametrize("device", ["/dev/null", "/dev/zero", "/dev/full"])
def test_device_is_no_file(device):
    """A device, endless or empty, is refused before it is read."""
    if not pathlib.Path(device).exists():
        pytest.skip(f"no {device} here")
    assert "device" in refusal(device)


def test_empty_name_is_refused():
    """An empty string names nothing; pathlib would make the working folder of it."""
    assert "empty" in refusal("")


@pytest.mark.parametrize("name", ["a\0b.png", "\udcff\ud800.png", "x" * 5_000])
def test_name_that_no_system_takes_is_refused(name):
    """NUL, lone surrogates and endless names end as our error."""
    refusal(name)


def test_text_file_is_a_mistake_of_the_caller(path):
    """A file opened as text cannot hold a picture, and the message says how."""
    with (
        path.open(encoding="latin-1") as file,
        pytest.raises(TypeError, match="binary"),
    ):
        as_source(file)
    with pytest.raises(TypeError, match="binary"):
        as_source(io.StringIO("text"))


@pytest.mark.parametrize("scheme", ["http", "HTTPS", "oss"])
def test_address_is_not_fetched(scheme):
    """An address is refused with the name of the function that takes it."""
    assert "chat_request" in refusal(f"{scheme}://example.org/cat.jpg")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("http://a.org/b.png", True),
        ("OSS://bucket/key", True),
        ("https://", False),
        ("ftp://a.org/b.png", False),
        ("httpx.png", False),
        ("", False),
        (None, False),
        (b"http://a.org/b.png", False),
    ],
)
def test_is_url_knows_what_the_server_fetches(value, expected):
    """Only http, https and oss with something behind them are addresses."""
    assert is_url(value) is expected


def test_file_url_of_another_host_is_refused(path):
    """A file URL names a file here; one with a host, or a broken one, does not."""
    assert "host" in refusal(f"file://elsewhere{path}".replace(" ", "%20"))
    refusal("file://[broken/picture.png")


def test_file_url_with_localhost_is_this_machine(path, png):
    """The host localhost is this machine (RFC 8089)."""
    url = path.as_uri().replace("file://", "file://localhost")
    assert read_bytes(as_source(url)) == png


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png,abc",
        "data:image/png;base64",
        "data:",
        "data:image/png;base64,@@@@",
        "data:image/png;base64,YWJ",
    ],
)
def test_broken_data_uri_is_refused(uri):
    """Without base64, a comma or whole base64 there is nothing to read."""
    refusal(uri)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_forbidden_file_is_refused(path):
    """A file without permission is refused with the system's reason."""
    path.chmod(0)
    assert "ermission" in refusal(path)


def test_closed_and_write_only_files_are_refused(path):
    """A file object that cannot be read is a SourceError, not an OSError."""
    with path.open("rb") as file:
        pass
    refusal(file)
    with path.with_name("new").open("wb") as file:
        refusal(file)


def test_failing_read_is_translated():
    """An error of the device while reading a file object becomes ours."""

    class Failing(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, _buffer):
            raise OSError(5, "Input/output error")

    assert "Input/output" in refusal(Failing())


def test_file_above_the_limit_is_not_read(path, png):
    """Path, bytes and file object above max_file_bytes are refused with numbers."""
    limits = Limits(max_file_bytes=len(png) - 1)
    with path.open("rb") as file:
        for value in (path, png, bytearray(png), file):
            with pytest.raises(DecodeLimitError) as caught:
                read_bytes(as_source(value, limits=limits), limits=limits)
            assert caught.value.limit_name == "max_file_bytes"
            assert caught.value.limit == len(png) - 1
            assert caught.value.actual == len(png)
    exact = Limits(max_file_bytes=len(png))
    assert read_bytes(as_source(path), limits=exact) == png


def test_sparse_giant_is_refused_by_its_size(tmp_path):
    """A file of a terabyte is refused from its size alone."""
    giant = tmp_path / "giant.png"
    with giant.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(DecodeLimitError):
        read_bytes(as_source(giant))


@pytest.mark.parametrize("value", [None, 3, 2.5, [], {}, object(), ("a.png",)])
def test_other_types_are_a_mistake_of_the_caller(value):
    """What is no input at all is a TypeError that names its type."""
    with pytest.raises(TypeError, match=type(value).__name__) as caught:
        as_source(value)
    assert not isinstance(caught.value, QwenVLPrepError)


def test_empty_source_is_refused():
    """A Source with nothing in it is refused, not crashed upon."""
    with pytest.raises(SourceError):
        read_bytes(Source(name="nothing"))


# --------------------------------------------------------------------- large files


@pytest.fixture
def large(monkeypatch, path) -> pathlib.Path:
    """Give a file that counts as large, 32 bytes being enough for that."""
    monkeypatch.setattr(sources, "_READ_AT_ONCE", 32)
    return path


def test_ordinary_files_are_read_at_once(path, png):
    """Up to 16 MiB, what is opened is the bytes, and the file is not needed again."""
    assert sources._READ_AT_ONCE == 16_777_216
    with open_source(as_source(path)) as file:
        path.unlink()
        assert file == png


def test_large_file_is_read_from(large, png):
    """A large file gives its header, pieces and all of it, at any time."""
    with open_source(as_source(large)) as file:
        assert isinstance(file, LargeFile)
        assert (file.size, file.name) == (len(png), str(large))
        assert file.read_at(5, 10) == png[5:15]
        assert file.read_at(len(png) - 3, 10) == png[-3:]
        assert file.read_at(len(png), 10) == b""
        assert file.read() == png
        assert file.header().read(1, 3) == b"PNG"
        assert repr(file) == f"<LargeFile {large}, {len(png):,} bytes>"


def test_size_that_may_be_sent_is_read_at_once(large, png):
    """A model that takes larger files has them in memory; bytes are there anyway."""
    with open_source(as_source(large), at_once=len(png)) as file:
        assert file == png
    with open_source(as_source(large), at_once=len(png) - 1) as file:
        assert isinstance(file, LargeFile)
    with open_source(as_source(png)) as file:
        assert file is png


def test_large_file_has_the_same_limit(large, png):
    """max_file_bytes binds, though the file would not be read into memory."""
    limits = Limits(max_file_bytes=len(png) - 1)
    with (
        pytest.raises(DecodeLimitError, match="max_file_bytes"),
        open_source(as_source(large), limits=limits),
    ):
        pass


def test_file_is_read_to_its_end_in_short_pieces(large, png, monkeypatch):
    """A system that gives fewer bytes than asked for is asked again."""
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: pread(fd, min(n, 7), at))
    assert read_bytes(as_source(large), at_once=len(png)) == png


def test_change_is_noticed_when_a_large_file_is_left(large):
    """What was written to meanwhile is refused at the end, whatever was read of it."""
    os.utime(large, (1, 1))
    with (
        pytest.raises(SourceError, match="changed while it was read"),
        open_source(as_source(large)),
    ):
        os.utime(large)


def half_decoded(path, new_length):
    """Find damage in a file that somebody shortens meanwhile, or does not."""
    with open_source(as_source(path)):
        os.truncate(path, new_length)
        raise DamagedImageError("half of it", format="PNG")


def test_change_explains_damage(large):
    """A file that was written to is no damaged picture."""
    os.utime(large, (1, 1))
    with pytest.raises(SourceError, match="changed"):
        half_decoded(large, 40)


def test_damage_stays_damage(large):
    """A file that was left alone and is damaged is just that."""
    with pytest.raises(DamagedImageError), open_source(as_source(large)):
        raise DamagedImageError("half of it", format="PNG")


def test_shortened_file_is_noticed_at_once(large):
    """Reading where the file no longer is tells that it changed."""
    file = LargeFile("name", os.open(large, os.O_RDONLY))
    os.truncate(large, 40)
    assert len(file.read_at(30, 20)) == 10
    for work in (lambda: file.read_at(40, 10), file.read, file.check_unchanged):
        with pytest.raises(SourceError, match=r"name .* changed"):
            work()
    os.close(file._descriptor)


@pytest.mark.parametrize("is_large", [True, False])
def test_error_of_the_disk_is_translated(path, monkeypatch, is_large):
    """A read that fails is a SourceError with the system's reason, small or large."""

    def failing(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "pread", failing)
    if is_large:
        monkeypatch.setattr(sources, "_READ_AT_ONCE", 0)
    with pytest.raises(SourceError, match=r"picture\.png failed: Input/output"):
        read_bytes(as_source(path)).read_at(0, 10)


# --------------------------------------------------------------------------- reprs


def test_repr_shows_no_contents(png):
    """The repr is one short line, however much the source holds."""
    uri = "data:image/png;base64," + base64.b64encode(png).decode()
    for value in (png, uri, io.BytesIO(png), np.zeros((500, 500, 3), np.uint8)):
        text = repr(as_source(value))
        assert text.startswith("<Source ")
        assert len(text) < 40


def test_error_about_a_data_uri_shows_little_of_it():
    """What was wrong with a data URI is told without repeating all of it."""
    assert len(refusal("data:image/png;base32," + "A" * 100_000)) < 300


def test_a_library_that_is_half_imported_is_no_obstacle(monkeypatch):
    """Another thread may just be importing Pillow or NumPy."""
    for name in ("PIL.Image", "numpy"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    assert as_source(b"bytes").data == b"bytes"
