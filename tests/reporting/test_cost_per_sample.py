"""Figure 7: the curves drawn are the cell files' numbers; files, labels, colours and what is not drawn."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plphp_core.analysis.comparable import RowSpec
from plphp_core.analysis.costs import DECODE
from plphp_core.reporting.figures import cost_per_sample, drawing
from tests.analysis.test_costs import costs_of
from tests.reporting import factories
from tests.reporting.test_table4 import report, written


@pytest.mark.parametrize("batch", [1, 8])
def test_the_curves_are_the_cell_files(tmp_path, drawn, batch):
    costs = costs_of(tmp_path, factories.of_costs(batch=batch, failed=(5,)), "figure7")
    cost_per_sample.draw(costs, "toy")
    latency, cache = drawn[-1].axes
    raw = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "toy" / "cells").iterdir()}
    raw = {record["method"]: record for record in raw.values()}
    assert len(latency.lines) == len(cache.lines) == 4
    for at, method in enumerate(("none", "fastv", "vtw", "plphp")):
        paid = raw[method]["efficiency"]
        expected = np.array(paid["decode_ms_per_token"], dtype=float)
        assert np.allclose(latency.lines[at].get_ydata(), expected, equal_nan=True)
        assert np.allclose(cache.lines[at].get_ydata(), np.array(paid["kv_bytes"]) / 2**20)
        assert latency.lines[at].get_color() == cache.lines[at].get_color() == drawing.COLOURS[method]
        assert list(latency.lines[at].get_xdata()) == list(range(1, 48))
    assert latency.get_title() == "LLaVA-OneVision (toy profile)"
    assert (cache.get_ylabel(), cache.get_xlabel()) == ("KV cache (MiB)", "sample of DetailCaps")
    labels = [text.get_text() for text in drawn[-1].legends[0].get_texts()]
    assert labels == ["Uncompressed", "FastV K=2, R=0.5", "VTW K=4", "PLPHP r=0.4, Δr=0.3"]


def test_documents_keep_their_place_where_a_row_lacks_one(tmp_path, drawn):
    records = factories.of_costs()
    records[1] = factories.of_costs(failed=(0, 5))[1]
    cost_per_sample.draw(costs_of(tmp_path, records), "toy")
    places = list(drawn[-1].axes[0].lines[1].get_xdata())
    assert len(places) == 46 and places == [at for at in range(1, 49) if at not in (1, 6)]


def test_many_samples_are_a_running_median_over_faint_single_ones(tmp_path, drawn):
    records = factories.of_costs(samples=400, batch=1)
    cost_per_sample.draw(costs_of(tmp_path, records), "toy")
    lines = drawn[-1].axes[0].lines
    assert len(lines) == 8
    faint, strong = lines[6], lines[7]
    assert (
        faint.get_linestyle() == "None"
        and len(faint.get_ydata()) == 400
        and strong.get_label() == "PLPHP r=0.4, Δr=0.3"
    )
    values = np.array(records[3]["efficiency"]["decode_ms_per_token"], dtype=float)
    assert strong.get_ydata()[200] == pytest.approx(np.nanmedian(values[195:206]))
    assert strong.get_ydata()[0] == pytest.approx(np.nanmedian(values[:6]))
    (said,) = [
        note for sheet in _sheets(records, tmp_path / "again") for note in sheet.notes if "running median" in note
    ]
    assert "running median of 11" in said


def _sheets(records, folder):
    return cost_per_sample.sheets(costs_of(folder, records), "toy", "figure7.png")


def test_one_outlier_does_not_flatten_the_curves_and_is_counted(tmp_path, drawn):
    records = factories.of_costs(samples=400, batch=1)
    records[0]["efficiency"]["decode_ms_per_token"][7] = 5000.0
    costs = costs_of(tmp_path, records)
    cost_per_sample.draw(costs, "toy")
    top = drawn[-1].axes[0].get_ylim()[1]
    values = [np.array(record["efficiency"]["decode_ms_per_token"], dtype=float) for record in records]
    above = sum(int((some > top).sum()) for some in values)
    assert 1 <= above <= 16 and top < 100
    assert any(f"Not drawn: {above} samples" in note for note in cost_per_sample.sheets(costs, "toy", "x.png")[0].notes)
    calm = _sheets(factories.of_costs(), tmp_path / "calm")
    assert not any("Not drawn" in note for note in calm[0].notes)


def test_the_sheet_has_the_quantiles(tmp_path):
    (sheet,) = _sheets(factories.of_costs()[:3], tmp_path)
    values = np.array(factories.of_costs()[2]["efficiency"][DECODE])
    shown = [entry.text for entry in sheet.rows[2].cells[2:5]]
    assert shown == [f"{np.quantile(values, q):.2f}" for q in (0.05, 0.5, 0.95)]
    assert {entry.text for entry in sheet.rows[3].cells[2:]} == {"n/a"}


def test_the_command_writes_the_figure_and_the_points_behind_it(tmp_path, capsys):
    factories.write(tmp_path, *factories.of_costs())
    assert report(tmp_path, "figure7") == 0
    assert "Figure 7 (toy profile)" in capsys.readouterr().out
    assert written(tmp_path) == {f"figure7.{kind}" for kind in ("csv", "md", "tex", "pdf", "png")}
    picture = (tmp_path / "toy" / "figure7.png").read_bytes()
    width, height = Image.open(io.BytesIO(picture)).size
    assert width == round(300 * drawing.COLUMN) and 0.8 < height / width < 1.4
    assert (tmp_path / "toy" / "figure7.pdf").read_bytes().startswith(b"%PDF")
    points = pd.read_csv(tmp_path / "toy" / "figure7.csv")
    assert points.groupby("method").size().to_dict() == dict.fromkeys(("none", "fastv", "vtw", "plphp"), 48)
    ours = points[points.method == "plphp"].decode_ms_per_token
    assert ours.tolist() == pytest.approx(factories.of_costs()[3]["efficiency"]["decode_ms_per_token"])
    before = {name: (tmp_path / "toy" / name).read_bytes() for name in written(tmp_path)}
    assert report(tmp_path, "figure7", "--quiet") == 0
    assert {name: (tmp_path / "toy" / name).read_bytes() for name in written(tmp_path)} == before


def test_methods_keep_their_colours_and_rows_are_told_apart():
    rows = [RowSpec("none"), RowSpec("plphp", {"r": 0.3}), RowSpec("plphp", {"r": 0.4}), RowSpec("new"), RowSpec("a")]
    looks = drawing.lines(rows)
    assert [look["color"] for look in looks[:3]] == [drawing.COLOURS[name] for name in ("none", "plphp", "plphp")]
    assert looks[1]["linestyle"] != looks[2]["linestyle"]
    assert len({(look["color"], look["linestyle"]) for look in looks}) == 5


def test_running_medians_leave_out_what_is_not_there():
    values = np.array([1.0, np.nan, 3.0, 9.0, np.nan, np.nan, np.nan])
    assert np.allclose(cost_per_sample.running_median(values, 3), [1, 2, 6, 6, 9, np.nan, np.nan], equal_nan=True)
    assert cost_per_sample.window(48) == 1 and cost_per_sample.window(4870) == 121
