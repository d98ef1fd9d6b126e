"""How checks are run: one that fails or raises stops no other, and those that need it are skipped."""

import sys

from plphp_core.preflight.checks import CheckFailed, PreflightCheck, check, run_checks
from plphp_core.preflight.preflight_app import CHECKS


def yielding(*findings, needs=()) -> PreflightCheck:
    """A check that finds this; exceptions other than CheckFailed are raised where they stand."""

    def examine(run):
        for found in findings:
            if isinstance(found, Exception) and not isinstance(found, CheckFailed):
                raise found
            yield found

    return PreflightCheck(f"check {id(findings)}", examine, tuple(needs))


def test_a_check_that_fails_or_raises_stops_no_other():
    broken, bad = yielding(RuntimeError("out of luck\nmore")), yielding(CheckFailed("no; do this"), "and yes")
    dependent = yielding("never", needs=[bad])
    results = list(run_checks([broken, bad, yielding("yes"), dependent, yielding("never", needs=[dependent])], None))
    assert [one.status for one in results] == ["failed", "failed", "passed", "passed", "skipped", "skipped"]
    assert "test_checks.py" in results[0].sentence and "RuntimeError: out of luck more" in results[0].sentence
    assert results[4].sentence == f'needs "{bad.title}"' and results[4].name == dependent.title


def test_what_libraries_print_does_not_reach_the_list(capsys):
    @check("loud")
    def loud(run):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        yield "fine"

    list(run_checks([loud], None))
    assert capsys.readouterr() == ("", "")


def test_every_check_needs_only_earlier_ones_and_titles_are_unique():
    assert len({one.title for one in CHECKS}) == len(CHECKS)
    for place, one in enumerate(CHECKS):
        assert set(one.needs) <= set(CHECKS[:place])
