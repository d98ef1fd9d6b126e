"""A small world behind a page: cells with their journals, documents with images, reports, all without a model."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

from plphp_core.analysis.bootstrap import Estimate
from plphp_core.analysis.comparable import rows_found
from plphp_core.analysis.results import evaluate
from plphp_core.claims.claim_evidence import ClaimEvidence
from plphp_core.claims.claim_finding import ORDER, ClaimFinding, ClaimPart
from plphp_core.claims.claim_rules import RULES
from plphp_core.claims.verdict import RuleOutcome, Verdict
from plphp_core.config.report_choices import Filters, Options
from plphp_core.config.report_settings import ReportSettings
from plphp_core.evaluation.requests import Request as Question
from plphp_core.records.cache_keys import sample_key
from plphp_core.records.cell_result import load_cells
from plphp_core.records.journal_lines import SampleError, SampleLine
from plphp_core.reporting.dataset_access import DatasetUnavailable
from plphp_core.reporting.published import Claim
from plphp_core.reporting.request import Report, ReportRequest
from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow
from tests.journal_factories import answer_of, write_journal
from tests.reporting import factories
from tests.reporting.reports_made import ROOT

METHODS = (("none", {}, ""), ("fastv", {"K": 2, "R": 0.5}, "K=2, R=0.5"), ("plphp", {"r": 0.4}, "r=0.4"))
GENERATION = {"max_new_tokens": 16}
HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "<!-- <script>alert(2)</script>",
    "line\u2028separator\u2029end",
    "{{7*7}} {% raw %} ${7*7}",
    "\u202eright to left\u2066\u2067 \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    "' onmouseover='alert(3)' \" & &amp; \\u003c",
    "half a pair \ud800 and \x00 zero",
)


def context(doc_id: int) -> str:
    return f"Question number {doc_id}: what is in <image>?"


def answer(method: str, doc_id: int) -> str:
    return f"{method} sees thing {doc_id}"


class World:
    """A results folder with one benchmark (or several, or none yet) answered by METHODS.

    texts: (method, doc_id) → answer; ask: (task, doc_id) → the text and generation arguments that were answered.
    """

    def __init__(
        self, folder: Path, samples=30, benchmarks=("SD",), texts=None, failed=(), layers=4, ask=None, **changes
    ):
        self.folder, self.samples, self.texts = folder, samples, texts or {}
        self.ask = ask or (lambda task, doc_id: (context(doc_id), GENERATION))
        self._given = (benchmarks, failed, layers, changes)
        self._write_all(*self._given)

    def write_again(self) -> None:
        """Cells and journals anew, for example with other `texts`."""
        for path in self.folder.glob("*/cells/*"):
            path.unlink()
        self._write_all(*self._given)

    def _write_all(self, benchmarks, failed, layers: int, changes: dict) -> None:
        for benchmark in benchmarks:
            for method, params, setting in METHODS:
                kept = 1.0 if method == "none" else 0.5
                lost = failed if method == "plphp" else ()
                record = factories.cell(benchmark, method, params, setting, 1 - 0.2 * (method != "none"), kept,
                                        samples=self.samples, failed=lost, **changes)  # fmt: skip
                self.write(record, layers, lost)

    def write(self, record: dict, layers: int, failed=()) -> None:
        key = f"key of {record['cell']}"
        name = f"{record['cell'].replace(' ', '').replace('/', '')}.jsonl"
        record |= {"answers_key": key, "journal": f"journal/{name}"}
        docs = [*record["doc_ids"], *failed]
        (self.folder / record["profile"] / "journal" / name).unlink(missing_ok=True)
        write_journal(self.folder / record["profile"] / "journal" / name,
                      [self.line(record, key, doc_id, layers, doc_id in failed) for doc_id in docs])  # fmt: skip
        factories.write(self.folder, record)

    def line(self, record: dict, key: str, doc_id: int, layers: int, failed: bool) -> SampleLine:
        method = record["method"]
        if failed:
            what = {"error": SampleError(kind="OutOfMemoryError", message="too large")}
        else:
            text = self.texts.get((method, doc_id), answer(method, doc_id))
            what = {"answer": answer_of(text, retention=[1.0 if method == "none" else 0.5] * layers)}
        sample = sample_key(key, doc_id, *self.ask(record["task"], doc_id))
        return SampleLine(key=sample, cell=key, doc_id=doc_id, hardware="2 CPU cores", **what)

    def asked(self, profile="toy", root=ROOT) -> ReportRequest:
        options = ReportSettings("page", profile, self.folder, choices=Options(resamples=20))
        cells = load_cells(self.folder / profile / "cells", profile)
        return ReportRequest(cells, options, root)

    def reports(self, asked: ReportRequest, notes=("A note.",), findings=()) -> list[Report]:
        results = evaluate(asked.cells, rows_found(asked.cells), Filters(), asked.choices)
        return [
            Report("table1", "", [sheet("Table 1, a title", notes)], [results], {}),
            Report("figure5", "", [sheet("Figure 5, a title", notes)], [results], {}),
            *[Report("claims", "", [sheet("Claims", notes)], [], {}, findings=findings)] * bool(findings),
        ]


def finding(name="C1", text="a claim", why="few", unit="percent", verdict=Verdict.INCONCLUSIVE, **evidence):
    """A claim as the ledger has it, judged on invented numbers."""
    part = ClaimPart("first", Estimate(-4.5352, np.empty(0), -5.8, -3.3), unit, RuleOutcome.UNDECIDED)
    found = ClaimEvidence(**({"n": {"SD": 48, "MV": 50}, "hardware": ("one CPU",)} | evidence))
    value, parts = (None, (part, part)) if unit == ORDER else (-0.46, (part,))
    claim = Claim(name, text, value, unit, "Table 1")
    rule, outcome = RULES["C9a" if unit == ORDER else "C1"], RuleOutcome.NOT_AS_CLAIMED
    return ClaimFinding(claim, rule, "toy", verdict, outcome, why, "make", parts, found, ("a remark",))


def sheet(title: str, notes=(), texts=("FastV", "1.00")) -> Table:
    columns = (TableColumn("Method", text=True), TableColumn("R-L", "SD"), TableColumn("C", "SD"))
    rows = (
        TableRow((TableCell(texts[0]), TableCell(texts[1], "detail", "†", "best"), TableCell("2", emphasis="second"))),
    )
    return Table(title, columns, rows, tuple(notes))


def drawing(doc_id: int, size=(48, 32)) -> Image.Image:
    """A plain picture, other for every document."""
    colour = (doc_id % 256, doc_id // 256 % 256, 90)
    return Image.new("RGB", size, colour)


def photograph(seed: int, size=(640, 480)) -> Image.Image:
    """Noise that no format makes small."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


