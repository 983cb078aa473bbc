"""The objective against the paper's equations written out, and against the pipeline's own conditions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from magicmirror.data.face_area import template_area
from magicmirror.models.recognizer import EYE_DISTANCE, EYES_CENTRE
from magicmirror.pipeline.denoising import rotary_embedding
from magicmirror.training.draws import Dropout, draw_dropout, draw_timesteps
from magicmirror.training.identity_loss import IdentityLoss
from magicmirror.training.networks import identity_objective
from magicmirror.training.parts import Part, take
from tests.tiny_pipeline import build_pipeline, build_reference, build_stock
from tests.tiny_training import CELLS, EMBEDDING_SIZE, SIDE_PX, generator, make_batch, make_config

NOBODY_DROPPED = {"drop_all": 0.0, "drop_identity": 0.0}


@pytest.fixture
def batch(trainable):
    return make_batch(trainable.tokenizer)


def written_out(objective, batch, seed):
    """Draw what a step draws, in the objective's order, and compute by hand: noisy latents, v, timesteps, dropout."""
    random = generator(seed)
    latents = batch["latents"]
    noise = torch.randn(latents.shape, generator=random)
    timesteps = torch.randint(0, 1000, (len(latents),), generator=random)
    draw = torch.rand(len(latents), generator=random)
    alpha = objective.scheduler.alphas_cumprod[timesteps].float().view(-1, 1, 1, 1, 1)
    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * latents
    config = objective.config
    dropout = Dropout(draw < config.drop_all, draw < config.drop_all + config.drop_identity)
    return noisy, velocity, timesteps, dropout


def predict(objective, batch, noisy, timesteps, dropout):
    text, identity_tokens, face_tokens = objective.encode_conditions(batch, dropout)
    return objective.transformer(
        hidden_states=noisy,
        encoder_hidden_states=text,
        timestep=timesteps,
        image_rotary_emb=rotary_embedding(objective.transformer.config, noisy.shape, noisy.device),
        identity_tokens=identity_tokens,
        face_tokens=face_tokens,
    ).sample


def predict_instead(objective, change):
    """Let the transformer say ``change(its own prediction)``."""
    return objective.transformer.register_forward_hook(lambda module, arguments, output: (change(output[0]),))


def test_shares_of_dropped_conditions():
    rows = 200_000
    text, identity = draw_dropout(rows, make_config(), generator(0))
    # Four standard deviations of a share p among n rows are 4 sqrt(p (1 - p) / n), at most 0.0033.
    assert text.float().mean().item() == pytest.approx(0.10, abs=0.0033)
    assert (identity & ~text).float().mean().item() == pytest.approx(0.05, abs=0.0033)
    assert not (text & ~identity).any()
    assert not draw_dropout(rows, make_config(**NOBODY_DROPPED), generator(0)).identity.any()
    assert draw_dropout(rows, make_config(drop_all=1.0), generator(0)).text.all()


def test_timesteps_are_uniform_but_for_the_share_that_is_asked_for():
    rows = 100_000
    uniform = draw_timesteps(rows, 1000, make_config(), generator(0))
    assert (uniform.min(), uniform.max()) == (0, 999)
    assert torch.histc(uniform.float(), 10, 0, 999).div(rows).sub(0.1).abs().max() < 0.005
    config = make_config(high_noise_share=0.5, high_noise_from=900)
    drawn = draw_timesteps(rows, 1000, config, generator(0))
    assert (drawn >= 900).float().mean().item() == pytest.approx(0.5 + 0.5 * 0.1, abs=0.007)
    assert drawn[drawn < 900].float().mean().item() == pytest.approx(449.5, abs=6)


@torch.no_grad()
def test_conditions_are_those_of_inference(trainable, batch):
    objective = identity_objective(trainable, make_config())
    nobody = torch.zeros(4, dtype=torch.bool)
    text, identity_tokens, face_tokens = objective.encode_conditions(batch, Dropout(nobody, nobody))
    for row in range(4):
        crop, embedding = (batch[name][row].numpy() for name in ("crops", "embeddings"))
        person = trainable.encode_identity([replace(build_reference(0), crop=crop, embedding=embedding)])
        expected, _ = trainable.encode_prompt(batch["captions"][row], guided=False, identity=person)
        torch.testing.assert_close(text[row], expected[0], rtol=1e-5, atol=2e-6)
        torch.testing.assert_close(identity_tokens[row], person.identity_tokens[0], rtol=1e-5, atol=2e-6)
        torch.testing.assert_close(face_tokens[row], person.face_tokens[0], rtol=1e-5, atol=2e-6)


