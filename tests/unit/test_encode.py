"""Encoding: every type, what auto chooses, and what fits into a limit."""

from __future__ import annotations

import dataclasses
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageDraw

from qwenvl_prep import content
from qwenvl_prep._native import content as native
from qwenvl_prep.decode import Pixels
from qwenvl_prep.encode import encode
from qwenvl_prep.errors import EncodedSizeError, ImageError
from qwenvl_prep.plan import plan
from qwenvl_prep.resize import resize
from qwenvl_prep.within import _Search, encode_within

HEIGHT, WIDTH = 420, 560


def noise(height=HEIGHT, width=WIDTH, seed=0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), np.uint8)


def photo(height=HEIGHT, width=WIDTH) -> np.ndarray:
    """Give soft shapes with grain, as a camera does."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[:height, :width] / 100
    waves = [np.sin(x * a + y * b) for a, b in ((1, 2), (2.1, -0.7), (-1.3, 1.9))]
    shapes = 120 + 60 * np.stack(waves, axis=-1) + 25 * np.sin(9 * x * y)[..., None]
    grain = random.normal(0, 5, (height, width, 1))
    return (shapes + grain).clip(0, 255).astype(np.uint8)


def gradient() -> np.ndarray:
    """Give a sky: smooth, and with the dither that keeps it from banding."""
    random = np.random.default_rng(2)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    sky = np.stack([40 + y / 4, 90 + y / 5 + x / 40, 190 - x / 30], axis=-1)
    return (sky + random.normal(0, 0.8, sky.shape)).clip(0, 255).astype(np.uint8)


def page(colours, *, is_resized=True, ground="white") -> np.ndarray:
    """Give lines of text, resized as a document is."""
    scale = 2 if is_resized else 1
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), ground)
    draw = ImageDraw.Draw(image)
    for line in range(HEIGHT * scale // 24):
        words = f"Line {line}: what arrives is what the person sees, and 0123456789."
        draw.text((12, line * 24), words, fill=colours[line % len(colours)])
    if is_resized:
        image = image.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return np.asarray(image)


def window() -> np.ndarray:
    """Give a user interface: plain areas, thin borders, coloured labels."""
    image = Image.new("RGB", (WIDTH, HEIGHT), (246, 246, 248))
    draw = ImageDraw.Draw(image)
    for row in range(6):
        for column in range(4):
            box = (column * 140 + 8, row * 70 + 6, column * 140 + 130, row * 70 + 60)
            draw.rectangle(box, fill="white", outline=(60 * column, 90, 40 * row))
            draw.text((box[0] + 6, box[1] + 6), "Open file", fill=(200, 0, 30 * row))
    return np.array(image)


def lines() -> np.ndarray:
    """Give line art: black strokes, no grey between."""
    image = Image.new("1", (WIDTH, HEIGHT), 1)
    draw = ImageDraw.Draw(image)
    for turn in range(40):
        draw.ellipse((turn * 7, turn * 5, WIDTH - turn * 6, HEIGHT - turn * 4))
    return np.asarray(image.convert("RGB"))


def plan_of(data, **options):
    """Give a plan for pixels at their own size."""
    chroma = options.pop("chroma", "auto")
    made = plan(np.broadcast_to(np.uint8(0), (*data.shape[:2], 3)), **options)
    size = {"height": data.shape[0], "width": data.shape[1]}
    with_chroma = dataclasses.replace(made.options, chroma=chroma)
    return dataclasses.replace(made, options=with_chroma, **size)


def encoded_as(data, **options):
    return encode(Pixels(np.ascontiguousarray(data)), plan_of(data, **options))


def decoded(encoded) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded.data)).convert("RGB"))


def sampling(jpeg: bytes) -> list[tuple[int, int]]:
    """Read how often each component is sampled, across and down, from the frame."""
    frame = jpeg.index(b"\xff\xc0")
    count = jpeg[frame + 9]
    factors = [jpeg[frame + 11 + 3 * i] for i in range(count)]
    return [(factor >> 4, factor & 15) for factor in factors]


def ssim(first, second) -> float:
    """Mean SSIM over channels, 8 × 8 means: another window than the sample's."""

    def mean(values):
        rows = np.cumsum(np.pad(values, ((1, 0), (1, 0), (0, 0))), axis=0)
        sums = np.cumsum(rows[8:] - rows[:-8], axis=1)
        return (sums[:, 8:] - sums[:, :-8]) / 64

    x, y = first.astype(float), second.astype(float)
    mx, my = mean(x), mean(y)
    vx, vy, both = mean(x * x) - mx**2, mean(y * y) - my**2, mean(x * y) - mx * my
    top = (2 * mx * my + 6.5025) * (2 * both + 58.5225)
    return float((top / ((mx**2 + my**2 + 6.5025) * (vx + vy + 58.5225))).mean())


