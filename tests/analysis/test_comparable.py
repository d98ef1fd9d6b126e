"""One cell per place: rows from configuration or from the cells, and refusal of every mixture."""

from pathlib import Path

import pytest

from plphp_core.analysis.comparable import RowSpec, place, rows_found
from plphp_core.config.report_choices import Filters
from plphp_core.records.cell_result import load_cells
from plphp_core.records.errors import ReportError
from plphp_core.reporting.configured import rows_configured
from tests.reporting import factories

BENCHMARKS = ("SD", "IE", "Flickr30k")
NONE, HALF = RowSpec("none"), RowSpec("plphp", {"r": 0.4})
REPOSITORY = Path(__file__).parents[2]


def loaded(folder, *records):
    factories.write(folder, *records)
    return load_cells(folder / "toy" / "cells", "toy")


def plphp(benchmark="SD", params=factories.PLPHP, **changes):
    return factories.cell(benchmark, "plphp", params, "r=0.4, Δr=0.3", **changes)


def test_rows_of_the_cells_come_in_the_papers_order(tmp_path):
    extra = [factories.cell("SD", "snapkv", {"window": 16}, "window=16")]
    records = [record for record in factories.suite() if record["benchmark"] == "SD"][::-1] + extra
    found = rows_found(loaded(tmp_path, *records))
    assert [(row.method, row.setting) for row in found] == [
        *[(method, setting) for method, _, setting, *_ in factories.ROWS[:7]],
        ("snapkv", "window=16"),
        *[(method, setting) for method, _, setting, *_ in factories.ROWS[7:]],
    ]


@pytest.mark.parametrize(
    ("profile", "fastv", "vtw"), [("paper", [2, 3, 3], [10, 14, 20]), ("toy", [2, 2, 2], [3, 4, 6])]
)
def test_configured_rows_are_the_papers_settings_with_all_parameters(profile, fastv, vtw):
    rows = rows_configured("table1", profile, "llava_onevision")
    assert [row.method for row in rows] == ["none"] + ["fastv"] * 3 + ["vtw"] * 3 + ["plphp"] * 3
    assert [(row.params["K"], row.params["R"]) for row in rows[1:4]] == list(zip(fastv, (0.75, 0.5, 0.25), strict=True))
    assert [row.params["K"] for row in rows[4:7]] == vtw
    assert [row.setting for row in rows[7:]] == ["r=0.3, Δr=0.3", "r=0.4, Δr=0.3", "r=0.5, Δr=0.3"]
    assert all({"r", "delta_r", "alpha", "beta"} <= set(row.params) for row in rows[7:])


