"""The integer functions of the draws against floating point, and their rounding at the corners."""

import numpy as np
from fastcifar.kernels.cpu import dice
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcifar.rng import fixedpoint


@settings(deadline=None)
@given(st.lists(st.integers(-(2**30), 2**30), min_size=1))
def test_cos_sin_are_within_their_last_bit(angles):
    angle = np.array(angles)
    cos, sin = fixedpoint.cos_sin(angle)
    turn = angle / fixedpoint.TURN * 2 * np.pi
    assert np.abs(cos / fixedpoint.TRIG_ONE - np.cos(turn)).max() < 1 / fixedpoint.TRIG_ONE
    assert np.abs(sin / fixedpoint.TRIG_ONE - np.sin(turn)).max() < 1 / fixedpoint.TRIG_ONE
    assert [dice._cos_sin(a) for a in angles] == list(zip(cos.tolist(), sin.tolist(), strict=True))


def test_quarter_turns_are_exact():
    cos, sin = fixedpoint.cos_sin(np.array([0, 1 << 29, -(1 << 29), 1 << 30, -(1 << 30)]))
    assert (cos / fixedpoint.TRIG_ONE).tolist() == [1, 0, 0, -1, -1]
    assert (sin / fixedpoint.TRIG_ONE).tolist() == [0, 1, -1, 0, 0]


@settings(deadline=None)
@given(st.lists(st.integers(-7 * 2**24, 7 * 2**24), min_size=1))
def test_exp2(logs):
    log = np.array(logs)
    got = fixedpoint.exp2(log)
    exact = np.exp2(log / fixedpoint.LOG2_ONE)
    assert (np.abs(got / 2**24 - exact) <= 1.5 * 2.0**-24 + 1e-8 * exact).all()
    assert [dice._exp2(n) for n in logs] == got.tolist()


@given(share=st.floats(1e-6, 1), aspect=st.floats(0.01, 100), size=st.sampled_from([32, 224, 384, 1024]))
def test_rectangles_have_the_area_and_aspect_to_half_a_pixel(share, aspect, size):
    height, width = fixedpoint.rectangle(
        np.array([round(share * fixedpoint.AREA_ONE)]), np.array([round(np.log2(aspect) * fixedpoint.LOG2_ONE)]), size
    )
    # 0.5 for rounding to pixels; the rest for a side of up to 10 * size from a 23-bit area and aspect
    assert abs(height[0] - size * np.sqrt(share * aspect)) < 0.51
    assert abs(width[0] - size * np.sqrt(share / aspect)) < 0.51
