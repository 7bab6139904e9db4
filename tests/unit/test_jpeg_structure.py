"""A JPEG's tables, read to the letter; its junk, dropped so that damage shows."""

from __future__ import annotations

import gc
import threading

import pytest

from qwenvl_prep import prepare
from qwenvl_prep.errors import DamagedImageError
from qwenvl_prep.jpeg_structure import is_sound_jpeg, without_junk

JUNK = b"\x00\x7f"


def parts(jpeg: bytes) -> tuple[bytes, bytes]:
    """Cut a JPEG before its quantisation tables."""
    at = jpeg.index(b"\xff\xdb")
    return jpeg[:at], jpeg[at:]


@pytest.fixture
def jpeg(photo, encoded):
    """A baseline JPEG."""
    return encoded(photo, "JPEG", quality=90)


@pytest.fixture
def junky(jpeg):
    """The same with two bytes of junk between two segments."""
    before, after = parts(jpeg)
    return before + JUNK + after


@pytest.fixture
def junky_and_cut(junky):
    """Junk before the scan, half of the scan, and an end marker after it."""
    scan = junky.index(b"\xff\xda")
    return junky[: scan + (len(junky) - scan) // 2] + b"\xff\xd9"


def test_what_encoders_write_is_sound(photo, encoded):
    """Colour, grey, restarts and comments pass; rarer kinds have to be decoded."""
    assert is_sound_jpeg(encoded(photo, "JPEG"))
    assert is_sound_jpeg(encoded(photo, "JPEG", subsampling="4:4:4", comment=b"hello"))
    assert is_sound_jpeg(encoded(photo, "JPEG", restart_marker_blocks=4, optimize=True))
    assert is_sound_jpeg(encoded(photo.convert("L"), "JPEG"))
    assert not is_sound_jpeg(encoded(photo, "JPEG", progressive=True))


@pytest.mark.parametrize("cut", range(2, 600, 37))
def test_cut_tables_are_not_sound(jpeg, cut):
    """A file that ends inside its tables is not sound, wherever it ends."""
    assert not is_sound_jpeg(jpeg[:cut])


def damaged(jpeg: bytes, marker: bytes, offset: int, value: int) -> bytes:
    """Set one byte behind a marker."""
    data = bytearray(jpeg)
    data[data.index(marker) + offset] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("marker", "offset", "value"),
    [
        (b"\xff\xdb", 4, 0x07),  # a table of a number that there is not
        (b"\xff\xdb", 3, 0x05),  # too short for its table
        (b"\xff\xc0", 9, 0x04),  # one component more than listed
        (b"\xff\xc0", 11, 0x00),  # sampled nowhere
        (b"\xff\xc0", 12, 0x03),  # a quantisation table that is not there
        (b"\xff\xc4", 4, 0x21),  # neither DC nor AC
        (b"\xff\xc4", 5, 0x03),  # three codes of one bit
        (b"\xff\xda", 4, 0x01),  # one component of three
        (b"\xff\xda", 5, 0x09),  # a component that there is not
        (b"\xff\xda", 6, 0x33),  # Huffman tables that are not there
        (b"\xff\xda", 12, 0x05),  # not the whole spectrum
    ],
)
def test_damaged_tables_are_not_sound(jpeg, marker, offset, value):
    """Each byte that a decoder would trip over makes the file unsound."""
    assert not is_sound_jpeg(damaged(jpeg, marker, offset, value))


def test_junk_is_dropped_and_nothing_else(jpeg, junky):
    """Without its junk, the file is what it was; a clean file stays the same object's
    bytes.
    """
    assert without_junk(junky) == jpeg
    assert without_junk(jpeg) == jpeg
    assert not is_sound_jpeg(junky)


def test_spectrum_of_a_sequential_scan_is_mended(jpeg):
    """Bounds that a sequential scan cannot have are set to the only legal ones."""
    assert without_junk(damaged(jpeg, b"\xff\xda", 12, 0x05)) == jpeg


def test_junk_does_not_hide_damage(junky_and_cut):
    """One harmless warning used to switch the detection of missing rows off."""
    for options in ({"encoding": "png"}, {"max_tokens": 8}):
        with pytest.raises(DamagedImageError):
            prepare(junky_and_cut, **options)


def test_junk_alone_is_harmless(junky, jpeg):
    """A whole picture with junk before it gives the pixels of the clean one."""
    assert prepare(junky, encoding="png").data == prepare(jpeg, encoding="png").data


def test_threads_do_not_take_each_others_messages(junky, junky_and_cut):
    """
    Good stays good and damaged damaged, though libvips has one message for all.

    Garbage is collected all the time, because libvips' objects that died inside
    pyvips' log handler once made glib abort the process.
    """
    wrong = []
    threshold = gc.get_threshold()
    gc.set_threshold(1)

    def work(data: bytes, is_good: bool) -> None:
        for _ in range(60):
            try:
                prepare(data, encoding="png")
                passed = True
            except DamagedImageError:
                passed = False
            if passed is not is_good:
                wrong.append(is_good)

    jobs = [(junky, True), (junky_and_cut, False)] * 3
    threads = [threading.Thread(target=work, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.set_threshold(*threshold)
    assert wrong == []
