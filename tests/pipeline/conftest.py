"""Tiny real components: every class that the product uses, at a size that runs in milliseconds."""

import pytest
from transformers import T5Tokenizer

TEXT_LENGTH = 24
WORDS = ("a", "man", "the", "smile", "in", "and")


@pytest.fixture(scope="session")
def tokenizer():
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,'-!?"
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocab += [(letter, -6.0) for letter in letters] + [(f"▁{word}", -3.0) for word in WORDS]
    return T5Tokenizer(vocab=vocab, extra_ids=0)
