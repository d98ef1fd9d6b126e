"""Figures 1, 2 and 3: what is drawn is what was read, peaks are marked, a marked token lies where it belongs."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from plphp_core.analysis.results import NothingToShow
from plphp_core.records.attention_result import load_readings
from plphp_core.records.errors import ReportError
from plphp_core.reporting import attention_sample
from plphp_core.reporting.attention_results import by_model, layer_means
from plphp_core.reporting.cli import main
from plphp_core.reporting.figures import attention_by_head, attention_by_layer, attention_by_region
from plphp_core.vision.token_geometry import grid
from tests.reporting.attention_factories import VALLEY, reading, sight
from tests.reporting.test_report import ROOT


@pytest.fixture
def models(tmp_path):
    for model in ("llava_onevision", "idefics2"):
        for benchmark in ("SD", "VST"):
            reading(tmp_path / "toy" / "attention", model, benchmark)
    return by_model(load_readings(tmp_path / "toy" / "attention"))


def report(folder, *argv):
    return main([*argv, "profile=toy", f"results={folder}"], ROOT)


def test_figure1_draws_means_bands_peaks_and_thresholds(models, drawn):
    attention_by_layer.draw(models, {"llava_onevision": (0.25, 0.1)}, "toy")
    left, right = drawn[-1].axes[:2]
    assert (left.get_title(), right.get_title()) == ("LLaVA-OneVision", "IDEFICS2")
    mean, peaks, alpha, beta = left.lines
    parts = models["llava_onevision"]
    values = np.concatenate([part.vision_attention for part in parts])
    np.testing.assert_allclose(mean.get_ydata(), values.mean(0))
    assert list(mean.get_xdata()) == list(range(1, 9))  # as the paper counts
    assert list(peaks.get_xdata()) == [5] and peaks.get_label() == "re-attention peak"
    assert [set(line.get_ydata()) for line in (alpha, beta)] == [{0.25}, {0.1}] and len(right.lines) == 2
    low, high = np.quantile(values, (0.1, 0.9), axis=0)
    band = left.collections[0].get_paths()[0].vertices
    for layer in range(8):
        heights = band[band[:, 0] == layer + 1][:, 1]
        assert heights.min() == pytest.approx(low[layer]) and heights.max() == pytest.approx(high[layer])


def test_figure1_says_the_rule_the_samples_and_that_it_is_a_toy(models):
    peaks, gamma = attention_by_layer.sheets(models, {}, "toy", "figure1.png")
    assert [entry.text for entry in peaks.rows[0].cells][:4] == ["LLaVA-OneVision", "80", "5", "4"]
    notes = " ".join(peaks.notes)
    for said in ("at least 0.05", "SD 40 of 48, VST 40 of 48", "nothing of the paper's models", "some CPU"):
        assert said in notes
    assert gamma.rows[0].cells[1].text == f"{layer_means(models['llava_onevision'])[0].value:.3f}"


def test_figure1_without_peaks_says_none(tmp_path):
    folder = tmp_path / "toy" / "attention"
    reading(folder, gamma=sorted(VALLEY, reverse=True))
    sheet, _ = attention_by_layer.sheets(by_model(load_readings(folder)), {}, "paper", "x.png")
    assert sheet.rows[0].cells[2].text == "none" and not any("toy" in note for note in sheet.notes)


def test_figure2_draws_shares_and_leaves_out_what_has_no_place(models, drawn):
    kept = attention_by_region.with_places(models, "bands")
    assert list(kept) == ["llava_onevision"] and list(attention_by_region.with_places(models, "order")) == list(models)
    attention_by_region.draw(kept, "bands", "toy")
    lines = drawn[-1].axes[0].lines
    assert [line.get_label() for line in lines[:5]] == ["top", "upper", "middle", "lower", "bottom"]
    for line, share in zip(lines[:5], (0.1, 0.15, 0.4, 0.2, 0.1), strict=True):
        np.testing.assert_allclose(line.get_ydata(), share)
    (sheet,) = attention_by_region.sheets(kept, "bands", ["IDEFICS2"], "toy", "figure2.png")
    assert len(sheet.rows) == 6 and sheet.rows[2].cells[2].text == "20.0%" and sheet.rows[5].cells[1].text == "no place"
    assert any("IDEFICS2" in note and "latents" in note for note in sheet.notes)


def test_reports_write_their_files_without_any_finished_cell(models, tmp_path, capsys):
    assert report(tmp_path, "figure1") == 0 and report(tmp_path, "figure2", "cut=centre") == 0
    sight(tmp_path / "toy" / "attention")
    assert report(tmp_path, "figure3", "layer=2") == 0
    names = {path.name for path in (tmp_path / "toy").iterdir() if path.is_file()}
    assert names == {
        *(f"figure1.{kind}" for kind in ("csv", "md", "pdf", "png")),
        *(f"figure2.cut=centre.{kind}" for kind in ("csv", "md", "pdf", "png")),
        *(f"figure3.layer=2.{kind}" for kind in ("md", "pdf", "png")), "figure3_heads.layer=2.png",
    }  # fmt: skip
    table = pd.read_csv(tmp_path / "toy" / "figure1.csv")
    assert len(table) == 2 * 3 * 8 and set(table.benchmark) == {"SD", "VST", "all"}
    shares = pd.read_csv(tmp_path / "toy" / "figure2.cut=centre.csv")
    assert shares.groupby("layer").share.sum().tolist() == pytest.approx([1.0] * 8)
    assert report(tmp_path, "figure3", "layer=9") == 1 and "layer=9, but LLaVA-OneVision has the layers 1 to 4" in (
        capsys.readouterr().err
    )


def test_nothing_read_says_what_to_run(tmp_path, capsys):
    assert report(tmp_path, "figure1") == 1
    assert "make reproduce-figure1 PROFILE=toy" in capsys.readouterr().err
    assert report(tmp_path, "figure3") == 1
    assert "make reproduce-figure3" in capsys.readouterr().err


def marked_sight(tmp_path, row, column, image, side=4):
    """All attention of query head 3 in layer 2 on one token, which KV head 2 alone keeps there."""
    token = image * side**2 + row * side + column
    rows = np.full((4, 4, 2 * side**2), 1e-9, np.float32)
    rows[1, 2, token] = 1.0
    kept = np.ones((4, 2, 2 * side**2), np.uint8)
    kept[1, 1] = 0
    kept[1, 1, token] = 1
    return attention_sample.load(sight(tmp_path, rows=rows, kept=kept, side=side))


@pytest.mark.parametrize(("row", "column", "image"), [(0, 0, 0), (2, 3, 1), (3, 1, 0)])
def test_figure3_a_marked_token_is_lit_and_left_bright_in_its_place_and_nowhere_else(
    tmp_path, drawn, row, column, image
):
    found = marked_sight(tmp_path, row, column, image)
    assert attention_by_head.chosen_layer(found, None) == 1 and attention_by_head.chosen_image(found, 1, None) == image
    attention_by_head.draw(found, 1, image, "toy")
    titles = {axes.get_title().partition(", γ")[0]: axes for axes in drawn[-1].axes}
    heat = titles["query head 3"].images[1].get_array()
    dark = titles["KV head 2 keeps 6%"].images[1].get_array()[..., 3]
    height, width = heat.shape
    inside = np.zeros_like(heat, dtype=bool)
    inside[height * row // 4 : height * (row + 1) // 4, width * column // 4 : width * (column + 1) // 4] = True
    assert heat[inside].min() > 1e6 * heat[~inside].max() > 0
    assert (dark[inside] == 0).all() and (dark[~inside] > 0.8).all()
    assert (titles["KV head 1 keeps 100%"].images[1].get_array()[..., 3] == 0).all()
    assert titles["image"].images[0].get_array().shape[:2] == (height, width)  # the sample's own proportions
    assert height / width == pytest.approx(48 / 64, abs=0.01)


def test_figure3_in_numbers(tmp_path):
    found = marked_sight(tmp_path, 2, 3, 1)
    (sheet,) = attention_by_head.sheets(found, 1, 1, "toy", "figure3.png", 2)
    first, second = ([entry.text for entry in row.cells] for row in sheet.rows)
    assert first[:2] == ["1", "1–2"] and first[3:] == ["100.0%", "100.0%", "3.1%"]
    assert second[1:] == ["3–4", "0.500", "3.1%", "100.0%", "3.1%"]
    assert any("2 more samples" in note for note in sheet.notes)


def test_overlap_against_counting_by_hand():
    kept = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]], bool)
    assert attention_by_head.overlap(kept, 0) == pytest.approx((1 / 3 + 0) / 2)
    assert np.isnan(attention_by_head.overlap(kept[:1], 0))


def test_tokens_without_a_place_stay_dark_and_pixels_without_tokens_grey(tmp_path, drawn):
    boxes = np.concatenate([grid(4, 4, (0, 0, 0.5, 1)).numpy(), np.full((16, 4), np.nan, np.float32)])
    found = attention_sample.load(sight(tmp_path, boxes=boxes))
    attention_by_head.draw(found, 0, 0, "toy")
    titles = {axes.get_title().partition(", γ")[0]: axes for axes in drawn[-1].axes}
    overlay = titles["KV head 1 keeps 100%"].images[1].get_array()
    half = overlay.shape[1] // 2
    assert (overlay[:, : half - 1, 3] == 0).all() and (overlay[:, half + 1 :, 3] == 0.8).all()


def test_latents_have_no_figure3(tmp_path):
    found = attention_sample.load(sight(tmp_path, model="idefics2", located=False))
    with pytest.raises(NothingToShow, match="latents"):
        attention_by_head.chosen_image(found, 0, None)


def test_every_query_head_has_its_map(tmp_path):
    png = attention_by_head.draw_heads(attention_sample.load(sight(tmp_path)), 0, 0, "toy")
    assert Image.open(io.BytesIO(png)).size[0] > 1000


@pytest.mark.parametrize("which", ["tensors", "images"])
def test_a_sight_that_lost_a_file_is_named(tmp_path, which):
    path = sight(tmp_path)
    (path.with_suffix(".safetensors") if which == "tensors" else tmp_path / f"{path.stem}.image0.png").unlink()
    with pytest.raises(ReportError, match="look at the sample again"):
        attention_sample.load(path)


def test_sights_that_disagree_in_tokens_are_refused(tmp_path):
    with pytest.raises(ReportError, match="disagree"):
        attention_sample.load(sight(tmp_path, kept=np.ones((4, 2, 5), np.uint8)))


def test_the_chosen_sample_and_how_many_others(tmp_path):
    sight(tmp_path, doc=5)
    sight(tmp_path, doc=3, asked_for=True)
    assert attention_sample.find(tmp_path, "llava_onevision")[0].name.endswith(
        "doc=5.json"
    )  # though the other one is newer
    assert attention_sample.find(tmp_path, "llava_onevision", doc=3)[0].name.endswith("doc=3.json")
    with pytest.raises(NothingToShow, match="sample 9"):
        attention_sample.find(tmp_path, "llava_onevision", doc=9)
