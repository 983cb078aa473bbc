"""The text tokenizer of the preview model: a sentencepiece unigram model in the form that T5 uses.

It is trained on sampled captions and a list of common words, has the special tokens of T5 (``<pad>`` 0, ``</s>`` 1,
``<unk>`` 2), and folds case (``nmt_nfkc_cf``). transformers' ``T5Tokenizer`` has no byte fallback, so the alphabet is
required instead: every printable ASCII character and the accented letters of Western Europe have a piece of their own,
and only other scripts become ``<unk>``.
"""

from __future__ import annotations

import io
import re
import shutil
import string
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from magicmirror.data.caption_vocabulary import PERSON_WORDS
from magicmirror.data.captions import sample_clip_spec, sample_image_spec, sample_person_word
from magicmirror.data.english_words import english_words, word_fragments
from magicmirror.errors import ConfigError
from magicmirror.pipeline.person_word import NOUNS_BY_GROUP

MODEL_FILE = "spiece.model"
VOCAB_SIZE = 1536
NUM_CAPTIONS = 6000
WORD_REPEATS = 20
NUM_COMPOSED = 4000
ALPHABET = string.digits + string.ascii_lowercase + string.punctuation + "àáâãäåæçèéêëìíîïñòóôõöøùúûüýÿœß–—‘’“”…€£°"
_WORD = re.compile(r"[a-z]+")


def train_tokenizer(folder: Path, vocab_size: int = VOCAB_SIZE, num_captions: int = NUM_CAPTIONS, seed: int = 0) -> Any:
    """Train the tokenizer and save it where ``T5Tokenizer.from_pretrained`` finds it.

    Args:
        folder: Gets ``tokenizer.json``, ``tokenizer_config.json`` and the sentencepiece ``spiece.model``.
        vocab_size: Number of pieces, special tokens included.
        num_captions: How many captions to sample for the training text.
        seed: Of the sampled captions.

    Returns:
        The ``transformers.T5Tokenizer``, as loaded from the folder.

    Raises:
        ConfigError: When the vocabulary is too small for the alphabet, or too large for the text.
    """
    import sentencepiece

    text = list(training_text(num_captions, seed))
    model = io.BytesIO()
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as seeds:
            seeds.writelines(f"{piece}\t{count}\n" for piece, count in seed_pieces(text).items())
            seeds.flush()
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(text),
                seed_sentencepieces_file=seeds.name,
                model_writer=model,
                model_type="unigram",
                vocab_size=vocab_size,
                normalization_rule_name="nmt_nfkc_cf",
                required_chars=ALPHABET,
                character_coverage=1.0,
                pad_id=0,
                eos_id=1,
                unk_id=2,
                bos_id=-1,
                pad_piece="<pad>",
                eos_piece="</s>",
                unk_piece="<unk>",
                num_threads=1,
                minloglevel=2,
            )
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"The tokenizer cannot be trained with {vocab_size} pieces: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_bytes(_without_file_names(model.getvalue()))
    return convert_tokenizer(folder)


def _without_file_names(model: bytes) -> bytes:
    """Take the name of the temporary file out of a model, so that equal training gives equal bytes."""
    from sentencepiece import sentencepiece_model_pb2

    messages: Any = sentencepiece_model_pb2
    proto = messages.ModelProto.FromString(model)
    proto.trainer_spec.ClearField("seed_sentencepieces_file")
    return bytes(proto.SerializeToString(deterministic=True))


def seed_pieces(text: Iterable[str]) -> dict[str, int]:
    """Propose pieces: every word, and the parts of words that several words share.

    The trainer's own proposals are strings that occur in two or more *different* words, which leaves out most whole
    words of a small vocabulary.

    Args:
        text: Lines of training text.

    Returns:
        Piece (with the sign for a blank in front, where it begins a word) -> how often it occurs; most frequent first.
    """
    words = Counter(word for line in text for word in _WORD.findall(line.lower()))
    pieces = Counter({f"\u2581{word}": count for word, count in words.items() if count > 2})
    pieces.update(dict.fromkeys(word_fragments(), 3))
    shared: Counter[str] = Counter()
    for word in words:
        marked = f"\u2581{word}"
        spans = ((i, j) for i in range(len(marked)) for j in range(i + 2, min(i + 7, len(marked)) + 1))
        shared.update({marked[i:j] for i, j in spans})
    pieces.update({piece: count for piece, count in shared.items() if count > 2 and piece not in pieces})
    return dict(sorted(pieces.items(), key=lambda item: (-item[1], item[0])))


def convert_tokenizer(folder: Path) -> Any:
    """Write transformers' form of ``folder / "spiece.model"`` beside it.

    Args:
        folder: Holds the sentencepiece model.

    Returns:
        The ``transformers.T5Tokenizer``, as loaded from the folder.

    Raises:
        ConfigError: When the folder has no sentencepiece model.
    """
    from transformers import T5Tokenizer

    if not (folder / MODEL_FILE).is_file():
        raise ConfigError(f"{folder} has no {MODEL_FILE}.")
    with tempfile.TemporaryDirectory() as bare:
        shutil.copy(folder / MODEL_FILE, bare)
        tokenizer = T5Tokenizer.from_pretrained(bare, extra_ids=0)
    tokenizer.save_pretrained(folder)
    return T5Tokenizer.from_pretrained(folder)


def training_text(num_captions: int, seed: int) -> Iterator[str]:
    """Sample the text that the tokenizer is trained on: captions of all groups, words, and composed ones.

    The captions' own words come once more, each as often as any other: rare motions and styles must not be spelled.
    The composed words stand for all those that are in no list: they teach the model pieces to spell them with.

    Args:
        num_captions: Number of captions.
        seed: Of the captions.

    Yields:
        One line at a time.
    """
    rng = np.random.default_rng(seed)
    groups = tuple(PERSON_WORDS)
    spoken: dict[str, None] = {}
    for index in range(num_captions):
        word = sample_person_word(rng, groups[index % len(groups)])
        sample = sample_image_spec if index % 3 == 0 else sample_clip_spec
        caption = sample(rng, word).caption
        spoken |= dict.fromkeys(re.findall(r"[a-z]+", caption.lower()))
        yield caption
    nouns = (noun for group in NOUNS_BY_GROUP.values() for noun in group)
    words = tuple(dict.fromkeys((*english_words(), *nouns, *spoken)))
    for _ in range(WORD_REPEATS):
        yield from words
    fragments = word_fragments()
    for _ in range(NUM_COMPOSED):
        yield "".join(fragments[index] for index in rng.integers(len(fragments), size=rng.integers(2, 5)))
