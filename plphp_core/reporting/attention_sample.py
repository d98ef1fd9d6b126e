"""One sample in full, as `scripts/attend.py attention.look=true` wrote it: every layer and head (Figure 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file

from plphp_core.analysis.results import NothingToShow
from plphp_core.families import family_names, get_family
from plphp_core.records.attention_result import load_attention_map
from plphp_core.records.errors import ReportError


@dataclass(frozen=True, eq=False)
class AttentionSample:
    """One sample of one model.

    Attributes:
        rows: attention of the last prompt token on each vision token, `(layers, query_heads, tokens)` fp32.
        kept: `(layers, kv_heads, tokens)` bool.
        boxes: `(tokens, 4)`, in fractions of the token's image; image_of: `(tokens,)`, number of that image.
        gamma: γ per layer; retention: kept share per layer.
        images: as the processor got them, RGB.
        asked_for: whether somebody named the sample; otherwise it is the first of the seeded random order.
    """

    path: Path
    model: str
    located: bool
    checkpoint: str
    revision: str
    dtype: str
    hardware: str
    method: Mapping
    asked_for: bool
    benchmark: str
    doc_id: int
    question: str
    prompt_tokens: int
    rows: np.ndarray
    kept: np.ndarray
    boxes: np.ndarray
    image_of: np.ndarray
    gamma: np.ndarray
    retention: np.ndarray
    images: list[Image.Image]

    @property
    def title(self) -> str:
        """The model as figures print it."""
        return get_family(self.model).title if self.model in family_names() else self.model

    @property
    def group(self) -> int:
        """Query heads per KV head."""
        return self.rows.shape[1] // self.kept.shape[1]


def find(folder: Path, model: str, benchmark: str | None = None, doc: int | None = None) -> tuple[Path, int]:
    """A sight of a model, and how many others fit: of those that nobody chose by number, if any, the newest.

    Raises NothingToShow if there is none.
    """
    fitting: dict[Path, bool] = {}
    for path in folder.glob(f"{model}.*.doc=*.json"):
        record = load_attention_map(path)
        if doc in (None, record.doc_id) and benchmark in (None, record.benchmark):
            fitting[path] = record.asked_for
    if not fitting:
        which = "" if doc is None else f", sample {doc}"
        make = f"make reproduce-figure3 PROFILE={folder.parent.name} MODEL={model}"
        make += "" if doc is None else f" ARGS=attention.doc={doc}"
        raise NothingToShow(f"no attention of one sample has been read for {model}{which}: {make}")
    return max(fitting, key=lambda path: (not fitting[path], path.stat().st_mtime_ns, path.name)), len(fitting) - 1


def load(path: Path) -> AttentionSample:
    """Read one sight. Raises ReportError naming a file that is damaged or missing."""
    record = load_attention_map(path)
    try:
        tensors = load_file(path.with_name(record.tensors))
        images = [Image.open(path.with_name(name)).convert("RGB") for name in record.images]
        if not images:
            raise ValueError("no images")
        names = ("path", "model", "located", "checkpoint", "revision", "dtype", "hardware", "asked_for", "benchmark",
                 "doc_id", "question", "prompt_tokens", "retention")  # fmt: skip
        found = AttentionSample(
            **{name: getattr(record, name) for name in names},
            method=record.method.model_dump(),
            rows=tensors["rows"],
            kept=tensors["kept"].astype(bool),
            boxes=tensors["boxes"],
            image_of=tensors["image_of"],
            gamma=record.vision_attention,
            images=images,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ReportError(f"{path}: cannot be read ({type(error).__name__}: {error}); read it again") from error
    tokens = {found.rows.shape[2], found.kept.shape[2], len(found.boxes), len(found.image_of)}
    layers = {found.rows.shape[0], found.kept.shape[0], len(found.gamma), len(found.retention)}
    if len(tokens) > 1 or len(layers) > 1 or int(found.image_of.max()) >= len(images):
        raise ReportError(f"{path}: its tensors disagree in the number of tokens, layers or images; read it again")
    return found
