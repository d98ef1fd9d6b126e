"""Costs on paper: their units, entries and notes, shared by Tables 4 and 5 and Figure 7."""

from __future__ import annotations

import math
from dataclasses import replace

from plphp_core.analysis.bootstrap import MISSING
from plphp_core.analysis.estimates import DECODE, EVALUATION, FEWEST, KV, KV_SAVED, RETENTION, TIMES
from plphp_core.analysis.results import Results
from plphp_core.reporting import notes
from plphp_core.reporting.table_model import NA, TableColumn
from plphp_core.reporting.table_spec import NumberColumn, share, signed_percent

APART = "‡"  # beside times that are not compared


def kv_unit(results: Results, benchmark: str) -> tuple[str, int]:
    """Name and bytes of the unit that fits the table's caches."""
    largest = max((results.value(index, benchmark, KV).value for index in results.on(benchmark)), default=0.0)
    return ("KiB", 2**10) if largest < 2**20 else ("MiB", 2**20) if largest < 2**30 else ("GiB", 2**30)


def size(results: Results, benchmark: str, inline: bool = False) -> NumberColumn:
    """Mean KV cache of a row's samples in `kv_unit`."""
    unit, scale = kv_unit(results, benchmark)
    places = _published(benchmark, "kv_cache_size")
    heading = TableColumn(unit, "KV cache")
    return NumberColumn(
        heading, lambda index: results.value(index, benchmark, KV), scale=1 / scale, inline=inline, published=places
    )


def saved(results: Results, benchmark: str) -> NumberColumn:
    """Share of the prompt's KV bytes not held."""
    heading = TableColumn("saved", "KV cache")
    return NumberColumn(heading, lambda index: results.value(index, benchmark, KV_SAVED), share, spread=False)


def decode(results: Results, benchmark: str, inline: bool = False) -> NumberColumn:
    """Median decode time per token in ms."""
    return NumberColumn(
        TableColumn("ms/token", "Decode"),
        lambda index: results.value(index, benchmark, DECODE),
        scale=1.0,
        inline=inline,
        mark=lambda index: APART * bool(results.apart(index, benchmark)),
        published=_published(benchmark, "decode_latency"),
    )


def seconds(results: Results, benchmark: str) -> NumberColumn:
    """Evaluation time in s."""
    return NumberColumn(
        TableColumn("s", "Evaluation"),
        lambda index: replace(MISSING, value=results.seconds(index, benchmark)),
        scale=1.0,
        spread=False,
        mark=lambda index: APART * bool(results.apart(index, benchmark)),
        published=_published(benchmark, "evaluation_time"),
    )


def retention(results: Results, benchmark: str) -> NumberColumn:
    """Share of the vision tokens kept."""
    heading = TableColumn("kept", "Vision")
    return NumberColumn(heading, lambda index: results.value(index, benchmark, RETENTION), share, spread=False)


def change(results: Results, benchmark: str, quantity: str, group: str, inline: bool = False) -> NumberColumn:
    """Change against Uncompressed; "reference" in Uncompressed's own row."""
    return NumberColumn(
        TableColumn("change", group),
        lambda index: results.change(index, benchmark, quantity),
        signed_percent,
        inline=inline,
        instead=lambda index: "reference" * (index == results.reference and index in results.on(benchmark)),
    )


def _published(benchmark: str, name: str) -> tuple[tuple[str, str], ...]:
    """Where published costs stand; the paper may not say on which benchmark it measured them."""
    return (benchmark, name), (NA, name)


def conditions(results: Results, profile: str) -> list[str]:
    """Profile, run, samples and images; what the times are worth on this profile."""
    parts = [results]
    found = [notes.profile(profile, several=False), *notes.run(parts), *notes.samples(parts), *notes.images(parts)]
    if profile == "toy":
        found.append(
            "Times of the toy are those of a small model on the machine named above: they rest on overhead and on "
            "what else the machine was doing, not on the bytes that pruning saves. They show that times are measured, "
            "and nothing about real models."
        )
    return found


def measures(results: Results, benchmark: str, *quantities: str) -> list[str]:
    """What the chosen quantities are, and what their comparison rests on."""
    said = {
        RETENTION: (
            "Vision kept (the paper's RR): share of the vision tokens in the cache, mean over layers and samples."
        ),
        KV: (
            "KV cache: bytes that the prompt's keys and values occupy after the prefill, all layers, mean over "
            "samples; new tokens come on top. Saved: share of the prompt's full KV bytes that is not held."
        ),
        DECODE: (
            "Decode ms/token: time of the decode steps divided by their number and by the samples of the batch, median "
            "over samples; the prefill and the first token are not in it."
        ),
        EVALUATION: (
            "Evaluation time: sum over the answered samples of prefill (vision encoder, scoring and pruning included) "
            "and decode, each batch's time shared equally among its samples. Not in it: loading, image processing, "
            "metrics, and whatever passed between the runs of a resumed evaluation."
        ),
    }
    found = [said[quantity] for quantity in quantities]
    if set(quantities) & set(TIMES):
        found += times(results, benchmark)
    return found


def times(results: Results, benchmark: str) -> list[str]:
    """Engine, batch size, intervals of times, and rows that are not compared."""
    cells, options = results.on(benchmark), results.options
    engines = ", ".join(sorted({cell.engine for cell in cells.values()}))
    sizes = sorted({cell.batch_size for cell in cells.values() if cell.batch_size is not None})
    batch = ", ".join(map(str, sizes)) or "unrecorded"
    alone = sizes == [1]
    found = [
        f"Times: engine {engines}, batch size {batch}. {options.confidence:.0%} intervals by resampling "
        f"{'samples' if alone else 'whole batches, as the samples of one share its time'} (percentile bootstrap, "
        f"{options.resamples:,} resamples, seed {options.seed}); changes are paired. Rows are measured one after "
        "the other: whatever else the machine did meanwhile is in their differences, not in the intervals."
    ]
    if any(math.isnan(results.value(index, benchmark, DECODE).low) for index, cell in cells.items() if cell.n):
        found[0] += f" n/a: fewer than {FEWEST} {'samples' if alone else 'batches'} are too few for an interval."
    if apart := {index: why for index in cells if (why := results.apart(index, benchmark))}:
        listed = "; ".join(f"{results.label(index)}: {why}" for index, why in apart.items())
        found.append(f"{APART} Times that are not compared with Uncompressed: {listed}.")
    unmeasured = [results.label(at) for at in cells if cells[at].n and math.isnan(results.seconds(at, benchmark))]
    if unmeasured:
        found.append(
            f"No evaluation time: the cell files of {', '.join(unmeasured)} are older than this column; running the "
            "same command again writes them anew from their journals."
        )
    return found


def unfinished(results: Results) -> list[str]:
    """Failed samples, missing cells, and whether there is no Uncompressed to compare with."""
    parts = [results]
    found = notes.failures(parts)
    if found:
        found.append("Failed samples are left out of every mean, median and sum of costs too.")
    if without := notes.unreferenced(parts).strip():
        found.append(without)
    return found + notes.gaps(parts)
