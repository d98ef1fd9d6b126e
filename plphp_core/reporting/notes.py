"""Sentences below a table: what every number is, on which samples it rests, what failed and what is missing.

NOTES is the vocabulary: a table has those of its columns and those that its file names. Functions of `parts`, the
models of a table, serve the figures too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from plphp_core.analysis.estimates import DECODE, EVALUATION, KV, PREFILL
from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import Results, protocol
from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.config.table_rows import SYMBOLS
from plphp_core.records.attention_result import AttentionConditions
from plphp_core.records.cell_result import CellResult, evaluated_alone
from plphp_core.records.depth_rule import load_rule, rule_path
from plphp_core.reporting import cost_notes, sweep, vtw_rule
from plphp_core.reporting.configured import is_planned, refused_configured
from plphp_core.reporting.published import claims_quoted
from plphp_core.reporting.table_content import TableContent

PROTOCOLS = {
    "lmms_eval": "lmms-eval's own generation lengths and scoring",
    "llava": "the LLaVA authors' generation length and scoring on SD, IE, VST and MV; captions as in lmms-eval",
}
PROMPTS = {
    "lmms_eval": "as lmms-eval's wrapper of the model makes them",
    "plain": "as the model's own documentation asks for them",
}
CHANGES = {"relative": "relative change against Uncompressed", "points": "difference to Uncompressed in points"}
METRIC_NAMES = {
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "meteor": "METEOR",
    "overall": "Overall",
}  # others by their own name
METRIC_KINDS = {"group_mean": ", unweighted mean over groups of samples", "mean": ", mean over samples"}
DEFAULT = "*"  # beside the parameters with which the other tables of a profile are run
VISION_KEPT = (
    "Vision kept (the paper's RR): share of the vision tokens in the cache, mean over layers, samples, then "
    "benchmarks, as measured."
)
KV_SAVED = (
    "KV saved: share of the prompt's KV bytes not held, from the storage the cache occupies, mean over benchmarks."
)
UNPUBLISHED = "As published: the paper's own cells are not available here and stay n/a."
SLOT_ACCURACY = (
    "Slot accuracy ×100: share of content words (colour, shape, place, change, choice letter) that are "
    "right, mean over samples. Templates inflate ROUGE-L and CIDEr; this does not count them. It is no "
    "metric of the paper.",
    "Average: unweighted mean over benchmarks, with its interval; change: that average relative to Uncompressed.",
)


def profile(name: str, several: bool) -> str:
    """What the profile's models and data are."""
    if name == "paper":
        family = "families" if several else "family"
        return f"Paper profile: the paper's model {family}, benchmarks, methods and settings."
    if name == "toy":
        what = "small models trained" if several else "a small model trained"
        return (
            f"Toy profile: {what} on drawn pictures with the seven benchmarks' fields. It shows that the pipeline "
            "works and how methods fail; it says nothing about the scores of the real models."
        )
    return f"Profile {name}."


def run(parts: Sequence[Results]) -> list[str]:
    """Protocol and prompts, checkpoints, hardware, software."""
    cells = _cells(parts)
    named = next(name for name in map(protocol, parts) if name)
    prompts = cells[0].prompts
    found = [f"Protocol: {named}{_meaning(PROTOCOLS, named)}. Prompts: {prompts}{_meaning(PROMPTS, prompts)}."]
    for part in parts:
        if part.cells:
            first = next(iter(part.cells.values()))
            found.append(f"{weights(part.title, first)}, attention {first.attn_implementation}.")
    return [*found, f"Hardware: {_hardware(cells)}. {_software(parts)}"]


def _meaning(meanings: dict[str, str], name: str) -> str:
    return f" ({meanings[name]})" if name in meanings else ""


def weights(title: str, one: CellResult | AttentionConditions) -> str:
    """Which weights answered: checkpoint, the first twelve digits of its commit or hash, precision."""
    kind, colon, digits = one.revision.rpartition(":")
    return f"{title}: checkpoint {one.checkpoint}, revision {kind}{colon}{digits[:12]}, {one.dtype}"


def _hardware(cells: Iterable[CellResult]) -> str:
    return "; ".join(sorted({name for cell in cells for name in cell.hardware.split("; ")}))


