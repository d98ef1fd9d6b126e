"""Results folders with odd names, of the wrong kind, or that cannot be written."""

import json
import tempfile
from pathlib import Path

import pytest

from plphp_core.evaluation.results_folder import OF_A_RUN, check_folders
from plphp_core.evaluation.run_status import OK
from plphp_core.records.atomic import write_atomically
from plphp_core.records.errors import NotWritten, UserError
from plphp_core.records.revisions import Fingerprints
from tests.evaluation.factories import run, settings


@pytest.mark.parametrize("name", ["{brace}", "a {0} b", "[bold] x", "${home}"])
def test_any_name_of_a_results_folder_will_do(name, world, tmp_path, fake, display):
    chosen = settings(world, results=tmp_path / name / "mini")
    assert run(chosen, {}, fake, display) == OK
    assert len(list((tmp_path / name / "mini" / "cells").glob("*.json"))) == 1
    assert (tmp_path / name / "mini" / "logs" / "run.log").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", OF_A_RUN)
def test_a_file_in_place_of_a_folder_is_named_before_anything_is_answered(name, world, tmp_path, fake, display):
    chosen = settings(world, results=tmp_path / "mini")
    chosen.results.mkdir()
    (chosen.results / name).write_text("")
    with pytest.raises(UserError, match=f"cannot write to .*mini/{name}: it is a file, not a folder; .*results=…"):
        run(chosen, {}, fake, display)
    assert [path.name for path in chosen.results.iterdir()] == [name]


def test_a_folder_that_cannot_be_written_is_named_and_not_its_temporary_file(tmp_path, monkeypatch):
    def refuse(*args, dir, **kwargs):
        raise PermissionError(13, "Permission denied", f"{dir}/.x.tmp")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(UserError, match=f"cannot write to {tmp_path}: Permission denied; see its permissions"):
        check_folders(tmp_path)
    monkeypatch.setattr(Path, "open", lambda path, mode: refuse(dir=path.parent))
    with pytest.raises(NotWritten, match=r"table\.md: Permission denied; .* another folder with results=…") as caught:
        write_atomically(tmp_path / "table.md", "x")
    assert ".tmp" not in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "5", "null", '{"a": 5}', "{", ""])
def test_a_damaged_memory_of_hashes_only_costs_time(text, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.json").write_text("{}")
    fresh = Fingerprints(tmp_path / "fresh.json").of(tmp_path / "data", (".json",))
    memory = tmp_path / "memory.json"
    memory.write_text(text)
    assert Fingerprints(memory).of(tmp_path / "data", (".json",)) == fresh
    assert list(json.loads(memory.read_text()).values()) == list(
        json.loads((tmp_path / "fresh.json").read_text()).values()
    )


def test_a_memory_that_cannot_be_written_does_not_stop_reading(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one.json").write_text("{}")
    (tmp_path / "file").write_text("")
    fresh = Fingerprints(tmp_path / "fresh.json").of(tmp_path / "data", (".json",))
    assert Fingerprints(tmp_path / "file" / "memory.json").of(tmp_path / "data", (".json",)) == fresh
