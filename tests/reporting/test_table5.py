"""Table 5: its layout, its numbers against the cell files, and the paper's claims beside ours."""

import math
import statistics

import pandas as pd
import pytest

from plphp_core.reporting import table5
from plphp_core.reporting.published import load_claims, load_reference
from tests.analysis.test_costs import costs_of
from tests.reporting import factories
from tests.reporting.test_report import PUBLISHED
from tests.reporting.test_table4 import report, texts, written

CLAIMS = load_claims(PUBLISHED)


def paper(folder, records=None):
    records = records or factories.of_costs("table5", "paper", batch=1)
    return costs_of(folder, records, "table5", "paper")


def test_layout_and_every_printed_number(tmp_path):
    costs = costs_of(tmp_path, factories.of_costs("table5"), "table5")
    (table,) = table5.sheets(costs, "toy", {}, CLAIMS)
    assert [f"{column.group} {column.label}".strip() for column in table.columns] == [
        *("Method", "Setting", "Decode ms/token", "Decode change", "KV cache MiB", "KV cache change", "Vision kept")
    ]
    cells = factories.of_costs("table5")
    assert [texts(table, row)[1] for row in range(4)] == ["", *[f"r={r}, Δr=0.3" for r in (0.3, 0.4, 0.5)]]
    none = cells[0]["efficiency"]
    for row, cell in enumerate(cells):
        paid = cell["efficiency"]
        latency, size = statistics.median(paid["decode_ms_per_token"]), statistics.mean(paid["kv_bytes"])
        entries = table.rows[row].cells
        assert (entries[2].text, entries[4].text) == (f"{latency:.2f}", f"{size / 2**20:.2f}")
        found = costs.value(row, "decode_ms_per_token")
        assert entries[2].detail == f"[{found.low:.2f}, {found.high:.2f}]"
        if row == 0:
            assert entries[3].text == entries[5].text == "reference"
            continue
        changes = (
            latency / statistics.median(none["decode_ms_per_token"]) - 1,
            size / statistics.mean(none["kv_bytes"]) - 1,
        )
        printed = [f"{100 * change:+.2f}%".replace("-", "−") for change in changes]
        assert [entries[3].text, entries[5].text] == printed
        assert entries[3].detail.startswith("[") and entries[5].detail.startswith("[")
    assert texts(table, 4)[:2] == ["As published", "all rows"] and set(texts(table, 4)[2:]) == {"n/a"}


def test_claims_stand_beside_ours_on_the_paper_profile(tmp_path):
    costs = paper(tmp_path)
    _, claims = table5.sheets(costs, "paper", {}, CLAIMS)
    assert [texts(claims, row)[0].split(":")[0] for row in range(4)] == ["C5", "C6", "C7a", "C7b"]
    assert [texts(claims, row)[1] for row in range(4)] == ["18.1%", "53.8%", "20.2%", "62.4%"]
    assert [texts(claims, row)[4] for row in range(4)] == [f"r={r}, Δr=0.3" for r in (0.4, 0.4, 0.3, 0.3)]
    records = {
        record["params"].get("r"): record["efficiency"] for record in factories.of_costs("table5", "paper", batch=1)
    }

    def median(r):
        return statistics.median([ms for ms in records[r]["decode_ms_per_token"] if ms is not None])

    for row, r in ((0, 0.4), (2, 0.3)):
        entry = claims.rows[row].cells[2]
        saved = 1 - median(r) / median(None)
        assert entry.text == f"{100 * saved:+.2f}%".replace("-", "−")
        assert entry.detail == f"{100 * (1 / (1 - saved) - 1):+.2f}%".replace("-", "−")
        change = costs.change(2 if r == 0.4 else 1, "decode_ms_per_token")
        assert texts(claims, row)[3] == f"[{-100 * change.high:+.2f}%, {-100 * change.low:+.2f}%]".replace("-", "−")
    for row, r in ((1, 0.4), (3, 0.3)):
        saved = 1 - sum(records[r]["kv_bytes"]) / sum(records[None]["kv_bytes"])
        assert texts(claims, row)[2] == f"{100 * saved:+.2f}%" and claims.rows[row].cells[2].detail == ""


def test_claims_are_quoted_but_not_compared_on_the_toy(tmp_path):
    sheets = table5.sheets(costs_of(tmp_path, factories.of_costs("table5"), "table5"), "toy", {}, CLAIMS)
    assert len(sheets) == 1
    (said,) = [note for note in sheets[0].notes if "The paper claims" in note]
    assert "not comparable" in said and all(f"{number}%" in said for number in (18.1, 53.8, 20.2, 62.4))
    assert "Toy profile" in sheets[0].notes[0] and "(toy profile)" in sheets[0].title


def test_a_claim_without_its_row_or_its_time_has_no_number_of_ours(tmp_path):
    records = factories.of_costs("table5", "paper", batch=1)
    costs = paper(tmp_path, [records[0], records[1] | {"hardware": "H200"}])
    claims = table5.sheets(costs, "paper", {}, CLAIMS)[1]
    assert texts(claims, 0)[2:4] == texts(claims, 1)[2:4] == texts(claims, 2)[2:4] == ["n/a", "n/a"]
    assert texts(claims, 3)[2] != "n/a" and not math.isnan(costs.change(1, "kv_bytes").value)
    assert len(table5.sheets(costs, "paper", {})) == 1


def test_published_numbers_of_an_unnamed_benchmark_are_shown(tmp_path):
    known = {("plphp", "r=0.4"): {("n/a", "decode_latency"): 25.5, ("DetailCaps", "kv_cache_size"): 100.0}}
    table = table5.sheets(paper(tmp_path), "paper", known)[0]
    assert texts(table, 4) == ["PLPHP, as published", "r=0.4", "25.50", "n/a", "100.00", "n/a", "n/a"]
    assert load_reference(PUBLISHED, "table5") == {}


def test_the_command_writes_the_table(tmp_path, capsys):
    factories.write(tmp_path, *factories.of_costs("table5"))
    assert report(tmp_path, "table5") == 0
    assert "Reproduction of Table 5 (toy profile): r against none on DetailCaps" in capsys.readouterr().out
    assert written(tmp_path) == {"table5.csv", "table5.md", "table5.tex"}
    table = pd.read_csv(tmp_path / "toy" / "table5.csv")
    line = table[(table.setting == "r=0.4, Δr=0.3") & (table.metric == "decode_ms_per_token")]
    cells = factories.of_costs("table5")
    ours, none = (statistics.median(cells[at]["efficiency"]["decode_ms_per_token"]) for at in (2, 0))
    assert line.relative_to_none.item() == pytest.approx(ours / none - 1, abs=1e-6)
    assert line.relative_low.item() <= line.relative_to_none.item() <= line.relative_high.item()
