"""Colours of methods are seen on white paper, also by those who do not see red or green."""

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np
import pytest

from plphp_core.analysis import method_style as styles
from plphp_core.analysis.method_style import BUILT_IN, COLOURS, is_control, method_style
from plphp_core.pruning import Method
from plphp_core.reporting.figures import attention_by_layer, drawing

PALETTE = {
    *COLOURS,
    *(look.colour for look in BUILT_IN.values()),
    *attention_by_layer.GROUPS,
    attention_by_layer.LINE,
    attention_by_layer.THRESHOLD,
    attention_by_layer.PEAK["color"],
    *drawing.shades(BUILT_IN["plphp"].colour, 5),
}
# Machado, Oliveira, Fernandes 2009, severity 1, of linear RGB
SIGHT = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
}


def linear(colour):
    parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIELAB of linear RGB, in which a distance of 2.3 can just be seen."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    x, y, z = (np.cbrt(one) if one > 0.008856 else 7.787 * one + 16 / 116 for one in xyz / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("colour", sorted(PALETTE))
def test_every_line_has_a_contrast_of_three_on_white(colour):
    assert 1.05 / (linear(colour) @ [0.2126, 0.7152, 0.0722] + 0.05) >= 3


@pytest.mark.parametrize("sight", SIGHT)
def test_the_papers_methods_are_told_apart_by_whoever_looks(sight):
    seen = {name: lab(np.array(SIGHT[sight]) @ linear(look.colour)) for name, look in BUILT_IN.items()}
    assert min(np.linalg.norm(seen[a] - seen[b]) for a, b in combinations(seen, 2)) > 20
    groups = [lab(np.array(SIGHT[sight]) @ linear(colour)) for colour in attention_by_layer.GROUPS]
    assert min(np.linalg.norm(a - b) for a, b in combinations(groups, 2)) > 15


def test_controls_are_dashed_and_methods_are_not(monkeypatch):
    @dataclass(frozen=True)
    class Blind(Method):
        name: ClassVar[str] = "blind"
        control: ClassVar[bool] = True

    made = styles.make_method
    monkeypatch.setattr(styles, "make_method", lambda name: Blind() if name == "blind" else made(name))
    assert method_style("blind").line == "--" and is_control("blind")
    assert {method_style(name).line for name in ("none", "plphp", "fastv", "never heard of")} == {"-"}


def test_every_method_has_a_look_of_its_own_whatever_is_drawn_beside_it(monkeypatch):
    names = {"none", "plphp", *(f"method_{number}" for number in range(40))}
    monkeypatch.setattr(styles, "method_names", lambda: names)
    assert len({(method_style(name).colour, method_style(name).marker) for name in names}) == 42
    assert method_style("unheard of") == method_style("unheard of")
