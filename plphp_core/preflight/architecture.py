"""The checkpoint's configuration: a model class of the family, and the very tensors that the weights hold."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import torch

from plphp_core.preflight.checkpoint import checkpoint_files
from plphp_core.preflight.checks import CheckFailed, CheckResult, PlannedRun, check, failed, failing, passed, reason

RESTORE = "restore config.json from the original checkpoint"


@check("Configuration", needs=[checkpoint_files])
def configuration(run: PlannedRun) -> Iterator[CheckResult]:
    """config.json makes a model of the family, with enough layers for every method."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING as CLASSES

    family, wanted = run.family, " or ".join(run.family.model_classes)
    with failing("config.json is not accepted by transformers", RESTORE):
        config = AutoConfig.from_pretrained(run.checkpoint.folder, trust_remote_code=False)
    made = CLASSES[type(config)].__name__ if type(config) in CLASSES else f"{config.model_type!r} model"
    named = set(config.architectures or [made])
    if made not in family.model_classes or not named & set(family.model_classes):
        raise CheckFailed(
            f"config.json: model_type {config.model_type!r}, architectures {', '.join(sorted(named))}; "
            f"{family.title} is a {wanted}",
            f"choose the model=… of this checkpoint, or one of this family, such as {family.default_checkpoint}, as "
            "model.checkpoint=…",
        )
    layers = config.get_text_config(decoder=True).num_hidden_layers
    for row in run.settings.methods:
        try:
            if row.built is not None:
                row.built.check(layers)
        except ValueError as error:
            yield failed(
                f"{row.name} {row.setting} does not fit {layers} layers: {reason(error)}",
                "choose other parameters with method.…=…, or rows of a table that fit",
            )
    run.config = config
    yield passed(f"{made} with {layers} layers, for {family.title}")


@check("Weights", needs=[checkpoint_files, configuration])
def weights(run: PlannedRun) -> Iterator[CheckResult]:
    """The tensors that config.json asks for; from_pretrained only warns about missing ones and makes random numbers."""
    with failing("no model can be built from config.json", RESTORE):
        run.model, info = _on_meta(run.config, run.checkpoint.shapes)
    again = f"{RESTORE}, or copy the weights again: they belong together"
    missing, unexpected = info["missing_keys"], info["unexpected_keys"]
    beyond = [name for name in unexpected if re.search(r"\blayers\.\d+\.", name)]
    problems = []
    if missing:
        problems.append(f"{len(missing)} tensors are missing and would be random numbers: {_some(missing)}")
    if info["mismatched_keys"]:
        name, found, wanted = min(info["mismatched_keys"], key=str)
        problems.append(f"{name} is {tuple(found)}, but config.json makes it {tuple(wanted)}")
    if beyond:
        problems.append(f"{len(beyond)} tensors of layers that config.json does not have: {_some(beyond)}")
    if problems:
        raise CheckFailed("; ".join(problems), again)
    unused = f"; not used: {_some(unexpected)}" if unexpected else ""
    yield passed(f"{len(run.checkpoint.shapes)} tensors as config.json has them{unused}")


def _on_meta(config, shapes: dict[str, tuple[int, ...]]):
    """The model on the meta device, and what loading it would say; names go through transformers' own renaming."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING as CLASSES

    state = {name: torch.empty(shape, device="meta", dtype=torch.bfloat16) for name, shape in shapes.items()}
    model, info = CLASSES[type(config)].from_pretrained(
        None,
        config=config,
        state_dict=state,
        device_map="meta",
        dtype=torch.bfloat16,  # any: only shapes matter
        attn_implementation="sdpa",
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return model.eval(), info


def _some(names: Collection[str]) -> str:
    return min(names) + (", …" if len(names) > 1 else "")
