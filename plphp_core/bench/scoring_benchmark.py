"""The scores preset: what rows of attention beside a prefill cost, by how many there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch

from plphp_core.bench.bench_settings import BenchSettings
from plphp_core.bench.bench_tables import BenchColumn, BenchResult, bench_table, decimals, share
from plphp_core.bench.interleaved_rounds import Preemptions, interleaved, spread
from plphp_core.bench.prefill_timing import TimedPrefill
from plphp_core.bench.random_model import RandomModel
from plphp_core.bench.roofline import measure_machine
from plphp_core.pruning.method import Method
from plphp_core.pruning.selection import Selection
from plphp_core.pruning.view import LayerView

SCORING_COLUMNS = (
    BenchColumn("model", "model"),
    BenchColumn("prompt_tokens", "prompt", decimals(0)),
    BenchColumn("rows", "rows", decimals(0)),
    BenchColumn("prefill_ms", "prefill ms", decimals(1)),
    BenchColumn("added_prefill_ms", "scores ms", decimals(2)),
    BenchColumn("added_share_of_prefill", "of prefill", lambda value: share(value, 2)),
    BenchColumn("added_share_q1", "its 25 %", lambda value: share(value, 2)),
    BenchColumn("added_share_q3", "its 75 %", lambda value: share(value, 2)),
)


@dataclass(frozen=True)
class WindowScores(Method):
    """Scores every layer by the last `window` query rows, as SnapKV does, and keeps everything."""

    name: ClassVar[str] = "window_scores"

    window: int = 1

    @property
    def query_rows(self) -> int:
        return self.window

    def compress(self, layer: int, view: LayerView) -> Selection | None:
        view.column_sum(self.window)
        return None


@torch.inference_mode()
def scoring_benchmark(bench: BenchSettings, say: Callable[[str], None] = print) -> BenchResult:
    """One row per model, length and number of score rows. They take turns, a prefill each; the share is within one."""
    machine = measure_machine(bench.device, bench.dtype, bench.bandwidth_mb)
    preemptions, rows = Preemptions(), []
    for name in bench.models:
        one = RandomModel(name, bench)
        one.load()
        for vision in bench.vision_tokens:
            inputs = one.inputs(1, vision)
            timed = [TimedPrefill(one.model, inputs, WindowScores(window)) for window in bench.windows]
            rounds = interleaved(timed, bench.device, bench.prefill_rounds, warm_up=bench.prefill_warm_up)
            for window, timing, of_case in zip(bench.windows, timed, rounds, strict=True):
                added, whole = timing.added[bench.prefill_warm_up :], [milliseconds for (milliseconds,) in of_case]
                shares = spread([own / of for own, of in zip(added, whole, strict=True)])
                rows.append(
                    {
                        "model": name,
                        "prompt_tokens": inputs["input_ids"].shape[1],
                        "rows": window,
                        "prefill_ms": spread(whole).median,
                        "added_prefill_ms": spread(added).median,
                        "added_share_of_prefill": shares.median,
                        "added_share_q1": shares.q1,
                        "added_share_q3": shares.q3,
                    }
                )
                say(f"{name}, {window} rows: {100 * shares.median:.2f} % of a prefill")
    notes = [
        f"Device: {machine.name}; {machine.facts}. {bench.prefill_warm_up} + {bench.prefill_rounds} prefills each.",
        "Scores: everything beside the model's own prefill: reading the prompt, hooks, the rows of attention in fp32 "
        "of every layer and their sum.",
    ]
    if warning := preemptions.warning:
        notes.append(f"**{warning}**")
    table = bench_table("Score rows", SCORING_COLUMNS, rows)
    return BenchResult("What score rows cost", machine.name, rows, SCORING_COLUMNS, notes, [table])
