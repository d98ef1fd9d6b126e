"""What the demo offers: the models of a profile, the values each method starts with, and examples to begin with."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from plphp_core.config.hydra_app import composed, options
from plphp_core.config.run_settings import Settings, settings_from_config
from plphp_core.families import get_family
from plphp_core.pruning.method import make_method
from plphp_core.records.errors import unknown

EXAMPLES = {  # label: benchmark and sub-task of the toy world
    "What has changed? (2 images)": ("sd", "Spot-the-Diff"),
    "A caption": ("coco2017", "coco2017"),
    "Three views of a place": ("mv", "ScanNet_chat"),
    "A story in three frames": ("vst", "AESOP"),
    "A long description": ("detailcaps", "detailcaps"),
}


class Catalogue:
    """The models of a profile and how each is loaded and asked.

    Args:
        overrides: of the configuration, as for a run; those of `model` are the first model's alone.

    Attributes:
        first: the model that the demo starts with.
        names: of the models offered.
        settings: model → its settings, with the rows of Table 1 as methods, composed once.
        start: (model, method) → the parameters to start with, by name.

    Raises:
        UserError: a name that is not known, or a value that is not allowed.
    """

    def __init__(self, overrides: Sequence[str] = ()):
        self._own = [one for one in overrides if one.startswith(("model=", "model."))]
        self._shared = ["prompts=plain", *(one for one in overrides if one not in self._own)]
        if not any(one.startswith("profile=") for one in overrides):
            self._shared.append("profile=toy")
        config = composed([*self._shared, *self._own])
        self.first, self.profile = config.model.name, config.profile.name
        # A profile with checkpoints of its own has no others.
        own = config.profile.get("checkpoints") or {}
        self.names = [name for name in options("model") if name in own or not own]
        if self.first not in self.names:
            raise unknown(f"model of profile {self.profile}", self.first, self.names)
        self.settings, self.start = cache(self._settings), cache(self._start)
        self.settings(self.first)

    def _settings(self, model: str, rows: str = "table=table1") -> Settings:
        own = self._own if model == self.first else [f"model={model}"]
        return settings_from_config(composed([*self._shared, *own, rows]))

    def _start(self, model: str, method: str) -> dict:
        """The middle one of the method's rows in Table 1 of this profile, else as in `configs/method/`."""
        rows = tuple(row for row in self.settings(model).methods if row.name == method)
        rows = rows or self.settings(model, f"method={method}").methods
        return dict(rows[len(rows) // 2].params)

    def title(self, model: str) -> str:
        """A model's name as people write it."""
        family = get_family(self.settings(model).model.family)
        size = model.removeprefix(family.name).strip("_").replace("_", ".")
        return f"{family.title}{size and f' {size}'}{' (toy)' if self.profile == 'toy' else ''}"


def method_title(method: str) -> str:
    """A method's name as its paper writes it, which is its class's."""
    made = make_method(method)
    return "No pruning" if made is None else type(made).__name__


def draw_examples(folder: Path) -> dict[str, dict]:
    """By label, a question and its images' files as `gr.MultimodalTextbox` takes them; images are drawn into `folder`.

    Always the same scenes, none of which a toy model was trained on.
    """
    from tasks.toy.generate import image_seed
    from tasks.toy.samples import make_sample
    from tasks.toy.scenes import draw

    folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for label, (benchmark, kind) in EXAMPLES.items():
        sample = make_sample(benchmark, kind, random.Random(f"demo/{benchmark}"), "test")
        files = [folder / f"{benchmark}-{number}.png" for number in range(1, len(sample.scenes) + 1)]
        for number, (scene, file) in enumerate(zip(sample.scenes, files, strict=True), 1):
            draw(scene, image_seed("demo", benchmark, number)).save(file)
        # Of a conversation, the first question: the next one is the visitor's.
        question = sample.turns[0][1] if sample.turns else sample.question
        found[label] = {"text": question, "files": list(map(str, files))}
    return found
