"""The report over the toy benchmarks as lmms-eval opens them: questions, references, images, and its size."""

import dataclasses
from types import SimpleNamespace

import pytest

from plphp_core.config.run_settings import Benchmark
from plphp_core.records.revisions import Fingerprints
from plphp_core.reporting import dataset_access, page
from plphp_core.reporting.dataset_access import DatasetAccess, DatasetUnavailable
from plphp_core.reporting.page.pieces import data_uri
from tasks.toy.generate import generate
from tests.reporting import factories
from tests.reporting.page_factories import Elements, World

LAYERS, SAMPLES = 8, 12


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The toy data drawn anew, in place of the repository's, which may be missing; and the tasks over them."""
    folder = tmp_path_factory.mktemp("toy")
    generate(folder, samples=SAMPLES)
    composed = dataset_access.settings_from_config
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            dataset_access,
            "settings_from_config",
            lambda config: dataclasses.replace(composed(config), data_root=folder),
        )
        yield DatasetAccess("toy", folder / "fingerprints.json").suite


def test_a_profile_without_configuration_gives_a_reason(tmp_path):
    with pytest.raises(DatasetUnavailable, match=r"the tasks cannot be read: .*nowhere"):
        DatasetAccess("nowhere", tmp_path / "memory.json").open(
            SimpleNamespace(task="t", data_revision="d", benchmark="SD")
        )


def test_the_toy_run_shows_what_was_asked_and_stays_small(toy, tmp_path):
    records, opened = factories.suite(factories.ROWS[:3], samples=SAMPLES), {}
    for record in records:
        facts = toy.facts(Benchmark(record["benchmark"], record["task"]))
        opened[record["task"]] = toy.open(facts)
        record["data_revision"] = facts.data

    def ask(task, doc_id):
        request = opened[task].requests[doc_id]
        return request.context, request.generation

    world = World(tmp_path, benchmarks=(), ask=ask)
    for record in records:
        world.write(record, LAYERS)
    asked = world.asked()
    (path,) = page.write(world.reports(asked), asked)
    assert path.stat().st_size < 2_000_000
    found = Elements(path.read_text(encoding="utf-8"))
    listed = found.piece("meta")["sets"]
    assert [one["notes"] for one in listed] == [[]] * 7
    assert [one["benchmark"] for one in listed] == list(factories.SCORES)
    for one in listed:
        task = opened[f"toy_{one['benchmark'].lower()}"]
        for doc_id in (0, SAMPLES - 1):
            question, references, places = found.piece(f"piece-task-{one['task']}-0")[doc_id]
            document = task.task.eval_docs_no_media[doc_id]
            target = task.task.doc_to_target(document)
            assert question == task.requests[doc_id].context
            assert references == (target if isinstance(target, list) else [target])
            shown = [found.piece(f"piece-images-{piece}")[at] for piece, at in places]
            assert shown == [data_uri(image) for image in task.requests[doc_id].visuals()]
            assert shown


def test_data_of_another_revision_are_refused(toy, tmp_path):
    world = World(tmp_path, samples=2)  # revision "d0"
    opener = DatasetAccess("toy", tmp_path / "memory.json")
    opener.suite = toy
    with pytest.raises(DatasetUnavailable, match=r"are revision sha256:.*the answers belong to d0"):
        opener.open(world.asked().cells[0])


def test_data_that_are_gone_are_a_reason_not_a_crash(toy, tmp_path):
    settings = dataclasses.replace(toy.settings, data_root=tmp_path / "nothing")
    opener = DatasetAccess("toy", tmp_path / "memory.json")
    opener.suite = dataset_access.Suite(settings, Fingerprints(tmp_path / "memory.json"))
    world = World(tmp_path, samples=2)
    with pytest.raises(DatasetUnavailable, match=r"the data cannot be opened: .*no data at"):
        opener.open(world.asked().cells[0])
    asked = world.asked()
    (path,) = page.write(world.reports(asked), asked, documents=opener)
    notes = Elements(path.read_text(encoding="utf-8")).piece("meta")["sets"][0]["notes"]
    assert len(notes) == 1 and "results/nothing" in notes[0]
