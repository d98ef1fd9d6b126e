"""Every report of the synthetic world is what `expected/` says, byte for byte (README.md)."""

import difflib

import pytest

from tests.goldens import world
from tests.goldens.runs import EXPECTED, RUNS, made

REWRITE = "python -m tests.goldens.rewrite {name} writes them again; see tests/goldens/README.md for when that is right"


@pytest.fixture(scope="session")
def there(tmp_path_factory):
    return world.make(tmp_path_factory.mktemp("goldens"))


@pytest.mark.parametrize("name", RUNS)
def test_a_report_is_as_expected(name, there):
    found = made(name, there)
    expected = {path.name: path.read_text(encoding="utf-8") for path in (EXPECTED / name).glob("*")}
    changed = [
        line
        for file in sorted(found.keys() | expected.keys())
        for line in difflib.unified_diff(
            expected.get(file, "").splitlines(),
            found.get(file, "").splitlines(),
            f"expected/{name}/{file}" if file in expected else "nothing",
            f"now/{file}" if file in found else "nothing",
            n=0,
            lineterm="",
        )
    ]
    if changed or found != expected:
        pytest.fail("\n".join([*changed[:200], REWRITE.format(name=name)]), pytrace=False)


def test_every_expectation_has_its_run():
    assert {f"{path.parent.name}/{path.name}" for path in EXPECTED.glob("*/*")} == set(RUNS)