# ---------------------------------------------------------------------- every type


@pytest.mark.parametrize(
    ("encoding", "options", "label", "media_type"),
    [
        ("jpeg", {}, "JPEG 90 4:2:0", "image/jpeg"),
        ("jpeg", {"quality": 40, "chroma": "4:4:4"}, "JPEG 40 4:4:4", "image/jpeg"),
        ("jpeg", {"chroma": "4:2:2"}, "JPEG 90 4:2:2", "image/jpeg"),
        ("webp", {"quality": 75}, "WebP 75", "image/webp"),
        ("webp-lossless", {}, "WebP lossless", "image/webp"),
        ("png", {}, "PNG", "image/png"),
    ],
)
def test_label_and_bytes_agree(encoding, options, label, media_type):
    """Each type is written as asked for, and called what it is."""
    encoded = encoded_as(photo(), encoding=encoding, **options)
    assert (encoded.label, encoded.media_type) == (label, media_type)
    image = Image.open(io.BytesIO(encoded.data))
    assert Image.MIME[image.format] == media_type
    assert image.size == (WIDTH, HEIGHT)
    assert label in repr(encoded)


@pytest.mark.parametrize("encoding", ["png", "webp-lossless"])
@pytest.mark.parametrize("make", [photo, noise, gradient, window, lines])
def test_lossless_is_lossless(encoding, make):
    """PNG and lossless WebP hold the very pixels."""
    data = make()
    assert np.array_equal(decoded(encoded_as(data, encoding=encoding)), data)


