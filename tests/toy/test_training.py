"""How the toy is trained: on training scenes, resumable, with hints and labels that tell the truth."""

import random

import pytest
import torch
from rich.console import Console

from tasks.toy import training
from tasks.toy.hints import hints
from tasks.toy.models.llava_onevision import TOY, patch_labels
from tasks.toy.samples import make_sample
from tasks.toy.scenes import COLORS, PLACES, SHAPES, Scene, Thing, random_scene
from tasks.toy.stage import Stage
from tasks.toy.state import load_optimizers, load_weights, read_progress, save_state
from tasks.toy.toy import get_toy, toy_names
from tasks.toy.training import Trainer, optimizers
from tasks.toy.vision import IGNORED, QUESTIONS, draw_scenes


def expanded(toy, sample, style="lmms_eval"):
    """The tokens of the whole prompt, every image token included."""
    tokenizer = toy.build_processor().tokenizer
    return tokenizer.convert_ids_to_tokens(tokenizer(toy.expand(toy.chat(sample, style), alone=False))["input_ids"])


@pytest.mark.parametrize("name", toy_names())
def test_hints_mark_the_changed_place(name):
    toy = get_toy(name)
    for seed in range(5):
        sample = make_sample("sd", "CLEVR-Change", random.Random(seed), "train")
        tokens = expanded(toy, sample)
        found = hints(sample, tokens, toy.image_token, toy.cells)
        assert all(tokens[i] == toy.image_token for i in found)
        before, after = (set(scene.things) for scene in sample.scenes)
        changed = {thing.place for thing in before ^ after}
        assert len(found) == 36
        assert sum(word != "nothing" for word in found.values()) == 4 * len(changed)


@pytest.mark.parametrize("style", ["lmms_eval", "plain"])
@pytest.mark.parametrize("name", toy_names())
def test_hints_answer_at_the_words_of_the_question(name, style):
    toy = get_toy(name)
    for benchmark, sub_task in (("mv", "ScanQA"), ("mv", "ScanNet_chat"), ("finding", "color")):
        sample = make_sample(benchmark, sub_task, random.Random(1), "train")
        tokens = expanded(toy, sample, style)
        found = hints(sample, tokens, toy.image_token, toy.cells)
        assert found and set(found.values()) == {sample.answer}
        assert all(tokens[i] in {*COLORS, *SHAPES, *PLACES} for i in found)
    assert hints(make_sample("vst", "AESOP", random.Random(1), "train"), [], toy.image_token, toy.cells) == {}


def test_patch_labels_name_what_lies_there():
    scene = Scene((Thing(0, "red", "ring"), Thing(8, "blue", "7", spot=3)))
    whole, fine = patch_labels(scene)
    nothing = [len(COLORS), len(QUESTIONS["shape"])]
    assert whole[0].tolist() == [list(COLORS).index("red"), SHAPES.index("ring"), 0, 0]
    assert whole[-1].tolist() == [list(COLORS).index("blue"), QUESTIONS["shape"].index("7"), len(PLACES) - 1, 1]
    assert [whole[i].tolist()[:3] for i in (1, 14, 34)] == [[*nothing, 0], [*nothing, 4], [*nothing, 8]]
    assert fine.shape == (4, 36, 4) and (fine[0, [0, 1, 6, 7], 0] == list(COLORS).index("red")).all()
    assert (fine[3, [28, 29, 34, 35], 0] == list(COLORS).index("blue")).all() and fine[3, 33, 0] == len(COLORS)
    assert (fine[1, :, 2:] == IGNORED).all(), "an empty fine tile says nothing about place and rank"


def test_training_state_round_trip(tmp_path):
    model, _ = TOY.build_model(0)
    part = model.model.multi_modal_projector
    both = optimizers(model, list(part.parameters()), 0.1)
    part(torch.randn(3, model.config.vision_config.hidden_size)).sum().backward()
    for optimizer in both:
        optimizer.step()
    path = tmp_path / "state.safetensors"
    assert read_progress(path) is None
    save_state(path, {"model": part}, both, {"stage": "vision", "step": "1"})
    assert read_progress(path) == {"stage": "vision", "step": "1"}
    other, _ = TOY.build_model(1)
    fresh = other.model.multi_modal_projector
    restored = optimizers(other, list(fresh.parameters()), 0.1)
    load_weights(path, {"model": fresh})
    load_optimizers(path, restored)
    assert all(torch.equal(old, new) for old, new in zip(part.parameters(), fresh.parameters(), strict=True))
    for old, new in zip(both, restored, strict=True):
        kept = [list(optimizer.state.values()) for optimizer in (old, new)]
        assert len(kept[0]) == len(kept[1]) > 0
        for one, two in zip(*kept, strict=True):
            assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def test_scenes_of_the_training_stream_are_training_scenes():
    assert all(scene.split() == "train" for scene in draw_scenes(random.Random(3), 100))
    assert any(random_scene(random.Random(i), 2).split() == "test" for i in range(50))


@pytest.mark.parametrize("name", ["llava_onevision", "idefics2"])
def test_an_interrupted_training_ends_with_the_same_weights(name, tmp_path, monkeypatch):
    first = Stage("vision", steps=2, rate=1e-3, batch=2)
    tiny = Stage("decoder", steps=3, rate=1e-3, batch=1, mixture={"birds": 1})
    toy = get_toy(name)
    monkeypatch.setattr(type(toy), "stages", (first, tiny))
    quiet = Console(quiet=True)
    whole = Trainer(toy, tmp_path / "whole", quiet, save_every=1)
    whole.train()

    class Interrupted(Exception):
        pass

    def stop(path, modules, optimizer, progress):
        save_state(path, modules, optimizer, progress)
        if progress["stage"] == "decoder" and progress["step"] == "2":
            raise Interrupted

    monkeypatch.setattr(training, "save_state", stop)
    with pytest.raises(Interrupted):
        Trainer(toy, tmp_path / "part", quiet, save_every=1).train()
    monkeypatch.setattr(training, "save_state", save_state)
    rest = Trainer(toy, tmp_path / "part", quiet, save_every=1)
    rest.train()
    for (name, one), (_, two) in zip(whole.model.named_parameters(), rest.model.named_parameters(), strict=True):
        assert torch.equal(one, two), name
