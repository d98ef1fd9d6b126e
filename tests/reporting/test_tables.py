"""Every table of the paper against its cells: numbers, gaps, failures, marks; a table of one's own is made alike."""

import statistics

import pandas as pd
import pytest

from plphp_core.families import get_family
from plphp_core.records.errors import ReportError
from plphp_core.reporting.reports import report_names
from plphp_core.reporting.table_content import table_layout
from tests.reporting import factories
from tests.reporting.reports_made import PUBLISHED, change, exact, made, report, scored, written

QWEN, _, MANTIS = (get_family(model).title for model in factories.MODELS)
RECORDS = {
    "table1": factories.suite,
    "table2": lambda: factories.of_table("table2"),
    "table3": lambda: factories.of_table3("qwen2_vl"),
    "table4": lambda: factories.of_costs("table4"),
    "table5": lambda: factories.of_costs("table5"),
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    return {name: made(tmp_path_factory.mktemp(name), name, make()) for name, make in RECORDS.items()}


def by_heading(table, row) -> dict:
    """Heading → cell of a row."""
    headings = [f"{column.group} {column.label}".strip() for column in table.columns]
    return dict(zip(headings, table.rows[row].cells, strict=True))


def expected(cell: dict, none: dict) -> dict[str, str]:
    """What a cell's own columns print."""
    paid, free = cell["efficiency"], none["efficiency"]
    times = [[ms for ms in one["decode_ms_per_token"] if ms is not None] for one in (paid, free)]
    headings = {"rouge_l": "R-L", "cider": "C", "meteor": "M", "overall": "Overall"}
    found = {
        f"{cell['benchmark']} {headings[name]}": f"{100 * metric['value']:.2f}"
        for name, metric in cell["metrics"].items()
        if name in headings
    }
    return found | {
        "KV cache MiB": f"{statistics.mean(paid['kv_bytes']) / 2**20:.2f}",
        "KV cache change": change(sum(paid["kv_bytes"]) / sum(free["kv_bytes"]) - 1),
        "Decode ms/token": f"{statistics.median(times[0]):.2f}",
        "Decode change": change(statistics.median(times[0]) / statistics.median(times[1]) - 1),
        "Evaluation s": f"{sum(one or 0 for one in paid['prefill_ms'] + paid['decode_ms']) / 1e3:.2f}",
    }


@pytest.mark.parametrize("name", RECORDS)
def test_every_printed_number_is_the_cells(reports, name):
    table = reports[name].sheets[0]
    records = RECORDS[name]()
    for at, row in enumerate(reports[name].parts[0].rows):
        of_row = [one for one in records if one["method"] == row.method and one["params"] in (row.params, {})]
        entries, changes, kept, saved = by_heading(table, at), [], [], []
        for cell in of_row:
            none = next(one for one in records if (one["method"], one["benchmark"]) == ("none", cell["benchmark"]))
            for heading, text in expected(cell, none).items():
                if heading in entries and not ("change" in heading and row.method == "none"):
                    assert entries[heading].text == text, (row, heading)
            shown = [metric for metric in cell["metrics"] if metric != "slot_accuracy"]
            changes += [cell["metrics"][one]["value"] / none["metrics"][one]["value"] - 1 for one in shown]
            paid = cell["efficiency"]
            kept.append(statistics.mean(paid["retention"]))
            saved.append(1 - sum(paid["kv_bytes"]) / sum(paid["kv_bytes_full"]))
        averages = {
            "Average change": change(statistics.mean(changes)) if row.method != "none" else "0.00%",
            "Vision kept": f"{100 * statistics.mean(kept):.1f}%",
            "KV saved": f"{100 * statistics.mean(saved):.1f}%",
        }
        for heading in set(averages) & set(entries):
            assert entries[heading].text == averages[heading], (row, heading)


def test_ranking_may_include_the_uncompressed_row(tmp_path):
    records = [exact("SD", "none", 0.9), exact("SD", "plphp", 0.8)]
    rows = made(tmp_path, "table1", records, "report.rank=all").sheets[0].rows
    assert (rows[0].cells[2].emphasis, rows[8].cells[2].emphasis) == ("best", "second")


def test_gains_changes_and_averages_follow_from_the_scores(tmp_path):
    levels = {"SD": (0.5, 0.4), "Flickr30k": (0.5, 0.55)}
    records = [exact(b, m, s) for b, pair in levels.items() for m, s in zip(("none", "plphp"), pair, strict=True)]
    one = made(tmp_path, "table1", records)
    results, row = one.parts[0], by_heading(one.sheets[0], 8)
    assert results.average_change(8).value == pytest.approx((-0.2 + 0.1 + 0.1) / 3)
    assert (row["SD R-L"].text, row["SD R-L"].detail) == ("40.00", "−20.00%")
    assert (row["Flickr30k C"].text, row["Flickr30k C"].detail) == ("55.00", "+10.00%")
    by_benchmark = made(tmp_path, "table1", [], "report.average=benchmarks", "report.gains=points")
    assert by_benchmark.parts[0].average_change(8).value == pytest.approx((-0.2 + 0.1) / 2)
    assert by_heading(by_benchmark.sheets[0], 8)["SD R-L"].detail == "−10.00"


def test_without_uncompressed_cells_nothing_is_relative(tmp_path):
    one = made(tmp_path, "table1", [exact("SD", "plphp", 0.5)])
    row = by_heading(one.sheets[0], 8)
    assert (row["SD R-L"].text, row["SD R-L"].detail, row["Average change"].text) == ("50.00", "", "n/a")
    assert one.tables[""].relative_to_none.isna().all()


def test_a_cell_whose_samples_all_failed_prints_no_score(tmp_path):
    lost = factories.cell("SD", "plphp", factories.PLPHP, "r=0.4, Δr=0.3", samples=4, failed=(0, 1, 2, 3))
    entry = by_heading(made(tmp_path, "table1", [exact("SD", "none", 0.5), lost]).sheets[0], 8)["SD R-L"]
    assert (entry.text, entry.mark, entry.detail) == ("n/a", "†4", "")


def test_notes_name_the_cells_of_other_software(tmp_path):
    records = [exact("SD", "none", 0.5), exact("SD", "plphp", 0.4, versions={"torch": "2.9"})]
    notes = " ".join(made(tmp_path, "table1", records).sheets[0].notes)
    assert "torch 2.9: PLPHP r=0.4, Δr=0.3 on SD" in notes


# --- Table 3 ----------------------------------------------------------------------------------------------------------


def of_mantis(method, score):
    (record,) = [one for one in factories.of_table3("mantis", ("SD",), samples=4) if one["method"] == method]
    return scored(record, [score] * 4)


@pytest.mark.parametrize(("score", "bold"), [(0.51, True), (0.5, False), (0.50001, False), (0.49, False)])
def test_bold_is_above_the_same_model_uncompressed_as_printed(tmp_path, score, bold):
    table = made(tmp_path, "table3", [of_mantis("none", 0.5), of_mantis("plphp", score)]).sheets[0]
    row = by_heading(table, 5)
    assert (row["SD R-L"].emphasis == "best") == (row["Average change"].emphasis == "best") == bold
    assert row["SD R-L"].detail == ("+2.00%" if bold else "−2.00%" if score < 0.5 else "0.00%")


def test_models_on_different_documents_are_refused(tmp_path):
    records = [*factories.of_table3("qwen2_vl", ("SD",)), *factories.of_table3("mantis", ("SD",), data_revision="d1")]
    with pytest.raises(ReportError, match="differ in data_revision"):
        made(tmp_path, "table3", records)


def test_published_cells_are_those_of_the_table():
    lines, layout = pd.read_csv(PUBLISHED / "table3.csv", keep_default_na=False), table_layout("table3")
    asked = {
        (model, method, benchmark, metric)
        for model in layout.models
        for method in ("none", "plphp")
        for benchmark, metric in (*factories.COLUMNS, ("all", "kv_saved"))
        if (model, benchmark) not in layout.skip
    }
    assert set(lines[["model", "method", "benchmark", "metric"]].itertuples(index=False, name=None)) == asked


# --- Tables 4 and 5 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "unit"), [(1 / 64, "KiB"), (1, "MiB"), (4096, "GiB")])
def test_the_cache_is_printed_in_a_unit_that_fits(tmp_path, factor, unit):
    records = factories.of_costs()
    for record in records:
        for name in ("kv_bytes", "kv_bytes_full"):
            record["efficiency"][name] = [factor * size for size in record["efficiency"][name]]
    size = statistics.mean(records[0]["efficiency"]["kv_bytes"]) / {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit]
    row = by_heading(made(tmp_path, "table4", records).sheets[0], 0)
    assert row[f"KV cache {unit}"].text == f"{size:.2f}" and row["Decode change"].text == "reference"


# --- a table of one's own ---------------------------------------------------------------------------------------------

OWN = """name: mine
defaults: [override /tasks@_global_.tasks: ablations]
rows: {toy: [{method: none}, {method: plphp, r: [0.3, 0.4], delta_r: 0.3}]}
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes `mine.yaml`, and gives the results folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs" / "table").mkdir(parents=True)

    def write(text="", begin=OWN):
        (tmp_path / "configs" / "table" / "mine.yaml").write_text(begin + text)
        return tmp_path / "results"

    return write


def test_a_file_is_enough(own):
    one = made(own("title: My table\nnotes: [My own remark about these.]\n"), "mine", factories.suite())
    assert one.sheets[0].title == "My table (toy profile): LLaVA-OneVision"
    assert "My own remark about these." in one.sheets[0].notes and set(one.files()) == {
        "mine.md",
        "mine.csv",
        "mine.tex",
    }


def test_it_differs_from_table_1_in_its_data_only(own):
    folder = own("defaults: [table1, _self_]\nname: mine\n", "")
    mine, first = made(folder, "mine", factories.suite()), made(folder, "table1", [])
    assert mine.tables[""].equals(first.tables[""]) and mine.sheets[:1] == first.sheets[:1]


def test_columns_are_named_in_the_file_one_per_benchmark(own):
    one = made(own("columns: [decode, vision_kept]\n"), "mine", factories.suite())
    assert set(by_heading(one.sheets[0], 0)) >= {"SD Decode ms/token", "DetailCaps Decode ms/token", "Vision kept"}
    assert any(note.startswith("Decode ms/token: ") for note in one.sheets[0].notes)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("columns: [speed]\n", "unknown 'speed' in columns; known: .*vision_kept"),
        ("notes: [scoers]\n", "unknown 'scoers' in notes"),
        ("colums: [scores]\n", "unknown key 'colums'; known keys: .*columns"),
    ],
)
def test_what_a_file_cannot_name_is_refused_with_what_it_can(own, text, complaint):
    with pytest.raises(ReportError, match=rf"mine\.yaml: {complaint}"):
        made(own(text), "mine", factories.suite())


def test_it_may_be_about_several_models(own):
    one = made(own("models: [qwen2_vl, mantis]\n"), "mine", [*factories.of_table3("qwen2_vl"), factories.cell("SD")])
    assert [row.cells[0].text for row in one.sheets[0].rows] == [QWEN] * 3 + [MANTIS] * 3


def test_all_makes_it_too_with_a_place_on_the_page_where_it_has_rows(own, drawn, capsys):
    folder = own("title: My table\n")
    factories.write(folder, *factories.suite(benchmarks=("SD",)))
    assert report(folder, "all") == 0 and "mine.md" in written(folder)
    assert "My table" in (folder / "toy" / "report.html").read_text(encoding="utf-8")
    assert "mine" in report_names("toy") and "mine" not in report_names("paper")
    capsys.readouterr()
    factories.write(folder, factories.cell("SD", profile="paper"))
    assert report(folder, "mine", profile="paper") == 1
    assert "mine.yaml has no rows for profile 'paper'; it has some for toy" in capsys.readouterr().err
