"""Costs on paper: their units, entries and notes, shared by Tables 4 and 5 and Figure 7."""

from __future__ import annotations

import math
from dataclasses import replace

from plphp_core.analysis.bootstrap import MISSING, Estimate
from plphp_core.analysis.costs import DECODE, EVALUATION, FEWEST, KV, RETENTION, TIMES, Costs
from plphp_core.reporting import notes
from plphp_core.reporting.table_model import NA, TableColumn
from plphp_core.reporting.table_spec import NumberColumn, share, signed_percent

APART = "‡"  # beside times that are not compared


def kv_unit(costs: Costs) -> tuple[str, int]:
    """Name and bytes of the unit that fits the table's caches."""
    largest = max((costs.value(index, KV).value for index in costs.cells()), default=0.0)
    return ("KiB", 2**10) if largest < 2**20 else ("MiB", 2**20) if largest < 2**30 else ("GiB", 2**30)


def size(costs: Costs, inline: bool = False) -> NumberColumn:
    """Mean KV cache of a row's samples in `kv_unit`."""
    unit, scale = kv_unit(costs)
    places = _published(costs, "kv_cache_size")
    heading = TableColumn(unit, "KV cache")
    return NumberColumn(heading, lambda index: costs.value(index, KV), scale=1 / scale, inline=inline, published=places)


def saved(costs: Costs) -> NumberColumn:
    """Share of the prompt's KV bytes not held."""

    def estimate(index: int) -> Estimate:
        cell = costs.cell(index)
        return MISSING if cell is None else replace(MISSING, value=cell.efficiency.kv_saved)

    return NumberColumn(TableColumn("saved", "KV cache"), estimate, share, spread=False)


def decode(costs: Costs, inline: bool = False) -> NumberColumn:
    """Median decode time per token in ms."""
    return NumberColumn(
        TableColumn("ms/token", "Decode"),
        lambda index: costs.value(index, DECODE),
        scale=1.0,
        inline=inline,
        mark=lambda index: APART * (index in costs.apart),
        published=_published(costs, "decode_latency"),
    )


def seconds(costs: Costs) -> NumberColumn:
    """Evaluation time in s."""
    return NumberColumn(
        TableColumn("s", "Evaluation"),
        lambda index: replace(MISSING, value=costs.seconds(index)),
        scale=1.0,
        spread=False,
        mark=lambda index: APART * (index in costs.apart),
        published=_published(costs, "evaluation_time"),
    )


def retention(costs: Costs) -> NumberColumn:
    """Share of the vision tokens kept."""
    heading = TableColumn("kept", "Vision")
    return NumberColumn(heading, lambda index: costs.value(index, RETENTION), share, spread=False)


def change(costs: Costs, quantity: str, group: str, inline: bool = False) -> NumberColumn:
    """Change against Uncompressed; "reference" in Uncompressed's own row."""
    return NumberColumn(
        TableColumn("change", group),
        lambda index: costs.change(index, quantity),
        signed_percent,
        inline=inline,
        instead=lambda index: "reference" * (index == costs.results.reference and costs.cell(index) is not None),
    )


def _published(costs: Costs, name: str) -> tuple[tuple[str, str], ...]:
    """Where published costs stand; the paper may not say on which benchmark it measured them."""
    return (costs.benchmark, name), (NA, name)


def conditions(costs: Costs, profile: str) -> list[str]:
    """Profile, run, samples and images; what the times are worth on this profile."""
    parts = [costs.results]
    found = [notes.profile(profile, several=False), *notes.run(parts), *notes.samples(parts), *notes.images(parts)]
    if profile == "toy":
        found.append(
            "Times of the toy are those of a small model on the machine named above: they rest on overhead and on "
            "what else the machine was doing, not on the bytes that pruning saves. They show that times are measured, "
            "and nothing about real models."
        )
    return found


def measures(costs: Costs, *quantities: str) -> list[str]:
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
        found += times(costs)
    return found


def times(costs: Costs) -> list[str]:
    """Engine, batch size, intervals of times, and rows that are not compared."""
    cells, options = costs.cells(), costs.results.options
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
    if any(math.isnan(costs.value(index, DECODE).low) for index, cell in cells.items() if cell.n):
        found[0] += f" n/a: fewer than {FEWEST} {'samples' if alone else 'batches'} are too few for an interval."
    if costs.apart:
        listed = "; ".join(f"{costs.results.label(index)}: {why}" for index, why in costs.apart.items())
        found.append(f"{APART} Times that are not compared with Uncompressed: {listed}.")
    unmeasured = [costs.results.label(at) for at in cells if cells[at].n and math.isnan(costs.seconds(at))]
    if unmeasured:
        found.append(
            f"No evaluation time: the cell files of {', '.join(unmeasured)} are older than this column; running the "
            "same command again writes them anew from their journals."
        )
    return found


def unfinished(costs: Costs) -> list[str]:
    """Failed samples, missing cells, and whether there is no Uncompressed to compare with."""
    parts = [costs.results]
    found = notes.failures(parts)
    if found:
        found.append("Failed samples are left out of every mean, median and sum of costs too.")
    if without := notes.unreferenced(parts).strip():
        found.append(without)
    return found + notes.gaps(parts)
