"""The command: files written, exit codes, and errors a user can act on."""

import shutil
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from plphp_core.analysis.method_style import is_control
from plphp_core.cli.entry_point import command
from plphp_core.records.errors import ReportError
from plphp_core.reporting.published import load_reference
from tests.reporting import factories
from tests.reporting.reports_made import PUBLISHED, ROOT, report


def test_a_subset_does_not_replace_the_full_table(tmp_path):
    subset = {"limit": 8, "population": 48, "samples": 8}
    factories.write(tmp_path, factories.cell("SD"), factories.cell("SD", **subset))
    factories.write(tmp_path, factories.cell("SD", limit_seed=3, **subset))
    assert report(tmp_path, "table1", "limit=null") == 0
    full = (tmp_path / "toy" / "table1.csv").read_bytes()
    assert report(tmp_path, "table1", "limit=8", "limit_seed=0") == 0
    assert report(tmp_path, "table1", "limit=8", "limit_seed=3") == 0
    assert (tmp_path / "toy" / "table1.csv").read_bytes() == full
    for name in ("limit=8", "limit=8.seed=3"):
        for file in (f"table1.{name}.csv", f"table1_relative.{name}.csv", f"table1.{name}.md", f"table1.{name}.tex"):
            assert (tmp_path / "toy" / file).stat().st_size > 0
    assert "SD 8 of 48" in (tmp_path / "toy" / "table1.limit=8.seed=3.md").read_text(encoding="utf-8")


def test_an_unwritable_place_is_reported(tmp_path, capsys):
    factories.write(tmp_path, factories.cell("SD"))
    (tmp_path / "toy" / "table1.csv").mkdir()
    assert report(tmp_path, "table1") == 1
    assert "directory" in capsys.readouterr().err.lower()


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["profile=nowhere"], "options of profile: paper, toy"),
        (["profile=../toy"], "options of profile: paper, toy"),
        (["report.rank=none"], "unknown report.rank 'none'; allowed: all, compressed"),
        (["report.ranks=all"], "nearest: report.rank"),
        (["report.cases=11"], "report.cases"),
        (["report.strict=7"], "report.strict must be true or false"),
    ],
)
def test_wrong_usage_is_a_sentence_and_exit_code_2(tmp_path, capsys, argv, complaint):
    assert report(tmp_path, "table1", *argv) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and complaint in said and said.count("\n") == 1


@pytest.mark.slow
def test_the_script_runs_by_absolute_path_from_another_folder(tmp_path):
    factories.write(tmp_path / "results", factories.cell("SD"))
    command = [sys.executable, str(ROOT / "scripts" / "report.py"), "table1", "profile=toy", "results=results"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "toy" / "table1.csv").exists()


def test_published_cells_are_all_unknown_and_a_number_put_in_is_read(tmp_path):
    for path in PUBLISHED.glob("table*.csv"):
        assert set(pd.read_csv(path, keep_default_na=False).value) == {"n/a"}, path.name
        assert load_reference(PUBLISHED, path.stem) == {}
    text = (PUBLISHED / "table1.csv").read_text(encoding="utf-8")
    (tmp_path / "table1.csv").write_text(
        text.replace("none,,SD,rouge_l,n/a", "none,,SD,rouge_l,47.5"), encoding="utf-8"
    )
    assert load_reference(tmp_path, "table1") == {("none", ""): {("SD", "rouge_l"): 47.5}}
    (tmp_path / "table1.csv").write_text(text.replace("none,,SD,rouge_l,n/a", "none,,SD,rouge_l,?"), encoding="utf-8")
    with pytest.raises(ReportError, match="neither a number nor n/a"):
        load_reference(tmp_path, "table1")


def test_published_rows_are_the_configured_rows():
    lines = pd.read_csv(PUBLISHED / "table1.csv", keep_default_na=False)
    rows = yaml.safe_load((ROOT / "configs" / "table" / "table1.yaml").read_text(encoding="utf-8"))["rows"]["paper"]
    rows = [row for row in rows if not is_control(row["method"])]  # which the paper does not have
    found = list(dict.fromkeys(zip(lines.method, lines.setting, strict=True)))
    assert [method for method, _ in found] == [row["method"] for row in rows]
    for (_, setting), row in zip(found, rows, strict=True):
        assert setting.replace("Δr", "delta_r") == ", ".join(f"{k}={v}" for k, v in row.items() if k != "method")


def test_a_report_of_the_paper_profile_leaves_the_published_numbers_alone(tmp_path, monkeypatch):
    """Both live below results/paper: the report must not write over what it compares with."""
    shutil.copytree(PUBLISHED, tmp_path / "results" / "paper" / "published")
    factories.write(tmp_path / "results", factories.cell("SD", profile="paper"))
    monkeypatch.chdir(tmp_path)
    assert command("report", ["table1", "report.published=results/paper/published"]) == 0
    assert (tmp_path / "results" / "paper" / "table1.csv").exists()
    for path in PUBLISHED.iterdir():
        assert (tmp_path / "results" / "paper" / "published" / path.name).read_bytes() == path.read_bytes()
