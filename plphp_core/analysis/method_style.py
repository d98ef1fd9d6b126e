"""How methods are named, ordered and drawn, in every table and figure: also methods that came later."""

from __future__ import annotations

import zlib
from contextlib import suppress
from dataclasses import dataclass

from plphp_core.pruning.method import Method, make_method, method_label, method_names


@dataclass(frozen=True)
class MethodStyle:
    """`label` as tables print it; `colour` as #RRGGBB; `marker` of matplotlib, which tells methods apart in grey;
    `line`: dashed for controls, which look at nothing that a method looks at.
    """

    label: str
    colour: str
    marker: str
    line: str = "-"


# of Okabe and Ito's colours those with a contrast of 3 on white
BUILT_IN = {
    "none": MethodStyle("Uncompressed", "#000000", ""),
    "fastv": MethodStyle("FastV", "#D55E00", "s"),
    "vtw": MethodStyle("VTW", "#009E73", "^"),
    "plphp": MethodStyle("PLPHP", "#0072B2", "o"),
}
# of other methods: colours tell those of one group apart, markers the groups, and what a group has beyond its colours
COLOURS = ("#AA4499", "#731D00", "#548899", "#882255", "#3D2EBF", "#737373", "#B07D2B")
MARKERS = ("D", "v", "P", "X", "<", "h", ">", "p", "*")
VERBS = ("encode", "withdraw", "compress")  # in the order in which they happen
GROUPS = ("controls", *VERBS)  # of methods in a figure


def method_style(method: str) -> MethodStyle:
    """The style of a method, the same in every figure. Registered methods never share colour and marker."""
    if method in BUILT_IN:
        return BUILT_IN[method]
    number = zlib.crc32(method.encode())
    colour, marker = number % len(COLOURS), number // len(COLOURS)
    others, first = sorted(set(method_names()) - set(BUILT_IN)), 0
    for group in GROUPS:
        names = [name for name in others if group_of(name) == group]
        if method in names:
            colour, marker = names.index(method) % len(COLOURS), first + names.index(method) // len(COLOURS)
        first += -(-len(names) // len(COLOURS))
    look = COLOURS[colour], MARKERS[marker % len(MARKERS)]
    return MethodStyle(method_label(method), *look, "--" if is_control(method) else "-")


def group_of(method: str) -> str:
    """One of GROUPS; "" for "none"."""
    return "controls" if is_control(method) else verb_of(method)


def verb_of(method: str) -> str:
    """What a method does first to vision tokens, one of VERBS; "" for "none", the last for one that is not known."""
    if method == "none":
        return ""
    with suppress(ValueError):
        kind = type(make_method(method))
        return next((verb for verb in VERBS if getattr(kind, verb) is not getattr(Method, verb)), VERBS[-1])
    return VERBS[-1]


def is_control(method: str) -> bool:
    """Whether a method is there to be beaten: its class says `control = True`. False for one that is not known."""
    try:
        return bool(getattr(make_method(method), "control", False))
    except ValueError:
        return False


def method_order(method: str) -> tuple[int, str]:
    """Sorts methods as the paper lists them: uncompressed, FastV, VTW, further ones by name, PLPHP."""
    first = ("none", "fastv", "vtw")
    return (first.index(method), "") if method in first else (4, "") if method == "plphp" else (3, method)
