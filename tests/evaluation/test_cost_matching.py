"""Methods at the same bytes: what a search finds, that cells then hold them, that a killed search goes on, refusals."""

import json
import os
import re
import signal
from functools import partial

import pytest

from baselines.controls import RandomTokens
from plphp_core.config.equal_cost import TOLERANCE, CostSearch
from plphp_core.evaluation import cost_matching, loading
from plphp_core.evaluation.cost_matching import NotReached, searched
from tests.evaluation.factories import in_child, never
from tests.evaluation.repositories import command

REAL = CostSearch("r", 0.0, 1.0)
WHOLE = CostSearch("K", 1, None, whole=True)
FULL = 1000.0


def found(search, holds, wanted, high=1.0):
    """What a search finds on a method that holds `holds(value)`, or why it finds nothing; and the values it tried."""
    tried = []

    def cost_at(value):
        tried.append(value)
        if isinstance(held := holds(value), str):
            raise NotReached(f"{search.parameter} = {value:g}: {held}")
        return held

    try:
        return searched(search, high, wanted, FULL, cost_at), tried
    except NotReached as error:
        return str(error), tried


RISES = {
    "a line": lambda x: 200 + 800 * x,
    "steps of a token": lambda x: 200 + 2 * int(400 * x),
    "a falling line": lambda x: 1000 - 700 * x,
    "a bend, as where Δr is cut off": lambda x: 200 + (900 * x if x < 0.57 else 513 + 668 * (x - 0.57)),
    "steep at one end": lambda x: 200 + 800 * x**6,
}


@pytest.mark.parametrize("what", RISES)
@pytest.mark.parametrize("wanted", [331.0, 500.0, 777.0])
def test_a_search_comes_as_near_as_it_says_in_few_steps(what, wanted):
    value, tried = found(REAL, RISES[what], wanted)
    assert abs(RISES[what](value) - wanted) <= TOLERANCE * wanted
    assert value == round(value, 4) and len(tried) <= 24 and len(set(tried)) == len(tried)
    assert found(REAL, RISES[what], wanted) == (value, tried)


NOT_REACHED = {
    "too little": (REAL, lambda x: 400 + 100 * x, 300.0, r"holds at least 40\.0% of the KV bytes \(r = 0\)"),
    "too much": (REAL, lambda x: 400 - 300 * x, 900.0, r"holds at most 40\.0% of the KV bytes \(r = 0\)"),
    "between two": (WHOLE, lambda K: 100.0 * K, 350.0, r"nearer than 30\.0% \(K = 3\) and 40\.0% \(K = 4\) of the KV"),
    "a gap": (REAL, lambda x: 200.0 if x < 0.3 else 800.0, 500.0, r"comes no nearer than (20|80)\.0%"),
    "refused": (REAL, lambda x: "no image" if x else 1.0, 500.0, "r = 1: no image"),
}


@pytest.mark.parametrize("what", NOT_REACHED)
def test_what_cannot_be_reached_says_how_near_it_comes(what):
    search, holds, wanted, words = NOT_REACHED[what]
    value, tried = found(search, holds, wanted, high=8.0 if search.whole else 1.0)
    assert isinstance(value, str) and len(tried) < 40
    assert re.search(words, value), value


def test_whole_numbers_are_bisected():
    value, tried = found(WHOLE, lambda K: 100.0 * K, 500.0, high=28.0)
    assert value == 5 and all(one == int(one) for one in tried)


N, LAYERS = 576, 32  # of LLaVA-1.5


def fastv_enters(R):
    """Vision tokens in attention, mean over layers, by FastV's own counts at K = 2."""
    return (2 * N + (LAYERS - 2) * round(N * (1 - R))) / LAYERS


def pyramid_enters(first):
    """The same of PyramidDrop before layers 2, 8 and 16, with the ratios that a search writes down."""
    ratios = [float(one) for one in PYRAMID.params(first)["image_token_ratio_list"].split("+")]
    a, b, c = (int(N * ratio) for ratio in ratios)
    return (2 * N + 6 * a + 8 * b + 16 * c) / LAYERS


PYRAMID = CostSearch("image_token_ratio_list", 0.0, 1.0, powers=3)


def test_lists_may_count_tokens():
    assert CostSearch("token_list", 0.0, 1.0, powers=3, of=576).params(0.5) == {"token_list": "288+144+72"}