def test_a_profile_without_rows_has_none_and_an_unknown_method_is_refused(tmp_path, monkeypatch):
    """A configs/ folder in the working directory is searched first."""
    (tmp_path / "configs" / "table").mkdir(parents=True)
    (tmp_path / "configs" / "table" / "mine.yaml").write_text("name: mine\nrows: {toy: [{method: magic}]}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReportError, match="no rows for profile 'paper'; it has some for toy"):
        rows_configured("mine", "paper", "llava_onevision")
    with pytest.raises(ReportError, match="unknown method 'magic'; allowed: fastv, none, plphp, vtw"):
        rows_configured("mine", "toy", "llava_onevision")


def test_each_place_gets_its_cell_and_other_settings_stay_out(tmp_path):
    sweep = plphp(params={**factories.PLPHP, "r": 0.9})
    cells = loaded(tmp_path, factories.cell("SD"), factories.cell("IE"), plphp("SD"), sweep)
    chosen = place(cells, [NONE, HALF], BENCHMARKS, Filters())
    assert set(chosen) == {(0, "SD"), (0, "IE"), (1, "SD")}
    assert chosen[1, "SD"].params["r"] == 0.4


@pytest.mark.parametrize(
    ("name", "value", "option"),
    [
        ("model", "qwen2_vl", "model="),
        ("checkpoint", "elsewhere", "model.checkpoint="),
        ("revision", "abc", "model.revision="),
        ("dtype", "bfloat16", "dtype="),
        ("attn_implementation", "eager", "attn_implementation="),
        ("protocol", "llava", "protocol="),
        ("prompts", "plain", "prompts="),
        ("limit", 48, "limit="),
    ],
)
def test_a_table_never_mixes(tmp_path, name, value, option):
    cells = loaded(tmp_path, factories.cell("SD"), plphp("SD", **{name: value}))
    with pytest.raises(ReportError, match=f"differ in {name}.*{option}") as caught:
        place(cells, [NONE, HALF], BENCHMARKS, Filters())
    assert all(cell.path.name in str(caught.value) for cell in cells)
    one = place(cells, [NONE, HALF], BENCHMARKS, Filters(**{name: str(value)}))
    assert list(one) == [(1, "SD")]


def test_subsets_of_different_seeds_are_not_mixed(tmp_path):
    cells = loaded(tmp_path, factories.cell("SD", limit=48), plphp("SD", limit=48, limit_seed=1))
    with pytest.raises(ReportError, match="limit_seed="):
        place(cells, [NONE, HALF], BENCHMARKS, Filters())
    assert list(place(cells, [NONE, HALF], BENCHMARKS, Filters(limit_seed=1))) == [(1, "SD")]


def test_rivals_for_a_place_are_refused_until_a_parameter_decides(tmp_path):
    cells = loaded(tmp_path, plphp("SD"), plphp("SD", {**factories.PLPHP, "alpha": 0.5}))
    with pytest.raises(ReportError, match=r"2 finished cells compete.*method=plphp method\.alpha=") as caught:
        place(cells, [HALF], BENCHMARKS, Filters())
    assert all(cell.path.name in str(caught.value) for cell in cells)
    chosen = place(cells, [HALF], BENCHMARKS, Filters(params={("plphp", "alpha"): "0.50"}))
    assert chosen[0, "SD"].params["alpha"] == 0.5


def test_the_same_cell_twice_is_refused_until_a_file_is_left_out(tmp_path):
    cells = loaded(tmp_path, plphp("SD"), plphp("SD"))
    with pytest.raises(ReportError, match=r"report\.exclude="):
        place(cells, [HALF], BENCHMARKS, Filters())
    assert len(place(cells, [HALF], BENCHMARKS, Filters(exclude=("*again*",)))) == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"population": 50}, "population"),
        ({"task_version": 2}, "task_version"),
        ({"data_revision": "d1"}, "data_revision"),
        ({"samples": 40, "population": 48}, "number"),
    ],
)
def test_a_column_compares_the_same_documents(tmp_path, change, complaint):
    cells = loaded(tmp_path, factories.cell("SD"), plphp("SD", **change))
    with pytest.raises(ReportError, match=complaint):
        place(cells, [NONE, HALF], BENCHMARKS, Filters())


def test_captions_belong_to_every_protocol(tmp_path):
    cells = loaded(
        tmp_path,
        factories.cell("SD", protocol="llava"),
        factories.cell("SD"),
        factories.cell("Flickr30k"),
        plphp("Flickr30k"),
        plphp("Flickr30k", protocol="llava"),
    )
    chosen = place(cells, [NONE, HALF], BENCHMARKS, Filters(protocol="llava"))
    assert {key: cell.protocol for key, cell in chosen.items()} == {
        (0, "SD"): "llava",
        (0, "Flickr30k"): "lmms_eval",
        (1, "Flickr30k"): "llava",
    }


def test_captions_belong_to_another_protocol_only_under_its_prompts(tmp_path):
    """`llava` goes with plain prompts: captions that were asked in lmms-eval's way are not in its table."""
    own = {"protocol": "llava", "prompts": "plain"}
    cells = loaded(tmp_path, factories.cell("SD", **own), factories.cell("Flickr30k"), plphp("Flickr30k", **own))
    assert set(place(cells, [NONE, HALF], BENCHMARKS, Filters())) == {(0, "SD"), (1, "Flickr30k")}
    with pytest.raises(ReportError, match=r"differ in prompts.*prompts="):  # captions alone do not say which is meant
        place([cell for cell in cells if cell.benchmark != "SD"], [NONE, HALF], BENCHMARKS, Filters())
