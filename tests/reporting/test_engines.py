"""Both engines side by side: every difference is counted and named, nothing that cannot be compared is."""

import dataclasses
import statistics
from pathlib import Path

import pandas as pd
import pytest

from plphp_core.analysis.comparable import RowSpec
from plphp_core.config.report_choices import Filters, Options
from plphp_core.config.run_settings import Benchmark
from plphp_core.evaluation.loading import LoadOnce
from plphp_core.evaluation.run_status import OK
from plphp_core.records.cell_result import load_cells
from plphp_core.reporting import engine_comparison
from plphp_core.reporting.cell_answers import answers
from tests.evaluation.factories import make_world, run
from tests.evaluation.factories import settings as settings_in
from tests.reporting.engine_factories import ROWS, finish, line
from tests.reporting.reports_made import report

PLACES = [(row[0], benchmark) for row in ROWS for benchmark in ("SD", "COCO2017")]


def finish_all(folder: Path, differing=None, **changes) -> None:
    """Both engines' cells of PLACES; `differing`: (method, benchmark) → what the fast engine's lines have instead."""
    for row in ROWS:
        for benchmark in ("SD", "COCO2017"):
            finish(folder, row, benchmark, "generate", **changes)
            finish(folder, row, benchmark, "fast", other=(differing or {}).get((row[0], benchmark)), **changes)


def written(folder, name="engines") -> tuple[pd.DataFrame, str]:
    table = pd.read_csv(folder / "toy" / f"{name}.csv", keep_default_na=False)
    return table, (folder / "toy" / f"{name}.md").read_text(encoding="utf-8").replace("\\", "")


def of(table: pd.DataFrame, method: str, benchmark: str) -> pd.Series:
    """The row of a method that was compared, or else the one that is missing."""
    found = [row for _, row in table.iterrows() if (row.method, row.benchmark) == (method, benchmark)]
    (found,) = [row for row in found if row.missing == "n/a"] or found
    return found


def test_every_difference_is_counted_named_and_shown(tmp_path):
    different = {
        ("fastv", "SD"): {7: {"text": "seven"}, 3: {"text": "three"}},
        ("plphp", "COCO2017"): {1: {"new_tokens": 99}, 2: {"retention": [1.0, 0.25]}, 4: {"kv_bytes_full": 1}},
    }
    finish_all(tmp_path, different)
    assert report(tmp_path, "engines") == 0
    table, page = written(tmp_path)
    fastv, plphp, whole = of(table, "fastv", "SD"), of(table, "plphp", "COCO2017"), of(table, "all", "all")
    counts = ["equal", "different", "retention_equal", "kv_bytes_equal"]
    assert list(fastv[counts]) == ["10", "2", "12", "12"]
    assert list(plphp[counts]) == ["11", "1", "11", "11"]
    assert list(whole[counts]) == ["69", "3", "71", "71"]
    assert list(fastv[["example_doc_id", "example_generate", "example_fast"]]) == ["3", "3 red, float32", "three"]
    assert plphp.example_doc_id == "1"  # the same text, but not of the same tokens
    assert "Answers differ in 3 of 72 samples, in 2 of 6 cells: FastV K=2, R=0.75 on SD (2); PLPHP r=0.4" in page
    assert "Retention differ in 1 of 72 samples, in 1 of 6 cells: PLPHP" in page
    assert "KV bytes differ in 1 of 72 samples, in 1 of 6 cells: PLPHP" in page
    assert "Identical" not in page


def test_times_are_medians_over_samples_and_compared_on_one_machine(tmp_path):
    finish(tmp_path, ROWS[0], "SD", "generate", other={0: {"decode_steps": 0, "decode_ms": 0.0}})
    finish(tmp_path, ROWS[0], "SD", "fast")
    finish(tmp_path, ROWS[0], "COCO2017", "generate")
    finish(tmp_path, ROWS[0], "COCO2017", "fast", hardware="H200")
    for engine, batch_size in (("generate", 8), ("fast", 4)):
        finish(tmp_path, ROWS[0], "IE", engine, hardware="A100; H200")
        finish(tmp_path, ROWS[0], "VST", engine, batch_size=batch_size)
    assert report(tmp_path, "engines") == 0
    table = written(tmp_path)[0]

    def times(engine):
        return [
            one.decode_ms / one.decode_steps / 8 for one in (line(doc, engine, "float32").answer for doc in range(12))
        ]

    generate, fast = statistics.median(times("generate")[1:]), statistics.median(times("fast"))
    row = of(table, "none", "SD")
    assert float(row.generate_ms_per_token) == pytest.approx(generate, rel=1e-6)
    assert float(row.fast_ms_per_token) == pytest.approx(fast, rel=1e-6)
    assert float(row.ratio) == pytest.approx(fast / generate, rel=1e-6)
    assert of(table, "none", "COCO2017").ratio == of(table, "all", "all").ratio == "n/a"
    assert of(table, "none", "IE").ratio == of(table, "none", "VST").ratio == "n/a"
    together = statistics.median([*times("generate")[1:], *3 * times("generate")])
    assert float(of(table, "all", "all").generate_ms_per_token) == pytest.approx(together, rel=1e-6)


