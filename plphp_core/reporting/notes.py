"""Sentences below a table: what every number is, on which samples it rests, what failed and what is missing.

Functions of `parts`, the models of a table or figure; which of them a table has: `table_notes.NOTES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from plphp_core.analysis.results import Results, protocol
from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.records.attention_result import AttentionConditions
from plphp_core.records.cell_result import CellResult, evaluated_alone
from plphp_core.records.errors import shortlist

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
VISION_KEPT = (
    "Vision kept (the paper's RR): share of the vision tokens in the cache, mean over layers, samples, then "
    "benchmarks, as measured."
)
KV_SAVED = (
    "KV saved: share of the prompt's KV bytes not held, from the storage the cache occupies, mean over benchmarks."
)
LAYERS = "Layers are numbered from 0, as in the code; the paper counts from 1."
UNPUBLISHED = "The paper's own cells are not available here, so no row shows them."
CONTROLS = (
    "Each control keeps as many tokens as PLPHP does with the same parameters, sample by sample: random tokens of "
    "every image; the same number in every layer; one set for all heads of a layer. A change above 0 says that PLPHP's "
    "choice of tokens, layers or heads is worth something; one that does not differ from 0, or lies below, that it is "
    "not."
)
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


def framed(parts: Sequence[Results], front: Iterable[str], own: Iterable[str]) -> list[str]:
    """All sentences of a table: `front`, what was run on what, `own`, what failed or is missing."""
    run_on = [*run(parts), *samples(parts), *images(parts)]
    return [*front, *run_on, *own, *failures(parts), *gaps(parts)]


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
        f"{software}: {shortlist(names, 3)}"
        for software, names in sorted(places.items(), key=lambda item: -len(item[1]))
    )
    return f"Software differs between cells, so do not read small differences: {'; '.join(said)}."


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
        if metric.kind == "whole" and metric.replicates is None
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
