"""Batches: which token names the person, and everything a function of seed and step."""

import json

import pytest
import torch

from magicmirror.data.dataset import LatentDataset
from magicmirror.data.precompute import shard_path
from magicmirror.errors import ConfigError, PromptError
from magicmirror.training.batches import identity_batches, text_batch, tower_batches
from tests.tiny_pipeline import TEXT_LENGTH
from tests.tiny_training import CAPTIONS, FRAMES, make_config, write_shards


def test_positions_point_at_the_last_token_of_the_person_word(trainable):
    ids, positions = text_batch(trainable.tokenizer, CAPTIONS, TEXT_LENGTH)
    assert ids.shape == (len(CAPTIONS), TEXT_LENGTH)
    before = [trainable.tokenizer.decode(row[: at + 1]) for row, at in zip(ids, positions, strict=True)]
    assert before == ["a man", "the woman", "a man", "an old man", "smile, a lady", "a girl"]
    # As the pipeline has it, and without the trigger.
    people, expected = trainable.locate_person(CAPTIONS)
    assert positions == expected
    for row, person in zip(ids, people, strict=True):
        assert trainable.tokenizer.decode(row, skip_special_tokens=True) == person.prompt
        assert "img" not in person.prompt
    assert (ids[0] == trainable.tokenizer.pad_token_id).sum() > TEXT_LENGTH / 2  # padded at the end
    assert ids[0, -1] == trainable.tokenizer.pad_token_id


def test_captions_without_a_person_or_too_long_are_refused(trainable):
    with pytest.raises(PromptError):
        text_batch(trainable.tokenizer, ["a man img", "the sea"], TEXT_LENGTH)
    with pytest.raises(PromptError, match="too long"):
        text_batch(trainable.tokenizer, ["a man img " + "and " * TEXT_LENGTH], TEXT_LENGTH)


def test_a_step_takes_stills_or_clips(trainable, shards):
    config = make_config(clip_share=0.4)
    batch_at = identity_batches(trainable, [shards], config, allow_incomplete=False)
    clips = 0
    for step in range(60):
        batch = batch_at(step)
        rows, frames = batch["latents"].shape[:2]
        assert (rows, frames) in ((config.image_batch, 1), (config.clip_batch, FRAMES))
        assert len(batch["positions"]) == len(batch["captions"]) == batch["input_ids"].size(0) == rows
        clips += frames == FRAMES
    assert 12 <= clips <= 36  # three standard deviations around 24


def test_a_batch_follows_from_seed_and_step_alone(trainable, shards):
    def batches(seed):
        return identity_batches(trainable, [shards], make_config(clip_share=0.5, seed=seed), allow_incomplete=False)

    forward, backward, other = batches(3), batches(3), batches(4)
    seen = [forward(step) for step in range(12)]
    again = {step: backward(step) for step in reversed(range(12))}
    for step, batch in enumerate(seen):
        for name, value in batch.items():
            same = torch.equal(value, again[step][name]) if torch.is_tensor(value) else value == again[step][name]
            assert same, (step, name)
    assert any(not torch.equal(seen[step]["embeddings"], other(step)["embeddings"]) for step in range(12))


@pytest.mark.parametrize(("balance", "share"), [(0.0, 1 / 8), (1.0, 1 / 2)])
def test_small_strata_are_taken_as_often_as_the_settings_say(trainable, tmp_path, balance, share):
    """One person of eight has a stratum of its own."""
    folder = write_shards(tmp_path / "shards")
    path = shard_path(folder, 0).with_suffix(".jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines = [line | {"stratum": "two"} if line["person_id"] == "person 0" else line for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = make_config(clip_share=0.0, strata_balance=balance)
    batch_at = identity_batches(trainable, [folder], config, allow_incomplete=False)
    people = [person for step in range(56) for person in batch_at(step)["person_ids"]]
    assert people.count("person 0") / len(people) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize(("share", "frames"), [(0.0, 1), (1.0, FRAMES)])
def test_a_kind_that_is_not_wanted_need_not_be_there(trainable, shards, share, frames):
    config = make_config(clip_share=share, **{"clip_batch" if share == 0 else "image_batch": 10_000})
    batch_at = identity_batches(trainable, [shards], config, allow_incomplete=False)
    assert {batch_at(step)["latents"].size(1) for step in range(5)} == {frames}


def test_a_batch_larger_than_the_data_is_refused(trainable, shards):
    with pytest.raises(ConfigError, match="one batch of 1000"):
        identity_batches(trainable, [shards], make_config(image_batch=1000), allow_incomplete=False)


def test_tower_batches_hold_the_latents_of_their_own_crops(trainable, shards):
    batch = tower_batches(trainable, [shards], make_config(), allow_incomplete=False)(2)
    assert batch["crops"].shape == (4, 32, 32, 3) and batch["latents"].shape == (4, 1, 4, 4, 4)
    pixels = batch["crops"][1].permute(2, 0, 1).float() / 127.5 - 1
    with torch.no_grad():
        mean = trainable.vae.encode(pixels[None, :, None]).latent_dist.mean
    torch.testing.assert_close(batch["latents"][1, 0], 0.7 * mean[0, :, 0], rtol=1e-4, atol=1e-5)
    # References are views of a person, not the portrait itself.
    data = LatentDataset([shards], "image")
    portraits = {data.sample(row, 0)["crop"].numpy().tobytes() for row in range(len(data))}
    assert all(crop.numpy().tobytes() not in portraits for crop in batch["crops"])
    assert not batch["latents"].requires_grad


def test_captions_that_the_model_cannot_take_are_left_out_and_counted(trainable, tmp_path, caplog):
    shards = write_shards(tmp_path / "shards")
    path = next(shards.glob("*.jsonl"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for number, caption in ((0, "the sea"), (1, "a man img " + "and " * TEXT_LENGTH)):
        lines[number]["caption"] = caption
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = make_config(clip_share=0.0, image_batch=31)
    batch_at = identity_batches(trainable, [shards], config, allow_incomplete=False)
    assert "2 of 64 captions are too long or name nobody" in caplog.text
    seen = {caption for step in range(2) for caption in batch_at(step)["captions"]}
    assert seen == set(CAPTIONS)
    path.write_text("".join(json.dumps({**line, "caption": "the sea"}) + "\n" for line in lines))
    with pytest.raises(ConfigError, match="No image has a caption"):
        identity_batches(trainable, [shards], config, allow_incomplete=False)
