"""Figure 5: what is drawn are the cell files' numbers, on panels that fit a column."""

import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plphp_core.analysis.method_style import method_style
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.score_panels import FIGURE5, ScorePanels, method_tables
from tests.reporting import factories
from tests.reporting.reports_made import lines_of, report, results_of, texts, without, written


def panels_of(folder, *arguments, **options):
    results = results_of(folder, *arguments)
    return ScorePanels(results, results.asked(), **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return panels_of(tmp_path_factory.mktemp("five"), factories.suite())


def test_a_polyline_per_method_through_its_settings_and_uncompressed_as_a_line(whole, draw):
    panels = draw(FIGURE5, whole).axes
    assert len(panels) == 8 and not panels[7].axison
    records = factories.suite()
    for panel, name in zip(panels, factories.BENCHMARKS, strict=False):
        metric, found = factories.SCORES[name][0], lines_of(panel)
        assert list(found) == ["Uncompressed", "FastV", "VTW", "PLPHP"]
        here = [one for one in records if one["benchmark"] == name]
        level = 100 * here[0]["metrics"][metric]["value"]
        assert found["Uncompressed"].get_ydata() == pytest.approx([level, level])
        for method in ("fastv", "vtw", "plphp"):
            points = sorted(
                (100 * np.mean(one["efficiency"]["retention"]), 100 * one["metrics"][metric]["value"])
                for one in here
                if one["method"] == method
            )
            look = method_style(method)
            line = found[look.label]
            assert np.allclose(line.get_xydata(), points) and len(points) == 3
            assert (line.get_color(), line.get_marker()) == (look.colour, look.marker)


def test_bars_and_band_are_the_intervals(tmp_path, draw):
    content = panels_of(tmp_path, factories.of_table("figure5", benchmarks=("SD",)), None)
    panel, results = draw(FIGURE5, content).axes[0], content.results
    segments = [np.array(segment) for collection in panel.collections for segment in collection.get_segments()]
    for index in range(1, 10):
        kept, score = results.value(index, "SD", "retention"), results.value(index, "SD", "rouge_l")
        for ends in (
            [[kept.value, score.low], [kept.value, score.high]],
            [[kept.low, score.value], [kept.high, score.value]],
        ):
            assert any(np.allclose(segment, 100 * np.array(ends)) for segment in segments)
    none = results.value(0, "SD", "rouge_l")
    (band,) = panel.patches
    assert (band.get_y(), band.get_y() + band.get_height()) == pytest.approx((100 * none.low, 100 * none.high))


def test_it_fits_a_column_with_letters_of_seven_points(whole, draw):
    figure = draw(FIGURE5, whole)
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


def test_gaps_are_left_out_of_the_lines_and_named_below(tmp_path, draw):
    records = without(factories.suite(), "vtw", "K=4", "IE")
    gone = (("MV", "none"), ("VST", "fastv"))
    content = panels_of(tmp_path, [one for one in records if (one["benchmark"], one["method"]) not in gone])
    panels = draw(FIGURE5, content).axes
    assert len(lines_of(panels[1])["VTW"].get_xdata()) == 2
    assert "Uncompressed" not in lines_of(panels[3]) and "FastV" not in lines_of(panels[2])
    legend = panels[7].get_legend()
    assert sorted(text.get_text() for text in legend.get_texts()) == ["FastV", "PLPHP", "Uncompressed", "VTW"]
    table = method_tables(content, FIGURE5.page("toy"))[0]
    assert texts(table, 5)[4:6] == ["n/a", "n/a"] and any("VTW K=4: IE" in note for note in table.notes)


def test_further_methods_have_looks_of_their_own(tmp_path, draw):
    extra = [factories.cell("SD", name, {"w": 1}, "w=1", 0.7, 0.4) for name in ("snapkv", "h2o")]
    content = panels_of(tmp_path, [*factories.suite(benchmarks=("SD",)), *extra], None)
    found = lines_of(draw(FIGURE5, content).axes[0])
    assert len({(line.get_color(), line.get_marker()) for line in found.values()}) == len(found) == 6


def test_a_method_looks_alike_whatever_is_drawn_beside_it(monkeypatch):
    names = {"none", "plphp", *(f"method_{number}" for number in range(40))}
    monkeypatch.setattr("plphp_core.analysis.method_style.method_names", lambda: names)
    looks = {(method_style(name).colour, method_style(name).marker) for name in names}
    assert len(looks) == 42 and method_style("unheard of") == method_style("unheard of")


def test_the_command_writes_picture_numbers_and_tables_which_change_only_with_their_data(tmp_path):
    factories.write(tmp_path, *factories.suite())
    assert report(tmp_path, "figure5", "report.strict=true") == 0
    assert written(tmp_path) == {f"figure5.{kind}" for kind in ("csv", "md", "tex", "pdf", "png")}
    width, height = Image.open(tmp_path / "toy" / "figure5.png").size
    assert width == pytest.approx(drawing.COLUMN * 300, abs=2) and height > width
    assert (tmp_path / "toy" / "figure5.pdf").read_bytes().startswith(b"%PDF")
    frame = pd.read_csv(tmp_path / "toy" / "figure5.csv")
    ours = frame[(frame.method == "vtw") & (frame.benchmark == "SD") & (frame.metric == "rouge_l")]
    assert ours.retention.tolist() == [0.375, 0.5, 0.75] and ours.retention_low.tolist() == ours.retention.tolist()
    before = {path.name: path.read_bytes() for path in (tmp_path / "toy").iterdir() if path.is_file()}
    assert report(tmp_path, "figure5") == 0
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "toy").iterdir() if path.is_file()}


def test_chosen_benchmarks_have_a_figure_of_their_own(tmp_path, drawn):
    factories.write(tmp_path, *factories.suite())
    assert report(tmp_path, "figure5", "tasks=[vst,detailcaps]", "report.caption_metric=meteor") == 0
    assert [panel.get_title() for panel in drawn[-1].axes] == ["VST (R-L)", "DetailCaps (M)"]
    assert "figure5.tasks=vst+detailcaps.md" in written(tmp_path)


def test_a_single_sample_is_a_point_without_bars(tmp_path, draw):
    content = panels_of(tmp_path, factories.suite(benchmarks=("SD",), samples=1))
    panel = draw(FIGURE5, content).axes[0]
    assert not panel.collections and not panel.patches
    assert (
        math.isnan(content.results.value(1, "SD", "retention").low) and len(lines_of(panel)["FastV"].get_xdata()) == 3
    )
