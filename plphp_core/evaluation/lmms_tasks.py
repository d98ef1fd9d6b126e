"""lmms-eval's side of an evaluation: its task files, its request building, its filters and its metrics."""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from numbers import Real
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from plphp_core.config.locations import PACKAGED
from plphp_core.config.run_settings import Benchmark, Settings
from plphp_core.evaluation.requests import Request
from plphp_core.evaluation.task_code import metrics_code, task_code
from plphp_core.records.errors import RunError, UserError, unknown
from plphp_core.records.revisions import DATA_FILES, Fingerprints, hub_commit, loaded_data_commit


@dataclass(frozen=True)
class TaskFacts:
    """What can be known of a task without opening its data.

    Attributes:
        code: file → hash, of what chooses documents and makes prompts and images; and the task file's own words on it.
        scoring: the same of what scores, extra metrics included.
    """

    benchmark: Benchmark
    task: str  # lmms-eval's name, with the protocol's suffix where there is such a variant
    version: Any
    generation: dict
    data: str  # revision of the data
    code: dict[str, str] = field(default_factory=dict, repr=False)
    scoring: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(eq=False)
class OpenTask:
    """A task with its data set, ready to hand out requests and to score answers.

    Attributes:
        population: all samples of the benchmark.
        requests: doc_id → request, for every sample; images are decoded when a request's `visuals` is called.
    """

    facts: TaskFacts
    task: Any
    population: int
    requests: dict[int, Request] = field(repr=False)

    def chosen(self, limit: int | None, seed: int) -> list[int]:
        """Row numbers to answer, ascending: all, or a random subset that depends on nothing but its arguments.

        A smaller limit's subset lies within a larger one's, so raising the limit answers only what is new.
        """
        rows = sorted(self.requests)
        if limit is None:
            return rows
        random.Random(seed).shuffle(rows)
        return sorted(rows[:limit])

    def score(self, texts: dict[int, str], extra_metrics: dict[str, Callable]) -> dict[str, dict]:
        """Metrics of the answered samples, replayed through lmms-eval.

        Args:
            texts: doc_id → answer, in the order of the per-sample lists to return.
            extra_metrics: name → function of (answer text, list of references) giving a score per sample.
        Returns:
            name → {"value", "kind", "samples", "groups", "subsets"}; values are fractions.
        """
        if not texts:
            return {name: _nothing() for name in [*list(self.task.aggregation())[:1], *extra_metrics]}
        instances = self._instances(texts)
        key = next(iter(instances[0].filtered_resps))
        documents = self.task.eval_docs_no_media
        items: dict[str, list] = {name: [] for name in self.task.aggregation()}
        extra: dict[str, list[float]] = {name: [] for name in extra_metrics}
        for instance in instances:
            document = documents[instance.doc_id]
            answer = instance.filtered_resps[key]
            for name, item in self._process(document, answer, instance.doc_id).items():
                if name in items:
                    items[name].append(item)
            references = self.task.doc_to_target(document) if extra_metrics else []
            references = references if isinstance(references, list) else [references]
            for name, function in extra_metrics.items():
                with self._scoring(f"metric {name} of sample {instance.doc_id}"):
                    extra[name].append(float(function(answer, references)))
        found = {}
        for name, some in items.items():
            if some:
                with self._scoring(f"metric {name}"):
                    found[name] = _aggregate(self.task.aggregation()[name], some)
        found = {name: metric for name, metric in found.items() if not _of_subset(name, found, len(texts))}
        return found | {name: _mean(values) for name, values in extra.items()}

    def _instances(self, texts: dict[int, str]) -> list:
        """lmms-eval's own requests of these samples, filled with our answers and sent through its filters."""
        wanted = {instance.doc_id: instance for instance in self.task.instances if instance.doc_id in texts}
        instances = []
        for doc_id, text in texts.items():
            instance = wanted[doc_id]
            instance.resps, instance.filtered_resps = [text], {}
            instances.append(instance)
        everything, self.task._instances = self.task._instances, instances
        try:
            self.task.apply_filters()
        finally:
            self.task._instances = everything
        return instances

    def _process(self, document: dict, answer: str, doc_id: int) -> dict:
        # lmms-eval retries process_results for seconds, as if a metric were a flaky server; call what it wraps.
        process = inspect.unwrap(type(self.task).process_results)
        with self._scoring(f"sample {doc_id}"):
            return process(self.task, document, [answer])

    @contextlib.contextmanager
    def _scoring(self, what: str):
        """A scorer that fails costs its cell, not the run."""
        try:
            yield
        except Exception as error:
            message = f"task {self.facts.task} cannot score {what}: {type(error).__name__}: {error}"
            raise RunError(message) from error


