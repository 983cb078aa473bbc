"""Loading insightface's detector and recogniser: device, quiet sessions, and which file is broken."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from magicmirror.errors import ConfigError, WeightsError
from magicmirror.faces.insightface_packs import LICENCE_NOTE, by_hand, ensure_pack

EMBEDDING_SIZE = 512
MIN_SCORE = 0.5
"""Least confidence of a face; insightface's own default."""

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
FATAL = 4

logger = logging.getLogger(__name__)


def choose_providers(device: str, available: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Return onnxruntime's execution providers for a device, the first is preferred.

    Args:
        device: ``auto`` (CUDA where onnxruntime offers it), ``cpu``, ``cuda`` or ``cuda:N``.
        available: ``onnxruntime.get_available_providers()``.

    Returns:
        Names with their options; the last is always the CPU.

    Raises:
        ConfigError: For another device, or CUDA where the installed onnxruntime has none.
    """
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", device)
    if match is None:
        raise ConfigError(f'Faces cannot be analysed on the device "{device}".', "Choose auto, cpu, cuda or cuda:N.")
    if device == "cpu" or (device == "auto" and CUDA not in available):
        return [(CPU, {})]
    if CUDA not in available:
        raise ConfigError(
            f'Faces cannot be analysed on the device "{device}": the installed onnxruntime has no CUDA.',
            "Take the device auto or cpu, or uninstall onnxruntime and then install onnxruntime-gpu. "
            "Never install both together: they write the same folder and break each other.",
        )
    return [(CUDA, {"device_id": match.group(1) or "0"}), (CPU, {})]


def load_face_analysis(pack: str, root: Path, device: str) -> Any:
    """Load a pack's detector and recogniser, and nothing else of it.

    Args:
        pack: Name of the pack.
        root: insightface's root folder.
        device: See ``choose_providers``.

    Returns:
        An ``insightface.app.FaceAnalysis`` with the models ``detection`` and ``recognition``.

    Raises:
        ConfigError: When insightface is not installed or the device cannot be used.
        WeightsError: When the pack cannot be had, is damaged, or is of another kind.
    """
    try:
        import onnxruntime
        from insightface.app import FaceAnalysis
    except ImportError as error:
        raise ConfigError(
            f"insightface cannot be imported: {error}", "Run: pip install insightface onnxruntime"
        ) from error

    providers = choose_providers(device, onnxruntime.get_available_providers())
    folder = ensure_pack(pack, root)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL  # what fails is raised as well
    # Threads that wait by spinning take the cores from the video model: twice the CPU time where cores are shared.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # insightface calls a function of scikit-image that warns each time; this is not the caller's business.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"insightface\.")
    try:
        # onnxruntime announces a provider that does not start on stdout, where a command's JSON goes.
        with contextlib.redirect_stdout(sys.stderr):
            analysis = FaceAnalysis(
                name=str(folder),
                allowed_modules=["detection", "recognition"],
                providers=[name for name, _ in providers],
                provider_options=[values for _, values in providers],
                sess_options=options,
            )
            analysis.prepare(ctx_id=0, det_thresh=MIN_SCORE, det_size=(640, 640))
    except Exception as error:  # onnxruntime, protobuf and insightface (assert) share no base
        raise _damaged(folder, root / "models" / pack, error) from error
    _check_models(analysis, folder, root / "models" / pack)
    _check_device(analysis, device, providers[0][0])
    logger.info('Face models "%s" loaded from %s. %s', pack, folder, LICENCE_NOTE)
    return analysis


def _damaged(folder: Path, place: Path, error: Exception) -> WeightsError:
    """Say which file of a pack cannot be read."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL
    for path in sorted(folder.glob("*.onnx")):
        try:
            onnxruntime.InferenceSession(str(path), sess_options=options, providers=[CPU])
        except Exception as reason:  # onnxruntime's errors share no base
            return WeightsError(
                f'The face model "{path}" is damaged or only half there ({_first_line(reason)}).',
                f'Delete the folder "{place}" and start again, so that it is downloaded anew. {by_hand(place)}',
            )
    return WeightsError(
        f'The pack of face models in "{folder}" cannot be loaded: {_first_line(error)}.',
        f'Delete the folder "{place}" if it is not a pack of insightface. {by_hand(place)}',
    )


def _check_models(analysis: Any, folder: Path, place: Path) -> None:
    """Refuse a pack whose models are not the ones that the analyzer is written for."""
    recogniser = analysis.models.get("recognition")
    if recogniser is None:
        problem = "it has no recognition model"
    elif recogniser.output_shape[-1] != EMBEDDING_SIZE:
        problem = f"its embeddings have {recogniser.output_shape[-1]} numbers instead of {EMBEDDING_SIZE}"
    elif not analysis.det_model.use_kps:
        problem = "its detector gives no landmarks"
    else:
        return
    raise WeightsError(f'The pack of face models in "{folder}" cannot be used: {problem}.', by_hand(place))


def _check_device(analysis: Any, device: str, wanted: str) -> None:
    """Notice where onnxruntime silently fell back to the CPU: an error if the device was asked for by name."""
    if all(wanted in model.session.get_providers() for model in analysis.models.values()):
        return
    remedy = "Check that the versions of its CUDA and cuDNN are the installed ones, and that the device exists."
    if device != "auto":
        raise ConfigError(f'onnxruntime could not start on the device "{device}".', remedy)
    logger.warning("onnxruntime could not start CUDA; faces are analysed on the CPU. %s", remedy)


def _first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its kind where it has none."""
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
