"""What exactly was evaluated: content hashes of local weights and data, commits of those on the hub."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from plphp_core.records.atomic import write_atomically
from plphp_core.records.errors import RunError, UserError

WEIGHT_FILES = (".json", ".safetensors", ".txt", ".jinja", ".model")  # what from_pretrained reads
DATA_FILES = (".arrow", ".parquet", ".json", ".jsonl", ".csv")
UNSTABLE = {"state.json", "dataset_info.json"}  # written by `datasets` with its own version and random fingerprints
COMMIT = re.compile(r"[0-9a-f]{40}")


class Fingerprints:
    """SHA-256 of files, remembered by path, size and modification time so that 15 GB of weights are read once."""

    def __init__(self, memory: Path):
        self.memory = memory
        try:
            known = json.loads(memory.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # no memory yet, or a damaged one: it only saves time
            known = {}
        hashes = known.items() if isinstance(known, dict) else ()
        self._known = {name: found for name, found in hashes if re.fullmatch(r"[0-9a-f]{64}", str(found))}

    def of(self, folder: Path, suffixes: Iterable[str]) -> str:
        """`sha256:…` over the names and contents of the files below `folder` that end in one of `suffixes`.

        Raises:
            UserError: there is no such file.
        """
        files = [
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file()
            and path.suffix in suffixes
            and path.name not in UNSTABLE
            and not any(part.startswith((".", "cache-")) for part in path.relative_to(folder).parts)
        ]
        if not files:
            raise UserError(f"{folder} holds none of the expected files (*{', *'.join(sorted(suffixes))})")
        total = hashlib.sha256()
        before = len(self._known)
        for path in files:
            total.update(f"{path.relative_to(folder).as_posix()}\0{self._file(path)}\n".encode())
        if len(self._known) != before:
            with suppress(RunError):  # of a folder that can only be read: then they are hashed again next time
                write_atomically(self.memory, json.dumps(self._known, indent=0, sort_keys=True))
        return f"sha256:{total.hexdigest()}"

    def _file(self, path: Path) -> str:
        state = path.stat()
        name = f"{path.resolve()}|{state.st_size}|{state.st_mtime_ns}"
        if name not in self._known:
            with path.open("rb") as file:
                self._known[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._known[name]


def checkpoint_identity(checkpoint: str, revision: str | None, fingerprints: Fingerprints) -> str:
    """The weights behind a checkpoint name: "sha256:…" of a local folder, the commit of a hub repository.

    Raises:
        UserError: no such folder or repository, or the hub cannot be reached and nothing is cached.
    """
    if Path(checkpoint).is_dir():
        return fingerprints.of(Path(checkpoint), WEIGHT_FILES)
    if checkpoint.count("/") > 1 or checkpoint.startswith((".", "/")):
        raise UserError(
            f"no checkpoint at {checkpoint}: give a folder with config.json and safetensors, or a hub name "
            "(owner/name). The toy checkpoint is made by `make toy-model`"
        )
    return hub_commit(checkpoint, revision, "model")


def hub_commit(name: str, revision: str | None, kind: str) -> str:
    """The 40-digit commit that `revision` (default: the newest) of a hub repository means now.

    Without network, the commit in the local cache. Args: kind: "model" or "dataset".

    Raises:
        UserError: unknown repository or revision, or neither network nor cache.
    """
    from huggingface_hub import HfApi, errors

    if revision and COMMIT.fullmatch(revision):
        return revision
    try:
        return HfApi().repo_info(name, revision=revision, repo_type=kind, timeout=20).sha
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise UserError(
            f"no {kind} {name!r} (revision {revision or 'main'}) on the hub, or no access to it; a gated one "
            f"needs `hf auth login`. {str(error).splitlines()[0]}"
        ) from error
    except (errors.OfflineModeIsEnabled, errors.HfHubHTTPError, OSError) as error:
        unreachable = error
    except Exception as error:  # the HTTP library's own connection errors, whose base class changed between releases
        if not type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):
            raise
        unreachable = error
    if commit := _cached_commit(name, revision, kind):
        return commit
    offline = isinstance(unreachable, errors.OfflineModeIsEnabled)
    raise UserError(
        f"cannot reach the hub for {kind} {name!r} and it is not cached "
        f"({'offline' if offline else type(unreachable).__name__}); "
        "download it once with network, or give a local folder"
    ) from unreachable


def _cached_commit(name: str, revision: str | None, kind: str) -> str | None:
    """The commit that loading without network will use."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.constants import HF_HUB_CACHE

    if kind == "dataset":  # `datasets` keeps prepared data under the commit and takes the newest when offline
        from datasets.config import HF_DATASETS_CACHE
        from datasets.naming import camelcase_to_snakecase  # "COCO-Caption2017" lies in "coco-caption2017"

        *owner, own_name = name.split("/")
        folder = "___".join([*owner, camelcase_to_snakecase(own_name)])
        prepared = [path for path in Path(HF_DATASETS_CACHE).glob(f"{folder}/*/*/*") if COMMIT.fullmatch(path.name)]
        if prepared:
            return max(prepared, key=lambda path: path.stat().st_mtime).name
    reference = Path(HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}" / "refs" / (revision or "main")
    if reference.is_file():
        return reference.read_text(encoding="utf-8").strip()
    cached = try_to_load_from_cache(name, "config.json", revision=revision, repo_type=kind)
    commit = Path(cached).parent.name if isinstance(cached, str) else ""
    return commit if COMMIT.fullmatch(commit) else None


def loaded_data_commit(cache_files: Iterable[dict[str, str]]) -> str | None:
    """The commit in the path of a data set's cache files (…/<config>/<version>/<commit>/<file>.arrow), if any."""
    for entry in cache_files:
        folder = Path(entry["filename"]).parent.name
        if COMMIT.fullmatch(folder):
            return folder
    return None
