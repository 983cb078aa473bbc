"""What is said of a prompt beforehand, and that the helper's prompts are ones that the preview model was trained on."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from magicmirror.errors import PromptError
from magicmirror.pipeline.person_word import find_person_word
from magicmirror.pipeline.profiles import find_profile
from magicmirror.serving.prompt_guide import (
    HELPER_MOTIONS,
    HELPER_PERSONS,
    HELPER_STYLES,
    PromptGuide,
    compose_prompt,
    unknown_words,
)


@pytest.fixture(scope="module")
def guide():
    return PromptGuide(find_profile("preview"))


def test_a_prompt_is_counted_as_the_pipeline_counts_it(guide, repository):
    from transformers import T5Tokenizer

    from magicmirror.pipeline.conditioning import count_tokens

    tokenizer = T5Tokenizer.from_pretrained(repository / "assets/models/preview/tokenizer")
    for prompt in ("a woman smiles", "", "a man " * 40, "Ein Mädchen, 42 €!"):
        assert guide.read(prompt).tokens == count_tokens(tokenizer, prompt)
    assert guide.read("a woman smiles").max_tokens == 39
    assert guide.read("a man " * 40).too_long and not guide.read("a woman smiles").too_long


def test_the_longest_prompt_is_the_one_that_generation_takes(guide, repository):
    """At the border, in the pipeline's own words, for either tokenizer class."""
    from transformers import T5Tokenizer

    from magicmirror.pipeline.conditioning import fusion_position

    tokenizer = T5Tokenizer.from_pretrained(repository / "assets/models/preview/tokenizer")
    words = ["a", "man", *["smiles"] * 80]
    for length in range(2, len(words)):
        prompt = " ".join(words[:length])
        notes = guide.read(prompt)
        if not notes.too_long:
            guide.check(prompt)
            fusion_position(tokenizer, find_person_word(prompt), 40)
            longest = length
            continue
        with pytest.raises(PromptError) as here:
            guide.check(prompt)
        with pytest.raises(PromptError) as there:
            fusion_position(tokenizer, find_person_word(prompt), 40)
        assert str(here.value) == str(there.value)
        words_off = length - longest
        assert here.value.remedy == f"Shorten it by about {words_off} word{'s' * (words_off > 1)}."


def test_person_and_unknown_words_are_found(guide):
    notes = guide.read("A wizard img juggles torches, Juggles in the rain")
    assert notes.person == "wizard" and notes.unknown_words == ("juggles", "torches")
    assert guide.read("the camera zooms in").person == ""
    assert guide.read("x" * 5000).person == ""


def test_other_models_know_all_words_and_need_no_tokenizer_here():
    elsewhere = PromptGuide(replace(find_profile("cogvideox-5b"), base="not/on/this/machine"))
    elsewhere.check("a woman juggles " * 100)
    notes = elsewhere.read("a woman juggles")
    assert notes == type(notes)("woman", None, None, ()) and not notes.too_long


def test_every_choice_of_the_helper_gives_a_prompt_that_works(guide):
    prompts = set()
    for person, motion, style in itertools.product(HELPER_PERSONS, HELPER_MOTIONS, HELPER_STYLES):
        prompt = compose_prompt(person, motion, style)
        prompts.add(prompt)
        assert unknown_words(prompt) == () and "{" not in prompt
        assert find_person_word(prompt).word == person.split()[-1]
        assert not guide.read(prompt).too_long
    assert len(prompts) == len(HELPER_PERSONS) * len(HELPER_MOTIONS) * len(HELPER_STYLES)


def test_the_helper_agrees_in_number_gender_and_side():
    assert compose_prompt("elderly woman", "turn_right", "sepia") == (
        "an elderly woman turns her head to the right, in sepia"
    )
    assert compose_prompt("person", "shake") == "a person shakes their head"
    with pytest.raises(PromptError, match="juggle"):
        compose_prompt("man", "juggle")
