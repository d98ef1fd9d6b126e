"""Real answers of the trained toy checkpoints: ragged batches of the fast path, and batches that do not fit."""

from __future__ import annotations

import functools
import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import Tensor

from baselines import VTW, FastV
from plphp_core import PLPHP, prune
from plphp_core.bench.gpu_check.gpu_evidence import GpuCheck, NotAvailableError, gpu_part
from plphp_core.bench.gpu_check.gpu_setting import GpuSetting, label
from plphp_core.decoding.device import free_memory
from plphp_core.decoding.fast_generate import fast_generate
from plphp_core.families import get_family

METHODS = (None, PLPHP(), FastV(K=3, R=0.5), VTW(K=4))
NEW = 24  # tokens of an answer; those of the toy tasks are shorter
SAMPLES = (("sd", 2), ("vst", 2), ("flickr30k", 2))  # of two images, of three or four, of one: prompts of many lengths
TIE = 8  # roundings by which two logits may differ and still be a tie
IMAGES = 16  # of a prompt of the batch that does not fit
LEAST_GAP = 64 * 2**20  # bytes between one sample and the batch, many times what the allocator takes at once


@gpu_part("ragged", "Ragged batches", least=20, limit=90)
def ragged(setting: GpuSetting) -> Iterator[dict | GpuCheck]:
    """Answers of the real shape and of trained toy checkpoints to prompts of different lengths, padded on the left: the
    fast path against `generate()`. A tie: two logits of `generate()` that differ by less than eight roundings.
    """
    steps = setting.sizes.steps
    arguments = {"max_new_tokens": steps, "do_sample": False, "pad_token_id": 0}
    for method in setting.methods():
        inputs = setting.ragged(setting.sizes.vision[-1])
        yield from _compared(setting.model, inputs, arguments, method, f"{setting.shape.name}, random weights")
    for name in setting.sizes.toys:
        for dtype in (torch.float32, torch.bfloat16):
            loaded = _loaded(setting, name, dtype)
            inputs, arguments = _batch(loaded)
            for method in METHODS:
                yield from _compared(loaded.model, inputs, arguments, method, name)
            del loaded
            free_memory()


@torch.inference_mode()
def _compared(model, inputs: dict, arguments: dict, method, name: str) -> Iterator[dict | GpuCheck]:
    length = inputs["input_ids"].shape[1]
    with prune(model, method):
        expected = model.generate(**inputs, **arguments, return_dict_in_generate=True, output_logits=True)
    found = fast_generate(model, inputs, method, **arguments)
    same, ties, wrong = agreement(found.sequences[:, length:], expected.sequences[:, length:], expected.logits)
    dtype = str(model.dtype).removeprefix("torch.")
    yield {
        "checkpoint": name,
        "dtype": dtype,
        "method": label(method),
        "kernel": found.kernel,
        "padding": int((inputs["attention_mask"] == 0).sum(1).max()),
        "samples": len(inputs["input_ids"]),
        "same": same,
        "ties": ties,
        "wrong": wrong,
    }
    says = f"{same} answers are the same, {ties} differ from a tie on, {wrong} otherwise"
    yield GpuCheck(f"fast decodes as generate(), {name}, {dtype}, {label(method)}", wrong == 0, says)


