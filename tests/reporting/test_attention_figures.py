"""Figures 1, 2 and 3: what is drawn is what was read, peaks are marked, a marked token lies where it belongs."""

import numpy as np
import pandas as pd
import pytest

from plphp_core.analysis.attention_heads import overlap
from plphp_core.analysis.results import NothingToShow
from plphp_core.records.attention_result import load_readings
from plphp_core.records.errors import ReportError
from plphp_core.reporting import attention_sample
from plphp_core.reporting.attention_results import MODELS, by_model
from plphp_core.reporting.figures.attention_by_head import FIGURE3, HeadAttention
from plphp_core.reporting.figures.attention_by_layer import (
    FIGURE1,
    FIGURE2,
    LayerAttention,
    region_attention,
    region_tables,
)
from plphp_core.vision.token_geometry import NO_TOKEN, grid
from tests.reporting.attention_factories import reading, sight
from tests.reporting.reports_made import report


def read(folder, *models, benchmarks=("SD",)):
    for model in models:
        for benchmark in benchmarks:
            reading(folder / "toy" / "attention", model, benchmark)
    return by_model(load_readings(folder / "toy" / "attention"))


@pytest.fixture
def models(tmp_path):
    return read(tmp_path, "llava_onevision", "idefics2", benchmarks=("SD", "VST"))


def test_figure1_draws_means_bands_peaks_and_thresholds(models, draw):
    figure = draw(FIGURE1, LayerAttention(models, {"llava_onevision": (0.25, 0.1)}))
    left, right = figure.axes[:2]
    assert (left.get_title(), right.get_title()) == ("LLaVA-OneVision", "IDEFICS2")
    mean, peaks, alpha, beta = left.lines
    values = np.concatenate([part.vision_attention for part in models["llava_onevision"]])
    np.testing.assert_allclose(mean.get_ydata(), values.mean(0))
    assert list(mean.get_xdata()) == list(range(8))  # as the code counts
    assert list(peaks.get_xdata()) == [4] and peaks.get_label() == "re-attention peak"
    assert [set(line.get_ydata()) for line in (alpha, beta)] == [{0.25}, {0.1}] and len(right.lines) == 2
    low, high = np.quantile(values, (0.1, 0.9), axis=0)
    band = left.collections[0].get_paths()[0].vertices
    for layer in range(8):
        heights = band[band[:, 0] == layer][:, 1]
        assert heights.min() == pytest.approx(low[layer]) and heights.max() == pytest.approx(high[layer])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_text_of_figures_1_and_2_is_cut_off(tmp_path, draw, count):
    models = read(tmp_path, *("llava_onevision", "qwen2_vl", "mantis")[:count])
    contents = (LayerAttention(models, dict.fromkeys(models, (0.25, 0.1))), region_attention(models, "order"))
    for spec, content in zip((FIGURE1, FIGURE2), contents, strict=True):
        figure = draw(spec, content)
        legend = (figure.legends or [figure.axes[-1].get_legend()])[0]
        for part in (legend, *figure.texts):
            box, whole = part.get_window_extent(), figure.bbox
            assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= whole.width and box.y1 <= whole.height, part


def test_figure2_draws_shares_and_leaves_out_what_has_no_place(models, draw):
    content = region_attention(models, "bands")
    assert list(content.models) == ["llava_onevision"] and list(content.left_out) == ["IDEFICS2"]
    assert list(region_attention(models, "order").models) == list(models)
    with pytest.raises(NothingToShow, match="cut=order draws idefics2"):
        region_attention({"idefics2": models["idefics2"]}, "bands")
    assert region_attention(models, "bands", MODELS).left_out == {
        "IDEFICS2": "latents without a place", "Qwen2-VL": "not read", "Mantis": "not read",
    }  # fmt: skip
    figure = draw(FIGURE2, content)
    assert "not drawn: IDEFICS2" in figure.axes[-1].get_legend().get_title().get_text().replace("\n", " ")
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    for name, share in zip(("top", "upper", "middle", "lower", "bottom"), (0.1, 0.15, 0.4, 0.2, 0.1), strict=True):
        np.testing.assert_allclose(lines[name].get_ydata(), share)
    (table,) = region_tables(content, FIGURE2.page("toy"))
    assert len(table.rows) == 6 and [cell.text for cell in table.rows[2].cells[1:4]] == ["middle", "20.0%", "40.0"]


def test_figure2_has_one_scale_and_no_mark_on_another(tmp_path, draw):
    models = read(tmp_path, "llava_onevision", "qwen2_vl", "mantis")
    figure = draw(FIGURE2, region_attention(models, "bands"))
    panels = [axes for axes in figure.axes if axes.has_data()]
    assert len(panels) == 3 and len({(axes.get_xlim(), axes.get_ylim()) for axes in panels}) == 1
    for axes in panels:
        marks = [line for line in axes.lines if line.get_marker() == "<" and len(line.get_xdata())]
        across = sorted(axes.transData.transform((line.get_xdata()[0], 0))[0] for line in marks)
        wide = marks[0].get_markersize() * figure.dpi / 72
        assert len(marks) == 5 and min(np.diff(across)) >= wide


