"""From fields to a request."""

from __future__ import annotations

import pytest

from magicmirror.errors import ConfigError, FaceError, PromptError
from magicmirror.serving.requests import Fields, build_request


def test_what_is_left_out_stays_open_and_a_seed_is_drawn(face):
    request = build_request(Fields(" a man "), [face], "preview")
    assert (request.prompt, request.num_inference_steps, request.guidance_scale) == ("a man", None, None)
    seeds = {build_request(Fields("a man"), [face], "preview").seed for _ in range(5)}
    assert len(seeds) == 5 and all(0 <= seed < 2**32 for seed in seeds)


def test_what_is_given_is_kept_and_zero_is_a_seed(face):
    request = build_request(Fields("a man", " blur ", 0, 7.0, 2, 0), [face], "preview")
    assert (request.seed, request.num_inference_steps, request.guidance_scale) == (0, 7, 2.0)
    assert (request.negative_prompt, request.identity_scale) == ("blur", 0.0)


@pytest.mark.parametrize(
    ("fields", "error", "reason"),
    [
        (Fields("a man", seed=1.5), ConfigError, "seed must be a whole number"),
        (Fields("a man", seed=float("nan")), ConfigError, "seed must be a whole number"),
        (Fields("a man", steps=float("inf")), ConfigError, "steps must be a whole number"),
        (Fields("a man", guidance=float("nan")), ConfigError, "guidance"),
        (Fields("a man", identity_scale=-1), ConfigError, "identity scale"),
        (Fields("x" * 2001), PromptError, "2001 characters"),
        (Fields("a man", "x" * 2001), PromptError, "negative prompt"),
        (Fields(""), PromptError, "empty"),
    ],
)
def test_bad_values_are_refused(face, fields, error, reason):
    with pytest.raises(error, match=reason):
        build_request(fields, [face], "preview")


def test_a_face_is_needed(face):
    with pytest.raises(FaceError):
        build_request(Fields("a man"), [], "preview")
