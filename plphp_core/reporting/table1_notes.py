"""The notes below Table 1: what every number is, on which samples it rests, what failed and what is missing."""

from __future__ import annotations

from collections.abc import Iterable

from plphp_core.reporting.cells import Cell
from plphp_core.reporting.table1 import BENCHMARKS, MULTI_IMAGE, SCORES, Results

PROTOCOLS = {
    "lmms_eval": "lmms-eval's own prompts, generation lengths and scoring",
    "llava": "the LLaVA authors' generation length and scoring on SD, IE, VST and MV; captions as in lmms-eval",
}


def score_notes(results: Results, profile: str, published: bool) -> list[str]:
    """Notes of the score sheet, most important first."""
    options, cells = results.options, list(results.cells.values())
    notes = [_profile(profile), _run(cells), *_samples(results)]
    notes.append(_scores(cells))
    among = "the compressed rows (the uncompressed row is not ranked)" if options.rank == "compressed" else "all rows"
    notes.append(f"Bold: best of a column among {among}; underlined: second. Values that print alike share their mark.")
    change = {"relative": "relative change against Uncompressed", "points": "difference to Uncompressed in points"}
    notes.append(f"In parentheses behind PLPHP's scores: {change[options.gains]}.")
    notes.append(_average(results))
    notes.append(
        "Vision kept (the paper's RR): share of the vision tokens in the cache, mean over layers, samples, then "
        "benchmarks. KV saved: share of the prompt's KV bytes not held, from the storage the cache occupies, mean "
        "over benchmarks. Both are measured."
    )
    if not published:
        notes.append("As published: the paper's own cells are not available here and stay n/a.")
    return notes + _failures(results) + _gaps(results)


def interval_notes(results: Results) -> list[str]:
    """How the intervals were computed."""
    options = results.options
    notes = [
        (
            f"Percentile bootstrap, {options.resamples:,} resamples of each benchmark's samples (seed "
            f"{options.seed}). The intervals show the choice of samples, not of checkpoint or hardware. All rows "
            "share the resamples, so changes are paired by sample; benchmarks are resampled independently."
        ),
        (
            "CIDEr and METEOR are not computed anew in each resample: their per-sample scores are averaged (CIDEr's "
            "document frequencies stay those of the whole set) and, as METEOR's corpus value is not the mean of its "
            "per-sample scores, moved by the difference of the two, so that the interval belongs to the printed "
            "value."
        ),
        "MV: the category means are computed anew in each resample; a category that was not drawn is left out there.",
        (
            "n/a: fewer than two samples, or a resample in which the score of Uncompressed is 0. Intervals of single "
            "changes: table1_relative.csv."
        ),
    ]
    base = results.reference
    differing = [
        (i, b) for (i, b), n in results.common.items() if n < max(results.cells[i, b].n, results.cells[base, b].n)
    ]
    if differing:
        notes.append(
            "Failed samples: the changes of these compare printed scores that rest on not quite the same samples, "
            f"and only the shared ones are paired: {_places(results, differing)}."
        )
    return notes


def slot_notes() -> list[str]:
    """What slot accuracy is."""
    return [
        (
            "Slot accuracy ×100: share of content words (colour, shape, place, change, choice letter) that are "
            "right, mean over samples. Templates inflate ROUGE-L and CIDEr; this does not count them. It is no "
            "metric of the paper."
        ),
        "Average: unweighted mean over benchmarks, with its interval; change: that average relative to Uncompressed.",
    ]


def _profile(profile: str) -> str:
    if profile == "paper":
        return "Paper profile: the paper's model family, benchmarks, methods and settings."
    if profile == "toy":
        return (
            "Toy profile: a small trained model on drawn pictures with the seven benchmarks' fields. It shows that "
            "the pipeline works and how methods fail; it says nothing about the scores of the real model. Layer "
            "numbers K of FastV and VTW are scaled to the toy's depth."
        )
    return f"Profile {profile}."


