"""What each of several methods keeps of a few samples, by layer and head, and which tokens it merges others into."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from plphp_core.config.run_settings import Settings
from plphp_core.decoding.device import free_memory
from plphp_core.decoding.fast_generate import prefill
from plphp_core.evaluation.attention.attention_maps import opened, samples_chosen, save_images
from plphp_core.evaluation.attention.attention_runner import conditions
from plphp_core.evaluation.encoding import encode, prepare
from plphp_core.evaluation.loading import LoadedModel, LoadOnce
from plphp_core.evaluation.logs import logging_to
from plphp_core.evaluation.progress import Display
from plphp_core.evaluation.requests import Failure, Request
from plphp_core.pruning.hooks import prune
from plphp_core.pruning.method import Method
from plphp_core.pruning.prompt import questions, sample_keys
from plphp_core.records.atomic import write_atomically
from plphp_core.records.attention_result import MappedSample, ShownMethod, TokenMaps
from plphp_core.records.errors import UserError
from plphp_core.records.host import device_name
from plphp_core.vision.token_pictures import kept_flags, merged_flags

FOLDER = "token_maps"  # folder below results/<profile>

log = logging.getLogger("plphp.attention")


def map_tokens(
    settings: Settings, doc: int | None, count: int, loader: LoadOnce, display: Display | None = None
) -> Path:
    """Write `token_maps/<model>.<task>.json`, the tensors beside it as safetensors, and the images as PNG.

    Args:
        settings: with one benchmark and the methods.
        doc: number of the sample; None: the first `count` of the seeded random order.
    Returns:
        the .json file, which is written last.
    Raises:
        UserError: there is no such sample, it has no image, or no method can be followed on any.
    """
    display = display or Display()
    with logging_to(settings, display):
        return _write(settings, doc, count, loader, display)


def _write(settings: Settings, doc: int | None, count: int, loader: LoadOnce, display: Display) -> Path:
    cell, task = opened(settings)
    docs = samples_chosen(task, settings, doc, count)
    loaded = loader(settings.model)
    name = f"{settings.model.name}.{cell.facts.task}" + (f".doc={doc}" if doc is not None else "")
    path = settings.results / FOLDER / f"{name}.json"
    path.unlink(missing_ok=True)  # never an older reading's words beside newer tensors
    tensors: dict[str, Tensor] = {}
    samples = []
    for place, number in enumerate(docs):
        request, refused = task.requests[number], []
        if not request.visuals():
            raise UserError(f"sample {number} of {cell.facts.task} has no image; attention.doc=… chooses another")
        for at, row in enumerate(settings.methods):
            found, reason = _tried(loaded, request, row.built)
            tensors |= {f"{place}.{at}.{key}": one.contiguous() for key, one in found.items()}
            refused.append(reason)
            if reason:
                display.say(f"sample {number}: {row.row} has no map: {reason}")
        pictures = save_images(request, path.parent, f"{name}.{number}")
        samples.append(MappedSample(doc_id=number, question=request.context, images=pictures, refused=refused))
    if not tensors:
        raise UserError(f"no method has a map on {settings.model.name}: {samples[0].refused[0]}")
    write_atomically(path.with_suffix(".safetensors"), save(tensors))
    TokenMaps(
        **conditions(cell),
        hardware=device_name(settings.model.device),
        methods=[ShownMethod(**asdict(row)) for row in settings.methods],
        samples=samples,
        doc=doc,
        tensors=path.with_suffix(".safetensors").name,
    ).write(path)
    display.say(f"{settings.model.name}: {len(samples)} samples of {cell.facts.benchmark.label} written to {path}")
    return path


def _tried(loaded: LoadedModel, request: Request, method: Method | None) -> tuple[dict[str, Tensor], str]:
    """The tensors of `TokenMaps`, or why there are none: what one method cannot do costs the others nothing."""
    try:
        return token_choices(loaded, request, method), ""
    except Exception as error:
        failure = Failure.of(error)
        log.warning("%s under %r: %s", request, method, failure)
        free_memory()
        return {}, failure.message.splitlines()[0] if isinstance(error, ValueError) else str(failure)


@torch.inference_mode()
def token_choices(loaded: LoadedModel, request: Request, method: Method | None) -> dict[str, Tensor]:
    """What `method` keeps of one sample, which it meets as in a run: the tensors of `TokenMaps`, by name."""
    ready = prepare(loaded.family, 0, request, method)
    inputs: dict[str, Any] = encode(loaded, [ready])
    boxes = loaded.family.token_boxes(loaded.model, inputs, [ready.images])
    with (
        sample_keys([ready.key]),
        questions([request.context]),
        prune(loaded.model, method, record_attention=False) as trace,
    ):
        prefill(loaded.model, inputs)
    images = trace.images[0]
    tokens = torch.cat(images)
    return {
        "kept": kept_flags(trace, tokens).to(torch.uint8),
        "merged": merged_flags(trace, tokens).to(torch.uint8),
        "boxes": torch.cat([one.cpu() for one in boxes]),
        "image_of": torch.cat([torch.full((len(one),), j, dtype=torch.int32) for j, one in enumerate(images)]),
    }
