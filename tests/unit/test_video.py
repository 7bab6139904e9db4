"""A video as a list of frames: which are sent, at which size, and what they cost."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

import qwenvl_prep as qp
from qwenvl_prep.errors import (
    AspectRatioError,
    BudgetError,
    ImagesRefusedError,
    ModelFeatureError,
    NotAnImageError,
    RequestError,
    SourceError,
)
from qwenvl_prep.video import check_frame_count, frame_profile

MAX = qp.get_model("qwen-vl-max")
PLUS3 = qp.get_model("qwen3-vl-plus")
NONE = qp.get_model("qwen-vl-plus")


def frames(count: int, height: int = 720, width: int = 1280) -> list[np.ndarray]:
    """Give frames that differ, cheap in memory."""
    return [np.broadcast_to(np.uint8(i % 256), (height, width)) for i in range(count)]


def png(height: int, width: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


# --------------------------------------------------------------------- sampling


@pytest.mark.parametrize(
    ("n", "limit", "indices"),
    [
        (1, 2, (0,)),
        (4, 4, (0, 1, 2, 3)),
        (4, 9, (0, 1, 2, 3)),
        (5, 4, (0, 1, 3, 4)),
        (10, 4, (0, 3, 6, 9)),
        (100, 2, (0, 99)),
        (12, 5, (0, 3, 6, 8, 11)),
        (8, 7, (0, 1, 2, 4, 5, 6, 7)),
    ],
)
def test_sample_frames(n, limit, indices):
    """The first and the last are kept, the rest lie evenly between them."""
    assert qp.sample_frames(n, limit) == indices


@pytest.mark.parametrize(("n", "limit"), [(0, 4), (-1, 4), (9, 1), (9, 0)])
def test_sample_frames_needs_a_first_and_a_last(n, limit):
    """One frame is no sample of two ends."""
    with pytest.raises(ValueError, match="Expected at least"):
        qp.sample_frames(n, limit)
    with pytest.raises(TypeError, match="Expected an int for limit"):
        qp.sample_frames(9, 4.0)


# --------------------------------------------------------------------- counting


@pytest.mark.parametrize(
    ("model", "count", "size", "tokens"),
    [
        # 13 x 23 patches of 28 pixels, 4 pairs; the cap of 768 a frame is not met.
        (MAX, 8, (360, 640), 4 * 13 * 23 + 2),
        (MAX, 7, (360, 640), 4 * 13 * 23 + 2),
        # Shrunk to 602,112 pixels a frame: 560 x 1008.
        (MAX, 4, (720, 1280), 2 * 20 * 36 + 2),
        (MAX, 80, (720, 1280), 40 * 20 * 36 + 2),
        # Enlarged to 3,136 pixels: 56 x 56.
        (MAX, 4, (20, 20), 2 * 4 + 2),
        # 655,360 pixels a frame at 32: 576 x 1056.
        (PLUS3, 4, (1080, 1920), 2 * 18 * 33 + 2),
        # 1,000 pairs share 67,108,864 pixels, 67,108 each: 192 x 320.
        (PLUS3, 2000, (1080, 1920), 1000 * 6 * 10 + 2),
    ],
)
def test_count_video_tokens(model, count, size, tokens):
    """Numbers worked out by hand from the rule."""
    assert qp.count_video_tokens(count, *size, model=model) == tokens


def test_a_total_too_small_for_all_frames_leaves_the_least():
    """A frame's cap never sinks below its least area and a twentieth."""
    small = MAX.replace(video_pixels=50_000)
    assert frame_profile(small, 80).max_pixels == 3_292
    assert frame_profile(small, 4).max_pixels == 25_000


@pytest.mark.parametrize("count", [0, 3, 81])
def test_illegal_counts_are_refused(count):
    """4 to 80 frames for the early models."""
    with pytest.raises(RequestError, match=f"4 to 80 frames .* received {count};"):
        qp.count_video_tokens(count, 100, 100, model=MAX)
    with pytest.raises(RequestError):
        check_frame_count(count, MAX)
    check_frame_count(4, MAX)
    check_frame_count(80, MAX)
    check_frame_count(2000, PLUS3)


@pytest.mark.parametrize(
    "work",
    [
        lambda: qp.count_video_tokens(4, 100, 100, model=NONE),
        lambda: qp.plan_video(frames(4), model=NONE),
        lambda: qp.prepare_video(frames(4), model=NONE),
        lambda: check_frame_count(4, NONE),
        lambda: frame_profile(NONE, 4),
    ],
)
def test_models_without_video_are_refused(work):
    """qwen-vl-plus takes no video."""
    with pytest.raises(ModelFeatureError, match="takes video") as caught:
        work()
    assert (caught.value.model, caught.value.feature) == ("qwen-vl-plus", "video")