@pytest.mark.slow
def test_reports_write_their_files_without_any_finished_cell(models, tmp_path, capsys):
    sight(tmp_path / "toy" / "attention")
    for line in (["figure1"], ["figure2", "report.cut=centre"], ["figure3", "report.layer=2"]):
        assert report(tmp_path, *line) == 0
    names = {path.name for path in (tmp_path / "toy").iterdir() if path.is_file()}
    assert names == {
        *(f"figure1.{kind}" for kind in ("csv", "md", "pdf", "png")),
        *(f"figure2.cut=centre.{kind}" for kind in ("csv", "md", "pdf", "png")),
        *(f"figure3.layer=2.{kind}" for kind in ("md", "pdf", "png")), "figure3_heads.layer=2.png",
    }  # fmt: skip
    frame = pd.read_csv(tmp_path / "toy" / "figure1.csv")
    assert len(frame) == 2 * 3 * 8 and set(frame.benchmark) == {"SD", "VST", "all"}
    shares = pd.read_csv(tmp_path / "toy" / "figure2.cut=centre.csv")
    assert shares.groupby("layer").share.sum().tolist() == pytest.approx([1.0] * 8)


def test_nothing_read_says_what_to_run(tmp_path, capsys):
    for name in ("figure1", "figure3"):
        assert report(tmp_path, name) == 1
        assert f"make reproduce-{name}" in capsys.readouterr().err


def sample(folder, **changes):
    sight(folder, **changes)
    record, _ = attention_sample.find(folder, changes.get("model", "llava_onevision"))
    return attention_sample.load(record)


def panels_of(figure):
    """Its panels by title."""
    return {axes.get_title().partition(", γ")[0]: axes for axes in figure.axes}


@pytest.mark.parametrize(("row", "column", "image"), [(0, 0, 0), (2, 3, 1), (3, 1, 0)])
def test_figure3_a_marked_token_is_lit_and_left_bright_in_its_place_and_nowhere_else(
    tmp_path, draw, row, column, image
):
    """All attention of query head 2 in layer 1 is on one token, which KV head 1 alone keeps there."""
    token = image * 16 + row * 4 + column
    rows, kept = np.full((4, 4, 32), 1e-9, np.float32), np.ones((4, 2, 32), np.uint8)
    rows[1, 2, token], kept[1, 1], kept[1, 1, token] = 1.0, 0, 1
    content = HeadAttention(sample(tmp_path, rows=rows, kept=kept), None, None)
    assert (content.layer, content.image) == (1, image)
    panels = panels_of(draw(FIGURE3, content))
    heat = panels["query head 2"].images[1].get_array()
    untouched = panels["image"].images[0].get_array()
    shown = panels["KV head 1 keeps 6%"].images[0].get_array()
    height, width = heat.shape
    inside = np.zeros_like(heat, dtype=bool)
    inside[height * row // 4 : height * (row + 1) // 4, width * column // 4 : width * (column + 1) // 4] = True
    assert heat[inside].min() > 1e6 * heat[~inside].max() > 0
    assert (shown[inside] == untouched[inside]).all()
    assert np.ptp(shown[~inside], axis=1).max() < 40 < np.ptp(untouched[inside], axis=1).max()  # nearly grey
    assert (panels["KV head 0 keeps 100%"].images[0].get_array() == untouched).all()
    assert untouched.shape[:2] == (height, width)  # the sample's own proportions
    assert height / width == pytest.approx(48 / 64, abs=0.01)


def test_overlap_against_counting_by_hand():
    kept = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]], bool)
    assert overlap(kept, 0) == pytest.approx((1 / 3 + 0) / 2) and np.isnan(overlap(kept[:1], 0))


def test_pixels_without_tokens_are_grey_and_every_query_head_has_its_map(tmp_path, draw, drawn):
    boxes = np.concatenate([grid(4, 4, (0, 0, 0.5, 1)).numpy(), np.full((16, 4), np.nan, np.float32)])
    panels = panels_of(draw(FIGURE3, HeadAttention(sample(tmp_path, boxes=boxes), 1, 1)))
    untouched, shown = (panels[name].images[0].get_array() for name in ("image", "KV head 0 keeps 100%"))
    half = shown.shape[1] // 2
    assert (shown[:, : half - 1] == untouched[:, : half - 1]).all() and (shown[:, half + 1 :] == NO_TOKEN).all()
    assert set(panels_of(drawn[-1])) == {*(f"head {number}" for number in range(4)), "attention to a place"}


@pytest.mark.parametrize(
    ("changes", "asked", "error", "said"),
    [
        ({}, (4, None), ReportError, "report.layer=4, but LLaVA-OneVision has the layers 0 to 3"),
        ({}, (None, 3), ReportError, "report.image=3, but sample 3 has the images 1 to 2"),
        ({"model": "idefics2", "located": False}, (1, None), NothingToShow, "latents"),
    ],
)
def test_what_a_sample_does_not_have_is_said(tmp_path, changes, asked, error, said):
    with pytest.raises(error, match=said):
        HeadAttention(sample(tmp_path, **changes), *asked)


def test_a_sample_that_lost_a_file_or_disagrees_with_itself_is_refused(tmp_path):
    with pytest.raises(ReportError, match="disagree"):
        sample(tmp_path, kept=np.ones((4, 2, 5), np.uint8))
    for suffix in (".safetensors", ".image0.png"):
        path = sight(tmp_path)
        path.with_name(path.stem + suffix).unlink()
        with pytest.raises(ReportError, match=r"doc=3\.json.*read it again"):
            attention_sample.load(attention_sample.find(tmp_path, "llava_onevision")[0])


def test_the_chosen_sample_and_how_many_others(tmp_path):
    sight(tmp_path, doc=5)
    sight(tmp_path, doc=3, asked_for=True)
    first, others = attention_sample.find(tmp_path, "llava_onevision")
    assert first.doc_id == 5 and others == 1  # though the other one is newer
    assert attention_sample.find(tmp_path, "llava_onevision", doc=3)[0].doc_id == 3
    with pytest.raises(NothingToShow, match="sample 9"):
        attention_sample.find(tmp_path, "llava_onevision", doc=9)
