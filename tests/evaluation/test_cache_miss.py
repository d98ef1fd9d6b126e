"""Whatever makes answers unusable has another key, and is named."""

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plphp_core.config.run_settings import Benchmark, MethodSettings, ModelSettings, Settings
from plphp_core.evaluation import cell_spec
from plphp_core.evaluation.cell_spec import SCORES, CellSpec
from plphp_core.evaluation.lmms_tasks import TaskFacts
from plphp_core.evaluation.plan import UNRECORDED, cache_miss, difference
from plphp_core.records.cache_keys import CODE, installed, library_versions
from plphp_core.records.cell_result import CellResult
from plphp_core.records.journal import Journal
from plphp_core.records.record import digest
from tests.journal_factories import answered_line
from tests.reporting import factories

MODEL = ModelSettings(
    "tiny", "idefics2", "/checkpoints/tiny", None, "float32", "sdpa", "cuda:1",
    options=(("image_splitting", True),), engine="fast",
)  # fmt: skip
METHOD = MethodSettings("plphp", {"r": 0.4, "delta_r": 0.3, "gqa": "mean"})
WEIGHTS, OTHER_WEIGHTS, DATA = "sha256:" + "ab" * 32, "sha256:" + "ef" * 32, "sha256:" + "cd" * 32
GENERATION = {"max_new_tokens": 16, "do_sample": False, "until": ["\n"]}
FACTS = {"version": 2, "data": DATA, "generation": GENERATION, "code": {"tasks/functions.py": "1" * 12}}
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.text())


def cell_of(weights=WEIGHTS, method=METHOD, **changes) -> CellSpec:
    """A cell under settings and facts that `changes` replace."""
    values = dict(
        root=Path("/"), results=Path("/results"), profile="toy", protocol="lmms_eval", data_root=None,
        model=MODEL, methods=(METHOD,), benchmarks=(), batch_size=8, extra_metrics={"slots": "toy.slots"},
    )  # fmt: skip
    facts = {name: changes.pop(name, value) for name, value in FACTS.items()}
    task = TaskFacts(Benchmark("SD", "toy_sd"), "toy_sd", **facts, scoring={"tasks/scores.py": "2" * 12})
    return CellSpec.of(Settings(**(values | changes)), method, task, weights)


def identity(**changes) -> dict:
    return cell_of(**changes).identity


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


def result_of(cell: CellSpec, **changes) -> CellResult:
    """What `write_result` says of the cell."""
    s = cell.settings
    said = {
        "protocol": s.protocol, "limit": s.limit, "limit_seed": s.limit_seed, "extra_metrics": s.extra_metrics,
        "benchmark": "SD", "scores": SCORES, "code": {"scoring_code": cell.facts.scoring},
        "versions": {"lmms-eval": installed("lmms-eval")}, "answers_key": cell.key,
    }  # fmt: skip
    return CellResult.checked(factories.cell(samples=4) | said | changes).sealed()


def miss(journal: Journal, result: CellResult | None = None, keys=None, cell: CellSpec | None = None) -> str:
    return cache_miss(cell or cell_of(), journal, result, keys)


@given(st.floats(0.3, 0.7), st.text(), st.dictionaries(st.text(), VALUES))
def test_an_identity_read_back_has_the_same_key(tmp_path_factory, r, revision, generation):
    method = MethodSettings("plphp", METHOD.params | {"r": r})
    known = identity(method=method, data=revision, generation=generation)
    path = tmp_path_factory.mktemp("journal") / "cell.jsonl"
    with Journal(path) as journal:
        journal.identify(digest(known), known)
    with Journal(path) as journal:
        assert journal.identities == {digest(known): known}
        assert [digest(read) for read in journal.identities.values()] == list(journal.identities)


def test_other_weights_that_a_method_reads_are_other_answers(tmp_path):
    folder, found = tmp_path / "clip", []
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    for weights in (b"1", b"22"):
        (folder / "model.safetensors").write_bytes(weights)
        cell_spec.method_weights.cache_clear()
        methods = [MethodSettings("cdpruner", {"clip": str(folder), "relevance": kind}) for kind in ("clip", "text")]
        found.append([cell_of(method=method, results=tmp_path) for method in methods])
    (before, unread), (now, same) = found
    assert before.key != now.key and unread.key == same.key and unread.identity["method_weights"] == {}
    with journal_of(tmp_path / "j.jsonl", (before.identity, 3)) as journal:
        said = miss(journal, cell=now)
    assert said.startswith(f"3 answers not reused: method_weights {folder} was sha256:"), said


def test_folders_and_hub_names_among_parameters_make_no_folders_and_no_long_names(tmp_path):
    clips = ("openai/clip", "other/clip", "/a" * 300 + "/clip")
    methods = [MethodSettings("cdpruner", {"clip": clip, "relevance": "text"}) for clip in clips]
    paths = [cell_of(method=method, results=tmp_path).result_path for method in methods]
    assert len(set(paths)) == 3
    assert all(path.parent == tmp_path / "cells" and len(path.name) < 230 for path in paths)


