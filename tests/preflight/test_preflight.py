"""The checklist itself: nothing stops it, exit codes say what it found, it reads well, and the whole thing passes."""

import io
import shutil
import sys

import pytest
from rich.console import Console

from plphp_core.preflight.case import Case
from plphp_core.preflight.check import (
    Check,
    Status,
    check,
    exit_code,
    failed,
    ok,
    refused,
    run_checks,
    skipped,
    warning,
)
from plphp_core.preflight.checklist import SECTIONS, preflight
from plphp_core.preflight.command import main
from plphp_core.records.errors import UserError
from tasks.toy.generate import build
from tests.configured import ROOT, configured
from tests.preflight import damage


def found(*findings, needs=()) -> Check:
    """A check that yields what it is told to; an exception is raised where it stands."""

    def look(case):
        for finding in findings:
            if isinstance(finding, Exception):
                raise finding
            yield finding

    return Check(f"check {id(findings)}", look, tuple(needs))


def test_a_check_that_fails_or_crashes_stops_no_other():
    broken = found(ok("first"), RuntimeError("out of luck\nmore"), ok("never reached"))
    bad = found(failed("no", "do this"))
    results = run_checks(
        [broken, bad, found(ok("yes")), found(ok("never"), needs=[bad]), found(ok("x"), needs=[])], None
    )
    assert [result.status for result in results] == ["failed", "failed", "ok", "skipped", "ok"]
    first, crash = results[0].findings
    assert first.found == "first" and "RuntimeError: out of luck" in crash.found and "look" in crash.trace
    assert crash.remedy and f'needs "{bad.title}"' == results[3].findings[0].found


def test_skipping_spreads_and_warnings_do_not():
    bad, fair = found(failed("no", "do")), found(warning("hm", "look"))
    second = found(ok("x"), needs=[bad])
    results = run_checks([bad, fair, second, found(ok("x"), needs=[second]), found(ok("x"), needs=[fair])], None)
    assert [result.status for result in results] == ["failed", "warning", "skipped", "skipped", "ok"]


@pytest.mark.parametrize(
    "findings, code",
    [([ok("")], 0), ([warning("a", "b")], 0), ([skipped("")], 0), ([ok(""), failed("a", "b"), ok("")], 1), ([], 0)],
)
def test_only_failures_count(findings, code):
    assert exit_code(run_checks([found(*findings)], None)) == code


def test_what_libraries_print_does_not_reach_the_list(capsys):
    @check("loud")
    def loud(case):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        yield ok("fine")

    (result,) = run_checks([loud], None)
    assert capsys.readouterr() == ("", "") and result.noise == "to stdout\nto stderr\n"


def test_an_error_written_for_users_becomes_finding_and_remedy():
    finding = refused(UserError("no data at x; draw them"), "else")
    assert (finding.found, finding.remedy) == ("no data at x", "draw them")
    assert refused(UserError("no data"), "else", "SD: ") == failed("SD: no data", "else")


def test_every_check_needs_only_earlier_ones_and_titles_are_unique():
    checks = [check for checks in SECTIONS.values() for check in checks]
    assert len({check.title for check in checks}) == len(checks)
    for place, one in enumerate(checks):
        assert set(one.needs) <= set(checks[:place])


@pytest.mark.parametrize("width", [80, 120])
def test_no_line_is_wider_than_the_terminal_and_brackets_survive(width):
    long = found(
        failed("a [bold]finding[/] " + "word " * 40 + "x" * 200, "a remedy with tasks=[sd,mv] " + "word " * 30)
    )
    screen = io.StringIO()
    preflight(Case(configured("profile=toy")), Console(file=screen, width=width), {"Some": (long,)})
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "[bold]finding[/]" in screen.getvalue() and "→ a remedy with tasks=[sd,mv]" in screen.getvalue()