def test_too_long_frames_have_no_size():
    """Above 200:1 the rule has no answer."""
    with pytest.raises(AspectRatioError):
        qp.count_video_tokens(4, 10, 2010)


# --------------------------------------------------------------------- planning


def test_plan_video():
    """The plan says which, how large and how much."""
    plan = qp.plan_video(frames(12), model=MAX, max_frames=5, fps=2)
    assert repr(plan) == (
        "<VideoPlan 5 of 12 frames, 560x1008, 2,162 tokens for qwen-vl-max>"
    )
    assert (plan.n_frames, plan.indices) == (12, (0, 3, 6, 8, 11))
    assert plan.tokens == qp.count_video_tokens(5, 720, 1280, model=MAX)
    assert plan.vision_tokens == 2160
    # 11 gaps at 2 a second; 4 gaps are left of them.
    assert plan.seconds == 5.5
    assert plan.sent_fps == pytest.approx(4 / 5.5)


def test_without_fps_nothing_is_said_of_time():
    """Nobody can tell the seconds between pictures by looking at them."""
    plan = qp.plan_video(frames(4))
    assert (plan.fps, plan.seconds, plan.sent_fps) == (None, None, None)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf")])
def test_senseless_fps_are_refused(fps):
    """A video has more than 0 frames a second."""
    with pytest.raises(ValueError, match="more than 0 for fps"):
        qp.plan_video(frames(4), fps=fps)
    with pytest.raises(TypeError, match="Expected a number for fps"):
        qp.plan_video(frames(4), fps="2")


def test_the_models_limit_samples_too():
    """More frames than the model takes are sampled without being asked to."""
    plan = qp.plan_video(frames(200, 56, 56), model=MAX)
    assert len(plan.indices) == 80
    assert (plan.indices[0], plan.indices[-1]) == (0, 199)


@pytest.mark.parametrize("max_tokens", [40, 100, 999, 1439, 1440, 10_000])
def test_max_tokens_is_of_the_whole_video(max_tokens):
    """The frames get smaller until all together keep the cap."""
    plan = qp.plan_video(frames(4), model=MAX, max_tokens=max_tokens)
    assert len(plan.indices) == 4
    assert plan.vision_tokens <= max_tokens
    assert plan.vision_tokens >= min(max_tokens, 1440) * 0.6
    assert (plan.vision_tokens == 1440) == (max_tokens >= 1440)


def test_max_tokens_below_the_least_is_refused():
    """Nothing is below the 8 tokens a pair of this shape; frames are never dropped."""
    with pytest.raises(BudgetError, match="6 frames would fit") as caught:
        qp.plan_video(frames(20), model=MAX, max_tokens=25)
    error = caught.value
    assert (error.needed, error.limit, error.fits) == (80, 25, 6)
    for count, cap in ((6, 25), (20, 80)):
        plan = qp.plan_video(frames(20), model=MAX, max_tokens=cap, max_frames=count)
        assert plan.vision_tokens <= cap
    with pytest.raises(BudgetError, match=r"received 7$"):
        qp.plan_video(frames(4), model=MAX, max_tokens=7)
    # A square frame reaches the 4 tokens to which everything is enlarged.
    with pytest.raises(BudgetError, match="at least 40"):
        qp.plan_video(frames(20, 300, 300), model=MAX, max_tokens=39)
    plan = qp.plan_video(frames(20, 300, 300), model=MAX, max_tokens=40)
    assert plan.vision_tokens == 40


def test_too_few_frames_are_refused():
    """Nothing can be sampled up; and max_frames cannot ask for less than is legal."""
    with pytest.raises(RequestError, match=r"4 to 80 frames .* received 3"):
        qp.plan_video(frames(3), model=MAX)
    with pytest.raises(RequestError, match="received 0"):
        qp.plan_video([], model=MAX)
    with pytest.raises(ValueError, match="at least 4 for max_frames"):
        qp.plan_video(frames(9), model=MAX, max_frames=3)
    with pytest.raises(TypeError, match="Expected an int for max_frames"):
        qp.plan_video(frames(9), model=MAX, max_frames=4.0)
    with pytest.raises(TypeError, match="Expected several images"):
        qp.plan_video("frames.gif", model=MAX)