@pytest.mark.parametrize("search, enters", [(CostSearch("R", 0.0, 1.0), fastv_enters), (PYRAMID, pyramid_enters)])
@pytest.mark.parametrize("wanted", [64.0, 128.0, 192.0])
def test_the_protocol_of_llava_is_reached_within_half_a_percent(search, enters, wanted):
    value, _ = found(search, enters, wanted)
    assert abs(enters(value) - wanted) <= 0.005 * wanted
    if search.parameter == "R":
        assert value == pytest.approx({64.0: 0.948, 128.0: 0.830, 192.0: 0.711}[wanted], abs=0.002)


def test_tied_parameters_never_leave_what_the_method_allows():
    search = CostSearch("r", 0.0, 1.0, (("delta_r", 0.75),))
    assert search.params(0.4) == {"r": 0.4, "delta_r": 0.3}
    assert search.params(0.8) == {"r": 0.8, "delta_r": 0.2} and search.params(1.0) == {"r": 1.0, "delta_r": 0.0}


# --- On the command line ----------------------------------------------------------------------------------------------

SNAPKV = "{method:snapkv,window_size:2},{method:snapkv,window_size:2,scope:prompt}"
METHODS = f"table.methods=[none,random,{SNAPKV},plphp,fastv,vtw]"
ASKED = ("table=compare", "model=one", "tasks=mini", "limit=4", "table.budgets=[0.6,0.85]", METHODS)


@pytest.fixture
def run(repository, tmp_path, monkeypatch, capfd):
    return partial(command(repository, tmp_path, monkeypatch, capfd), "profile=toy", *ASKED)


def records(folder):
    """Benchmark → what was found."""
    read = [json.loads(path.read_text()) for path in sorted((folder / "toy" / "matches").glob("*.json"))]
    return {one["benchmark"]: one for one in read}


def test_cells_hold_the_bytes_of_their_budget_or_there_are_none(run, tmp_path):
    done = run()
    assert done.code == 0, done.said
    known = records(tmp_path)
    assert set(known) == {"SD", "IE"}
    reached = 0
    for label, record in known.items():
        assert len(record["found"]) == 2 * 6 and len(record["lengths"]) == 4
        for one in record["found"]:
            own = [cell for cell in done.files if cell["benchmark"] == label and cell["params"] == one["params"]]
            slots = [int(one["budget"] * length + 1e-9) for length in record["lengths"]]
            assert one["wanted"] == pytest.approx(record["token_bytes"] * sum(slots) / len(slots))
            if one["params"] is None:
                assert one["missing"] and not own
                continue
            (cell,) = own
            held = sum(cell["efficiency"]["kv_bytes"]) / cell["n"]
            assert abs(held - one["wanted"]) <= TOLERANCE * one["wanted"] and held == pytest.approx(one["held"])
            if "kv_share" in one["params"]:  # sample by sample
                tokens = cell["efficiency"]["prompt_tokens"]
                assert cell["efficiency"]["kv_bytes"] == [
                    record["token_bytes"] * int(one["budget"] * n + 1e-9) for n in tokens
                ]
            reached += 1
    assert reached >= 8
    found_methods = {cell["method"] for cell in done.files}
    assert {"none", "random", "snapkv"} <= found_methods
    prefills = {cell["method"]: cell["efficiency"]["prefill_flops"] for cell in done.files}
    assert all(flops and min(flops) > 0 for flops in prefills.values())


TOKENS = (
    "table.cost=tokens",
    "+table.against=random_withdraw",
    "table.methods=[none,random_withdraw,{method:random_withdraw,seed:1},fastv,vtw,snapkv]",
    "+table.search.random_withdraw={parameter:ratio,low:0,high:1}",
    "+table.tolerance=0.02",
    "table.budgets=[0.3,0.5]",
)


def test_cells_have_as_many_vision_tokens_in_attention_as_their_budget_says(run, tmp_path):
    """Mean over layers of what comes in, measured again while they answer; a cache compressor is never at a budget."""
    done = run(*TOKENS)
    assert done.code == 0, done.said
    reached = 0
    for label, record in records(tmp_path).items():
        full = sum(map(sum, record["vision"])) / len(record["vision"])
        for one in record["found"]:
            assert one["wanted"] == pytest.approx(one["budget"] * full)
            own = [cell for cell in done.files if (cell["benchmark"], cell["params"]) == (label, one["params"])]
            if one["method"] == "snapkv":
                assert one["missing"].startswith("every vision token comes into attention")
            if one["params"] is None:
                assert one["missing"] and not own
                continue
            (cell,) = own
            entered = sum(cell["efficiency"]["vision_entered"]) / cell["n"]
            assert abs(entered - one["wanted"]) <= 0.02 * one["wanted"] and entered == pytest.approx(one["held"])
            reached += 1
        whole = next(cell for cell in done.files if cell["method"] == "none" and cell["benchmark"] == label)
        assert sum(whole["efficiency"]["vision_entered"]) / whole["n"] == pytest.approx(full)
    assert reached >= 4


