"""Where the checkpoint's files are, and whether they are all there and whole."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Finding, Status, check, failed, first_line, ok, warning
from plphp_core.preflight.headers import LFS, DamagedFile, TensorHeader, read_header
from plphp_core.preflight.network import asked_offline
from plphp_core.preflight.units import count, gib, plural
from plphp_core.records.errors import UserError
from plphp_core.records.revisions import hub_commit

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
SMALL = ("*.json", "*.jinja", "*.txt", "*.model")  # all but the weights: megabytes


@dataclass(eq=False)
class Checkpoint:
    """A checkpoint whose small files are on this machine.

    Attributes:
        folder: holds them; the weights too, as far as they are here.
        commit: of a hub repository; None for a folder of the user's.
        tensors: of all weight files, from their headers.
        to_download: weight file → bytes.
    """

    folder: Path
    commit: str | None = None
    tensors: dict[str, TensorHeader] = field(default_factory=dict)
    to_download: dict[str, int] = field(default_factory=dict)


class NoCheckpoint(Exception):
    """Nothing to look at; carries the finding."""

    def __init__(self, finding: Finding):
        super().__init__(finding.found)
        self.finding = finding


@check("Checkpoint files")
def checkpoint_files(case: Case) -> Iterator[Finding]:
    try:
        found = _locate(case)
        if pointers := list(_pointers(found.folder)):
            yield from pointers
            return
        weights = _weight_files(found, case.settings.model.checkpoint)
    except NoCheckpoint as error:
        yield error.finding
        return
    problems = list(_read_weights(found, weights, case))
    yield from problems
    if any(problem.status is Status.FAILED for problem in problems):
        return
    case.checkpoint = found
    numbers = sum(tensor.numel for tensor in found.tensors.values())
    origin = "local folder" if found.commit is None else f"hub, commit {found.commit[:8]}"
    missing = f", {gib(sum(found.to_download.values()))} to download" if found.to_download else ", all here"
    yield ok(f"{origin}: {count(numbers)} numbers in {plural(len(weights), 'file')}{missing}")


# --- where ---------------------------------------------------------------------------------------------------------


def _locate(case: Case) -> Checkpoint:
    name = case.settings.model.checkpoint
    if Path(name).is_dir():
        return Checkpoint(Path(name))
    if Path(name).is_file():
        raise NoCheckpoint(failed(f"{name} is a file", "give the folder that it lies in as model.checkpoint=…"))
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise NoCheckpoint(
            failed(
                f"no folder {name}",
                "give a folder with config.json and safetensors, or a hub name (owner/name), as model.checkpoint=…; "
                "`make toy-model` makes the toy's",
            )
        )
    return _on_hub(name, case.settings.model.revision)


def _on_hub(name: str, revision: str | None) -> Checkpoint:
    """Small files come to this machine now, if they are not here."""
    from huggingface_hub import constants, snapshot_download

    try:
        commit = hub_commit(name, revision, "model")
        folder = snapshot_download(
            name, revision=commit, allow_patterns=list(SMALL), local_files_only=constants.HF_HUB_OFFLINE
        )
    except UserError as error:
        raise NoCheckpoint(failed(first_line(error).partition("; ")[0], _get(name, revision))) from error
    except Exception as error:  # hub, network and cache errors come from several libraries
        raise NoCheckpoint(
            failed(f"{name} cannot be had from the hub or its cache: {first_line(error)}", _get(name, revision))
        ) from error
    return Checkpoint(Path(folder), commit)


def _get(name: str, revision: str | None = None) -> str:
    from huggingface_hub import constants

    command = f"hf download {name}" + (f" --revision {revision}" if revision else "")
    offline = "without HF_HUB_OFFLINE=1, " if asked_offline() else ""
    return (
        f"on a machine with network, {offline}`{command}` (a gated one first needs `hf auth login`); "
        f"HF_HOME says where the cache is (now {constants.HF_HOME}); or give a folder as model.checkpoint=…"
    )


# --- which weights -------------------------------------------------------------------------------------------------


def _weight_files(found: Checkpoint, name: str) -> dict[str, set[str] | None]:
    """Weight file → names of its tensors as the index has them; None where there is no index."""
    try:
        present = {path.name for path in found.folder.iterdir()}
    except OSError as error:
        raise NoCheckpoint(
            failed(f"{found.folder} cannot be read: {error.strerror}", f"see its permissions: ls -ld {found.folder}")
        ) from error
    if "config.json" not in present:
        raise NoCheckpoint(
            failed(
                f"no config.json in {found.folder}",
                "that file says what the model is: copy it from where the weights come from, or "
                + ("give the folder that has it" if found.commit is None else _get(name)),
            )
        )
    if SINGLE in present or (INDEX not in present and SINGLE in _remote_files(name, found.commit)):
        return {SINGLE: None}
    if INDEX in present:
        return _indexed(found.folder / INDEX)
    pickled = sorted(one for one in present if one.endswith(PICKLED))
    if pickled:
        raise NoCheckpoint(
            failed(
                f"only pickled weights ({', '.join(pickled[:3])}), which can run any code when they are loaded",
                "take a revision with safetensors, or convert them where you trust them: "
                "AutoModelForImageTextToText.from_pretrained(…).save_pretrained(folder) writes model.safetensors",
            )
        )
    raise NoCheckpoint(
        failed(
            f"no {SINGLE} and no {INDEX} in {found.folder}",
            "copy or download the weights too" if found.commit is None else _get(name),
        )
    )


def _indexed(index: Path) -> dict[str, set[str]]:
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files: dict[str, set[str]] = {}
        for tensor, file in places.items():
            files.setdefault(file, set()).add(tensor)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise NoCheckpoint(
            failed(f"{INDEX} cannot be read: {first_line(error)}", "copy or download that file again")
        ) from error
    return files


def _read_weights(found: Checkpoint, weights: dict[str, set[str] | None], case: Case) -> Iterator[Finding]:
    """Fill `found.tensors` and `found.to_download`; findings about what is missing or damaged."""
    from huggingface_hub import constants

    name = case.settings.model.checkpoint
    remote = found.commit is not None and not constants.HF_HUB_OFFLINE
    for file, tensors in weights.items():
        path = found.folder / file
        again = f"copy {file} again" if found.commit is None else f"`hf download {name} {file} --force-download`"
        if not path.is_file():
            if remote and (size := _remote_files(name, found.commit).get(file)):
                found.to_download[file] = size
                continue
            link = " (a link to nothing)" if path.is_symlink() else ""
            yield failed(f"{file} is missing{link}", again if found.commit is None else _get(name))
            continue
        try:
            header = read_header(path)
        except DamagedFile as error:
            pull = f" (`git lfs pull` in {found.folder}, if it is a clone)" if "LFS" in str(error) else ""
            yield failed(f"{file} {error}", f"{again}{pull}: the copy or download was cut short or is damaged")
            continue
        except OSError as error:
            yield failed(f"{file} cannot be read: {error.strerror}", f"see its permissions: ls -l {path}")
            continue
        if tensors is not None and tensors != set(header):
            odd = sorted(tensors ^ set(header))
            yield failed(f"{file} and {INDEX} disagree about {len(odd)} tensors, for example {odd[0]}", again)
        found.tensors |= header
    if found.to_download:
        found.tensors |= _remote_headers(found, name, set(found.to_download))
    stale = sorted(path.name for path in found.folder.glob("*.safetensors") if path.name not in weights)
    if stale:
        yield warning(f"not read: {', '.join(stale[:3])}", f"{' or '.join(sorted(weights)[:1])} is; delete what is old")


def _pointers(folder: Path) -> Iterator[Finding]:
    """What `git clone` without Git LFS leaves behind instead of files."""
    small = [path for pattern in SMALL for path in sorted(folder.glob(pattern)) if path.is_file()]
    names = [path.name for path in small if path.stat().st_size < 1024 and path.read_bytes().startswith(LFS)]
    if names:
        yield failed(
            f"{', '.join(names[:3])} {'is a' if len(names) == 1 else 'are'} Git LFS pointer{'s' * (len(names) > 1)}",
            f"`git lfs pull` in {folder}, or copy or download the files themselves",
        )


# --- the hub -------------------------------------------------------------------------------------------------------


@functools.cache
def _remote_files(name: str, commit: str | None) -> dict[str, int]:
    """Files of the hub's repository and their bytes; nothing without network."""
    from huggingface_hub import HfApi, constants

    if commit is None or constants.HF_HUB_OFFLINE:
        return {}
    try:
        info = HfApi().model_info(name, revision=commit, files_metadata=True, timeout=20)
    except Exception:  # then only what is cached counts
        return {}
    return {one.rfilename: one.size or 0 for one in info.siblings or ()}


def _remote_headers(found: Checkpoint, name: str, files: set[str]) -> dict[str, TensorHeader]:
    """Headers of files that are not here, by range requests of some kilobytes."""
    from huggingface_hub import HfApi

    metadata = HfApi().get_safetensors_metadata(name, revision=found.commit)
    return {
        tensor: TensorHeader(info.dtype, tuple(info.shape))
        for file, one in metadata.files_metadata.items()
        if file in files
        for tensor, info in one.tensors.items()
    }
