"""How the toy is trained: on training scenes, resumable, with hints and labels that tell the truth."""

import random

import pytest
import torch
from rich.console import Console

from tasks.toy import training
from tasks.toy.batches import keep_positions
from tasks.toy.hints import hints, late_hints
from tasks.toy.models.llava_onevision import TOY, patch_labels
from tasks.toy.samples import make_sample
from tasks.toy.scenes import COLORS, PLACES, SHAPES, Scene, Thing, random_scene
from tasks.toy.stage import Stage
from tasks.toy.state import load_optimizer, load_weights, read_progress, save_state
from tasks.toy.toy import get_toy, toy_names
from tasks.toy.training import Trainer
from tasks.toy.vision import IGNORED, draw_scenes


def test_token_dropout_drops_image_tokens_only_and_keeps_order():
    mask = torch.zeros(3, 40, dtype=torch.bool)
    mask[:, 5:25] = True
    kept = keep_positions(mask, 0.5, torch.Generator().manual_seed(0))
    assert kept.shape == (3, 30) and (kept.diff(dim=1) > 0).all()
    assert all(set(row.tolist()) >= {*range(5), *range(25, 40)} for row in kept)


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
        assert sum(word != "same" for word in found.values()) == 4 * len(changed)


@pytest.mark.parametrize("style", ["lmms_eval", "plain"])
@pytest.mark.parametrize("name", toy_names())
def test_hints_answer_at_the_words_of_the_question(name, style):
    toy = get_toy(name)
    for seed in range(4):  # raw JSON glues the n of a line break to the first option's letter
        sample = make_sample("mv", "nuscenes", random.Random(seed), "train")
        tokens = expanded(toy, sample, style)
        found, late = hints(sample, tokens, toy.image_token, toy.cells), late_hints(sample, tokens)
        letters = {token[-1]: i for i, token in enumerate(tokens[:-1]) if token[-1] in "ABCD" and tokens[i + 1] == "."}
        assert sorted(letters) == list("ABCD")
        assert all(found[i + 2] == letter for letter, i in letters.items())
        assert [letter for letter, i in letters.items() if late[i + 2] == "right"] == [sample.answer]
        assert found[tokens.index("?") - 1] == tokens[letters[sample.answer] + 2]
    assert hints(make_sample("vst", "AESOP", random.Random(1), "train"), [], toy.image_token, toy.cells) == {}


def test_patch_labels_name_what_lies_there():
    scene = Scene((Thing(0, "red", "ring"), Thing(8, "blue", "cross")))
    whole, fine = patch_labels(scene)
    assert whole[0].tolist() == [list(COLORS).index("red"), SHAPES.index("ring"), 0, 0]
    assert whole[-1].tolist() == [list(COLORS).index("blue"), SHAPES.index("cross"), len(PLACES) - 1, 1]
    assert whole[14].tolist()[:3] == [len(COLORS), len(SHAPES), 4]
    assert fine.shape == (4, 36, 4) and fine[3, -1, 0] == list(COLORS).index("blue")
    assert (fine[1, :, 2:] == IGNORED).all(), "an empty fine tile says nothing about place and rank"


def test_training_state_round_trip(tmp_path):
    model, _ = TOY.build_model(0)
    part = model.model.multi_modal_projector
    optimizer = torch.optim.AdamW(part.parameters(), lr=0.1)
    part(torch.randn(3, model.config.vision_config.hidden_size)).sum().backward()
    optimizer.step()
    path = tmp_path / "state.safetensors"
    assert read_progress(path) is None
    save_state(path, {"model": part}, optimizer, {"stage": "vision", "step": "1"})
    assert read_progress(path) == {"stage": "vision", "step": "1"}
    fresh = TOY.build_model(1)[0].model.multi_modal_projector
    restored = torch.optim.AdamW(fresh.parameters(), lr=0.1)
    load_weights(path, {"model": fresh})
    load_optimizer(path, restored)
    for old, new in zip(part.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(old, new)
        assert torch.equal(optimizer.state[old]["exp_avg_sq"], restored.state[new]["exp_avg_sq"])


def test_scenes_of_the_training_stream_are_training_scenes():
    assert all(scene.split() == "train" for scene in draw_scenes(random.Random(3), 100))
    assert any(random_scene(random.Random(i), 2).split() == "test" for i in range(50))


@pytest.mark.parametrize("name", ["llava_onevision", "idefics2"])
def test_an_interrupted_training_ends_with_the_same_weights(name, tmp_path, monkeypatch):
    first = Stage("vision", steps=2, rate=1e-3, batch=2)
    tiny = Stage("decoder", steps=3, rate=1e-3, batch=1, mixture={"birds": 1}, hints=("half-way", "late"))
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
