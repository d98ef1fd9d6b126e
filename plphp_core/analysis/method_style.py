"""How methods are named, ordered and drawn, in every table and figure: also methods that came later."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from plphp_core.pruning.method import method_label, method_names


@dataclass(frozen=True)
class MethodStyle:
    """`label` as tables print it; `colour` as #RRGGBB; `marker` of matplotlib, which tells methods apart in grey."""

    label: str
    colour: str
    marker: str


# the colours of Okabe and Ito, which everybody can tell apart
BUILT_IN = {
    "none": MethodStyle("Uncompressed", "#000000", ""),
    "fastv": MethodStyle("FastV", "#E69F00", "s"),
    "vtw": MethodStyle("VTW", "#009E73", "^"),
    "plphp": MethodStyle("PLPHP", "#0072B2", "o"),
}
# of other methods, in pairs: the two numbers have no common divisor, so that all 63 pairs are used
COLOURS = ("#CC79A7", "#D55E00", "#56B4E9", "#882255", "#999933", "#44AA99", "#6A3D9A")
MARKERS = ("D", "v", "P", "X", "<", ">", "p", "*", "h")


def method_style(method: str) -> MethodStyle:
    """The style of a method, the same in every figure. Registered methods never share colour and marker."""
    if method in BUILT_IN:
        return BUILT_IN[method]
    registered = [name for name in sorted(method_names()) if name not in BUILT_IN]
    number = registered.index(method) if method in registered else zlib.crc32(method.encode())
    return MethodStyle(method_label(method), COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)])


def method_order(method: str) -> tuple[int, str]:
    """Sorts methods as the paper lists them: uncompressed, FastV, VTW, further ones by name, PLPHP."""
    first = ("none", "fastv", "vtw")
    return (first.index(method), "") if method in first else (4, "") if method == "plphp" else (3, method)
