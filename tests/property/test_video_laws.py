"""Laws of a list of frames: even samples, legal sizes, counts as the rule says."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import assume, given
from hypothesis import strategies as st

import qwenvl_prep as qp
from qwenvl_prep.errors import BudgetError
from qwenvl_prep.geometry import smart_resize
from qwenvl_prep.video import frame_profile

MODELS = st.sampled_from([model for model in qp.list_models() if model.takes_video])
SIDES = st.integers(11, 5_000)


@given(n=st.integers(1, 5_000), limit=st.integers(2, 500))
def test_samples_are_even(n, limit):
    """Prove that both ends are kept, that nothing comes twice, and gaps are alike."""
    indices = qp.sample_frames(n, limit)
    assert len(indices) == min(n, limit)
    assert (indices[0], indices[-1]) == (0, n - 1)
    gaps = {after - before for before, after in pairwise(indices)}
    assert min(gaps, default=1) >= 1
    assert max(gaps, default=1) - min(gaps, default=1) <= 1


@given(n=st.integers(1, 5_000), limit=st.integers(2, 500))
def test_samples_are_those_of_the_open_processors(n, limit):
    """Prove that it is linspace, rounded, but for halves, where both ways are even."""
    import numpy as np

    assume(n > limit)
    exact = np.linspace(0, n - 1, limit)
    indices = np.array(qp.sample_frames(n, limit))
    assert np.abs(indices - exact).max() <= 0.5 + 1e-9
    is_half = np.isclose(exact % 1, 0.5)
    assert np.array_equal(indices[~is_half], exact.round()[~is_half])


def stated(n: int, height: int, width: int, model: qp.ModelProfile) -> int | None:
    """State the provider's sample in its own words; None where it gives no frame."""
    # An odd list gets its last frame once more, before the sample looks at it.
    n = math.ceil(n / 2) * 2
    least, factor = model.frame_min_pixels, model.factor
    most = max(
        min(model.frame_max_pixels, model.video_pixels / n * 2), int(least * 1.05)
    )
    h, w = round(height / factor) * factor, round(width / factor) * factor
    if h * w > most:
        beta = math.sqrt(height * width / most)
        h = math.floor(height / beta / factor) * factor
        w = math.floor(width / beta / factor) * factor
    elif h * w < least:
        beta = math.sqrt(least / (height * width))
        h = math.ceil(height * beta / factor) * factor
        w = math.ceil(width * beta / factor) * factor
    return int(math.ceil(n / 2) * (h / factor) * (w / factor)) + 2


@st.composite
def videos(draw) -> tuple[int, int, int, qp.ModelProfile]:
    """Draw a legal list of frames of one size."""
    model = draw(MODELS)
    n = draw(st.integers(model.min_frames, model.max_frames))
    height, width = draw(SIDES), draw(SIDES)
    assume(max(height, width) <= 200 * min(height, width))
    return n, height, width, model


@given(video=videos())
def test_counts_are_the_stated_rule(video):
    """Prove the count against a statement of the rule in plain floats."""
    n, height, width, model = video
    counted = qp.count_video_tokens(n, height, width, model=model)
    assert counted == stated(n, height, width, model)


@given(video=videos())
def test_limits_hold(video):
    """Prove that a planned frame is never above its cap, nor all above the total."""
    n, height, width, model = video
    of_frame = frame_profile(model, n)
    size = smart_resize(
        height,
        width,
        factor=model.factor,
        min_pixels=of_frame.min_pixels,
        max_pixels=of_frame.max_pixels,
        rule="strict",
    )
    area = size[0] * size[1]
    assert area <= of_frame.max_pixels <= model.frame_max_pixels
    assert math.ceil(n / 2) * area <= model.video_pixels
    assert size[0] % model.factor == size[1] % model.factor == 0


@given(video=videos())
def test_the_same_frames_and_more_cost_more(video):
    """Prove that pairs of one size add up, as long as the total leaves the size."""
    n, height, width, model = video
    assume(n + 2 <= model.max_frames)
    assume(frame_profile(model, n) == frame_profile(model, n + 2))
    first = qp.count_video_tokens(n, height, width, model=model)
    second = qp.count_video_tokens(n + 2, height, width, model=model)
    assert second > first
    if n % 2:
        assert qp.count_video_tokens(n + 1, height, width, model=model) == first


@given(video=videos(), more=st.integers(1, 4000))
def test_larger_frames_never_cost_more_than_the_caps(video, more):
    """Prove the ceiling of any count: the total, or the least of every frame."""
    n, height, width, model = video
    n = min(n + more, model.max_frames)
    vision = qp.count_video_tokens(n, height, width, model=model) - 2
    pairs = math.ceil(n / 2)
    # Enlarging a long thin frame rounds both sides up, above the least area.
    long, short = max(height, width), min(height, width)
    least = (math.sqrt(model.frame_min_pixels * long / short) / model.factor + 1) * (
        math.sqrt(model.frame_min_pixels * short / long) / model.factor + 1
    )
    ceiling = max(model.video_pixels / model.factor**2, pairs * least)
    assert vision <= ceiling


@given(video=videos(), share=st.floats(0, 1.2))
def test_max_tokens_is_kept(video, share):
    """Prove that a plan is within its cap, and what is refused is above it."""
    import numpy as np

    n, height, width, model = video
    n = min(n, 24)
    full = qp.count_video_tokens(n, height, width, model=model) - 2
    cap = max(int(full * share), 1)
    frame = np.broadcast_to(np.uint8(0), (height, width))
    refusal = None
    try:
        plan = qp.plan_video([frame] * n, model=model, max_tokens=cap)
    except BudgetError as exc:
        refusal = exc
    if refusal is None:
        assert plan.vision_tokens <= cap
        assert plan.indices == tuple(range(n))
        assert (plan.vision_tokens == full) == (cap >= full)
        return
    assert refusal.limit == cap < refusal.needed
    more = qp.plan_video([frame] * n, model=model, max_tokens=refusal.needed)
    assert more.vision_tokens <= refusal.needed
    if refusal.fits >= model.min_frames:
        fewer = qp.plan_video(
            [frame] * n, model=model, max_tokens=cap, max_frames=refusal.fits
        )
        assert fewer.vision_tokens <= cap