class Suite:
    """The task files below `folder`, or of the working directory's and the packaged tasks/, as lmms-eval reads them."""

    def __init__(self, settings: Settings, fingerprints: Fingerprints, folder: Path | None = None):
        from lmms_eval.tasks import TaskManager

        self.settings = settings
        self.fingerprints = fingerprints
        own, packaged = settings.root / "tasks", PACKAGED / "tasks"
        self.folders = [folder] if folder else [*([own] if own.is_dir() and own != packaged else []), packaged]
        self.manager = TaskManager(include_path=list(map(str, self.folders)), include_defaults=False)
        self._open: dict[str, OpenTask] = {}

    def facts(self, benchmark: Benchmark) -> TaskFacts:
        """Name, version, generation arguments and data revision of a benchmark under the run's protocol.

        Raises:
            UserError: no such task, or its data cannot be found.
        """
        name = benchmark.task
        if self.settings.protocol != "lmms_eval" and f"{name}_{self.settings.protocol}" in self.manager.all_tasks:
            name = f"{name}_{self.settings.protocol}"
        if name not in self.manager.all_subtasks:
            raise unknown("task", name, self.manager.all_subtasks)
        config, file = self.task_config(name), Path(self.manager.task_index[name]["yaml_path"])
        where = next(one for one in self.folders if file.is_relative_to(one))
        return TaskFacts(
            benchmark=benchmark,
            task=name,
            version=_version(config.get("metadata")),
            generation=dict(config.get("generation_kwargs") or {}),
            data=self._data_revision(config),
            code=task_code(config, where, scoring=False),
            scoring=task_code(config, where, scoring=True) | metrics_code(self.settings.extra_metrics.values()),
        )

    def is_open(self, facts: TaskFacts) -> bool:
        """Whether the task's data are loaded already."""
        return facts.task in self._open

    def open(self, facts: TaskFacts) -> OpenTask:
        """Load a task's data and build its requests, once.

        Raises:
            UserError: the data cannot be loaded.
        """
        if facts.task not in self._open:
            self._open[facts.task] = self._load(facts)
        return self._open[facts.task]

    def _load(self, facts: TaskFacts) -> OpenTask:
        override = {"task": facts.task, "dataset_path": self.task_config(facts.task)["dataset_path"]}
        quiet = io.StringIO()  # progress bars of data loading and request building; ours is the one that counts
        try:
            with contextlib.redirect_stderr(quiet):
                task = self.manager.load_config(override)[facts.task]
                task.build_all_requests(limit=None, rank=0, world_size=1)
        except Exception as error:
            cause = _cause(error)
            raise UserError(f"cannot open task {facts.task}: {type(cause).__name__}: {cause}") from error
        split = task.config.test_split or task.config.validation_split
        documents = task.dataset[split]
        commit = loaded_data_commit(documents.cache_files)
        if commit and len(facts.data) == len(commit) and facts.data != commit:
            raise UserError(
                f"task {facts.task}: the hub has data revision {facts.data}, the local cache {commit}; "
                "run again with network, or with HF_HUB_OFFLINE=1 to use the cache"
            )
        requests = {}
        for instance in task.instances:
            context, generation, doc_to_visual, doc_id, *_ = instance.args
            visuals = partial(_visuals, doc_to_visual, documents, doc_id)
            name = f"{facts.benchmark.label} document {doc_id}"
            requests[doc_id] = Request(context, generation, visuals, doc_id, name)
        return OpenTask(facts, task, len(requests), requests)

    def task_config(self, name: str) -> dict:
        """A task's configuration with its includes, local data below the profile's data folder."""
        config = self.manager._get_config(name)
        root = self.settings.data_root
        if (config.get("dataset_kwargs") or {}).get("load_from_disk") and root is not None:
            config = config | {"dataset_path": str(root / Path(config["dataset_path"]).name)}
        return config

    def _data_revision(self, config: dict) -> str:
        path, options = config["dataset_path"], config.get("dataset_kwargs") or {}
        if options.get("load_from_disk"):
            if not Path(path).is_dir():
                raise UserError(
                    f"task {config['task']}: no data at {path}; the toy data are made by `python -m tasks.toy.generate`"
                )
            return self.fingerprints.of(Path(path), DATA_FILES)
        if options.get("data_files"):
            files = options["data_files"]
            files = files.values() if isinstance(files, dict) else [files] if isinstance(files, str) else files
            return self.fingerprints.of(Path(next(iter(files))).parent, DATA_FILES)
        return hub_commit(path, options.get("revision"), "dataset")


