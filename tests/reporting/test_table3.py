"""Table 3: its layout, what is bold, what is left out and what is missing, and that models are run alike."""

import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from plphp_core.analysis.comparable import Filters
from plphp_core.analysis.results import NothingToShow, Options
from plphp_core.cli.entry_point import command
from plphp_core.families import get_family
from plphp_core.records.cell_result import load_cells
from plphp_core.records.errors import ReportError
from plphp_core.reporting import table3
from plphp_core.reporting.configured import models_configured
from plphp_core.reporting.published import load_claims, load_reference
from tests.reporting import factories
from tests.reporting.test_report import PUBLISHED

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


def texts(sheet, row):
    return [entry.text for entry in sheet.rows[row].cells]


def exact(model, method, benchmark, score, **changes):
    """One of a model's cells whose every sample has this score in every metric."""
    (record,) = [r for r in factories.of_table3(model, (benchmark,), samples=4) if r["method"] == method]
    for name, old in record["metrics"].items():
        record["metrics"][name] = factories.metric([score] * 4, old["kind"], old["groups"], score)
    return record | changes


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return compared(tmp_path_factory.mktemp("whole"), factories.table3())


def test_layout_is_the_papers(whole):
    scores, intervals, slots = sheets(whole)
    assert [column.label for column in scores.columns[:3]] == ["Model", "Method", "Setting"]
    assert [texts(scores, row)[:3] for row in range(6)] == [
        [title, method, setting]
        for title in TITLES
        for method, setting in (("Uncompressed", ""), ("PLPHP", "r=0.4, Δr=0.3"))
    ]
    assert [row.rule for row in scores.rows] == [True, False, True, False, True, False, True]
    assert texts(scores, 6)[:3] == ["all models", "As published", "all rows"] and set(texts(scores, 6)[3:]) == {"n/a"}
    assert len(intervals.rows) == len(slots.rows) == 6


def test_what_the_paper_leaves_out_is_a_dash_and_no_gap(whole):
    for sheet, columns in zip(sheets(whole), ((11, 12), (11, 12), (9,)), strict=True):
        for row in range(6):
            assert [texts(sheet, row)[at] == "–" for at in columns] == [row >= 2] * len(columns)
    notes = " ".join(sheets(whole)[0].notes)
    assert f"{IDEFICS} on DetailCaps, Mantis on DetailCaps. table.skip=[] runs them." in notes
    assert "not run yet" not in notes


def test_bold_is_what_prints_above_the_same_model_uncompressed(whole):
    scores, _, slots = sheets(whole)
    for sheet, last in ((scores, FIRST + len(factories.COLUMNS)), (slots, FIRST + len(factories.BENCHMARKS))):
        bold = 0
        for none, plphp in ((0, 1), (2, 3), (4, 5)):
            for at in range(FIRST, last):
                ours, theirs = texts(sheet, plphp)[at], texts(sheet, none)[at]
                above = ours not in ("–", "n/a") and float(ours) > float(theirs)
                assert (sheet.rows[plphp].cells[at].emphasis == "best") == above
                bold += above
            assert not any(entry.emphasis for entry in sheet.rows[none].cells)
        assert 0 < bold < 3 * (last - FIRST)


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
    assert any(f"(Qwen2-VL 10, {IDEFICS} 8, Mantis 8)" in note for note in sheets(whole)[0].notes)


def test_kv_saved_and_retention_are_the_cells(whole):
    for row, expected in enumerate(
        [["100.0%", "0.0%"], ["55.0%", "36.0%"]] * 3
    ):  # kv: 0.2 + 0.8 · 0.55 of the prompt's
        assert texts(sheets(whole)[0], row)[-2:] == expected


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
    gaps = [note for note in scores.notes if "not run yet" in note]
    assert gaps == [
        f"n/a, not run yet (34 of 38 cells): Qwen2-VL: all; {IDEFICS} Uncompressed: VST, MV, Flickr30k, COCO2017; "
        f"{IDEFICS} PLPHP r=0.4, Δr=0.3: VST, MV, Flickr30k, COCO2017; Mantis: all."
    ]


