"""Table 2: every printed number, the marked defaults, raised thresholds, and what its notes admit."""

import statistics

import numpy as np
import pandas as pd
import pytest

from plphp_core.analysis.comparable import Filters
from plphp_core.analysis.results import evaluate
from plphp_core.analysis.retention_stats import savings
from plphp_core.records.cell_result import load_cells
from plphp_core.reporting import table2
from plphp_core.reporting.configured import rows_configured
from tests.reporting import factories
from tests.reporting.test_table1 import FAST
from tests.reporting.test_table4 import report, texts, written

DEFAULTS = {"alpha": 0.75, "beta": 0.6, "r": 0.4, "delta_r": 0.3}


def saved_of(folder, records, table="table2", profile="toy"):
    factories.write(folder, *records)
    rows = rows_configured(table, profile, "llava_onevision")
    cells = load_cells(folder / profile / "cells", profile)
    return savings(evaluate(cells, rows, Filters(), FAST, factories.ABLATIONS))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return saved_of(tmp_path_factory.mktemp("table2"), factories.of_table("table2"))


def test_layout_and_every_printed_number(saved):
    scores, intervals, _, against = table2.sheets(saved, "toy", DEFAULTS, ["x left out"])
    assert [f"{column.group} {column.label}".strip() for column in scores.columns] == [
        *("Method", "α", "β", "SD R-L", "IE R-L", "VST R-L", "DetailCaps C", "DetailCaps M"),
        *("Average change", "Vision kept", "KV saved"),
    ]
    assert [tuple(texts(scores, row)[:3]) for row in range(9)] == [
        ("Uncompressed", "", ""),
        *(("PLPHP", a, b) for a, b in (("0.65", "0.5"), ("0.65", "0.6"))),
        *(("PLPHP", a, b) for a in ("0.75", "0.85") for b in ("0.5", "0.6", "0.7")),
    ]
    assert [row.rule for row in scores.rows] == [True, True, False, True, False, False, True, False, False]
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
            f"{100 * saved.average('kv_saved', row).value:.1f}%",
        ]
        found = saved.average("retention", row)
        assert texts(intervals, row)[-2] == f"[{100 * found.low:.2f}, {100 * found.high:.2f}]"
    assert len(against.rows) == 9 and "best baseline" not in against.title


def test_the_profiles_own_thresholds_are_marked_in_every_sheet(saved):
    scores, intervals, _, against = table2.sheets(saved, "toy", DEFAULTS, [])
    for sheet in (scores, intervals, against):
        marked = [row for row in range(9) if any(entry.mark for entry in sheet.rows[row].cells)]
        assert marked == [4] and [entry.mark for entry in sheet.rows[4].cells[1:3]] == ["*", "*"]
    assert any(note.startswith("* the thresholds") and "r = 0.4, Δr = 0.3" in note for note in scores.notes)


def test_each_raised_threshold_is_compared_with_the_next_lower_one(saved):
    results = saved.results
    steps = table2.raised(results)
    assert [one.names for one in steps][:2] == [("α: 0.65 → 0.75", "β = 0.5"), ("α: 0.65 → 0.75", "β = 0.6")]
    assert len(steps) == 5 + 5 and sum(one.rule for one in steps) == 2
    for one in steps:
        changed, base = results.rows[one.changed].params, results.rows[one.base].params
        differing = {name for name in changed if changed[name] != base[name]}
        assert len(differing) == 1 and changed[differing.pop()] - min(base["alpha"], base["beta"]) > 0
    sheet = table2.sheets(saved, "toy", DEFAULTS, [], "The paper claims it (C12).")[2]
    one = steps[0]
    means = [
        [np.mean(next(c for (i, b), c in results.cells.items() if (i, b) == (at, name)).costs["retention"])
         for name in factories.ABLATIONS] for at in (one.changed, one.base)
    ]  # fmt: skip
    points = 100 * (np.mean(means[0]) - np.mean(means[1]))
    assert points < 0 and sheet.rows[0].cells[-1].text == f"{points:.2f}".replace("-", "−")
    scores = [results.score(at, "SD", "rouge_l").value for at in (one.changed, one.base)]
    assert sheet.rows[0].cells[2].text == f"{100 * (scores[0] / scores[1] - 1):+.2f}%".replace("-", "−")
    assert "Of 50 comparisons" in sheet.notes[1]
    assert sheet.notes[-1] == "The paper claims it (C12)."


