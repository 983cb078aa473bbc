"""Another tokenizer for a trained text encoder: pieces that both know keep their embedding."""

import pytest
import torch
from transformers import T5Tokenizer

from magicmirror.errors import ConfigError
from magicmirror.pipeline.pipeline import MagicMirrorPipeline
from magicmirror.training.vocabulary import adopt_tokenizer, load_tokenizer
from tests.tiny_training import build_trainable

LETTERS = "zyxwvutsrqponmlkjihgfedcba"  # in another order than the tiny pipeline's
WORDS = ("snow", "man", "rain")


@pytest.fixture(scope="module")
def other_tokenizer(tmp_path_factory):
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    vocabulary += [(letter, -6.0) for letter in LETTERS] + [(f"\u2581{word}", -3.0) for word in WORDS]
    folder = tmp_path_factory.mktemp("other")
    T5Tokenizer(vocab=vocabulary, extra_ids=0).save_pretrained(folder)
    return folder


def test_pieces_that_both_know_keep_their_embedding_and_others_start_from_their_spelling(other_tokenizer):
    pipeline = build_trainable()
    old, before = pipeline.tokenizer, pipeline.text_encoder.get_input_embeddings().weight.detach().clone()
    new_pieces = adopt_tokenizer(pipeline, other_tokenizer)

    known, now = old.get_vocab(), pipeline.text_encoder.get_input_embeddings().weight.detach()
    vocabulary = pipeline.tokenizer.get_vocab()
    unknown = sorted(set(vocabulary) - set(known))
    assert unknown == ["\u2581rain", "\u2581snow"] and new_pieces == 2
    for piece in set(vocabulary) & set(known):
        assert torch.equal(now[vocabulary[piece]], before[known[piece]]), piece
    moved = [piece for piece in set(vocabulary) & set(known) if vocabulary[piece] != known[piece]]
    assert moved  # the same word stands in another row, so the test cannot pass by doing nothing
    for piece in unknown:
        spelled = old(piece[1:], add_special_tokens=False).input_ids
        assert torch.allclose(now[vocabulary[piece]], before[spelled].mean(0)), piece


def test_the_same_tokenizer_changes_nothing(tmp_path):
    pipeline = build_trainable()
    before = pipeline.text_encoder.get_input_embeddings().weight.detach().clone()
    pipeline.tokenizer.save_pretrained(tmp_path)
    assert adopt_tokenizer(pipeline, tmp_path) == 0
    assert torch.equal(pipeline.text_encoder.get_input_embeddings().weight, before)


def test_it_is_saved_with_the_pipeline(other_tokenizer, tmp_path):
    pipeline = build_trainable()
    adopt_tokenizer(pipeline, other_tokenizer)
    pipeline.save_pretrained(tmp_path)
    again = MagicMirrorPipeline.from_pretrained(tmp_path, dtype=torch.float32)
    assert again.tokenizer.get_vocab() == load_tokenizer(other_tokenizer).get_vocab()


def test_refused_without_a_tokenizer_or_with_too_many_pieces(other_tokenizer, tmp_path):
    pipeline = build_trainable()
    with pytest.raises(ConfigError, match="holds no tokenizer"):
        adopt_tokenizer(pipeline, tmp_path)
    pipeline.text_encoder.resize_token_embeddings(20)
    with pytest.raises(ConfigError, match=r"33 pieces.* has embeddings for 20"):
        adopt_tokenizer(pipeline, other_tokenizer)
