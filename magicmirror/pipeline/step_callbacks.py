"""diffusers' ``callback_on_step_end``, progress bar and interrupt, as a watcher of the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from magicmirror.pipeline.denoising import StepState

StepCallback = Callable[[Any, int, Tensor, dict[str, Any]], dict[str, Any] | None]


def wanted_tensors(callback: StepCallback | None, names: Sequence[str] | None) -> list[str]:
    """Names of the tensors that a callback gets; diffusers' own callback classes say so themselves."""
    return list(getattr(callback, "tensor_inputs", names) or ())


class CallbackWatcher:
    """Follows the loop for one call of a pipeline.

    Args:
        pipeline: Handed to the callback, which may set its ``_guidance_scale`` for the steps that follow; its
            ``interrupt`` ends the loop.
        callback: ``callback(pipeline, step, timestep, tensors)``; may return replacements for the tensors.
        tensor_inputs: Names of the tensors that the callback wants.
        negative_prompt_embeds: (B, T, D_txt), or ``None``.
        progress_bar: Advanced by one a step; its total is the number of steps that was asked for.
    """

    def __init__(
        self,
        pipeline: Any,
        callback: StepCallback | None,
        tensor_inputs: Sequence[str] | None,
        negative_prompt_embeds: Tensor | None,
        progress_bar: Any,
    ) -> None:
        self.pipeline = pipeline
        self.callback = callback
        self.tensor_inputs = wanted_tensors(callback, tensor_inputs)
        self.negative_prompt_embeds = negative_prompt_embeds
        self.progress_bar = progress_bar

    def before_step(self, timestep: Tensor) -> bool:
        """Note the timestep, and stop where the pipeline was interrupted."""
        self.pipeline._current_timestep = timestep
        return not self.pipeline.interrupt

    def after_step(self, state: StepState) -> None:
        """Call the callback and take its replacements."""
        if self.callback is not None:
            tensors = {
                "latents": state.latents,
                "prompt_embeds": state.prompt_embeds,
                "negative_prompt_embeds": self.negative_prompt_embeds,
            }
            wanted = {name: tensors[name] for name in self.tensor_inputs}
            self.pipeline._guidance_scale = state.guidance_scale
            changed = self.callback(self.pipeline, state.index, state.timestep, wanted) or {}
            state.guidance_scale = self.pipeline._guidance_scale
            state.latents = changed.get("latents", state.latents)
            state.prompt_embeds = changed.get("prompt_embeds", state.prompt_embeds)
        if self._ends_step(state.index):
            self.progress_bar.update()

    def _ends_step(self, index: int) -> bool:
        """Whether a step of those that were asked for is done; some schedulers take several timesteps for one."""
        count, order = int(self.pipeline.num_timesteps), int(self.pipeline.scheduler.order)
        warmup = count - int(self.progress_bar.total) * order
        return index == count - 1 or (index >= warmup and (index + 1) % order == 0)
