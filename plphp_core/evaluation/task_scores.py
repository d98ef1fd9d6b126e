"""From the answers to the metrics of a cell, with lmms-eval's own functions: filters, items, aggregations.

An aggregation gives one number of all items. What lmms-eval leaves open is found by asking it again: of one document
alone (its score), and of resampled documents (the interval of what is no mean).
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from numbers import Real
from types import SimpleNamespace
from typing import Any

import numpy as np

from plphp_core.analysis.bootstrap import Resamples
from plphp_core.config.benchmark_catalogue import BenchmarkInfo
from plphp_core.evaluation.task_index import is_told_to_stop, only_written, quiet
from plphp_core.records.errors import RunError

PATIENCE = 120.0  # seconds that repeated aggregations of one metric may take; a slower one has no interval
CAPTION_SCORES, CAPTION_METRICS = "tasks.captions.scores", {"CIDEr": "cider", "METEOR": "meteor"}
PLAIN = (dict, list, set, int, float, str)


@dataclass(eq=False)
class TaskScorer:
    """What scores the answers to one task.

    Attributes:
        task: lmms-eval's, with its data.
        info: what is known of the benchmark.
        together: doc_id → number of the group of documents that it is drawn with; empty: each stands alone.
    """

    name: str
    task: Any
    info: BenchmarkInfo
    together: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self):
        self._globals = _plain_globals([self.task.config.process_results, *self.task.aggregation().values()])

    def score(self, texts: Mapping[int, str], extra_metrics: Mapping[str, Callable]) -> dict[str, dict]:
        """As `OpenTask.score`."""
        wanted = {name: one for name, one in self.task.aggregation().items() if self._wanted(name)}
        if not texts:
            return {name: _nothing() for name in [*list(wanted)[:1], *extra_metrics]}
        found: dict[str, dict] = {}
        with self._undisturbed():
            filtered = self._filtered(texts)
            for number, (key, answers) in enumerate(filtered.items()):
                items: dict[str, dict[int, Any]] = {name: {} for name in wanted}
                for doc, answer in answers.items():
                    for name, item in self._process(doc, answer).items():
                        if name in items:
                            items[name][doc] = item
                for name, some in items.items():
                    if some:
                        with self._scoring(f"metric {name}"):
                            shown = name if number == 0 else f"{name}, {key}"
                            found |= self._metric(shown, wanted[name], some, list(texts))
            for name, function in extra_metrics.items():
                values = []
                for doc, answer in next(iter(filtered.values())).items():
                    with self._scoring(f"metric {name} of sample {doc}"):
                        references = self.task.doc_to_target(self.documents[doc])
                        references = references if isinstance(references, list) else [references]
                        values.append(float(function(answer, references)))
                found[name] = _mean(values, math.fsum(values) / len(values))
        if not found:
            raise RunError(f"task {self.name}: no metric gives a number, of {', '.join(wanted) or 'none at all'}")
        return {name: metric for name, metric in found.items() if not _repeats_subset(name, found)}

    def item(self, doc: int, text: str) -> dict[str, Any]:
        """What the task makes of one answer, before anything is aggregated. Raises RunError."""
        with self._undisturbed():
            answers = next(iter(self._filtered({doc: text}).values()))
            return self._process(doc, answers[doc])

    @property
    def documents(self):
        """Rows as the task's scoring wants them: without images where it can do without."""
        return self.task.eval_docs_no_media

    def _wanted(self, name: str) -> bool:
        """Captions are scored by what tables show alone, since every one of lmms-eval's metrics tokenizes them anew."""
        if self.info.group == "caption" and self.info.metrics:
            return name in self.info.metrics
        return not only_written(name)

    def _filtered(self, texts: Mapping[int, str]) -> dict[str, dict[int, Any]]:
        """Filter → doc_id → answer. Documents go to the filters in the order of the answers, which they are paired
        with by position."""
        before, after = self._thoughts()
        instances = [SimpleNamespace(resps=[before(text)], filtered_resps={}) for text in texts.values()]
        documents = _Rows(self.documents, list(texts))
        for ensemble in self.task._filters:
            with self._scoring(f"filter {ensemble.name}"):
                ensemble.apply(instances, documents)
        keys = instances[0].filtered_resps
        return {
            key: {doc: after(one.filtered_resps[key]) for doc, one in zip(texts, instances, strict=True)}
            for key in keys
        }

    def _thoughts(self) -> tuple[Callable, Callable]:
        """What takes a chain of thought out of an answer, before and after the filters, where the task asks for it."""
        from lmms_eval.api.reasoning import parse_reasoning_tags_config, strip_reasoning_tags
        from lmms_eval.filters.transformation import StripThinkingFilter

        def after(found: Any) -> Any:
            if isinstance(found, list):
                return [after(one) for one in found]
            return strip_reasoning_tags(found, tags) if isinstance(found, str) else found

        tags = parse_reasoning_tags_config(task_value=self.task.config.reasoning_tags)
        if tags is not None:
            return str, after
        if self.task.config.auto_strip_thinking:
            return lambda text: StripThinkingFilter().apply([[text]], None)[0][0], lambda found: found
        return str, lambda found: found

    def _process(self, doc: int, answer: Any) -> dict[str, Any]:
        # lmms-eval retries process_results for seconds, as if a metric were a flaky server; call what it wraps.
        process, config = inspect.unwrap(type(self.task).process_results), self.task.config
        more = {"full_docs": self.documents} if config.full_docs and _takes(config.process_results, "full_docs") else {}
        with self._scoring(f"sample {doc}"):
            return process(self.task, self.documents[doc], [answer], **more)

    # --- metrics -----------------------------------------------------------------------------------------------------

    def _metric(self, name: str, function: Callable, items: dict[int, Any], docs: list[int]) -> dict[str, dict]:
        """A metric by its name; none if it is no number, several if its aggregation gives several."""
        if self.info.group == "caption" and not hasattr(function, "detail"):
            function, items = _caption_metric(name, function, items)
        if detail := getattr(function, "detail", None):
            found = detail(list(items.values()))
            samples = [float(one) for one in found["samples"]]
            own = {"value": float(found["value"]), "kind": found["kind"], "samples": samples}
            return {name: own | {"groups": found.get("groups"), "subsets": found.get("subsets") or {}}}
        start = time.perf_counter()
        value = self._aggregated(function, list(items.values()))
        seconds = time.perf_counter() - start
        if isinstance(value, Mapping):
            parts = {key: _part(function, key) for key, one in value.items() if _is_number(one)}
            several = (self._metric(f"{name}_{key}", part, items, docs) for key, part in parts.items())
            return {key: metric for one in several for key, metric in one.items()}
        if not _is_number(value):
            return {}
        value = float(value)
        numbers = self._numbers(items)
        if self._averages(function, [[one] for one in items.values()], numbers, value):
            return {name: _mean(_spread(numbers, items, docs), value)}
        units = self._units(items)
        alone = self._alone(function, units)
        averages = self._averages(function, list(units.values()), list(alone.values()), value)
        if averages and len(units) == len(items):
            return {name: _mean(_spread(alone.values(), items, docs), value)}
        if any(map(math.isnan, numbers)):
            numbers = [alone.get(self.together.get(doc, doc), math.nan) for doc in items]
        counts = self._counts(units, docs)
        if len(units) < 2:
            drawn = None
        elif averages:
            with np.errstate(invalid="ignore"):
                drawn = [float(one) for one in counts @ np.array(list(alone.values())) / counts.sum(axis=1)]
        else:
            drawn = self._repeated(function, list(units.values()), counts) if seconds * len(counts) < PATIENCE else None
        whole = {"value": value, "kind": "whole", "samples": _spread(numbers, items, docs), "groups": None}
        return {name: whole | {"subsets": {}, "replicates": drawn}}

    def _numbers(self, items: Mapping[int, Any]) -> list[float]:
        """The number of each item, nan where it has none: itself, or the entry that lmms-eval takes for its errors."""
        key = getattr(self.task.config, "score_key", None) or "score"
        numbers: Iterable[Any] = (item.get(key) if isinstance(item, Mapping) else item for item in items.values())
        return [float(one) if _is_number(one) else math.nan for one in numbers]

    def _averages(self, function: Callable, units: list[list], scores: list[float], value: float) -> bool:
        """Whether a metric is the mean of these scores of its units: of all and, lest that be chance, of some parts."""
        if not _agrees(scores, value):
            return False
        parts: list[slice] = [slice(None, None, 2), slice(1, None, 2), slice(max(1, len(units) // 3))]
        parts += [slice(at, at + 1) for at in range(min(20, len(units)))]
        for part in parts:
            some = [item for unit in units[part] for item in unit]
            try:
                own = self._aggregated(function, some) if some else math.nan
            except RunError:
                return False
            if some and not (_is_number(own) and _agrees(scores[part], float(own))):
                return False
        return True

    def _alone(self, function: Callable, units: Mapping[int, list]) -> dict[int, float]:
        """Document, or group of documents → the metric of it alone; empty where the aggregation cannot do that."""
        found: dict[int, float] = {}
        start = time.perf_counter()
        for unit, some in units.items():
            try:
                value = self._aggregated(function, some)
            except RunError:
                return {}
            if not _is_number(value) or time.perf_counter() - start > PATIENCE:
                return {}
            found[unit] = float(value)
        return found

    def _units(self, items: Mapping[int, Any]) -> dict[int, list]:
        found: dict[int, list] = {}
        for doc, item in items.items():
            found.setdefault(self.together.get(doc, doc), []).append(item)
        return found

    def _counts(self, units: Iterable[int], docs: Iterable[int]) -> np.ndarray:
        """How often each unit is drawn, (resamples, units): as the bootstrap of tables draws the documents."""
        draws = Resamples([self.together.get(doc, doc) for doc in docs], self.info.label)
        return draws.counts[:, np.searchsorted(draws.doc_ids, list(units))].astype(int)

    def _repeated(self, function: Callable, units: list[list], counts: np.ndarray) -> list[float] | None:
        """The metric of each resample; None if it cannot be asked of every choice of documents."""
        found = []
        for row in counts:
            try:
                again = self._aggregated(function, list(self._copies(units, row)))
            except RunError:
                return None
            found.append(float(again) if _is_number(again) else math.nan)
        return found

    def _copies(self, units: Sequence[list], counts: Sequence[int]) -> Iterator[Any]:
        """The items of each group as often as it is drawn; a group's copies are told apart by the column that makes it
        one, since an aggregation may gather by it."""
        column = self.info.together.split()[0] if self.info.together else ""
        for some, count in zip(units, counts, strict=True):
            for number in range(count):
                for item in some:
                    if number and isinstance(item, Mapping) and column in item:
                        own = item[column]
                        item = {**item, column: f"{own}#{number}" if isinstance(own, str) else own + number * 10**9}
                    yield item

    # --- calling code of others --------------------------------------------------------------------------------------

    def _aggregated(self, function: Callable, items: list) -> Any:
        """What an aggregation says of items. Some want to know where to write files, which go with the folder."""
        with self._scoring("its items"):
            self._restore()
            if "args" not in inspect.signature(function).parameters:
                return function(items)
            return function(items, args=SimpleNamespace(output_path=self._scratch.name))

    @cached_property
    def _scratch(self) -> tempfile.TemporaryDirectory:
        return tempfile.TemporaryDirectory()

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """The same answers get the same scores, whatever was scored before; nothing is printed."""
        before = random.getstate(), np.random.get_state()  # some tasks draw a letter for an answer without one
        random.seed(0)
        np.random.seed(0)
        self._restore()
        try:
            with quiet(), _muted():
                yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
            self._restore()

    def _restore(self) -> None:
        """Totals that a task's module keeps are as before the first score."""
        for scope, saved in self._globals:
            for name, value in saved.items():
                if scope.get(name) != value:
                    current = scope.get(name)
                    if isinstance(value, (dict, set)) and type(current) is type(value):
                        current.clear()
                        current.update(copy.deepcopy(value))
                    else:
                        scope[name] = copy.deepcopy(value)

    @contextlib.contextmanager
    def _scoring(self, what: str) -> Iterator[None]:
        """A scorer that fails costs its cell, not the run."""
        try:
            yield
        except RunError:
            raise
        except (Exception, SystemExit) as error:
            if is_told_to_stop(error):
                raise
            message = f"task {self.name} cannot score {what}: {type(error).__name__}: {error}"
            raise RunError(message) from error


@dataclass(frozen=True)
class _Rows:
    """Some rows of a data set, read when they are asked for."""

    rows: Any
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> dict:
        return self.rows[self.numbers[place]]

    def __iter__(self) -> Iterator[dict]:
        return (self.rows[number] for number in self.numbers)


@contextlib.contextmanager
def _muted() -> Iterator[None]:
    """lmms-eval says its scores itself, once per aggregation; we ask thousands of times."""
    from loguru import logger

    logger.disable("")
    try:
        yield
    finally:
        logger.enable("")


def _plain_globals(functions: Iterable[Any]) -> list[tuple[dict, dict]]:
    """Each module's globals, and a copy of what is plain data in them."""
    scopes = {id(one.__globals__): one.__globals__ for one in functions if hasattr(one, "__globals__")}
    found = []
    for scope in scopes.values():
        if str(scope.get("__name__", "")).startswith("plphp_"):
            continue
        saved = {}
        for name, value in scope.items():
            if not name.startswith("__") and type(value) in PLAIN:
                with contextlib.suppress(Exception):  # what cannot be copied is left alone
                    saved[name] = copy.deepcopy(value)
        found.append((scope, saved))
    return found


def _caption_metric(name: str, function: Callable, items: dict[int, Any]) -> tuple[Callable, dict[int, Any]]:
    """Our own CIDEr and METEOR in the place of lmms-eval's, with its items as they want them: equal in value, and they
    give a score to each caption."""
    ours = next((one for end, one in CAPTION_METRICS.items() if name.endswith(end)), None)
    if ours is None:
        return function, items
    renamed = {"prediction": "pred", "references": "answer"}
    theirs = {doc: {own: item[key] for own, key in renamed.items()} | {"id": doc} for doc, item in items.items()}
    return getattr(import_module(CAPTION_SCORES), ours), theirs


def _part(function: Callable, key: Any) -> Callable:
    """An aggregation that gives one of the numbers of `function`."""
    if _takes(function, "args"):
        return lambda items, args: function(items, args=args).get(key)
    return lambda items: function(items).get(key)


def _takes(function: Any, name: str) -> bool:
    return callable(function) and name in inspect.signature(function).parameters


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _agrees(numbers: Sequence[float], value: float) -> bool:
    """Whether a value is the mean of these."""
    return bool(numbers) and abs(math.fsum(numbers) / len(numbers) - value) < 1e-5 * max(1.0, abs(value))  # some round


def _repeats_subset(name: str, found: Mapping[str, dict]) -> bool:
    """Whether a metric only repeats a sub-set of another, as lmms-eval needs it for its own table of results."""
    whole = [other for other in found if name.startswith(f"{other}_")]
    return any(name.removeprefix(f"{other}_") in found[other]["subsets"] for other in whole)


def _spread(values: Iterable[float], items: Iterable[int], docs: list[int]) -> list[float]:
    """The scores of `items`, documents, among those of all: nan where a metric is not about a document."""
    of = dict(zip(items, values, strict=True))
    return [of.get(doc, math.nan) for doc in docs]


def _mean(samples: list[float], value: float) -> dict:
    return {"value": value, "kind": "mean", "samples": samples, "groups": None, "subsets": {}}


def _nothing() -> dict:
    return {"value": None, "kind": "mean", "samples": [], "groups": None, "subsets": {}}
