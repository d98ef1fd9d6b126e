"""The benchmarks' data: here, in the cache or on the hub, with the columns that the task's own functions read."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from plphp_core.config.run_settings import Benchmark
from plphp_core.evaluation.answering import Request, whole_images_only
from plphp_core.evaluation.lmms_tasks import Suite, TaskFacts
from plphp_core.families.base import IMAGE_MARK
from plphp_core.preflight.case import Case
from plphp_core.preflight.check import Finding, check, failed, first_line, ok, refused
from plphp_core.preflight.units import gib
from plphp_core.records.errors import UserError
from plphp_core.records.revisions import Fingerprints
from plphp_core.vision.images import as_rgb

MOST_ROWS = 5000  # whose images are looked at; more would take minutes
ANSWER = "a red square on the left"  # what the scoring function is tried with


@dataclass(frozen=True, eq=False)
class TaskData:
    """What is known of one benchmark.

    Attributes:
        task: lmms-eval's name.
        samples: how many there are; None if the hub does not say.
        request: the first sample, ready to be answered.
        images: most images of a sample; of the first one only where data are not here.
        contexts: texts of all samples where they are here, else of the first.
        to_download: bytes; 0 if nothing, None if unknown.
        largest: width of the widest image and height of the highest; None where not all have been seen.
    """

    task: str
    samples: int | None
    request: Request
    images: int
    contexts: list[str] = field(repr=False)
    to_download: int | None = 0
    largest: tuple[int, int] | None = None

    @property
    def complete(self) -> bool:
        """Whether all samples have been seen, not just the first."""
        return len(self.contexts) > 1 or self.samples == 1


@check("Data")
def data(case: Case) -> Iterator[Finding]:
    import datasets

    datasets.disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory() as folder:
            memory = case.settings.results / "fingerprints.json"
            suite = Suite(case.settings, Fingerprints(memory if memory.is_file() else Path(folder) / "fingerprints"))
            for benchmark in case.settings.benchmarks:
                case.metrics |= _metrics(suite, benchmark)
                yield _look(case, suite, benchmark)
    finally:
        datasets.enable_progress_bars()


def _look(case: Case, suite: Suite, benchmark: Benchmark) -> Finding:
    name = benchmark.label
    try:
        facts = suite.facts(benchmark)
    except UserError as error:
        return _refused(suite, benchmark, error)
    config = suite._config(facts.task)
    path, local = config["dataset_path"], _is_local(config)
    try:
        rows, samples, to_download = _rows(config)
    except Exception as error:  # of the hub, the network, pyarrow, or of process_docs where no row belongs to the task
        return failed(f"{name}: {path} cannot be opened: {first_line(error)}", _get(path, local))
    try:
        found = _try(facts, config, rows, samples, to_download)
    except KeyError as error:
        columns = ", ".join(map(str, rows.column_names or ()))
        return failed(
            f"{name}: no column {error} in {path}; there are {columns[:120] or 'none'}",
            f"the task {facts.task} reads another version of this data set: {_get(path, local)}",
        )
    except Exception as error:  # a broken image, an empty split, a column of another type
        return failed(f"{name}: the first sample of {path} cannot be used: {first_line(error)}", _get(path, local))
    case.tasks.append(found)
    count = "?" if samples is None else f"{samples:,}"
    most = f"up to {found.images} images" if found.images != 1 else "1 image"
    where = "" if found.complete else ", streamed from the hub"
    size = "" if to_download == 0 else f", {gib(to_download)} to download" if to_download else ", download size unknown"
    return ok(f"{name}: {count} samples, {most}{where}{size}")


def _refused(suite: Suite, benchmark: Benchmark, error: UserError) -> Finding:
    found = refused(error, "choose other benchmarks with tasks=…", f"{benchmark.label}: ")
    if benchmark.task not in suite.manager.all_subtasks:
        return found
    config = suite._config(benchmark.task)
    return found if _is_local(config) else failed(found.found, _get(config["dataset_path"], local=False))


def _is_local(config: dict) -> bool:
    return bool((config.get("dataset_kwargs") or {}).get("load_from_disk"))


def _metrics(suite: Suite, benchmark: Benchmark) -> dict[str, Callable]:
    """Metrics by name → aggregation over items; they can be tried without any data."""
    if benchmark.task not in suite.manager.all_subtasks:
        return {}
    return {one["metric"]: one["aggregation"] for one in suite._config(benchmark.task).get("metric_list") or ()}


def _rows(config: dict):
    """The rows of the task's split: all of them where they are here, else a stream that downloads what is read.

    Returns:
        rows, their number (None if unknown), bytes still to download (None if unknown).
    """
    import datasets

    options = dict(config.get("dataset_kwargs") or {})
    split = config.get("test_split") or config["validation_split"]
    if options.pop("load_from_disk", False):
        rows = _filtered(config, datasets.load_from_disk(config["dataset_path"])[split])
        return rows, len(rows), 0
    options.pop("token", None)
    place = {"path": config["dataset_path"], "name": config.get("dataset_name"), **options}
    place["cache_dir"] = os.environ.get("LMMS_EVAL_DATASETS_CACHE") or None  # as lmms-eval does
    builder = datasets.load_dataset_builder(**place)
    if Path(builder.cache_dir).is_dir():
        rows = _filtered(config, datasets.load_dataset(**place, split=split))
        return rows, len(rows), 0
    info = builder.info
    samples = info.splits[split].num_examples if info.splits and split in info.splits else None
    # The files as they are on the hub, and the table that `datasets` makes of them.
    size = info.download_size + (info.dataset_size or 0) if info.download_size else None
    return datasets.load_dataset(**place, split=split, streaming=True), samples, size


def _filtered(config: dict, rows):
    return config["process_docs"](rows) if config.get("process_docs") else rows


def _try(facts: TaskFacts, config: dict, rows, samples: int | None, to_download: int | None) -> TaskData:
    """Call everything that the run will call on a sample."""
    with whole_images_only():  # reading a row decodes its images
        first = next(iter(rows))
        context = _value(config["doc_to_text"], first)
        visuals = _value(config["doc_to_visual"], first)
        visuals = visuals if isinstance(visuals, list) else [visuals]
        for image in visuals:
            image.load()
            as_rgb(image)
    if _value(config["doc_to_target"], first) is None:
        raise ValueError("it has no reference answer")
    config["process_results"](first, [ANSWER])
    contexts = _contexts(config, rows) or [context]
    marks = max(text.count(IMAGE_MARK) for text in contexts)
    request = Request(context, facts.generation, lambda: visuals, tag=facts.task)
    return TaskData(
        facts.task, samples, request, max(marks, len(visuals)), contexts, to_download, _largest(rows, visuals)
    )


def _contexts(config: dict, rows) -> list[str]:
    """Texts of all rows, read without pictures; none where rows are streamed or the texts need the pictures."""
    if not hasattr(rows, "__len__"):
        return []
    heavy = [name for name, feature in rows.features.items() if _heavy(feature)]
    with contextlib.suppress(KeyError):
        return [_value(config["doc_to_text"], row) for row in rows.remove_columns(heavy)]
    return []


def _largest(rows, visuals: list) -> tuple[int, int] | None:
    """Width and height that no image of the rows exceeds, from the images' headers; None if unknown or too many.

    Args:
        visuals: the first row's images as the task makes them of the row.
    """
    if not hasattr(rows, "__len__") or len(rows) > MOST_ROWS:
        return None
    sizes = []
    try:  # in Arrow's own form pictures are bytes, however deeply nested
        for batch in rows.with_format("arrow").iter(batch_size=16):
            sizes += [_size(one) for one in _encoded_images(batch.to_pylist())]
    except (OSError, TypeError):  # something else than an image, or a damaged one
        return None
    sizes += [image.size for image in visuals] if sizes else []
    return (max(width for width, _ in sizes), max(height for _, height in sizes)) if sizes else None


def _encoded_images(value) -> Iterator:
    """Files of images, as bytes or as a path, in nested lists and dictionaries."""
    if isinstance(value, dict) and set(value) == {"bytes", "path"}:
        yield value["path"] if value["bytes"] is None else value["bytes"]
    elif isinstance(value, bytes):
        yield value
    elif isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _encoded_images(one)


def _size(encoded: bytes | str) -> tuple[int, int]:
    from PIL import Image

    with Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded) as image:
        return image.size


def _heavy(feature) -> bool:
    import datasets

    return isinstance(feature, datasets.Image) or "binary" in str(getattr(feature, "dtype", ""))


def _value(source, row: dict):
    """What a task file's `doc_to_…` means for a row: a function of it, or a column's name."""
    return source(row) if callable(source) else row[source]


def _get(path: str, local: bool) -> str:
    if local:
        return f"draw or copy the data again; the toy's: `rm -r {path}` and `python -m tasks.toy.generate`"
    return (
        f"see that https://huggingface.co/datasets/{path} can be reached, or fill the cache on a machine with network "
        f"(`python -c \"import datasets; datasets.load_dataset('{path}')\"`); a gated one needs `hf auth login`"
    )
