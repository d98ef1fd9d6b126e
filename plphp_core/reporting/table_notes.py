"""Which notes a table has: NOTES is the vocabulary of its columns and of what its file can name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import Results
from plphp_core.config.table_rows import SYMBOLS
from plphp_core.records.depth_rule import DepthRule, load_rule, rule_path
from plphp_core.reporting import cost_columns, notes, sweep
from plphp_core.reporting.configured import is_planned, refused_configured
from plphp_core.reporting.published import claims_quoted
from plphp_core.reporting.table_content import TableContent

DEFAULT = "*"  # beside the parameters with which the other tables of a profile are run


def _thresholds(content: TableContent) -> list[str]:
    """PLPHP's α and β, which a profile may set for each model."""
    said: dict[str, list[str]] = {}
    for part in content.parts:
        for row in part.rows:
            if row.method == "plphp" and {"alpha", "beta"} <= set(row.params):
                names = said.setdefault(f"α={row.params['alpha']:g}, β={row.params['beta']:g}", [])
                names += [part.title] * (part.title not in names)
    listed = "; ".join(f"{values} ({', '.join(names)})" for values, names in said.items())
    return [f"PLPHP's thresholds: {listed}."] if said else []


def _held(content: TableContent) -> list[str]:
    """Of a table whose rows are named by single parameters: what the mark is, and the methods' other parameters."""
    part, head = content.parts[0], set(content.layout.head)
    found = [f"{DEFAULT} the values with which the other tables of this profile are run."]
    for method in dict.fromkeys(row.method for row in part.rows if row.method != "none"):
        others = {name: value for name, value in content.defaults(method, part).items() if name not in head}
        shared = [
            f"{SYMBOLS.get(name, name)} = {value:g}"
            for name, value in others.items()
            if isinstance(value, (int, float))
            and all(row.params.get(name) == value for row in part.rows if row.method == method)
        ]
        found += [f"{method_style(method).label}: {', '.join(shared)} throughout."] if shared else []
    return [" ".join(found)]


def _skipped(content: TableContent) -> list[str]:
    left_out = [
        f"{part.title} on {name}" for part in content.parts for name in part.skipped if name not in part.asked()
    ]
    return [f"–: the table leaves out {', '.join(left_out)}; table.skip=[] runs them."] if left_out else []


def _refused(content: TableContent) -> list[str]:
    name, profile = content.layout.name, content.profile
    found = dict.fromkeys(one for part in content.parts for one in refused_configured(name, profile, part.model))
    return [f"Combinations that the method refuses: {'; '.join(found)}."] if found else []


def _gains(content: TableContent) -> list[str]:
    """What stands in parentheses behind scores."""
    wanted, part = content.layout.gains, content.parts[0]
    shown = [row.label for row in part.rows if row.method != "none" and (wanted is None or row.method in wanted)]
    names = ", ".join(dict.fromkeys(shown))
    return [f"In parentheses behind the scores of {names}: {notes.CHANGES[part.options.gains]}."] if shown else []


def _emphasis(content: TableContent) -> list[str]:
    """What is bold."""
    meanings = {"best": notes.ranking(content.parts), "none": "",
                "uncompressed": "Bold: above the same model uncompressed, compared as printed."}  # fmt: skip
    return [meanings[content.layout.emphasis]]


def _untrained(content: TableContent) -> list[str]:
    names = [part.title for part in content.parts if part.untrained]
    return [f"{', '.join(names)}: a stand-in that was never trained; its scores mean nothing."] if names else []


def _published(content: TableContent) -> list[str]:
    if not content.layout.published:
        return []
    return ["As published: in the units the paper prints." if any(content.references.values()) else notes.UNPUBLISHED]


def _vtw_rule(content: TableContent) -> list[str]:
    """What VTW's own rule says of its K, where it was applied."""
    folder, profile = content.asked.options.results, content.profile
    return [
        said
        for part in content.parts
        if part.cells
        for said in vtw_rule(load_rule(rule_path(folder, profile, part.model)), part)
    ]


