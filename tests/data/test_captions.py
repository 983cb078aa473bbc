"""Captions name one person, say what the clip does, and are varied."""

import re

import numpy as np
import pytest

from magicmirror.data import caption_phrases, caption_vocabulary
from magicmirror.data.caption_vocabulary import PERSON_WORDS
from magicmirror.data.captions import (
    PLAIN_STYLE_SHARE,
    clip_caption,
    image_caption,
    sample_clip_spec,
    sample_image_spec,
    sample_motions,
    sample_person_word,
)
from magicmirror.data.motion import MOTIONS, MotionCue
from magicmirror.data.style import STYLES
from magicmirror.errors import ConfigError
from magicmirror.pipeline.person_word import find_person_word

CAMERA = {"zoom_in", "zoom_out", "pan_left", "pan_right"}
TELLING = {
    "turn_left": "left",
    "turn_right": "right",
    "tilt_left": "left",
    "tilt_right": "right",
    "pan_left": "left",
    "pan_right": "right",
    "look_up": "up|raise|raising|lift|back",
    "look_down": "down|lower|bow|drop|forward",
    "nod": "nod|yes|up and down",
    "shake": "shak|denie|no |no$|side to side|left and right",
    "blink": "blink|eye",
    "smile": "smil|grin",
    "open_mouth": "mouth|jaw|gasp|lips|aah",
    "talk": "talk|speak|tell|say|chat|interview|explain|recit|answer",
    "zoom_in": "zooms in|closer|pushes in|towards|approaches|tightens|dollies in|closes in|fills|magnifies",
    "zoom_out": "zooms out|back|widens|away|wider|dollies out|retreats|opens up|shrinks",
    "still": r"still|without moving|steady|barely|motionless|quietly|calmly|straight|(look|fac)\w+ (at )?the camera",
}


@pytest.fixture(scope="module")
def sampled():
    rng = np.random.default_rng(0)
    groups = list(PERSON_WORDS)
    rows = []
    for index in range(3000):
        word = sample_person_word(rng, groups[index % len(groups)])
        rows.append((word, sample_clip_spec(rng, word)))
    return rows


def test_one_trigger_directly_after_the_person_word(sampled):
    for word, spec in sampled:
        assert len(re.findall(rf"\b{word} img\b", spec.caption, re.IGNORECASE)) == 1
        assert spec.caption.lower().count("img") == 1
        assert find_person_word(spec.caption).word.lower() == word.split()[-1]


def test_captions_are_clean_and_short(sampled):
    for _, spec in sampled:
        assert not re.search(r"[{}]|  | ,|,,|^,|\ba [aeiou]\w+ img", spec.caption), spec.caption
    lengths = [len(spec.caption.split()) for _, spec in sampled]
    assert max(lengths) <= 33 and np.mean(lengths) < 18


def test_vocabulary_is_several_hundred_words(sampled):
    words = {word for _, spec in sampled for word in re.findall(r"[a-z0-9'-]+", spec.caption.lower())}
    assert len(words) > 450


def test_the_first_vocabulary_is_a_part_with_the_same_meaning():
    """Weights trained on it are shipped, and prompts for them are checked against it."""
    for table in ("PERSON_WORDS", "ACTIONS", "CAMERA", "ADVERBS", "STYLE_CLAUSES"):
        old, new = getattr(caption_phrases, table), getattr(caption_vocabulary, table)
        for name, phrases in old.items():
            assert new[name][: len(phrases)] == phrases
    assert set(caption_vocabulary.ACTIONS) - set(caption_phrases.ACTIONS) == {"open_mouth", "talk"}


def test_every_way_to_name_a_person_is_found_in_a_prompt():
    for words in PERSON_WORDS.values():
        for word in words:
            assert find_person_word(f"close-up of a {word} img who nods").word == word.split()[-1]
            if word != "politician":  # needs the trigger, as any word that is in no list
                assert find_person_word(f"a {word} nods").word == word.split()[-1]


def test_every_motion_and_style_occurs(sampled):
    motions = {cue.name for _, spec in sampled for cue in spec.motions}
    assert motions == set(MOTIONS)
    styles = [spec.style for _, spec in sampled]
    assert set(styles) == set(STYLES)
    assert styles.count("none") / len(styles) == pytest.approx(PLAIN_STYLE_SHARE, abs=0.04)


@pytest.mark.parametrize("name", MOTIONS)
def test_caption_tells_the_motion(name):
    rng = np.random.default_rng(1)
    opposite = {"left": "right", "right": "left"}
    for _ in range(60):
        caption = clip_caption(rng, "woman", (MotionCue(name),), "none")
        assert re.search(TELLING[name], caption, re.IGNORECASE), caption
        if TELLING[name] in opposite:
            assert opposite[TELLING[name]] not in caption
        assert (name in CAMERA) == bool(
            re.search(r"camera \w+ ?\w* ?\w*|view|lens|shot |picture|frame|face ", caption) and name in CAMERA
        )


def test_pace_and_strength_are_told():
    rng = np.random.default_rng(2)
    for strength, pace, words in (
        ("slight", "normal", "slightly|a little|bit|barely|faint|subtl|light"),
        ("normal", "slow", "slow|gent|gradual|soft|smooth|calm|unhurried|leisure"),
        ("normal", "quick", "quick|sudden|rapid|swift|fast|abrupt|brisk|hast|prompt"),
    ):
        for name in ("turn_left", "look_up", "tilt_right", "smile", "zoom_in", "pan_right"):
            for _ in range(10):
                caption = clip_caption(rng, "man", (MotionCue(name, strength, pace),), "none")
                assert re.search(words, caption, re.IGNORECASE), caption


def test_pronouns_follow_the_person():
    rng = np.random.default_rng(3)
    for word, right, wrong in (
        ("man", "his", "her|their"),
        ("lady", "her", "his|their"),
        ("person", "their", "his|her"),
    ):
        captions = [clip_caption(rng, word, (MotionCue("shake"),), "none") for _ in range(30)]
        assert any(re.search(rf"\b{right}\b", caption) for caption in captions)
        assert not any(re.search(rf"\b({wrong})\b", caption) for caption in captions)


def test_style_is_told():
    rng = np.random.default_rng(4)
    plain = {image_caption(rng, "man", "none") for _ in range(400)}
    for style, word in (
        ("snow", "snow"),
        ("rain", "rain|shower"),
        ("sepia", "sepia|antique"),
        ("light_leak", "leak|flare"),
    ):
        assert all(re.search(word, image_caption(rng, "man", style), re.IGNORECASE) for _ in range(40))
        assert not any(re.search(word, caption, re.IGNORECASE) for caption in plain)


def test_two_motions_are_of_different_groups():
    rng = np.random.default_rng(5)
    pairs = [motions for motions in (sample_motions(rng) for _ in range(600)) if len(motions) == 2]
    assert 100 < len(pairs) < 240
    for first, second in pairs:
        assert MOTIONS[first.name].group != MOTIONS[second.name].group
        assert "still" not in (first.name, second.name)


def test_stills_have_no_motion():
    spec = sample_image_spec(np.random.default_rng(6), "girl")
    assert spec.motions == () and "girl img" in spec.caption


def test_sampling_follows_from_the_generator():
    first, second = (sample_clip_spec(np.random.default_rng(7), "man") for _ in range(2))
    assert first == second


def test_wrong_arguments_are_refused():
    with pytest.raises(ConfigError, match="robot"):
        sample_person_word(np.random.default_rng(0), "robot")
    with pytest.raises(ConfigError, match="needs a motion"):
        clip_caption(np.random.default_rng(0), "man", (), "none")