@torch.no_grad()
def test_dropped_rows_have_null_tokens_and_plain_text(trainable, batch):
    objective = identity_objective(trainable, make_config())
    nobody = torch.zeros(4, dtype=torch.bool)
    kept = objective.encode_conditions(batch, Dropout(nobody, nobody))
    dropout = Dropout(torch.tensor([False, True, False, False]), torch.tensor([False, True, True, False]))
    text, identity_tokens, face_tokens = objective.encode_conditions(batch, dropout)
    ids = batch["input_ids"].clone()
    ids[1] = trainable.tokenizer("", padding="max_length", max_length=ids.size(1), return_tensors="pt").input_ids[0]
    plain = trainable.text_encoder(ids)[0]
    for row in (1, 2):
        assert torch.equal(text[row], plain[row])
        assert torch.equal(identity_tokens[row], trainable.transformer.null_identity_tokens)
        assert torch.equal(face_tokens[row], trainable.transformer.null_face_tokens)
    # The row without text is what guidance steers away from at inference.
    torch.testing.assert_close(text[1], trainable.encode_prompt("a", guided=True)[1][0])
    for row in (0, 3):
        for seen, expected in zip((text, identity_tokens, face_tokens), kept, strict=True):
            assert torch.equal(seen[row], expected[row])
        assert not torch.allclose(text[row], plain[row])


@torch.no_grad()
def test_noise_loss_is_that_of_v_prediction(trainable, batch):
    objective = identity_objective(trainable, make_config(face_loss_share=0.0, drop_all=0.3, drop_identity=0.3))
    seen = set()
    for seed in range(4):
        losses = objective(batch, generator(seed))
        noisy, velocity, timesteps, dropout = written_out(objective, batch, seed)
        seen |= set(zip(dropout.text.tolist(), dropout.identity.tolist(), strict=True))
        prediction = predict(objective, batch, noisy, timesteps, dropout)
        expected = (prediction - velocity).square().mean()
        torch.testing.assert_close(losses["noise"], expected)
        assert torch.equal(losses["noise"], losses["loss"])  # nothing else is in it
    assert seen == {(False, False), (False, True), (True, True)}


@torch.no_grad()
def test_a_step_is_a_function_of_its_generator(trainable, batch):
    objective = identity_objective(trainable, make_config())
    torch.manual_seed(1)
    first = objective(batch, generator(3))
    torch.manual_seed(2)
    assert torch.equal(objective(batch, generator(3))["loss"], first["loss"])
    assert not torch.equal(objective(batch, generator(4))["loss"], first["loss"])


