"""Two short samples on the real weights: off means off, all numbers are finite, and the cache shrinks."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import torch

from plphp_core import PLPHP, prune
from plphp_core.decoding.device import free_memory
from plphp_core.decoding.measure import StepClock
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.loading import LoadedModel, load
from plphp_core.evaluation.options import generation_arguments, pad_token
from plphp_core.evaluation.requests import Request
from plphp_core.preflight.checks import CheckFailed, Findings, PlannedRun, check, failing, gib, reason
from plphp_core.preflight.machine import device
from plphp_core.preflight.prompts import QUESTION, drawn
from plphp_core.preflight.room import memory

NEW_TOKENS = 8
AGAIN = "copy the weights again: they are damaged; or float16 is too narrow for them: dtype=bfloat16"
NO_NUMBERS = "results of pruned runs would mean nothing: try attn_implementation=sdpa or dtype=float32, and report it"


@check("Answers", needs=[device, memory])
def answers(run: PlannedRun) -> Findings:
    if not run.weights:
        yield "not tried: weights=false"
        return
    settings = run.settings.model
    if run.checkpoint.commit is not None:  # the very commit that was looked at
        settings = replace(settings, revision=run.checkpoint.commit)
    with failing("the weights cannot be loaded", "see the checks above"):
        loaded = load(settings)
    try:
        bad = [name for name, one in loaded.model.named_parameters() if not bool(one.isfinite().all())]
        if bad:
            yield CheckFailed(f"weights with NaN or infinity: {len(bad)}, for example {bad[0]}; {AGAIN}")
        else:
            with torch.inference_mode():
                yield from (_answered(loaded, name, request) for name, request in _samples(run))
    finally:
        del loaded
        free_memory()


def _samples(run: PlannedRun) -> list[tuple[str, Request]]:
    """One sample with an image and one with several, of the benchmarks where they could be read; else drawn."""
    known = [(f"{one.benchmark.label} sample", request) for one in run.data for request in one.requests]
    images = [drawn(320, 240), drawn(240, 320)]
    known += [("one drawn image", Request(QUESTION, {}, lambda: images[:1]))]
    known += [("two drawn images", Request(QUESTION, {}, lambda: images))]
    shown = [(pair, len(pair[1].visuals() or ())) for pair in known]
    return [next(pair for pair, images in shown if images == 1), next(pair for pair, images in shown if images > 1)]


def _answered(loaded: LoadedModel, name: str, request: Request) -> str | CheckFailed:
    """The same sample without any pruning, with pruning off in two ways, and with PLPHP."""
    try:
        inputs, _ = JointAnswerer(loaded).inputs(request)
        plain, _, clock = _generate(loaded, inputs, request)
        off, _, _ = _generate(loaded, inputs, request, prune(loaded.model, None))
        everything, _, _ = _generate(loaded, inputs, request, prune(loaded.model, PLPHP(r=1.0, delta_r=0.0)))
        pruned, trace, _ = _generate(loaded, inputs, request, prune(loaded.model, PLPHP()))
    except ValueError as error:  # what `prune` and `generate` refuse
        return CheckFailed(f"{name}: a run would refuse it too: {reason(error)}")
    for step in (*plain.logits, *pruned.logits):
        if not bool(step.isfinite().all()) or float(step.max()) == float(step.min()):
            return CheckFailed(f"{name}: the logits of a step are not finite, or all the same; {AGAIN}")
    for what, other in (("prune(model, None)", off), ("PLPHP that keeps everything", everything)):
        same = all(torch.equal(*pair) for pair in zip(plain.logits, other.logits, strict=True))
        if not torch.equal(plain.sequences, other.sequences) or not same:
            return CheckFailed(f"{name}: {what} changes the answer; {NO_NUMBERS}")
    held, full = sum(trace.kv_bytes), sum(trace.kv_bytes_full)
    if held >= full:
        return CheckFailed(f"{name}: PLPHP with the paper's defaults leaves the cache at {gib(full)}")
    step = f", {clock.decode_ms / clock.decode_steps:.0f} ms per token" if clock.decode_steps else ""
    return (
        f"{name}: {inputs['input_ids'].shape[1]:,} tokens, off is off bit for bit, PLPHP's cache is "
        f"{held / full:.0%} of {gib(full)}; prefill {clock.prefill_ms / 1e3:.2f} s{step}"
    )


def _generate(loaded: LoadedModel, inputs: dict, request: Request, pruned=None):
    """A short greedy answer with its logits, its trace and times. Args: pruned: a `prune` block, if any."""
    arguments = generation_arguments(request.generation, loaded.family, loaded.processor)
    arguments |= {"max_new_tokens": NEW_TOKENS, "do_sample": False, "num_beams": 1}
    clock = StepClock()
    with pruned or nullcontext() as trace:
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
