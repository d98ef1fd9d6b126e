"""Which tasks there are and which of them can be run: ours below tasks/, else lmms-eval's own, by name.

Whatever cannot be run is refused from its task file alone, before data or weights are touched.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from plphp_core.config.benchmark_catalogue import catalogue
from plphp_core.config.run_settings import Benchmark
from plphp_core.records.errors import UserError

GENERATION = "generate_until"
# What else a task may ask of a model, as `output_type` has it.
OTHER_KINDS = {
    "multiple_choice": "log-likelihoods of given answers",
    "loglikelihood": "log-likelihoods of given answers",
    "generate_until_multi_round": "a conversation of several rounds",
    "generate_until_agentic": "an agent that calls tools",
    "generate_visual_cot": "images that the model draws itself",
}
JUDGES = {"openai", "anthropic", "azure", "dashscope", "requests", "httpx", "zhipuai", "litellm"}
JUDGE_MODULES = (*JUDGES, "lmms_eval.llm_judge", "lmms_eval.verifiers.openai", "google.generativeai", "google.genai")
KEYS = ("api_key", "API_KEY", "OPENAI", "AZURE", "api key", "credentials")  # in messages of modules that want a login
PLAIN = (dict, list, tuple, set, str, int, float, bool)
WRITERS = ("submission", "passthrough")  # metrics of lmms-eval that only write a file for somebody's server


class TaskRefused(UserError):
    """A task that no run can carry out; the message says why and what to do."""


class TaskIndex:
    """The task files of `folders`, the first one first, and behind them those that lmms-eval brings.

    Args:
        model: lmms-eval's id of the model whose prompts are wanted, where a task has several.
    """

    def __init__(self, folders: Sequence[Path], model: str):
        from lmms_eval.tasks import TaskManager

        self.folders, self.model = folders, model
        self.own = TaskManager("ERROR", list(map(str, folders)), include_defaults=False, model_name=model)
        self._configs: dict[str, dict] = {}

    @property
    def upstream(self):
        """lmms-eval's index of its own tasks. Seconds, so it is made only for a name that is not ours."""
        return _upstream(self.model)

    def is_own(self, name: str) -> bool:
        return name in self.own.all_subtasks

    def manager(self, name: str):
        """What opens a task."""
        return self.own if self.is_own(name) else self.upstream

    def tasks_of(self, benchmark: Benchmark) -> tuple[list[Benchmark], dict[str, str]]:
        """The tasks that a benchmark stands for: itself, or the members of a group that can be run.

        Returns:
            the tasks; member of a group → why it is left out.
        Raises:
            TaskRefused: there is none of the name, or it cannot be run.
        """
        for name in (benchmark.task, benchmark.name):
            if self.is_own(name):
                return [Benchmark(benchmark.label, name)], {}
        name = benchmark.name or benchmark.task
        kind = self.upstream.task_index.get(name, {}).get("type")
        if kind is None:
            raise TaskRefused(self._unknown(benchmark))
        if kind == "task":
            self.check(name)
            return [Benchmark(benchmark.label, name)], {}
        if kind == "python_task":
            raise TaskRefused(f"task {name} is a Python class of lmms-eval, which no run here carries out")
        found, left_out = [], {}
        for member in self._members(name):
            try:
                self.check(member)
                found.append(Benchmark(catalogue().label_of_task(member), member))
            except TaskRefused as error:
                left_out[member] = str(error)
        if not found:
            reasons = "; ".join(left_out.values()) or "it is empty"
            raise TaskRefused(f"no task of the group {name} can be run: {reasons}")
        return found, left_out

    def config(self, name: str) -> dict[str, Any]:
        """A task's configuration with its includes and functions, read once.

        Raises:
            TaskRefused: what it imports is not there.
        """
        if name not in self._configs:
            try:
                with quiet():
                    self._configs[name] = self.manager(name)._get_config(name)
            except (Exception, SystemExit) as error:
                if is_told_to_stop(error) or (self.is_own(name) and not isinstance(error, SystemExit)):
                    raise
                raise TaskRefused(f"task {name} {_import_reason(error)}") from error
        return dict(self._configs[name])

    def check(self, name: str) -> None:
        """Raises TaskRefused if one of lmms-eval's own tasks cannot be run."""
        config = self.config(name)
        options, kind = config.get("dataset_kwargs") or {}, config.get("output_type") or GENERATION
        if kind != GENERATION:
            wants = OTHER_KINDS.get(kind, kind)
            raise TaskRefused(f"task {name} asks for {wants} (output_type {kind}); a run answers {GENERATION} alone")
        if options.get("video") or options.get("From_YouTube"):
            raise TaskRefused(f"task {name} shows videos; a run shows images")
        if int(config.get("repeats") or 1) > 1:
            raise TaskRefused(f"task {name} asks everything {config['repeats']} times; a run answers once")
        if int(config.get("num_fewshot") or 0) > 0 and not config.get("fewshot_config"):
            raise TaskRefused(
                f"task {name} shows {config['num_fewshot']} worked examples, but does not say which (fewshot_config), "
                "so that lmms-eval cannot make its prompts: copy its task file to tasks/ under another name and say so"
            )
        prompts = config.get("lmms_eval_specific_kwargs") or {}
        known = {"default", "dataset", self.model} & prompts.keys()
        if prompts and not known and all(isinstance(one, Mapping) for one in prompts.values()):
            raise TaskRefused(
                f"task {name} has prompts for {', '.join(prompts)}, but neither for {self.model} nor as default: copy "
                f"its task file to tasks/ under another name and add a `default` (docs/add-a-task.md)"
            )
        metrics = {one["metric"]: one.get("aggregation") for one in config.get("metric_list") or ()}
        if metrics and all(map(only_written, map(str, metrics))):
            raise TaskRefused(
                f"task {name} has no references: it only writes its answers for a server; choose one with references, "
                "such as a validation split"
            )
        if catalogue().knows_task(name):
            return  # tried without a network (tests/tasks/test_upstream_scores.py)
        scored = [function for metric, function in metrics.items() if not only_written(str(metric))]
        judged = [function for function in scored if asks_judge(function)]
        if asks_judge(config.get("process_results")) or (judged and len(judged) == len(scored)):
            near = [one for one in (f"{name}_static",) if one in self.upstream.task_index]
            instead = f"choose {near[0]}" if near else "choose a task that is scored by rule"
            raise TaskRefused(f"task {name} has its answers judged over a network; {instead}")

    def _members(self, name: str) -> list[str]:
        """The tasks of a group or tag, however deep, each once."""
        from lmms_eval.utils import load_yaml_config

        index, found, todo = self.upstream.task_index, [], [name]
        while todo:
            entry = index.get(one := todo.pop(0), {})
            if entry.get("type") == "task":
                found.append(one)
                continue
            listed = entry.get("task", -1)
            if listed == -1 and Path(str(entry.get("yaml_path"))).is_file():
                listed = load_yaml_config(entry["yaml_path"], mode="simple").get("task") or []
            for item in listed if isinstance(listed, list) else []:
                inner = item if isinstance(item, str) else item.get("task") or item.get("group")
                todo += inner if isinstance(inner, list) else [inner]
        return list(dict.fromkeys(found))

    def _unknown(self, benchmark: Benchmark) -> str:
        name = benchmark.name or benchmark.task
        prefix = benchmark.task.removesuffix(name)
        own = [one.removeprefix(prefix) for one in self.own.all_subtasks if one.startswith(prefix)]
        near = get_close_matches(name, dict.fromkeys([*own, *self.upstream.task_index]), n=5)
        said = f"near: {', '.join(near)}" if near else f"ours: {', '.join(sorted(set(own)))}"
        return (
            f"unknown task {name!r}; {said}; any task of lmms-eval that generates text can be named "
            "(`lmms-eval --tasks list` lists them)"
        )


