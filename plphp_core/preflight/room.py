"""Will it fit? Memory computed from shapes before anything is loaded, for the longest prompt; and disk."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from plphp_core.evaluation.encoding import prepare
from plphp_core.evaluation.requests import Request
from plphp_core.families.base import IMAGE_MARK
from plphp_core.preflight.checkpoint import weights
from plphp_core.preflight.checks import CheckFailed, Findings, PlannedRun, check, failing, gib
from plphp_core.preflight.machine import device
from plphp_core.preflight.prompts import drawn, image_tokens
from plphp_core.records.host import available_ram

ASSUMED_IMAGES = 16  # where data could not be read: the most that lmms-eval shows of a sample, with a page of text
ASSUMED = Request(IMAGE_MARK * ASSUMED_IMAGES + "word " * 500, {}, lambda: [drawn(1024, 1024)] * ASSUMED_IMAGES)
CUDA_ITSELF = 0.75 * 2**30  # context, kernels, cuBLAS workspaces
ROUNDING = 1.1  # of what is allocated and freed again: allocators round up and leave gaps
METEOR_HEAP = 2 * 2**30  # the most that its process may take, see tasks/captions/meteor_process.py
PER_ANSWER = 4096  # bytes on disk, more than a journal line and a result's share take
SMALLER = "a smaller batch_size=…, dtype=bfloat16 or a larger device"
LEAST = 100 * 2**20  # bytes on disk of logs, manifests, tables


def _size(run: PlannedRun, request: Request) -> PromptSize:
    """Of one request, encoded as a run would."""
    ready = prepare(run.family, 0, request)
    inputs = run.family.encode(run.processor, [ready.prompt], [ready.images])
    vision, pixels = run.config.vision_config, inputs.get("pixel_values")
    patch = (getattr(vision, "num_channels", None) or 3) * vision.patch_size**2
    patch *= getattr(vision, "temporal_patch_size", None) or 1
    patches = 0 if pixels is None else pixels.numel() // patch
    new_tokens = request.generation.get("max_new_tokens", run.family.max_new_tokens)
    return PromptSize(inputs["input_ids"].shape[1], new_tokens, patches)


class PromptSize(NamedTuple):
    """The largest prompt: tokens with images, tokens of the answer, patches of the vision tower."""

    tokens: int
    new_tokens: int
    patches: int


@check("Memory", needs=[weights, image_tokens, device])
def memory(run: PlannedRun) -> Findings:
    """For a batch of the longest prompts of the samples looked at, whose beginning every layer's cache must keep."""
    sizes = [_size(run, request) for one in run.data for request in one.requests] or [_size(run, ASSUMED)]
    largest = PromptSize(*map(max, zip(*sizes, strict=True)))
    window = getattr(run.family.decoder(run.model).config, "sliding_window", None)
    if window and largest.tokens >= window:
        yield CheckFailed(
            f"sliding_window {window:,} is too short for prompts of {largest.tokens:,} tokens: a layer would drop "
            "their beginning, and cannot be pruned; set it to null in text_config of config.json"
        )
    parts, where = estimate(run, largest), torch.device(run.settings.model.device)
    prompts = f"{largest.tokens:,} tokens and {largest.new_tokens:,} new ones"
    prompts += "" if run.data else f" (assumed: {ASSUMED_IMAGES} images)"
    if where.type == "cuda":
        parts["CUDA itself"] = CUDA_ITSELF
        yield _fits(parts, torch.cuda.mem_get_info(where)[0], f"on the GPU for {prompts}", SMALLER)
        parts = {"weights on their way to the GPU": parts["weights"]}
    if "meteor" in run.metrics:
        parts["METEOR"] = METEOR_HEAP
    yield _fits(parts, available_ram(), f"of RAM for {prompts}", SMALLER)


def estimate(run: PlannedRun, largest: PromptSize) -> dict[str, float]:
    """Bytes by part, for prompts of this size in a batch of the configured size; nothing is pruned.

    cache: keys and values of all layers, prompt and answer.
    decoder: at the peak of one layer's prefill, in the feed-forward block: the residual stream, its copies and three
    tensors as wide as the block; and the fp32 copy of one layer's keys with the attention of the last row.
    vision: the same for the tower, which transformers lets keep every layer's output.
    """
    batch, size = run.settings.batch_size, run.dtype.itemsize
    text, vision = run.config.get_text_config(decoder=True), run.config.vision_config
    heads, kv_heads, layers = text.num_attention_heads, text.num_key_value_heads, text.num_hidden_layers
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    tokens, answer = batch * largest.tokens, batch * largest.new_tokens
    scores = kv_heads * head_dim * 4 + 2 * heads * 4
    hidden = getattr(vision, "embed_dim", None) or vision.hidden_size  # families name the tower's sizes differently
    wide = getattr(vision, "intermediate_size", None) or int(hidden * getattr(vision, "mlp_ratio", 4))
    depth = getattr(vision, "depth", None) or vision.num_hidden_layers
    return {
        "weights": sum(torch.Size(shape).numel() for shape in run.checkpoint.shapes.values()) * size,
        "cache": 2 * layers * kv_heads * head_dim * (tokens + answer) * size,
        "decoder": ROUNDING * tokens * ((4 * text.hidden_size + 3 * text.intermediate_size) * size + scores),
        "vision": ROUNDING * batch * largest.patches * ((depth + 4) * hidden + 2 * wide) * size,
    }


def _fits(parts: Mapping[str, float], free: float, where: str, advice: str) -> str | CheckFailed:
    needed = sum(parts.values())
    sentence = f"about {gib(needed)} needed, {gib(free)} free {where}: "
    sentence += ", ".join(f"{name} {gib(size)}" for name, size in parts.items() if size)
    return sentence if needed <= free else CheckFailed(f"{sentence}; {advice}")


@check("Disk")
def disk(run: PlannedRun) -> Findings:
    """The results folder can be written, and there is room for results and for what is still to be downloaded."""
    from huggingface_hub.constants import HF_HUB_CACHE

    settings, folder = run.settings, _existing(run.settings.results)
    with (
        failing(f"{settings.results} cannot be written", "choose another folder with results=…"),
        tempfile.TemporaryFile(dir=folder) as file,
    ):
        file.write(bytes(2**16))
        file.flush()
    answers = len(settings.methods) * sum(min(one.samples or 0, settings.limit or one.samples or 0) for one in run.data)
    written = {"results": LEAST + answers * PER_ANSWER}
    downloads = {"weights": sum(run.checkpoint.to_download.values()), "data": sum(one.to_download for one in run.data)}
    cache = _existing(Path(HF_HUB_CACHE))
    advice = "free some room, or results=…, HF_HOME=…"
    if folder.stat().st_dev == cache.stat().st_dev:
        written |= downloads
    else:
        yield _fits(downloads, shutil.disk_usage(cache).free, f"below {cache}", advice)
    yield _fits(written, shutil.disk_usage(folder).free, f"below {folder}", advice)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())
