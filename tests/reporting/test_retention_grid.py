"""Figure 6: the lines drawn are the cell files' numbers, the bars paired intervals, and Δr is compared with 0."""

import math

import numpy as np
import pandas as pd
import pytest

from plphp_core.reporting.figures import drawing, retention_grid
from tests.reporting import factories
from tests.reporting.test_retention_vs_score import lines_of
from tests.reporting.test_table2 import saved_of
from tests.reporting.test_table4 import report, texts, written

PANELS = list(factories.ABLATIONS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return saved_of(tmp_path_factory.mktemp("six"), factories.of_table("figure6"), "figure6")


def test_a_line_per_rate_over_delta_r_in_shades_of_one_colour(saved, drawn):
    retention_grid.draw(saved, "toy", PANELS, "cider")
    figure = drawn[-1]
    assert [panel.get_title() for panel in figure.axes] == ["DetailCaps (C)", "SD (R-L)", "IE (R-L)", "VST (R-L)"]
    records = factories.of_table("figure6")
    looks = set()
    for panel, name in zip(figure.axes, PANELS, strict=True):
        found = lines_of(panel)
        assert list(found) == ["Uncompressed", "PLPHP r=0.3", "PLPHP r=0.4", "PLPHP r=0.5"]
        for r in (0.3, 0.4, 0.5):
            line = found[f"PLPHP r={r:g}"]
            here = [one for one in records if one["benchmark"] == name and one["params"].get("r") == r]
            values = [100 * one["metrics"][factories.SCORES[name][0]]["value"] for one in here]
            assert [one["params"]["delta_r"] for one in here] == [0.0, 0.1, 0.2, 0.3]
            assert np.allclose(line.get_ydata(), values)
            assert np.allclose(line.get_xdata(), [0.0, 0.1, 0.2, 0.3], atol=0.02)  # neighbours stand side by side
            looks.add((line.get_color(), line.get_marker()))
    assert len(looks) == 3 and drawing.COLOURS["plphp"].lower() in {colour for colour, _ in looks}
    title = figure.legends[0].get_title().get_text()
    assert title == "LLaVA-OneVision (toy profile)"
    legend, panels = figure.legends[0].get_window_extent(), [axes.get_tightbbox() for axes in figure.axes]
    assert all(legend.y0 >= panel.y1 - 1 for panel in panels)


def test_bars_leave_out_the_line_of_uncompressed_exactly_if_the_paired_interval_leaves_out_zero(saved, drawn):
    results = saved.results
    differing = 0
    for index in range(1, 13):
        for name in PANELS:
            metric = factories.SCORES[name][0]
            bar, change = retention_grid.interval(results, index, name, metric), results.change(index, name, metric)
            level = 100 * results.score(0, name, metric).value
            assert (bar.high < level) == (change.high < 0) and (bar.low > level) == (change.low > 0)
            assert bar.value == pytest.approx(level * (1 + change.value))
            assert bar.low <= bar.value <= bar.high
            differing += change.high < 0
    assert 0 < differing < 48
    retention_grid.draw(saved, "toy", ["SD"], "cider")
    segments = [np.array(s) for collection in drawn[-1].axes[0].collections for s in collection.get_segments()]
    ends = {(round(low, 6), round(high, 6)) for (_, low), (_, high) in segments}
    bars = [retention_grid.interval(results, index, "SD", "rouge_l") for index in range(1, 13)]
    assert ends == {(round(bar.low, 6), round(bar.high, 6)) for bar in bars}


def test_every_positive_delta_r_is_compared_with_zero_at_the_same_rate(saved):
    results = saved.results
    pairs = retention_grid.against_zero(results)
    assert len(pairs) == 9
    for one in pairs:
        changed, base = results.rows[one.changed].params, results.rows[one.base].params
        assert changed["r"] == base["r"] and changed["delta_r"] > 0 == base["delta_r"]
    sheet = retention_grid.sheets(saved, "toy", "figure6.png", [], "The paper claims (C11).")[2]
    assert texts(sheet, 0)[:2] == ["r = 0.3", "Δr = 0.1"] and len(sheet.rows) == 9
    scores = [results.score(at, "IE", "rouge_l").value for at in (pairs[0].changed, pairs[0].base)]
    assert texts(sheet, 0)[3] == f"{100 * (scores[0] / scores[1] - 1):+.2f}%".replace("-", "−")
    table = retention_grid.paired_table(saved)
    assert len(table) == 9 * 6 and set(table.n_common) == {48, 4 * 48}
    line = table[(table.r == 0.3) & (table.delta_r == 0.1) & (table.benchmark == "IE")].iloc[0]
    assert line.relative_to_delta_r_0 == pytest.approx(scores[0] / scores[1] - 1)
    entry = sheet.rows[0].cells[3]
    assert entry.detail == f"[{100 * line.ci_low:+.2f}%, {100 * line.ci_high:+.2f}%]".replace("-", "−")
    assert table.kept_difference.to_numpy() == pytest.approx(np.repeat(kept(saved, pairs), 6))
    above = (table[table.metric != "scores"].ci_low > 0).sum()
    assert f"the interval lies wholly above 0 in {above} and" in sheet.notes[1] and sheet.notes[-1].endswith("(C11).")
    assert any("need not keep equally much" in note for note in sheet.notes)


def kept(saved, pairs):
    means = {
        index: np.mean([saved.results.cells[index, name].costs["retention"].mean() for name in PANELS])
        for index in range(1, 13)
    }
    return [means[one.changed] - means[one.base] for one in pairs]


def test_layout_has_r_and_delta_r_in_front(saved):
    scores, intervals, _, against = retention_grid.sheets(saved, "toy", "figure6.png", ["x"])
    for sheet in (scores, intervals, against):
        assert [texts(sheet, row)[:3] for row in (0, 1, 12)] == [
            ["Uncompressed", "", ""], ["PLPHP", "0.3", "0"], ["PLPHP", "0.5", "0.3"]]  # fmt: skip
        assert [at for at, row in enumerate(sheet.rows) if row.rule] == [0, 1, 5, 9]
    said = " ".join(scores.notes)
    for part in ("figure6.png", "Toy profile", "paired by sample", "not known here", "refuses: x"):
        assert part in said, part


def test_gaps_and_a_grid_without_zero(tmp_path, drawn):
    records = [one for one in factories.of_table("figure6") if one["params"].get("delta_r") != 0]
    saved = saved_of(tmp_path, records, "figure6")
    retention_grid.draw(saved, "toy", PANELS, "cider")
    assert all(len(line.get_xdata()) == 3 for label, line in lines_of(drawn[-1].axes[0]).items() if "PLPHP" in label)
    sheet = retention_grid.sheets(saved, "toy", "figure6.png", [])[2]
    assert {text for row in range(9) for text in texts(sheet, row)[2:]} == {"n/a"}
    assert math.isnan(retention_grid.paired_table(saved).relative_to_delta_r_0.max())
    assert "Of 0 comparisons" in sheet.notes[1]


def test_without_uncompressed_there_are_points_without_bars(tmp_path, drawn):
    records = [one for one in factories.of_table("figure6") if one["method"] != "none"]
    retention_grid.draw(saved_of(tmp_path, records, "figure6"), "toy", PANELS, "cider")
    panel = drawn[-1].axes[0]
    assert not panel.collections and "Uncompressed" not in lines_of(panel) and len(lines_of(panel)) == 3


def test_the_command_writes_picture_numbers_and_page(tmp_path, capsys):
    factories.write(tmp_path, *factories.of_table("figure6"))
    assert report(tmp_path, "figure6", "--strict") == 0
    assert "r × Δr, LLaVA-OneVision" in capsys.readouterr().out
    names = {f"figure6.{kind}" for kind in ("csv", "md", "tex", "pdf", "png")} | {"figure6_delta_r.csv"}
    assert written(tmp_path) == names
    table = pd.read_csv(tmp_path / "toy" / "figure6.csv")
    assert set(table.r.dropna()) == {0.3, 0.4, 0.5} and set(table.benchmark) == set(PANELS)
    page = (tmp_path / "toy" / "figure6.md").read_text(encoding="utf-8")
    assert "(C11)" in page and "speaks for it or against it" in page and "reproduced" not in page.lower()


def test_panels_come_in_the_order_in_which_benchmarks_are_named(tmp_path, drawn):
    factories.write(tmp_path, *factories.of_table("figure6"))
    assert report(tmp_path, "figure6", "--quiet", "tasks=[vst,sd,ie]") == 0
    assert [panel.get_title() for panel in drawn[-1].axes[:3]] == ["VST (R-L)", "SD (R-L)", "IE (R-L)"]
    assert "figure6.tasks=vst+sd+ie.md" in written(tmp_path)
