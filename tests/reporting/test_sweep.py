"""The summary of a sweep: one line per setting, whatever was run, and no average that claims too much."""

import math
import statistics

import pytest

from tests.reporting import factories
from tests.reporting.reports_made import made


def grid(**changes):
    """A sweep over r and α on SD and one setting on IE, beside Uncompressed, FastV and VTW."""
    records = [one for one in factories.suite(benchmarks=("SD", "IE"), **changes) if one["method"] != "plphp"]
    for r in (0.5, 0.3):
        for alpha in (0.9, 0.75):
            params = {**factories.PLPHP, "r": r, "alpha": alpha}
            one = factories.cell("SD", "plphp", params, f"r={r}", 0.9 + r / 10, r, **changes)
            records.append(one | {"cell": f"SD-{r}-{alpha}"})
    records.append(factories.cell("IE", "plphp", {**factories.PLPHP, "r": 0.3, "alpha": 0.75}, "α=0.75", 0.9, 0.3))
    return records


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return made(tmp_path_factory.mktemp("sweep"), "sweep", grid())


def test_every_number_is_the_cells(whole):
    table, records = whole.tables[""], grid()
    for at, line in enumerate(table.to_dict("records")):
        params = whole.parts[0].rows[at].params
        cells = [one for one in records if (one["method"], one["params"]) == (line["method"], params)]
        for name in ("SD", "IE"):
            values = [one["metrics"]["rouge_l"]["value"] for one in cells if one["benchmark"] == name]
            assert line[f"{name}_rouge_l"] == pytest.approx(values[0] if values else math.nan, nan_ok=True)
        paid = [one["efficiency"] for one in cells]
        assert line["retention"] == pytest.approx(statistics.mean(statistics.mean(one["retention"]) for one in paid))
        saved = [statistics.mean(one["kv_bytes_full"]) - statistics.mean(one["kv_bytes"]) for one in paid]
        assert line["kv_bytes_saved"] == pytest.approx(statistics.mean(saved))
        assert line["n"] == sum(one["n"] for one in cells) and line["benchmarks"] == len(cells)
        assert line["decode_ms_per_token"] == pytest.approx(5.0)


def test_the_best_baseline_is_chosen_on_the_rows_own_benchmarks(tmp_path):
    records = grid()
    for one in records:  # FastV wins on SD, VTW on IE
        if (one["method"], one["benchmark"]) in (("fastv", "IE"), ("vtw", "SD")):
            for entry in one["metrics"].values():
                entry["samples"] = [score / 4 for score in entry["samples"]]
                entry["value"] /= 4
    table = made(tmp_path, "sweep", records).tables[""]
    assert table[(table.r == 0.5) & (table.alpha == 0.9)].best_baseline.item().startswith("FastV")
    for line in table.to_dict("records"):
        assert line["relative_to_baseline_low"] <= line["relative_to_baseline"] <= line["relative_to_baseline_high"]


def test_parameters_may_be_lists(tmp_path):
    """Of methods from elsewhere."""
    some = [factories.cell("SD", "mine", {"layers": layers}, str(layers)) for layers in ([1, 2], [3])]
    found = made(tmp_path, "sweep", some)
    assert len(found.tables[""]) == 2 and len(found.sheets[0].rows) == 2
