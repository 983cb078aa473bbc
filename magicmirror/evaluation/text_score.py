"""Agreement of video and text by a network, where one is at hand: the CLIP score.

No CLIP with a text tower is part of the default install, and nothing is downloaded: it comes from a folder. The
paper's own figure is VBench's overall consistency, a package of its own that reads the videos and ``captions.json``
of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from magicmirror.errors import WeightsError
from magicmirror.types import UInt8Array

TextScore = Callable[[UInt8Array, str], float]
CLIP_FRAMES = 8


def load_clip_score(folder: Path, device: str = "cpu") -> TextScore:
    """Load CLIP.

    Args:
        folder: A ``CLIPModel`` with its processor, as transformers saves them.
        device: A torch device.

    Returns:
        Function of (F, H, W, 3) uint8 RGB frames and a caption: mean cosine in [-1, 1] over evenly spaced frames.

    Raises:
        WeightsError: When the folder has no such model.
    """
    import torch
    from transformers import CLIPModel, CLIPProcessor

    if not (folder / "config.json").is_file():
        raise WeightsError(f'There is no CLIP model in "{folder}".', "Give a folder that transformers saved.")
    try:
        model = CLIPModel.from_pretrained(folder, local_files_only=True).eval().to(device)
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise WeightsError(f'The CLIP model in "{folder}" cannot be read: {error}.') from error

    def score(frames: UInt8Array, caption: str) -> float:
        chosen = np.unique(np.linspace(0, len(frames) - 1, CLIP_FRAMES).round().astype(int))
        inputs = processor(
            text=[caption], images=[frames[i] for i in chosen], return_tensors="pt", padding=True, truncation=True
        )
        with torch.no_grad():
            output = model(**inputs.to(device))
        image = torch.nn.functional.normalize(output.image_embeds, dim=-1)
        text = torch.nn.functional.normalize(output.text_embeds, dim=-1)
        return float((image @ text.T).mean())

    return score