class FakeDocuments:
    """In place of `DatasetAccess`: no data set, no lmms-eval. `refuse`: why nothing can be opened."""

    def __init__(self, samples: int, refuse="", ask=context, references=None, image=drawing):
        self.samples, self.refuse, self.ask, self.image = samples, refuse, ask, image
        self.references = references or (lambda doc_id: [f"reference {doc_id}", "thing"])

    def open(self, cell):
        if self.refuse:
            raise DatasetUnavailable(self.refuse)
        requests = {
            doc: Question(self.ask(doc), GENERATION, lambda doc=doc: [self.image(doc)], tag=doc)
            for doc in range(self.samples)
        }
        task = SimpleNamespace(doc_to_target=self.references, eval_docs_no_media=range(self.samples))
        return SimpleNamespace(requests=requests, task=task, facts=SimpleNamespace(task=cell.task))


class Elements(HTMLParser):
    """Tags with attributes, and the content of each script."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.scripts, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data):
        self.text += data
        if self.tags and self.tags[-1][0] == "script" and self.scripts:
            self.scripts[-1] += data

    def piece(self, name: str):
        at = [attributes.get("id") for tag, attributes in self.tags if tag == "script"].index(name)
        return json.loads(self.scripts[at])


def write_manifest(folder: Path, **changes) -> None:
    factories.manifest(**changes).write(folder / "toy" / "manifests" / "one.json")