def _software(parts: Sequence[Results]) -> str:
    """Library versions; where cells differ, which ones."""
    places: dict[str, list[str]] = {}
    for part in parts:
        for (index, benchmark), cell in part.cells.items():
            libraries = ", ".join(f"{name} {number}" for name, number in cell.versions.items())
            places.setdefault(libraries, []).append(f"{_name(parts, part, index)} on {benchmark}")
    if len(places) == 1:
        return f"Software: {next(iter(places))}."
    said = (
        f"{software}: {_listed(names)}" for software, names in sorted(places.items(), key=lambda item: -len(item[1]))
    )
    return f"Software differs between cells, so do not read small differences: {'; '.join(said)}."


def _listed(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def samples(parts: Sequence[Results]) -> list[str]:
    """How many samples of each benchmark were asked, and how they were drawn."""
    whole, subset, seeds = [], [], set()
    for benchmark in catalogue().ordered(cell.benchmark for cell in _cells(parts)):
        cell = next((cell for cell in _cells(parts) if cell.benchmark == benchmark), None)
        if cell is None:
            continue
        asked = cell.n + cell.errors
        if cell.limit is not None and asked < cell.population:
            subset.append(f"{benchmark} {asked} of {cell.population}")
            seeds.add(str(cell.limit_seed))
        else:
            whole.append(f"{benchmark} {asked}")
    found = [f"Samples (all there are): {', '.join(whole)}."] if whole else []
    if subset:
        listed = ", ".join(subset)
        found.append(f"Random subsets, seed {', '.join(sorted(seeds))}, not the full benchmarks: {listed} samples.")
    whole_only = dict.fromkeys(
        f"{cell.benchmark} {name}"
        for cell in _cells(parts)
        for name, metric in cell.metrics.items()
        if metric.kind == "whole"
    )
    if whole_only:
        found.append(f"No interval, since the task gives one value of all samples together: {', '.join(whole_only)}.")
    return found


def images(parts: Sequence[Results]) -> list[str]:
    """What was done to images that were not upright RGB; every row of a benchmark sees the same images."""
    done: dict[str, dict[str, int]] = {}
    for cell in _cells(parts):
        if cell.image_notes:
            done.setdefault(cell.benchmark, cell.image_notes)
    if not done:
        return []
    said = (f"{name}: {', '.join(f'{count} {note}' for note, count in found.items())}" for name, found in done.items())
    return [f"Images that were not upright RGB: {'; '.join(said)}."]


def scores(parts: Sequence[Results]) -> str:
    """What the score columns are: metrics with the benchmarks that have them, how they are averaged and scaled."""
    places: dict[tuple[str, str, str], list[str]] = {}
    for name in parts[0].asked():
        for metric, heading in parts[0].headings(name).items():
            found = (cell.metrics.get(metric) for cell in _cells(parts) if cell.benchmark == name)
            kind = next((METRIC_KINDS.get(one.kind, "") for one in found if one is not None), "")
            shown = METRIC_NAMES.get(metric, metric)
            shown += f" ({heading})" * (heading != shown)
            places.setdefault((shown, kind, f"{parts[0].catalogue[name].scale:g}"), []).append(name)
    scales = {scale for *_, scale in places}
    times = f" ×{scales.pop()}" if len(scales) == 1 else ""
    said = (
        f"{metric} on {', '.join(names)}{kind}{'' if times else f', ×{scale}'}"
        for (metric, kind, scale), names in places.items()
    )
    return f"Scores{times}: {'; '.join(said)}.{undefined(parts)}"


def undefined(parts: Sequence[Results]) -> str:
    """On which benchmarks CIDEr has no value, and why; empty if it has one everywhere. Begins with a space."""
    names = evaluated_alone(_cells(parts))
    if not names:
        return ""
    return (
        f" CIDEr is n/a on {', '.join(names)}: it weighs an n-gram by log(N / number of documents with it), which is 0 "
        "for all of them if a single document is scored (N = 1), so that any answer would get 0. From two documents on "
        "it has a value, in which n-grams that all documents share count nothing: few documents, little meaning."
    )


def average(parts: Sequence[Results]) -> str:
    """What the average change runs over."""
    by_columns = parts[0].options.average == "columns"
    counts = [len(part.columns() if by_columns else part.finished()) for part in parts]
    if len(set(counts)) > 1:
        listed = ", ".join(f"{part.title} {count}" for part, count in zip(parts, counts, strict=True))
        over = f"the model's {'score columns' if by_columns else 'benchmarks'} ({listed})"
    elif not by_columns:
        over = f"{counts[0]} benchmarks"
    elif counts[0] == (shown := len(parts[0].score_places(parts[0].asked()))):
        over = f"the {shown} score columns"
    else:
        over = f"the {counts[0]} of {shown} score columns that have results"
    alike = "" if by_columns else " (C and M of a benchmark averaged first)"
    change = f"unweighted mean over {over}{alike} of (score − Uncompressed) / Uncompressed"
    return f"Average change: {change}."


def unreferenced(parts: Sequence[Results]) -> str:
    """Where there is no Uncompressed to compare with, so that changes are n/a; else empty."""
    places = {
        part.title: [name for name in part.finished() if (part.reference, name) not in part.cells]
        for part in parts
        if part.cells
    }
    said = [f"{f'{title}, ' * (len(parts) > 1)}{', '.join(names)}" for title, names in places.items() if names]
    if not said:
        return ""
    return (
        f"Changes are n/a on {'; '.join(said)}, where no cell of Uncompressed is finished: the same run with "
        "method=none brings it."
    )


def ranking(parts: Sequence[Results]) -> str:
    """What bold and underlined mean."""
    compressed = parts[0].options.rank == "compressed"
    among = "the compressed rows (the uncompressed row is not ranked)" if compressed else "all rows"
    return (
        f"Bold: best of a column among {among}; underlined: second. Values that print alike share their mark; where "
        "all do there is none."
    )


def failures(parts: Sequence[Results]) -> list[str]:
    """Which samples have no answer."""
    said = []
    for part in parts:
        for (index, benchmark), cell in part.cells.items():
            if cell.errors:
                example = f" ({' '.join(cell.error_examples[0].split())[:80]})" if cell.error_examples else ""
                place = f"{_name(parts, part, index)} on {benchmark}"
                said.append(f"{place}: {cell.errors} of {cell.n + cell.errors}{example}")
    if not said:
        return []
    listed = "; ".join(said)
    return [f"†k: k samples failed and are left out of every number; they do not count as wrong answers. {listed}."]


def gaps(parts: Sequence[Results]) -> list[str]:
    """Which cells are not finished."""
    said: dict[str, list[str]] = {}
    for part in parts:
        missing = part.missing()
        if len(parts) > 1 and not part.cells:
            said[part.title] = ["all"]
            continue
        for index, benchmark in missing:
            said.setdefault(_name(parts, part, index), []).append(benchmark)
        for index in range(len(part.rows)):
            if [benchmark for at, benchmark in missing if at == index] == part.asked():
                said[_name(parts, part, index)] = ["all"]
    if not said:
        return []
    count = sum(len(part.missing()) for part in parts)
    total = sum(len(part.rows) * len(part.asked()) for part in parts)
    listed = "; ".join(f"{row}: {', '.join(names)}" for row, names in said.items())
    return [f"n/a, not run yet ({count} of {total} cells): {listed}."]


def intervals(parts: Sequence[Results], file: str) -> list[str]:
    """How the intervals were computed; `file` has those of single changes."""
    options = parts[0].options
    kinds = {name: metric.kind for cell in _cells(parts) for name, metric in cell.metrics.items()}
    found = [
        f"Percentile bootstrap, {options.resamples:,} resamples of each benchmark's samples (seed {options.seed}). The "
        "intervals show the choice of samples, not of checkpoint or hardware. All rows share the resamples, so changes "
        "are paired by sample; benchmarks are resampled independently.",
    ]
    if "corpus" in kinds.values():
        found.append(
            "CIDEr and METEOR are not computed anew in each resample: their per-sample scores are averaged (CIDEr's "
            "document frequencies stay those of the whole set) and, as METEOR's corpus value is not the mean of its "
            "per-sample scores, moved by the difference of the two, so that the interval belongs to the printed value."
        )
    if "group_mean" in kinds.values():
        found.append("Means over groups are computed anew in each resample; a group that was not drawn is left out.")
    found.append(
        "n/a: fewer than two samples, samples that all score alike, from which no spread can be drawn, or a resample "
        f"in which the score of Uncompressed is 0. Intervals of single changes: {file}."
    )
    differing = [
        f"{_name(parts, part, index)} on {benchmark}"
        for part in parts
        for index, benchmark in sorted(part.cells, key=lambda at: part.benchmarks.index(at[1]))
        if part.reference is not None
        and (part.reference, benchmark) in part.cells
        and part.paired(index, part.reference, benchmark)
        < max(part.cells[at, benchmark].n for at in (index, part.reference))
    ]
    if differing:
        found.append(
            "Failed samples: the changes of these compare printed scores that rest on not quite the same samples, "
            f"and only the shared ones are paired: {'; '.join(differing)}."
        )
    return found


def _cells(parts: Sequence[Results]) -> list[CellResult]:
    return [cell for part in parts for cell in part.cells.values()]


def _name(parts: Sequence[Results], part: Results, index: int) -> str:
    return f"{part.title} {part.label(index)}" if len(parts) > 1 else part.label(index)


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
    return [f"In parentheses behind the scores of {names}: {CHANGES[part.options.gains]}."] if shown else []


def _emphasis(content: TableContent) -> list[str]:
    """What is bold."""
    meanings = {"best": ranking(content.parts), "none": "",
                "uncompressed": "Bold: above the same model uncompressed, compared as printed."}  # fmt: skip
    return [meanings[content.layout.emphasis]]


def _untrained(content: TableContent) -> list[str]:
    names = [part.title for part in content.parts if part.untrained]
    return [f"{', '.join(names)}: a stand-in that was never trained; its scores mean nothing."] if names else []


def _published(content: TableContent) -> list[str]:
    if not content.layout.published:
        return []
    return ["As published: in the units the paper prints." if any(content.references.values()) else UNPUBLISHED]


def _vtw_rule(content: TableContent) -> list[str]:
    """What VTW's own rule says of its K, where it was applied."""
    folder, profile = content.asked.options.results, content.profile
    return [
        said
        for part in content.parts
        if part.cells
        for said in vtw_rule.note(load_rule(rule_path(folder, profile, part.model)), part)
    ]


def _profile(content: TableContent) -> list[str]:
    depth = any(row.method in ("fastv", "vtw") for part in content.parts for row in part.rows)
    scaled = " Layer numbers K of FastV and VTW are scaled to the toy's depth." * (depth and content.profile == "toy")
    return [profile(content.profile, content.several) + scaled]


def _of_costs(quantity: str) -> Note:
    return lambda content: [cost_notes.QUANTITIES[quantity]]


Note = Callable[[TableContent], Iterable[str]]
NOTES: Mapping[str, Note] = {
    "profile": _profile,
    "untrained": _untrained,
    "run": lambda content: run(content.parts),
    "samples": lambda content: samples(content.parts),
    "images": lambda content: images(content.parts),
    "scores": lambda content: [scores(content.parts)],
    "emphasis": _emphasis,
    "gains": _gains,
    "average": lambda content: [average(content.parts)],
    "unreferenced": lambda content: [unreferenced(content.parts)],
    "vision_kept": lambda content: [VISION_KEPT],
    "kv_saved": lambda content: [KV_SAVED],
    "kv_cache": _of_costs(KV),
    "decode": _of_costs(DECODE),
    "prefill": _of_costs(PREFILL),
    "evaluation": _of_costs(EVALUATION),
    "times": lambda content: cost_notes.times(content.parts, content.profile),
    "own_averages": sweep.notes,
    "held": _held,
    "thresholds": _thresholds,
    "vtw_rule": _vtw_rule,
    "skipped": _skipped,
    "refused": _refused,
    "claims": lambda content: claims_quoted(content.asked.options.published, content.layout.claims, content.profile),
    "published": _published,
    "failures": lambda content: failures(content.parts),
    "gaps": lambda content: gaps(content.parts) if is_planned(content.layout.name) else [],
}
FIRST = ("profile", "untrained", "run", "samples", "images")  # of every table, the most important ones
LAST = ("skipped", "refused", "claims", "published", "failures", "gaps")


def table_notes(content: TableContent, names: Iterable[str]) -> list[str]:
    """The sentences below a table: those of every table, of its columns (`names`), and those that its file lists."""
    found: list[str] = []
    for name in dict.fromkeys((*FIRST, *names, *content.layout.notes, *LAST)):
        found += [one for one in (NOTES[name](content) if name in NOTES else [name]) if one]
    return found
