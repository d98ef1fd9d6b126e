"""How methods are named, ordered and drawn, in every table and figure: also methods that came later."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from plphp_core.pruning.method import make_method, method_label, method_names


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
# of other methods, in pairs: the two numbers have no common divisor, so that all 63 pairs are used
COLOURS = ("#AA4499", "#731D00", "#548899", "#882255", "#3D2EBF", "#737373", "#B07D2B")
MARKERS = ("D", "v", "P", "X", "<", ">", "p", "*", "h")


def method_style(method: str) -> MethodStyle:
    """The style of a method, the same in every figure. Registered methods never share colour and marker."""
    if method in BUILT_IN:
        return BUILT_IN[method]
    registered = [name for name in sorted(method_names()) if name not in BUILT_IN]
    number = registered.index(method) if method in registered else zlib.crc32(method.encode())
    look = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
    return MethodStyle(method_label(method), *look, "--" if is_control(method) else "-")


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
