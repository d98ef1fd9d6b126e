"""Marked are the words that the closest other text does not have at their place, and no others."""

import pytest

from plphp_core.analysis.marked_words import marked_words


@pytest.mark.parametrize("text, others, expected", [
    ("a red square", ["a red square"], []),
    ("A red square.", ["a red, square"], []),  # capitals and punctuation say nothing
    ("a blue square", ["a red square"], ["blue"]),
    ("red left of blue", ["blue left of red"], ["red", "blue"]),  # the right words at the wrong places
    ("a red big square", ["a red square"], ["big"]),
    ("a square", ["a red square"], []),  # what is missing is not there to be marked
    ("two rings .", ["one ring", "two rings"], []),  # the closest one counts; a mark alone is no word
    ("anything at all", [], []),
    ("", ["a ring"], []),
    ("a ring", [""], ["a", "ring"]),
])  # fmt: skip
def test_words_that_differ(text, others, expected):
    found = marked_words(text, others)
    assert [word for word, _ in found] == text.split()
    assert [word for word, differs in found if differs] == expected