def test_face_area_covers_the_face_of_the_template():
    side = 64
    area = template_area(1, side, side)[0]
    assert set(area.unique().tolist()) == {0.0, 1.0}
    x, y = EYES_CENTRE
    for eye in (x - EYE_DISTANCE / 2, x + EYE_DISTANCE / 2):
        assert area[int(y * side), int(eye * side)] == 1
    # The chin lies about 1.5 inter-ocular distances below the eyes.
    assert area[int((y + 1.5 * EYE_DISTANCE) * side), side // 2] == 1
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1), (0, side // 2), (side // 2, 0)):
        assert area[corner] == 0
    assert torch.equal(area, area.flip(1))


@torch.no_grad()
@pytest.mark.parametrize("share", [0.0, 1.0])
def test_face_loss_sees_the_face_area_alone(trainable, batch, share):
    objective = identity_objective(trainable, make_config(face_loss_share=share, **NOBODY_DROPPED))
    area = template_area(1, CELLS, CELLS)[0]
    assert 0 < area.sum() < area.numel()
    losses = objective(batch, generator(1))
    noisy, velocity, timesteps, dropout = written_out(objective, batch, 1)
    squared = (predict(objective, batch, noisy, timesteps, dropout) - velocity).square()
    where = squared[..., area.bool()] if share else squared
    torch.testing.assert_close(losses["loss"], where.mean())

    with predict_instead(objective, lambda prediction: prediction + 5.0 * (1 - area)):
        outside = objective(batch, generator(1))
    with predict_instead(objective, lambda prediction: prediction + 5.0 * area):
        inside = objective(batch, generator(1))
    assert torch.equal(outside["loss"], losses["loss"]) == bool(share)
    assert inside["loss"] > losses["loss"] + 1
    assert outside["noise"] > losses["noise"] + 1  # the reported figure is over everything


@torch.no_grad()
def test_half_of_the_samples_have_their_loss_in_the_face(trainable, batch):
    """The mean loss of many draws lies between those of the two kinds, which here are 25 and 0."""
    objective = identity_objective(trainable, make_config(face_loss_share=0.5, **NOBODY_DROPPED))
    area = template_area(1, CELLS, CELLS)[0]
    shares = []
    for seed in range(60):
        velocity = written_out(objective, batch, seed)[1]
        with predict_instead(objective, lambda prediction, v=velocity: v + 5.0 * area):
            loss = objective(batch, generator(seed))["loss"].item()
        everywhere = 25 * area.mean().item()
        shares.append((loss - everywhere) / (25 - everywhere))
    assert all(share * 4 == pytest.approx(round(share * 4), abs=1e-3) for share in shares)  # whole samples
    assert np.mean(shares) == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(4 * 60))


