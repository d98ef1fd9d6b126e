"""Parts of a GPU check that break, hang or have no time: the others run, and nothing found is lost."""

import importlib
import json
import time
from contextlib import suppress

import pytest

from plphp_core.bench.bench_tables import BenchColumn
from plphp_core.bench.gpu_check.gpu_evidence import Evidence, GpuCheck, GpuPart, NotAvailableError, run_parts

ABOUT = {
    "hardware": "made up", "date": "today", "reduced": False, "memory": "slow", "notes": {"driver": "1"},
    "command": "none", "commit": "abc", "shape": "tiny",
}  # fmt: skip


def evidence_of(tmp_path, *looks, minutes=1.0, least=0.0, limit=10.0):
    columns = (BenchColumn("n", "number"), BenchColumn("more", "more"))
    parts = [GpuPart(f"part{i}", f"Part {i}", look, least, limit, columns) for i, look in enumerate(looks)]
    evidence = Evidence(ABOUT, tmp_path / "made-up", parts)
    run_parts(evidence, None, time.monotonic() + 60 * minutes, lambda text: None)
    content = json.loads((tmp_path / "made-up.json").read_text())
    return evidence, [(part["status"], part["rows"]) for part in content["parts"]]


def counts(_):
    yield {"n": 1}
    yield GpuCheck("one is one", True)


def test_a_part_that_breaks_stops_no_other_and_keeps_what_it_had(tmp_path):
    def breaks(_):
        yield {"n": 1, "more": float("nan")}
        raise ZeroDivisionError("by zero")

    def differs(_):
        yield GpuCheck("one is two", False, "one")

    def is_absent(_):
        raise NotAvailableError("no such device")
        yield

    evidence, found = evidence_of(tmp_path, breaks, differs, is_absent, counts)
    assert found == [("error", [{"n": 1, "more": None}]), ("failed", []), ("skipped", []), ("passed", [{"n": 1}])]
    assert [bad.name for bad in evidence.bad] == ["part0", "part1"]
    page = (tmp_path / "made-up.md").read_text()
    assert "error: part0; failed: part1; skipped: part2; passed: part3." in page
    assert "ZeroDivisionError: by zero." in page and "- does not hold: one is two; one" in page
    assert "Not shown: no such device." in page and "| 1 | n/a |" in page
    assert "Traceback" in evidence.found[0].trace


@pytest.mark.parametrize("name, status", [("no_such_package", "skipped"), ("plphp_core.no_such_module", "error")])
def test_a_package_that_is_not_installed_is_named(tmp_path, name, status):
    def needs(_):
        importlib.import_module(name)
        yield

    evidence, found = evidence_of(tmp_path, needs, counts)
    assert found == [(status, []), ("passed", [{"n": 1}])]
    assert name in evidence.found[0].reason


def test_a_part_that_does_not_end_is_cut_off_and_keeps_what_it_had(tmp_path):
    def hangs(_):
        yield {"n": 1}
        while True:
            with suppress(Exception):  # as code that tries what may fail
                time.sleep(0.01)

    evidence, found = evidence_of(tmp_path, hangs, counts, limit=0.3)
    assert found == [("cut off", [{"n": 1}]), ("passed", [{"n": 1}])] and len(evidence.bad) == 1


@pytest.mark.parametrize("minutes, least", [(1.0, 120.0), (0.0, 0.0)])
def test_a_part_without_time_is_skipped_and_says_so(tmp_path, minutes, least):
    evidence, found = evidence_of(tmp_path, counts, minutes=minutes, least=least)
    assert found == [("skipped", [])] and not evidence.bad
    assert "s were left, and it takes more than" in evidence.found[0].reason


def test_everything_found_is_on_disk_before_the_next_thing_is_looked_for(tmp_path):
    seen = []

    def looks(_):
        for number in range(3):
            yield {"n": number}
            (part,) = json.loads((tmp_path / "made-up.json").read_text())["parts"]
            seen.append((part["status"], [row["n"] for row in part["rows"]]))
            assert f"| {number} | n/a |" in (tmp_path / "made-up.md").read_text()

    evidence_of(tmp_path, looks)
    assert seen == [("running", [0]), ("running", [0, 1]), ("running", [0, 1, 2])]
