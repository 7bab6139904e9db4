"""A JPEG's tables, read to the letter; its junk, dropped so that damage shows."""

from __future__ import annotations

import gc
import struct
import threading

import pytest

from qwenvl_prep import prepare
from qwenvl_prep.errors import DamagedImageError
from qwenvl_prep.jpeg_structure import (
    is_sound_jpeg,
    reaches_end_of_jpeg,
    without_junk,
)

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
        (b"\xff\xc4", 21, 0x10),  # a mean of 16 bits
        (b"\xff\xda", 4, 0x01),  # one component of three
        (b"\xff\xda", 5, 0x09),  # a component that there is not
        (b"\xff\xda", 6, 0x33),  # Huffman tables that are not there
        (b"\xff\xda", 12, 0x05),  # not the whole spectrum
    ],
)
def test_damaged_tables_are_not_sound(jpeg, marker, offset, value):
    """Each byte that a decoder would trip over makes the file unsound."""
    assert not is_sound_jpeg(damaged(jpeg, marker, offset, value))


def test_more_codes_than_bits_are_not_sound(jpeg):
    """As many codes as before, but five of them of a single bit."""
    assert damaged(jpeg, b"\xff\xc4", 7, 5) == jpeg
    assert not is_sound_jpeg(
        damaged(damaged(jpeg, b"\xff\xc4", 7, 0), b"\xff\xc4", 5, 5)
    )


# -------------------------------------------------------------------------- its end


def start_of_code(jpeg: bytes) -> int:
    """Give where the pixels' code begins."""
    at = jpeg.index(b"\xff\xda")
    return at + 2 + struct.unpack_from(">H", jpeg, at + 2)[0]


def with_marker(jpeg: bytes, marker: int) -> bytes:
    """Overwrite two bytes in the middle of the code, where nothing is stuffed."""
    at = (start_of_code(jpeg) + len(jpeg)) // 2
    while 0xFF in jpeg[at - 1 : at + 3]:
        at += 1
    return jpeg[:at] + bytes((0xFF, marker)) + jpeg[at + 2 :]


@pytest.mark.parametrize("marker", [0x01, 0xC4, 0xD0, 0xD8, 0xD9, 0xDA, 0xE1, 0xFE])
def test_marker_inside_the_code_is_not_sound(jpeg, marker):
    """A marker that ends a scan too early used to pass, and grey to be seen."""
    cut = with_marker(jpeg, marker)
    assert reaches_end_of_jpeg(cut)
    assert not is_sound_jpeg(cut)
    with pytest.raises(DamagedImageError):
        prepare(cut)


def test_end_is_looked_for_behind_the_first_scan(jpeg):
    """Fill and markers without a length are passed; junk and a cut scan are not."""
    bare = jpeg[:2] + b"\xff\xff\xff\xd0" + jpeg[2:]
    assert reaches_end_of_jpeg(bare)
    assert not reaches_end_of_jpeg(bare[:-2])
    assert not reaches_end_of_jpeg(jpeg[:2] + JUNK + jpeg[2:])
    assert not reaches_end_of_jpeg(jpeg[: jpeg.index(b"\xff\xda")])


def test_junk_up_to_the_end_is_left_alone(jpeg):
    """Where nothing sound follows, nothing is mended; a restart marker is junk."""
    head = jpeg[: jpeg.index(b"\xff\xda")]
    assert without_junk(head) == head
    assert without_junk(head + JUNK) == head + JUNK
    assert without_junk(head + JUNK + b"\xff\xda") == head + JUNK + b"\xff\xda"
    assert without_junk(jpeg[:2] + b"\xff\xd0" + jpeg[2:]) == jpeg


def test_fill_and_stuffing_are_no_markers(jpeg):
    """Fill bytes before the end marker, and zeros behind 0xFF, are part of a scan."""
    assert b"\xff\0" in jpeg[start_of_code(jpeg) :]
    filled = jpeg[:-2] + b"\xff\xff\xff" + jpeg[-2:]
    assert is_sound_jpeg(filled)
    assert prepare(filled).data == filled


@pytest.mark.parametrize("length", [0, 5, 44, 45])
def test_code_shorter_than_the_shortest_is_not_sound(jpeg, length):
    """
    Of 12 × 15 blocks each takes a bit for its mean and one for its end: 45 bytes.

    An end marker in an appended picture used to make up for a scan that is cut off.
    """
    start = start_of_code(jpeg)
    short = jpeg[:start] + b"\x55" * length + b"\xff\xd9"
    assert is_sound_jpeg(short) is (length >= 45)
    assert not is_sound_jpeg(jpeg[:start] + jpeg)
    if length < 45:
        for data in (short, short + jpeg):
            with pytest.raises(DamagedImageError):
                prepare(data)