def test_notes_admit_what_is_not_known_and_what_was_left_out(saved):
    notes = " ".join(table2.sheets(saved, "toy", DEFAULTS, ["plphp alpha=1, beta=2 left out: no"])[0].notes)
    for part in ("Toy profile", "SD 48, IE 48, VST 48, DetailCaps 48", "nor its benchmarks are known here", "tasks=…",
                 "the method refuses: plphp alpha=1, beta=2", "5 of 10 score columns"):  # fmt: skip
        assert part in notes, part
    assert "refuses" not in " ".join(table2.sheets(saved, "toy", DEFAULTS, [])[0].notes)


def test_missing_cells_stay_na(tmp_path):
    records = [one for one in factories.of_table("table2") if "α=0.85" not in one["setting"]]
    scores, intervals, raised, _ = table2.sheets(saved_of(tmp_path, records), "toy", DEFAULTS, [])
    for sheet in (scores, intervals):
        assert all(set(texts(sheet, row)[3:]) == {"n/a"} for row in (6, 7, 8))
    assert any("n/a, not run yet (12 of 36 cells)" in note for note in scores.notes)
    assert set(texts(raised, 2)[2:]) == {"n/a"} and "Of 25 comparisons" in raised.notes[1]


def test_the_command_writes_it_and_a_file_per_choice_of_benchmarks(tmp_path, capsys):
    factories.write(tmp_path, *factories.of_table("table2"))
    assert report(tmp_path, "table2", "report.strict=true") == 0
    printed = capsys.readouterr().out
    assert "thresholds α × β, LLaVA-OneVision" in printed and "(C12)" in printed
    page = (tmp_path / "toy" / "table2.md").read_text(encoding="utf-8")
    assert "(C12): Raising α or β prunes more and costs score. Nothing on this profile speaks for it" in page
    assert report(tmp_path, "table2", "report.quiet=true", "tasks=[sd,ie]") == 0
    assert written(tmp_path) == {f"table2{one}.{kind}" for one in ("", ".tasks=sd+ie") for kind in ("csv", "md", "tex")}
    assert "U+" not in (tmp_path / "toy" / "table2.tex").read_text(encoding="utf-8")  # every letter has its command
    table = pd.read_csv(tmp_path / "toy" / "table2.csv")
    assert {"alpha", "beta", "retention_low", "kv_saved_high", "relative_low", "n_none"} <= set(table.columns)
    assert set(table.benchmark) == set(factories.ABLATIONS) and len(table) == 9 * (3 * 2 + 3)
    assert set(pd.read_csv(tmp_path / "toy" / "table2.tasks=sd+ie.csv").benchmark) == {"SD", "IE"}
    assert report(tmp_path, "table2", "report.quiet=true", "tasks=nowhere") == 1
    assert "is none of ablations, cases, coco2017" in capsys.readouterr().err


def test_of_a_paper_run_the_claim_stands_beside_the_count(tmp_path):
    factories.write(tmp_path, *factories.of_table("table2", "paper"))
    assert report(tmp_path, "table2", "report.quiet=true") == 1  # nothing of the toy profile there
    from plphp_core.cli.entry_point import command

    assert command("report", ["table2", "report.quiet=true", f"results={tmp_path}"]) == 0
    text = (tmp_path / "paper" / "table2.md").read_text(encoding="utf-8")
    assert "(C12): Raising α or β prunes more and costs score." in text and "speaks for it" not in text
    assert "reproduced" not in text.lower()
