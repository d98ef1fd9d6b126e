"""Two short samples on the real weights: off means off, nothing is NaN, nothing is eager, and the cache shrinks."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch

from plphp_core import PLPHP, prune
from plphp_core.decoding.device import free_memory
from plphp_core.decoding.measure import StepClock
from plphp_core.evaluation.answering import Answerer, Request
from plphp_core.evaluation.generation import generation_arguments, pad_token
from plphp_core.evaluation.loading import LoadedModel, load
from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Finding, check, failed, ok, reason, refused, skipped, warning
from plphp_core.preflight.device import attention, device
from plphp_core.preflight.drawing import drawn
from plphp_core.preflight.generation import generation
from plphp_core.preflight.memory import memory
from plphp_core.preflight.processor import QUESTION
from plphp_core.preflight.tokens import end_tokens
from plphp_core.preflight.units import gib, plural
from plphp_core.pruning import hf
from plphp_core.records.errors import UserError

NEW_TOKENS = 8


@check("Answers", needs=[device, attention, end_tokens, generation, memory])
def answers(case: Case) -> Iterator[Finding]:
    if not case.weights:
        yield skipped("weights=false")
        return
    settings = case.settings.model
    if case.checkpoint.commit is not None:  # the very commit that was looked at
        settings = dataclasses.replace(settings, revision=case.checkpoint.commit)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    try:
        loaded = load(settings)
    except UserError as error:
        yield refused(error, "see the message, and the checks above")
        return
    seconds = time.perf_counter() - began
    try:
        problems = list(_unsound(loaded, settings.attn_implementation))
        yield from problems
        if problems:
            return
        yield ok(f"loaded in {seconds:.1f} s; every weight is finite; no part is set to eager attention")
        with torch.inference_mode():
            for name, request in _samples(case):
                try:
                    yield from _sample(loaded, name, request)
                except ValueError as error:  # what `prune` and `generate` refuse
                    yield failed(f"{name}: {reason(error)}", "a run would refuse it too: see the message")
        if loaded.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(loaded.device)
            yield ok(f"at most {gib(peak)} of GPU memory were allocated for these samples")
    finally:
        del loaded
        free_memory()


# --- the weights ---------------------------------------------------------------------------------------------------


def _unsound(loaded: LoadedModel, attention: str) -> Iterator[Finding]:
    parameters = dict(loaded.model.named_parameters())
    bad = [name for name, tensor in parameters.items() if not bool(tensor.isfinite().all())]
    if bad:
        narrow = "; or float16 is too narrow for them: dtype=bfloat16" if loaded.dtype == torch.float16 else ""
        yield failed(
            f"{plural(len(bad), 'weight')} with NaN or infinity, for example {bad[0]}",
            f"copy the weights again, the file is damaged{narrow}",
        )
    empty = [name for name, tensor in parameters.items() if "layers." in name and tensor.ndim > 1 and not tensor.any()]
    if empty:
        yield failed(
            f"{plural(len(empty), 'tensor')} of nothing but zeros, for example {empty[0]}",
            "copy the weights again: that part of the file was never written",
        )
    eager = sorted({type(module).__name__ for module in loaded.model.modules() if _wants_eager(module)})
    if eager:
        yield failed(f"{', '.join(eager[:3])} would use eager attention", "attn_implementation=sdpa")
    found = hf.implementation(loaded.family.decoder(loaded.model).config)
    if found != attention and not eager:
        yield failed(
            f"the decoder uses {found} attention, not {attention}",
            "delete _attn_implementation from config.json, at the top and in text_config",
        )


def _wants_eager(module) -> bool:
    config = getattr(module, "config", None)
    return config is not None and hf.implementation(config) == "eager"


# --- the samples ---------------------------------------------------------------------------------------------------


def _samples(case: Case) -> list[tuple[str, Request]]:
    """One sample with an image and one with several, of the benchmarks where they could be read; else drawn."""
    one = next((task.request for task in case.tasks if len(task.request.visuals()) == 1), None)
    more = next((task.request for task in case.tasks if len(task.request.visuals()) > 1), None)
    pictures = [drawn(320, 240), drawn(240, 320)]
    return [
        (one.tag, one) if one else ("one drawn image", Request(QUESTION, {}, lambda: pictures[:1])),
        (more.tag, more) if more else ("two drawn images", Request(QUESTION, {}, lambda: pictures)),
    ]


def _sample(loaded: LoadedModel, name: str, request: Request) -> Iterator[Finding]:
    inputs = Answerer(loaded, None).inputs(request)
    with _eager_calls(loaded.model) as eager:
        plain, _, clock = _generate(loaded, inputs, request, "without")
        off, _, _ = _generate(loaded, inputs, request, None)
        everything, _, _ = _generate(loaded, inputs, request, PLPHP(r=1.0, delta_r=0.0))
        pruned, trace, _ = _generate(loaded, inputs, request, PLPHP())
    if not all(bool(step.isfinite().all()) for one in (plain, pruned) for step in one.logits):
        yield failed(f"{name}: the logits are not finite", _overflow(loaded))
        return
    if not all(0 < _range(step) < math.inf for one in (plain, pruned) for step in one.logits):
        yield failed(
            f"{name}: the logits of a step are all the same or infinitely far apart",
            _overflow(loaded),
        )
        return
    broken = False
    for what, other in (("prune(model, None)", off), ("PLPHP that keeps everything", everything)):
        tokens, size = _difference(plain, other)
        if tokens or size:
            broken = True
            change = "the tokens" if tokens else f"the logits by up to {size:.2g} of their range"
            if not math.isfinite(size):
                change = "the logits to NaN or infinity"
            yield failed(
                f"{name}: {what} changes {change}",
                "numbers of pruned runs would mean nothing: try attn_implementation=sdpa, dtype=float32 or other "
                "versions of torch and transformers, and report it",
            )
    if eager:
        broken = True
        yield failed(f"{name}: eager attention ran in {', '.join(sorted(eager))}", "attn_implementation=sdpa")
    kept, full = sum(trace.kv_bytes), sum(trace.kv_bytes_full)
    if not kept < full:
        broken = True
        yield failed(
            f"{name}: PLPHP with the paper's defaults leaves the cache at {gib(full)}",
            "does the prompt hold images, and the decoder more than three layers?",
        )
    if broken:
        return
    new = plain.sequences[0, inputs["input_ids"].shape[1] :]
    step = f"{clock.decode_ms / clock.decode_steps:.0f} ms per token" if clock.decode_steps else "one token"
    yield ok(
        f"{name}: {inputs['input_ids'].shape[1]:,} tokens, off is off bit for bit, finite, PLPHP's cache "
        f"{gib(kept)} of {gib(full)}; prefill {clock.prefill_ms / 1e3:.2f} s, {step}"
    )
    text = loaded.family.decode(loaded.processor, new.cpu(), request.generation)
    real = request.tag is not None  # of drawn stripes any answer is as good as another
    if real and len(new) == NEW_TOKENS and len(set(new.tolist())) == 1:
        yield warning(
            f"{name}: the answer repeats one token: {text[:40]!r}", "a sign of overflow or of a damaged checkpoint"
        )


def _generate(loaded: LoadedModel, inputs: dict, request: Request, method):
    """A short greedy answer with its logits. Args: method: "without" means without any `prune` block."""
    arguments = generation_arguments(request.generation, loaded.family, loaded.processor)
    arguments |= {"max_new_tokens": NEW_TOKENS, "do_sample": False, "num_beams": 1}
    clock = StepClock()
    with nullcontext() if method == "without" else prune(loaded.model, method) as trace:
        out = loaded.model.generate(
            **inputs,
            **arguments,
            use_cache=True,  # as a run does
            pad_token_id=pad_token(loaded.processor),
            return_dict_in_generate=True,
            output_logits=True,
            stopping_criteria=[clock],
        )
    return out, trace, clock


def _difference(plain, other) -> tuple[bool, float]:
    """Whether the tokens of two answers differ, and by how much their logits do at most, as a share of their range."""
    if not torch.equal(plain.sequences, other.sequences):
        return True, 1.0
    pairs = [(left.float(), right.float()) for left, right in zip(plain.logits, other.logits, strict=True)]
    return False, max(_apart(left, right) for left, right in pairs)


def _apart(left: torch.Tensor, right: torch.Tensor) -> float:
    return 0.0 if torch.equal(left, right) else float((left - right).abs().max()) / _range(left)


def _range(logits: torch.Tensor) -> float:
    return float(logits.double().max() - logits.double().min())


def _overflow(loaded: LoadedModel) -> str:
    """Float32 is as wide as bfloat16, so only float16 has a wider one to go to."""
    name = str(loaded.dtype).removeprefix("torch.")
    wider = "dtype=bfloat16, or copy" if loaded.dtype == torch.float16 else "copy"
    return f"the logits overflow: {name} or damaged weights; {wider} the weights again"


# --- eager ---------------------------------------------------------------------------------------------------------


@contextmanager
def _eager_calls(model) -> Iterator[set[str]]:
    """Names of modules that compute attention eagerly within the block.

    Two nets: the eager function of every modelling file is watched, and so is what attention modules return.
    """
    seen: set[str] = set()
    files = hf.modelling_files(model)
    patches = [
        mock.patch.object(file, "eager_attention_forward", _watched(file.eager_attention_forward, file.__name__, seen))
        for file in files
        if hasattr(file, "eager_attention_forward")
    ]
    handles = [
        module.register_forward_hook(_returned(name, seen))
        for name, module in model.named_modules()
        if "Attention" in type(module).__name__
    ]
    try:
        for patch in patches:
            patch.start()
        yield seen
    finally:
        for patch in patches:
            patch.stop()
        for handle in handles:
            handle.remove()


def _watched(function, file: str, seen: set[str]):
    def eager(module, *args, **kwargs):
        seen.add(f"{type(module).__name__} ({file.rpartition('.')[2]})")
        return function(module, *args, **kwargs)

    return eager


def _returned(name: str, seen: set[str]):
    def after(module, args, output):
        rest = output[1:] if isinstance(output, tuple) else ()
        if any(isinstance(one, torch.Tensor) and one.ndim == 4 and 1 < one.shape[-2] <= one.shape[-1] for one in rest):
            seen.add(name)

    return after