def metric_function(path: str) -> Callable[[str, list[str]], float]:
    """The function at a dotted path such as `tasks.toy.slots.slot_accuracy`.

    Raises:
        UserError: there is none.
    """
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"no function {path!r} for an extra metric: {error}") from error


def _visuals(doc_to_visual: Callable, documents, doc_id: int) -> list:
    return doc_to_visual(documents[doc_id])


def _version(metadata) -> Any:
    entries = metadata if isinstance(metadata, list) else [metadata or {}]
    return next((entry["version"] for entry in entries if isinstance(entry, dict) and "version" in entry), None)


def _aggregate(function: Callable, items: list) -> dict:
    if detail := getattr(function, "detail", None):
        found = detail(items)
        return {
            "value": float(found["value"]),
            "kind": found["kind"],
            "samples": [float(x) for x in found["samples"]],
            "groups": found.get("groups"),
            "subsets": found.get("subsets") or {},
        }
    # A task of somebody else: some of lmms-eval's aggregations want to know where to write submission files.
    wants_args = "args" in inspect.signature(function).parameters
    value = float(function(items, args=SimpleNamespace(output_path="results")) if wants_args else function(items))
    if all(isinstance(item, Real) for item in items) and abs(value - sum(items) / len(items)) < 1e-9:
        return _mean(map(float, items))
    return {"value": value, "kind": "whole", "samples": [math.nan] * len(items), "groups": None, "subsets": {}}


def _of_subset(name: str, found: dict[str, dict], n: int) -> bool:
    """Whether a metric only repeats a sub-set of another, as lmms-eval needs it for its own table of results."""
    whole = [other for other in found if name.startswith(f"{other}_")]
    repeats = any(name.removeprefix(f"{other}_") in found[other]["subsets"] for other in whole)
    return repeats or len(found[name]["samples"]) != n


def _mean(values: Iterable[float]) -> dict:
    values = list(values)
    return {"value": sum(values) / len(values), "kind": "mean", "samples": values, "groups": None, "subsets": {}}


def _nothing() -> dict:
    return {"value": None, "kind": "mean", "samples": [], "groups": None, "subsets": {}}


def _cause(error: BaseException) -> BaseException:
    """The reason inside lmms-eval's retry wrapper."""
    attempt = getattr(error, "last_attempt", None)
    return (attempt.exception() if attempt is not None else None) or error
