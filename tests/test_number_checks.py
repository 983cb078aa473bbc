"""One number, one answer: from a call of the pipeline, a request of Python, and the fields of command line and API."""

import math

import numpy as np
import pytest

from magicmirror.cli.main import main
from magicmirror.errors import ConfigError
from magicmirror.serving.requests import Fields, build_request
from magicmirror.types import GenerationRequest
from tests.tiny_pipeline import build_pipeline, build_reference

NAMES = {
    "num_inference_steps": ("steps", "steps"),
    "guidance_scale": ("guidance", "guidance"),
    "identity_scale": ("identity scale", "identity_scale"),
    "seed": ("seed", "seed"),
}


@pytest.fixture(scope="module")
def pipeline():
    return build_pipeline()


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("num_inference_steps", 0, r"must lie in \[1, 1000\], got 0\."),
        ("num_inference_steps", -3, r"must lie in \[1, 1000\], got -3\."),
        ("num_inference_steps", 1001, r"must lie in \[1, 1000\], got 1001\."),
        ("num_inference_steps", 1.5, r"must be a whole number, got 1\.5\."),
        ("num_inference_steps", math.nan, "must be a whole number, got nan"),
        ("num_inference_steps", "3", "must be a whole number, got '3'"),
        ("num_inference_steps", True, "must be a whole number, got True"),
        ("guidance_scale", math.nan, "must be a number, got nan"),
        ("guidance_scale", math.inf, "must be a number, got inf"),
        ("guidance_scale", -1, r"must lie in \[1, 30\], got -1\. 1 switches it off\."),
        ("guidance_scale", 31, r"must lie in \[1, 30\], got 31"),
        ("guidance_scale", 10**400, "must be a number, got a very large number"),
        ("identity_scale", math.nan, "must be a number, got nan"),
        ("identity_scale", 2.1, r"must lie in \[0, 2\], got 2\.1"),
        ("seed", -1, r"must lie in \[0, 2\^63\), got -1"),
        ("seed", 2**63, r"must lie in \[0, 2\^63\), got 9223372036854775808"),
        ("seed", 0.5, r"must be a whole number, got 0\.5"),
    ],
)
def test_a_number_that_cannot_be_gets_the_same_answer_everywhere(pipeline, name, value, reason):
    reference, (short, field) = build_reference(1), NAMES[name]
    with pytest.raises(ConfigError, match=f"^{name} {reason}"):
        pipeline("a man smiles", [reference], **{"seed": 0, name: value})
    with pytest.raises(ConfigError, match=f"^{short} {reason}"):
        GenerationRequest(**{"prompt": "a man smiles", "references": (reference,), "seed": 0, name: value})
    with pytest.raises(ConfigError, match=f"^{short} {reason}"):
        build_request(Fields("a man smiles", **{field: value}), [reference], "preview")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "steps must lie in [1, 1000], got 0."),
        (["--steps", "1.5"], "argument --steps: invalid int value: '1.5'"),
        (["--guidance", "nan"], "guidance must be a number, got nan."),
        (["--guidance", "inf"], "guidance must be a number, got inf."),
    ],
)
def test_the_command_line_says_it_in_one_line(arguments, message, examples, tmp_path, capsys):
    command = ["generate", "--reference", str(examples / "man_1.jpg"), "--prompt", "a man smiles"]
    try:
        status = main([*command, "--output", str(tmp_path / "out.mp4"), *arguments])
    except SystemExit as left:
        status = left.code
    error = capsys.readouterr().err
    assert status == 2 and message in error and "Traceback" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ({"height": 30}, r"height must be a multiple of 16 px, got 30\. The nearest is 32\."),
        ({"height": 23}, r"got 23\. The nearest is 16\."),
        ({"width": 5}, r"width must be a multiple of 16 px, got 5\. The nearest is 16\."),
        ({"height": 31.5}, r"height must be a whole number, got 31\.5"),
        ({"width": "32"}, "width must be a whole number, got '32'"),
        ({"num_frames": math.nan}, "num_frames must be a whole number, got nan"),
    ],
)
def test_sizes_lead_to_the_nearest_that_works(pipeline, size, reason):
    with pytest.raises(ConfigError, match=reason):
        pipeline("a man smiles", [build_reference(1)], seed=0, **size)


def test_a_number_that_is_whole_may_be_of_any_type(pipeline):
    numbers = {"num_inference_steps": 2.0, "guidance_scale": np.float32(3), "seed": np.int64(4), "height": 32.0}
    options = {"prompt": "a man smiles", "references": [build_reference(1)], "output_type": "latent"}
    found = pipeline(**options, **numbers).frames
    assert (found == pipeline(**options, num_inference_steps=2, guidance_scale=3.0, seed=4, height=32).frames).all()
    request = {"prompt": "a man smiles", "references": (build_reference(1),)}
    made = GenerationRequest(**request, seed=np.int64(4), num_inference_steps=2.0, num_frames=np.int32(9))
    assert [type(value) for value in (made.seed, made.num_inference_steps, made.num_frames)] == [int, int, int]
