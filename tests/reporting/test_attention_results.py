"""Readings from disk: their means and intervals, and what is refused."""

import json

import numpy as np
import pytest

from plphp_core.analysis.attention_frame import layer_means
from plphp_core.config.report_choices import Filters
from plphp_core.records.attention_result import load_readings
from plphp_core.records.errors import ReportError
from plphp_core.reporting.attention_results import by_model, usual_readings
from tests.reporting.attention_factories import reading


@pytest.fixture
def tmp_path(tmp_path):
    return tmp_path / "toy" / "attention"


def test_the_papers_order_whatever_the_files(tmp_path):
    for model in ("zebra", "mantis", "llava_onevision"):
        for benchmark in ("VST", "SD"):
            reading(tmp_path, model, benchmark)
    models = by_model(load_readings(tmp_path))
    assert list(models) == ["llava_onevision", "mantis", "zebra"]
    assert [one.benchmark for one in models["mantis"]] == ["SD", "VST"]
    assert models["mantis"][0].title == "Mantis" and models["zebra"][0].title == "zebra"


def test_means_over_benchmarks_of_means_over_samples(tmp_path):
    few, many = reading(tmp_path, benchmark="SD", n=5), reading(tmp_path, benchmark="VST", n=40, gamma=[0.3] * 8)
    (parts,) = by_model(load_readings(tmp_path)).values()
    found = layer_means(parts)
    np.testing.assert_allclose([one.value for one in found], (few.mean(0) + many.mean(0)) / 2)
    assert all(one.low < one.value < one.high for one in found)


def test_a_single_sample_has_no_interval(tmp_path):
    reading(tmp_path, n=1)
    reading(tmp_path, benchmark="VST", n=20)
    assert all(np.isnan(one.low) for one in layer_means(load_readings(tmp_path)))


@pytest.mark.parametrize("damage", [lambda raw: raw[:200], lambda raw: raw.replace('"schema": 2', '"schema": 9')])
def test_a_damaged_file_is_named(tmp_path, damage):
    reading(tmp_path)
    path = tmp_path / "llava_onevision.toy_sd.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(ReportError, match=r"llava_onevision\.toy_sd\.json"):
        load_readings(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"vision_attention": [[0.1] * 8]},
        {"vision_attention": [[float("nan")] * 8] * 40},
        {"vision_attention": [0.1] * 40},
        {"groups": []},
        {"groups": {"bands": [[[0.2] * 5] * 8] * 40}},
        {"doc_ids": [0] * 40},
    ],
)
def test_arrays_that_do_not_fit_the_samples_are_refused(tmp_path, change):
    reading(tmp_path)
    path = tmp_path / "llava_onevision.toy_sd.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ReportError, match=rf"{next(iter(change))} .*; delete it and run scripts/attend"):
        load_readings(tmp_path)


def test_readings_of_two_checkpoints_are_not_averaged(tmp_path):
    reading(tmp_path)
    reading(tmp_path, benchmark="VST", revision="sha256:other")
    with pytest.raises(ReportError, match=r"toy_sd\.json, llava_onevision\.toy_vst\.json.*model\.revision="):
        by_model(load_readings(tmp_path))
    (parts,) = by_model(load_readings(tmp_path), Filters(revision="sha256:other")).values()
    assert [one.benchmark for one in parts] == ["VST"]


def test_another_protocol_is_chosen_never_averaged(tmp_path):
    own = reading(tmp_path, n=3)
    other = reading(tmp_path, n=40, gamma=[0.9] * 8, protocol="llava", prompts="plain", task="toy_sd_llava")
    readings = load_readings(tmp_path)
    assert len(readings) == 2
    for filters, values in ((Filters(), own), (Filters(protocol="llava", prompts="plain"), other)):
        ((part,),) = by_model(usual_readings(readings, filters, lambda model: None).results, filters).values()
        np.testing.assert_allclose(part.vision_attention, values)
    assert by_model(readings, Filters(protocol="none")) == {}


def test_of_several_subsets_the_largest_unless_one_is_chosen(tmp_path):
    reading(tmp_path, n=5, task="toy_sd.few")
    reading(tmp_path, n=40, task="toy_sd.many")
    readings = load_readings(tmp_path)
    assert [one.n for one in by_model(readings)["llava_onevision"]] == [40]
    assert [one.n for one in by_model(readings, Filters(limit=None))["llava_onevision"]] == [40]
    assert [one.n for one in by_model(readings, Filters(limit=5))["llava_onevision"]] == [5]
    assert by_model(readings, Filters(limit=7)) == {}


def test_a_reading_of_another_profile_is_refused(tmp_path):
    reading(tmp_path, profile="paper")
    with pytest.raises(ReportError, match="belongs to profile 'paper'"):
        load_readings(tmp_path)
