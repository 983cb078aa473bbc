"""The model's own estimate of clean latents from pure noise: at the noisiest timestep only the conditions can tell."""

from __future__ import annotations

from typing import Any


def first_estimate(objective: Any, batch: dict[str, Any], noise: Any) -> Any:
    """Predict clean latents in one step from the noisiest timestep.

    Args:
        objective: ``IdentityVideoObjective`` in evaluation mode.
        batch: ``input_ids`` (B, T), ``positions``, ``crops`` and ``embeddings`` of its batches.
        noise: (B, F, C, H, W) standard normal.

    Returns:
        (B, F, C, H, W), scaled.
    """
    import torch

    from magicmirror.training.draws import Dropout

    kept = torch.zeros(len(noise), dtype=torch.bool)
    last = torch.full((len(noise),), objective.scheduler.config.num_train_timesteps - 1)
    with torch.no_grad():
        text, identity, face = objective.encode_conditions(batch, Dropout(kept, kept))
        velocity = objective.transformer(
            hidden_states=noise,
            encoder_hidden_states=text,
            timestep=last,
            image_rotary_emb=objective.rotary(noise.size(1), *noise.shape[3:]),
            identity_tokens=identity,
            face_tokens=face,
            return_dict=False,
        )[0]
        return objective.scheduler.get_velocity(velocity, noise, last)
