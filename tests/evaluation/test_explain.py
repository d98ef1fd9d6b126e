"""Whatever makes answers unusable has another key, and is named."""

import json
import logging
import os
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plphp_core.config.run_settings import Benchmark, MethodSettings, ModelSettings, Settings
from plphp_core.evaluation.cache_miss import differences, explain, facts, reasons, result_reasons
from plphp_core.evaluation.cell_spec import SCORES, Cell, content_hash
from plphp_core.evaluation.lmms_tasks import TaskFacts
from plphp_core.records import cache_keys as keys
from plphp_core.records.cache_keys import cell_identity, digest, library_versions
from plphp_core.records.journal import Journal, JournalError

MODEL = ModelSettings(
    "tiny", "qwen2_vl", "/checkpoints/tiny", None, "float32", "sdpa", "cuda:1",
    options=(("max_pixels", 1003520), ("resize", True)), engine="fast",
)  # fmt: skip
METHOD = MethodSettings("plphp", {"r": 0.4, "delta_r": 0.3, "gqa": "mean"})
WEIGHTS, OTHER_WEIGHTS, DATA = "sha256:" + "ab" * 32, "sha256:" + "ef" * 32, "sha256:" + "cd" * 32
SHARED = {
    "model": MODEL, "weights": WEIGHTS, "template": "<|user|>größer\n", "method": METHOD, "task": "toy_sd",
    "task_version": 2, "data": DATA, "generation": {"max_new_tokens": 16, "do_sample": False, "until": ["\n"]},
    "task_code": {"tasks/functions.py": "1" * 12},
}  # fmt: skip
CODE = {"answering code": "the answering code", "method code": "the method's code", "task code": "the task's code"}
LIBRARIES = ("torch", "torchvision", "transformers", "tokenizers", "pillow")
# Every place of an identity, and how a reason calls it.
PLACES = {
    ("answering code",): "answering code",
    ("method code",): "method code",
    ("task code",): "task code",
    ("weights", 0): "checkpoint",
    ("weights", 1): "weights revision",
    ("family", 0): "model family",
    ("family", 1): "prompt template",
    ("family", 2): "prompt style",
    ("family", 3, 0, 1): "option max_pixels",
    ("family", 3, 1, 1): "option resize",
    ("numerics", 0): "dtype",
    ("numerics", 1): "attention",
    ("numerics", 2): "device",
    ("numerics", 3): "engine",
    ("method", 0): "method",
    ("method", 1, "r"): "method r",
    ("method", 1, "delta_r"): "method delta_r",
    ("method", 1, "gqa"): "method gqa",
    ("task", 0): "task",
    ("task", 1): "task version",
    ("task", 2, "max_new_tokens"): "generation max_new_tokens",
    ("task", 2, "do_sample"): "generation do_sample",
    ("task", 2, "until"): "generation until",
    ("data",): "data revision",
    **{("versions", name): name for name in LIBRARIES},
}
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.text())


def identity(**changes) -> dict:
    return cell_identity(*(SHARED | changes).values())


def model(**changes) -> dict:
    return {"model": replace(MODEL, **changes)}


def of_model(**changes) -> dict:
    return identity(**model(**changes))


def leaves(value, path=()):
    """Paths to all that is no mapping and no list of several things; of code, to the whole of it."""
    if path[-1:] and path[-1] in CODE:
        yield path
        return
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in entries:
        yield from leaves(part, (*path, key))
    if not isinstance(value, (dict, list)):
        yield path


def put(identity: dict, path: tuple, value) -> None:
    for key in path[:-1]:
        identity = identity[key]
    identity[path[-1]] = value


def answers(cell: str, count: int) -> list[dict]:
    return [{"key": f"{cell}-{n}", "cell": cell, "doc_id": n, "text": "red"} for n in range(count)]