def vtw_rule(rule: DepthRule | None, results: Results) -> list[str]:
    """What the rule chooses and what it says of the K in the table; nothing without a result."""
    if rule is None:
        return []
    ours = next(iter(results.cells.values()))
    if (rule.model, rule.revision) != (results.model, ours.revision):
        return ["VTW's own rule was applied to other weights than this table's: scripts/choose_vtw_k.py does it again."]
    tabulated = dict.fromkeys(int(row.params["K"]) for row in results.rows if row.method == "vtw")
    known = (f"K={K}: {_nats(rule.divergence[K])}" for K in tabulated if K in rule.divergence)
    rest = f" Of the K in this table: {', '.join(known)} nats." if set(tabulated) & set(rule.divergence) else ""
    where = f"{rule.samples} samples of {', '.join(rule.benchmarks)}; {rule.dtype}"
    if rule.chosen is None:
        lowest = min(rule.divergence, key=rule.divergence.__getitem__)
        said = f"chooses no K: none of {min(rule.divergence)} to {max(rule.divergence)} is below, the nearest is "
        said += f"K={lowest} with {_nats(rule.divergence[lowest])} nats"
    else:
        said = f"chooses K = {rule.chosen} ({_nats(rule.divergence[rule.chosen])} nats)"
    return [
        f"VTW's own rule, the first K whose mean KL(P_vtw to P_full) is at most {rule.eta:g} nats, {said}, on {where}. "
        f"It begins at K = {min(rule.divergence)}.{rest}"
    ]


def _nats(value: float) -> str:
    return f"{value:.2g}" if value else "0"


def _profile(content: TableContent) -> list[str]:
    depth = any(row.method in ("fastv", "vtw") for part in content.parts for row in part.rows)
    scaled = " Layer numbers K of FastV and VTW are scaled to the toy's depth." * (depth and content.profile == "toy")
    return [notes.profile(content.profile, content.several) + scaled]


def _of_cost(quantity: str) -> Note:
    return lambda content: [cost_columns.SENTENCES[quantity]]


Note = Callable[[TableContent], Iterable[str]]
NOTES: Mapping[str, Note] = {
    "profile": _profile,
    "untrained": _untrained,
    "run": lambda content: notes.run(content.parts),
    "samples": lambda content: notes.samples(content.parts),
    "images": lambda content: notes.images(content.parts),
    "scores": lambda content: [notes.scores(content.parts)],
    "emphasis": _emphasis,
    "gains": _gains,
    "average": lambda content: [notes.average(content.parts)],
    "unreferenced": lambda content: [notes.unreferenced(content.parts)],
    "vision_kept": lambda content: [notes.VISION_KEPT],
    "kv_saved": lambda content: [notes.KV_SAVED],
    **{name: _of_cost(quantity) for name, quantity in cost_columns.NAMES.items()},
    "times": lambda content: cost_columns.times(content.parts, content.profile),
    "own_averages": sweep.notes,
    "held": _held,
    "thresholds": _thresholds,
    "vtw_rule": _vtw_rule,
    "skipped": _skipped,
    "refused": _refused,
    "claims": lambda content: claims_quoted(content.asked.options.published, content.layout.claims, content.profile),
    "published": _published,
    "failures": lambda content: notes.failures(content.parts),
    "gaps": lambda content: notes.gaps(content.parts) if is_planned(content.layout.name) else [],
}
FIRST = ("profile", "untrained", "run", "samples", "images")  # of every table, the most important ones
LAST = ("skipped", "refused", "claims", "published", "failures", "gaps")


def sentences(content: TableContent, names: Iterable[str]) -> list[str]:
    """The sentences below a table: those of every table, of its columns (`names`), and those that its file lists."""
    found: list[str] = []
    for name in dict.fromkeys((*FIRST, *names, *content.layout.notes, *LAST)):
        found += [one for one in (NOTES[name](content) if name in NOTES else [name]) if one]
    return found
