"""Table 3: its layout, what is bold, what is left out and what is missing, and that models are run alike."""

import shutil

import numpy as np
import pandas as pd
import pytest

from plphp_core.analysis.results import NothingToShow
from plphp_core.config.report_choices import Filters, Options
from plphp_core.families import get_family
from plphp_core.records.cell_result import load_cells
from plphp_core.records.errors import ReportError
from plphp_core.reporting import table3
from plphp_core.reporting.configured import models_configured
from tests.reporting import factories
from tests.reporting.reports_made import PUBLISHED, report, scored, texts, written

SIX = factories.BENCHMARKS[:6]
NOTHING = {model: {} for model in factories.MODELS}
FIRST = len(table3.HEAD)
QWEN, IDEFICS, MANTIS = TITLES = [get_family(model).title for model in factories.MODELS]


def compared(folder, records, models=(), profile="toy", filters=None):
    factories.write(folder, *records)
    cells = load_cells(folder / profile / "cells", profile)
    return table3.compare(cells, profile, models, filters or Filters(), Options(resamples=200))


def sheets(parts, profile="toy", references=NOTHING, claims=()):
    return table3.sheets(parts, profile, references, claims)


def exact(model, method, benchmark, score, **changes):
    """One of a model's cells whose every sample has this score in every metric."""
    (record,) = [r for r in factories.of_table3(model, (benchmark,), samples=4) if r["method"] == method]
    return scored(record, [score] * 4) | changes


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return compared(tmp_path_factory.mktemp("whole"), factories.table3())


@pytest.mark.parametrize(("score", "bold"), [(0.51, True), (0.5, False), (0.50001, False), (0.49, False)])
def test_bold_compares_as_printed(tmp_path, score, bold):
    parts = compared(tmp_path, [exact("mantis", "none", "SD", 0.5), exact("mantis", "plphp", "SD", score)])
    plphp = sheets(parts)[0].rows[5].cells
    change = FIRST + len(factories.COLUMNS)
    assert (plphp[FIRST].emphasis == "best") == (plphp[change].emphasis == "best") == bold
    assert plphp[FIRST].detail == ("+2.00%" if bold else "−2.00%" if score < 0.5 else "0.00%")


def test_averages_run_over_each_models_own_columns(whole):
    for part, count in zip(whole, (10, 8, 8), strict=True):
        changes = [part.change(1, benchmark, metric).value for benchmark, metric in part.columns()]
        assert len(changes) == count
        assert part.average_change(1).value == pytest.approx(np.mean(changes))


def test_a_left_out_benchmark_that_was_run_all_the_same_is_shown(tmp_path):
    extra = factories.of_table3("mantis", ("DetailCaps",))[0]
    parts = compared(tmp_path, [*factories.table3(), extra])
    scores = sheets(parts)[0]
    assert texts(scores, 4)[11] not in ("–", "n/a") and texts(scores, 5)[11] == "n/a" and texts(scores, 2)[11] == "–"
    assert parts[2].missing() == [(1, "DetailCaps")]
    assert "Mantis PLPHP r=0.4, Δr=0.3: DetailCaps" in " ".join(scores.notes)


def test_models_without_cells_stay_na(tmp_path):
    parts = compared(tmp_path, factories.of_table3("idefics2", ("SD", "IE")))
    scores = sheets(parts)[0]
    assert set(texts(scores, 0)[FIRST:]) == {"n/a"}
    assert set(texts(scores, 4)[FIRST:]) == {"n/a", "–"}
    assert set(texts(sheets(parts)[1], 0)[FIRST:]) == {"n/a"}  # no "reference" where nothing was run
    (gaps,) = (note for note in scores.notes if "not run yet" in note)
    for said in ("34 of 38 cells", "Qwen2-VL: all", f"{IDEFICS} Uncompressed: VST, MV", "Mantis: all"):
        assert said in gaps, said


def test_nothing_to_show_is_an_error(tmp_path):
    with pytest.raises(NothingToShow, match=r"none of the 70 finished cells belongs in Table 3 \(qwen2_vl, idefics2"):
        compared(tmp_path, factories.suite())


