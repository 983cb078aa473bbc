"""Unrolled samples: their second input is the scheduler's, their goal the clean latents, and nothing else changes."""

import pytest
import torch

from magicmirror.training.draws import UNROLLED_TIMESTEPS, Dropout, draw_step
from magicmirror.training.networks import identity_objective
from magicmirror.training.parts import Part, take
from tests.tiny_training import generator, make_batch, make_config

EVERYBODY = {"drop_all": 0.0, "drop_identity": 0.0, "face_loss_share": 0.0}


@pytest.fixture
def batch(trainable):
    return make_batch(trainable.tokenizer, rows=6)


def recorded(objective, change=None):
    """Keep what the transformer is asked at each call, and let it say ``change(its prediction)``."""
    calls = []

    def hook(module, arguments, options, output):
        answer = output[0] if change is None else change(options, output[0])
        calls.append({**options, "answer": answer, "learns": torch.is_grad_enabled()})
        return (answer,)

    return calls, objective.transformer.register_forward_hook(hook, with_kwargs=True)


def test_its_input_is_what_the_scheduler_makes_of_the_first_of_two_steps(trainable, batch, monkeypatch):
    monkeypatch.setattr("magicmirror.training.draws.UNROLLED_TIMESTEPS", (499, 500))
    config = make_config(unrolled_share=1.0, **EVERYBODY)
    objective = identity_objective(trainable, config)
    calls, _ = recorded(objective)
    losses = objective(batch, generator(3))
    first, second = calls
    assert (first["learns"], second["learns"]) == (False, True)
    assert first["timestep"].tolist() == [999] * 6 and second["timestep"].tolist() == [499] * 6

    scheduler = trainable.scheduler
    scheduler.set_timesteps(2)
    assert scheduler.timesteps.tolist() == [999, 499]
    noise = draw_step(batch["latents"], 1000, config, generator(3)).noise
    torch.testing.assert_close(first["hidden_states"], noise)  # of the last timestep nothing but noise is left
    after = scheduler.step(first["answer"], 999, noise, return_dict=False)[0]
    torch.testing.assert_close(second["hidden_states"], after, rtol=1e-4, atol=1e-5)
    # And the last step of a scheduler goes to the clean latents that the loss asks for.
    clean = scheduler.step(second["answer"], 499, after, return_dict=False)[1].detach()
    spread = 1 - scheduler.alphas_cumprod[499].item()
    error = (clean - batch["latents"]).square().mean() / spread
    torch.testing.assert_close(losses["noise"], error, rtol=1e-3, atol=1e-4)


def test_the_loss_is_nought_at_the_clean_latents(trainable, batch):
    config = make_config(unrolled_share=1.0, **EVERYBODY)
    objective = identity_objective(trainable, config)

    def perfect(options, answer):
        kept = trainable.scheduler.alphas_cumprod[options["timestep"]].view(-1, 1, 1, 1, 1)
        if bool((options["timestep"] == 999).all()):
            return answer
        return (kept.sqrt() * options["hidden_states"] - batch["latents"]) / (1 - kept).sqrt()

    _, handle = recorded(objective, perfect)
    with torch.no_grad():
        assert objective(batch, generator(0))["noise"] < 1e-9
        handle.remove()
        assert objective(batch, generator(0))["noise"] > 0.1


def test_a_share_of_the_samples_and_only_they(trainable, batch):
    config = make_config(unrolled_share=0.5, **EVERYBODY)
    objective = identity_objective(trainable, config)
    draws = draw_step(batch["latents"], 1000, config, generator(5))
    plain = draw_step(batch["latents"], 1000, make_config(**EVERYBODY), generator(5))
    unrolled = draws.unrolled
    assert 0 < unrolled.sum() < 6 and not plain.unrolled.any()
    assert torch.equal(draws.noise, plain.noise) and torch.equal(draws.timesteps[~unrolled], plain.timesteps[~unrolled])
    start, end = UNROLLED_TIMESTEPS
    assert ((draws.timesteps[unrolled] >= start) & (draws.timesteps[unrolled] < end)).all()
    calls, _ = recorded(objective)
    objective(batch, generator(5))
    first, second = calls
    assert len(first["hidden_states"]) == unrolled.sum()
    usual = trainable.scheduler.add_noise(batch["latents"], draws.noise, draws.timesteps)
    assert torch.equal(second["hidden_states"][~unrolled], usual[~unrolled])
    assert not torch.isclose(second["hidden_states"][unrolled], usual[unrolled]).all(1).any()
    many = draw_step(torch.zeros(20_000, 1, 1, 1, 1), 1000, make_config(unrolled_share=0.3), generator(0))
    assert many.unrolled.float().mean().item() == pytest.approx(0.3, abs=0.013)
    assert ((many.timesteps[many.unrolled] >= start) & (many.timesteps[many.unrolled] < end)).all()


def test_its_first_step_has_the_conditions_of_the_sample(trainable, batch):
    """Dropped ones included: the guess of somebody without a reference is nobody's."""
    config = make_config(unrolled_share=0.6, drop_all=0.3, drop_identity=0.3)
    objective = identity_objective(trainable, config)
    draws = draw_step(batch["latents"], 1000, config, generator(7))
    rows = draws.unrolled.nonzero().flatten()
    dropped = draws.dropout.identity[rows]
    assert dropped.any() and not dropped.all()
    calls, _ = recorded(objective)
    objective(batch, generator(7))
    with torch.no_grad():
        text, identity, face = objective.encode_conditions(batch, draws.dropout)
    for name, value in (("encoder_hidden_states", text), ("identity_tokens", identity), ("face_tokens", face)):
        torch.testing.assert_close(calls[0][name], value[rows], rtol=1e-5, atol=1e-6)


def test_the_mean_over_parts_is_the_step(trainable, batch):
    objective = identity_objective(trainable, make_config(unrolled_share=0.5, drop_all=0.3))
    with torch.no_grad():
        whole = objective(batch, generator(5))
        parts = [Part(index, 3) for index in range(3)]
        shared = [objective(take(batch, part.rows(6)), generator(5), part) for part in parts]
    for name, value in whole.items():
        torch.testing.assert_close(sum(losses[name] for losses in shared) / 3, value, rtol=1e-5, atol=1e-6)


def test_the_stock_model_can_be_unrolled(trainable, batch):
    objective = identity_objective(trainable, make_config(unrolled_share=1.0, with_identity=False, **EVERYBODY))
    nobody = torch.zeros(6, dtype=torch.bool)
    calls, _ = recorded(objective)
    assert objective(batch, generator(1))["loss"].isfinite() and len(calls) == 2
    assert "identity_tokens" not in calls[0]
    with torch.no_grad():
        expected = objective._encode_text(batch, Dropout(nobody, nobody))
    torch.testing.assert_close(calls[0]["encoder_hidden_states"], expected)
