"""Which weights and how they run: the command line counts before the environment, and wrong weights are refused."""

import argparse
from dataclasses import replace
from pathlib import Path

import pytest

from magicmirror.cli.main import main
from magicmirror.cli.model_arguments import add_model_arguments, with_model_arguments
from magicmirror.settings import Settings

GIVEN = {
    "profile": "cogvideox-5b",
    "model_path": Path("base"),
    "adapter": "owner/name@v1",
    "identity_encoder": "photomaker-v2.bin",
    "memory": "group",
    "quantisation": "int8",
    "compile": True,
    "attention": "flash",
    "step_cache": "first-block:0.2",
}


def parse(*arguments):
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    return parser.parse_args(arguments)


def test_what_is_given_replaces_the_environment_and_the_rest_stays():
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in GIVEN.items() if name != "compile"]
    expected = replace(Settings(port=8080), **GIVEN)
    assert with_model_arguments(Settings(port=8080), parse(*flags, "--compile")) == expected
    assert with_model_arguments(expected, parse()) == expected
    assert with_model_arguments(expected, parse("--no-compile")) == replace(expected, compile=False)


@pytest.mark.parametrize(
    ("flag", "reason"), [("--adapter", "holds no adapter"), ("--model-path", "MAGICMIRROR_MODEL_PATH")]
)
def test_missing_weights_end_in_one_line(flag, reason, examples, tmp_path, capsys):
    arguments = ["generate", "--reference", examples / "man_1.jpg", "--prompt", "a man smiles"]
    missing = tmp_path / "none"
    assert main([str(each) for each in (*arguments, "--output", tmp_path / "out.mp4", flag, missing)]) == 1
    message = capsys.readouterr().err
    assert reason in message and str(missing) in message and "Traceback" not in message
    assert not list(tmp_path.iterdir())
