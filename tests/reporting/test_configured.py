"""What configs/ says of the tables with grids: the same rows and benchmarks as a run of them, and what is refused."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from plphp_core.config.run_settings import settings_from_config
from plphp_core.records.errors import ReportError
from plphp_core.reporting.configured import (
    benchmarks_configured,
    method_configured,
    refused_configured,
    rows_configured,
    tasks_configured,
)
from tests.reporting.factories import CONFIGS

MODEL = "llava_onevision"


@pytest.mark.parametrize("table", ["table2", "figure5", "figure6"])
@pytest.mark.parametrize("profile", ["paper", "toy"])
def test_a_run_and_its_report_mean_the_same_rows_and_benchmarks(table, profile):
    """Hydra composes the run; the report reads the files itself."""
    OmegaConf.register_new_resolver("repository", str, replace=True)
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIGS)):
        config, other = (
            compose("config", [f"table={table}", f"profile={profile}", *more]) for more in ([], ["tasks=[ie,mv]"])
        )
    settings = settings_from_config(config, CONFIGS.parent)
    rows = rows_configured(CONFIGS, table, profile, MODEL)
    assert [(row.method, row.params) for row in rows] == [(one.name, one.params) for one in settings.methods]
    assert [row.setting for row in rows[1:]] == [one.setting for one in settings.methods[1:]]
    assert refused_configured(CONFIGS, table, profile, MODEL) == list(settings.refused)
    labels = benchmarks_configured(CONFIGS, tasks_configured(CONFIGS, table))
    assert labels == [one.label for one in settings.benchmarks]
    assert [entry.label for entry in other.tasks.values()] == benchmarks_configured(CONFIGS, "[ie,mv]") == ["IE", "MV"]


def test_figure_5_is_table_1():
    for profile in ("paper", "toy"):
        assert rows_configured(CONFIGS, "figure5", profile, MODEL) == rows_configured(CONFIGS, "table1", profile, MODEL)
    assert tasks_configured(CONFIGS, "figure5") == "table1"


def test_figure_6_is_a_full_grid_of_r_and_delta_r():
    for profile in ("paper", "toy"):
        rows = rows_configured(CONFIGS, "figure6", profile, MODEL)
        assert rows[0].method == "none" and not refused_configured(CONFIGS, "figure6", profile, MODEL)
        assert [(row.params["r"], row.params["delta_r"]) for row in rows[1:]] == [
            (r, delta) for r in (0.3, 0.4, 0.5) for delta in (0.0, 0.1, 0.2, 0.3)
        ]
    assert benchmarks_configured(CONFIGS, tasks_configured(CONFIGS, "figure6")) == ["DetailCaps", "SD", "IE", "VST"]


@pytest.mark.parametrize("profile", ["paper", "toy"])
def test_table_2_surrounds_the_profiles_thresholds_and_reports_what_is_refused(profile):
    defaults = method_configured(CONFIGS, "plphp", profile, MODEL)
    rows = rows_configured(CONFIGS, "table2", profile, MODEL)[1:]
    refused = refused_configured(CONFIGS, "table2", profile, MODEL)
    places = {(row.params["alpha"], row.params["beta"]) for row in rows}
    alphas, betas = (sorted({place[at] for place in places}) for at in (0, 1))
    assert alphas[1] == defaults["alpha"] and betas[1] == defaults["beta"]
    assert places == {(alpha, beta) for alpha in alphas for beta in betas if beta <= alpha}
    assert len(refused) == 9 - len(places) == 1 and "beta ≤ alpha" in refused[0]
    assert {(row.params["r"], row.params["delta_r"]) for row in rows} == {(0.4, 0.3)}


def test_the_grids_share_their_middle_with_table_1():
    """So that a run of all of them computes it once."""
    for profile in ("paper", "toy"):
        one = rows_configured(CONFIGS, "table1", profile, MODEL)
        for table, shared in (("table2", 2), ("figure6", 4)):
            rows = rows_configured(CONFIGS, table, profile, MODEL)
            assert sum(row in one for row in rows) == shared


@pytest.mark.parametrize("tasks", ["nothing", "[sd,nothing]", ""])
def test_unknown_tasks_are_refused_with_those_there_are(tasks):
    with pytest.raises(ReportError, match="is none of ablations, cases, coco2017, detailcaps"):
        benchmarks_configured(CONFIGS, tasks)


def test_a_grid_that_cannot_be_read_is_refused(tmp_path):
    for folder, name, content in (
        ("table", "t", "rows: {toy: [{method: plphp, alpha: []}]}"),
        ("profile", "toy", "name: toy"),
        ("method", "plphp", "name: plphp\nsetting: ''\nalpha: 0.2"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.yaml").write_text(content)
    with pytest.raises(ReportError, match=r"rows of t .*alpha = \[\]"):
        rows_configured(tmp_path, "t", "toy", MODEL)
