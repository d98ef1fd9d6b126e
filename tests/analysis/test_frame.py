"""The frame: one row per sample and metric with its costs."""

import pytest

from plphp_core.analysis.frame import one_per_sample, sample_frame
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