@functools.cache
def _upstream(model: str):
    from lmms_eval.tasks import TaskManager

    with quiet():
        return TaskManager("ERROR", include_defaults=True, model_name=model)


def only_written(metric: str) -> bool:
    """Whether a metric of this name gives no score."""
    return any(word in metric for word in WRITERS)


def asks_judge(function: Callable | str | None) -> bool:
    """Whether what a function may call, as far as its own task's code goes, reaches for a network."""
    todo: list[tuple[Any, Any]] = [(function, None)]  # each with the class that it is a method of
    seen = set()
    while todo:
        one, owner = todo.pop()
        one = inspect.unwrap(one.func if isinstance(one, partial) else one) if callable(one) else None
        code = getattr(one, "__code__", None)
        if one is None or code is None or code in seen:
            continue
        seen.add(code)
        names = _names(code)
        owners = [owner] if owner else []
        for name in names:
            value = one.__globals__.get(name)
            if value is None:
                if name in JUDGES:  # imported within the function
                    return True
                continue
            origin = _origin(value)
            if any(origin == judge or origin.startswith(f"{judge}.") for judge in JUDGE_MODULES):
                return True
            if inspect.isfunction(value):
                todo.append((value, None))
            elif not isinstance(value, ModuleType) and type(value) not in PLAIN:
                owners.append(value if inspect.isclass(value) else type(value))
        for owner in owners:  # what may be called on it, as far as names tell
            todo += [(vars(owner)[used], owner) for used in names if inspect.isfunction(vars(owner).get(used))]
    return False


def _names(code: CodeType) -> set[str]:
    """Every name that a function's code uses, inner functions included."""
    inner = (_names(one) for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*inner)


def _origin(value: object) -> str:
    if isinstance(value, ModuleType):
        return value.__name__
    own = getattr(value, "__module__", None) if callable(value) else None
    return own or type(value).__module__ or ""


def _import_reason(error: BaseException) -> str:
    """Why a task file cannot be read, and what to do."""
    root = error
    while (inner := root.__cause__ or root.__context__) is not None:
        root = inner
    said = f"{type(root).__name__}: {str(root).strip() or 'no message'}".splitlines()[0][:200]
    if isinstance(root, ModuleNotFoundError):
        return f"needs the Python module {root.name}, which is not installed; `pip install` the package that has it"
    name = root.args[0] if isinstance(root, KeyError) and root.args else ""
    name = name.decode() if isinstance(name, bytes) else str(name)  # as `os.environ` complains
    if name.isupper():
        return f"reads the environment variable {name}, which is not set; set it"
    if any(key in str(root) for key in KEYS):
        return f"has its answers judged over a network ({said}); choose a task that is scored by rule"
    return f"cannot be read here ({said}); choose another, or put its cause right"


def is_told_to_stop(error: BaseException) -> bool:
    """Whether a signal's handler ends the process, in whoever's code it happened to be, and not that code itself."""
    return isinstance(error, SystemExit) and isinstance(error.code, int) and not 0 <= error.code < 128


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What lmms-eval's task files print stays out of sight."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