def agreement(found: Tensor, expected: Tensor, logits: tuple[Tensor, ...]) -> tuple[int, int, int]:
    """Samples with the same tokens; that differ first where `generate()` itself was undecided; and the others.

    Args:
        found, expected: new tokens, `(batch, tokens)`; the shorter one ended earlier.
        logits: `(batch, vocabulary)` per token of `expected`, in the model's dtype.
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
        if abs(gap) <= TIE * torch.finfo(row.dtype).eps * float(row.float().abs().max()):
            ties += 1
        else:
            wrong += 1
    return same, ties, wrong


def _loaded(setting: GpuSetting, name: str, dtype: torch.dtype):
    """A toy checkpoint as a run holds it.

    Raises:
        NotAvailableError: what its processor needs is not installed, or the checkpoint is not there.
    """
    missing = [package for package in ("PIL", "torchvision") if find_spec(package) is None]
    if missing:
        raise NotAvailableError(f"toy checkpoints read images with {' and '.join(missing)}, not installed here")
    folder = setting.root / "tasks" / "toy" / "checkpoints" / name
    if not folder.is_dir():
        raise NotAvailableError(f"there is no {folder.relative_to(setting.root)} here")
    from plphp_core.evaluation.loading import LoadedModel

    family = get_family(name)
    model, processor = family.load(str(folder), dtype=dtype, device=setting.device)
    return LoadedModel(family, model, processor, torch.device(setting.device), dtype)


def _batch(loaded) -> tuple[dict, dict]:
    """Inputs of test samples of different lengths, and the arguments of their generation as a run makes them."""
    from plphp_core.evaluation.options import generation_arguments, pad_token
    from tasks.toy.prompts import context
    from tasks.toy.samples import make_samples
    from tasks.toy.scenes import draw

    prompts, images = [], []
    for benchmark, count in SAMPLES:
        for sample in make_samples(benchmark, count, "gpu_check", "test"):
            drawn = loaded.family.images([draw(scene, seed) for seed, scene in enumerate(sample.scenes)])
            prompts.append(loaded.family.prompt(context(sample), len(drawn)))
            images.append(drawn)
    encoded = loaded.family.encode(loaded.processor, prompts, images)
    inputs = {
        key: value.to(loaded.device, loaded.dtype if value.is_floating_point() else None)
        for key, value in encoded.items()
    }
    arguments = generation_arguments({"max_new_tokens": NEW}, loaded.family, loaded.processor)
    given = {key: value for key, value in arguments.items() if value is not None}
    return inputs, given | {"pad_token_id": pad_token(loaded.processor)}


@gpu_part("out_of_memory", "Out of memory", least=15, limit=60)
def out_of_memory(setting: GpuSetting) -> Iterator[dict | GpuCheck]:
    """A batch of a run that does not fit: answered sample by sample, as samples asked alone."""
    loaded = _loaded(setting, setting.sizes.toys[0], torch.bfloat16)
    from plphp_core.evaluation.generation import Answerer
    from plphp_core.evaluation.requests import Failure, Request
    from tasks.toy.scenes import draw, random_scene

    def request(number: int) -> Request:
        chance = random.Random(number)
        pictures = [draw(random_scene(chance, 2), image) for image in range(IMAGES)]
        return Request(f"{'<image>' * IMAGES}\nWhat is there?", {"max_new_tokens": 4}, lambda: pictures, number)

    answerer = Answerer(loaded, PLPHP())
    crowd = setting.sizes.crowd
    while True:
        requests = [request(number) for number in range(crowd)]
        alone = [answerer.answer([one])[0][1] for one in requests]
        if not setting.cuda:
            limited, how = _refusing(loaded.model), "raised by a stand-in where the batch is larger than one"
            break
        free_memory()
        one, whole = (_reserved(lambda batch=batch: answerer.answer(batch)) for batch in (requests[:1], requests))
        if whole - one >= LEAST_GAP:
            limit = (one + whole) // 2
            limited, how = _limited(limit), f"the process may have {limit / 2**20:.0f} MiB"
            break
        if crowd >= 16 * setting.sizes.crowd:
            raise NotAvailableError(
                f"a batch of {crowd} needs only {(whole - one) / 2**20:.0f} MiB more than one sample"
            )
        crowd *= 4
    with limited, _warnings("plphp.generation") as said:
        results = [answer for _, answer in answerer.answer(requests)]
    failed = [answer for answer in results if isinstance(answer, Failure)]
    ran_out = sum("OutOfMemoryError" in line for line in said)
    yield {
        "provoked": how,
        "batch": crowd,
        "ran_out": ran_out,
        "answered": len(results) - len(failed),
        "batch_size": max((answer.batch_size for answer in results if not isinstance(answer, Failure)), default=None),
    }
    yield GpuCheck("the batch ran out of memory", ran_out > 0, f"warnings: {said}")
    yield GpuCheck("every sample was answered all the same", not failed, "; ".join(map(str, failed[:3])))
    texts = [(str(a), str(b)) for a, b in zip(map(_text, results), map(_text, alone), strict=True) if a != b]
    yield GpuCheck(
        "answers are those of samples asked alone", not texts, f"{len(texts)} differ, for example {texts[:1]}"
    )


def _text(answer) -> str:
    return getattr(answer, "text", str(answer))


def _reserved(call) -> int:
    """The most memory that the allocator holds during a call, the models included."""
    free_memory()
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_reserved()


@contextmanager
def _limited(nbytes: int) -> Iterator[None]:
    free_memory()
    torch.cuda.set_per_process_memory_fraction(nbytes / torch.cuda.mem_get_info()[1])
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@contextmanager
def _refusing(model) -> Iterator[None]:
    """On a CPU nothing limits the memory of one process: as CUDA would answer."""

    @functools.wraps(model.forward)  # `generate()` reads its signature
    def forward(*args, **kwargs):
        ids = kwargs.get("input_ids", args[0] if args else None)
        if ids is not None and len(ids) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory (a stand-in)")
        return original(*args, **kwargs)

    original, model.forward = model.forward, forward
    try:
        yield
    finally:
        model.forward = original


class _Collector(logging.Handler):
    """Adds the text of warnings to a list."""

    def __init__(self, said: list[str]):
        super().__init__(logging.WARNING)
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def _warnings(name: str) -> Iterator[list[str]]:
    """What a logger warns of."""
    said: list[str] = []
    handler = _Collector(said)
    logger = logging.getLogger(name)
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
