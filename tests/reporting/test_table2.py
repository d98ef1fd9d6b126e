"""Table 2: every printed number, the marked defaults, raised thresholds, and what its notes admit."""

import statistics

import numpy as np
import pytest

from plphp_core.reporting import table2
from tests.reporting import factories
from tests.reporting.reports_made import saved_of, texts

DEFAULTS = {"alpha": 0.75, "beta": 0.6, "r": 0.4, "delta_r": 0.3}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return saved_of(tmp_path_factory.mktemp("table2"), factories.of_table("table2"))


def test_every_printed_number_is_the_cells(saved):
    scores, intervals, *_ = table2.sheets(saved, "toy", DEFAULTS, [])
    records = factories.of_table("table2")
    none = {one["benchmark"]: one for one in records[:4]}
    for row in range(9):
        cells = {one["benchmark"]: one for one in records[4 * row : 4 * row + 4]}
        pairs = [(name, metric) for name in ("SD", "IE", "VST", "DetailCaps") for metric in factories.SCORES[name]]
        values = [cells[name]["metrics"][metric]["value"] for name, metric in pairs]
        changes = [
            value / none[name]["metrics"][metric]["value"] - 1
            for value, (name, metric) in zip(values, pairs, strict=True)
        ]
        kept = statistics.mean(statistics.mean(one["efficiency"]["retention"]) for one in cells.values())
        assert texts(scores, row)[3:] == [
            *[f"{100 * value:.2f}" for value in values],
            f"{100 * statistics.mean(changes):+.2f}%".replace("-", "−") if row else "0.00%",
            f"{100 * kept:.1f}%",
            f"{100 * saved.average(row, 'kv_saved').value:.1f}%",
        ]
        found = saved.average(row, "retention")
        assert texts(intervals, row)[-2] == f"[{100 * found.low:.2f}, {100 * found.high:.2f}]"


def test_each_raised_threshold_is_compared_with_the_next_lower_one(saved):
    results = saved
    steps = table2.raised(results)
    assert [one.names for one in steps][:2] == [("α: 0.65 → 0.75", "β = 0.5"), ("α: 0.65 → 0.75", "β = 0.6")]
    assert len(steps) == 5 + 5 and sum(one.rule for one in steps) == 2
    for one in steps:
        changed, base = results.rows[one.changed].params, results.rows[one.base].params
        differing = {name for name in changed if changed[name] != base[name]}
        assert len(differing) == 1 and changed[differing.pop()] - min(base["alpha"], base["beta"]) > 0
    sheet = table2.sheets(saved, "toy", DEFAULTS, [])[2]
    one = steps[0]
    means = [
        [np.mean(next(c for (i, b), c in results.cells.items() if (i, b) == (at, name)).costs["retention"])
         for name in factories.ABLATIONS] for at in (one.changed, one.base)
    ]  # fmt: skip
    points = 100 * (np.mean(means[0]) - np.mean(means[1]))
    assert points < 0 and sheet.rows[0].cells[-1].text == f"{points:.2f}".replace("-", "−")
    scores = [results.value(at, "SD", "rouge_l").value for at in (one.changed, one.base)]
    assert sheet.rows[0].cells[2].text == f"{100 * (scores[0] / scores[1] - 1):+.2f}%".replace("-", "−")
    assert "Of 50 comparisons" in sheet.notes[1]


def test_missing_cells_stay_na(tmp_path):
    records = [one for one in factories.of_table("table2") if "α=0.85" not in one["setting"]]
    scores, intervals, raised, _ = table2.sheets(saved_of(tmp_path, records), "toy", DEFAULTS, [])
    for sheet in (scores, intervals):
        assert all(set(texts(sheet, row)[3:]) == {"n/a"} for row in (6, 7, 8))
    assert any("n/a, not run yet (12 of 36 cells)" in note for note in scores.notes)
    assert set(texts(raised, 2)[2:]) == {"n/a"} and "Of 25 comparisons" in raised.notes[1]
