"""A task of lmms-eval that knows nothing of this project: plain numbers have scores, intervals, and no python here."""

import dataclasses
import math
import shutil

import numpy as np
import pytest

from plphp_core.analysis.results import evaluate
from plphp_core.config.report_choices import Filters, Options
from plphp_core.evaluation.run_status import OK
from plphp_core.records.cell_result import load_cells
from plphp_core.reporting import notes
from tests.evaluation.factories import TASK, run, settings

METRICS = """metric_list:
  - {metric: words, aggregation: mean, higher_is_better: true}
  - {metric: longest, aggregation: !function plain.longest, higher_is_better: true}
  - {metric: pieces, aggregation: !function plain.pieces, higher_is_better: true}
"""
FUNCTIONS = """
import numpy

def process_results(doc, results):
    words = results[0].split()
    return {"words": numpy.float32(len(words)) / 8, "longest": len(words), "pieces": words}

def longest(items):
    return max(items)

def pieces(items):
    return len(set().union(*items)) / 100
"""


@pytest.fixture
def cell(world, tmp_path, fake):
    for name in ("tasks", "data"):
        shutil.copytree(world / name, tmp_path / name)
    text = TASK.format(name="mini_c", data="data/mini_a").replace("functions.process_results", "plain.process_results")
    head, _, metadata = text.partition("metric_list:")
    (tmp_path / "tasks" / "mini_c.yaml").write_text(head + METRICS + metadata[metadata.index("metadata:") :])
    (tmp_path / "tasks" / "plain.py").write_text(FUNCTIONS)
    run_settings = settings(world, ("none",), ("mini_c",), results=tmp_path / "mini")
    assert run(dataclasses.replace(run_settings, root=tmp_path), {}, fake) == OK
    (found,) = load_cells(tmp_path / "mini" / "cells", "mini")
    return found


def test_the_mean_of_numbers_has_scores_and_an_interval(cell):
    metric = cell.metrics["words"]
    assert metric.kind == "mean" and len(metric.samples) == 10 and np.ptp(metric.samples) > 0
    assert metric.value == pytest.approx(metric.samples.mean())
    found = evaluate([cell], None, Filters(), Options()).value(0, cell.benchmark, "words")
    assert found.low < found.value < found.high


@pytest.mark.parametrize("name", ["longest", "pieces"])
def test_any_other_aggregation_is_a_value_without_interval_and_tables_say_so(cell, name):
    assert cell.metrics[name].kind == "whole" and np.isnan(cell.metrics[name].samples).all()
    results = evaluate([cell], None, Filters(), Options())
    found = results.value(0, cell.benchmark, name)
    assert found.value == cell.metrics[name].value and math.isnan(found.low) and math.isnan(found.high)
    assert any(said.startswith("No interval") and f"MINI_C {name}" in said for said in notes.samples([results]))
