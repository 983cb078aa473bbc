import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from magicmirror.errors import WeightsError
from magicmirror.evaluation.text_score import load_clip_score


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny CLIP of the real class with random weights."""
    path = tmp_path_factory.mktemp("clip")
    words = ["a", "b", "a</w>", "b</w>", "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[])
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": 6, "max_position_embeddings": 8, "bos_token_id": 4, "eos_token_id": 5}
    config = CLIPConfig(text_config=text, vision_config={**sizes, "image_size": 16, "patch_size": 8}, projection_dim=8)
    CLIPModel(config).save_pretrained(path)
    size = {"height": 16, "width": 16}
    CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size), tokenizer).save_pretrained(path)
    return path


def test_score_is_the_mean_cosine_of_frames_and_caption(folder):
    score = load_clip_score(folder)
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    single = [score(frames[index : index + 1], "a b") for index in range(3)]
    assert score(frames, "a b") == pytest.approx(np.mean(single), abs=1e-5)
    assert all(-1 <= value <= 1 for value in single)
    assert score(frames, "b a b") != pytest.approx(score(frames, "a b"), abs=1e-6)
    model, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    with torch.no_grad():
        output = model(**processor(text=["a b"], images=[frames[0]], return_tensors="pt"))
    # CLIP's own logit is the cosine times its learned scale.
    cosine = output.logits_per_image.item() / model.logit_scale.exp().item()
    assert single[0] == pytest.approx(cosine, abs=1e-5)


def test_a_folder_without_clip_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="no CLIP model"):
        load_clip_score(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(WeightsError, match="cannot be read"):
        load_clip_score(tmp_path)
