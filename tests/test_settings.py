"""Settings from the environment."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest

from magicmirror.errors import ConfigError
from magicmirror.settings import Settings


def test_an_empty_environment_gives_the_defaults() -> None:
    settings = Settings.from_environment({"PATH": "/bin", "OTHER_PORT": "1"})
    assert settings == Settings()
    assert (settings.profile, settings.host, settings.port) == ("preview", "127.0.0.1", 7860)


def test_every_field_can_be_set() -> None:
    settings = Settings.from_environment(
        {
            "MAGICMIRROR_PROFILE": "cogvideox-5b",
            "MAGICMIRROR_MODEL_PATH": "models/base",
            "MAGICMIRROR_ADAPTER": "someone/adapter",
            "MAGICMIRROR_IDENTITY_ENCODER": "photomaker-v2.bin",
            "MAGICMIRROR_OUTPUT_DIR": "results",
            "MAGICMIRROR_QUEUE_SIZE": "3",
            "MAGICMIRROR_THREADS": " 2 ",
            "MAGICMIRROR_HOST": "0.0.0.0",
            "MAGICMIRROR_PORT": "8080",
            "MAGICMIRROR_DEVICE": "cuda:1",
            "MAGICMIRROR_MEMORY": "model",
            "MAGICMIRROR_QUANTISATION": "int8",
            "MAGICMIRROR_COMPILE": "yes",
            "MAGICMIRROR_ATTENTION": "flash",
            "MAGICMIRROR_STEP_CACHE": "first-block:0.2",
            "MAGICMIRROR_MAX_UPLOAD_BYTES": "4096",
            "MAGICMIRROR_RETENTION_HOURS": "1.5",
            "MAGICMIRROR_FACE_PACKS": "models/faces",
            "MAGICMIRROR_MAX_STORAGE_BYTES": "1000000",
            "MAGICMIRROR_MAX_TAKES": "2",
            "MAGICMIRROR_LIVE_PREVIEW": "off",
            "MAGICMIRROR_MARK": "False",
            "MAGICMIRROR_MARK_TEXT": "Made by a model",
            "MAGICMIRROR_PROMPT_FILTER": "words.txt",
            "MAGICMIRROR_LOGIN": "ann:one,bob:t:wo",
            "MAGICMIRROR_SHUTDOWN_GRACE_S": "0",
            "MAGICMIRROR_GPU_SECONDS": "60",
        }
    )
    assert settings == Settings(
        profile="cogvideox-5b",
        model_path=Path("models/base"),
        adapter="someone/adapter",
        identity_encoder="photomaker-v2.bin",
        output_dir=Path("results"),
        queue_size=3,
        threads=2,
        host="0.0.0.0",
        port=8080,
        device="cuda:1",
        memory="model",
        quantisation="int8",
        compile=True,
        attention="flash",
        step_cache="first-block:0.2",
        max_upload_bytes=4096,
        retention_hours=1.5,
        face_packs=Path("models/faces"),
        max_storage_bytes=1_000_000,
        max_takes=2,
        live_preview=False,
        mark=False,
        mark_text="Made by a model",
        prompt_filter="words.txt",
        login="ann:one,bob:t:wo",
        shutdown_grace_s=0.0,
        gpu_seconds=60,
    )
    assert settings.logins == (("ann", "one"), ("bob", "t:wo")) and "t:wo" not in repr(settings)
    changed = [
        field.name for field in fields(Settings) if getattr(settings, field.name) == getattr(Settings(), field.name)
    ]
    assert changed == []


def test_the_process_environment_is_the_default(monkeypatch) -> None:
    monkeypatch.setenv("MAGICMIRROR_PORT", "9001")
    assert Settings.from_environment().port == 9001


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("MAGICMIRROR_PROT", "MAGICMIRROR_PORT"),
        ("MAGICMIRROR_OUTPUT", "MAGICMIRROR_OUTPUT_DIR"),
        ("MAGICMIRROR_RETENTION", "MAGICMIRROR_RETENTION_HOURS"),
        ("MAGICMIRROR_QUEUESIZE", "MAGICMIRROR_QUEUE_SIZE"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(name: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is not a setting") as caught:
        Settings.from_environment({name: "1"})
    assert caught.value.remedy == f"Did you mean {nearest}?"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PORT", "eighty", "whole number"),
        ("PORT", "0", "1 to 65535"),
        ("PORT", "65536", "1 to 65535"),
        ("PORT", "", "set but empty"),
        ("QUEUE_SIZE", "0", "at least 1"),
        ("QUEUE_SIZE", "2.5", "whole number"),
        ("THREADS", "-1", "0 to 1024"),
        ("DEVICE", "gpu", "cuda:N"),
        ("DEVICE", "cuda:", "cuda:N"),
        ("DEVICE", "cpu:0", "cuda:N"),
        ("MEMORY", "none", "auto, resident, model, group or sequential"),
        ("QUANTISATION", "int4", "none, int8 or fp8"),
        ("COMPILE", "fast", "true or false"),
        ("ATTENTION", "fastest", "native, .* or xformers"),
        ("STEP_CACHE", "mag", "none, first-block or first-block:THRESHOLD"),
        ("STEP_CACHE", "first-block:", "first-block:THRESHOLD"),
        ("STEP_CACHE", "first-block:nan", "first-block:THRESHOLD"),
        ("STEP_CACHE", "first-block:2", "first-block:THRESHOLD"),
        ("MAX_UPLOAD_BYTES", "10", "at least 1024"),
        ("RETENTION_HOURS", "-1", "0 or more"),
        ("RETENTION_HOURS", "nan", "0 or more"),
        ("RETENTION_HOURS", "inf", "finite"),
        ("RETENTION_HOURS", "soon", "must be a number"),
    ],
)
def test_bad_values_are_refused_by_name(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Settings.from_environment({f"MAGICMIRROR_{name}": value})
    assert f"MAGICMIRROR_{name}" in caught.value.message


def test_a_hosting_service_may_set_the_address() -> None:
    environ = {"GRADIO_SERVER_NAME": "0.0.0.0"}
    assert Settings.from_environment(environ).host == "0.0.0.0"
    assert Settings.from_environment({**environ, "MAGICMIRROR_HOST": "::1"}).host == "::1"


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().port = 1  # type: ignore[misc]