def journal_of(path: Path, *groups: tuple[dict | None, int]) -> Journal:
    """A journal with `count` answers of each identity; None is a cell of an older version."""
    journal = Journal(path)
    for number, (recorded, count) in enumerate(groups):
        cell = f"old{number}" if recorded is None else digest(recorded)
        if recorded is not None:
            journal.identify(cell, recorded)
        journal.append(answers(cell, count))
    return journal


def cell_of(weights=WEIGHTS, generation=SHARED["generation"], **changes) -> Cell:
    """A cell under settings that `changes` replace."""
    values = dict(
        root=Path("/"), results=Path("/results"), profile="toy", protocol="lmms_eval", offline=True, data_root=None,
        model=MODEL, methods=(METHOD,), benchmarks=(), batch_size=8, extra_metrics={"slots": "toy.slots"},
    )  # fmt: skip
    code = {"code": SHARED["task_code"], "scoring": {"tasks/scores.py": "2" * 12}}
    task = TaskFacts(Benchmark("SD", "toy_sd"), "toy_sd", 2, generation, DATA, **code)
    return Cell.of(Settings(**(values | changes)), METHOD, task, weights, SHARED["template"])


def result_of(cell, **changes) -> dict:
    """What `write_result` says of the cell."""
    s = cell.settings
    found = {
        "protocol": s.protocol, "revision": cell.weights, "dtype": "float32", "attn_implementation": "sdpa",
        "prompts": "lmms_eval", "engine": "fast", "versions": library_versions() | {"x": "1"},
        "code": {part: cell.identity[part] for part in CODE} | {"scoring code": cell.facts.scoring},
        "method": "plphp", "task": "toy_sd", "benchmark": "SD", "task_version": 2,
        "data_revision": DATA, "limit": s.limit, "limit_seed": s.limit_seed, "errors": 0, "key": cell.result_key,
    } | changes  # fmt: skip
    return found | {"content": content_hash(found)}


# Keys


@given(st.floats(0.3, 0.7), st.text(), st.text(), st.dictionaries(st.text(), VALUES))
def test_an_identity_read_back_has_the_same_key(tmp_path_factory, r, template, revision, generation):
    method = MethodSettings("plphp", METHOD.params | {"r": r})
    known = identity(method=method, template=template, data=revision, generation=generation)
    path = tmp_path_factory.mktemp("journal") / "cell.jsonl"
    with Journal(path) as journal:
        journal.identify(digest(known), known)
    with Journal(path) as journal:
        assert journal.identities == {digest(known): known}
        assert [digest(read) for read in journal.identities.values()] == list(journal.identities)


def test_every_place_of_an_identity_has_a_name():
    wanted = {path[:3] if path[:2] == ("task", 2) else path for path in leaves(identity()) if path[0] != "family"}
    assert wanted == {path for path in PLACES if path[0] != "family"}
    assert set(facts(identity())) == set(PLACES.values())


@given(st.dictionaries(st.sampled_from(list(PLACES)), VALUES, min_size=1))
def test_any_change_has_another_key_and_is_named(changes):
    """Exactly what changed is named, however many things did, whatever they are now; 1, 1.0 and true all differ."""
    before, now = identity(), deepcopy(identity())
    for path, value in changes.items():
        put(now, path, value)
    changed = {PLACES[path] for path, value in changes.items() if json.dumps(value) != json.dumps(_at(before, path))}
    said = {CODE.get(name, name) for name in changed}
    assert (digest(now) != digest(before)) == bool(changed)
    found = differences(facts(before), facts(now))
    assert len(found) == len(changed)
    verbs = (" was ", " differs", " has ")
    assert all(any(text.startswith(tuple(name + verb for verb in verbs)) for text in found) for name in said)
    assert all(len(text) < 120 and text.isprintable() for text in found)


