"""Frames: one row per sample and metric with its costs, one row per cell."""

import math

import pytest

from plphp_core.analysis.frame import cell_frame, one_per_sample, sample_frame
from plphp_core.records.cell_result import load_cells
from tests.reporting import factories


@pytest.fixture
def cells(tmp_path):
    factories.write(tmp_path, factories.cell("SD"), factories.cell("COCO2017"))
    return load_cells(tmp_path / "toy" / "cells", "toy")


def test_every_sample_has_a_row_per_metric_with_its_score_and_costs(cells):
    chosen = {(at, cell.benchmark): cell for at, cell in enumerate(cells)}
    frame = sample_frame(chosen)
    assert len(frame) == sum(cell.n * len(cell.metrics) for cell in cells)
    for (row, benchmark), cell in chosen.items():
        for name, metric in cell.metrics.items():
            own = frame[(frame.row == row) & (frame.benchmark == benchmark) & (frame.metric == name)]
            assert own.doc_id.tolist() == cell.doc_ids.tolist() and own.score.tolist() == metric.samples.tolist()
            assert own.retention.tolist() == cell.costs["retention"].tolist()
    assert len(one_per_sample(frame)) == sum(cell.n for cell in cells)


def test_every_cell_has_a_row_with_its_conditions_parameters_and_values(cells):
    frame = cell_frame(cells)
    assert frame.benchmark.tolist() == [cell.benchmark for cell in cells] and frame.n.tolist() == [c.n for c in cells]
    by_name = frame.set_index("benchmark")
    assert math.isnan(by_name["metric.cider"]["SD"])
    assert by_name["metric.cider"]["COCO2017"] == next(c for c in cells if "cider" in c.metrics).metrics["cider"].value
