"""No number in README or docs/results-toy.md is written by hand: `make readme` writes them; here they are compared."""

import pytest

from scripts import readme

BLOCKS = {block.name: block for block in readme.BLOCKS}


@pytest.mark.parametrize("name", ["results", "table1", "words", "table3", "example"])
def test_a_block_is_what_the_command_writes(name):
    assert readme.stands(BLOCKS[name]) == BLOCKS[name].text()


@pytest.mark.slow
def test_the_plan_is_todays():
    assert readme.stands(BLOCKS["plan"]) == BLOCKS["plan"].text()


def test_every_marked_block_has_its_function():
    marked = {name for page in readme.ROOT.glob("**/*.md") if page.parent.name in ("docs", readme.ROOT.name)
              for name in readme.MARK.findall(page.read_text(encoding="utf-8"))}  # fmt: skip
    assert marked == set(BLOCKS)


def test_the_picture_shows_the_committed_numbers():
    assert readme.drawn_points() == readme.points()
    assert (readme.IMAGES / "overview.png").stat().st_size < 200_000


def test_what_was_measured_is_held_against_what_is_committed():
    known = readme.committed()
    assert not readme.differences(known, known)
    rounded = known.assign(value=known.value + 0.3)
    assert not readme.differences(rounded, known)
    wrong = known.copy()
    wrong.loc[7, "value"] += 5
    (line,) = readme.differences(wrong, known)
    assert known.loc[7, "column"] in line and str(known.loc[7, "value"]) in line
    assert len(readme.differences(known.drop(index=3), known)) == 1  # a number that nobody measured
    assert not readme.differences(known[known.table == "table1"], known)  # `make smoke` measures one table


def test_a_document_that_says_something_else_fails_the_check(tmp_path, monkeypatch, capsys):
    (tmp_path / "docs").mkdir()
    for block in readme.BLOCKS:
        (tmp_path / block.file).write_text(
            readme.ROOT.joinpath(block.file).read_text(encoding="utf-8"), encoding="utf-8"
        )
    page = tmp_path / "README.md"
    page.write_text(page.read_text(encoding="utf-8").replace("| 35.9% |", "| 62.5% |"), encoding="utf-8")
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "BLOCKS", [BLOCKS["results"]])
    monkeypatch.setattr(readme, "measured", lambda results: readme.committed())
    assert readme.main(["--check"]) == 1
    assert "README.md: block results" in capsys.readouterr().out


def test_without_results_the_command_says_how_to_get_them(tmp_path, capsys):
    assert readme.main(["--results", str(tmp_path)]) == 1
    assert "make smoke" in capsys.readouterr().err