def _at(value, path):
    for key in path:
        value = value[key]
    return value


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (model(dtype="bfloat16"), "dtype was bfloat16, is float32"),
        (model(engine="generate"), "engine was generate, is fast"),
        (model(device="cpu"), "device was cpu, is cuda"),
        (model(attn_implementation="eager"), "attention was eager, is sdpa"),
        (model(prompts="plain"), "prompt style was plain, is lmms_eval"),
        (model(options=(("max_pixels", 5), ("resize", True))), "option max_pixels was 5, is 1003520"),
        (model(options=(("resize", True),)), "option max_pixels was not set, is 1003520"),
        (dict(weights=OTHER_WEIGHTS), "weights revision was sha256:efefefefefef, is sha256:abababababab"),
        (dict(data="0" * 40), "data revision was 000000000000, is sha256:cdcdcdcdcdcd"),
        (dict(template="<|user|>kleiner\n"), "prompt template differs"),
        (dict(method=MethodSettings("plphp", METHOD.params | {"r": 0.5})), "method r was 0.5, is 0.4"),
        (dict(task_version=1), "task version was 1, is 2"),
        (dict(generation=SHARED["generation"] | {"max_new_tokens": 512}),
         "generation max_new_tokens was 512, is 16"),
        (dict(generation=SHARED["generation"] | {"top_p": 0.9}), "generation top_p was 0.9, is not set"),
    ],
)  # fmt: skip
def test_reasons_are_short_and_exact(tmp_path, other, said):
    with journal_of(tmp_path / "cell.jsonl", (identity(**other), 48)) as journal:
        assert reasons(journal, digest(identity()), identity()) == [f"48 answers not reused: {said}"]


def test_values_that_look_alike_only_differ():
    assert differences({"x": 1, "y": "none"}, {"x": "1", "y": None}) == ["x differs", "y differs"]
    assert differences({"x": "k" * 41}, {"x": "b"}) == ["x differs"]


def test_code_and_library_versions_are_named(tmp_path, monkeypatch):
    before, versions = identity(), library_versions()
    changed = before["answering code"] | {"plphp_core/pruning/prefill.py": "other"}
    monkeypatch.setattr(keys, "answering_code", lambda model: changed)
    monkeypatch.setattr(keys, "library_versions", lambda: versions | {"torch": "99.0"})
    with journal_of(tmp_path / "cell.jsonl", (before, 1)) as journal:
        (said,) = reasons(journal, digest(identity()), identity())
    assert said == (
        "1 answer not reused: the answering code (plphp_core/pruning/prefill.py) has changed; "
        f"torch was {versions['torch']}, is 99.0"
    )


def test_the_file_whose_code_changed_is_named(tmp_path, monkeypatch):
    before = identity()
    monkeypatch.setattr(keys, "method_code", lambda cls: {"baselines/mine.py": "new"})
    with journal_of(tmp_path / "cell.jsonl", (before, 2), (identity(task_code={"tasks/mine.py": "1"}), 1)) as journal:
        said = reasons(journal, digest(identity()), identity())
    assert said == [
        "2 answers not reused: the method's code (baselines/mine.py, plphp_core/pruning/plphp.py) has changed",
        "1 answer not reused: the task's code (tasks/functions.py, tasks/mine.py) has changed",
    ]


def test_answers_from_before_code_was_recorded_are_not_said_to_have_changed(tmp_path):
    older = {name: value for name, value in identity().items() if name not in CODE}
    with journal_of(tmp_path / "cell.jsonl", (older, 1)) as journal:
        (said,) = reasons(journal, digest(identity()), identity())
    assert said.split("; ")[1:] == ["the method's code was not recorded", "the task's code was not recorded"]


def test_the_seed_counts_where_answers_are_sampled():
    """Greedy answers are the same under every seed."""
    sampled = {"do_sample": True, "temperature": 0.7}
    assert cell_of(seed=0).key == cell_of(seed=1).key
    keys = {seed: cell_of(seed=seed, generation=sampled) for seed in (0, 1)}
    assert keys[0].key != keys[1].key and "generation seed was 0, is 1" in differences(
        facts(keys[0].identity), facts(keys[1].identity)
    )


