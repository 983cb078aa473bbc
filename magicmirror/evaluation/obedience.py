"""Does a video do what its caption asks for? The measured effect of each motion and style word, and a limit for it.

The paper measures agreement with the text by VBench's overall consistency, a video-text network whose weights are not
part of this project. Captions here name motions and styles with a known meaning (``data.motion``, ``data.style``), so
the meaning itself is measured. A word is *obeyed* when its effect has the asked sign and is larger than what
clips without it show: noise of the landmarks must not count as a turn, and half of all motionless faces would have any
asked sign. The limits are calibrated on animated held-out clips, see ``docs/evaluation.md``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from magicmirror.evaluation.expression import (
    aligned_heads,
    blink,
    dark_opening,
    flow_from_start,
    mouth_change,
    repeated_opening,
)
from magicmirror.evaluation.face_track import FaceTrack
from magicmirror.evaluation.head_motion import HeadMotion, arrival, dip, head_motion, swing
from magicmirror.types import UInt8Array

MIN_FACE_SHARE = 0.5
MIN_FRAMES = 5

MOTION_LIMITS: dict[str, float] = {
    "turn_left": 4.0,
    "turn_right": 4.0,
    "look_up": 3.0,
    "look_down": 3.0,
    "nod": 2.5,
    "shake": 3.0,
    "tilt_left": 2.0,
    "tilt_right": 2.0,
    "zoom_in": 0.05,
    "zoom_out": 0.05,
    "pan_left": 0.03,
    "pan_right": 0.03,
    "blink": 0.015,
    "smile": 0.06,
    "open_mouth": 0.06,
    "talk": 0.04,
    "still": 0.0,
}
"""Motion word -> least effect: degrees, logarithm of the growth, picture widths, eye
distances; ``still`` is explained at ``motion_effects``."""

STYLE_LIMITS: dict[str, float] = {
    "black_and_white": 0.7,
    "sepia": 0.25,
    "warm": 0.15,
    "cool": 0.15,
    "night": 0.4,
    "bright": 0.1,
    "film": 0.01,
    "snow": 0.003,
    "rain": 0.003,
    "light_leak": 0.08,
    "fog": 0.2,
    "light_left": 0.35,
    "light_right": 0.35,
    "red_light": 0.6,
    "green_light": 0.4,
    "vignette": 0.5,
}
"""Style word -> least effect, in the units of ``style_effects.style_effects``."""

# The most that a face at rest shows, in the units of the limits.
REST = {"yaw": 4.0, "pitch": 4.0, "roll": 2.0, "zoom": 0.04, "pan": 0.03}


@dataclass(frozen=True)
class Verdict:
    """What became of one asked word.

    Args:
        word: Motion or style.
        effect: Measured; ``None`` where it could not be measured (no face, or no measure for this word).
        limit: Least effect that counts; ``None`` for a word without a measure.
        obeyed: Whether the effect reaches the limit; ``None`` for a word without a measure. A video in which
            no face is found does not obey.
    """

    word: str
    effect: float | None
    limit: float | None
    obeyed: bool | None


def motion_effects(frames: UInt8Array, track: FaceTrack) -> dict[str, float]:
    """Measure the effect of every motion word.

    Args:
        frames: (F, H, W, 3) uint8 RGB; evenly sampled frames of the whole video.
        track: Faces of these frames.

    Returns:
        Word -> effect, positive in the direction that the word asks for. ``still`` is 1 less the largest of all head
        and camera motions as a share of what a face at rest shows. Empty when fewer than half of the frames have a
        face, or there are fewer than five.
    """
    if len(frames) < MIN_FRAMES or track.face_share < MIN_FACE_SHARE:
        return {}
    motion = head_motion(track, frames.shape[2])
    heads, mouth = aligned_heads(frames, track)
    flow = flow_from_start(heads)
    smile, opening = mouth_change(flow, mouth)
    dark = dark_opening(heads, mouth)
    opening = max(opening, float(dark[-max(1, len(dark) // 4) :].mean()))
    yaw, pitch, roll = arrival(motion.yaw), arrival(motion.pitch), arrival(motion.roll)
    zoom, pan = arrival(motion.zoom), arrival(motion.pan)
    return {
        "turn_left": -yaw,
        "turn_right": yaw,
        "look_up": pitch,
        "look_down": -pitch,
        "nod": dip(motion.pitch),
        "shake": swing(motion.yaw),
        "tilt_left": -roll,
        "tilt_right": roll,
        "zoom_in": zoom,
        "zoom_out": -zoom,
        "pan_left": -pan,
        "pan_right": pan,
        "blink": blink(flow),
        "smile": smile,
        "open_mouth": opening,
        "talk": repeated_opening(flow, mouth),
        "still": _stillness(motion),
    }


def judge(words: Iterable[str], effects: dict[str, float], limits: dict[str, float]) -> tuple[Verdict, ...]:
    """Compare the effects of asked words with their limits.

    Args:
        words: Asked motions, or the asked style (``none`` asks for nothing).
        effects: Of ``motion_effects`` or ``style_effects``.
        limits: ``MOTION_LIMITS`` or ``STYLE_LIMITS``.
    """
    verdicts = []
    for word in words:
        if word == "none":
            continue
        effect, limit = effects.get(word), limits.get(word)
        obeyed = None if limit is None else effect is not None and effect > limit
        verdicts.append(Verdict(word, effect, limit, obeyed))
    return tuple(verdicts)


def all_obeyed(verdicts: Iterable[dict[str, Any]]) -> bool | None:
    """Say whether every word that can be judged was obeyed; ``None`` when there is no such word.

    Args:
        verdicts: ``Verdict`` as plain data.
    """
    known = [bool(verdict["obeyed"]) for verdict in verdicts if verdict["obeyed"] is not None]
    return all(known) if known else None


def _stillness(motion: HeadMotion) -> float:
    """1 for a face that does not move at all, below 0 where anything moves more than a face at rest."""
    curves = {"yaw": motion.yaw, "pitch": motion.pitch, "roll": motion.roll, "zoom": motion.zoom, "pan": motion.pan}
    return 1.0 - max(max(abs(arrival(curve)), dip(curve), dip(-curve)) / REST[name] for name, curve in curves.items())
