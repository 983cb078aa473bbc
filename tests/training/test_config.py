"""Going on with a run under other settings."""

from dataclasses import asdict

import pytest

from magicmirror.errors import ConfigError
from magicmirror.training.config import MAY_CHANGE, TrainingConfig, check_same_run
from tests.tiny_training import make_config

OTHER = {
    "branches": "face",
    "name": "tower",
    "preset": "cogvideox-5b",
    "gradient_checkpointing": True,
    "with_identity": False,
    "mixed_precision": "bf16",
    "clip_share": 0.25,
    "ema_decay": 0.5,
    "drop_all": 0.2,
    "drop_identity": 0.2,
    "face_loss_share": 0.2,
    "strata_balance": 0.2,
    "high_noise_share": 0.2,
    "predicted_share": 0.2,
    "requested_share": 0.2,
}


@pytest.mark.parametrize("name", TrainingConfig.__dataclass_fields__)
def test_what_changes_the_result_is_refused_and_nothing_else(name):
    saved = {"step": 3, **asdict(make_config())}
    changed = make_config(**{name: OTHER[name] if name in OTHER else getattr(make_config(), name) + 1})
    if name in MAY_CHANGE:
        check_same_run(saved, changed)
        return
    with pytest.raises(ConfigError, match=rf"{name} was .*, is .*another output folder") as refused:
        check_same_run(saved, changed)
    assert refused.value.message.count(" was ") == 1


def test_every_difference_is_named():
    saved = asdict(make_config())
    with pytest.raises(ConfigError, match=r"learning_rate was 0\.001, is 0\.5; seed was 0, is 7"):
        check_same_run(saved, make_config(learning_rate=0.5, seed=7))


def test_checkpoints_from_before_a_setting_had_its_default():
    saved = asdict(make_config())
    for name in ("with_identity", "edge_weight", "micro_batch", "log_steps"):
        del saved[name]
    check_same_run(saved, make_config())
    with pytest.raises(ConfigError, match="with_identity was True, is False"):
        check_same_run(saved, make_config(with_identity=False))
