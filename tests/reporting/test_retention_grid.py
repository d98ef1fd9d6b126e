"""Figure 6: the lines drawn are the cell files' numbers, the bars paired intervals, and Δr is compared with 0."""

import math
from dataclasses import replace

import numpy as np
import pytest

from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.paired_contrasts import against_zero
from plphp_core.reporting.figures.score_panels import (
    FIGURE6,
    ScorePanels,
    around_uncompressed,
    grid_tables,
    paired_frame,
)
from tests.reporting import factories
from tests.reporting.reports_made import lines_of, saved_of, texts

PANELS = list(factories.ABLATIONS)
PAGE = FIGURE6.page("toy")


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    return ScorePanels(saved_of(tmp_path_factory.mktemp("six"), factories.of_table("figure6"), "figure6"), PANELS)


def test_a_line_per_rate_over_delta_r_in_tints_of_one_colour(grid, draw):
    figure = draw(FIGURE6, grid)
    records, looks = factories.of_table("figure6"), set()
    for panel, name in zip(figure.axes, PANELS, strict=True):
        found = lines_of(panel)
        assert list(found) == ["Uncompressed", "PLPHP r=0.3", "PLPHP r=0.4", "PLPHP r=0.5"]
        for r in (0.3, 0.4, 0.5):
            line = found[f"PLPHP r={r:g}"]
            here = [one for one in records if one["benchmark"] == name and one["params"].get("r") == r]
            values = [100 * one["metrics"][factories.SCORES[name][0]]["value"] for one in here]
            assert np.allclose(line.get_ydata(), values)
            assert np.allclose(line.get_xdata(), [0.0, 0.1, 0.2, 0.3], atol=0.02)  # neighbours stand side by side
            looks.add((line.get_color(), line.get_marker()))
    assert len(looks) == 3 and method_style("plphp").colour.lower() in {colour for colour, _ in looks}
    legend, panels = figure.legends[0].get_window_extent(), [axes.get_tightbbox() for axes in figure.axes]
    assert all(legend.y0 >= panel.y1 - 1 for panel in panels)


def test_bars_leave_out_the_line_of_uncompressed_exactly_if_the_paired_interval_leaves_out_zero(grid, draw):
    results, differing = grid.results, 0
    for index in range(1, 13):
        for name in PANELS:
            metric = factories.SCORES[name][0]
            bar, change = around_uncompressed(results, index, name, metric), results.change(index, name, metric)
            level = 100 * results.value(0, name, metric).value
            assert (bar.high < level) == (change.high < 0) and (bar.low > level) == (change.low > 0)
            assert bar.value == pytest.approx(level * (1 + change.value)) and bar.low <= bar.value <= bar.high
            differing += change.high < 0
    assert 0 < differing < 48
    figure = draw(FIGURE6, replace(grid, benchmarks=["SD"]))
    segments = [np.array(s) for collection in figure.axes[0].collections for s in collection.get_segments()]
    ends = {(round(low, 6), round(high, 6)) for (_, low), (_, high) in segments}
    bars = [around_uncompressed(results, index, "SD", "rouge_l") for index in range(1, 13)]
    assert ends == {(round(bar.low, 6), round(bar.high, 6)) for bar in bars}


def test_every_positive_delta_r_is_compared_with_zero_at_the_same_rate(grid):
    results, pairs = grid.results, against_zero(grid.results)
    assert len(pairs) == 9
    for one in pairs:
        changed, base = results.rows[one.changed].params, results.rows[one.base].params
        assert changed["r"] == base["r"] and changed["delta_r"] > 0 == base["delta_r"]
    table = grid_tables(grid, PAGE)[2]
    assert texts(table, 0)[:2] == ["r = 0.3", "Δr = 0.1"] and len(table.rows) == 9
    changed, base = (results.value(at, "IE", "rouge_l").value for at in (pairs[0].changed, pairs[0].base))
    assert texts(table, 0)[3] == f"{100 * (changed / base - 1):+.2f}%".replace("-", "−")
    frame = paired_frame(grid)
    assert len(frame) == 9 * 6 and set(frame.n_common) == {48, 4 * 48}
    line = frame[(frame.r == 0.3) & (frame.delta_r == 0.1) & (frame.benchmark == "IE")].iloc[0]
    assert line.relative_to_delta_r_0 == pytest.approx(changed / base - 1)
    assert table.rows[0].cells[3].detail == f"[{100 * line.ci_low:+.2f}%, {100 * line.ci_high:+.2f}%]".replace("-", "−")
    kept = [np.mean([results.cells[row, name].costs["retention"].mean() for name in PANELS]) for row in range(13)]
    wanted = [kept[one.changed] - kept[one.base] for one in pairs]
    assert frame.kept_difference.to_numpy() == pytest.approx(np.repeat(wanted, 6))
    above = (frame[frame.metric != "scores"].ci_low > 0).sum()
    assert f"the interval lies wholly above 0 in {above} and" in table.notes[1]


def test_gaps_and_a_grid_without_zero(tmp_path, draw):
    records = [one for one in factories.of_table("figure6") if one["params"].get("delta_r") != 0]
    content = ScorePanels(saved_of(tmp_path, records, "figure6"), PANELS)
    lines = lines_of(draw(FIGURE6, content).axes[0])
    assert all(len(line.get_xdata()) == 3 for label, line in lines.items() if "PLPHP" in label)
    table = grid_tables(content, PAGE)[2]
    assert {text for row in range(9) for text in texts(table, row)[2:]} == {"n/a"} and "Of 0" in table.notes[1]
    assert math.isnan(paired_frame(content).relative_to_delta_r_0.max())


def test_without_uncompressed_there_are_points_without_bars(tmp_path, draw):
    records = [one for one in factories.of_table("figure6") if one["method"] != "none"]
    panel = draw(FIGURE6, ScorePanels(saved_of(tmp_path, records, "figure6"), PANELS)).axes[0]
    assert not panel.collections and "Uncompressed" not in lines_of(panel) and len(lines_of(panel)) == 3
