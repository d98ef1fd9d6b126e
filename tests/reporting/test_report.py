"""The command: files written, exit codes, and errors a user can act on."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from plphp_core.records.errors import ReportError
from plphp_core.reporting.cli import main
from plphp_core.reporting.published import load_claims, load_reference
from tests.reporting import factories

ROOT = Path(__file__).parents[2]
PUBLISHED = ROOT / "results" / "paper" / "published"


def report(folder, *argv):
    return main(["table1", "profile=toy", f"results={folder}", *argv], ROOT)


def test_writes_four_files_and_prints_the_table(tmp_path, capsys):
    factories.write(tmp_path, *factories.suite())
    assert report(tmp_path) == 0
    out = capsys.readouterr().out
    assert "Reproduction of Table 1 (toy profile)" in out
    assert sorted(path.name for path in (tmp_path / "toy").iterdir()) == [
        "cells", "table1.csv", "table1.md", "table1.tex", "table1_relative.csv"]  # fmt: skip
    table = pd.read_csv(tmp_path / "toy" / "table1.csv")
    shown = table[(table.method == "plphp") & (table.setting == "r=0.4, Δr=0.3") & (table.metric == "rouge_l")]
    assert len(shown) == 3
    for file in ("table1.md", "table1.tex"):
        assert all(
            f"{100 * value:.2f}" in (tmp_path / "toy" / file).read_text(encoding="utf-8") for value in shown.value
        )


def test_missing_cells_and_failures_are_a_notice_or_an_exit_code(tmp_path, capsys):
    factories.write(tmp_path, factories.cell("SD", samples=8, failed=(1,)))
    assert report(tmp_path, "--quiet") == 0
    notices = capsys.readouterr().err
    assert "69 cells of table1 are not finished" in notices
    assert "1 sample of table1 failed" in notices
    assert report(tmp_path, "--quiet", "--strict") == 3


@pytest.mark.parametrize("limit", ["limit=", "limit=null", "limit=full", "--limit=full"])
def test_no_limit_means_the_full_benchmarks(tmp_path, capsys, limit):
    factories.write(tmp_path, factories.cell("SD"), factories.cell("SD", limit=48))
    assert report(tmp_path, "--quiet", limit) == 0
    assert "shown is" not in capsys.readouterr().err  # nothing was left to choose
    assert (tmp_path / "toy" / "table1.md").exists()


def test_a_subset_does_not_replace_the_full_table(tmp_path):
    subset = {"limit": 8, "population": 48, "samples": 8}
    factories.write(tmp_path, factories.cell("SD"), factories.cell("SD", **subset))
    factories.write(tmp_path, factories.cell("SD", limit_seed=3, **subset))
    assert report(tmp_path, "--quiet", "limit=full") == 0
    full = (tmp_path / "toy" / "table1.csv").read_bytes()
    assert report(tmp_path, "--quiet", "limit=8", "limit_seed=0") == 0
    assert report(tmp_path, "--quiet", "limit=8", "limit_seed=3") == 0
    assert (tmp_path / "toy" / "table1.csv").read_bytes() == full
    for name in ("limit=8", "limit=8.seed=3"):
        for file in (f"table1.{name}.csv", f"table1_relative.{name}.csv", f"table1.{name}.md", f"table1.{name}.tex"):
            assert (tmp_path / "toy" / file).stat().st_size > 0
    assert "SD 8 of 48" in (tmp_path / "toy" / "table1.limit=8.seed=3.md").read_text(encoding="utf-8")


def test_a_subset_found_without_asking_for_it_is_named_all_the_same(tmp_path):
    factories.write(tmp_path, factories.cell("SD", limit=48))
    assert report(tmp_path, "--quiet") == 0
    assert (tmp_path / "toy" / "table1.limit=48.md").exists() and not (tmp_path / "toy" / "table1.md").exists()


def test_other_protocols_prompts_and_models_have_files_of_their_own(tmp_path):
    plain = factories.cell("SD", prompts="plain")
    llava = factories.cell("SD", prompts="plain", protocol="llava")
    mantis = factories.cell("SD", model="mantis")
    factories.write(tmp_path, factories.cell("SD"), plain, llava, mantis)
    for argv in (["protocol=lmms_eval"], ["prompts=plain", "protocol=lmms_eval"], ["protocol=llava"]):
        assert report(tmp_path, "--quiet", *argv) == 0
    assert report(tmp_path, "--quiet", "model=mantis") == 0
    assert {path.name for path in (tmp_path / "toy").glob("*.md")} == {
        "table1.md", "table1.prompts=plain.md", "table1.protocol=llava.md", "table1.model=mantis.md"}  # fmt: skip


def test_options_are_accepted_in_either_form(tmp_path):
    factories.write(tmp_path, factories.cell("SD"))
    written = tmp_path / "toy" / "table1.md"
    for argv in (["--rank", "all"], ["rank=all"], ["--rank=all"]):
        assert report(tmp_path, "--quiet", *argv) == 0
        assert "best of a column among all rows" in written.read_text(encoding="utf-8")
    assert (
        report(
            tmp_path, "--quiet", "--exclude", "other_r=0.4*.json", "--param", f"plphp.alpha={factories.PLPHP['alpha']}"
        )
        == 0
    )


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["profile=nowhere"], "does not exist"),
        (["profile=../toy"], "is not a name"),
        (["--param", "alpha=3"], "METHOD.NAME=VALUE"),
        (["protocol=llava"], "none of the 1 finished cells"),
    ],
)
def test_user_errors_are_one_message_without_traceback(tmp_path, capsys, argv, complaint):
    factories.write(tmp_path, factories.cell("SD"))
    assert report(tmp_path, *argv) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert complaint in error
    assert not (tmp_path / "toy" / "table1.csv").exists()


def test_an_unwritable_place_is_reported(tmp_path, capsys):
    factories.write(tmp_path, factories.cell("SD"))
    (tmp_path / "toy" / "table1.csv").mkdir()
    assert report(tmp_path, "--quiet") == 1
    assert "directory" in capsys.readouterr().err.lower()


def test_wrong_usage_exits_with_two(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["table1", "--rank", "none"], ROOT)
    assert caught.value.code == 2
    assert "compressed" in capsys.readouterr().err


def test_the_script_runs_by_absolute_path_from_another_folder(tmp_path):
    factories.write(tmp_path / "results", factories.cell("SD"))
    command = [sys.executable, str(ROOT / "scripts" / "report.py"), "table1", "profile=toy", "--results", "results"]
    done = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results" / "toy" / "table1.csv").exists()


def test_published_cells_are_all_unknown_and_a_number_put_in_is_read(tmp_path):
    for path in PUBLISHED.glob("*.csv"):
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
    found = list(dict.fromkeys(zip(lines.method, lines.setting, strict=True)))
    assert [method for method, _ in found] == [row["method"] for row in rows]
    for (_, setting), row in zip(found, rows, strict=True):
        assert setting.replace("Δr", "delta_r") == ", ".join(f"{k}={v}" for k, v in row.items() if k != "method")


def test_claims_are_numbered_without_gap_and_numbers_have_units():
    claims = load_claims(PUBLISHED)
    assert list(dict.fromkeys(claim.id.rstrip("abc") for claim in claims)) == [f"C{i}" for i in range(1, 15)]
    assert all((claim.value is None) == (claim.unit == "order") for claim in claims)
    assert {claim.id: claim.value for claim in claims}["C1"] == -0.46


def test_a_report_of_the_paper_profile_leaves_the_published_numbers_alone(tmp_path):
    """Both live below results/paper: the report must not write over what it compares with."""
    root = tmp_path / "repository"
    shutil.copytree(PUBLISHED, root / "results" / "paper" / "published")
    factories.write(root / "results", factories.cell("SD", profile="paper"))
    assert main(["table1", "--quiet"], root) == 0
    assert (root / "results" / "paper" / "table1.csv").exists()
    for path in PUBLISHED.iterdir():
        assert (root / "results" / "paper" / "published" / path.name).read_bytes() == path.read_bytes()
