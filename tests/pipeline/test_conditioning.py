import numpy as np
import pytest
import torch

from magicmirror.errors import ConfigError, FaceError, PromptError
from magicmirror.pipeline.conditioning import (
    IdentityCondition,
    average_identity,
    encode_faces,
    encode_text,
    fuse_identity,
    fusion_position,
    insert_fusion_positions,
    preprocess_crops,
    reference_tensors,
)
from magicmirror.pipeline.person_word import find_person_word


def test_insertion_doubles_one_token_and_drops_the_last():
    text = torch.arange(2 * 5 * 1).view(2, 5, 1).float()
    doubled, mask = insert_fusion_positions(text, [1, 3])
    assert doubled.squeeze(-1).tolist() == [[0, 1, 1, 2, 3], [5, 6, 7, 8, 8]]
    assert mask.int().tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 1, 1]]


@torch.no_grad()
def test_fused_text_differs_at_the_person_word_alone(pipeline, reference):
    identity = pipeline.encode_identity([reference])
    person = find_person_word("a man img smiles")
    position = fusion_position(pipeline.tokenizer, person, 24)
    assert position == 1
    plain = encode_text(pipeline.tokenizer, pipeline.text_encoder, ["a man smiles"], 24)
    fused = fuse_identity(pipeline.identity_fusion, identity.identity_tokens, plain, [position])
    assert torch.equal(fused[:, :1], plain[:, :1])
    assert torch.equal(fused[:, 3:], plain[:, 2:-1])
    # Eq. 5 for each of the two ID tokens, written out.
    fusion = pipeline.identity_fusion
    for index in (0, 1):
        joined = torch.cat([identity.identity_tokens[0, index], plain[0, 1]])
        expected = plain[0, 1] + fusion.mlp(fusion.norm(joined))
        torch.testing.assert_close(fused[0, 1 + index], expected)
    assert not torch.allclose(fused[0, 1], fused[0, 2])


def test_prompt_fills_the_length_but_for_one_token(tokenizer):
    fits = find_person_word("a man in a hat and a")
    count = len(tokenizer(fits.prompt).input_ids)
    assert fusion_position(tokenizer, fits, count + 1) == 1
    with pytest.raises(PromptError, match=rf"{count} tokens.* {count - 1} fit.*Shorten"):
        fusion_position(tokenizer, fits, count)


@torch.no_grad()
def test_branches_read_the_layers_that_the_paper_names(pipeline, reference):
    pixels = preprocess_crops(pipeline.feature_extractor, [reference.crop])
    assert pixels.shape == (1, 3, 16, 16)
    embeddings, _ = reference_tensors([reference], 12)
    seen = encode_faces(
        pipeline.image_encoder, pipeline.identity_perceiver, pipeline.face_perceiver, pixels, embeddings
    )
    # The tower by hand: every patch and CLS, no norm after the last layer.
    tower = pipeline.image_encoder
    tower = getattr(tower, "vision_model", tower)
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    for layer in tower.encoder.layers[:-1]:
        hidden = layer(hidden, attention_mask=None)
    last = tower.encoder.layers[-1](hidden, attention_mask=None)
    assert last.shape == (1, 5, 16)
    torch.testing.assert_close(seen.identity_tokens, pipeline.identity_perceiver(embeddings, last))
    torch.testing.assert_close(seen.face_tokens, pipeline.face_perceiver(hidden))


def test_gradients_reach_everything_that_is_trained(fresh_pipeline, reference):
    pixels = preprocess_crops(fresh_pipeline.feature_extractor, [reference.crop, reference.crop])
    embeddings, _ = reference_tensors([reference, reference], 12)
    modules = [fresh_pipeline.image_encoder, fresh_pipeline.identity_perceiver, fresh_pipeline.face_perceiver]
    identity = encode_faces(*modules, pixels, embeddings)
    (identity.identity_tokens.sum() + identity.face_tokens.square().sum()).backward()
    for module in modules:
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())


def test_average_is_weighted_by_quality():
    photos = IdentityCondition(torch.tensor([0.0, 4.0]).view(2, 1, 1), torch.tensor([[[2.0]], [[6.0]]]))
    weighted = average_identity(photos, torch.tensor([3.0, 1.0]))
    assert (weighted.identity_tokens.item(), weighted.face_tokens.item()) == (1.0, 3.0)
    equal = average_identity(photos, torch.zeros(2))
    assert (equal.identity_tokens.item(), equal.face_tokens.item()) == (2.0, 4.0)


@torch.no_grad()
def test_several_references(pipeline, make_reference):
    first, second = make_reference(1, quality=1.0), make_reference(2, quality=0.5)
    alone = [pipeline.encode_identity([photo]) for photo in (first, second)]
    both = pipeline.encode_identity([first, second])
    for part in (0, 1):
        expected = (2 * alone[0][part] + alone[1][part]) / 3
        torch.testing.assert_close(both[part], expected, rtol=1e-5, atol=1e-6)
    twice = pipeline.encode_identity([first, first])
    torch.testing.assert_close(twice.face_tokens, alone[0].face_tokens)


def test_reference_of_another_recogniser_is_refused(make_reference):
    with pytest.raises(ConfigError, match="12 values, this one has 7"):
        reference_tensors([make_reference(1), make_reference(2, embedding_size=7)], 12)
    with pytest.raises(FaceError):
        reference_tensors([], 12)


def test_colour_order_is_rgb(pipeline):
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 255
    pixels = preprocess_crops(pipeline.feature_extractor, [red])
    assert pixels[0, 0].min() > 0 > pixels[0, 1].max()
