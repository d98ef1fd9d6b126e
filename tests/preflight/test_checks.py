"""How checks are run: one that fails or raises stops no other, and those that need it are skipped."""

import sys

from plphp_core.preflight.checklist import CHECKS
from plphp_core.preflight.checks import PreflightCheck, check, failed, passed, run_checks, skipped


def yielding(*outcomes, needs=()) -> PreflightCheck:
    """A check with these results; an exception is raised where it stands."""

    def examine(run):
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome

    return PreflightCheck(f"check {id(outcomes)}", examine, tuple(needs))


def test_a_check_that_fails_or_raises_stops_no_other():
    broken, bad = yielding(RuntimeError("out of luck\nmore")), yielding(failed("no", "do this"), passed("and yes"))
    aside = yielding(skipped("not asked for"))
    dependent = yielding(passed("never"), needs=[bad])
    results = run_checks(
        [broken, bad, yielding(passed("yes")), dependent, aside, yielding(passed("never"), needs=[aside])], None
    )
    assert [one.status for one in results] == [
        *("failed", "failed", "passed", "passed", "skipped", "skipped", "skipped"),
    ]
    assert "test_checks.py" in results[0].sentence and "RuntimeError: out of luck more" in results[0].sentence
    assert results[4].sentence == f'needs "{bad.title}"' and results[4].name == dependent.title


def test_what_libraries_print_does_not_reach_the_list(capsys):
    @check("loud")
    def loud(run):
        print("to stdout")
        print("to stderr", file=sys.stderr)
        yield passed("fine")

    run_checks([loud], None)
    assert capsys.readouterr() == ("", "")


def test_every_check_needs_only_earlier_ones_and_titles_are_unique():
    assert len({one.title for one in CHECKS}) == len(CHECKS)
    for place, one in enumerate(CHECKS):
        assert set(one.needs) <= set(CHECKS[:place])