@pytest.mark.parametrize(
    ("chroma", "expected"),
    [("4:4:4", (1, 1)), ("4:2:2", (2, 1)), ("4:2:0", (2, 2))],
)
def test_chroma_stands_in_the_frame(chroma, expected):
    """The sampling asked for is that of the file; colour is sampled once a unit."""
    encoded = encoded_as(photo(), encoding="jpeg", chroma=chroma)
    assert sampling(encoded.data) == [expected, (1, 1), (1, 1)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("encoding", ["jpeg", "png", "webp-lossless", "webp", "auto"])
def test_grey_is_one_channel(encoding, channels):
    """Grey pixels, as one channel or as three equal ones, give the same file."""
    grey = np.ascontiguousarray(photo()[..., 0])
    data = grey if channels == 1 else np.repeat(grey[..., None], 3, axis=2)
    encoded = encoded_as(data, encoding=encoding)
    image = Image.open(io.BytesIO(encoded.data))
    assert encoded.data == encoded_as(grey, encoding=encoding).data
    assert image.mode == ("RGB" if "webp" in encoding else "L")
    if encoding in ("jpeg", "auto"):
        assert encoded.label == "JPEG 90 grey"
        assert sampling(encoded.data) == [(1, 1)]
    elif encoding != "webp":
        assert np.array_equal(np.asarray(image.convert("L")), grey)


FEW = [(1, 1), (2, 1), (3, 2), (4, 2), (5, 4), (16, 4), (17, 8), (256, 8)]


@pytest.mark.parametrize(
    ("colours", "bits", "is_grey"),
    [
        *((*few, False) for few in FEW),
        *((*few, True) for few in FEW),
        (257, None, False),
    ],
)
def test_few_colours_become_a_palette(colours, bits, is_grey):
    """1, 2, 4 or 8 bits where that is exact; grey of more than 16 levels stays grey."""
    random = np.random.default_rng(colours)
    shape = (colours,) if is_grey else (colours, 3)
    chosen = np.unique(random.integers(0, 256, shape, np.uint8), axis=0)
    while len(chosen) < colours:
        more = random.integers(0, 256, shape, np.uint8)
        chosen = np.unique(np.concatenate([chosen, more]), axis=0)[:colours]
    numbers = random.integers(0, colours, (37, 61))
    numbers.flat[:colours] = range(colours)
    data = np.ascontiguousarray(chosen[numbers])
    encoded = encoded_as(data, encoding="png")
    depth, kind = encoded.data[24], encoded.data[25]
    if is_grey and colours > 16:
        assert (depth, kind) == (8, 0)
    else:
        assert (depth, kind) == ((bits, 3) if bits else (8, 2))
    shown = decoded(encoded)
    assert np.array_equal(shown[..., 0] if is_grey else shown, data)


def test_no_metadata_is_written():
    """No type carries more than the picture."""
    for encoding in ("jpeg", "webp", "png", "webp-lossless"):
        image = Image.open(io.BytesIO(encoded_as(photo(), encoding=encoding).data))
        assert set(image.info) <= {
            "jfif", "jfif_version", "jfif_unit", "jfif_density",  # the JPEG's own head
            "loop", "background", "timestamp", "duration",  # the decoder's defaults
        }  # fmt: skip
        assert not image.getexif()


def test_webp_says_what_it_cannot_hold():
    """A side above libwebp's limit is refused in our words."""
    with pytest.raises(ImageError, match="16,383 pixels for WebP but received 90"):
        encoded_as(np.zeros((90, 16_384, 3), np.uint8), encoding="webp")


def test_bytes_are_the_same_on_every_thread():
    """Eight threads at once give the bytes that one gives."""
    pictures = [photo(), window(), lines(), page(["red", "blue"]), gradient()]
    kinds = ["auto", "jpeg", "png", "webp"]
    work = [(data, encoding) for data in pictures for encoding in kinds] * 3
    alone = [encoded_as(data, encoding=encoding).data for data, encoding in work]
    with ThreadPoolExecutor(8) as pool:
        done = pool.map(lambda item: encoded_as(item[0], encoding=item[1]).data, work)
        assert list(done) == alone


# ----------------------------------------------------------------- what auto chooses


@pytest.mark.parametrize(
    ("make", "label"),
    [
        (photo, "JPEG 90 4:2:0"),
        (gradient, "JPEG 90 4:2:0"),
        (window, "PNG"),
        (lines, "PNG"),
        (lambda: page(["black"], is_resized=False), "PNG"),
        (lambda: page(["red", "blue", "green"], is_resized=False), "PNG"),
    ],
    ids=["photo", "gradient", "window", "line art", "text", "coloured text"],
)
def test_auto_chooses_by_the_pixels(make, label):
    """Photos become JPEG with 4:2:0, drawn pictures PNG; where from does not matter."""
    assert encoded_as(make()).label == label


def test_coloured_text_keeps_its_colour():
    """Coloured text that has grain, as from a JPEG, becomes JPEG with full colour."""
    file = io.BytesIO()
    text = page(["red", "blue", "magenta"], ground=(255, 250, 200), is_resized=False)
    Image.fromarray(text).save(file, "JPEG", quality=85, subsampling="4:4:4")
    grained = np.asarray(Image.open(file))
    assert encoded_as(grained, encoding="jpeg").label == "JPEG 90 4:4:4"
    assert encoded_as(grained, encoding="auto").label in ("JPEG 90 4:4:4", "PNG")


def test_auto_never_pays_much_for_being_lossless():
    """A PNG that auto sends is at most a quarter longer than the JPEG."""
    for data in (photo(), window(), lines(), page(["black"]), page(["red"]), noise()):
        auto, jpeg = encoded_as(data), encoded_as(data, encoding="jpeg")
        assert len(auto.data) <= 1.25 * len(jpeg.data)


@pytest.mark.parametrize("quality", [85, 90, 95])
@pytest.mark.parametrize("make", [photo, gradient, window, lambda: page(["navy"])])
def test_jpeg_is_no_worse_than_pillows(make, quality):
    """At the same number ours is as like the picture as Pillow's, in no more bytes."""
    data = make()
    file = io.BytesIO()
    Image.fromarray(data).save(file, "JPEG", quality=quality)
    ours = encoded_as(data, encoding="jpeg", quality=quality, chroma="4:2:0")
    theirs = np.asarray(Image.open(file))
    # Within 2 % of the loss: this window is not the one that was predicted for.
    assert 1 - ssim(decoded(ours), data) <= 1.02 * (1 - ssim(theirs, data))
    assert len(ours.data) <= 1.03 * len(file.getvalue())


def test_jpeg_below_85_is_pillows():
    """Where flat tables gain nothing, the file is the one that Pillow writes."""
    file = io.BytesIO()
    Image.fromarray(photo()).save(file, "JPEG", quality=84, subsampling="4:2:0")
    ours = encoded_as(photo(), encoding="jpeg", quality=84)
    assert ours.data == file.getvalue()


# ------------------------------------------------------------------- the native part


def test_sample_refuses_what_does_not_fit():
    """Lengths are compared beside the pointers."""
    tables, found = np.ones(128, np.float32), np.empty(3)
    data = np.zeros(16 * 16 * 3, np.uint8)
    native.sample(data, 16, 16, 3, tables, 1, found)
    for arguments in (
        (data[1:], 16, 16, 3, tables, 1, found),
        (data, 16, 17, 3, tables, 1, found),
        (data, 2**62, 4, 3, tables, 1, found),
        (data, 0, 16, 3, tables, 1, found),
        (data, 16, -16, 3, tables, 1, found),
        (data, 16, 16, 2, tables, 1, found),
        (data, 16, 16, 3, tables[1:], 1, found),
        (data, 16, 16, 3, tables, 0, found),
        (data, 16, 16, 3, tables, 4097, found),
        (data, 16, 16, 3, tables, 1, found[1:]),
        (data, 16, 16, 3, np.ones(33 * 128, np.float32), 1, np.empty(99)),
    ):
        with pytest.raises(ValueError, match="Expected a picture"):
            native.sample(*arguments)
    with pytest.raises(ValueError, match="3 bytes a pixel"):
        native.is_neutral(data[1:])
    for arguments in (
        (data, 2, np.empty(384, np.uint8), np.empty(6, np.uint8)),
        (data, 3, np.empty(255, np.uint8), np.empty(6, np.uint8)),
        (data, 3, np.empty(256, np.uint8), np.empty(771, np.uint8)),
        (data, 3, np.empty(256, np.uint8), np.empty(7, np.uint8)),
    ):
        with pytest.raises(ValueError, match=r"channels|colours at most"):
            native.index_colours(*arguments)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 3), (15, 16), (33, 47)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_is_studied(size, channels):
    """Pictures smaller than a square, or no multiple of it, have an answer too."""
    data = noise(*size) if channels == 3 else noise(*size)[..., 0].copy()
    assert content.study(data, 90) == content.study(data.copy(), 90)