def test_the_verdict_stands_below_tracebacks():
    screen = io.StringIO()
    preflight(Case(configured("profile=toy")), Console(file=screen, width=80), {"Some": (found(RuntimeError("x")),)})
    said = screen.getvalue()
    assert 0 < said.index("Traceback") < said.index("A run would break")


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy_data(tmp_path_factory):
    """Two samples of one data set with one image, and of one with several."""
    folder = tmp_path_factory.mktemp("data")
    for name in ("interleave_in_domain", "flickr30k"):
        build(name, 2).save_to_disk(folder / name)
    return folder


def command(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["preflight.py", "model=llava_onevision", "profile=toy", *arguments])
    return main(ROOT)


def test_the_toy_passes_and_nothing_is_left_behind(toy_data, tmp_path, monkeypatch, capfd):
    arguments = ["tasks=[sd,flickr30k]", f"profile.data_root={toy_data}", f"results={tmp_path / 'results'}"]
    assert command(monkeypatch, *arguments) == 0
    said = capfd.readouterr().out
    assert "A run would work" in said and "failed" not in said and "skipped" not in said
    for part in ("SD: ", "Flickr30k: ", "meteor 1.00", "toy_sd: ", "toy_flickr30k: ", "off is off bit for bit"):
        assert part in said, part
    assert not (tmp_path / "results").exists()


def test_a_damaged_checkpoint_and_missing_data_end_with_1_and_everything_else_is_looked_at(
    tmp_path, monkeypatch, capfd
):
    copy = tmp_path / "checkpoint"
    shutil.copytree(ROOT / "tasks/toy/checkpoints/llava_onevision", copy)
    damage.truncated_weights(copy)
    arguments = [f"model.checkpoint={copy}", "tasks=[sd]", f"profile.data_root={tmp_path}", "weights=false"]
    assert command(monkeypatch, *arguments) == 1
    said = " ".join(capfd.readouterr().out.split())
    assert "A run would break" in said and "Checkpoint files, Data" in said
    assert "python -m tasks.toy.generate" in said and 'needs "Checkpoint files"' in said and "ok Disk" in said


def test_weights_can_be_left_out(toy_data, monkeypatch, capfd):
    assert command(monkeypatch, "tasks=[sd]", f"profile.data_root={toy_data}", "weights=false") == 0
    said = capfd.readouterr().out
    assert "skipped Answers          weights=false" in said and "Java is not needed" in said


@pytest.mark.parametrize(
    "argument, message",
    [
        ("model=other", "options of model"),
        ("weights=perhaps", "weights must be true or false"),
        ("tasks=[sd,other]", "options of tasks"),
        ("dtype=int3", "unknown dtype 'int3'"),
        ("wieghts=false", "known keys of the configuration"),
    ],
)
def test_bad_usage_ends_with_2(argument, message, monkeypatch, capfd):
    assert command(monkeypatch, argument) == 2
    captured = capfd.readouterr()
    assert message in captured.err and "Traceback" not in captured.err and "ok" not in captured.out


def test_a_table_over_several_models_checks_each_of_them(toy_data, monkeypatch, capfd):
    arguments = ["table=table3", "tasks=[sd]", f"profile.data_root={toy_data}", "weights=false"]
    monkeypatch.setattr(sys, "argv", ["preflight.py", "profile=toy", *arguments])
    assert main(ROOT) == 0
    said = capfd.readouterr().out
    assert "warning" not in said
    models = [line.split()[1].rstrip(",") for line in said.splitlines() if line.startswith("Preflight: ")]
    assert models == ["qwen2_vl", "idefics2", "mantis"] and said.count("A run would work") == 3


def test_status_words():
    assert [str(status) for status in Status] == ["ok", "skipped", "warning", "failed"]


def test_a_models_options_are_those_of_the_run():
    subject = Case(configured("profile=toy", "model=idefics2", "model.options.image_splitting=true"))
    assert subject.family.image_splitting is True
    assert Case(configured("profile=toy", "model=idefics2")).family.image_splitting is False
