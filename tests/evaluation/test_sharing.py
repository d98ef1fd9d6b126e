"""Methods that share a prefill answer as each of them does alone; batches that fail cost nobody else's answers."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from baselines import VTW, Downsample, FastV
from plphp_core import PLPHP
from plphp_core.config.run_settings import MethodSettings
from plphp_core.decoding.shared_prefill import SharedPrefill
from plphp_core.evaluation import generation
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.requests import Failure, Request
from plphp_core.evaluation.run_status import OK
from tests.evaluation.factories import TIMES, alone, cells, content, lines, run, settings, timeless

METHODS = [
    None,
    PLPHP(alpha=0.8, beta=0.6),
    FastV(K=2),
    PLPHP(r=0.3, delta_r=0.0),
    VTW(K=3),
    PLPHP(r=0.6, delta_r=0.2, gqa="max"),
]


@pytest.fixture(params=["generate", "fast"])
def loaded(request, world, loader):
    model = settings(world).model
    return dataclasses.replace(loader(model), engine=request.param)


def requests(world, loader, count=4, **generation):
    from plphp_core.evaluation.lmms_tasks import Suite
    from plphp_core.records.revisions import Fingerprints

    run_settings = settings(world)
    suite = Suite(run_settings, Fingerprints(world / "none.json"))
    task = suite.open(suite.facts(run_settings.benchmarks[0]))
    found = [task.requests[row] for row in range(count)]
    return [dataclasses.replace(one, generation={**one.generation, **generation}) for one in found]


def _untimed(line: dict) -> dict:
    answer = {name: value for name, value in line.get("answer", {}).items() if name not in TIMES}
    return {name: value for name, value in line.items() if name not in TIMES} | {"answer": answer}


def test_smaller_images_are_measured_against_the_originals(loaded, world, loader):
    """Fewer tiles for a smaller image; a factor of one, without JPEG, is the image itself."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    (one,) = requests(world, loader, count=1)
    batch = [dataclasses.replace(one, context="<image>\nwhat?", visuals=lambda: [Image.fromarray(pixels)])]
    same, small = Downsample(factor=1, jpeg=None), Downsample(factor=16)
    found = dict(JointAnswerer(loaded).answer(batch, [small, None, same]))
    assert content(found[same]) == content(found[None])
    for (_, less), (_, full) in zip(found[small], found[None], strict=True):
        assert less.kv_bytes_full == full.kv_bytes_full and less.images_sha256 != full.images_sha256
        assert less.prompt_tokens / full.prompt_tokens == pytest.approx(less.kv_bytes / full.kv_bytes)
        gone = full.prompt_tokens - less.prompt_tokens  # all of it vision
        vision = [gone / (1 - kept) for kept in less.retention if kept < 1]
        assert gone > 0 and len(vision) == len(less.retention) and max(vision) <= full.prompt_tokens


def test_together_as_alone(loaded, world, loader):
    batch = requests(world, loader)
    found = dict(JointAnswerer(loaded).answer(batch, METHODS))
    assert len(found) == len(METHODS)
    for method in METHODS:
        assert content(found[method]) == content(alone(loaded, method, batch))
        kernel = "sdpa" if loaded.engine == "generate" else "sdpa_slices"
        assert {answer.kernel for _, answer in found[method]} == {kernel}


def test_one_prefill_for_all_that_compress_and_one_look_at_the_images(world, loader, monkeypatch):
    loaded = loader(settings(world).model)
    prefills, looks = [], []
    decoder = loaded.model.model.language_model
    handle = decoder.register_forward_pre_hook(
        lambda _, args, kwargs: prefills.append(kwargs["inputs_embeds"].shape[1] > 1), with_kwargs=True
    )
    vision = loaded.model.model.vision_tower.register_forward_pre_hook(lambda *_: looks.append(1))
    try:
        list(JointAnswerer(loaded).answer(requests(world, loader), METHODS))
    finally:
        handle.remove()
        vision.remove()
    assert sum(prefills) == 3  # shared, FastV, VTW
    assert len(looks) == 1


@pytest.mark.parametrize("changes", [{"num_beams": 2}, {"do_sample": True, "temperature": 0.7}])
def test_beams_and_samples_are_not_shared(world, loader, monkeypatch, changes):
    loaded = loader(settings(world).model)
    monkeypatch.setattr(generation, "SharedPrefill", None)  # would fail
    batch = requests(world, loader, **changes)
    for _, results in JointAnswerer(loaded).answer(batch, METHODS[:2]):
        assert not any(isinstance(answer, Failure) for _, answer in results)


def test_methods_go_on_alone_where_the_shared_prefill_does_not_fit(world, loader, monkeypatch):
    loaded = loader(settings(world).model)

    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(generation, "SharedPrefill", too_large)
    batch = requests(world, loader)
    found = dict(JointAnswerer(loaded).answer(batch, METHODS))
    for method in METHODS:
        assert content(found[method]) == content(alone(loaded, method, batch))


def test_a_method_that_fails_together_tries_alone_and_costs_the_others_nothing(world, loader, monkeypatch):
    loaded = loader(settings(world).model)
    original = SharedPrefill._settle

    def fails_once_shared(self, prefill, cache):
        if prefill.method == METHODS[1]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, prefill, cache)

    monkeypatch.setattr(SharedPrefill, "_settle", fails_once_shared)
    batch = requests(world, loader)
    answers = list(JointAnswerer(loaded).answer(batch, METHODS))
    assert answers[-1][0] is METHODS[1]  # after all others
    assert content(answers[-1][1]) == content(alone(loaded, METHODS[1], batch))


def test_a_broken_sample_fails_under_every_method_and_no_other_does(world, loader):
    loaded = loader(settings(world).model)
    batch = requests(world, loader)

    def broken():
        raise OSError("image file is truncated")

    batch[1] = Request(batch[1].context, batch[1].generation, broken, batch[1].tag)
    for _, results in JointAnswerer(loaded).answer(batch, METHODS):
        assert [isinstance(answer, Failure) for _, answer in results] == [False, True, False, False]


@pytest.mark.parametrize("engine", ["generate", "fast"])
def test_cells_of_a_run_are_the_same_shared_or_not(world, loader, tmp_path, engine):
    rows = tuple(
        MethodSettings("none") if method is None else MethodSettings(method.name, method.params(), str(number))
        for number, method in enumerate(METHODS)
    )
    found = {}
    for share in (True, False):
        run_settings = settings(world, (), ("mini_a",), results=tmp_path / str(share), share=share)
        model = dataclasses.replace(run_settings.model, engine=engine)
        run_settings = dataclasses.replace(run_settings, methods=rows, model=model)
        assert run(run_settings, {}, loader) == OK
        journals = {
            path.name: [_untimed(line) for line in lines(path)]
            for path in sorted((run_settings.results / "journal").glob("*.jsonl"))
        }
        found[share] = journals, {name: timeless(cell) for name, cell in cells(run_settings).items()}
    assert json.dumps(found[True], sort_keys=True) == json.dumps(found[False], sort_keys=True)
    assert len(found[True][1]) == len(METHODS)
