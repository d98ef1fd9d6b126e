"""Whatever makes answers unusable has another key, and is named."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plphp_core.config.run_settings import Benchmark, ModelSettings, Settings
from plphp_core.config.table_rows import MethodSettings
from plphp_core.evaluation.cache_miss import UNRECORDED, cache_misses, differences
from plphp_core.evaluation.cell_spec import SCORES, CellSpec
from plphp_core.evaluation.lmms_tasks import TaskFacts
from plphp_core.records import cache_keys
from plphp_core.records.cache_keys import CODE, cell_identity, installed, library_versions
from plphp_core.records.cell_result import CellResult
from plphp_core.records.journal import Journal
from plphp_core.records.record import digest
from tests.journal_factories import answered_line
from tests.reporting import factories

MODEL = ModelSettings(
    "tiny", "qwen2_vl", "/checkpoints/tiny", None, "float32", "sdpa", "cuda:1",
    options=(("max_pixels", 1003520), ("resize", True)), engine="fast",
)  # fmt: skip
METHOD = MethodSettings("plphp", {"r": 0.4, "delta_r": 0.3, "gqa": "mean"})
WEIGHTS, OTHER_WEIGHTS, DATA = "sha256:" + "ab" * 32, "sha256:" + "ef" * 32, "sha256:" + "cd" * 32
GENERATION = {"max_new_tokens": 16, "do_sample": False, "until": ["\n"]}
SHARED = {
    "model": MODEL, "weights": WEIGHTS, "template": "<|user|>größer\n", "method": METHOD, "task": "toy_sd",
    "task_version": 2, "data": DATA, "generation": GENERATION, "task_code": {"tasks/functions.py": "1" * 12},
}  # fmt: skip
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.text())


def identity(**changes) -> dict:
    return cell_identity(*(SHARED | changes).values())


def model(**changes) -> dict:
    return {"model": replace(MODEL, **changes)}


PLACES = [(part, name) for part, named in identity().items() if part not in CODE for name in named]


def journal_of(path: Path, *groups: tuple[dict | None, int]) -> Journal:
    """A journal with `count` answers of each identity; of None nobody wrote down what it is."""
    journal = Journal(path)
    for recorded, count in groups:
        cell = "lost" if recorded is None else digest(recorded)
        if recorded is not None:
            journal.identify(cell, recorded)
        journal.append([answered_line(n, cell=cell, key=f"{cell}-{n}") for n in range(count)])
    return journal


def cell_of(weights=WEIGHTS, generation=GENERATION, identity=None, **changes) -> CellSpec:
    """A cell under settings that `changes` replace."""
    values = dict(
        root=Path("/"), results=Path("/results"), profile="toy", protocol="lmms_eval", offline=True, data_root=None,
        model=MODEL, methods=(METHOD,), benchmarks=(), batch_size=8, extra_metrics={"slots": "toy.slots"},
    )  # fmt: skip
    code = {"code": SHARED["task_code"], "scoring": {"tasks/scores.py": "2" * 12}}
    task = TaskFacts(Benchmark("SD", "toy_sd"), "toy_sd", 2, generation, DATA, **code)
    return CellSpec.of(Settings(**(values | changes)), METHOD, task, weights, SHARED["template"])


def result_of(cell: CellSpec, **changes) -> CellResult:
    """What `write_result` says of the cell."""
    s = cell.settings
    said = {
        "protocol": s.protocol, "limit": s.limit, "limit_seed": s.limit_seed, "extra_metrics": s.extra_metrics,
        "benchmark": "SD", "scores": SCORES, "code": {"scoring_code": cell.facts.scoring},
        "versions": {"lmms-eval": installed("lmms-eval")}, "answers_key": cell.key,
    }  # fmt: skip
    return CellResult.checked(factories.cell(samples=4) | said | changes).sealed()


def misses(journal: Journal, result: CellResult | None = None, keys=None, cell: CellSpec | None = None) -> list[str]:
    return cache_misses(cell or cell_of(), journal, result, keys)


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


@given(st.dictionaries(st.sampled_from(PLACES), VALUES, min_size=1))
def test_any_change_has_another_key_and_is_named(changes):
    """Exactly what changed is named, however many things did, whatever they are now; 1, 1.0 and true all differ."""
    before, now = identity(), deepcopy(identity())
    for (part, name), value in changes.items():
        now[part][name] = value
    changed = {at for at, value in changes.items() if json.dumps(value) != json.dumps(before[at[0]][at[1]])}
    assert (digest(now) != digest(before)) == bool(changed)
    found = differences(before, now)
    assert len(found) == len(changed)
    assert all(any(text.startswith((f"{part} {name} was ", f"{part} {name} differs")) for text in found)
               for part, name in changed)  # fmt: skip
    assert all(len(text) < 130 and text.isprintable() for text in found)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (model(dtype="bfloat16"), "numerics dtype was bfloat16, is float32"),
        (model(engine="generate"), "numerics engine was generate, is fast"),
        (model(device="cpu"), "numerics device was cpu, is cuda"),
        (model(attn_implementation="eager"), "numerics attention was eager, is sdpa"),
        (model(prompts="plain"), "family prompts was plain, is lmms_eval"),
        (model(options=(("max_pixels", 5), ("resize", True))), "family max_pixels was 5, is 1003520"),
        (model(options=(("resize", True),)), "family max_pixels was null, is 1003520"),
        (dict(weights=OTHER_WEIGHTS), "weights revision was sha256:efefefefefef, is sha256:abababababab"),
        (dict(data="0" * 40), "data revision was 000000000000, is sha256:cdcdcdcdcdcd"),
        (dict(template="<|user|>" + "kleiner\n" * 9), "family template differs"),
        (dict(method=MethodSettings("plphp", METHOD.params | {"r": 0.5})), "method r was 0.5, is 0.4"),
        (dict(task_version=1), "task version was 1, is 2"),
        (dict(task_code={"tasks/mine.py": "1"}), "task code (tasks/functions.py, tasks/mine.py) has changed"),
    ],
)
def test_reasons_are_short_and_exact(tmp_path, other, said):
    with journal_of(tmp_path / "cell.jsonl", (identity(**other), 48)) as journal:
        assert misses(journal) == [f"48 answers not reused: {said}"]


def test_code_and_library_versions_are_named(tmp_path, monkeypatch):
    before, versions = identity(), library_versions()
    changed = before["answering_code"] | {"plphp_core/pruning/prefill.py": "other"}
    monkeypatch.setattr(cache_keys, "answering_code", lambda model: changed)
    monkeypatch.setattr(cache_keys, "library_versions", lambda: versions | {"torch": "99.0"})
    with journal_of(tmp_path / "cell.jsonl", (before, 1)) as journal:
        (said,) = misses(journal)
    assert said == (
        f"1 answer not reused: libraries torch was {versions['torch']}, is 99.0; "
        "answering code (plphp_core/pruning/prefill.py) has changed"
    )


def test_the_seed_counts_where_answers_are_sampled():
    """Greedy answers are the same under every seed."""
    sampled = {"do_sample": True, "temperature": 0.7}
    assert cell_of(seed=0).key == cell_of(seed=1).key
    zero, one = (cell_of(seed=seed, generation=sampled) for seed in (0, 1))
    assert zero.key != one.key and "task generation differs" in differences(zero.identity, one.identity)[0]


def test_each_group_of_answers_has_its_reason_and_the_cells_own_have_none(tmp_path):
    own, slow, half = identity(), identity(**model(engine="generate")), identity(**model(dtype="bfloat16"))
    with journal_of(tmp_path / "cell.jsonl", (half, 3), (own, 9), (None, 5), (slow, 8)) as journal:
        assert misses(journal) == [
            "8 answers not reused: numerics engine was generate, is fast",
            f"5 answers not reused: {UNRECORDED}",
            "3 answers not reused: numerics dtype was bfloat16, is float32",
        ]


def test_a_prompt_that_changed_under_the_same_cell_is_noticed(tmp_path):
    own = identity()
    with journal_of(tmp_path / "cell.jsonl", (own, 4)) as journal:
        wanted = {number: f"{digest(own)}-{number}" for number in range(3)}  # a limit: the fourth is not asked for
        assert misses(journal, keys=wanted) == []
        changed = wanted | {0: "new", 2: "new too"}
        assert misses(journal, keys=changed) == ["2 answers not reused: prompt text of the samples differs"]


def test_a_finished_result_needs_no_reason_and_a_missing_one_has_none(tmp_path):
    cell = cell_of()
    with journal_of(tmp_path / "cell.jsonl", (cell.identity, 5)) as journal:
        assert misses(journal) == misses(journal, result_of(cell)) == []
        (said,) = misses(journal, result_of(cell, errors=3))
        assert said == "result not reused: 3 samples without an answer are tried again"
        (said,) = misses(journal, result_of(cell).model_copy(update={"dtype": "other"}))
        assert "damaged or changed after it was written" in said


@pytest.mark.parametrize(
    ("before", "changes", "said"),
    [
        ({"limit": 8}, {}, "limit was 8, is null"),
        ({"protocol": "llava"}, {}, "protocol was llava, is lmms_eval"),
        ({"weights": OTHER_WEIGHTS}, {}, UNRECORDED),
        ({}, {"versions": {"lmms-eval": "0.1"}}, "lmms-eval was 0.1, is"),
        ({}, {"code": {"scoring_code": {"tasks/scores.py": "0"}}}, "scoring code (tasks/scores.py) has changed"),
        ({}, {"scores": 0}, f"scores was 0, is {SCORES}"),
        ({"extra_metrics": {}}, {}, "extra_metrics slots was null, is toy.slots"),
        ({}, {"benchmark": "Spot"}, "benchmark was Spot, is SD"),
    ],
)
def test_what_made_a_result_stale(tmp_path, before, changes, said):
    cell = cell_of()
    with journal_of(tmp_path / "cell.jsonl", (cell.identity, 5)) as journal:
        (found,) = misses(journal, result_of(cell_of(**before), **changes))
    assert found.startswith(f"result not reused: {said}")


def test_seeds_matter_only_to_subsets(tmp_path):
    with Journal(tmp_path / "cell.jsonl") as journal:
        (said,) = misses(journal, result_of(cell_of(limit=8, limit_seed=3)), cell=cell_of(limit=8))
        assert said == "result not reused: limit_seed was 3, is 0"
        assert misses(journal, result_of(cell_of(limit_seed=3))) == []
