"""``generate``: refusals without the model, and the whole way with the preview weights where they are."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from magicmirror.media import read_settings, read_video


@pytest.fixture
def preview(repository):
    """Skip where the preview weights are missing."""
    if not (repository / "assets/models/preview/model_index.json").is_file():
        pytest.skip("the preview weights are not in assets/models/preview")


@pytest.fixture
def arguments(examples, tmp_path):
    """Arguments of a valid call, to be changed by name."""

    def build(**changes):
        values = {
            "reference": examples / "man_1.jpg",
            "prompt": "a man smiles",
            "output": tmp_path / "out.mp4",
            **changes,
        }
        return [
            "generate",
            *(part for name, value in values.items() for part in (f"--{name.replace('_', '-')}", value)),
        ]

    return build


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reference": "nothing.jpg"}, "nothing.jpg"),
        ({"reference": "assets/examples/LICENSE.md"}, "not a picture"),
        ({"reference": "assets/examples/two_people.jpg"}, "2 faces"),
        ({"face_index": "3"}, "Face 3"),
        ({"prompt": "a house"}, "no person"),
        ({"prompt": ""}, "empty"),
        ({"prompt": "a man" + " smiles" * 100}, "39 fit"),
        ({"output": "out.avi"}, ".mp4"),
        ({"output": "no/such/folder/out.mp4"}, "folder"),
        ({"seed": "-1"}, "seed"),
        ({"steps": "0"}, "steps"),
        ({"guidance": "99"}, "guidance"),
        ({"identity_scale": "3"}, "identity scale"),
        ({"profile": "other"}, "profile"),
        ({"memory": "none"}, "auto, resident, model, group or sequential"),
        ({"quantisation": "int4"}, "none, int8 or fp8"),
        ({"attention": "fastest"}, "native, "),
        ({"step_cache": "first-block:0"}, "A threshold lies above 0"),
    ],
)
def test_bad_input_is_one_plain_line_and_nothing_is_written(
    arguments, tmp_path, capsys, repository, changes, reason, monkeypatch
):
    from magicmirror.cli.main import main

    monkeypatch.chdir(repository)
    assert main([str(part) for part in arguments(**changes)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and reason in captured.err
    assert list(tmp_path.iterdir()) == []


def test_photos_are_counted(arguments, examples, capsys):
    from magicmirror.cli.main import main

    call = [str(part) for part in arguments()]
    assert main([*call, "--face-index", "0", "--face-index", "0"]) == 2
    assert "--face-index was given 2 times for 1 photo." in capsys.readouterr().err
    assert main([*call, *(["--reference", str(examples / "man_1.jpg")] * 6)]) == 2
    assert "At most 6 photos are accepted, got 7." in capsys.readouterr().err


def test_a_file_that_is_no_sidecar_is_not_replaced(arguments, tmp_path, capsys):
    from magicmirror.cli.main import main

    other = tmp_path / "out.json"
    other.write_text('{"mine": 1}')
    assert main([str(part) for part in arguments()]) == 2
    assert f'"{other}" would be replaced' in capsys.readouterr().err and other.read_text() == '{"mine": 1}'


def test_bad_input_in_a_process_of_its_own(command, arguments):
    """Libraries are free to warn there; nothing of it may reach the user."""
    done = command(*arguments(prompt="a house"))
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1


def test_missing_weights_are_said_plainly(command, arguments, tmp_path):
    done = command(*arguments(), MAGICMIRROR_MODEL_PATH=str(tmp_path / "nothing"))
    assert done.returncode == 1 and "weights" in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_profile_says_at_once_that_its_adapter_is_missing(command, arguments, tmp_path):
    done = command(*arguments(profile="cogvideox-5b"), MAGICMIRROR_FACE_PACKS=str(tmp_path / "packs"))
    assert done.returncode == 1 and "needs adapter weights" in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []  # no face models were asked for


def test_a_misspelt_setting_is_refused(command, arguments):
    done = command(*arguments(), MAGICMIRROR_MODELPATH="x")
    assert done.returncode == 2 and "MAGICMIRROR_MODEL_PATH" in done.stderr


def test_the_prompt_filter_counts_here_too(arguments, tmp_path, capsys, monkeypatch):
    from magicmirror.cli.main import main

    rules = tmp_path / "rules.txt"
    monkeypatch.setenv("MAGICMIRROR_PROMPT_FILTER", str(rules))
    call = [str(part) for part in arguments(prompt="a man SMILES broadly")]
    assert main(call) == 2 and "rules.txt" in capsys.readouterr().err
    rules.write_text("smiles broadly\n")
    assert main(call) == 2 and "does not make videos for this prompt" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [rules]


@pytest.mark.usefixtures("preview")
def test_one_seed_gives_one_video_and_another_seed_another(command, arguments, tmp_path):
    videos = []
    for seed, name in ((0, "a.mp4"), (0, "b.mp4"), (1, "c.mp4")):
        done = command(*arguments(seed=seed, steps=2, output=tmp_path / name))
        assert done.returncode == 0, done.stderr
        assert f"seed {seed}" in done.stdout and "likeness" in done.stdout
        videos.append(read_video(tmp_path / name)[0].astype(int))
    assert videos[0].shape == (17, 128, 128, 3)
    records = [read_settings(tmp_path / name) for name in ("a.mp4", "b.mp4")]
    assert records[0] == records[1]  # weights and versions too, or the frames may differ
    assert np.array_equal(videos[0], videos[1]) and not np.array_equal(videos[0], videos[2])
    settings = read_settings(tmp_path / "a.mp4")
    sidecar = json.loads((tmp_path / "a.json").read_text())
    assert settings["seed"] == sidecar["seed"] == 0 and settings["num_inference_steps"] == 2
    assert len(settings["references"][0]) == 64 and "magicmirror" in settings["versions"]
    assert len(sidecar["likeness"]) == 17 and "timings_s" in sidecar


@pytest.mark.usefixtures("preview")
def test_json_output_a_gif_a_drawn_seed_and_the_mark(command, arguments, examples, tmp_path):
    done = command(*arguments(steps=1), "--reference", examples / "man_1.jpg", "--json")
    in_gif = arguments(steps=1, output=tmp_path / "out.gif")
    gif = command(
        *in_gif, "--reference", examples / "woman_1.jpg", "--json", "--no-mark", "--step-cache", "first-block:0.2"
    )
    answers = [json.loads(each.stdout) for each in (done, gif)]
    assert [(answer["visible_mark"], answer["ai_generated"]) for answer in answers] == [(True, True), (False, True)]
    assert answers[0]["seed"] != answers[1]["seed"]
    assert [answer["speed"]["step_cache"] for answer in answers] == [None, "first-block:0.2"]
    assert len(answers[0]["references"]) == 2 and answers[0]["output"] == str(tmp_path / "out.mp4")
    assert "warning" not in done.stderr
    assert "warning" in gif.stderr and "woman_1.jpg: Photo 2 may show another person" in gif.stderr
    assert (tmp_path / "out.gif").read_bytes().startswith(b"GIF89a")
    assert read_settings(tmp_path / "out.gif")["prompt"] == "a man smiles"


@pytest.mark.usefixtures("preview")
def test_ctrl_c_leaves_nothing_behind(repository, environment, arguments, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "magicmirror", "--verbose", *map(str, arguments(steps=1000))],
        cwd=repository,
        env=environment({"PYTHONUNBUFFERED": "1"}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A test runner in the background hands down a Ctrl-C that is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    try:
        assert any("loaded in" in line for line in process.stderr)
        time.sleep(2)
        os.kill(process.pid, signal.SIGINT)
        error = process.communicate(timeout=120)[1]
    finally:
        process.kill()
    assert process.returncode == 130 and error.endswith("magicmirror: stopped\n") and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []
