"""lmms-eval's side of an evaluation: its task files, its request building, its filters and its metrics."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from PIL.Image import Image

from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.config.locations import PACKAGED
from plphp_core.config.run_settings import Benchmark, Settings
from plphp_core.evaluation.data_sets import DataSets
from plphp_core.evaluation.options import PASSED_ON
from plphp_core.evaluation.requests import Request
from plphp_core.evaluation.task_index import TaskIndex, TaskRefused, is_told_to_stop, quiet
from plphp_core.evaluation.task_scores import CAPTION_SCORES, TaskScorer
from plphp_core.records.cache_keys import installed, metrics_code, task_code
from plphp_core.records.errors import RunError, UserError
from plphp_core.records.revisions import Fingerprints, loaded_data_commit


@dataclass(frozen=True)
class TaskFacts:
    """What can be known of a task without opening its data.

    Attributes:
        code: file → hash, of what chooses documents and makes prompts and images; and the task file's own words on it.
        scoring: the same of what scores, extra metrics included.
        own: whether it is one of the task files below tasks/, and not lmms-eval's.
    """

    benchmark: Benchmark
    task: str  # lmms-eval's name, with the protocol's suffix where there is such a variant
    version: Any
    generation: dict
    data: str  # revision of the data
    code: dict[str, str] = field(default_factory=dict, repr=False)
    scoring: dict[str, str] = field(default_factory=dict, repr=False)
    own: bool = True


@dataclass(eq=False)
class OpenTask:
    """A task with its data set, ready to hand out requests and to score answers.

    Attributes:
        population: all samples of the benchmark.
        requests: doc_id → request, for every sample; images are decoded when a request's `visuals` is called.
        together: doc_id → first of the samples that it belongs together with; empty: each stands alone.
    """

    facts: TaskFacts
    task: Any
    population: int
    requests: dict[int, Request] = field(repr=False)
    together: dict[int, int] = field(default_factory=dict, repr=False)

    def chosen(self, limit: int | None, seed: int) -> list[int]:
        """Row numbers to answer, ascending: all, or a random subset that depends on nothing but its arguments.

        A smaller limit's subset lies within a larger one's, so raising the limit answers only what is new. Rows that
        belong together are all in it or none, so it may have fewer rows than the limit.

        Raises:
            UserError: the limit is smaller than the first group of rows.
        """
        rows = sorted(self.requests)
        if limit is None:
            return rows
        groups: dict[int, list[int]] = {}
        for row in rows:
            groups.setdefault(self.together.get(row, row), []).append(row)
        drawn = list(groups)
        found: list[int] = []
        random.Random(seed).shuffle(drawn)
        for group in drawn:
            if len(found) + len(groups[group]) > limit:
                break
            found += groups[group]
        if not found:
            column = catalogue()[self.facts.benchmark.label].together
            raise UserError(
                f"limit={limit} is smaller than a group of {self.facts.task}, whose rows of one {column} are scored "
                f"together: there are {len(groups[drawn[0]])} in a group; give limit={len(groups[drawn[0]])} or more"
            )
        return sorted(found)

    def score(self, texts: dict[int, str], extra_metrics: dict[str, Callable]) -> dict[str, dict]:
        """Metrics of the answered samples, by lmms-eval's own functions.

        Args:
            texts: doc_id → answer, in the order of the per-sample lists to return.
            extra_metrics: name → function of (answer text, list of references) giving a score per sample; of our own
                tasks alone, since nobody knows what another's references are.
        Returns:
            name → what `Metric` holds.
        Raises:
            RunError: an answer or a metric cannot be scored, or there is no metric.
        """
        return self.scorer.score(texts, extra_metrics if self.facts.own else {})

    @cached_property
    def scorer(self) -> TaskScorer:
        info = replace(catalogue()[self.facts.benchmark.label], label=self.facts.benchmark.label)
        return TaskScorer(self.facts.task, self.task, info, self.together)


class Suite:
    """The task files below `folder`, or of the working directory's and the packaged tasks/, and lmms-eval's own."""

    def __init__(self, settings: Settings, fingerprints: Fingerprints, folder: Path | None = None):
        self.settings = settings
        self.fingerprints = fingerprints
        family = settings.model.make_family()
        own, packaged = settings.root / "tasks", PACKAGED / "tasks"
        folders = [folder] if folder else [*([own] if own.is_dir() and own != packaged else []), packaged]
        self.index = TaskIndex(folders, family.upstream or family.name)
        self.data = DataSets(settings.data_root, fingerprints)
        self.remarks: list[str] = []  # members of groups that are left out, generation arguments that are not passed on
        self._facts: dict[Benchmark, list[TaskFacts]] = {}
        self._open: dict[str, OpenTask] = {}

    def all_facts(self, benchmarks: Iterable[Benchmark]) -> list[TaskFacts]:
        """The tasks of benchmarks, members in the place of groups, each once.

        Raises:
            TaskRefused: some of them cannot be run; the message is about each of these.
            UserError: the data of one cannot be found.
        """
        found: dict[str, TaskFacts] = {}
        refused: list[str] = []
        for benchmark in benchmarks:
            try:
                found |= {facts.task: facts for facts in self.facts_of(benchmark)}
            except TaskRefused as error:
                refused.append(str(error))
        if refused:
            raise TaskRefused("; ".join(refused))
        return list(found.values())

    def facts(self, benchmark: Benchmark) -> TaskFacts:
        """What is known of the one task of a benchmark. Raises as `all_facts`, and UserError for a group of several."""
        first, *others = self.facts_of(benchmark)
        if others:
            names = ", ".join(one.task for one in (first, *others))
            raise UserError(f"{benchmark.name} is a group of tasks; choose one of {names}")
        return first

    def facts_of(self, benchmark: Benchmark) -> list[TaskFacts]:
        """Names, versions, generation arguments and data revisions of a benchmark's tasks under the run's protocol."""
        if benchmark not in self._facts:
            tasks, left_out = self.index.tasks_of(self._of_protocol(benchmark))
            self._facts[benchmark] = [self._facts_of_task(one) for one in tasks]
            self.remarks += [f"{benchmark.name} without {name}: {reason}" for name, reason in left_out.items()]
        return self._facts[benchmark]

    def _of_protocol(self, benchmark: Benchmark) -> Benchmark:
        name = f"{benchmark.task}_{self.settings.protocol}"
        own = self.settings.protocol != "lmms_eval" and self.index.is_own(name)
        return replace(benchmark, task=name) if own else benchmark

    def _facts_of_task(self, benchmark: Benchmark) -> TaskFacts:
        name, own = benchmark.task, self.index.is_own(benchmark.task)
        config, file = self.task_config(name), Path(self.index.manager(name).task_index[name]["yaml_path"])
        where = next((one for one in self.index.folders if file.is_relative_to(one)), file.parent)
        generation, version = dict(config.get("generation_kwargs") or {}), {}
        if not own:
            ignored = {key: value for key, value in generation.items() if key not in PASSED_ON}
            generation = {key: value for key, value in generation.items() if key in PASSED_ON}
            version = {"lmms-eval": installed("lmms-eval")}
            if ignored:
                said = ", ".join(f"{key}={value!r}" for key, value in ignored.items())
                self.remarks.append(f"task {name}: {said} not passed on, as by lmms-eval's models")
        info = catalogue()[benchmark.label]
        extra = [f"{CAPTION_SCORES}.cider"] if info.group == "caption" and not own else []
        extra += self.settings.extra_metrics.values() if own else []
        return TaskFacts(
            benchmark=benchmark,
            task=name,
            version=_version(config.get("metadata")),
            generation=generation,
            data=self.data.revision(config),
            code=version | task_code(config, where, scoring=False),
            scoring=task_code(config, where, scoring=True)
            | metrics_code(extra)
            | ({"together": info.together} if info.together else {}),
            own=own,
        )

    def is_open(self, facts: TaskFacts) -> bool:
        """Whether the task's data are loaded already."""
        return facts.task in self._open

    def open(self, facts: TaskFacts) -> OpenTask:
        """Load a task's data and build its requests, once.

        Raises:
            UserError: the data cannot be loaded, or show no images.
        """
        if facts.task not in self._open:
            self._open[facts.task] = self._load(facts)
        return self._open[facts.task]

    def _load(self, facts: TaskFacts) -> OpenTask:
        config = self.task_config(facts.task)
        override = {"task": facts.task, "dataset_path": config["dataset_path"]}
        if not facts.own:
            override["dataset_kwargs"] = _without_login(config)
        try:
            # progress bars of data loading and request building; ours is the one that counts
            with quiet(), self.data.in_place():
                task = self.index.manager(facts.task).load_config(override)[facts.task]
                task.build_all_requests(limit=None, rank=0, world_size=1)
        except (Exception, SystemExit) as error:
            if is_told_to_stop(error):
                raise
            raise UserError(f"cannot open task {facts.task}: {_reason(error)}") from error
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
            if not facts.own:
                generation = {key: value for key, value in generation.items() if key in PASSED_ON}
            visuals = partial(_visuals, doc_to_visual, documents, doc_id)
            name = f"{facts.benchmark.label} document {doc_id}"
            requests[doc_id] = Request(context, generation, visuals, doc_id, name)
        if not facts.own:
            _shows_images(facts.task, requests[min(requests)])
        together = groups_of_rows(catalogue()[facts.benchmark.label].together, task.eval_docs_no_media)
        return OpenTask(facts, task, len(requests), requests, together)

    def task_config(self, name: str) -> dict:
        """A task's configuration with its includes, local data below the profile's data folder."""
        config = self.index.config(name)
        root = self.settings.data_root
        if (config.get("dataset_kwargs") or {}).get("load_from_disk") and root is not None:
            config = config | {"dataset_path": str(root / Path(config["dataset_path"]).name)}
        return config


