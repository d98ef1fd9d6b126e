"""C13: the polyline against numpy's interpolation, equal retention by hand, and settings beyond its ends."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plphp_core.analysis.comparable import Filters
from plphp_core.analysis.results import Options, evaluate
from plphp_core.analysis.retention_stats import savings
from plphp_core.claims.equal_retention import change, interpolate
from plphp_core.claims.verdict import Outcome, Verdict
from plphp_core.records.cell_result import load_cells
from plphp_core.reporting.configured import rows_configured
from tests.claims.claims_factories import ledger, paper_cells
from tests.reporting import factories

POINTS = st.lists(
    st.tuples(st.floats(0, 1), st.floats(-5, 5)), min_size=2, max_size=5, unique_by=lambda p: round(p[0], 3)
)


@settings(max_examples=150, deadline=None)
@given(points=POINTS, at=st.lists(st.floats(-0.2, 1.2), min_size=1, max_size=6))
def test_the_polyline_is_numpys_and_level_beyond_its_ends(points, at):
    x, y = zip(*sorted(points), strict=True)
    expected = np.interp(at, x, y)
    mixed_x, mixed_y = zip(*points, strict=True)  # in any order
    assert np.allclose([interpolate(mixed_x, mixed_y, one) for one in at], expected, atol=1e-9)
    columns = [np.full(len(at), one) for one in mixed_x], [np.full(len(at), one) for one in mixed_y]
    assert np.allclose(interpolate(*columns, np.array(at)), expected, atol=1e-9)


def test_every_resample_has_a_polyline_of_its_own():
    draw = np.random.default_rng(0)
    x, y, at = draw.random((3, 50)), draw.random((3, 50)), draw.random(50)
    found = interpolate(list(x), list(y), at)
    for b in range(50):
        order = np.argsort(x[:, b])
        assert found[b] == pytest.approx(np.interp(at[b], x[order, b], y[order, b]))
    assert np.isfinite(interpolate([0.5, 0.5, 0.5], [1.0, 2.0, 3.0], 0.5))  # settings that keep equally many


def test_the_change_is_against_the_rival_at_the_very_share_kept(tmp_path):
    factories.write(tmp_path, *paper_cells("table1", ("SD",)))
    rows = rows_configured(factories.CONFIGS, "table1", "paper", "llava_onevision")
    results = evaluate(load_cells(tmp_path / "paper" / "cells", "paper"), rows, Filters(), Options(resamples=100))
    saved = savings(results)
    fastv, ours = [1, 2, 3], 8  # vision kept 0.3, 0.55, 0.78 and 0.33
    found = change(saved, ours, fastv, "SD", "rouge_l")
    low, high, own = (results.score(at, "SD", "rouge_l") for at in (1, 2, ours))
    weight = (0.33 - 0.3) / 0.25
    line = low.value + weight * (high.value - low.value)
    assert found.value == pytest.approx(own.value / line - 1)
    lines = low.replicates + weight * (high.replicates - low.replicates)
    assert np.allclose(found.replicates, own.replicates / lines - 1)


def test_beyond_the_rivals_range_nothing_is_said(tmp_path):
    records = paper_cells("table1")
    for one in records:
        if one["method"] == "vtw" and one["benchmark"] == "MV":  # keeps more than any setting of PLPHP
            one["efficiency"]["retention"] = [0.5 + 0.4 * one["efficiency"]["retention"][0]] * one["n"]
    found = ledger(tmp_path, records)["C13"]
    parts = {part.name: part.outcome for part in found.parts}
    assert parts.pop("VTW on MV") is Outcome.UNDECIDED
    assert set(parts.values()) == {Outcome.AS_CLAIMED} and found.verdict is Verdict.INCONCLUSIVE
    assert "Without an interval: VTW on MV." in found.why
    said = [one for one in found.remarks if one.startswith("VTW on MV")]
    assert len(said) == 1 and "r=0.5, Δr=0.3 (43.0%), outside the rival's 64.4% to 78.4%" in said[0]


def test_better_where_little_is_kept_and_worse_where_much_is_kept_is_not_better_everywhere(tmp_path):
    records = paper_cells("table1")
    for one in records:
        if one["method"] == "fastv" and one["benchmark"] == "IE":
            for metric in one["metrics"].values():
                samples = np.array(metric["samples"]) * 1.4
                metric |= factories.metric(samples, metric["kind"], metric["groups"])
    found = ledger(tmp_path, records)["C13"]
    assert {part.name for part in found.parts if part.outcome is Outcome.NOT_AS_CLAIMED} == {"FastV on IE"}
    assert found.verdict is Verdict.CONTRADICTED
