"""CIDEr of a single document is 0 whatever the answer: it is n/a wherever a score is shown, averaged or compared."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from plphp_core.analysis.results import evaluate
from plphp_core.config.report_choices import Filters, Options
from plphp_core.records.cell_result import CellResult, fewest_documents, load_cells
from plphp_core.reporting.figures.score_panels import FIGURE5, ScorePanels
from plphp_core.reporting.page.sample_browser import collect
from tests.reporting import factories
from tests.reporting.page_factories import FakeDocuments, World
from tests.reporting.reports_made import made

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


def test_one_failed_sample_of_two_takes_the_row_out_and_not_the_column(tmp_path):
    some = factories.suite([row for row in factories.ROWS if row[0] == "none"], ("Flickr30k",), samples=2)
    some += factories.suite([row for row in factories.ROWS if row[0] == "vtw"], ("Flickr30k",), samples=2, failed=(1,))
    results = results_of(tmp_path, some)
    assert ("Flickr30k", "cider") in results.columns()
    assert not math.isnan(results.value(0, "Flickr30k", "cider").value)
    assert math.isnan(results.value(1, "Flickr30k", "cider").value) and math.isnan(results.average_change(1).value)


@pytest.mark.parametrize("metric", ["cider", "meteor"])
def test_a_panel_of_nothing_says_so_and_the_other_caption_metric_is_drawn(tmp_path, draw, metric):
    results = results_of(tmp_path, records())
    figure = draw(FIGURE5, ScorePanels(results, results.asked(), metric))
    panel = next(axes for axes in figure.axes if axes.get_title().startswith("Flickr30k ("))
    assert [text.get_text() for text in panel.texts] == (["n/a"] if metric == "cider" else [])
    assert panel.has_data() == bool(len(panel.get_xticks())) == (metric == "meteor")


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


def test_scores_that_are_all_alike_have_no_interval(tmp_path):
    """Three right answers of three do not show that all are right: a bootstrap cannot draw what it has not seen."""
    same = [factories.cell("SD", samples=3), factories.cell("IE", samples=3)]
    same[0]["metrics"] = {"rouge_l": factories.metric([1.0, 1.0, 1.0])}
    results = results_of(tmp_path, same)
    score, other = results.value(0, "SD", "rouge_l"), results.value(0, "IE", "rouge_l")
    assert score.value == 1 and math.isnan(score.low) and math.isnan(score.high)
    assert other.low < other.value < other.high
    assert any("samples that all score alike" in note for note in made(tmp_path, "table1", []).sheets[1].notes)
