"""Give a trained text encoder another tokenizer: words that it knows keep their meaning, new ones start near theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import T5Tokenizer

from magicmirror.errors import ConfigError
from magicmirror.pipeline.pipeline import MagicMirrorPipeline


@torch.no_grad()
def adopt_tokenizer(pipeline: MagicMirrorPipeline, folder: Path) -> int:
    """Replace a pipeline's tokenizer, and deal its embeddings out to the new pieces.

    A piece that both tokenizers have keeps its embedding; another one starts from the mean of the embeddings of the
    pieces that it was spelled with before.

    Args:
        pipeline: Its tokenizer and the embeddings of its text encoder are changed in place.
        folder: Of the new tokenizer, as ``prepare`` writes it.

    Returns:
        How many pieces were new.

    Raises:
        ConfigError: If the folder holds no tokenizer, or it has more pieces than the text encoder has embeddings.
    """
    new = load_tokenizer(folder)
    embeddings = pipeline.text_encoder.get_input_embeddings().weight
    if len(new) > len(embeddings):
        raise ConfigError(
            f'The tokenizer in "{folder}" has {len(new)} pieces, the text encoder has embeddings for {len(embeddings)}.'
        )
    old = pipeline.tokenizer
    known, before, count = old.get_vocab(), embeddings.clone(), 0
    for piece, row in new.get_vocab().items():
        if piece in known:
            embeddings[row] = before[known[piece]]
        else:
            embeddings[row] = before[_spelled(old, new.convert_tokens_to_string([piece]))].mean(0)
            count += 1
    pipeline.register_modules(tokenizer=new)
    return count


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a folder.

    Raises:
        ConfigError: If there is none; the library would look for it in the hub.
    """
    if not (folder / "tokenizer.json").is_file():
        raise ConfigError(f'"{folder}" holds no tokenizer.', "`prepare` writes one beside its shards.")
    return T5Tokenizer.from_pretrained(folder)


def _spelled(tokenizer: Any, text: str) -> list[int]:
    """The pieces of a text; that of the unknown where there are none."""
    return tokenizer(text, add_special_tokens=False).input_ids or [tokenizer.unk_token_id]