@pytest.mark.parametrize(("name", "value"), [("limit", 48), ("protocol", "llava"), ("prompts", "plain")])
def test_models_run_under_different_conditions_are_refused(tmp_path, name, value):
    four = SIX[:4]  # captions belong to both protocols
    records = [*factories.of_table3("qwen2_vl", four), *factories.of_table3("mantis", four, **{name: value})]
    with pytest.raises(ReportError, match=f"differ in {name}"):
        compared(tmp_path, records)
    chosen = compared(tmp_path, [], filters=Filters(**{name: str(value)}))
    assert [bool(part.cells) for part in chosen] == [False, False, True]


def test_models_on_different_documents_are_refused(tmp_path):
    records = [*factories.of_table3("qwen2_vl", SIX), *factories.of_table3("mantis", SIX, data_revision="d1")]
    with pytest.raises(ReportError, match="differ in data_revision"):
        compared(tmp_path, records)


def test_models_may_differ_in_precision_and_each_is_named_with_its_own(tmp_path):
    records = [*factories.of_table3("qwen2_vl", SIX), *factories.of_table3("mantis", SIX, dtype="float16")]
    notes = sheets(compared(tmp_path, records))[0].notes
    for title, dtype in (("Qwen2-VL", "float32"), ("Mantis", "float16")):
        assert any(note.startswith(f"{title}: checkpoint") and f" {dtype}, " in note for note in notes)


def test_published_cells_are_those_of_the_table():
    lines = pd.read_csv(PUBLISHED / "table3.csv", keep_default_na=False)
    models, skipped = models_configured("table3")
    asked = {
        (model, method, benchmark, metric)
        for model in models
        for method in ("none", "plphp")
        for benchmark, metric in (*factories.COLUMNS, ("all", "kv_saved"))
        if (model, benchmark) not in skipped
    }
    assert set(lines[["model", "method", "benchmark", "metric"]].itertuples(index=False, name=None)) == asked


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_tables_and_those_without_cells_are_a_notice(tmp_path, capsys, drawn):
    factories.write(tmp_path, *factories.suite())
    assert report(tmp_path, "all") == 0
    assert "notice: table3: none of the 70 finished cells belongs in Table 3" in capsys.readouterr().err
    factories.write(tmp_path, *factories.table3())
    assert report(tmp_path, "all") == 0
    said = capsys.readouterr().err
    assert {"table1.md", "table3.md"} <= written(tmp_path) and "table1" not in said and "table3" not in said
    assert report(tmp_path, "all", "protocol=llava", "report.exclude=['*']") == 1
    assert "table1: none of the 108 finished cells" in capsys.readouterr().err


def test_one_table_that_is_refused_does_not_cost_the_other(tmp_path, capsys):
    factories.write(tmp_path, *factories.table3(), factories.cell("SD"), factories.cell("IE", revision="other"))
    assert report(tmp_path, "all") == 1
    assert "error: table1: finished cells differ in revision" in capsys.readouterr().err
    assert "table3.md" in written(tmp_path) and "table1.md" not in written(tmp_path)


def test_gaps_and_failures_are_counted_over_all_models(tmp_path, capsys):
    factories.write(tmp_path, *factories.of_table3("mantis", SIX, failed=(1, 2)))
    assert report(tmp_path, "table3", "report.strict=true") == 3
    said = capsys.readouterr().err
    assert "26 cells of table3 are not finished" in said and "24 samples of table3 failed" in said


def test_a_folder_of_published_numbers_without_claims_will_do(tmp_path):
    factories.write(tmp_path, *factories.table3())
    shutil.copytree(PUBLISHED, tmp_path / "published")
    (tmp_path / "published" / "claims.yaml").unlink()
    assert report(tmp_path, "table3", f"report.published={tmp_path}/published") == 0


def test_a_model_no_family_has_goes_by_its_own_name(tmp_path):
    record = factories.cell("SD", model="llava_onevision_0_5b", checkpoint="somewhere")
    factories.write(tmp_path, record)
    assert report(tmp_path, "table1", "model=llava_onevision_0_5b") == 0
    text = (tmp_path / "toy" / "table1.model=llava_onevision_0_5b.md").read_text(encoding="utf-8")
    assert "methods × benchmarks, llava\\_onevision\\_0\\_5b" in text
