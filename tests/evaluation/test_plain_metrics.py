"""A task of lmms-eval that knows nothing of this project: plain numbers have scores, intervals, and no python here."""

import dataclasses
import math

import numpy as np
import pytest

from plphp_core.analysis.results import evaluate
from plphp_core.config.report_choices import Filters, Options
from plphp_core.evaluation.run_status import OK
from plphp_core.records.cell_result import load_cells
from plphp_core.reporting import notes
from tests.evaluation.factories import TASK, own_tasks, run, settings

METRICS = """metric_list:
  - {metric: words, aggregation: mean, higher_is_better: true}
  - {metric: longest, aggregation: !function plain.longest, higher_is_better: true}
  - {metric: pieces, aggregation: !function plain.pieces, higher_is_better: true}
  - {metric: once, aggregation: !function plain.once, higher_is_better: true}
  - {metric: parts, aggregation: !function plain.parts, higher_is_better: true}
  - {metric: nothing, aggregation: !function plain.nothing, higher_is_better: true}
  - {metric: submission, aggregation: !function plain.fails, higher_is_better: true}
"""
FUNCTIONS = """
import numpy

def process_results(doc, results):
    words = results[0].split()
    own = {"once": doc["question"], "parts": len(words), "nothing": 1, "submission": 1}
    return {"words": numpy.float32(len(words)) / 8, "longest": len(words), "pieces": words, **own}

def longest(items):
    return max(items)

def pieces(items):
    return len(set().union(*items)) / 100

def once(items):
    assert len(items) == len(set(items))
    return len(items) / 20

def parts(items):
    return {"most": max(items), "mean": sum(items) / len(items), "said": "well"}

def nothing(items):
    return None

def fails(items, args):
    raise OSError(args)
"""


@pytest.fixture
def cell(world, tmp_path, fake):
    text = TASK.format(name="mini_c", data="data/mini_a").replace("functions.process_results", "plain.process_results")
    head, _, metadata = text.partition("metric_list:")
    own_tasks(world, tmp_path, mini_c=head + METRICS + metadata[metadata.index("metadata:") :])
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


@pytest.mark.parametrize("name", ["longest", "pieces", "parts_most"])
def test_any_other_aggregation_is_asked_again_for_its_interval(cell, name):
    metric = cell.metrics[name]
    assert metric.kind == "whole" and len(metric.replicates) == Options().resamples
    assert max(metric.replicates) == metric.value > min(metric.replicates)
    found = evaluate([cell], None, Filters(), Options()).value(0, cell.benchmark, name)
    assert found.low < found.high <= found.value == metric.value


def test_one_that_cannot_be_asked_again_has_no_interval_and_tables_say_so(cell):
    assert cell.metrics["once"].kind == "whole" and cell.metrics["once"].replicates is None
    results = evaluate([cell], None, Filters(), Options())
    found = results.value(0, cell.benchmark, "once")
    assert found.value == 0.5 and math.isnan(found.low) and math.isnan(found.high)
    (said,) = (said for said in notes.samples([results]) if said.startswith("No interval"))
    assert "MINI_C once" in said and "longest" not in said


def test_what_is_no_number_costs_no_cell(cell):
    assert set(cell.metrics) == {"words", "longest", "pieces", "once", "parts_most", "parts_mean"}
    assert cell.metrics["parts_mean"].kind == "mean"
