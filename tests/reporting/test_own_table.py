"""A file in configs/table is enough for a table of one's own."""

import pandas as pd
import pytest

from plphp_core.cli import report_command
from plphp_core.records.cell_result import load_cells
from tests.reporting import factories

ROWS = "rows: {toy: [{method: none}, {method: plphp, r: [0.3, 0.4], delta_r: 0.3}]}\n"
TASKS = "defaults: [override /tasks@_global_.tasks: ablations]\n"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs" / "table").mkdir(parents=True)
    factories.write(tmp_path / "results", *factories.suite())
    return tmp_path


def report(root, text, profile="toy"):
    (root / "configs" / "table" / "mine.yaml").write_text(f"name: mine\n{TASKS}{ROWS}{text}")
    return report_command.main(["table=mine", f"profile={profile}", f"results={root / 'results'}", "report.quiet=true"])


def test_a_file_gives_markdown_csv_and_latex_with_the_cells_scores(root):
    assert report(root, "title: My table\n") == 0
    folder = root / "results" / "toy"
    text = (folder / "mine.md").read_text()
    assert text.startswith("## My table (toy profile)") and (folder / "mine.tex").is_file()
    lines = pd.read_csv(folder / "mine.csv")
    for cell in load_cells(folder / "cells", "toy"):
        own = lines[(lines.method == "none") & (lines.benchmark == cell.benchmark) & (lines.metric == "rouge_l")]
        if cell.method == "none" and cell.benchmark in ("SD", "IE", "VST"):
            assert own.value.tolist() == [pytest.approx(cell.metrics["rouge_l"].value)]
            assert f"{100 * cell.metrics['rouge_l'].value:.2f}" in text


def test_columns_are_named_in_the_file_and_unknown_ones_refused(root, capsys):
    assert report(root, "columns: [decode, vision_kept]\n") == 0
    head = (root / "results" / "toy" / "mine.md").read_text().splitlines()[2]
    assert "SD ms/token" in head and "Vision kept" in head and "R-L" not in head
    assert report(root, "columns: [speed]\n") == 1
    assert "speed" in (said := capsys.readouterr().err) and "vision_kept" in said


def test_a_profile_without_rows_is_refused(root, capsys):
    factories.write(root / "results", factories.cell("SD", profile="paper"))
    assert report(root, "", "paper") == 1 and "no rows for profile 'paper'" in capsys.readouterr().err