@given(st.dictionaries(st.sampled_from(PLACES), VALUES, min_size=1))
def test_any_change_has_another_key_and_one_is_named(changes):
    """Whatever it is now, in every field; 1, 1.0 and true all differ."""
    before, now = identity(), deepcopy(identity())
    for (part, name), value in changes.items():
        now[part][name] = value
    changed = {at for at, value in changes.items() if json.dumps(value) != json.dumps(before[at[0]][at[1]])}
    assert (digest(now) != digest(before)) == bool(changed)
    said = difference(before, now)
    assert any(said.startswith((f"{part} {name} was ", f"{part} {name} differs")) for part, name in changed) or not (
        changed or said
    )
    assert len(said) < 130 and said.isprintable()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (model(device="cpu"), "numerics device was cpu, is cuda"),
        (model(options=()), "family image_splitting was null, is true"),
        (dict(weights=OTHER_WEIGHTS), "weights revision was sha256:efefefefefefe…, is sha256:ababababababa…"),
        (dict(data="0" * 40), f"data revision was {'0' * 40}, is sha256:cdcdcdcdcdcdc…"),
        (dict(code={"tasks/functions.py": "1"}), "task code (tasks/functions.py) has changed"),
    ],
)
def test_the_reason_is_short_and_exact(tmp_path, other, said):
    with journal_of(tmp_path / "cell.jsonl", (identity(**other), 48)) as journal:
        assert miss(journal) == f"48 answers not reused: {said}"


def test_code_and_library_versions_are_named(tmp_path, monkeypatch):
    before, versions = identity(), library_versions()
    changed = before["answering_code"] | {"plphp_core/pruning/prefill.py": "other"}
    with journal_of(tmp_path / "cell.jsonl", (before, 1)) as journal:
        monkeypatch.setattr(cell_spec, "answering_code", lambda family: changed)
        assert miss(journal) == "1 answers not reused: answering code (plphp_core/pruning/prefill.py) has changed"
        monkeypatch.setattr(cell_spec, "library_versions", lambda: versions | {"torch": "99.0"})
        assert miss(journal) == f"1 answers not reused: libraries torch was {versions['torch']}, is 99.0"


def test_the_seed_counts_where_answers_are_sampled():
    """Greedy answers are the same under every seed."""
    sampled = {"do_sample": True, "temperature": 0.7}
    assert cell_of(seed=0).key == cell_of(seed=1).key
    zero, one = (cell_of(seed=seed, generation=sampled) for seed in (0, 1))
    assert zero.key != one.key and difference(zero.identity, one.identity) == "task generation differs"


def test_most_of_the_unused_answers_give_the_reason_and_the_cells_own_need_none(tmp_path):
    own, slow = identity(), identity(**model(engine="generate"))
    with journal_of(tmp_path / "cell.jsonl", (own, 9), (None, 5), (slow, 8)) as journal:
        assert miss(journal) == "8 answers not reused: numerics engine was generate, is fast"
    with journal_of(tmp_path / "other.jsonl", (own, 9), (None, 5)) as journal:
        assert miss(journal) == f"5 answers not reused: {UNRECORDED}"


def test_a_prompt_that_changed_under_the_same_cell_is_noticed(tmp_path):
    own = identity()
    with journal_of(tmp_path / "cell.jsonl", (own, 4)) as journal:
        wanted = {number: f"{digest(own)}-{number}" for number in range(3)}  # a limit: the fourth is not asked for
        assert miss(journal, keys=wanted) == ""
        changed = wanted | {0: "new", 2: "new too"}
        assert miss(journal, keys=changed) == "2 answers not reused: prompt text of the samples differs"


@pytest.mark.parametrize(
    ("before", "changes", "said"),
    [
        ({}, {}, ""),
        ({}, {"errors": 3}, "3 samples without an answer are tried again"),
        ({"limit": 8}, {}, "limit was 8, is null"),
        ({"limit_seed": 3}, {}, ""),  # it matters only to subsets
        ({"weights": OTHER_WEIGHTS}, {}, UNRECORDED),
        ({}, {"versions": {"lmms-eval": "0.1"}}, "lmms-eval was 0.1, is"),
        ({}, {"code": {"scoring_code": {"tasks/scores.py": "0"}}}, "scoring code (tasks/scores.py) has changed"),
        ({}, {"scores": 0}, f"scores was 0, is {SCORES}"),
    ],
)
def test_what_made_a_result_stale(tmp_path, before, changes, said):
    cell = cell_of()
    with journal_of(tmp_path / "cell.jsonl", (cell.identity, 5)) as journal:
        found = miss(journal, result_of(cell_of(**before), **changes))
        assert found.startswith(f"result not reused: {said}") if said else found == ""
        changed = result_of(cell).model_copy(update={"dtype": "other"})
        assert "damaged or changed after it was written" in miss(journal, changed)
