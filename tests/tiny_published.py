"""What a full-size run is put together from, tiny: a stock CogVideoX, a PhotoMaker-V2 file, an adapter."""

import torch

from magicmirror.models.presets import ModelPreset
from tests.tiny_pipeline import build_stock

TINY = ModelPreset(
    transformer={
        "identity_dim": 20,
        "num_face_tokens": 4,
        "identity_proj_dim": 8,
        "can_hidden_dim": 8,
        "num_layers": 3,
    },
    identity_perceiver={"embedding_dim": 12, "patch_dim": 16, "token_dim": 20, "depth": 1, "head_dim": 10},
    face_perceiver={"patch_dim": 16, "dim": 16, "output_dim": 32, "num_queries": 4, "depth": 1, "head_dim": 8},
    identity_fusion={"identity_dim": 20, "text_dim": 16, "hidden_dim": 24},
    image_encoder={
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
        "hidden_act": "quick_gelu",
    },
    text_encoder={},
    vae={},
)


def publish(root, pipeline):
    """Write the published parts of a pipeline of ``build_pipeline`` into ``root``.

    Returns:
        Folders ``base``, ``photomaker`` and ``adapter`` in ``root``.
    """
    base, encoder, adapter = (root / name for name in ("base", "photomaker", "adapter"))
    build_stock(pipeline).save_pretrained(base)
    pipeline.save_adapter(adapter)
    tower = {name.removeprefix("vision_model."): value for name, value in pipeline.image_encoder.state_dict().items()}
    state = {
        **{f"vision_model.{name}": value for name, value in tower.items()},
        "vision_model.embeddings.position_ids": torch.arange(5)[None],
        **{f"qformer_perceiver.{name}": value for name, value in pipeline.identity_perceiver.state_dict().items()},
        "visual_projection.weight": torch.zeros(2, 2),
        "fuse_module.mlp1.weight": torch.zeros(2, 2),
    }
    encoder.mkdir()
    torch.save({"id_encoder": state, "lora_weights": {}}, encoder / "photomaker-v2.bin")
    return base, encoder, adapter


def same_weights(one, other):
    """Whether all networks of two pipelines hold the same values; says the first component that does not."""
    for name, part in one.components.items():
        if isinstance(part, torch.nn.Module):
            state, found = part.state_dict(), other.components[name].state_dict()
            assert state.keys() == found.keys(), name
            assert all(torch.equal(state[key], found[key]) for key in state), name
    return True