@pytest.mark.parametrize(
    ("trailer", "is_sound"),
    [
        (bytes(40), True),
        (b"\xff\xd8\xff\xe1", True),
        (bytes(3) + b"\xff\xd8", True),
        (b"PK\3\4", False),
        (b"\xff\xd9", False),
        (b"\xff", False),
        (bytes(8) + b"SEFT", False),
    ],
)
def test_what_follows_the_end_is_kept(jpeg, trailer, is_sound):
    """Further pictures are sound at once; other trailers are, once they are decoded."""
    assert is_sound_jpeg(jpeg + trailer) is is_sound
    assert prepare(jpeg + trailer).data == jpeg + trailer


def test_further_pictures_are_kept(jpeg):
    """An MPO's first picture is sound by itself."""
    assert is_sound_jpeg(jpeg + jpeg)
    assert prepare(jpeg + jpeg).data == jpeg + jpeg


# A picture of 90 × 120: 12 × 15 blocks, or 6 × 8 units of 16 × 16 pixels.
@pytest.mark.parametrize(
    ("mode", "subsampling", "blocks", "restarts"),
    [
        ("RGB", "4:4:4", 1, 179),
        ("RGB", "4:4:4", 179, 1),
        ("RGB", "4:4:4", 180, 0),
        ("RGB", "4:2:2", 7, (12 * 8 - 1) // 7),
        ("RGB", "4:2:0", 1, 47),
        ("RGB", "4:2:0", 5, 9),
        ("RGB", "4:2:0", 47, 1),
        ("RGB", "4:2:0", 65_535, 0),
        ("L", None, 12, 14),
        ("CMYK", "4:4:4", 100, 1),
    ],
)
def test_restarts_are_counted(photo, encoded, mode, subsampling, blocks, restarts):
    """There are as many as the interval and the sampling want, in what is sound."""
    options = {"subsampling": subsampling} if subsampling else {}
    data = encoded(photo.convert(mode), "JPEG", restart_marker_blocks=blocks, **options)
    code = data[start_of_code(data) :]
    assert sum(code.count(bytes((0xFF, 0xD0 + i))) for i in range(8)) == restarts
    assert is_sound_jpeg(data)


@pytest.fixture
def restarted(photo, encoded):
    """A JPEG with 47 restart markers."""
    return encoded(photo, "JPEG", quality=90, restart_marker_blocks=1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"\xff\xd3", b"", 1),
        lambda data: data.replace(b"\xff\xd3", b"\xff\xd4", 1),
        lambda data: data.replace(b"\xff\xd3", b"\xff\xd3\xff\xd3", 1),
        lambda data: data.replace(b"\xff\xd3", b"\xff\xd9", 1),
        lambda data: data[: data.rindex(b"\xff\xd6")] + b"\xff\xd9",
        lambda data: data.replace(b"\xff\xdd\0\4\0\1", b"", 1),
        lambda data: data.replace(b"\xff\xdd\0\4\0\1", b"\xff\xdd\0\4\0\2", 1),
    ],
    ids=["missing", "changed", "twice", "end", "cut", "no interval", "other interval"],
)
def test_restarts_out_of_turn_are_not_sound(restarted, damage):
    """One too few, one too many, or one that does not follow the one before."""
    assert is_sound_jpeg(restarted)
    damaged_scan = damage(restarted)
    assert damaged_scan != restarted
    assert not is_sound_jpeg(damaged_scan)
    with pytest.raises(DamagedImageError):
        prepare(damaged_scan)


def test_a_restart_too_many_is_decoded(restarted):
    """Some writers end with a restart marker; decoders do not mind, and it is kept."""
    data = restarted[:-2] + b"\xff\xd7" + restarted[-2:]
    assert not is_sound_jpeg(data)
    assert prepare(data).data == data


def test_what_is_not_sound_and_decodes_is_kept(photo, encoded, junky):
    """The slower way refuses nothing that decoders take."""
    progressive = encoded(photo, "JPEG", progressive=True)
    for data in (progressive, junky):
        assert not is_sound_jpeg(data)
        assert prepare(data).data in {data, prepare(junky).data}


def test_tables_too_long_are_not_sound(jpeg):
    """A table said a hundred times is legal, but not worth the time."""
    at = jpeg.index(b"\xff\xdb")
    table = jpeg[at + 4 : at + 69]
    longer = struct.pack(">H", 2 + 65 * 100) + table * 100
    data = jpeg[: at + 2] + longer + jpeg[at + 69 :]
    assert is_sound_jpeg(jpeg)
    assert not is_sound_jpeg(data)
    assert prepare(data).data == data


# ------------------------------------------------------------------------------ junk


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
