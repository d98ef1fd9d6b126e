"""What the demo starts with: a model, the values of each method's parameters, and examples."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from plphp_core.config.hydra_app import composed
from plphp_core.config.run_settings import ModelSettings, settings_from_config
from plphp_core.pruning.method import make_method, method_names

VERBS = {  # what a method does to vision tokens, in the order in which it happens
    "": "Nothing pruned",
    "encode": "Encode: fewer vision tokens enter the decoder",
    "withdraw": "Withdraw: some leave it at a layer",
    "compress": "Compress: the caches of layers and heads keep some",
}
EXAMPLES = {  # label: benchmark and sub-task of the toy world
    "What has changed? (2 images)": ("sd", "Spot-the-Diff"),
    "A caption": ("coco2017", "coco2017"),
    "Three views of a place": ("mv", "ScanNet_chat"),
    "A story in three frames": ("vst", "AESOP"),
    "A long description": ("detailcaps", "detailcaps"),
}


class DemoSettings:
    """The model and the methods' values.

    Args:
        overrides: of the configuration, as for a run; the profile is toy unless another one is given.

    Attributes:
        start: method → the parameters to start with, by name: the middle one of the method's rows in Table 1 of the
            profile, else as in `configs/method/`.
        ticked: methods that answer unless others are ticked: those of Table 1.

    Raises:
        UserError: a name that is not known, or a value that is not allowed.
    """

    def __init__(self, overrides: Sequence[str] = ()):
        given = ["prompts=plain", *overrides]
        if not any(one.startswith("profile=") for one in overrides):
            given.append("profile=toy")
        table = settings_from_config(composed([*given, "table=table1"]))
        self.model: ModelSettings = table.model
        self.toy = table.profile == "toy"
        self.ticked = ["none", *dict.fromkeys(row.name for row in table.methods if row.name != "none")]
        self.start: dict[str, dict] = {}
        for method in offered_methods():
            rows = [row for row in table.methods if row.name == method]
            rows = rows or list(settings_from_config(composed([*given, f"method={method}"])).methods)
            self.start[method] = dict(rows[len(rows) // 2].params)


def offered_methods() -> list[str]:
    """The methods that serve anybody's questions."""
    methods = {name: make_method(name) for name in method_names()}
    return [name for name, method in methods.items() if method is None or not (method.needs_answers or method.redraws)]


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