def _run(cells: list[Cell]) -> str:
    first = next((cell for cell in cells if cell.benchmark in MULTI_IMAGE), cells[0])
    meaning = f" ({PROTOCOLS[first.protocol]})" if first.protocol in PROTOCOLS else ""
    return (
        f"Protocol: {first.protocol}{meaning}. Checkpoint {first.checkpoint}, revision {first.revision[:12]}, "
        f"{first.dtype}, attention {first.attn_implementation}; hardware: "
        f"{_hardware(cells)}."
    )


def _hardware(cells: list[Cell]) -> str:
    return "; ".join(sorted({name for cell in cells for name in cell.hardware.split("; ")}))


def _scores(cells: list[Cell]) -> str:
    by_set = any(c.metrics.get("rouge_l") and c.metrics["rouge_l"].kind == "group_mean" for c in cells)
    over = "unweighted mean over their data sets" if by_set else "mean over samples"
    return (
        f"Scores ×100: ROUGE-L (R-L) for SD, IE and VST, {over}; Overall, the unweighted mean of the categories, for "
        "MV; CIDEr (C) and METEOR (M) for captions."
    )


def _samples(results: Results) -> list[str]:
    whole, subset, seeds = [], [], set()
    for benchmark in BENCHMARKS:
        cell = next((c for (_, name), c in results.cells.items() if name == benchmark), None)
        if cell is None:
            continue
        asked = cell.n + cell.errors
        if cell.limit is not None and asked < cell.population:
            subset.append(f"{benchmark} {asked} of {cell.population}")
            seeds.add(str(cell.limit_seed))
        else:
            whole.append(f"{benchmark} {asked}")
    notes = [f"Samples (all there are): {', '.join(whole)}."] if whole else []
    if subset:
        listed = ", ".join(subset)
        notes.append(f"Random subsets, seed {', '.join(sorted(seeds))}, not the full benchmarks: {listed} samples.")
    return notes


def _average(results: Results) -> str:
    have = len(results.columns())
    if results.options.average == "columns":
        over = f"the {len(SCORES)} score columns"
        if have < len(SCORES):
            over = f"the {have} of {len(SCORES)} score columns that have results"
    else:
        over = f"{len(results.benchmarks())} benchmarks (C and M of a benchmark averaged first)"
    return f"Average change: unweighted mean over {over} of (score − Uncompressed) / Uncompressed."


def _failures(results: Results) -> list[str]:
    failed = [(index, benchmark) for (index, benchmark), cell in results.cells.items() if cell.errors]
    if not failed:
        return []
    said = []
    for index, benchmark in failed:
        cell = results.cells[index, benchmark]
        example = f" ({' '.join(cell.error_examples[0].split())[:80]})" if cell.error_examples else ""
        said.append(f"{_places(results, [(index, benchmark)])}: {cell.errors} of {cell.n + cell.errors}{example}")
    listed = "; ".join(said)
    return [f"†k: k samples failed and are left out of that entry; they do not count as wrong answers. {listed}."]


def _gaps(results: Results) -> list[str]:
    missing = results.missing()
    if not missing:
        return []
    said: dict[str, list[str]] = {}
    for row, benchmark in missing:
        said.setdefault(f"{row.label} {row.setting}".strip(), []).append(benchmark)
    listed = (f"{row}: {'all' if len(names) == len(BENCHMARKS) else ', '.join(names)}" for row, names in said.items())
    return [f"n/a, not run yet ({len(missing)} of {len(results.rows) * len(BENCHMARKS)} cells): {'; '.join(listed)}."]


def _places(results: Results, places: Iterable[tuple[int, str]]) -> str:
    return "; ".join(f"{_name(results, index)} on {benchmark}" for index, benchmark in places)


def _name(results: Results, index: int) -> str:
    return f"{results.rows[index].label} {results.setting(index)}".strip()
