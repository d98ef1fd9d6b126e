"""Samples are divided by what smaller images lose, and every method is counted in each part."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from plphp_core.analysis.bootstrap import Resamples
from plphp_core.config.benchmark_catalogue import BenchmarkCatalogue, BenchmarkInfo
from plphp_core.reporting.difficulty_groups import groups_table

# Documents 0 … 7: Uncompressed is right on all but 6 and 7; Downsample is wrong on 0 and 1 of those, right on 2 … 5.
SCORES = {
    0: [1, 1, 1, 1, 1, 0.5, 0.4, 0],
    1: [0, 0.4, 1, 1, 1, 1, 1, 1],
    2: [1, 0, 1, 1, 0, 1, 1, 1],
    3: [0, 0, 1, 1, 1, 1, 0, 0],
}


def comparison(scores=SCORES, missing=(), right=0.5):
    """Two methods beside Downsample at one budget."""
    names = ["none", "downsample", "snapkv", "random"]

    def cell(index):
        docs = np.array([doc for doc in range(8) if (index, doc) not in missing])
        metric = SimpleNamespace(samples=np.array([float(scores[index][doc]) for doc in docs]))
        return SimpleNamespace(doc_ids=docs, together=None, metrics={"exact_match": metric})

    places = [(0.25, SimpleNamespace(name=name)) for name in names[1:]]
    results = SimpleNamespace(
        finished=lambda: ["GQA"],
        catalogue=BenchmarkCatalogue({"GQA": BenchmarkInfo("GQA", right=right)}),
        cells={(index, "GQA"): cell(index) for index in scores},
        headings=lambda name: {"exact_match": "EM"},
        rows=[SimpleNamespace(label=name) for name in names],
        options=SimpleNamespace(confidence=0.95, resamples=200),
        resamples=lambda name: Resamples(range(8), name, 200),
        samples=lambda index, name: pd.DataFrame({"unit": range(8)}),
    )
    return SimpleNamespace(
        title="t", results=results, places=places, setting=lambda index: "", kind=SimpleNamespace(same="tokens"),
        equal=SimpleNamespace(budgets=(0.25,), contenders=[one for _, one in places]),
        row=lambda budget, name: names.index(name) if name in names and names.index(name) in scores else None,
    )  # fmt: skip


def lines(own):
    return {row.cells[1].text: [cell.text for cell in row.cells[3:]] for row in groups_table(own).rows}


def test_methods_are_counted_where_smaller_images_fail_and_where_they_do_not():
    assert lines(comparison()) == {"Samples": ["2", "4"], "snapkv": ["50.0", "75.0"], "random": ["0.0", "100.0"]}


def test_an_answer_that_is_missing_is_wrong_and_one_of_downsample_leaves_the_sample_out():
    found = lines(comparison(missing={(2, 3), (1, 0)}))
    assert found == {"Samples": ["1", "4"], "snapkv": ["0.0", "50.0"], "random": ["0.0", "100.0"]}


def test_without_downsample_at_the_budget_nothing_is_divided():
    own = comparison({index: SCORES[index] for index in (0, 2, 3)})
    assert {text for texts in lines(own).values() for text in texts} == {"n/a"}


@pytest.mark.parametrize("change", ["no threshold", "no downsample"])
def test_there_is_no_sheet_without_what_it_divides_by(change):
    own = comparison(right=None if change == "no threshold" else 0.5)
    if change == "no downsample":
        own.equal.contenders = [one for one in own.equal.contenders if one.name != "downsample"]
    assert groups_table(own) is None
