"""Figure 5: what is drawn are the cell files' numbers, on panels that fit a column."""

import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plphp_core.analysis.retention_stats import savings
from plphp_core.reporting.figures import drawing, retention_vs_score
from tests.reporting import factories
from tests.reporting.test_table1 import results_of, without
from tests.reporting.test_table4 import report, texts, written


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return savings(results_of(tmp_path_factory.mktemp("five"), factories.suite()))


def lines_of(panel):
    """The polylines by label."""
    return {line.get_label(): line for line in panel.lines if not line.get_label().startswith("_")}


def test_a_polyline_per_method_through_its_settings_and_uncompressed_as_a_line(saved, drawn):
    retention_vs_score.draw(saved, "toy", "cider")
    panels = drawn[-1].axes
    assert len(panels) == 8 and not panels[7].axison
    records = factories.suite()
    for panel, name in zip(panels, factories.BENCHMARKS, strict=False):
        metric = factories.SCORES[name][0]
        found = lines_of(panel)
        assert list(found) == ["Uncompressed", "FastV", "VTW", "PLPHP"]
        here = [one for one in records if one["benchmark"] == name]
        level = 100 * here[0]["metrics"][metric]["value"]
        assert found["Uncompressed"].get_ydata() == pytest.approx([level, level])
        for method, label in (("fastv", "FastV"), ("vtw", "VTW"), ("plphp", "PLPHP")):
            points = sorted(
                (100 * np.mean(one["efficiency"]["retention"]), 100 * one["metrics"][metric]["value"])
                for one in here
                if one["method"] == method
            )
            assert np.allclose(found[label].get_xydata(), points) and len(points) == 3
            assert found[label].get_color() == drawing.COLOURS[method]
            assert found[label].get_marker() == drawing.MARKERS[method]
    assert panels[0].get_title() == "SD (R-L)" and panels[6].get_title() == "DetailCaps (C)"
    legend = panels[7].get_legend()
    assert legend.get_title().get_text() == "LLaVA-OneVision\n(toy profile)"
    assert [text.get_text() for text in legend.get_texts()] == ["Uncompressed", "FastV", "VTW", "PLPHP"]


def test_bars_and_band_are_the_intervals(tmp_path, drawn):
    records = factories.of_table("figure5", benchmarks=("SD",))
    saved = savings(results_of(tmp_path, records, None))
    retention_vs_score.draw(saved, "toy", "cider")
    panel, results = drawn[-1].axes[0], saved.results
    segments = [np.array(segment) for collection in panel.collections for segment in collection.get_segments()]
    for index in range(1, 10):
        kept, score = saved.retention[index, "SD"], results.score(index, "SD", "rouge_l")
        wanted = [[100 * kept.value, 100 * score.low], [100 * kept.value, 100 * score.high]]
        assert any(np.allclose(segment, wanted) for segment in segments)
        wanted = [[100 * kept.low, 100 * score.value], [100 * kept.high, 100 * score.value]]
        assert any(np.allclose(segment, wanted) for segment in segments)
    none = results.score(0, "SD", "rouge_l")
    (band,) = panel.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((100 * none.low, 100 * none.high))


def test_captions_may_be_drawn_with_meteor(saved, drawn):
    retention_vs_score.draw(saved, "toy", "meteor")
    panel = drawn[-1].axes[4]
    assert panel.get_title() == "Flickr30k (M)"
    score = 100 * saved.results.score(9, "Flickr30k", "meteor").value
    assert lines_of(panel)["PLPHP"].get_ydata()[-1] == pytest.approx(score)
    assert drawn[-1].axes[0].get_title() == "SD (R-L)"


def test_it_fits_a_column_with_letters_of_seven_points(saved, drawn):
    retention_vs_score.draw(saved, "toy", "cider")
    figure = drawn[-1]
    width, height = figure.get_size_inches()
    assert width == drawing.COLUMN and height < 9  # a page's text height
    letters = [text for axes in figure.axes for text in (axes.title, *axes.get_xticklabels(), *axes.get_yticklabels())]
    letters += [*figure.texts, *figure.axes[7].get_legend().get_texts()]
    assert min(text.get_fontsize() for text in letters if text.get_text()) >= 7
    boxes = [axes.get_tightbbox().extents for axes in figure.axes[:7]]
    for at, (left, bottom, right, top) in enumerate(boxes):
        assert left >= 0 and right <= figure.bbox.width + 1
        for other in boxes[at + 1 :]:  # no panel's labels run into another panel
            assert right <= other[0] + 1 or other[2] <= left + 1 or bottom >= other[3] - 1 or other[1] >= top - 1