def test_only_the_models_asked_for(tmp_path):
    parts = compared(tmp_path, factories.table3(), ("mantis",))
    assert [texts(sheets(parts)[0], row)[0] for row in range(2)] == ["Mantis", "Mantis"]


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
    for title, name, dtype in (("Qwen2-VL", "qwen2_vl", "float32"), ("Mantis", "mantis", "float16")):
        line = f"{title}: checkpoint tasks/toy/checkpoints/{name}, revision unrecorded, {dtype}, attention sdpa."
        assert line in notes


def test_an_untrained_stand_in_is_named(tmp_path):
    random = factories.of_table3("idefics2", SIX, checkpoint="tasks/toy/checkpoints/idefics2_random")
    scores, intervals, slots = sheets(compared(tmp_path, [*factories.of_table3("mantis", SIX), *random]))
    for sheet in (scores, intervals, slots):
        assert [texts(sheet, row)[0] for row in (1, 2, 4)] == [QWEN, f"{IDEFICS} (random weights)", MANTIS]
    assert any(f"{IDEFICS} (random weights): a stand-in that was never trained" in note for note in scores.notes)


def test_notes_name_prompts_software_and_thresholds(tmp_path):
    older = factories.of_table3("mantis", ("SD",), versions={"torch": "2.12.0"}, answers=0)
    notes = " ".join(sheets(compared(tmp_path, [*factories.of_table3("qwen2_vl", SIX), *older]))[0].notes)
    assert "Prompts: lmms_eval (as lmms-eval's wrapper of the model makes them)." in notes
    assert "PLPHP's thresholds: α=" in notes
    assert (
        "Software differs between cells, so do not read small differences: torch 2.13.0, transformers 5.23.0, "
        "lmms-eval 0.7.3, answering code 1: Qwen2-VL Uncompressed on SD, Qwen2-VL Uncompressed on IE, "
        "Qwen2-VL Uncompressed on VST and 9 more; torch 2.12.0, answering code 0: Mantis Uncompressed on SD, "
        "Mantis PLPHP r=0.4, Δr=0.3 on SD."
    ) in notes


def test_published_numbers_stand_below_their_model_and_are_not_marked(whole, tmp_path):
    text = (PUBLISHED / "table3.csv").read_text(encoding="utf-8")
    text = text.replace("idefics2,plphp,n/a,SD,rouge_l,n/a", "idefics2,plphp,n/a,SD,rouge_l,99.5")
    text = text.replace("idefics2,plphp,n/a,all,kv_saved,n/a", "idefics2,plphp,n/a,all,kv_saved,51.5")
    (tmp_path / "table3.csv").write_text(text, encoding="utf-8")
    references = {model: load_reference(tmp_path, "table3", model) for model in factories.MODELS}
    assert references["mantis"] == references["qwen2_vl"] == {}
    scores = sheets(whole, "paper", references)[0]
    found = texts(scores, 4)
    assert found[:4] == [IDEFICS, "PLPHP, as published", "n/a", "99.50"] and found[-3:] == ["n/a", "n/a", "51.5%"]
    assert len(scores.rows) == 7 and not any(entry.emphasis for entry in scores.rows[4].cells)
    assert not any(note.startswith("As published") for note in scores.notes)


def test_the_papers_words_about_the_table_are_quoted_on_its_own_profile_only(whole):
    claims = load_claims(PUBLISHED)
    notes = " ".join(sheets(whole, "paper", claims=claims)[0].notes)
    assert "average score change: +1.50% (C9b); Qwen2-VL with PLPHP, KV cache saved: 58.1% (C9c); IDEFICS2" in notes
    assert "The paper claims" not in " ".join(sheets(whole, "toy", claims=claims)[0].notes)


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


def report(folder, *argv):
    return command("report", [*argv, "profile=toy", f"results={folder}"])


def written(folder: Path) -> set[str]:
    return {path.name for path in (folder / "toy").iterdir() if path.is_file()}