def test_colour_steps_of_a_plain_picture_do_not_matter():
    """One colour everywhere loses nothing, and breaks no logarithm."""
    for value in (0, 128, 255):
        found = content.study(np.full((64, 64, 3), value, np.uint8), 90)
        assert found.is_drawn
        assert not found.is_colourful


@pytest.mark.parametrize("quality", range(1, 96))
def test_standard_steps_are_pillows(quality):
    """The tables that ours are measured against are those that libjpeg writes."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    tables = Image.open(file).quantization
    luma, colour = content.standard_steps(quality)
    assert (tuple(tables[0]), tuple(tables[1])) == (luma, colour)


# ------------------------------------------------------------------ fitting in a limit


def within(data, max_bytes, **options):
    """Fit a picture into a limit; smaller sizes are resized from it."""
    sizes = []

    def render(height, width):
        sizes.append((height, width))
        if (height, width) == data.shape[:2]:
            return Pixels(data)
        return Pixels(resize(data, height, width))

    made = plan_of(data, max_bytes=max_bytes, **options)
    return *encode_within(render, made), sizes, made


PICTURES = {
    "photo": photo(840, 1148),
    "noise": noise(560, 560),
    "page": page(["black", "red"]),
    "window": window(),
}


@pytest.mark.parametrize("share", [0.9, 0.6, 0.35, 0.2, 0.1, 0.05])
@pytest.mark.parametrize("encoding", ["auto", "jpeg", "webp", "png", "webp-lossless"])
@pytest.mark.parametrize("name", PICTURES)
def test_limit_is_kept_and_used(monkeypatch, name, encoding, share):
    """Whatever the limit: kept, filled to 70 %, in 8 encodings, on the grid."""
    from qwenvl_prep import encode as module

    data = PICTURES[name]
    free = encoded_as(data, encoding=encoding)
    limit = int(free.data_uri_length * share)
    count = []

    def counted(kind):
        real = getattr(module, kind)

        def call(*args, **kwargs):
            # Rows that are tried first are no encoding of the picture.
            shape = getattr(args[0], "shape", (9999,))
            count.extend([kind] if shape[0] > 200 else [])
            return real(*args, **kwargs)

        monkeypatch.setattr(module, kind, call)

    for kind in ("_saved", "_webp", "_png"):
        counted(kind)
    try:
        encoded, pixels, sizes, made = within(data, limit, encoding=encoding)
    except EncodedSizeError:
        # Drawn pictures are shortest at their own size: resized, they have greys.
        assert name in ("page", "window")
        assert len(count) <= 8
        return
    assert encoded.data_uri_length <= limit
    assert len(count) <= 8
    for height, width in sizes[1:]:
        assert height % 28 == width % 28 == 0
        assert height * width >= made.model.min_pixels
        assert height <= data.shape[0]
        assert width <= data.shape[1]
    assert (pixels.height, pixels.width) in sizes
    if name == "photo" or (name == "noise" and limit > 100_000):
        assert encoded.data_uri_length >= 0.7 * limit


def test_what_fits_is_left_alone():
    """The limit's own length is enough, one byte less is not."""
    data = PICTURES["photo"]
    free = encoded_as(data)
    encoded, pixels, sizes, _ = within(data, free.data_uri_length)
    assert (encoded, len(sizes)) == (free, 1)
    assert pixels.data is data
    less = within(data, free.data_uri_length - 1)[0]
    assert less.data_uri_length < free.data_uri_length


