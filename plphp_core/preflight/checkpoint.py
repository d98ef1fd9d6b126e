"""The checkpoint: its files are whole, its model is one of the family, its tensors are those of config.json."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import safe_open

from plphp_core.preflight.checks import CheckFailed, CheckpointFiles, Findings, PlannedRun, check, failing, gib, reason
from plphp_core.records.revisions import hub_commit

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
SMALL = ["*.json", "*.jinja", "*.txt", "*.model"]  # all but the weights: megabytes
RESTORE = "restore config.json from the original checkpoint"


@check("Checkpoint")
def checkpoint_files(run: PlannedRun) -> Findings:
    """config.json and every safetensors file that the index lists, each with a readable header and its whole length."""
    name, revision = run.settings.model.checkpoint, run.settings.model.revision
    run.checkpoint = found = _with_weights(_locate(name, revision), name)
    origin = "local folder" if found.commit is None else f"hub, commit {found.commit[:8]}"
    missing = f"{gib(sum(found.to_download.values()))} to download" if found.to_download else "all files are here"
    yield f"{origin}: {len(found.shapes)} tensors, {missing}"


def _locate(name: str, revision: str | None) -> CheckpointFiles:
    """A folder, or a hub repository whose small files come to this machine now if they are not here."""
    from huggingface_hub import constants, snapshot_download

    if Path(name).is_dir():
        return CheckpointFiles(Path(name))
    if Path(name).exists() or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise CheckFailed(f"{name} is not a folder; give one, or a hub name (owner/name), as model.checkpoint=…")
    with failing(f"{name} cannot be had from the hub or its cache", _download(name)):
        commit = hub_commit(name, revision, "model")
        offline = bool(constants.HF_HUB_OFFLINE)
        folder = snapshot_download(name, revision=commit, allow_patterns=SMALL, local_files_only=offline)
    return CheckpointFiles(Path(folder), commit)


def _with_weights(found: CheckpointFiles, name: str) -> CheckpointFiles:
    """The same with the shapes of all tensors, from files here or from headers on the hub (kilobytes)."""
    from huggingface_hub import HfApi, constants

    again = _download(name) if found.commit else f"copy it into {found.folder} again"
    if not (found.folder / "config.json").is_file():
        raise CheckFailed(f"no config.json in {found.folder}; {again}")
    listed = _listed(found.folder, again)
    missing = sorted(file for file in listed if not (found.folder / file).is_file())
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(set(listed) - set(missing)):
        shapes |= (inside := _shapes(found.folder / file, again))
        if listed[file] and listed[file] != set(inside):
            odd = min(listed[file] ^ set(inside))
            raise CheckFailed(f"{file} and {INDEX} disagree about tensors, for example {odd}; {again}")
    if listed and not missing:
        return replace(found, shapes=shapes)
    if found.commit is None or constants.HF_HUB_OFFLINE:
        if missing:
            raise CheckFailed(f"missing: {', '.join(missing)}; {again}")
        pickled = any(path.name.endswith(PICKLED) for path in found.folder.iterdir())
        why = ", only pickled weights, which can run any code when they are loaded" if pickled else ""
        raise CheckFailed(f"neither {SINGLE} nor {INDEX} in {found.folder}{why}; {again}")
    with failing(f"the weights of {name} cannot be had", again):
        remote = HfApi().get_safetensors_metadata(name, revision=found.commit).files_metadata
    headers = {file: remote[file].tensors for file in missing or remote if file in remote}
    shapes |= {tensor: tuple(info.shape) for file in headers.values() for tensor, info in file.items()}
    sizes = {file: max(info.data_offsets[1] for info in tensors.values()) for file, tensors in headers.items()}
    return replace(found, shapes=shapes, to_download=sizes)


def _listed(folder: Path, again: str) -> dict[str, set[str]]:
    """Weight file → its tensors as the index has them (none without an index); empty if there is neither."""
    if (folder / SINGLE).is_file() or not (folder / INDEX).is_file():
        return {SINGLE: set()} if (folder / SINGLE).is_file() else {}
    files: dict[str, set[str]] = {}
    with failing(f"{INDEX} cannot be read", again):
        for tensor, file in json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].items():
            files.setdefault(file, set()).add(tensor)
    return files


def _shapes(file: Path, again: str) -> dict[str, tuple[int, ...]]:
    """From the header; safetensors also holds the file's length against it."""
    with (
        failing(f"{file.name} is damaged, or its copy or download was cut short", again),
        safe_open(file, framework="pt") as opened,
    ):
        return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118


def _download(name: str) -> str:
    return (
        f"`hf download {name}` on a machine with network (a gated one needs `hf auth login`), or give a local folder "
        "as model.checkpoint=…"
    )


@check("Configuration", needs=[checkpoint_files])
def configuration(run: PlannedRun) -> Findings:
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
            f"config.json: model_type {config.model_type!r}, architectures {', '.join(sorted(named))}; {family.title} "
            f"is a {wanted}: choose the model=… of this checkpoint, or a model.checkpoint=… of this family"
        )
    layers = config.get_text_config(decoder=True).num_hidden_layers
    for row in run.settings.methods:
        try:
            if row.built is not None:
                row.built.check(layers)
        except ValueError as error:
            yield CheckFailed(f"{row.name} {row.setting} does not fit {layers} layers: {reason(error)}; see method.…=…")
    run.config = config
    yield f"{made} with {layers} layers, for {family.title}"


@check("Weights", needs=[checkpoint_files, configuration])
def weights(run: PlannedRun) -> Findings:
    """The tensors that config.json asks for; from_pretrained only warns about missing ones and makes random numbers."""
    attention = run.settings.model.attn_implementation
    with failing(f"no model can be built from config.json with attn_implementation={attention}", RESTORE):
        run.model, info = _on_meta(run.config, run.checkpoint.shapes, attention)
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
        raise CheckFailed(f"{'; '.join(problems)}; {RESTORE}, or copy the weights again: they belong together")
    unused = f"; not used: {_some(unexpected)}" if unexpected else ""
    yield f"{len(run.checkpoint.shapes)} tensors as config.json has them{unused}"


def _on_meta(config, shapes: dict[str, tuple[int, ...]], attention: str):
    """The model on the meta device, and what loading it would say; names go through transformers' own renaming."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING as CLASSES

    state = {name: torch.empty(shape, device="meta", dtype=torch.bfloat16) for name, shape in shapes.items()}
    model, info = CLASSES[type(config)].from_pretrained(
        None,
        config=config,
        state_dict=state,
        device_map="meta",
        dtype=torch.bfloat16,  # any: only shapes matter
        attn_implementation=attention,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    return model.eval(), info


def _some(names: Collection[str]) -> str:
    return min(names) + (", …" if len(names) > 1 else "")
