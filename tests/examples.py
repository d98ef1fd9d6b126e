"""How much of what a property holds for is tried: everything in `make test-all`, a part without what is marked slow."""

import pytest
from hypothesis import settings

WHOLE = 100
PROFILES = {"whole": WHOLE, "quick": WHOLE // 5}
for _name, _count in PROFILES.items():
    settings.register_profile(_name, max_examples=_count, deadline=None, derandomize=True)


def load(quick: bool) -> None:
    """Before tests are collected."""
    settings.load_profile("quick" if quick else "whole")


def examples(count: int) -> settings:
    """How many hypothesis draws, instead of 100; a fifth of them without what is slow."""
    return settings(max_examples=max(1, count * settings.default.max_examples // WHOLE))


def first(values, count: int = 1) -> list:
    """Parameters: the first values; the others are marked slow."""
    return [pytest.param(one, marks=() if at < count else pytest.mark.slow) for at, one in enumerate(values)]
