"""Where the checkpoint's files are, and whether they are all there and whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from safetensors import safe_open

from plphp_core.preflight.checks import (
    CheckFailed,
    CheckpointFiles,
    CheckResult,
    PlannedRun,
    check,
    failing,
    gib,
    passed,
)
from plphp_core.records.revisions import hub_commit

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
SMALL = ["*.json", "*.jinja", "*.txt", "*.model"]  # all but the weights: megabytes


@check("Checkpoint")
def checkpoint_files(run: PlannedRun) -> Iterator[CheckResult]:
    """config.json and every safetensors file that the index lists, each with a readable header and its whole length."""
    name, revision = run.settings.model.checkpoint, run.settings.model.revision
    run.checkpoint = found = _with_weights(_locate(name, revision), name)
    origin = "local folder" if found.commit is None else f"hub, commit {found.commit[:8]}"
    missing = f"{gib(sum(found.to_download.values()))} to download" if found.to_download else "all files are here"
    yield passed(f"{origin}: {len(found.shapes)} tensors, {missing}")


def _locate(name: str, revision: str | None) -> CheckpointFiles:
    """A folder, or a hub repository whose small files come to this machine now if they are not here."""
    from huggingface_hub import constants, snapshot_download

    if Path(name).is_dir():
        return CheckpointFiles(Path(name))
    if Path(name).exists() or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise CheckFailed(
            f"{name} is not a folder",
            "give a folder with config.json and safetensors files, or a hub name (owner/name), as model.checkpoint=…",
        )
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
        raise CheckFailed(f"no config.json in {found.folder}", again)
    listed = _listed(found.folder, again)
    missing = sorted(file for file in listed if not (found.folder / file).is_file())
    shapes: dict[str, tuple[int, ...]] = {}
    for file in sorted(set(listed) - set(missing)):
        shapes |= (inside := _shapes(found.folder / file, again))
        if listed[file] and listed[file] != set(inside):
            odd = min(listed[file] ^ set(inside))
            raise CheckFailed(f"{file} and {INDEX} disagree about tensors, for example {odd}", again)
    if listed and not missing:
        return replace(found, shapes=shapes)
    if found.commit is None or constants.HF_HUB_OFFLINE:
        if missing:
            raise CheckFailed(f"missing: {', '.join(missing)}", again)
        pickled = any(path.name.endswith(PICKLED) for path in found.folder.iterdir())
        why = ", only pickled weights, which can run any code when they are loaded" if pickled else ""
        raise CheckFailed(f"neither {SINGLE} nor {INDEX} in {found.folder}{why}", again)
    with failing(f"the weights of {name} cannot be had", _download(name)):
        remote = HfApi().get_safetensors_metadata(name, revision=found.commit).files_metadata
    absent = missing or sorted(remote)
    headers = {file: remote[file].tensors for file in absent if file in remote}
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
        f"`hf download {name}` on a machine with network (a gated one needs `hf auth login`; HF_HOME says where the "
        "cache is), or give a local folder as model.checkpoint=…"
    )
