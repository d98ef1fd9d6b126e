"""Attention read over a benchmark, and one sample of it in full (`scripts/attend.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import model_validator

from plphp_core.records.errors import ReportError
from plphp_core.records.record import Identifiers, Numbers, Part, Record


class AttentionConditions(Record):
    """What attention was read of."""

    profile: str
    model: str
    family: str
    located: bool  # whether the family's tokens have places of their own on the image
    checkpoint: str
    revision: str
    dtype: str
    task: str
    benchmark: str
    data_revision: str
    hardware: str

    @property
    def title(self) -> str:
        """The model as figures print it."""
        from plphp_core.families import family_names, get_family

        return get_family(self.model).title if self.model in family_names() else self.model


class AttentionResult(AttentionConditions):
    """One model on one benchmark, Figures 1 and 2 and claim C14; arrays are fp64, one row for each of `doc_ids`.

    Attributes:
        key: what all readings share; of the samples in the journal beside.
        doc_ids: `(n,)`; errors: samples that could not be read; population: of the benchmark.
        image_sizes: S_j of each sample's images.
        vision_attention: γ, `(n, layers)`.
        groups: cut → share of γ in each of the five spatial groups and in none, `(n, layers, 6)`.
        group_tokens: cut → share of the vision tokens there, `(n, 6)`.
    """

    SCHEMA: ClassVar[int] = 2
    WHAT: ClassVar[str] = "a result of attention readings"
    REMEDY: ClassVar[str] = "delete it and run scripts/attend.py again"

    attn_implementation: str
    prompts: str
    protocol: str
    key: str
    manifest: str
    population: int
    limit: int | None
    limit_seed: int
    errors: int
    doc_ids: Identifiers
    prompt_tokens: list[int]
    image_sizes: list[list[int]]
    vision_attention: Numbers
    groups: dict[str, Numbers]
    group_tokens: dict[str, Numbers]

    @model_validator(mode="after")
    def _fits_its_samples(self) -> Self:
        from plphp_core.vision.spatial_groups import CUTS

        if not self.n:
            return self
        layers = self.vision_attention.shape[1] if self.vision_attention.ndim == 2 else 0
        shapes = {"vision_attention": (self.vision_attention, (self.n, layers))}
        for name, of_cuts, shape in (("groups", self.groups, (layers, 6)), ("group_tokens", self.group_tokens, (6,))):
            for cut in CUTS:
                if cut not in of_cuts:
                    raise ValueError(f"field {name} {cut} is missing")
                shapes[f"{name} {cut}"] = (of_cuts[cut], (self.n, *shape))
        for name, (array, shape) in shapes.items():
            if array.shape != shape:
                raise ValueError(f"{name} has the shape {array.shape}, expected {shape}")
            if array.size and array.sum() != array.sum():
                raise ValueError(f"{name} holds what is not a number")
        return self

    @property
    def n(self) -> int:
        return len(self.doc_ids)


class ShownMethod(Part):
    """The method whose choice of tokens is shown."""

    name: str
    params: dict[str, Any]
    setting: str


class AttentionMap(AttentionConditions):
    """One sample in full, Figure 3; its tensors and images lie beside it.

    Attributes:
        asked_for: whether somebody named the sample; otherwise it is the first of the seeded random order.
        images, tensors: names of files.
        vision_attention: γ of every layer; retention: kept share of every layer.
    """

    SCHEMA: ClassVar[int] = 2
    WHAT: ClassVar[str] = "a sample in full"
    REMEDY: ClassVar[str] = "read it again"

    method: ShownMethod
    asked_for: bool
    doc_id: int
    question: str
    images: list[str]
    tensors: str
    prompt_tokens: int
    vision_attention: Numbers
    retention: Numbers


def load_readings(folder: Path) -> list[AttentionResult]:
    """Every result of attention readings in `folder` (`results/<profile>/attention`); none if there is no folder.

    Raises ReportError for the first file that is damaged or of another profile.
    """
    files = sorted(path for path in folder.glob("*.json") if ".doc=" not in path.name and path.name[0] != ".")
    found = [result for result in map(AttentionResult.load, files) if result.n]
    for result in found:
        if result.profile != folder.parent.name:
            raise ReportError(f"{result.path}: belongs to profile {result.profile!r}")
    return found
