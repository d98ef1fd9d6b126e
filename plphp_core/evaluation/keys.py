"""Content keys: two samples share a key exactly when their answers must be the same.

In the key, because each of them can change an answer:
  weights (hash of a local folder's contents, or hub name and commit), family, its chat template, options and style of
  prompts, dtype, attention implementation, kind of device (cpu or cuda), decoding engine, method and all its
  parameters, task name, version and generation arguments, data revision, sample number and prompt text, versions of
  torch and transformers, and `ANSWERS`.
Not in the key, but on every line and in the manifest:
  batch size and GPU model (they move the last bits of a sum; a cell that mixes GPUs says so), the folder a checkpoint
  lies in (moving it changes nothing), limits, metrics and seeds of subsets (they choose samples, not answers).
An image is identified by data revision and sample number, so that an answered sample is recognised without decoding it;
the line itself carries a hash of the pixels. The benchmark's protocol is part of the task's name and prompt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from plphp_core.evaluation.settings import MethodSettings, ModelSettings

ANSWERS = (
    1  # raise it when a change of this code base changes answers (pruning, encoding, decoding): old ones then expire
)


def digest(value: object) -> str:
    """SHA-256 of plain data, independent of the order of dictionary keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def cell_identity(
    model: ModelSettings,
    weights: str,
    template: str,
    method: MethodSettings,
    task: str,
    task_version: object,
    data: str,
    generation: dict,
) -> dict:
    """What all samples of a cell share, as plain data that reads the same from JSON; `digest` of it is the cell's key.

    Args:
        weights: `checkpoint_identity`.
        template: chat string of the family for a fixed text, which shows its system prompt and roles.
        data: revision of the data set.
        generation: the task's generation arguments.
    """
    hub_name = None if weights.startswith("sha256:") else model.checkpoint
    identity = {
        "answers": ANSWERS,
        "weights": [hub_name, weights],
        "family": [model.family, template, model.prompts, model.options],
        "numerics": [model.dtype, model.attn_implementation, model.device.split(":")[0], model.engine],
        "method": [method.name, method.params],
        "task": [task, task_version, generation],
        "data": data,
        "versions": library_versions(),
    }
    return json.loads(json.dumps(identity, default=str))


def sample_key(cell: str, doc_id: int, context: str, generation: dict) -> str:
    """One sample of the cell with key `cell`."""
    return digest([cell, doc_id, context, generation])


def sample_keys(cell: str, requests: Mapping[int, Any], chosen: Iterable[int]) -> dict[int, str]:
    """doc_id → key, for the chosen ones of a task's requests (`answering.Request`)."""
    return {row: sample_key(cell, row, requests[row].context, requests[row].generation) for row in chosen}


def library_versions() -> dict[str, str]:
    """Versions of the libraries that compute answers, without build tags such as +cu126."""
    from importlib.metadata import version

    return {name: version(name).split("+")[0] for name in ("torch", "transformers")}
