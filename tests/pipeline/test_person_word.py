import pytest

from magicmirror.errors import PromptError
from magicmirror.pipeline.person_word import NOUNS_BY_GROUP, find_person_word, remove_trigger, token_position


@pytest.mark.parametrize(
    ("prompt", "text", "word"),
    [
        ("A man img smiles", "A man smiles", "man"),
        ("a woman img, in a red coat", "a woman, in a red coat", "woman"),
        ("an elderly man img reads", "an elderly man reads", "man"),
        ("A wizard with a man. The cosplayer img waves", "A wizard with a man. The cosplayer waves", "cosplayer"),
        ("une sorcière img", "une sorcière", "sorcière"),
        ("a boy img and a dog IMG", "a boy and a dog", "boy"),
        ("img a girl sings", "a girl sings", "girl"),
        ("a img of a girl", "a of a girl", "girl"),
        ("a baby's img face", "a baby's face", "baby"),
    ],
)
def test_trigger_names_the_word_and_is_removed(prompt, text, word):
    found = find_person_word(prompt)
    assert (found.prompt, found.word) == (text, word)
    assert remove_trigger(prompt) == text


@pytest.mark.parametrize(
    ("prompt", "word"),
    [
        ("a man smiles", "man"),
        ("A WOMAN laughs", "WOMAN"),
        ("An elderly woman knits", "woman"),
        ("a grandmother's hat", "grandmother"),
        ("a little girl and her father", "girl"),
        ("a baby girl sleeps", "girl"),
        ("a lady doctor examines a baby", "doctor"),
        ("a woman in a baby blue dress", "woman"),
        ("a baby blue car and an old man", "man"),
        ("a man-made lake behind a hiker", "hiker"),
        ("a middle-aged gentleman", "gentleman"),
        ("snowmen and a kid", "kid"),
        ("the actor, doctor by day", "actor"),
        ("He hugs a toddler", "toddler"),
        ("Near the sea, she smiles at him", "she"),
        ("two men watch as he sings", "he"),
    ],
)
def test_word_without_trigger(prompt, word):
    found = find_person_word(prompt)
    assert found.prompt == prompt
    assert found.word == word


def test_leftmost_of_equal_words():
    found = find_person_word("one man looks at another man")
    assert (found.start, found.end) == (4, 7)


@pytest.mark.parametrize("prompt", ["a cat on a mat", "people dance", "the photo.img file", "", "the img", "humanity"])
def test_no_person_is_refused_with_examples(prompt):
    with pytest.raises(PromptError, match=r'"woman".*"a wizard img waves"'):
        find_person_word(prompt)


def test_every_group_of_the_paper_is_found_by_its_own_name():
    for group in ("man", "woman", "elderly man", "elderly woman", "boy", "girl", "baby"):
        assert find_person_word(f"a photo of the {group} outdoors").word == group.split()[-1]
    for nouns in NOUNS_BY_GROUP.values():
        for noun in nouns:
            assert find_person_word(f"the {noun} walks").word == noun


@pytest.mark.parametrize(
    ("prompt", "token"),
    [("a man, smiles", "▁man"), ("a woman img smiles", "n"), ("A  grandmother's hat", "r"), ("boy", "y")],
)
def test_last_token_of_the_word(tokenizer, prompt, token):
    person = find_person_word(prompt)
    ids = tokenizer(person.prompt).input_ids
    position = token_position(tokenizer, person)
    assert tokenizer.convert_ids_to_tokens(ids)[position] == token
    # The tokens up to there spell the prompt up to the end of the word, and no more.
    assert tokenizer.decode(ids[: position + 1]).split() == person.prompt[: person.end].split()
