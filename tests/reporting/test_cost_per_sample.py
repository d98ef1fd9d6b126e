"""Figure 7: the curves drawn are the cell files' numbers; files, labels, colours and what is not drawn."""

import json

import numpy as np
import pandas as pd
import pytest

from plphp_core.analysis.comparable import RowSpec
from plphp_core.analysis.method_style import method_style
from plphp_core.config.hydra_app import composed
from plphp_core.config.run_settings import settings_from_config
from plphp_core.reporting.csv_export import sample_table
from plphp_core.reporting.figures.cost_per_sample import FIGURE7, SampleCosts, row_lines, running_median, tables, window
from tests.reporting import factories
from tests.reporting.reports_made import costs_of, report


def content_of(folder, records, *table):
    results = costs_of(folder, records, *table)
    return SampleCosts(results, "DetailCaps", sample_table(results, "DetailCaps"))


def notes_of(content):
    return tables(content, FIGURE7.page("toy"))[0].notes


def test_the_curves_are_the_cell_files(tmp_path, draw):
    content = content_of(tmp_path, factories.of_costs(batch=1, failed=(5,)), "figure7")
    figure = draw(FIGURE7, content)
    latency, cache = figure.axes
    raw = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "toy" / "cells").iterdir()]
    paid = {record["method"]: record["efficiency"] for record in raw}
    assert len(latency.lines) == len(cache.lines) == 7
    for at, method in enumerate(("none", "fastv", "vtw", "plphp")):
        expected = np.array(paid[method]["decode_ms_per_token"], dtype=float)
        assert np.allclose(latency.lines[at].get_ydata(), expected, equal_nan=True)
        assert np.allclose(cache.lines[at].get_ydata(), np.array(paid[method]["kv_bytes"]) / 2**20)
        assert list(latency.lines[at].get_xdata()) == list(range(1, 48))
        look = method_style(method)
        for line in (latency.lines[at], cache.lines[at]):
            assert line.get_color() == look.colour and line.get_marker() == (look.marker or "D")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["Uncompressed", "FastV K=2, R=0.5", "VTW K=6", "PLPHP r=0.4, Δr=0.3"] + [
        f"{control} r=0.4, Δr=0.3" for control in ("Random", "Uniform", "Shared heads")
    ]


def test_many_samples_are_a_running_median_over_faint_single_ones(tmp_path, draw):
    records = factories.of_costs(samples=400, batch=1)
    content = content_of(tmp_path, records)
    lines = draw(FIGURE7, content).axes[0].lines
    faint, strong = lines[6], lines[7]
    assert len(lines) == 14 and faint.get_linestyle() == "None" and len(faint.get_ydata()) == 400
    values = np.array(records[3]["efficiency"]["decode_ms_per_token"], dtype=float)
    assert strong.get_label() == "PLPHP r=0.4, Δr=0.3"
    assert strong.get_ydata()[200] == pytest.approx(np.nanmedian(values[195:206]))
    assert strong.get_ydata()[0] == pytest.approx(np.nanmedian(values[:6]))
    assert any("running median of 11" in note for note in notes_of(content))


def test_one_outlier_does_not_flatten_the_curves_and_is_counted(tmp_path, draw):
    records = factories.of_costs(samples=400, batch=1)
    records[0]["efficiency"]["decode_ms_per_token"][7] = 5000.0
    content = content_of(tmp_path / "wild", records)
    top = draw(FIGURE7, content).axes[0].get_ylim()[1]
    values = [np.array(record["efficiency"]["decode_ms_per_token"], dtype=float) for record in records]
    above = sum(int((some > top).sum()) for some in values)
    assert 1 <= above <= 16 and top < 100
    assert any(f"Not drawn: {above} samples" in note for note in notes_of(content))
    assert not any("Not drawn" in note for note in notes_of(content_of(tmp_path / "calm", factories.of_costs())))


def test_rows_of_one_method_are_told_apart_by_their_dashes():
    rows = [RowSpec("none"), RowSpec("plphp", {"r": 0.3}), RowSpec("plphp", {"r": 0.4}), RowSpec("new"), RowSpec("a")]
    looks = row_lines(rows)
    assert looks[1]["color"] == looks[2]["color"] == method_style("plphp").colour
    assert len({(look["color"], look["marker"], look["linestyle"]) for look in looks}) == 5


def test_running_medians_leave_out_what_is_not_there():
    values = pd.Series([1.0, np.nan, 3.0, 9.0, *[np.nan] * 76, 5.0])
    assert window(80) == 3 and window(48) == 1 and window(4870) == 121
    found = running_median(values)
    assert np.allclose(found[:6], [1, 2, 6, 6, 9, np.nan], equal_nan=True) and found.iloc[-1] == 5


def test_samples_of_batches_are_refused_and_cells_measured_alone_lie_apart(tmp_path, capsys):
    """The toy profile answers in batches: its Figure 7 is made of what lies in batch1, the paper's of all cells."""
    asked = settings_from_config(composed(["profile=toy", "table=figure7", f"results={tmp_path}"]))
    assert (asked.batch_size, asked.results) == (1, tmp_path / "toy" / "batch1")
    asked = settings_from_config(composed(["profile=paper", "table=figure7", f"results={tmp_path}"]))
    assert (asked.batch_size, asked.results) == (1, tmp_path / "paper")
    factories.write(tmp_path, *factories.of_costs(batch=8))
    assert report(tmp_path, "figure7") == 1
    assert "no sample has been answered alone" in capsys.readouterr().err
    (tmp_path / "toy").rename(tmp_path / "batch1")
    (tmp_path / "toy").mkdir()
    (tmp_path / "batch1").rename(tmp_path / "toy" / "batch1")
    assert report(tmp_path, "figure7") == 1
    assert "answered in batches of 8" in capsys.readouterr().err
    for path in (tmp_path / "toy" / "batch1" / "cells").iterdir():
        path.unlink()
    factories.write(tmp_path / "alone", *factories.of_costs(batch=1))
    (tmp_path / "toy" / "batch1" / "cells").rmdir()
    (tmp_path / "alone" / "toy" / "cells").rename(tmp_path / "toy" / "batch1" / "cells")
    assert report(tmp_path, "figure7") == 0 and (tmp_path / "toy" / "figure7.png").is_file()
