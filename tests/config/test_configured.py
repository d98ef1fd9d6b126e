"""What configs/ says of the tables with grids: the same rows and benchmarks as a run of them, and what is refused."""

import pytest

from plphp_core.records.errors import ReportError
from plphp_core.reporting.configured import (
    benchmarks_configured,
    method_configured,
    refused_configured,
    rows_configured,
)

MODEL = "llava_onevision"


def test_figure_5_is_table_1():
    for profile in ("paper", "toy"):
        assert rows_configured("figure5", profile, MODEL) == rows_configured("table1", profile, MODEL)
    assert benchmarks_configured(None, "figure5") == benchmarks_configured("table1")


def test_figure_6_is_a_full_grid_of_r_and_delta_r():
    for profile in ("paper", "toy"):
        rows = rows_configured("figure6", profile, MODEL)
        assert rows[0].method == "none" and not refused_configured("figure6", profile, MODEL)
        assert [(row.params["r"], row.params["delta_r"]) for row in rows[1:]] == [
            (r, delta) for r in (0.3, 0.4, 0.5) for delta in (0.0, 0.1, 0.2, 0.3)
        ]
    assert benchmarks_configured(None, "figure6") == ["DetailCaps", "SD", "IE", "VST"]


@pytest.mark.parametrize("profile", ["paper", "toy"])
def test_table_2_surrounds_the_profiles_thresholds_and_reports_what_is_refused(profile):
    defaults = method_configured("plphp", profile, MODEL)
    rows = rows_configured("table2", profile, MODEL)[1:]
    refused = refused_configured("table2", profile, MODEL)
    places = {(row.params["alpha"], row.params["beta"]) for row in rows}
    alphas, betas = (sorted({place[at] for place in places}) for at in (0, 1))
    assert alphas[1] == defaults["alpha"] and betas[1] == defaults["beta"]
    assert places == {(alpha, beta) for alpha in alphas for beta in betas if beta <= alpha}
    assert len(refused) == 9 - len(places) == 1 and "beta ≤ alpha" in refused[0]
    assert {(row.params["r"], row.params["delta_r"]) for row in rows} == {(0.4, 0.3)}


def test_the_grids_share_their_middle_with_table_1():
    """So that a run of all of them computes it once."""
    for profile in ("paper", "toy"):
        one = rows_configured("table1", profile, MODEL)
        for table, shared in (("table2", 2), ("figure6", 4)):
            rows = rows_configured(table, profile, MODEL)
            assert sum(row in one for row in rows) == shared


def test_any_task_has_a_label_its_own_name_where_no_file_describes_it():
    assert benchmarks_configured("[sd,pope,some_task_of_lmms-eval]") == ["SD", "POPE", "some_task_of_lmms-eval"]


def test_a_grid_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "configs" / "table").mkdir(parents=True)
    (tmp_path / "configs" / "table" / "t.yaml").write_text("name: t\nrows: {toy: [{method: plphp, alpha: []}]}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReportError, match=r"rows of t .*alpha = \[\]"):
        rows_configured("t", "toy", MODEL)
