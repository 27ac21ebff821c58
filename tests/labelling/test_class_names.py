import unicodedata

import pytest

from camera_trap_al.labelling.class_names import ClassNames, plain_form

NAMES = ClassNames(["Roe_Deer", "red fox", "Füchse", "Cat", "cat"], {"Reh": "Roe_Deer", "blurred": "unusable"})


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("Roe_Deer", "Roe_Deer"),
        ("ROE_deer", "Roe_Deer"),
        ("Red  Fox", "red fox"),
        ("red\N{NO-BREAK SPACE}fox", "red fox"),
        (unicodedata.normalize("NFD", "füchse"), "Füchse"),
        ("Cat", "Cat"),
        ("cat", "cat"),
        ("CAT", None),  # either
        ("Reh", "Roe_Deer"),
        ("reh", "Roe_Deer"),
        ("blurred", "unusable"),
        ("SKIP", "skip"),
        ("Unusable", "unusable"),
        ("redfox", None),
        ("Roe Deer", None),
        ("", None),
    ],
)
def test_a_word_means_what_it_can_only_mean(word, meaning):
    assert NAMES.meaning(word) == meaning


def test_advice_offers_what_could_be_meant():
    assert NAMES.advice("CAT") == 'It could be "Cat" or "cat": write the one that you mean exactly so.'
    assert NAMES.advice("Roe Deer") == 'Did you mean "Roe_Deer"?'
    assert NAMES.advice("zzzz") == "The classes are: Cat, Füchse, Roe_Deer, cat, red fox."


def test_of_many_classes_twenty_are_listed():
    assert ClassNames([f"class {i:02}" for i in range(25)]).advice("zzzz").endswith("class 19 and 5 more.")


@pytest.mark.parametrize("word", ["", "Unlabelled", "skip", "CAT", "reh", "a\nb"])
def test_what_cannot_become_a_class(word):
    assert not NAMES.may_become_class(word)


def test_new_classes_follow_the_others():
    grown = NAMES.with_classes(["badger"])
    assert NAMES.may_become_class("badger") and grown.classes[-1] == "badger"
    assert (grown.meaning("Badger"), grown.meaning("Reh")) == ("badger", "Roe_Deer")


def test_the_plain_form_forgets_case_spaces_and_composition():
    assert plain_form(" Red \t FOX ") == "red fox"
    assert plain_form("e\N{COMBINING ACUTE ACCENT}") == plain_form("É")