def test_gaps_are_left_out_of_the_lines_and_named_below(tmp_path, drawn):
    records = without(factories.suite(), "vtw", "K=4", "IE")
    records = [one for one in records if (one["benchmark"], one["method"]) not in (("MV", "none"), ("VST", "fastv"))]
    saved = savings(results_of(tmp_path, records))
    retention_vs_score.draw(saved, "toy", "cider")
    panels = drawn[-1].axes
    assert len(lines_of(panels[1])["VTW"].get_xdata()) == 2
    assert "Uncompressed" not in lines_of(panels[3]) and "FastV" not in lines_of(panels[2])
    legend = panels[7].get_legend()
    assert sorted(text.get_text() for text in legend.get_texts()) == ["FastV", "PLPHP", "Uncompressed", "VTW"]
    sheet = retention_vs_score.sheets(saved, "toy", "figure5.png", "cider")[0]
    assert texts(sheet, 5)[4:6] == ["n/a", "n/a"]
    assert any("not run yet" in note and "VTW K=4: IE" in note for note in sheet.notes)


def test_further_methods_have_colours_and_markers_of_their_own(tmp_path, drawn):
    extra = [factories.cell("SD", name, {"w": 1}, "w=1", 0.7, 0.4) for name in ("snapkv", "h2o")]
    saved = savings(results_of(tmp_path, [*factories.suite(benchmarks=("SD",)), *extra], None))
    retention_vs_score.draw(saved, "toy", "cider")
    found = lines_of(drawn[-1].axes[0])
    looks = {(line.get_color(), line.get_marker()) for line in found.values()}
    assert len(found) == len(looks) == 6


def test_the_sheet_is_what_is_drawn(saved):
    numbers, intervals, against = retention_vs_score.sheets(saved, "toy", "figure5.png", "cider")
    assert len(numbers.columns) == 2 + 14 and len(against.rows) == 10
    kept, score = saved.retention[8, "MV"], saved.results.score(8, "MV", "overall")
    assert texts(numbers, 8)[8:10] == [f"{100 * kept.value:.1f}%", f"{100 * score.value:.2f}"]
    assert texts(intervals, 8)[9] == f"[{100 * score.low:.2f}, {100 * score.high:.2f}]"
    said = " ".join(numbers.notes)
    assert "figure5.png" in said and "Toy profile" in said and "scaled to the toy's depth" in said


def test_the_command_writes_picture_numbers_and_page(tmp_path):
    factories.write(tmp_path, *factories.suite())
    assert report(tmp_path, "figure5", "--quiet", "--strict") == 0
    assert written(tmp_path) == {f"figure5.{kind}" for kind in ("csv", "md", "tex", "pdf", "png")}
    width, height = Image.open(tmp_path / "toy" / "figure5.png").size
    assert width == pytest.approx(drawing.COLUMN * 300, abs=2) and height > width
    assert (tmp_path / "toy" / "figure5.pdf").read_bytes().startswith(b"%PDF")
    table = pd.read_csv(tmp_path / "toy" / "figure5.csv")
    assert {"K", "R", "r", "retention_low", "retention_high", "best_baseline", "baseline_low"} <= set(table.columns)
    ours = table[(table.method == "vtw") & (table.benchmark == "SD") & (table.metric == "rouge_l")]
    assert ours.retention.tolist() == [0.375, 0.5, 0.75] and ours.retention_low.tolist() == ours.retention.tolist()
    before = {path.name: path.read_bytes() for path in (tmp_path / "toy").iterdir() if path.is_file()}
    assert report(tmp_path, "figure5", "--quiet") == 0  # files change only with their data
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "toy").iterdir() if path.is_file()}


def test_chosen_benchmarks_have_a_figure_of_their_own(tmp_path, drawn):
    factories.write(tmp_path, *factories.suite())
    assert report(tmp_path, "figure5", "--quiet", "tasks=[vst,detailcaps]", "--caption-metric", "meteor") == 0
    assert [panel.get_title() for panel in drawn[-1].axes] == ["VST (R-L)", "DetailCaps (M)"]
    assert "figure5.tasks=vst+detailcaps.md" in written(tmp_path)


def test_a_single_sample_is_a_point_without_bars(tmp_path, drawn):
    saved = savings(results_of(tmp_path, factories.suite(benchmarks=("SD",), samples=1)))
    retention_vs_score.draw(saved, "toy", "cider")
    panel = drawn[-1].axes[0]
    assert not panel.collections and not panel.patches
    assert math.isnan(saved.retention[1, "SD"].low) and len(lines_of(panel)["FastV"].get_xdata()) == 3