def groups_of_rows(rule: str, rows) -> dict[int, int]:
    """Row → first row of its group, by a column of `rows` or its number: "question_id", "index % 1000000", "row // 2".

    Empty without a rule. Raises UserError for a rule that is none, or of another column.
    """
    if not rule:
        return {}
    parts = re.fullmatch(r"([^%/]+?)(?: (%|//) (\d+))?", rule)
    known = ["row", *rows.column_names]
    if parts is None or parts[1] not in known:
        raise UserError(f"together: {rule!r} of configs/tasks names none of the columns {', '.join(known)}")
    column, sign, number = parts.groups()
    first: dict[Any, int] = {}
    found = {}
    for row, value in enumerate(range(len(rows)) if column == "row" else rows[column]):
        if sign:
            value = int(value) % int(number) if sign == "%" else int(value) // int(number)
        found[row] = first.setdefault(value, row)
    return found


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
    try:
        return doc_to_visual(documents[doc_id])
    except SystemExit as error:  # of tasks that look for files
        if is_told_to_stop(error):
            raise
        raise RunError(f"the task gives up: {error}") from error


def _shows_images(task: str, request: Request) -> None:
    """Raises UserError unless what a task shows are images, or nothing."""
    try:
        shown = request.visuals() or []
    except Exception as error:
        raise UserError(f"task {task} cannot show {request}: {_reason(error)}") from error
    kinds = {type(one).__name__ for one in shown if not isinstance(one, Image)}
    if kinds:
        raise UserError(f"task {task} shows {', '.join(sorted(kinds))} (video, sound, paths); a run shows images")


def _without_login(config: Mapping) -> dict:
    """What lmms-eval is told of the data: `token: True` would want a login of whoever has none."""
    return {key: value for key, value in (config.get("dataset_kwargs") or {}).items() if key != "token"}


def _reason(error: BaseException) -> str:
    """The reason inside lmms-eval's retry wrapper, and what to do where that is known."""
    attempt = getattr(error, "last_attempt", None)
    cause = (attempt.exception() if attempt is not None else None) or error
    advice = "; `hf auth login` says who you are" if "gated" in str(cause) or "TokenNotFound" in repr(cause) else ""
    return f"{type(cause).__name__}: {cause}{advice}"


def _version(metadata) -> Any:
    entries = metadata if isinstance(metadata, list) else [metadata or {}]
    return next((entry["version"] for entry in entries if isinstance(entry, dict) and "version" in entry), None)