def test_each_group_of_answers_has_its_reason_and_the_cells_own_have_none(tmp_path):
    own, slow, half = identity(), of_model(engine="generate"), of_model(dtype="bfloat16")
    with journal_of(
        tmp_path / "cell.jsonl", (half, 3), (own, 9), (None, 5), (slow, 8), (of_model(device="cpu"), 0)
    ) as j:
        assert reasons(j, digest(own), own) == [
            "8 answers not reused: engine was generate, is fast",
            "5 answers not reused: of an older version that did not record what they rest on",
            "3 answers not reused: dtype was bfloat16, is float32",
        ]
        j.append([{"key": "x", "cell": digest(half), "doc_id": 9, "error": {"kind": "OSError", "message": "broken"}}])
        assert "3 answers" in reasons(j, digest(own), own)[-1]  # errors are nothing to reuse


def test_a_prompt_that_changed_under_the_same_cell_is_noticed(tmp_path):
    own, other = identity(), of_model(engine="generate")
    with journal_of(tmp_path / "cell.jsonl", (own, 4), (other, 3)) as journal:
        wanted = {number: f"{digest(own)}-{number}" for number in range(3)}  # a limit: the fourth is not asked for
        elsewhere = "3 answers not reused: engine was generate, is fast"
        assert reasons(journal, digest(own), own, wanted) == [elsewhere]
        assert reasons(journal, digest(own), own, wanted | {0: "new", 2: "new too"}) == [
            elsewhere,
            "2 answers not reused: prompt text of the samples differs",
        ]


# The journal's records of identities


def test_an_identity_is_written_once_and_no_answer(tmp_path):
    path, known = tmp_path / "cell.jsonl", identity()
    for _ in range(2):
        with Journal(path) as journal:
            journal.identify(digest(known), known)
            journal.identify(digest(known), known)
            journal.append(answers(digest(known), 2))
            assert journal.counts == {digest(known): 2} and len(journal.answers) == 2 and not journal.errors
    assert [set(json.loads(line)) for line in path.read_text().splitlines()] == [
        {"schema", "cell", "identity"}, *[{"schema", "key", "cell", "doc_id", "text"}] * 2]  # fmt: skip


def test_an_identity_torn_at_any_byte_costs_no_answer_and_is_written_again(tmp_path, caplog):
    path, other = tmp_path / "cell.jsonl", of_model(dtype="bfloat16")
    with journal_of(path, (other, 2)) as journal:
        start = path.stat().st_size
        journal.identify(digest(identity()), identity())
    whole = path.read_bytes()
    for cut in range(start, len(whole)):
        path.write_bytes(whole[:cut])
        with caplog.at_level(logging.WARNING, "plphp.journal"), Journal(path) as journal:
            assert list(journal.identities) == [digest(other)] and journal.counts == {digest(other): 2}
            journal.identify(digest(identity()), identity())
        assert path.read_bytes() == whole


def test_an_identity_is_on_disk_when_identify_returns(tmp_path, monkeypatch):
    path, synced = tmp_path / "cell.jsonl", []
    with Journal(path) as journal:
        real = os.fsync
        monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size) or real(file))
        journal.identify(digest(identity()), identity())
        assert synced == [path.stat().st_size] and synced[0] > 0
        monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(JournalError, match="disk is full"):
            journal.identify("other", identity())
        assert "other" not in journal.identities and path.stat().st_size == synced[0]


@pytest.mark.parametrize(
    "noise",
    ['{"cell":"c"}', '{"cell":"c","identity":[1]}', '{"cell":1,"identity":{}}', '{"key":5,"cell":"c","identity":{}}'],
)
def test_lines_that_only_look_like_identities_are_not(tmp_path, noise):
    path = tmp_path / "cell.jsonl"
    path.write_text(noise + "\n" + json.dumps(answers("c", 1)[0]) + "\n")
    with Journal(path) as journal:
        assert not journal.identities and journal.counts == {"c": 1}


# Result files


