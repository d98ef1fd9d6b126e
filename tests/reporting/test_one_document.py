"""CIDEr of a single document is 0 whatever the answer: it is n/a wherever a score is shown, averaged or compared."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from pycocoevalcap.cider.cider import Cider

from plphp_core.analysis.baseline_comparison import best
from plphp_core.analysis.results import evaluate
from plphp_core.config.report_choices import Filters, Options
from plphp_core.records.cell_result import CellResult, fewest_documents, load_cells
from plphp_core.reporting.figures.score_panels import FIGURE5, ScorePanels
from plphp_core.reporting.page.sample_browser import collect
from tests.claims.claims_factories import ledger, paper_cells
from tests.reporting import factories
from tests.reporting.engine_factories import ROWS, finish
from tests.reporting.page_factories import FakeDocuments, World
from tests.reporting.reports_made import made, report, written

CAPTIONS = ("a red circle stands in the north", "two dogs chase one ball over wet grass", "an old man reads")
ONE = {"samples": 1, "population": 48, "limit": 1}


def scored(references, answers):
    """CIDEr-D as the tasks compute it, without the tokenizer."""
    return Cider().compute_score(
        {i: [text] for i, text in enumerate(references)}, {i: [text] for i, text in enumerate(answers)}
    )[0]


def test_the_bound_is_two_documents_as_idf_is_log_n_less_log_df():
    assert fewest_documents("cider") == fewest_documents("nocaps_CIDEr") == 2 and fewest_documents("meteor") == 1
    assert scored(CAPTIONS[:1], CAPTIONS[:1]) == scored(CAPTIONS[:1], ["nothing like it"]) == 0  # log 1 − log 1
    assert scored(CAPTIONS[:2], CAPTIONS[:2]) == pytest.approx(10) and scored(CAPTIONS[:2], CAPTIONS[1::-1]) == 0
    # from two on it can still be 0 by construction, where all documents share all n-grams: no count tells that apart
    assert scored(CAPTIONS[:1] * 3, CAPTIONS[:1] * 3) == 0
    assert scored([CAPTIONS[0], CAPTIONS[0], CAPTIONS[1]], [CAPTIONS[0]] * 3) > 0


def records(benchmarks=("SD", "Flickr30k"), **changes):
    rows = [row for row in factories.ROWS if row[0] in ("none", "plphp")]
    found = factories.suite(rows, benchmarks, **(ONE | changes))
    for one in found:
        if one["benchmark"] == "Flickr30k":
            one["metrics"]["cider"] = factories.metric([0.0] * one["n"], "corpus", value=0.0)
    return found


def results_of(folder, some, **options):
    factories.write(folder, *some)
    cells = load_cells(folder / "toy" / "cells", "toy")
    return evaluate(cells, None, Filters(), Options(resamples=20, **options))


def test_the_cell_has_no_cider_and_keeps_its_other_scores(tmp_path):
    one, two = records(("Flickr30k",))[0], records(("Flickr30k",), samples=2)[0]
    (path, *_) = factories.write(tmp_path, one)
    cell = CellResult.load(path)
    assert math.isnan(cell.metrics["cider"].value) and np.isnan(cell.metrics["cider"].samples).all()
    assert cell.metrics["meteor"].value == one["metrics"]["meteor"]["value"]
    (path, *_) = factories.write(tmp_path / "two", two)
    assert CellResult.load(path).metrics["cider"].value == 0  # a value, if a poor one


def test_the_table_says_n_a_and_why_and_averages_over_the_rest(tmp_path):
    results = results_of(tmp_path, records())
    assert ("Flickr30k", "cider") not in results.columns() and ("Flickr30k", "meteor") in results.columns()
    last = len(results.rows) - 1
    changes = [results.change(last, *column).value for column in results.columns()]
    assert len(changes) == 2 and results.average_change(last).value == pytest.approx(np.mean(changes))
    scores = made(tmp_path, "table1", []).sheets[0]
    at = [f"{column.group} {column.label}" for column in scores.columns].index("Flickr30k C")
    assert {(row.cells[at].text, row.cells[at].emphasis) for row in scores.rows} == {("n/a", "")}
    said = " ".join(scores.notes)
    assert "CIDEr is n/a on Flickr30k: " in said and "the 2 of 10 score columns that have results" in said
    assert best(results) is None


def test_one_failed_sample_of_two_takes_the_row_out_and_not_the_column(tmp_path):
    some = factories.suite([row for row in factories.ROWS if row[0] == "none"], ("Flickr30k",), samples=2)
    some += factories.suite([row for row in factories.ROWS if row[0] == "vtw"], ("Flickr30k",), samples=2, failed=(1,))
    results = results_of(tmp_path, some)
    assert ("Flickr30k", "cider") in results.columns()
    assert not math.isnan(results.value(0, "Flickr30k", "cider").value)
    assert math.isnan(results.value(1, "Flickr30k", "cider").value) and math.isnan(results.average_change(1).value)


def test_figures_draw_n_a_and_files_hold_no_zero(tmp_path, drawn):
    factories.write(tmp_path, *records(("SD", "Flickr30k", "DetailCaps")))
    for name in ("table1", "table2", "table4", "figure5", "figure6", "sweep"):
        assert report(tmp_path, name) == 0, name
    for name in ("table1", "table4", "figure5"):
        table = pd.read_csv(tmp_path / "toy" / f"{name}.limit=1.csv")
        assert table[table.metric == "cider"].value.isna().all(), name
        assert "CIDEr is n/a on" in (tmp_path / "toy" / f"{name}.limit=1.md").read_text(encoding="utf-8")
    assert pd.read_csv(tmp_path / "toy" / "sweep.limit=1.csv").filter(like="cider").isna().all(axis=None)
    panel = next(axes for axes in drawn[0].axes if axes.get_title() == "Flickr30k (C)")
    assert [text.get_text() for text in panel.texts] == ["n/a"] and not panel.has_data()
    assert not len(panel.get_xticks()) and not len(panel.get_yticks())


def test_the_other_caption_metric_is_drawn(tmp_path, draw):
    results = results_of(tmp_path, records())
    figure = draw(FIGURE5, ScorePanels(results, results.asked(), "meteor"))
    panel = next(axes for axes in figure.axes if axes.get_title() == "Flickr30k (M)")
    assert panel.has_data() and not panel.texts


def test_claims_rest_on_the_other_columns_and_say_so(tmp_path):
    some = paper_cells("table1", **ONE)
    for one in some:
        if "cider" in one["metrics"]:
            one["metrics"]["cider"] = factories.metric([0.0], "corpus", value=0.0)
    found = ledger(tmp_path, some)
    assert not math.isnan(found["C1"].ours.value)
    assert "no CIDEr, which a single document does not have: Flickr30k, COCO2017, DetailCaps" in found["C1"].why
    assert "no CIDEr" not in found["C4"].why


def test_the_page_shows_no_score_of_the_sample(tmp_path):
    world = World(tmp_path, samples=1, benchmarks=("Flickr30k",))
    for path in (tmp_path / "toy" / "cells").glob("*.json"):
        record = json.loads(path.read_text())
        assert set(record["metrics"]) >= {"cider", "meteor"}
    asked = world.asked()
    kept = {}

    pieces = SimpleNamespace(add=kept.__setitem__, picture=lambda image: None, close_album=lambda: None)
    collect(world.reports(asked), asked, pieces, str, FakeDocuments(1))
    assert kept["index-0"]["scores"][0] == [[None]] * len(kept["index-0"]["scores"][0])


def test_engines_compare_what_there_is(tmp_path):
    for engine in ("generate", "fast"):
        other = {0: {"text": "else"}} if engine == "fast" else None
        finish(tmp_path, ROWS[0], "Flickr30k", engine, other=other, samples=1)
    assert report(tmp_path, "engines") == 0
    said = (tmp_path / "toy" / "engines.md").read_text(encoding="utf-8")
    assert "nan" not in said and "M of Uncompressed on Flickr30k" in said
    assert "engines.md" in written(tmp_path)


def test_no_reference_where_uncompressed_was_not_run(tmp_path):
    factories.write(tmp_path, factories.cell("SD", "plphp", factories.PLPHP, "r=0.4, Δr=0.3", samples=8))
    assert report(tmp_path, "table1") == 0
    text = (tmp_path / "toy" / "table1.md").read_text(encoding="utf-8")
    assert "reference |" not in text
    assert "Changes are n/a on SD, where no cell of Uncompressed is finished: the same run with method=none" in (
        text.replace("\\", "")
    )


def test_scores_that_are_all_alike_have_no_interval(tmp_path):
    """Three right answers of three do not show that all are right: a bootstrap cannot draw what it has not seen."""
    same = [factories.cell("SD", samples=3), factories.cell("IE", samples=3)]
    same[0]["metrics"] = {"rouge_l": factories.metric([1.0, 1.0, 1.0])}
    results = results_of(tmp_path, same)
    score, other = results.value(0, "SD", "rouge_l"), results.value(0, "IE", "rouge_l")
    assert score.value == 1 and math.isnan(score.low) and math.isnan(score.high)
    assert other.low < other.value < other.high
    assert any("samples that all score alike" in note for note in made(tmp_path, "table1", []).sheets[1].notes)
