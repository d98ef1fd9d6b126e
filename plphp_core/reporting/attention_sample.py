"""One sample in full, as `scripts/attend.py attention.look=true` wrote it: every layer and head (Figure 3)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from plphp_core.analysis.results import NothingToShow
from plphp_core.records.attention_result import AttentionMap
from plphp_core.records.errors import ReportError


@dataclass(frozen=True, eq=False)
class AttentionSample:
    """One sample of one model: its record, and what lies beside it.

    Attributes:
        rows: attention of the last prompt token on each vision token, `(layers, query_heads, tokens)` fp32.
        kept: `(layers, kv_heads, tokens)` bool.
        boxes: `(tokens, 4)`, in fractions of the token's image; image_of: `(tokens,)`, number of that image.
        images: as the processor got them, RGB.
    """

    record: AttentionMap
    rows: np.ndarray
    kept: np.ndarray
    boxes: np.ndarray
    image_of: np.ndarray
    images: list[Image.Image]


def find(folder: Path, model: str, benchmark: str | None = None, doc: int | None = None) -> tuple[AttentionMap, int]:
    """The record of a model's sample, and how many others fit. Of several it is the newest of those that were not asked
    for by number, if there are any.

    Raises NothingToShow if there is none.
    """
    records = [AttentionMap.load(path) for path in folder.glob(f"{model}.*.doc=*.json")]
    fitting = [one for one in records if doc in (None, one.doc_id) and benchmark in (None, one.benchmark)]
    if not fitting:
        which = "" if doc is None else f", sample {doc}"
        make = f"make reproduce-figure3 PROFILE={folder.parent.name} MODEL={model}"
        make += "" if doc is None else f" ARGS=attention.doc={doc}"
        raise NothingToShow(f"no attention of one sample has been read for {model}{which}: {make}")
    order = {one.path: (not one.asked_for, one.path.stat().st_mtime_ns, one.path.name) for one in fitting}
    return max(fitting, key=lambda one: order[one.path]), len(fitting) - 1


def load(record: AttentionMap) -> AttentionSample:
    """Its tensors and images. Raises ReportError naming a file that is damaged or missing."""
    path = record.path
    try:
        tensors = load_file(path.with_name(record.tensors))
        rows, kept, boxes, image_of = (tensors[name] for name in ("rows", "kept", "boxes", "image_of"))
        images = [Image.open(path.with_name(name)).convert("RGB") for name in record.images]
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ReportError(f"{path}: cannot be read ({type(error).__name__}: {error}); read it again") from error
    tokens = {rows.shape[2], kept.shape[2], len(boxes), len(image_of)}
    layers = {len(rows), len(kept), len(record.vision_attention), len(record.retention)}
    if len(tokens) > 1 or len(layers) > 1 or int(image_of.max()) >= len(images):
        raise ReportError(f"{path}: its tensors disagree in the number of tokens, layers or images; read it again")
    return AttentionSample(record, rows, kept.astype(bool), boxes, image_of, images)
