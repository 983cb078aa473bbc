"""Time to go, with a clock that the test turns."""

from __future__ import annotations

from magicmirror.serving.timing import StepClock


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_the_estimate_leaves_out_the_first_step_and_adds_the_last_tail():
    clock = Clock()
    timing = StepClock(clock)
    timing.start()
    assert timing.tick("loading", 0, 0) is None
    clock.now = 10.0  # a slow first step
    assert timing.tick("denoising", 1, 5) is None
    clock.now = 12.0
    assert timing.tick("denoising", 2, 5) == 6.0
    clock.now = 16.0
    assert timing.tick("denoising", 4, 5) == 2.0
    clock.now = 18.0
    assert timing.tick("denoising", 5, 5) == 0.0
    clock.now = 21.0
    timing.finish()

    timing.start()
    clock.now = 30.0
    timing.tick("denoising", 1, 3)
    clock.now = 31.0
    assert timing.tick("denoising", 2, 3) == 1.0 + 3.0
    clock.now = 32.0
    assert timing.tick("denoising", 3, 3) == 3.0
    clock.now = 34.0
    assert timing.tick("measuring", 0, 0) == 1.0
    clock.now = 40.0
    assert timing.tick("writing", 0, 0) == 0.0
