"""Cells of both engines with their journals."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from plphp_core.records.cell_result import costs_of
from plphp_core.records.journal_lines import SampleLine
from tests.journal_factories import answered_line, write_journal
from tests.reporting import factories

ROWS = factories.ROWS[:2] + factories.ROWS[8:9]  # none, FastV, PLPHP


def line(doc: int, engine: str, dtype: str, **changes) -> SampleLine:
    """A journal line; answers, retention and KV bytes depend on dtype and sample, times on the engine too."""
    draw = np.random.default_rng([doc, *map(ord, engine + dtype)])
    cell = f"{engine}-{dtype}"
    answer = {
        "text": f"{doc} red, {dtype}", "new_tokens": 5 + doc % 3, "prompt_tokens": 9,
        "retention": [1.0, 0.5 + doc / 100],
        "kv_bytes": 3000 + doc, "kv_bytes_full": 4000 + doc, "prefill_ms": round(draw.uniform(20, 40), 3),
        "decode_ms": round(draw.uniform(20, 40), 3), "decode_steps": 4 + doc % 3, "batch_size": 8,
    } | changes  # fmt: skip
    return answered_line(doc, cell=cell, key=f"{cell}-{doc}", **answer)


def finish(folder: Path, row, benchmark: str, engine: str, dtype: str = "float32", other=None, samples=12, **changes):
    """A finished cell and its journal, which all engines and dtypes share. `other`: doc → fields of its answer."""
    failed = changes.pop("failed", ())
    docs = [doc for doc in range(samples) if doc not in failed]
    lines = [line(doc, engine, dtype, **(other or {}).get(doc, {})) for doc in docs]
    method, params, setting, quality, retention = row
    record = factories.cell(benchmark, method, params, setting, quality, retention, samples, failed)
    name = f"{method}-{benchmark}"
    record |= {"engine": engine, "dtype": dtype, "efficiency": costs_of([one.answer for one in lines])}
    record |= {"journal": f"journal/{name}.jsonl", "answers_key": f"{engine}-{dtype}"}
    record |= {"cell": f"{name}.{engine}-{dtype}", **changes}
    factories.write(folder, record)
    write_journal(folder / "toy" / record["journal"], lines)
