"""The rule of the re-attention peaks: what it finds, what it must not find."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plphp_core.analysis import attention_peaks
from plphp_core.analysis.attention_frame import layer_means
from plphp_core.analysis.bootstrap import with_interval
from plphp_core.records.attention_result import load_readings
from tests.reporting.attention_factories import VALLEY, reading

SAMPLES = [40, 40]


def curve(means, noise=0.01, seed=0):
    """Estimates of every layer whose replicates scatter by `noise`."""
    rng = np.random.default_rng(seed)
    return [with_interval(mean, mean + noise * rng.standard_normal(500)) for mean in means]


def test_a_rise_after_a_fall_is_found_with_its_valley():
    (peak,) = attention_peaks.peaks(curve(VALLEY), SAMPLES)
    assert (peak.layer, peak.valley) == (4, 3)
    assert peak.rebound.value == pytest.approx(0.25)  # of a fall of 0.45


@pytest.mark.parametrize(
    ("means", "noise", "expected"),
    [
        ([0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1], 0.01, []),  # only falls
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 0.01, []),  # only rises: attention, but not again
        ([0.5] * 8, 0.01, []),
        ([0.5, 0.2, 0.23, 0.2, 0.24, 0.2, 0.23, 0.2], 0.01, []),  # small ripples
        ([0.6, 0.1, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1], 0.01, []),  # in the first third
        (VALLEY, 0.01, [4]),
        (VALLEY, 0.3, []),  # within the noise
        ([0.6, 0.2, 0.1, 0.5, 0.2, 0.1, 0.4], 0.01, [3, 6]),  # several, and one in the last layer
    ],
)
def test_what_is_a_peak_and_what_is_none(means, noise, expected):
    assert [peak.layer for peak in attention_peaks.peaks(curve(means, noise), SAMPLES)] == expected


def test_no_mark_where_a_benchmark_has_few_samples():
    assert attention_peaks.peaks(curve(VALLEY), [30, 30]) and not attention_peaks.peaks(curve(VALLEY), [30, 29])
    assert attention_peaks.peaks(curve(VALLEY), []) == []


@pytest.mark.parametrize("deviation", [0.05, 0.1])
def test_flat_attention_is_rarely_marked(deviation, tmp_path):
    """28 flat layers with noise of samples that layers do not share: one benchmark of 30, as few as are allowed."""
    marked = 0
    for seed in range(30):
        folder = tmp_path / "toy" / "attention"
        reading(folder, gamma=[0.4] * 28, n=30, noise=deviation, seed=seed)
        gamma = layer_means(load_readings(folder), seed=seed)
        marked += bool(attention_peaks.peaks(gamma, [30]))
    assert marked <= 2


def test_without_an_interval_there_is_no_peak():
    few = [with_interval(mean, np.empty(0)) for mean in VALLEY]
    assert attention_peaks.peaks(few, SAMPLES) == []


@given(st.lists(st.floats(0, 1), min_size=4, max_size=30))
def test_every_peak_is_what_the_rule_says(means):
    for peak in attention_peaks.peaks(curve(means, noise=1e-3), SAMPLES):
        at, valley = peak.layer, peak.valley
        assert at >= len(means) / 3 and 0 < valley < at
        assert max(means[:valley]) >= means[valley] + 0.05 - 1e-9 and means[at] >= means[valley] + 0.05 - 1e-9
        assert means[at] >= means[at - 1] and (at + 1 == len(means) or means[at] >= means[at + 1])