def test_dtypes_in_one_journal_are_told_apart(tmp_path):
    """The profile's dtype unless another is chosen, each with its own answers and its own files."""
    finish_all(tmp_path)
    finish_all(tmp_path, {("none", "SD"): {5: {"text": "half"}}}, dtype="bfloat16")
    assert report(tmp_path, "engines") == report(tmp_path, "engines", "dtype=bfloat16") == 0
    assert "Identical in all 6 cells" in written(tmp_path)[1]
    table, page = written(tmp_path, "engines.dtype=bfloat16")
    assert of(table, "none", "SD").example_generate == "5 red, bfloat16" and of(table, "all", "all").different == "1"
    assert page.startswith("## Engines (toy profile): generate and fast on LLaVA-OneVision, bfloat16")


def test_a_journal_in_use_is_read_as_far_as_it_is_whole_and_left_alone(tmp_path):
    finish_all(tmp_path)
    path = tmp_path / "toy" / "journal" / "none-SD.jsonl"
    before = path.read_bytes() + b'not a line\n{"schema":1,"key":"generate-fl'
    path.write_bytes(before)
    assert report(tmp_path, "engines") == 0
    assert "Identical in all 6 cells" in written(tmp_path)[1] and path.read_bytes() == before
    assert {file.name for file in path.parent.iterdir()} == {
        f"{method}-{benchmark}.jsonl" for method, benchmark in PLACES
    }


@pytest.mark.parametrize("damage", ["lost", "cut", "foreign"])
def test_answers_that_are_not_there_are_an_error(tmp_path, capsys, damage):
    finish_all(tmp_path)
    path = tmp_path / "toy" / "journal" / "none-SD.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    if damage == "lost":
        path.unlink()
    elif damage == "cut":
        path.write_text("".join(lines[:-1]))
    else:
        path.write_text("".join(lines).replace('"cell":"fast', '"cell":"other'))
    assert report(tmp_path, "engines") == 1
    error = capsys.readouterr().err
    assert "none-SD" in error and "run" in error and error.startswith("error: ")
    assert not (tmp_path / "toy" / "engines.md").exists()


def test_what_cannot_be_compared_is_refused(tmp_path, capsys):
    finish(tmp_path, ROWS[0], "SD", "generate")
    assert report(tmp_path, "engines") == 1
    assert "no cell is finished under both engines (1 under generate and 0 under fast)" in capsys.readouterr().err
    assert report(tmp_path, "engines", "engine=fast") == 1
    assert "leave out engine=fast" in capsys.readouterr().err
    finish(tmp_path, ROWS[0], "SD", "fast", data_revision="d1")
    assert report(tmp_path, "engines") == 1
    assert "differ in data_revision" in capsys.readouterr().err
    finish(tmp_path, ROWS[0], "COCO2017", "generate")
    finish(tmp_path, ROWS[0], "COCO2017", "fast", revision="other")
    assert report(tmp_path, "engines", "report.exclude=[none-SD*]") == 1
    assert "differ in revision" in capsys.readouterr().err


def test_a_real_run_under_both_engines(tmp_path):
    """Runner, journal, result files and fast path of a random model: identical answers, cell by cell."""
    world = settings_in(make_world(tmp_path, samples=5), ("none", "plphp"), benchmarks=(Benchmark("SD", "mini_a"),))
    loader = LoadOnce()
    for engine in ("generate", "fast"):
        assert run(dataclasses.replace(world, model=dataclasses.replace(world.model, engine=engine)), {}, loader) == OK
    cells = load_cells(world.results / "cells", "mini")
    rows = [RowSpec(name) for name in ("none", "plphp")]
    found = engine_comparison.compare(cells, rows, Filters(model="tiny"), Options())
    assert [(pair, len(found.of(pair))) for pair in found.pairs] == [((0, "SD"), 5), ((1, "SD"), 5)]
    assert found.answers[list(engine_comparison.FIELDS)].all(axis=None)
    assert len({cell.answers_key for cell in cells}) == 4
    for cell in cells:  # the page and Figure 8 find the answers by the key in the result file
        read = answers(cell, world.results)
        assert (read.missing, sorted(read.lines)) == ("", cell.doc_ids.tolist())