def test_a_finished_result_needs_no_reason_and_a_missing_one_has_none(tmp_path):
    cell = cell_of()
    with journal_of(tmp_path / "cell.jsonl", (cell.identity, 5)) as journal:
        assert explain(cell, journal, {}) == explain(cell, journal, result_of(cell)) == []
        assert explain(cell, journal, result_of(cell, errors=3)) == [
            "result not reused: 3 samples without an answer are tried again"
        ]
        damaged = {name: value for name, value in result_of(cell).items() if name != "dtype"}
        assert explain(cell, journal, damaged) == [
            "result not reused: its file was damaged or changed after it was written; written anew"
        ]


# Cells are made in the test, not at collection: their keys depend on what is installed.
@pytest.mark.parametrize(
    ("before", "changes", "said"),
    [
        ({"limit": 8}, {}, "limit was 8, is none"),
        ({"protocol": "llava"}, {}, "protocol was llava, is lmms_eval"),
        ({"weights": OTHER_WEIGHTS}, {}, "weights revision was sha256:efefefefefef, is sha256:abababababab"),
        ({}, {"versions": {"torch": "2.1.0"}}, f"torch was 2.1.0, is {library_versions()['torch']}"),
        ({}, {"code": {"scoring code": {"tasks/scores.py": "0"}}}, "the scoring code (tasks/scores.py) has changed"),
        ({}, {"task_version": 1}, "task version was 1, is 2"),
        ({}, {"scores": 0}, f"scoring revision was 0, is {SCORES}"),
        ({}, {"extra_metrics": {}}, "list of extra metrics was {}, is"),
        ({}, {"benchmark": "Spot"}, "benchmark was Spot, is SD"),
        ({"extra_metrics": {}}, {}, "scoring code or metrics differ"),
    ],
)  # fmt: skip
def test_what_made_a_result_stale(tmp_path, before, changes, said):
    cell, before = cell_of(), cell_of(**before)
    stale = result_of(before, **changes)
    stale["key"] = before.result_key if before.result_key != cell.result_key else "0" * 64
    with journal_of(tmp_path / "cell.jsonl", (cell.identity, 5)) as journal:
        (found,) = result_reasons(cell, journal, stale)
    assert found.startswith(f"result not reused: {said}")


def test_seeds_matter_only_to_subsets(tmp_path):
    cell, before = cell_of(limit=8), cell_of(limit=8, limit_seed=3)
    with Journal(tmp_path / "cell.jsonl") as journal:
        assert result_reasons(cell, journal, result_of(before)) == ["result not reused: limit seed was 3, is 0"]
        assert result_reasons(cell_of(), journal, result_of(before)) == ["result not reused: limit was 8, is none"]
        full = result_of(cell_of(limit_seed=3), key="0" * 64)
        assert "seed" not in "".join(result_reasons(cell_of(), journal, full))


def test_a_cause_that_result_files_do_not_hold_is_not_guessed(tmp_path):
    """Another prompt template: the journal knows, if it is still there."""
    cell, before = cell_of(), identity(template="<|user|>kleiner\n")
    stale = result_of(cell, key="0" * 64)
    with Journal(tmp_path / "empty.jsonl") as journal:
        (said,) = explain(cell, journal, stale)
        assert said == (
            "result not reused: something differs that result files do not hold, such as prompt template or "
            "generation arguments"
        )
    with journal_of(tmp_path / "cell.jsonl", (before, 5)) as journal:
        assert explain(cell, journal, stale)[0] == "5 answers not reused: prompt template differs"


JSON = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))


@given(st.dictionaries(st.sampled_from([path[0] for path in PLACES]), JSON))
def test_a_damaged_record_still_gives_a_reason(tmp_path_factory, recorded):
    """An identity of any shape, and a result file whose fields hold anything: a sentence, no crash."""
    cell = cell_of()
    path = tmp_path_factory.mktemp("journal") / "cell.jsonl"
    with journal_of(path, (recorded, 2)) as journal:
        stale = result_of(cell, key=None) | {name: next(iter(recorded.values()), 0) for name in ("versions", "limit")}
        assert len(explain(cell, journal, stale)) == 2