def test_writes_the_table_with_its_models(tmp_path, capsys):
    factories.write(tmp_path, *factories.table3())
    assert report(tmp_path, "table3") == 0
    out = capsys.readouterr().out
    assert "Reproduction of Table 3 (toy profile): models with and without PLPHP" in out
    assert "¹ above the same model uncompressed (bold in the files)" in out and "second of its column" not in out
    assert written(tmp_path) == {"table3.csv", "table3_relative.csv", "table3.md", "table3.tex"}
    lines = pd.read_csv(tmp_path / "toy" / "table3.csv")
    assert list(dict.fromkeys(lines.model)) == list(factories.MODELS)
    asked = lines[lines.metric != "slot_accuracy"].groupby(["model", "method"]).size()
    assert (asked["qwen2_vl"] == 10).all() and (asked["idefics2"] == 8).all() and (asked["mantis"] == 8).all()
    relative = pd.read_csv(tmp_path / "toy" / "table3_relative.csv")
    whole = relative[(relative.benchmark == "average all") & (relative.method == "plphp")]
    assert list(whole.model) == list(factories.MODELS) and whole.relative_to_none.notna().all()


def test_models_asked_for_have_files_of_their_own(tmp_path):
    factories.write(tmp_path, *factories.table3())
    assert report(tmp_path, "table3", "report.quiet=true", "table.models=mantis,idefics2") == 0
    assert report(tmp_path, "table3", "report.quiet=true", "model=mantis") == 0
    assert {name for name in written(tmp_path) if name.endswith(".md")} == {
        "table3.models=mantis+idefics2.md",
        "table3.models=mantis.md",
    }


def test_all_tables_and_those_without_cells_are_a_notice(tmp_path, capsys, drawn):
    factories.write(tmp_path, *factories.suite())
    assert report(tmp_path, "all", "report.quiet=true") == 0
    assert "notice: table3: none of the 70 finished cells belongs in Table 3" in capsys.readouterr().err
    factories.write(tmp_path, *factories.table3())
    assert report(tmp_path, "all", "report.quiet=true") == 0
    said = capsys.readouterr().err
    assert {"table1.md", "table3.md"} <= written(tmp_path) and "table1" not in said and "table3" not in said
    assert report(tmp_path, "all", "report.quiet=true", "protocol=llava", "report.exclude=['*']") == 1
    assert "table1: none of the 108 finished cells" in capsys.readouterr().err


def test_one_table_that_is_refused_does_not_cost_the_other(tmp_path, capsys):
    factories.write(tmp_path, *factories.table3(), factories.cell("SD"), factories.cell("IE", revision="other"))
    assert report(tmp_path, "all", "report.quiet=true") == 1
    assert "error: table1: finished cells differ in revision" in capsys.readouterr().err
    assert "table3.md" in written(tmp_path) and "table1.md" not in written(tmp_path)


def test_gaps_and_failures_are_counted_over_all_models(tmp_path, capsys):
    factories.write(tmp_path, *factories.of_table3("mantis", SIX, failed=(1, 2)))
    assert report(tmp_path, "table3", "report.quiet=true", "report.strict=true") == 3
    said = capsys.readouterr().err
    assert "26 cells of table3 are not finished" in said and "24 samples of table3 failed" in said


def test_a_folder_of_published_numbers_without_claims_will_do(tmp_path):
    factories.write(tmp_path, *factories.table3())
    shutil.copytree(PUBLISHED, tmp_path / "published")
    (tmp_path / "published" / "claims.yaml").unlink()
    assert report(tmp_path, "table3", "report.quiet=true", f"report.published={tmp_path}/published") == 0


def test_a_model_no_family_has_goes_by_its_own_name(tmp_path):
    record = factories.cell("SD", model="llava_onevision_0_5b", checkpoint="somewhere")
    factories.write(tmp_path, record)
    assert report(tmp_path, "table1", "report.quiet=true", "model=llava_onevision_0_5b") == 0
    text = (tmp_path / "toy" / "table1.model=llava_onevision_0_5b.md").read_text(encoding="utf-8")
    assert "methods × benchmarks, llava\\_onevision\\_0\\_5b" in text
    assert math.isclose(record["metrics"]["rouge_l"]["value"], np.mean(record["metrics"]["rouge_l"]["samples"]))