def test_frames_have_one_size():
    """A picture among others of another shape is no frame of that video."""
    mixed = [*frames(5), *frames(1, 1280, 720), *frames(2)]
    with pytest.raises(RequestError, match="frame 6 comes out at 1008 × 560"):
        qp.plan_video(mixed, model=MAX)
    # Only what is chosen matters, and what comes out alike is alike.
    mixed = [*frames(1), *frames(1, 1280, 720), *frames(8)]
    assert qp.plan_video(mixed, model=MAX, max_frames=4).indices == (0, 3, 6, 9)
    near = [*frames(4, 720, 1280), *frames(4, 722, 1283)]
    assert qp.plan_video(near, model=MAX).height == 560


def test_refused_frames_are_told_together():
    """Every broken frame among those that are chosen, by its place in the list."""
    broken = [*frames(4), b"text", *frames(2), "https://example.org/a.jpg"]
    with pytest.raises(ImagesRefusedError, match="2 of 8 frames") as caught:
        qp.plan_video(broken, model=MAX)
    told = [(i, name, type(exc)) for i, name, exc in caught.value.refused]
    assert told == [(4, "frame 5", NotAnImageError), (7, "frame 8", SourceError)]


def test_high_resolution_is_not_for_frames():
    """A frame's cap is fixed."""
    with pytest.raises(ModelFeatureError):
        qp.plan_video(frames(4), model=MAX, high_resolution=True)


# -------------------------------------------------------------------- preparing


@pytest.mark.parametrize("model", [MAX, PLUS3], ids=lambda one: one.name)
@pytest.mark.parametrize(
    ("size", "options"),
    [((720, 1280), {}), ((720, 1280), {"max_tokens": 500}), ((100, 150), {})],
)
def test_prepare_video_makes_what_was_planned(model, size, options):
    """The frames that are sent cost what the plan says, counted anew."""
    given = frames(9, *size)
    plan = qp.plan_video(given, model=model, max_frames=6, **options)
    made = qp.prepare_video(given, model=model, max_frames=6, **options)
    assert len(made) == len(plan.indices) == 6
    of_frame = frame_profile(model, 6)
    for index, frame in zip(plan.indices, made, strict=True):
        sent = Image.open(io.BytesIO(frame.data))
        assert sent.convert("L").getpixel((0, 0)) == index
        seen = qp.smart_resize(
            sent.height,
            sent.width,
            factor=of_frame.factor,
            min_pixels=of_frame.min_pixels,
            max_pixels=of_frame.max_pixels,
        )
        assert seen == (plan.height, plan.width)
    assert plan.tokens == qp.count_video_tokens(
        6, made[0].height, made[0].width, model=model
    )


def test_prepared_frames_are_taken_as_they_are_sent():
    """What was prepared once is planned and prepared from what it became."""
    once = [qp.prepare(frame, model=MAX) for frame in frames(4)]
    assert once[0].height == 720
    assert qp.plan_video(once, model=MAX).height == 560
    assert [one.height for one in qp.prepare_video(once, model=MAX)] == [560] * 4


def test_small_files_are_kept():
    """Legal bytes within the cap of a frame are not encoded anew."""
    data = png(100, 150)
    made = qp.prepare_video([data] * 4, model=MAX)
    assert [one.data for one in made] == [data] * 4


@pytest.mark.parametrize("wire", ["openai", "dashscope"])
def test_prepared_frames_go_into_a_request(wire):
    """chat_request takes them as they are."""
    made = qp.prepare_video(frames(12), model=MAX, max_frames=4)
    request = qp.chat_request(text="What?", video=made, model=MAX, wire=wire)
    part = request["messages"][0]["content"][0]
    assert part["video"] == [frame.data_uri for frame in made]


def test_a_video_is_a_fixed_cost_of_a_budget():
    """Its tokens are kept free beside the images."""
    video = qp.plan_video(frames(8), model=MAX)
    request = qp.fit(frames(2), model=MAX, reserve=video.tokens)
    images = 2 * qp.count_tokens(frames(1)[0])
    assert request.total == video.tokens + images + MAX.template_tokens


