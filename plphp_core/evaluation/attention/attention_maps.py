"""One sample in full: the last prompt token's attention in every layer and head, and what PLPHP keeps of it."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from plphp_core.config.run_settings import Settings
from plphp_core.evaluation.attention.attention_runner import FOLDER, conditions
from plphp_core.evaluation.attention.reading import places, prefill_to_look_at
from plphp_core.evaluation.cell_spec import CellSpec
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.lmms_tasks import OpenTask, Suite
from plphp_core.evaluation.loading import LoadOnce
from plphp_core.evaluation.logs import logging_to
from plphp_core.evaluation.progress import Display
from plphp_core.evaluation.requests import Request
from plphp_core.records.atomic import write_atomically
from plphp_core.records.attention_result import AttentionMap, ShownMethod
from plphp_core.records.errors import UserError
from plphp_core.records.host import device_name
from plphp_core.records.revisions import Fingerprints, checkpoint_identity
from plphp_core.vision.images import as_rgb
from plphp_core.vision.token_pictures import kept_flags


def look(settings: Settings, doc: int | None, loader: LoadOnce, display: Display | None = None) -> Path:
    """Write `attention/<model>.<task>.doc=<n>.json`, the tensors beside it as safetensors, and the images as PNG.

    Args:
        settings: with one benchmark and the method whose choice is shown.
        doc: number of the sample; None: the first of the seeded random order.
    Returns:
        the .json file, which is written last.
    Raises:
        UserError: there is no such sample, it has no image, or the method withdraws tokens.
    """
    display = display or Display()
    with logging_to(settings, display):
        return _write(settings, doc, loader, display)


def _write(settings: Settings, doc: int | None, loader: LoadOnce, display: Display) -> Path:
    cell, task = opened(settings)
    (chosen,), row, name = samples_chosen(task, settings, doc, 1), cell.method, cell.facts.task
    if row.built is None:
        raise UserError("method=none keeps everything; name a method whose choice is to be seen, such as method=plphp")
    request, reader = task.requests[chosen], JointAnswerer(loader(settings.model))
    reader.check(row.built)
    try:
        tensors, facts_of_sample = _look(reader, request, row.built)
    except ValueError as error:
        raise UserError(f"sample {chosen} of {name}: {error}") from error
    path = settings.results / FOLDER / f"{settings.model.name}.{name}.doc={chosen}.json"
    path.unlink(missing_ok=True)  # never an older look's words beside newer tensors
    pictures = save_images(request, path.parent, path.stem)
    write_atomically(path.with_suffix(".safetensors"), save(tensors))
    AttentionMap(
        **conditions(cell),
        hardware=device_name(settings.model.device),
        method=ShownMethod(**asdict(row)),
        asked_for=doc is not None,
        doc_id=chosen,
        question=request.context,
        images=pictures,
        tensors=path.with_suffix(".safetensors").name,
        **facts_of_sample,
    ).write(path)
    display.say(f"{settings.model.name}: sample {chosen} of {cell.facts.benchmark.label} written to {path}")
    return path


def opened(settings: Settings) -> tuple[CellSpec, OpenTask]:
    """The one benchmark of the settings, under their first method. Raises UserError where there are several."""
    if len(settings.benchmarks) != 1:
        names = ", ".join(benchmark.label for benchmark in settings.benchmarks)
        raise UserError(f"one sample of one benchmark can be looked at, not of {names}; choose one, such as tasks=[sd]")
    fingerprints = Fingerprints(settings.results / "fingerprints.json")
    weights = checkpoint_identity(settings.model.checkpoint, settings.model.revision, fingerprints)
    suite = Suite(settings, fingerprints)
    facts = suite.facts(settings.benchmarks[0])
    return CellSpec.of(settings, settings.methods[0], facts, weights), suite.open(facts)


def samples_chosen(task: OpenTask, settings: Settings, doc: int | None, count: int) -> list[int]:
    """The sample `doc`, or the first `count` of the seeded random order. Raises UserError: there is no such sample."""
    if doc is None:
        return task.chosen(count, settings.limit_seed)
    if isinstance(doc, bool) or doc not in task.requests:
        raise UserError(f"attention.doc = {doc}, but {task.facts.task} has the samples 0 to {max(task.requests)}")
    return [doc]


def save_images(request: Request, folder: Path, stem: str) -> list[str]:
    """The sample's images as PNG files; returns their names."""
    names = []
    for number, image in enumerate(request.visuals() or []):
        buffer = io.BytesIO()
        as_rgb(image)[0].save(buffer, format="PNG")
        names.append(f"{stem}.image{number}.png")
        write_atomically(folder / names[-1], buffer.getvalue())
    return names


@torch.inference_mode()
def _look(reader: JointAnswerer, request, method) -> tuple[dict[str, Tensor], dict]:
    """Tensors and facts of one sample.

    `rows` (layers, query_heads, vision tokens) fp32: attention of the last prompt token. `kept` (layers, kv_heads,
    vision tokens) uint8. `boxes` (vision tokens, 4): where each lies on its image. `image_of` (vision tokens).
    """
    inputs, shown = reader.inputs(request)
    shared = prefill_to_look_at(reader.loaded, inputs)
    images = shared.prompt.images[0]
    positions = torch.cat(images)
    rows = [shared.views[layer].last_row[0].cpu()[:, positions] for layer in sorted(shared.views)]
    trace = shared.prefilled(method).trace
    tensors = {
        "rows": torch.stack(rows).contiguous(),
        "kept": kept_flags(trace, positions).to(torch.uint8).contiguous(),
        "boxes": torch.cat(places(reader.loaded, inputs, shown)).contiguous(),
        "image_of": torch.cat([torch.full((len(one),), j) for j, one in enumerate(images)]).int().contiguous(),
    }
    facts = {
        "prompt_tokens": shared.prompt.lengths[0],
        "vision_attention": [round(float(rows_of.sum(-1).mean()), 6) for rows_of in rows],
        "retention": [round(value, 6) for value in trace.retention[0].tolist()],
    }
    return tensors, facts