def test_a_count_of_tokens_per_head_is_held_by_every_sample(run, tmp_path):
    methods = "table.methods=[none,random,{method:keydiff,scope:prompt},plphp]"
    done = run("table.budgets=[40,90]", methods)
    assert done.code == 0, done.said
    counted = [cell for cell in done.files if cell["params"].get("kv_tokens")]
    assert {cell["params"]["kv_tokens"] for cell in counted if cell["method"] == "keydiff"} == {40, 90}
    token_bytes = {label: record["token_bytes"] for label, record in records(tmp_path).items()}
    for cell in counted:
        held = [min(cell["params"]["kv_tokens"], n) for n in cell["efficiency"]["prompt_tokens"]]
        assert cell["efficiency"]["kv_bytes"] == [token_bytes[cell["benchmark"]] * one for one in held]


def test_a_control_that_makes_images_smaller_is_measured_on_its_own_images(run, monkeypatch):
    seen, encode = [], cost_matching.encode

    def noted(loaded, ready):
        inputs = encode(loaded, ready)
        seen.append(float(inputs["pixel_values"].double().sum()))
        return inputs

    monkeypatch.setattr(cost_matching, "encode", noted)
    done = run("table.methods=[none,random,{method:downsample,jpeg:null}]", "table.budgets=[0.5]", "tasks=alone")
    assert done.code == 0, done.said
    *same, smaller = seen  # three passes over the prompts, with factor 1 in the second and factor 10 in the third
    assert len(same) == 4 and len(set(same)) == 1 and smaller != same[0]


def test_samples_are_called_the_same_while_bytes_are_measured_and_while_they_answer(run, monkeypatch):
    """Methods that draw, or know their samples, go by these names."""
    called, compress = set(), RandomTokens.compress

    def noted(method, layer, view):
        called.update(view.sample_keys)
        return compress(method, layer, view)

    monkeypatch.setattr(RandomTokens, "compress", noted)
    done = run("table.methods=[none,random]")
    assert done.code == 0, done.said
    assert len(called) == 8  # four samples of two benchmarks


def test_what_was_measured_is_not_measured_again(run, tmp_path, monkeypatch):
    first = run()
    before = records(tmp_path)
    monkeypatch.setattr(cost_matching, "_Pass", never)
    monkeypatch.setattr(loading.LoadOnce, "__call__", never)
    again = run()
    assert again.code == 0 and records(tmp_path) == before
    assert len(again.files) == len(first.files)
    assert run("dry=true").code == 0


def test_a_dry_run_measures_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(cost_matching, "_Pass", never)
    done = run("dry=true")
    assert done.code == 0 and not records(tmp_path) and not done.files
    assert "equal cost: 0 of 12 methods × budgets" in done.said


def test_a_search_that_is_killed_goes_on_and_finds_the_same(run, tmp_path, monkeypatch, repository, capfd):
    """SIGKILL in the third pass over the prompts: what the first two measured is there, and the answer is the same."""
    count = 0
    add = cost_matching._Pass.add

    def deadly(self, batch):
        nonlocal count
        count += 1
        if count == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        add(self, batch)

    monkeypatch.setattr(cost_matching._Pass, "add", deadly)
    _, status = os.waitpid(in_child(lambda: run().code), 0)
    assert os.WIFSIGNALED(status)
    capfd.readouterr()
    (half,) = records(tmp_path).values()
    assert half["measured"] and not half["found"]

    monkeypatch.setattr(cost_matching._Pass, "add", add)
    measured = []
    results = cost_matching._Pass.results
    monkeypatch.setattr(
        cost_matching._Pass, "results", lambda self: measured.append(len(self.methods)) or results(self)
    )
    done = run()
    assert done.code == 0, done.said
    resumed = records(tmp_path)
    assert sum(measured) + len(half["measured"]) == sum(len(one["measured"]) for one in resumed.values())

    elsewhere = tmp_path / "elsewhere"
    assert command(repository, elsewhere, monkeypatch, capfd)("profile=toy", *ASKED).code == 0
    assert {label: one["found"] for label, one in records(elsewhere).items()} == {
        label: one["found"] for label, one in resumed.items()
    }


def test_other_weights_are_measured_anew(run, tmp_path):
    run()
    path = next((tmp_path / "toy" / "matches").glob("*.json"))
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"key": "of other weights", "measured": {}, "found": [], "lengths": [3]}))
    assert run().code == 0 and all(len(one["lengths"]) == 4 for one in records(tmp_path).values())
    path.write_text("{torn")
    assert run().code == 0 and len(records(tmp_path)) == 2
