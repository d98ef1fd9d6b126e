"""Ragged batches: the fast path against `generate()`, on a real shape and on the trained toy checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import torch
from torch import Tensor

from baselines import VTW, FastV
from plphp_core import PLPHP, prune
from plphp_core.bench.gpu_check.gpu_evidence import GpuCheck, NotAvailableError, gpu_part
from plphp_core.bench.gpu_check.gpu_setting import GpuSetting
from plphp_core.decoding.device import free_memory
from plphp_core.decoding.fast_generate import fast_generate
from plphp_core.families import get_family

METHODS = (None, PLPHP(), FastV(K=3, R=0.5), VTW(K=6))
NEW_TOKENS = 24  # answers of the toy tasks are shorter
SAMPLES = (("sd", 2), ("vst", 2), ("flickr30k", 2))  # two images, three or four, one: prompts of many lengths
TIE = 8  # roundings by which two logits may differ and still be a tie


@gpu_part("ragged", "Ragged batches", least=20, limit=90)
def ragged(setting: GpuSetting) -> Iterator[dict | GpuCheck]:
    """Answers of the real shape and of trained toy checkpoints to prompts of different lengths, padded on the left: the
    fast path against `generate()`. A tie: two logits of `generate()` that differ by less than eight roundings.
    """
    arguments = {"max_new_tokens": setting.sizes.steps, "do_sample": False, "pad_token_id": 0}
    for method in setting.methods():
        inputs = setting.ragged(setting.bench.vision_tokens[-1])
        yield from _compared(setting.model, inputs, arguments, method, f"{setting.shape.name}, random weights")
    for name in setting.sizes.toys:
        for dtype in (torch.float32, torch.bfloat16):
            model, inputs, arguments = _toy_batch(setting, name, dtype)
            for method in METHODS:
                yield from _compared(model, inputs, arguments, method, name)
            del model
            free_memory()


@torch.inference_mode()
def _compared(model, inputs: dict, arguments: dict, method, name: str) -> Iterator[dict | GpuCheck]:
    length = inputs["input_ids"].shape[1]
    with prune(model, method):
        expected = model.generate(**inputs, **arguments, return_dict_in_generate=True, output_logits=True)
    found = fast_generate(model, inputs, method, **arguments)
    same, ties, wrong = agreement(
        found.sequences[:, length:], expected.sequences[:, length:], expected.logits, model.dtype
    )
    dtype = str(model.dtype).removeprefix("torch.")
    yield {
        "checkpoint": name,
        "dtype": dtype,
        "method": str(method or "none"),
        "kernel": found.kernel,
        "padding": int((inputs["attention_mask"] == 0).sum(1).max()),
        "samples": len(inputs["input_ids"]),
        "same": same,
        "ties": ties,
        "wrong": wrong,
    }
    says = f"{same} answers are the same, {ties} differ from a tie on, {wrong} otherwise"
    yield GpuCheck(f"fast decodes as generate(), {name}, {dtype}, {method or 'none'!s}", wrong == 0, says)


def agreement(found: Tensor, expected: Tensor, logits: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[int, int, int]:
    """Samples with the same tokens; that differ first where `generate()` itself was undecided; and the others.

    Args:
        found, expected: new tokens, `(batch, tokens)`; the shorter one ended earlier.
        logits: `(batch, vocabulary)` per token of `expected`.
        dtype: the model's, which the logits were rounded to; `generate()` hands them over in fp32.
    """
    same = ties = wrong = 0
    shared = min(found.shape[1], expected.shape[1])
    for sample, (one, other) in enumerate(zip(found, expected, strict=True)):
        differs = (one[:shared] != other[:shared]).nonzero()
        if not len(differs):
            same += 1
            continue
        place = int(differs[0])
        row = logits[place][sample]
        gap = float(row[other[place]].float() - row[one[place]].float())
        # Both sums ran over the same numbers in another order: what they may differ by grows with the largest.
        if abs(gap) <= TIE * torch.finfo(dtype).eps * float(row.float().abs().max()):
            ties += 1
        else:
            wrong += 1
    return same, ties, wrong


def _toy_batch(setting: GpuSetting, name: str, dtype: torch.dtype):
    """A toy checkpoint, inputs of test samples of different lengths, and the arguments of their generation as in a run.

    Raises:
        NotAvailableError: what its processor needs is not installed, or the checkpoint is not there.
    """
    missing = [package for package in ("PIL", "torchvision") if find_spec(package) is None]
    if missing:
        raise NotAvailableError(f"toy checkpoints read images with {' and '.join(missing)}, not installed here")
    folder = setting.root / "tasks" / "toy" / "checkpoints" / name
    if not folder.is_dir():
        raise NotAvailableError(f"there is no {folder.relative_to(setting.root)} here")
    from plphp_core.evaluation.options import generation_arguments, pad_token
    from tasks.toy.prompts import context
    from tasks.toy.samples import make_samples
    from tasks.toy.scenes import draw

    family = get_family(name)
    model, processor = family.load(str(folder), dtype=dtype, device=setting.device)
    prompts, images = [], []
    for benchmark, count in SAMPLES:
        for sample in make_samples(benchmark, count, "gpu_check", "test"):
            drawn = family.images([draw(scene, seed) for seed, scene in enumerate(sample.scenes)])
            prompts.append(family.prompt(context(sample), len(drawn)))
            images.append(drawn)
    encoded = family.encode(processor, prompts, images)
    inputs = {
        key: value.to(setting.device, dtype if value.is_floating_point() else None) for key, value in encoded.items()
    }
    arguments = generation_arguments({"max_new_tokens": NEW_TOKENS}, family, processor)
    given = {key: value for key, value in arguments.items() if value is not None}
    return model, inputs, given | {"pad_token_id": pad_token(processor)}
