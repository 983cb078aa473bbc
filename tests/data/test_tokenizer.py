"""The tokenizer: T5's special tokens, offsets, and the same pieces as sentencepiece, before and after a reload."""

import numpy as np
import pytest
import sentencepiece
from transformers import T5Tokenizer

from magicmirror.data.english_words import english_words
from magicmirror.data.tokenizer import MODEL_FILE, VOCAB_SIZE, convert_tokenizer, train_tokenizer, training_text
from magicmirror.errors import ConfigError
from magicmirror.pipeline.person_word import find_person_word, token_position

PROMPTS = (
    "A Wizard waves, smiling in the forest.",
    "an astronaut riding a horse through a neon-lit city at 7:30",
    "It's a man's world; photorealistic 8K!!",
    "  two   spaces\tand a tab",
    "a café in São Paulo — “naïve”",
    "xylophone zebra quixotic jumping",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return T5Tokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def samples():
    return [*list(training_text(300, seed=11))[:600], *PROMPTS]


def test_special_tokens_and_size(tokenizer):
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert len(tokenizer) == VOCAB_SIZE
    assert tokenizer("a man waves").input_ids[-1] == 1


def test_equals_the_sentencepiece_model(folder, tokenizer, samples):
    reference = sentencepiece.SentencePieceProcessor(model_file=str(folder / MODEL_FILE))
    for text in samples:
        assert tokenizer(text).input_ids == [*reference.encode(text), 1], text


def test_equal_after_save_and_reload(tokenizer, samples, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = T5Tokenizer.from_pretrained(tmp_path)
    assert again(samples).input_ids == tokenizer(samples).input_ids


def test_training_is_repeatable(folder, tmp_path):
    train_tokenizer(tmp_path)
    assert (tmp_path / MODEL_FILE).read_bytes() == (folder / MODEL_FILE).read_bytes()


def test_text_comes_back(tokenizer):
    assert tokenizer.decode(tokenizer("A Lady smiles, snow falling.").input_ids, skip_special_tokens=True) == (
        "a lady smiles, snow falling."
    )


def test_captions_fit_and_are_not_split_much(tokenizer):
    captions = [text.replace(" img", "") for text in training_text(1500, seed=12) if " img" in text]
    lengths = np.array([len(ids) for ids in tokenizer(captions).input_ids])
    assert len(captions) > 1400 and lengths.max() <= 36 and np.mean(lengths <= 30) > 0.99
    pieces = [len(ids) - 1 for ids in tokenizer(list(english_words())).input_ids]
    assert np.mean(pieces) < 1.1


def test_no_unknown_pieces_in_western_text(tokenizer):
    for text in PROMPTS:
        assert tokenizer.unk_token_id not in tokenizer(text).input_ids, text
    assert tokenizer.unk_token_id in tokenizer("你好").input_ids


def test_pads_truncates_and_gives_offsets(tokenizer):
    batch = tokenizer(["a man waves", "a woman img nods"], padding="max_length", max_length=8, truncation=True)
    assert [len(ids) for ids in batch.input_ids] == [8, 8]
    assert batch.input_ids[0][-4:] == [0, 0, 0, 0]
    long = tokenizer("nod " * 30, padding="max_length", max_length=8, truncation=True).input_ids
    assert len(long) == 8 and long[-1] == 1
    person = find_person_word("Close-up of a Lady img who nods")
    ids = tokenizer(person.prompt).input_ids
    assert tokenizer.convert_ids_to_tokens(ids[token_position(tokenizer, person)]) == "▁lady"


def test_errors(tmp_path):
    with pytest.raises(ConfigError, match="500000"):
        train_tokenizer(tmp_path, vocab_size=500000, num_captions=20)
    with pytest.raises(ConfigError, match=MODEL_FILE):
        convert_tokenizer(tmp_path / "nothing")
