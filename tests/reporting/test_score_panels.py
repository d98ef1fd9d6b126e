"""Figures 5 and 6: what is drawn are the cell files' numbers and paired intervals, on panels that fit a column."""

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from plphp_core.analysis.bootstrap import RETENTION
from plphp_core.analysis.method_style import method_style
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.score_panels import (
    FIGURE5,
    FIGURE6,
    ScorePanels,
    around_uncompressed,
    grid_tables,
    paired_frame,
)
from tests.reporting import factories
from tests.reporting.reports_made import contents, lines_of, report, results_of, saved_of, texts

PANELS = list(factories.ABLATIONS)


def panels_of(folder, *arguments, **options):
    results = results_of(folder, *arguments)
    return ScorePanels(results, results.asked(), **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return panels_of(tmp_path_factory.mktemp("five"), factories.suite())


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    return ScorePanels(saved_of(tmp_path_factory.mktemp("six"), factories.of_table("figure6"), "figure6"), PANELS)


def score_of(record):
    return 100 * record["metrics"][factories.SCORES[record["benchmark"]][0]]["value"]


def test_figure5_has_a_polyline_per_method_through_its_settings_and_uncompressed_as_a_line(whole, draw):
    panels = draw(FIGURE5, whole).axes
    assert len(panels) == 8 and not panels[7].axison
    for panel, name in zip(panels, factories.BENCHMARKS, strict=False):
        here, found = [one for one in factories.suite() if one["benchmark"] == name], lines_of(panel)
        assert list(found) == ["Uncompressed", "FastV", "VTW", "PLPHP", "Random", "Uniform", "Shared heads"]
        assert {label for label, line in found.items() if line.get_linestyle() == "--"} >= set(list(found)[4:])
        assert found["Uncompressed"].get_ydata() == pytest.approx([score_of(here[0])] * 2)
        for method in ("fastv", "vtw", "plphp"):
            own = [one for one in here if one["method"] == method]
            points = sorted((100 * np.mean(one["efficiency"]["retention"]), score_of(one)) for one in own)
            look = method_style(method)
            line = found[look.label]
            assert np.allclose(line.get_xydata(), points) and len(points) == 3
            assert (line.get_color(), line.get_marker()) == (look.colour, look.marker)


def test_figure6_has_a_line_per_rate_over_delta_r_in_tints_of_one_colour(grid, draw):
    figure, looks = draw(FIGURE6, grid), set()
    for panel, name in zip(figure.axes, PANELS, strict=True):
        found = lines_of(panel)
        assert list(found) == ["Uncompressed", "PLPHP r=0.3", "PLPHP r=0.4", "PLPHP r=0.5"]
        for r in (0.3, 0.4, 0.5):
            line = found[f"PLPHP r={r:g}"]
            own = [one for one in factories.of_table("figure6", benchmarks=(name,)) if one["params"].get("r") == r]
            assert np.allclose(line.get_ydata(), list(map(score_of, own)))
            assert np.allclose(line.get_xdata(), [0.0, 0.1, 0.2, 0.3], atol=0.02)  # neighbours stand side by side
            looks.add((line.get_color(), line.get_marker()))
    assert len(looks) == 3 and method_style("plphp").colour.lower() in {colour for colour, _ in looks}


def segments(panel):
    return [np.array(segment) for collection in panel.collections for segment in collection.get_segments()]


def test_bars_and_band_of_figure5_are_the_intervals(tmp_path, draw):
    content = panels_of(tmp_path, factories.of_table("figure5", benchmarks=("SD",)), None)
    panel, results = draw(FIGURE5, content).axes[0], content.results
    for index in range(1, 10):
        kept, score = (results.value(index, "SD", name) for name in (RETENTION, "rouge_l"))
        across = [[kept.low, score.value], [kept.high, score.value]]
        for ends in ([[kept.value, score.low], [kept.value, score.high]], across):
            assert any(np.allclose(one, 100 * np.array(ends)) for one in segments(panel))
    none = results.value(0, "SD", "rouge_l")
    (band,) = panel.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((100 * none.low, 100 * none.high))


def test_bars_of_figure6_leave_out_the_line_of_uncompressed_exactly_if_the_paired_interval_leaves_out_zero(grid, draw):
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
    drawn = segments(draw(FIGURE6, replace(grid, benchmarks=["SD"])).axes[0])
    bars = [around_uncompressed(results, index, "SD", "rouge_l") for index in range(1, 13)]
    ends = sorted(tuple(one[:, 1]) for one in drawn)
    np.testing.assert_allclose(ends, sorted((bar.low, bar.high) for bar in bars))


@pytest.mark.parametrize("name", ["whole", "grid"])
def test_a_figure_fits_a_column_with_letters_of_seven_points_and_without_overlaps(name, draw, request):
    content = request.getfixturevalue(name)
    figure = draw(FIGURE5 if name == "whole" else FIGURE6, content)
    width, height = figure.get_size_inches()
    assert width == drawing.COLUMN and height < 9  # a page's text height
    legend = figure.legends[0] if figure.legends else figure.axes[-1].get_legend()
    letters = [text for axes in figure.axes for text in (axes.title, *axes.get_xticklabels(), *axes.get_yticklabels())]
    assert min(text.get_fontsize() for text in (*letters, *figure.texts, *legend.get_texts()) if text.get_text()) >= 7
    boxes = [axes.get_tightbbox().extents for axes in figure.axes[: len(content.benchmarks)]]
    boxes.append(legend.get_window_extent().extents)
    for at, (left, bottom, right, top) in enumerate(boxes):
        assert left >= 0 and right <= figure.bbox.width + 1
        for other in boxes[at + 1 :]:
            assert right <= other[0] + 1 or other[2] <= left + 1 or bottom >= other[3] - 1 or other[1] >= top - 1


def test_the_command_writes_files_that_change_only_with_their_data(tmp_path):
    factories.write(tmp_path, *factories.suite())
    assert report(tmp_path, "figure5", "report.strict=true") == 0
    before = contents(tmp_path)
    assert set(before) == {f"figure5.{kind}" for kind in ("csv", "md", "tex", "pdf", "png")}
    width, height = Image.open(tmp_path / "toy" / "figure5.png").size
    assert width == pytest.approx(drawing.COLUMN * 300, abs=2) and height > width
    assert report(tmp_path, "figure5") == 0 and contents(tmp_path) == before


def test_there_are_points_without_bars_for_a_single_sample_and_without_uncompressed(tmp_path, draw):
    panel = draw(FIGURE5, panels_of(tmp_path / "one", factories.suite(benchmarks=("SD",), samples=1))).axes[0]
    assert not panel.collections and not panel.patches and len(lines_of(panel)["FastV"].get_xdata()) == 3
    records = [one for one in factories.of_table("figure6") if one["method"] != "none"]
    panel = draw(FIGURE6, ScorePanels(saved_of(tmp_path / "two", records, "figure6"), PANELS)).axes[0]
    assert not panel.collections and "Uncompressed" not in lines_of(panel) and len(lines_of(panel)) == 3


def test_a_grid_without_zero_has_nothing_to_compare(tmp_path, draw):
    records = [one for one in factories.of_table("figure6") if one["params"].get("delta_r") != 0]
    content = ScorePanels(saved_of(tmp_path, records, "figure6"), PANELS)
    lines = lines_of(draw(FIGURE6, content).axes[0])
    assert all(len(line.get_xdata()) == 3 for label, line in lines.items() if "PLPHP" in label)
    table = grid_tables(content, FIGURE6.page("toy"))[2]
    assert {text for row in range(9) for text in texts(table, row)[2:]} == {"n/a"} and "Of 0" in table.notes[1]
    assert math.isnan(paired_frame(content).relative_to_delta_r_0.max())