def test_quality_goes_first_and_size_after_30():
    """The size stays while quality 30 fits; the label tells the quality that was."""
    data = PICTURES["photo"]
    free = encoded_as(data).data_uri_length
    encoded, pixels, _, _ = within(data, free // 2)
    assert (pixels.height, pixels.width) == data.shape[:2]
    assert 30 < int(encoded.label.split()[1]) < 90
    encoded, pixels, _, _ = within(data, free // 25)
    assert pixels.height < data.shape[0]
    assert int(encoded.label.split()[1]) >= 30


def test_quality_asked_for_is_never_raised():
    """A limit lowers the quality; below 30 on wish, it is not raised to that."""
    data = PICTURES["photo"]
    for quality in (60, 20):
        free = encoded_as(data, quality=quality).data_uri_length
        encoded = within(data, free * 2 // 3, quality=quality)[0]
        assert int(encoded.label.split()[1]) <= quality


def test_auto_gives_up_lossless_first():
    """Where PNG is too long, JPEG of the same size comes before a smaller one."""
    data = window()
    # As many specks, which JPEG hardly sees, as make PNG the longer one.
    random = np.random.default_rng(3)
    for _ in range(40):
        specks = random.random(data.shape[:2]) < 0.004
        data[specks] ^= random.integers(0, 8, (specks.sum(), 3), np.uint8)
        jpeg = encoded_as(data, encoding="jpeg").data_uri_length
        if encoded_as(data, encoding="png").data_uri_length > jpeg:
            break
    assert encoded_as(data).label == "PNG"
    encoded, pixels, _, _ = within(data, jpeg)
    assert encoded.label.startswith("JPEG 90")
    assert (pixels.height, pixels.width) == data.shape[:2]


@pytest.mark.parametrize(
    ("encoding", "remedy"), [("png", "allow JPEG"), ("jpeg", "crop"), ("auto", "crop")]
)
def test_refusal_says_what_was_reached(encoding, remedy):
    """Nothing fits in 300 bytes; the shortest and how it was made are told."""
    with pytest.raises(EncodedSizeError, match=remedy) as caught:
        within(PICTURES["noise"], 300, encoding=encoding)
    assert caught.value.limit == 300
    assert caught.value.reached > 300
    kind = "PNG" if encoding == "png" else "JPEG 30"
    assert f"{caught.value.reached:,} ({kind}" in str(caught.value)
    assert "56 × 56" in str(caught.value)


def test_tiny_pictures_are_not_enlarged():
    """A picture below the model's least area has no smaller size on the grid."""
    data = noise(40, 40)
    with pytest.raises(EncodedSizeError, match="40 × 40"):
        within(data, 400, encoding="png")


def flat(height, width) -> np.ndarray:
    return np.full((height, width, 3), (1, 2, 3), np.uint8)


def text() -> np.ndarray:
    """Give lines of text at so even a distance that some sizes have few colours."""
    image = Image.new("RGB", (1000, 800), "white")
    draw = ImageDraw.Draw(image)
    for y in range(4, 800, 14):
        draw.text((4, y), "The quick brown fox jumps over 0123 " * 7, fill=(20, 20, 90))
    return resize(np.array(image), 800, 992)


# Each was refused once, or shrunk to the smallest size.
@pytest.mark.parametrize(
    ("data", "encoding", "model", "share"),
    [
        # A lower quality does not shorten it.
        (flat(700, 896), "jpeg", "qwen-vl-max", 0.9),
        (flat(700, 896), "webp", "qwen-vl-max", 0.9),
        # The size that is predicted is below the model's least.
        (photo(700, 980), "jpeg", "qwen-vl-max", 0.012),
        (photo(700, 980), "png", "qwen-vl-max", 0.012),
        (photo(704, 992), "png", "qwen3-vl-plus", 0.135),
        (photo(704, 992), "webp", "qwen3-vl-plus", 0.1),
        # The smallest is long, and the next ones are not.
        (text(), "png", "qwen3-vl-plus", 0.04),
    ],
)
def test_little_is_enough(data, encoding, model, share):
    """Where a legal size fits, it is found, however hard it is to predict."""
    free = encoded_as(data, encoding=encoding, model=model)
    limit = int(free.data_uri_length * share)
    encoded, _, sizes, made = within(data, limit, encoding=encoding, model=model)
    assert encoded.data_uri_length <= limit
    for height, width in sizes[1:]:
        assert height % made.model.factor == width % made.model.factor == 0
        assert height * width >= made.model.min_pixels


def test_size_goes_up_again():
    """Grain is badly predicted; the first size that fits is not the last word."""
    encoded, pixels, _, _ = within(PICTURES["noise"], 6000, encoding="jpeg")
    assert pixels.height >= 112
    assert encoded.data_uri_length >= 0.7 * 6000


@pytest.mark.parametrize("encoding", ["jpeg", "webp", "png", "auto"])
@pytest.mark.parametrize("name", PICTURES)
def test_what_is_possible_is_the_bound(name, encoding):
    """The smallest size at the least quality decides, and the refusal tells of it."""
    data = PICTURES[name]
    with pytest.raises(EncodedSizeError) as caught:
        within(data, 60, encoding=encoding)
    least = caught.value.reached
    encoded = within(data, least, encoding=encoding)[0]
    assert encoded.data_uri_length <= least
    for share in (1.01, 1.1, 1.3, 1.7, 2.5, 4, 7, 12):
        limit = int(least * share)
        assert within(data, limit, encoding=encoding)[0].data_uri_length <= limit


def test_refusal_of_auto_tells_of_png():
    """What was tried as PNG was tried too, and may be the shortest."""
    data = flat(80, 60)
    png = encoded_as(data).data_uri_length
    with pytest.raises(EncodedSizeError, match="PNG at 80 × 60") as caught:
        within(data, png - 1)
    assert caught.value.reached == png
    assert within(data, png)[0].label == "PNG"


@pytest.mark.parametrize("shape", [(80, 200), (300, 130), (29, 900), (430, 433)])
def test_sizes_keep_the_shape(shape):
    """Sizes go down to the least area, at most half a step off the shape."""
    made = plan_of(np.empty((*shape, 3), np.uint8), max_bytes=1)
    sizes = _Search(resize, made)._sizes()
    areas = [height * width for height, width in sizes]
    assert areas == sorted(set(areas))
    assert 4 * 28 * 28 <= areas[0] <= 8 * 28 * 28
    for size in sizes[1:]:
        long, short = (side // 28 for side in sorted(size, reverse=True))
        exact = long * min(shape) / max(shape)
        assert short == 1 or abs(short - exact) <= 0.5


def test_codes_that_do_not_fit_pillow_s_buffer_are_the_common_ones():
    """Flat where it is looked at, black and white noise elsewhere."""
    side = 980
    data = np.random.default_rng(1).integers(0, 2, (side, side, 3), np.uint8) * 255
    across = -(-side // 16)
    for index in range(256):
        # Where the sample lies: steps of the golden section over all squares.
        place = int(index * 0.6180339887498949 % 1 * across**2)
        top, left = place // across * 16, place % across * 16
        data[top : top + 16, left : left + 16] = 200
    wanted = {"encoding": "jpeg", "quality": 95, "chroma": "4:4:4"}
    assert content.study(data, 95).is_drawn
    made = encoded_as(data, **wanted)
    assert made.label == "JPEG 95 4:4:4"
    assert shown(made.data).size == (side, side)


def shown(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image
