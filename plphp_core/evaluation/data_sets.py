"""Where a task's data lie: in a folder of one's own, or on the hub under whichever organisation has them now."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets

from plphp_core.records.errors import UserError
from plphp_core.records.revisions import DATA_FILES, Fingerprints, hub_commit

# Those of lmms-eval's authors, who moved their data from one to the other; task files name one of them.
ORGANISATIONS = ("lmms-lab-encoder", "lmms-lab", "lmms-eval", "lmms-lab-eval")
FILES = ("parquet", "json", "csv", "arrow", "text", "imagefolder", "webdataset")  # kinds, where no name is given
FROM_HUB = datasets.load_dataset


class DataSets:
    """The data of tasks, ours and lmms-eval's own.

    Args:
        root: where `<data set>` or `<data set>/<configuration>` are folders written by `save_to_disk`, if anywhere;
            they come before the hub.
    """

    def __init__(self, root: Path | None, fingerprints: Fingerprints):
        self.root, self.fingerprints = root, fingerprints
        self._found: dict[str, tuple[str, str]] = {}

    def folder(self, path: str, name: str | None = None) -> Path | None:
        """One's own folder of a data set; None if there is none."""
        if self.root is None or path in FILES:
            return None
        whole = self.root / Path(path).name
        return next((one for one in (whole / (name or ""), whole) if (one / "dataset_dict.json").is_file()), None)

    def revision(self, config: Mapping[str, Any]) -> str:
        """What identifies a task's data. Raises UserError if they are nowhere."""
        path, options = config["dataset_path"], config.get("dataset_kwargs") or {}
        if options.get("load_from_disk"):
            if not Path(path).is_dir():
                raise UserError(
                    f"task {config['task']}: no data at {path}; the toy data are made by `python -m tasks.toy.generate`"
                )
            return self.fingerprints.of(Path(path), DATA_FILES)
        if files := options.get("data_files"):
            files = files.values() if isinstance(files, dict) else [files] if isinstance(files, str) else files
            return self.fingerprints.of(Path(next(iter(files))).parent, DATA_FILES)
        if self.folder(path, config.get("dataset_name")) is not None:
            return self.fingerprints.of(self.root / Path(path).name, DATA_FILES)  # type: ignore[operator]  # a folder
        if path in FILES:
            raise UserError(f"task {config['task']}: its data are files ({path}) that its task file does not name")
        return self.repository(path, options.get("revision"))[1]

    def repository(self, path: str, revision: str | None = None) -> tuple[str, str]:
        """The repository that has a data set, and its commit.

        Raises:
            UserError: it is under none of ORGANISATIONS.
        """
        if path not in self._found:
            owner, _, name = path.partition("/")
            owners = dict.fromkeys([owner, *(ORGANISATIONS if owner in ORGANISATIONS else ())])
            first: UserError | None = None
            for one in owners:
                try:
                    where = f"{one}/{name}" if name else one  # gsm8k has no owner
                    self._found[path] = where, hub_commit(where, revision, "dataset")
                    break
                except UserError as error:
                    first = first or error
            else:
                also = f"; nor under {', '.join(list(owners)[1:])}" if len(owners) > 1 else ""
                own = "" if self.root is None else f", or {self.root / Path(path).name} as a folder of your own"
                raise UserError(f"{first}{also}{own}") from first
        return self._found[path]

    def load(self, path: str, name: str | None = None, *args: Any, **options: Any) -> Any:
        """As `datasets.load_dataset`, from where the data are. No login is asked for that the hub does not ask for."""
        options.pop("token", None)
        folder = self.folder(path, name)
        if folder is None:
            found = path if path in FILES else self.repository(path, options.get("revision"))[0]
            return FROM_HUB(found, name, *args, **options)
        loaded = datasets.load_from_disk(str(folder))
        return loaded[options["split"]] if options.get("split") else loaded

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block, whoever takes `load_dataset` from `datasets` gets `load`: lmms-eval and its tasks' code."""
        before, datasets.load_dataset = datasets.load_dataset, self.load
        try:
            yield
        finally:
            datasets.load_dataset = before
