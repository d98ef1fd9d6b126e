"""Intervals: against scipy, against resampling written out, on distributions whose answer is known."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from plphp_core.analysis.bootstrap import MISSING, Resamples, average, mean_estimates, relative
from plphp_core.config.report_choices import CONFIDENCE

SCORES = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=2, max_size=30)


def estimate(samples, resamples, kind="mean", value=None):
    """The estimate of one metric of a cell that nothing else is known of."""
    samples = np.asarray(samples, dtype=float)
    frame = pd.DataFrame({"row": 0, "benchmark": "SD", "unit": np.arange(len(samples)),
                          "doc_id": np.arange(len(samples)), "metric": "m", "score": samples, "kind": kind,
                          "value": samples.mean() if value is None else value,
                          "retention": 1.0, "kv_bytes": 1.0, "kv_bytes_full": 1.0})  # fmt: skip
    return mean_estimates(frame, resamples, CONFIDENCE)["m"]


def spread(score):
    return score.high - score.low


def test_mean_interval_agrees_with_scipy():
    samples = np.random.default_rng(0).gamma(2, size=60)
    ours = estimate(samples, Resamples(range(60), resamples=20_000))
    theirs = stats.bootstrap((samples,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=0.01)


def test_interval_covers_the_true_mean_about_as_often_as_it_claims():
    rng, covered = np.random.default_rng(1), 0
    for seed in range(300):
        samples = rng.normal(0.5, 0.1, size=50)
        found = estimate(samples, Resamples(range(50), resamples=500, seed=seed))
        covered += found.low <= 0.5 <= found.high
    assert 0.90 <= covered / 300 <= 0.98


def test_resamples_draw_as_many_documents_as_there_are_and_repeat_for_a_seed():
    first, again = Resamples(range(13), "SD", 50, seed=3), Resamples(range(13), "SD", 50, seed=3)
    assert (first.counts.sum(axis=1) == 13).all()
    assert (first.counts == again.counts).all()
    assert (first.counts != Resamples(range(13), "SD", 50, seed=4).counts).any()
    assert (first.counts != Resamples(range(13), "IE", 50, seed=3).counts).any()


def test_several_quantities_at_once_are_each_by_itself():
    draws, samples = Resamples(range(9), resamples=40), np.random.default_rng(5).random((9, 3))
    samples[4, 2] = math.nan  # unmeasured: spoils its own quantity only
    together = draws.means(np.arange(9), samples)
    for column, means in zip(samples.T, together, strict=True):
        assert np.allclose(means, draws.means(np.arange(9), column), equal_nan=True)
    assert np.isfinite(together[:2]).all() and np.isnan(together[2]).any()
    assert draws.means(np.empty(0, int), np.empty((0, 3))).shape == (3, 40)


def test_large_benchmarks_are_drawn_in_parts_without_a_seam():
    counts = Resamples(range(5000), resamples=900).counts  # 400 resamples fit one part
    assert (counts.sum(axis=1) == 5000).all()
    assert counts.mean(axis=0).std() < 3 / math.sqrt(900)  # each count is about Poisson(1)


def test_replicates_are_means_over_the_drawn_documents():
    rng = np.random.default_rng(2)
    docs, samples = np.array([4, 9, 2, 30, 11]), rng.random(5)
    groups = np.array(["a", "b", "a", "b", "c"])
    resamples = Resamples([2, 4, 9, 11, 30, 31], resamples=200)  # 31 was answered by another method only
    by_doc = dict(zip(docs, zip(samples, groups, strict=True), strict=True))
    means, group_means = resamples.means(docs, samples), resamples.group_means(docs, samples, groups)
    for counts, mean, group_mean in zip(resamples.counts, means, group_means, strict=True):
        drawn = [
            by_doc[d] for d, times in zip(resamples.doc_ids, counts, strict=True) for _ in range(times) if d in by_doc
        ]
        assert mean == pytest.approx(np.mean([score for score, _ in drawn]))
        present = sorted({group for _, group in drawn})
        assert group_mean == pytest.approx(np.mean([np.mean([s for s, g in drawn if g == name]) for name in present]))


def test_differences_of_correlated_scores_are_paired():
    rng = np.random.default_rng(3)
    hard = rng.random(200)
    none, other = hard, 0.9 * hard + rng.normal(0, 0.01, 200)
    shared = Resamples(range(200), "SD")
    paired = relative(estimate(other, shared), estimate(none, shared))
    unpaired = relative(estimate(other, Resamples(range(200), "IE")), estimate(none, shared))
    assert paired.low < -0.1 < paired.high
    assert spread(paired) < spread(unpaired) / 5


def test_a_corpus_value_keeps_its_value_and_takes_the_spread_of_its_samples():
    samples = np.random.default_rng(4).random(80)
    resamples = Resamples(range(80))
    mean = estimate(samples, resamples)
    corpus = estimate(samples, resamples, "corpus", mean.value + 0.3)
    assert corpus.value == mean.value + 0.3
    assert (corpus.low, corpus.high) == pytest.approx((mean.low + 0.3, mean.high + 0.3))


def test_a_single_sample_has_no_interval():
    score = estimate([0.7], Resamples(range(1)))
    assert score.value == 0.7 and math.isnan(score.low) and math.isnan(score.high)


def test_a_reference_of_zero_gives_no_change_and_one_that_can_be_zero_no_interval():
    resamples = Resamples(range(3))
    one = estimate([1, 1, 1], resamples)
    assert relative(one, estimate([0, 0, 0], resamples)) is MISSING
    rare = relative(one, estimate([0, 0, 1], resamples))
    assert rare.value == pytest.approx(2)
    assert math.isnan(rare.low)


def test_an_average_needs_all_its_parts():
    part = estimate([0.1, 0.3], Resamples(range(2)))
    assert average([part, part]).value == pytest.approx(0.2)
    assert (average([part, part]).low, average([part, part]).high) == (part.low, part.high)
    assert average([part, MISSING]) is MISSING
    assert average([]) is MISSING


def test_averages_keep_the_correlation_of_metrics_on_the_same_documents():
    rng = np.random.default_rng(5)
    samples = rng.random(100)
    same = Resamples(range(100), "SD")
    other = Resamples(range(100), "IE")
    together = average([estimate(samples, same)] * 2)
    apart = average([estimate(samples, r) for r in (same, other)])
    assert spread(apart) == pytest.approx(spread(together) / math.sqrt(2), rel=0.15)


@settings(max_examples=60, deadline=None)
@given(samples=SCORES, seed=st.integers(0, 5))
def test_interval_contains_the_mean_and_its_own_change_is_zero(samples, seed):
    resamples = Resamples(range(len(samples)), resamples=1000, seed=seed)
    score = estimate(samples, resamples)
    if math.isnan(score.low):  # equal samples have no spread to draw from
        assert np.ptp(samples) < 1e-9 and math.isnan(score.high)
    else:
        assert score.low - 1e-12 <= score.value <= score.high + 1e-12
        assert min(samples) - 1e-12 <= score.low <= score.high <= max(samples) + 1e-12
    change = relative(score, score)
    if score.value > 0:
        assert change.value == 0
        assert math.isnan(change.low) or (change.low, change.high) == (0, 0)