def test_frames_that_do_not_decode_are_told():
    """A broken body behind a good header is found when its pixels are read."""
    noise = np.random.default_rng(1).integers(0, 256, (720, 1280), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    cut = file.getvalue()[:20_000]
    given = [*frames(4), cut]
    assert qp.plan_video(given, model=MAX).n_frames == 5
    with pytest.raises(ImagesRefusedError, match=r"1 of 5 frames .* frame 5"):
        qp.prepare_video(given, model=MAX)


# ------------------------------------------------------------- the command line


@pytest.fixture
def folder(tmp_path):
    """Give a folder with twelve frames."""
    for i in range(12):
        (tmp_path / f"frame{i:02}.png").write_bytes(png(720, 1280))
    return tmp_path


def test_video_command(run, folder):
    """The chosen frames on stdout, the sum on stderr."""
    seen = run("video", folder, "--max-frames", 5, "--fps", 1)
    code, out, err = seen.code, seen.out, seen.err
    assert code == 0
    assert [line.split() for line in out.splitlines()[2:]] == [
        [number, f"frame{int(number) - 1:02}.png"]
        for number in ("1", "4", "7", "9", "12")
    ]
    assert "5 frames of 12 at 560×1008, 2,162 tokens for qwen-vl-max" in err
    assert "send fps=0.3636" in err


def test_video_command_as_json(run, folder):
    """One object, with the limit beside the tokens."""
    seen = run("video", folder, "--json", "-q", "--max-tokens", 1000)
    code, out = seen.code, seen.out
    record = json.loads(out)
    assert code == 0
    assert record["indices"] == list(range(12))
    assert record["files"][0].endswith("frame00.png")
    assert record["tokens"] <= 1002
    assert (record["limit"], record["fits"]) == (30_720, True)


def test_video_command_refuses(run, folder):
    """1 for the input, 2 for the call; a broken frame is named."""
    assert run("video", folder, "-m", "qwen-vl-plus").code == 2
    assert run("video", folder, "--max-frames", 3).code == 2
    assert run("video", folder, "--max-tokens", 3).code == 1
    assert run("video", folder / "frame00.png").code == 1
    (folder / "frame03.png").write_text("text")
    seen = run("video", folder)
    code, out, err = seen.code, seen.out, seen.err
    assert (code, out) == (1, "")
    assert "frame03.png" in err
    seen = run("video", folder, "--json")
    code, out = seen.code, seen.out
    assert (code, json.loads(out)["error"]) == (1, "NotAnImageError")


def test_video_command_tells_what_does_not_fit(run, folder):
    """80 frames of full size are more than the model's whole input."""
    words = [folder / "frame00.png"] * 80
    err = run("video", *words).err
    assert "28,802 tokens" in err
    assert "too many" not in err
    for i in range(12):
        (folder / f"frame{i:02}.png").write_bytes(png(784, 768))
    err = run("video", *words).err
    assert "30,242 tokens" in err


@pytest.mark.parametrize(
    ("name", "head", "kind"),
    [
        ("clip.mp4", b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(99), "MP4 video"),
        ("pages.pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(99), "PDF"),
    ],
)
def test_a_file_that_is_no_frame_is_told_by_its_content(
    run, tmp_path, name, head, kind
):
    """A video file is one input: that it is a video comes before its count."""
    path = tmp_path / name
    path.write_bytes(head)
    with pytest.raises(ImagesRefusedError, match=kind):
        qp.plan_video([path], model=MAX)
    seen = run("video", path)
    assert (seen.code, seen.out) == (1, "")
    assert kind in seen.err
    assert "4 to 80" not in seen.err
    last = seen.err.splitlines()[-1]
    assert ("ffmpeg" in last) == (kind == "MP4 video")
    seen = run("request", "--video", path, "-t", "What?")
    assert (seen.code, seen.out) == (1, "")
    assert kind in seen.err
    # Real frames that are too few are counted as before.
    with pytest.raises(RequestError, match="received 3"):
        qp.plan_video(frames(3), model=MAX)


def test_many_frames_are_shown_in_a_few_rows(run, folder):
    """The first and the last, and how many lie between; JSON has them all."""
    words = [folder / f"frame{i % 12:02}.png" for i in range(60)]
    rows = [line.split() for line in run("video", *words).out.splitlines()[2:]]
    assert len(rows) == 17
    assert [row[0] for row in rows[10:]] == ["11", "12", "…", "57", "58", "59", "60"]
    assert rows[12][1:3] == ["44", "more;"]
    assert len(run("video", "--json", *words).lines[0]["files"]) == 60
    rows = run("video", *words[:16]).out.splitlines()[2:]
    assert len(rows) == 16
    assert "…" not in "".join(rows)


def test_narrow_numpy_ints_do_not_overflow():
    """Positions are products of both numbers, beyond 32 bits."""
    n, limit = np.int32(1_000_000), np.int32(100_000)
    assert qp.sample_frames(n, limit) == qp.sample_frames(1_000_000, 100_000)
    assert type(qp.count_video_tokens(np.int64(4), 360, 640)) is int


def test_fps_that_is_no_float_is_refused():
    with pytest.raises(ValueError, match="finite"):
        qp.plan_video(frames(4), fps=10**400)
