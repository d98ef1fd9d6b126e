"""Table 5: its layout, its numbers against the cell files, and the paper's claims beside ours."""

import math
import statistics

from plphp_core.reporting import table5
from plphp_core.reporting.published import load_claims
from tests.reporting import factories
from tests.reporting.reports_made import PUBLISHED, costs_of, texts

CLAIMS = load_claims(PUBLISHED)


def paper(folder, records=None):
    records = records or factories.of_costs("table5", "paper", batch=1)
    return costs_of(folder, records, "table5", "paper")


def test_every_printed_number_is_the_cells(tmp_path):
    results = costs_of(tmp_path, factories.of_costs("table5"), "table5")
    (table,) = table5.sheets(results, "DetailCaps", "toy", {}, CLAIMS)
    cells = factories.of_costs("table5")
    none = cells[0]["efficiency"]
    for row, cell in enumerate(cells):
        paid = cell["efficiency"]
        latency, size = statistics.median(paid["decode_ms_per_token"]), statistics.mean(paid["kv_bytes"])
        entries = table.rows[row].cells
        assert (entries[2].text, entries[4].text) == (f"{latency:.2f}", f"{size / 2**20:.2f}")
        found = results.value(row, "DetailCaps", "decode_ms_per_token")
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


def test_claims_stand_beside_ours_on_the_paper_profile(tmp_path):
    results = paper(tmp_path)
    _, claims = table5.sheets(results, "DetailCaps", "paper", {}, CLAIMS)
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
        change = results.change(2 if r == 0.4 else 1, "DetailCaps", "decode_ms_per_token")
        assert texts(claims, row)[3] == f"[{-100 * change.high:+.2f}%, {-100 * change.low:+.2f}%]".replace("-", "−")
    for row, r in ((1, 0.4), (3, 0.3)):
        saved = 1 - sum(records[r]["kv_bytes"]) / sum(records[None]["kv_bytes"])
        assert texts(claims, row)[2] == f"{100 * saved:+.2f}%" and claims.rows[row].cells[2].detail == ""


def test_a_claim_without_its_row_or_its_time_has_no_number_of_ours(tmp_path):
    records = factories.of_costs("table5", "paper", batch=1)
    results = paper(tmp_path, [records[0], records[1] | {"hardware": "H200"}])
    claims = table5.sheets(results, "DetailCaps", "paper", {}, CLAIMS)[1]
    assert texts(claims, 0)[2:4] == texts(claims, 1)[2:4] == texts(claims, 2)[2:4] == ["n/a", "n/a"]
    assert texts(claims, 3)[2] != "n/a" and not math.isnan(results.change(1, "DetailCaps", "kv_bytes").value)
    assert len(table5.sheets(results, "DetailCaps", "paper", {})) == 1
