"""One cell per place: rows from the cells, and refusal of every mixture."""

import pytest

from plphp_core.analysis.comparable import RowSpec, comparable, rows_found
from plphp_core.config.report_choices import Filters
from plphp_core.records.cell_result import load_cells
from plphp_core.records.errors import ReportError
from plphp_core.reporting.configured import rows_configured
from tests.reporting import factories

BENCHMARKS = ("SD", "IE", "Flickr30k")
NONE, HALF = RowSpec("none"), RowSpec("plphp", {"r": 0.4})


def loaded(folder, *records):
    factories.write(folder, *records)
    return load_cells(folder / "toy" / "cells", "toy")


def plphp(benchmark="SD", params=factories.PLPHP, **changes):
    return factories.cell(benchmark, "plphp", params, "r=0.4, Δr=0.3", **changes)


def placed(cells, rows=(NONE, HALF), **filters):
    return comparable(cells, rows, BENCHMARKS, Filters(**filters))


def test_rows_of_the_cells_come_in_the_papers_order(tmp_path):
    extra = [factories.cell("SD", "strided", {"window": 16}, "window=16")]
    records = [record for record in factories.suite() if record["benchmark"] == "SD"][::-1] + extra
    found = rows_found(loaded(tmp_path, *records))
    assert [(row.method, row.setting) for row in found] == [
        *[(method, setting) for method, _, setting, *_ in factories.ROWS[:7]],
        *[(name, "r=0.4, Δr=0.3") for name in ("random", "shared_heads")],
        ("strided", "window=16"),
        ("uniform", "r=0.4, Δr=0.3"),
        *[(method, setting) for method, _, setting, *_ in factories.ROWS[7:10]],
    ]


def test_a_profile_without_rows_has_none_and_an_unknown_method_is_refused(tmp_path, monkeypatch):
    """A configs/ folder in the working directory is searched first."""
    (tmp_path / "configs" / "table").mkdir(parents=True)
    (tmp_path / "configs" / "table" / "mine.yaml").write_text("name: mine\nrows: {toy: [{method: magic}]}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ReportError, match="no rows for profile 'paper'; it has some for toy"):
        rows_configured("mine", "paper", "llava_onevision")
    with pytest.raises(
        ReportError, match=r"unknown method 'magic'; allowed: adakv, .*fastv, .*none, oracle, plphp, .*vtw"
    ):
        rows_configured("mine", "toy", "llava_onevision")


def test_each_place_gets_its_cell_and_other_settings_stay_out(tmp_path):
    sweep = plphp(params={**factories.PLPHP, "r": 0.9})
    chosen = placed(loaded(tmp_path, factories.cell("SD"), factories.cell("IE"), plphp("SD"), sweep))
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
        ("engine", "fast", "engine="),
        ("limit", 48, "limit="),
    ],
)
def test_a_table_never_mixes(tmp_path, name, value, option):
    cells = loaded(tmp_path, factories.cell("SD"), plphp("SD", **{name: value}))
    with pytest.raises(ReportError, match=f"differ in {name}.*{option}") as caught:
        placed(cells)
    assert all(cell.path.name in str(caught.value) for cell in cells)
    assert list(placed(cells, **{name: value})) == [(1, "SD")]


def test_subsets_of_different_seeds_are_not_mixed(tmp_path):
    cells = loaded(tmp_path, factories.cell("SD", limit=48), plphp("SD", limit=48, limit_seed=1))
    with pytest.raises(ReportError, match="limit_seed="):
        placed(cells)
    assert list(placed(cells, limit_seed=1)) == [(1, "SD")]


def test_rivals_for_a_place_are_refused_until_a_parameter_or_a_file_left_out_decides(tmp_path):
    cells = loaded(tmp_path, plphp("SD"), plphp("SD", {**factories.PLPHP, "alpha": 0.5}))
    with pytest.raises(ReportError, match=r"2 finished cells compete.*method=plphp method\.alpha=") as caught:
        placed(cells, [HALF])
    assert all(cell.path.name in str(caught.value) for cell in cells)
    assert placed(cells, [HALF], params={("plphp", "alpha"): "0.50"})[0, "SD"].params["alpha"] == 0.5
    twice = loaded(tmp_path / "twice", plphp("SD"), plphp("SD"))
    with pytest.raises(ReportError, match=r"report\.exclude="):
        placed(twice, [HALF])
    assert len(placed(twice, [HALF], exclude=("*again*",))) == 1


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
    with pytest.raises(ReportError, match=complaint):
        placed(loaded(tmp_path, factories.cell("SD"), plphp("SD", **change)))


def test_captions_belong_to_every_protocol_under_its_prompts(tmp_path):
    """`llava` goes with plain prompts: captions that were asked in lmms-eval's way are not in its table."""
    cells = loaded(
        tmp_path,
        factories.cell("SD", protocol="llava"),
        factories.cell("SD"),
        factories.cell("Flickr30k"),
        plphp("Flickr30k"),
        plphp("Flickr30k", protocol="llava"),
    )
    assert {key: cell.protocol for key, cell in placed(cells, protocol="llava").items()} == {
        (0, "SD"): "llava",
        (0, "Flickr30k"): "lmms_eval",
        (1, "Flickr30k"): "llava",
    }
    own = {"protocol": "llava", "prompts": "plain"}
    captions = (factories.cell("Flickr30k"), plphp("Flickr30k", **own))
    cells = loaded(tmp_path / "plain", factories.cell("SD", **own), *captions)
    assert set(placed(cells)) == {(0, "SD"), (1, "Flickr30k")}
    with pytest.raises(ReportError, match=r"differ in prompts.*prompts="):  # captions alone do not say which is meant
        placed([cell for cell in cells if cell.benchmark != "SD"])
