import unicodedata

import pytest

from camera_trap_al.exceptions import ConfigError
from camera_trap_al.labelling.class_names import ClassNames
from camera_trap_al.query import plain_form

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
    assert NAMES.advice("zzzz").startswith("The classes are: Cat, Füchse, Roe_Deer, cat, red fox. If it is a new one,")


def test_of_many_classes_twenty_are_listed():
    assert "class 19 and 5 more. If" in ClassNames([f"class {i:02}" for i in range(25)]).advice("zzzz")


@pytest.mark.parametrize("word", ["", "Unlabelled", "skip", "CAT", "reh", "a\nb"])
def test_what_cannot_become_a_class(word):
    assert NAMES.new_classes({word: 1}) == {}


def test_words_that_differ_as_spellings_do_are_one_new_class():
    found = NAMES.new_classes({"wolf": 1, "Wolf": 2, " WOLF": 1, "badger": 1, "Badger": 1, "red fox": 9})
    assert found == {"Badger": 2, "Wolf": 4}, "called as most photos have it"


def test_an_alias_may_stand_for_a_class_that_is_not_there_yet():
    names = ClassNames(["deer"], {"Loup": "wolf"})
    assert names.meaning("loup") is None
    assert names.new_classes({"loup": 2, "wolf": 1}) == {"wolf": 3}
    assert names.with_classes(["wolf"]).meaning("LOUP") == "wolf"


def test_aliases_for_classes_that_are_not_there_are_refused_with_the_nearest():
    NAMES.check_aliases()
    with pytest.raises(
        ConfigError, match=r"'Reh' stands for 'Roe_Der', which is no class\. Did you mean \"Roe_Deer\""
    ) as caught:
        ClassNames(["Roe_Deer"], {"Reh": "Roe_Der", "x": "skip", "y": "nothing"}).check_aliases()
    assert len(caught.value.problems) == 2


def test_new_classes_follow_the_others():
    grown = NAMES.with_classes(["badger"])
    assert grown.classes[-1] == "badger"
    assert (grown.meaning("Badger"), grown.meaning("Reh")) == ("badger", "Roe_Deer")


def test_the_plain_form_forgets_case_spaces_and_composition():
    assert plain_form(" Red \t FOX ") == "red fox"
    assert plain_form("e\N{COMBINING ACUTE ACCENT}") == plain_form("É")
