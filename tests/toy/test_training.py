"""How the toy is trained: on training scenes, resumable, with hints and labels that tell the truth."""

import random

import pytest
import torch
from rich.console import Console

from tasks.toy import training
from tasks.toy.batches import assemble, keep_positions
from tasks.toy.checkpoint import build_model, build_processor
from tasks.toy.hints import hints
from tasks.toy.samples import make_sample
from tasks.toy.scenes import COLORS, PLACES, SHAPES, Scene, Thing, random_scene
from tasks.toy.state import load_optimizer, load_weights, read_progress, save_state
from tasks.toy.tokens import IMAGE
from tasks.toy.training import Stage, Trainer, draw_scenes
from tasks.toy.vision import IGNORED, patch_labels


def test_token_dropout_drops_image_tokens_only_and_keeps_order():
    mask = torch.zeros(3, 40, dtype=torch.bool)
    mask[:, 5:25] = True
    kept = keep_positions(mask, 0.5, torch.Generator().manual_seed(0))
    assert kept.shape == (3, 30) and (kept.diff(dim=1) > 0).all()
    assert all(set(row.tolist()) >= {*range(5), *range(25, 40)} for row in kept)


def expanded(sample):
    processor = build_processor()
    batch = assemble([sample], [0] * len(sample.scenes), processor.tokenizer)
    return processor.tokenizer.convert_ids_to_tokens(batch.ids[0].tolist())


def test_hints_mark_the_changed_place():
    for seed in range(5):
        sample = make_sample("sd", "CLEVR-Change", random.Random(seed), "train")
        found = hints(sample, expanded(sample), IMAGE)
        before, after = (set(scene.things) for scene in sample.scenes)
        changed = {thing.place for thing in before ^ after}
        assert len(found) == 36
        assert sum(word != "same" for word in found.values()) == 4 * len(changed)


def test_hints_answer_at_the_words_of_the_question():
    sample = make_sample("mv", "nuscenes", random.Random(1), "train")
    tokens = expanded(sample)
    found = hints(sample, tokens, IMAGE)
    right = next(i + 2 for i, t in enumerate(tokens) if t == sample.answer and tokens[i + 1] == ".")
    assert found[right] == sample.answer
    assert found[tokens.index("?") - 1] == tokens[right]
    assert hints(make_sample("vst", "AESOP", random.Random(1), "train"), [], IMAGE) == {}


def test_patch_labels_name_what_lies_there():
    scene = Scene((Thing(0, "red", "ring"), Thing(8, "blue", "cross")))
    whole, fine = patch_labels(scene)
    assert whole[0].tolist() == [list(COLORS).index("red"), SHAPES.index("ring"), 0, 0]
    assert whole[-1].tolist() == [list(COLORS).index("blue"), SHAPES.index("cross"), len(PLACES) - 1, 1]
    assert whole[14].tolist()[:3] == [len(COLORS), len(SHAPES), 4]
    assert fine.shape == (4, 36, 4) and fine[3, -1, 0] == list(COLORS).index("blue")
    assert (fine[1, :, 2:] == IGNORED).all(), "an empty fine tile says nothing about place and rank"


def test_training_state_round_trip(tmp_path):
    model, _ = build_model(0)
    part = model.model.multi_modal_projector
    optimizer = torch.optim.AdamW(part.parameters(), lr=0.1)
    part(torch.randn(3, model.config.vision_config.hidden_size)).sum().backward()
    optimizer.step()
    path = tmp_path / "state.safetensors"
    assert read_progress(path) is None
    save_state(path, {"model": part}, optimizer, {"stage": "vision", "step": "1"})
    assert read_progress(path) == {"stage": "vision", "step": "1"}
    fresh = build_model(1)[0].model.multi_modal_projector
    restored = torch.optim.AdamW(fresh.parameters(), lr=0.1)
    load_weights(path, {"model": fresh})
    load_optimizer(path, restored)
    for old, new in zip(part.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(old, new)
        assert torch.equal(optimizer.state[old]["exp_avg_sq"], restored.state[new]["exp_avg_sq"])


def test_scenes_of_the_training_stream_are_training_scenes():
    assert all(scene.split() == "train" for scene in draw_scenes(random.Random(3), 100))
    assert any(random_scene(random.Random(i), 2).split() == "test" for i in range(50))


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    first = Stage("vision", steps=2, rate=1e-3, batch=2)
    tiny = Stage("decoder", steps=3, rate=1e-3, batch=1, mixture={"birds": 1}, hints=("half-way", "late"))
    monkeypatch.setattr(training, "VISION", first)
    monkeypatch.setattr(training, "STAGES", (first, tiny))
    quiet = Console(quiet=True)
    whole = Trainer(tmp_path / "whole", quiet, save_every=1)
    whole.train()

    class Interrupted(Exception):
        pass

    def stop(path, modules, optimizer, progress):
        save_state(path, modules, optimizer, progress)
        if progress["stage"] == "decoder" and progress["step"] == "2":
            raise Interrupted

    monkeypatch.setattr(training, "save_state", stop)
    with pytest.raises(Interrupted):
        Trainer(tmp_path / "part", quiet, save_every=1).train()
    monkeypatch.setattr(training, "save_state", save_state)
    rest = Trainer(tmp_path / "part", quiet, save_every=1)
    rest.train()
    for (name, one), (_, two) in zip(whole.model.named_parameters(), rest.model.named_parameters(), strict=True):
        assert torch.equal(one, two), name