@torch.no_grad()
def test_the_identity_term_gets_the_clean_latents(trainable, batch):
    given = []

    def term(clean, embeddings, keep, eyes):
        given.append((clean, embeddings, keep, eyes))
        return clean.new_tensor(0.25)

    config = make_config(identity_loss=2.0, identity_loss_below=1000, face_loss_share=0.0, **NOBODY_DROPPED)
    objective = identity_objective(trainable, config, term)
    places = torch.rand(4, 4)
    losses = objective({**batch, "eyes": places}, generator(6))
    noisy, velocity, timesteps, dropout = written_out(objective, batch, 6)
    clean, embeddings, keep, eyes = given[0]
    assert eyes is places
    # x0 of a prediction v: sqrt(alpha) x_t - sqrt(1 - alpha) v.
    alpha = objective.scheduler.alphas_cumprod[timesteps].float().view(-1, 1, 1, 1, 1)
    prediction = predict(objective, batch, noisy, timesteps, dropout)
    torch.testing.assert_close(clean, alpha.sqrt() * noisy - (1 - alpha).sqrt() * prediction)
    assert torch.equal(embeddings, batch["target_embeddings"]) and keep.all()
    assert losses["identity"] == 0.25
    torch.testing.assert_close(losses["loss"], losses["noise"] + 2.0 * 0.25)
    # With the right v it is the clean latents themselves, whatever the noise.
    with predict_instead(objective, lambda prediction: velocity):
        objective(batch, generator(6))
    torch.testing.assert_close(given[1][0], batch["latents"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_which_samples_the_identity_term_sees(trainable):
    batch = make_batch(trainable.tokenizer, rows=24, frames=1)
    kept = []

    def term(clean, embeddings, keep, eyes):
        kept.append(keep)
        return clean.new_zeros(())

    def run(**changes):
        config = make_config(identity_loss=1.0, drop_all=0.1, drop_identity=0.2, **changes)
        objective = identity_objective(trainable, config, term)
        objective(batch, generator(2))
        _, _, timesteps, dropout = written_out(objective, batch, 2)
        return kept.pop(), timesteps, dropout

    keep, timesteps, dropout = run(identity_loss_below=500, identity_loss_samples=24)
    wanted = (timesteps < 500) & ~dropout.identity
    assert dropout.identity.any() and 2 < wanted.sum() < 24 and torch.equal(keep, wanted)
    few, _, _ = run(identity_loss_below=500, identity_loss_samples=2)
    rows = wanted.nonzero().flatten().tolist()
    assert few.nonzero().flatten().tolist() == [rows[-(-len(rows) // 2) - 1], rows[-1]]  # evenly: the middle, the last
    assert not run(identity_loss_below=0)[0].any()


def test_without_weight_the_identity_term_is_not_computed(trainable, batch):
    def term(clean, embeddings, keep, eyes):
        raise AssertionError("not wanted")

    assert set(identity_objective(trainable, make_config(), term)(batch, generator(0))) == {"noise", "loss"}


def test_gradients_reach_all_that_the_joint_recipe_trains(trainable, batch):
    objective = identity_objective(trainable, make_config(drop_all=0.25, drop_identity=0.25))
    objective(batch, generator(0))["loss"].backward()
    for name in ("transformer", "text_encoder", "image_encoder", "identity_perceiver", "face_perceiver"):
        part = getattr(objective, name)
        assert sum(p.grad.abs().sum() for p in part.parameters() if p.grad is not None) > 0, name
    for name in ("null_identity_tokens", "null_face_tokens", "identity_proj.weight"):
        assert objective.transformer.get_parameter(name).grad.abs().sum() > 0, name
    assert all(p.grad.abs().sum() > 0 for p in objective.identity_fusion.parameters())


def mean_of_parts(objective, batch, count, seed):
    parts = [Part(index, count) for index in range(count)]
    losses = [objective(take(batch, part.rows(len(batch["latents"]))), generator(seed), part) for part in parts]
    return {name: sum(loss[name] for loss in losses) / count for name in losses[0]}


def test_the_mean_over_parts_is_the_step_and_so_is_its_gradient(trainable, recognizer):
    """Noise, dropout, face loss and identity term, which few samples have, do not depend on how a step is shared."""
    batch = make_batch(trainable.tokenizer, rows=6)
    term = IdentityLoss(trainable.vae, recognizer.embed_aligned)
    config = make_config(identity_loss=0.5, identity_loss_below=1000, identity_loss_samples=3, drop_all=0.3)
    objective = identity_objective(trainable, config, term)
    parameters = [trainable.transformer.proj_out.weight, trainable.transformer.transformer_blocks[0].attn1.to_q.weight]
    whole = objective(batch, generator(8))
    gradients = torch.autograd.grad(whole["loss"], parameters)
    for count in (2, 3):
        shared = mean_of_parts(objective, batch, count, 8)
        for name, value in whole.items():
            torch.testing.assert_close(shared[name], value, rtol=1e-5, atol=1e-6)
        for ours, expected in zip(torch.autograd.grad(shared["loss"], parameters), gradients, strict=True):
            # Rounding moves the recogniser's maxima and kinks now and then, and its gradient jumps there.
            assert (ours - expected).norm() < 2e-3 * expected.norm()
    assert whole["identity"] > 0

    plain = identity_objective(trainable, make_config(drop_all=0.3))
    gradients = torch.autograd.grad(plain(batch, generator(8))["loss"], parameters)
    shared = torch.autograd.grad(mean_of_parts(plain, batch, 3, 8)["loss"], parameters)
    assert all((a - b).norm() < 1e-6 * b.norm() for a, b in zip(shared, gradients, strict=True))


def test_checkpointing_gives_the_same_gradients(trainable, batch):
    objective = identity_objective(trainable, make_config())
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            trainable.transformer.enable_gradient_checkpointing()
        objective.train()
        objective.zero_grad(set_to_none=True)
        objective(batch, generator(2))["loss"].backward()
        gradients.append({name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None})
    plain, checkpointed = gradients
    assert plain.keys() == checkpointed.keys() and len(plain) > 100
    assert all(torch.equal(value, checkpointed[name]) for name, value in plain.items())


def test_without_identity_it_is_the_stock_model(trainable, batch):
    """The recipe ``base``: plain captions in, no face, and no gradient for the adapter."""
    config = make_config(with_identity=False, face_loss_share=0.0, drop_all=0.3, drop_identity=0.0)
    objective = identity_objective(trainable, config)
    losses = objective(batch, generator(1))
    losses["loss"].backward()
    noisy, velocity, timesteps, dropout = written_out(objective, batch, 1)
    assert dropout.text.any() and not dropout.text.all()
    stock = build_stock(trainable)
    ids = torch.where(dropout.text[:, None], objective.empty_ids, batch["input_ids"])
    with torch.no_grad():
        prediction = stock.transformer(
            hidden_states=noisy,
            encoder_hidden_states=trainable.text_encoder(ids)[0],
            timestep=timesteps,
            image_rotary_emb=rotary_embedding(stock.transformer.config, noisy.shape, noisy.device),
        ).sample
    torch.testing.assert_close(losses["loss"], (prediction - velocity).square().mean())
    reached = {name for name, p in objective.named_parameters() if p.grad is not None}
    assert not any(trainable.transformer.is_adapter_key(name.removeprefix("transformer.")) for name in reached)
    assert {name.split(".")[0] for name in reached} == {"transformer", "text_encoder"}


@torch.no_grad()
def test_odd_frames_are_filled_before_noise_where_patches_span_two():
    """As CogVideoX 1.5's pipeline denoises them: the surplus frame has noise of its own, and is learned too."""
    newer = build_pipeline(
        image_size=SIDE_PX, embedding_size=EMBEDDING_SIZE, patch_size_t=2, patch_bias=False, sample_frames=17
    )
    objective = identity_objective(newer, make_config(face_loss_share=0.5, **NOBODY_DROPPED))
    batch = make_batch(newer.tokenizer, frames=3)
    by_hand = torch.cat([batch["latents"][:, :1], batch["latents"]], dim=1)
    areas = torch.rand(4, 3, CELLS, CELLS)
    losses = objective({**batch, "face_areas": areas}, generator(1))
    wanted = {**batch, "latents": by_hand, "face_areas": torch.cat([areas[:, :1], areas], dim=1)}
    noisy, velocity, timesteps, dropout = written_out(objective, wanted, 1)
    assert not torch.equal(noisy[:, 0], noisy[:, 1])
    squared = (predict(objective, wanted, noisy, timesteps, dropout) - velocity).square()
    torch.testing.assert_close(losses["noise"], squared.mean())
    torch.testing.assert_close(losses["loss"], objective(wanted, generator(1))["loss"])


@torch.no_grad()
def test_face_areas_of_the_data_come_before_the_template(trainable, batch):
    objective = identity_objective(trainable, make_config(face_loss_share=1.0, **NOBODY_DROPPED))
    areas = torch.zeros(4, batch["latents"].size(1), CELLS, CELLS)
    areas[:, :, 0, 1] = 1.0
    areas[:, 0, 3, 3] = 0.5
    losses = objective({**batch, "face_areas": areas}, generator(1))
    noisy, velocity, timesteps, dropout = written_out(objective, batch, 1)
    squared = (predict(objective, batch, noisy, timesteps, dropout) - velocity).square()
    weights = areas[:, :, None].expand_as(squared)
    expected = (squared * weights).sum((1, 2, 3, 4)) / weights.sum((1, 2, 3, 4))
    torch.testing.assert_close(losses["loss"], expected.mean())
    nobody = objective({**batch, "face_areas": torch.zeros_like(areas)}, generator(1))
    assert nobody["loss"] == 0  # and not a division by nothing


@pytest.mark.parametrize(("branches", "kept"), [("both", (1, 1, 1)), ("identity", (1, 1, 0)), ("face", (0, 0, 1))])
@torch.no_grad()
def test_a_branch_that_is_left_out_gives_its_null_tokens(trainable, batch, branches, kept):
    """Text is fused with the identity branch, so it stays as it was where that branch is out."""
    objective = identity_objective(trainable, make_config(branches=branches))
    nobody, everybody = torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)
    whole = identity_objective(trainable, make_config()).encode_conditions(batch, Dropout(nobody, nobody))
    nothing = identity_objective(trainable, make_config()).encode_conditions(batch, Dropout(nobody, everybody))
    found = objective.encode_conditions(batch, Dropout(nobody, nobody))
    for number, keeps in enumerate(kept):
        assert torch.equal(found[number], whole[number] if keeps else nothing[number])
        assert not torch.equal(whole[number], nothing[number])
