"""Attention readings: equal to an independent reference, resumed where they stopped, failures counted."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from plphp_core import PLPHP, prune
from plphp_core.cli import entry_point
from plphp_core.config.run_settings import MethodSettings
from plphp_core.evaluation.attention import attention_runner as run_module
from plphp_core.evaluation.attention.attention_maps import look
from plphp_core.evaluation.attention.attention_runner import attend
from plphp_core.evaluation.attention.reading import read
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.lmms_tasks import Suite
from plphp_core.evaluation.run_status import FAILED, INTERRUPTED, OK
from plphp_core.records.errors import RunError, UserError
from plphp_core.records.revisions import Fingerprints
from plphp_core.vision.spatial_groups import CUTS, group_of
from tests.evaluation.factories import lines, never, save_checkpoint, settings
from tests.reference import Reference

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def chosen(world, tmp_path):
    return settings(world, ["none"], results=tmp_path / "mini")


@pytest.fixture
def reader(chosen, loader):
    return JointAnswerer(loader(chosen.model))


def requests_of(run_settings):
    suite = Suite(run_settings, Fingerprints(run_settings.results / "none.json"))
    return suite.open(suite.facts(run_settings.benchmarks[0])).requests


def result(run_settings, task="mini_a"):
    limit = "" if run_settings.limit is None else f".limit={run_settings.limit}-0"
    (path,) = (run_settings.results / "attention").glob(f"tiny.{task}{limit}.??????.json")
    return json.loads(path.read_text())


def journal(run_settings):
    return [line for line in lines(run_settings.results / "attention" / "tiny.mini_a.jsonl") if "key" in line]


@pytest.mark.parametrize("doc", [0, 1])  # two images, one in tiles
def test_a_reading_equals_the_float64_reference(chosen, reader, doc):
    inputs, shown = reader.inputs(requests_of(chosen)[doc])
    found = read(reader.loaded, inputs, shown)
    ref = Reference(reader.loaded.model, inputs, found.image_sizes)
    _, maps = ref.forward(ref.embeds, lambda layer, head: torch.zeros(len(ref.ids), len(ref.ids), dtype=torch.bool))
    rows = torch.stack([layer.mean(0)[-1] for layer in maps])[:, ref.vision]
    np.testing.assert_allclose(found.vision_attention, rows.sum(-1), atol=1e-5)
    assert found.prompt_tokens == len(ref.ids) and len(found.image_sizes) == 2 - doc
    boxes = reader.loaded.family.token_boxes(reader.loaded.model, inputs, shown)
    for cut in CUTS:
        groups = torch.cat([group_of(one, cut) for one in boxes])
        for at, group in enumerate((0, 1, 2, 3, 4, -1)):
            share = rows[:, groups == group].sum(-1) / rows.sum(-1)
            np.testing.assert_allclose([layer[at] for layer in found.groups[cut]], share, atol=1e-4)
            assert found.group_tokens[cut][at] == pytest.approx((groups == group).double().mean().item(), abs=1e-5)


def test_a_result_holds_every_sample_and_is_not_read_twice(chosen, loader, display, monkeypatch):
    assert attend(chosen, {}, loader, display) == OK
    found = result(chosen)
    assert found["doc_ids"] == list(range(10)) and found["errors"] == 0
    assert np.array(found["vision_attention"]).shape == (10, 6)
    assert found["located"] is True and found["checkpoint"] == "checkpoint"
    assert len(journal(chosen)) == 10
    monkeypatch.setattr(run_module, "read", never)
    monkeypatch.setattr(Suite, "open", never)  # a finished benchmark is not even opened
    assert attend(chosen, {}, loader, display) == OK


def test_an_interrupted_run_goes_on_where_it_stopped(chosen, loader, display, monkeypatch):
    done = []

    def until_the_fourth(*given):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return read(*given)

    monkeypatch.setattr(run_module, "read", until_the_fourth)
    assert attend(chosen, {}, loader, display) == INTERRUPTED
    assert len(journal(chosen)) == 3 and not list((chosen.results / "attention").glob("*.json"))
    calls = []
    monkeypatch.setattr(run_module, "read", lambda *given: calls.append(1) or read(*given))
    assert attend(chosen, {}, loader, display) == OK
    assert len(calls) == 7 and len({line["key"] for line in journal(chosen)}) == 10


def test_a_subset_lies_in_a_larger_one_and_is_not_read_again(chosen, loader, display, monkeypatch):
    four, six = (dataclasses.replace(chosen, limit=limit) for limit in (4, 6))
    assert attend(four, {}, loader, display) == OK
    few = result(four)["doc_ids"]
    calls = []
    monkeypatch.setattr(run_module, "read", lambda *given: calls.append(1) or read(*given))
    assert attend(six, {}, loader, display) == OK
    assert len(calls) == 2 and set(few) < set(result(six)["doc_ids"])
    assert result(four)["doc_ids"] == few


def test_failures_are_counted_and_tried_again(chosen, loader, display, monkeypatch):
    def one_breaks(*given):
        if len(journal(chosen)) == 2:
            raise ValueError("this one is broken")
        return read(*given)

    monkeypatch.setattr(run_module, "read", one_breaks)
    assert attend(chosen, {}, loader, display) == FAILED
    assert result(chosen)["errors"] == 1 and len(result(chosen)["doc_ids"]) == 9
    assert "this one is broken" in display.console.file.getvalue()
    monkeypatch.setattr(run_module, "read", read)
    assert attend(chosen, {}, loader, display) == OK
    assert result(chosen)["errors"] == 0 and len(result(chosen)["doc_ids"]) == 10


def test_a_run_of_which_nothing_works_stops(chosen, loader, display, monkeypatch):
    def broken(*given):
        raise ValueError("always")

    monkeypatch.setattr(run_module, "read", broken)
    few = dataclasses.replace(chosen, stop_after_errors=3)
    assert attend(few, {}, loader, display) == FAILED
    assert len(journal(chosen)) == 3 and "3 samples failed and none was read" in display.console.file.getvalue()
    assert issubclass(RunError, Exception)


def test_readings_and_answers_of_other_weights_do_not_mix(chosen, loader, display, tmp_path, world):
    assert attend(chosen, {}, loader, display) == OK
    other = save_checkpoint(tmp_path / "other", seed=7)
    model = dataclasses.replace(chosen.model, checkpoint=str(other))
    before = result(chosen)["vision_attention"]
    assert attend(dataclasses.replace(chosen, model=model), {}, loader, display) == OK
    assert len(journal(chosen)) == 20
    assert not np.allclose(before, result(chosen)["vision_attention"], atol=1e-3)


def test_a_look_holds_what_prune_and_generate_do(chosen, reader, loader, display):
    params = {"r": 0.5, "delta_r": 0.2, "alpha": 0.6, "beta": 0.4, "gqa": "mean", "head_budget": "equal"}
    one = dataclasses.replace(chosen, methods=(MethodSettings("plphp", params, "r=0.5"),))
    path = look(one, 2, loader, display)
    content, tensors = json.loads(path.read_text()), load_file(path.with_suffix(".safetensors"))
    inputs, _ = reader.inputs(requests_of(chosen)[2])
    with prune(reader.loaded.model, PLPHP(**params)) as trace:
        reader.loaded.model.generate(**inputs, max_new_tokens=1, do_sample=False)
    positions = torch.cat(trace.images[0])
    for layer, kept in enumerate(trace.kept):
        for head, own in enumerate(kept[0]):
            assert positions[tensors["kept"][layer, head].bool()].tolist() == own.tolist()
    np.testing.assert_allclose(content["vision_attention"], trace.vision_attention[0], atol=1e-5)
    np.testing.assert_allclose(tensors["rows"].sum(-1).mean(-1), trace.vision_attention[0], atol=1e-5)
    assert tensors["boxes"].shape == (len(positions), 4)
    assert tensors["image_of"].unique().tolist() == [0, 1] and len(content["images"]) == 2
    for name, image in zip(content["images"], requests_of(chosen)[2].visuals(), strict=True):
        assert np.array_equal(np.array(Image.open(path.with_name(name))), np.array(image))


def test_what_cannot_be_looked_at_is_refused(chosen, loader, display):
    with pytest.raises(UserError, match=r"attention.doc = 99.*0 to 9"):
        look(chosen, 99, loader, display)
    two = dataclasses.replace(
        chosen, benchmarks=(*chosen.benchmarks, *settings(chosen.root, tasks=["mini_b"]).benchmarks)
    )
    with pytest.raises(UserError, match="MINI_A, MINI_B"):
        look(two, 0, loader, display)
    fastv = dataclasses.replace(chosen, methods=(MethodSettings("fastv", {"K": 2, "R": 0.5}),))
    with pytest.raises(UserError, match="withdraws tokens"):
        look(fastv, 0, loader, display)


@pytest.fixture
def attending(capsys):
    """Runs `scripts/attend.py` in this process. Returns its exit code and what it said on stderr."""

    def call(*arguments):
        code = entry_point.command("attend", arguments)
        return code, capsys.readouterr().err

    return call


def test_a_dry_run_says_what_would_be_read_of_every_model(attending):
    code, said = attending("profile=toy", "tasks=[sd]", "dry=true")
    assert code == 0
    for model in ("llava_onevision", "qwen2_vl", "idefics2", "mantis"):
        assert f"attention of {model}: 32 samples of each of SD" in said
    assert attending("profile=toy", "tasks=[sd]", "dry=true", "model=mantis")[1].count("attention of") == 1


def test_several_processes_are_refused(attending, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert attending("profile=toy")[0] == 2
