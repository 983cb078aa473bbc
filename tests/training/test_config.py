"""Going on with a run under other settings."""

from dataclasses import asdict

import pytest
import torch
from torch import nn

from magicmirror.data.precompute import PLAN_FILE
from magicmirror.errors import ConfigError
from magicmirror.training.config import TrainingConfig
from magicmirror.training.same_run import MAY_CHANGE, check_same_run, fingerprints
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
    if name in MAY_CHANGE or name == "max_steps":  # the rate of this run does not fall
        check_same_run(saved, changed)
        return
    with pytest.raises(ConfigError, match=rf"{name} was .*, is .*another output folder") as refused:
        check_same_run(saved, changed)
    assert refused.value.message.count(" was ") == 1


def test_a_run_may_become_longer_until_its_rate_begins_to_fall():
    falling = make_config(max_steps=12, decay_steps=10, warmup_steps=0)
    longer = make_config(max_steps=20, decay_steps=10, warmup_steps=0)
    check_same_run({"step": 3, **asdict(falling)}, longer)
    with pytest.raises(ConfigError, match=r"max_steps was 12, is 20\..*other learning rates.*--new-settings"):
        check_same_run({"step": 4, **asdict(falling)}, longer)
    check_same_run({"step": 4, **asdict(falling)}, falling)
    check_same_run({"step": 4, **asdict(falling)}, make_config(max_steps=4, decay_steps=10, warmup_steps=0))


def test_other_data_and_other_frozen_weights_are_refused(tmp_path):
    plan = tmp_path / "shards" / PLAN_FILE
    plan.parent.mkdir()
    plan.write_text('{"num_shards": 1}')
    objective = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    objective[0].requires_grad_(False)
    first = fingerprints([plan.parent], objective)
    saved = {"step": 1, **asdict(make_config()), "made_from": first}
    with torch.no_grad():
        objective[1].weight.add_(1.0)  # it is trained
    check_same_run(saved, make_config(), fingerprints([plan.parent], objective))
    with torch.no_grad():
        objective[0].weight[-1].add_(1.0)
    with pytest.raises(ConfigError, match="frozen weights are others"):
        check_same_run(saved, make_config(), fingerprints([plan.parent], objective))
    plan.write_text('{"num_shards": 2}')
    with pytest.raises(ConfigError, match="data are others; frozen weights are others"):
        check_same_run(saved, make_config(), fingerprints([plan.parent], objective))
    del saved["made_from"]  # an older checkpoint
    check_same_run(saved, make_config(), fingerprints([plan.parent], objective))


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
