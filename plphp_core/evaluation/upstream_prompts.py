"""On lmms-eval's own command line too, a task speaks to a model as to lmms-eval's own model of that family."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from lmms_eval.api.instance import Instance

log = logging.getLogger(__name__)


def speak_to(model: str, instances: Iterable[Instance]) -> None:
    """Give requests the prompts that their tasks have for `model`, lmms-eval's id of a family (MMMU has some for
    `qwen3_vl`, for example).

    lmms-eval looks prompts up by the id on its command line, and writes all requests, before there is a model that
    could say whose prompts it wants. But a request names its task, as the owner of `doc_to_visual`. Where its text is
    not the task's alone (examples, a system instruction), it stays as it is, and a warning says so.
    """
    of_task: dict[int, tuple[Any, list[Instance]]] = {}
    for instance in instances:
        task = getattr(instance.args[2], "__self__", None)
        if model in (getattr(getattr(task, "config", None), "lmms_eval_specific_kwargs", None) or {}):
            of_task.setdefault(id(task), (task, []))[1].append(instance)
    for task, some in of_task.values():
        if task.model_name == model:
            continue
        if any(_text(task, one) != one.args[0] for one in some):
            name, own = task.config.task, task.model_name
            log.warning(
                "task %s asks %s as any model, not as %s: its requests hold more than its own", name, own, model
            )
            continue
        task.model_name = model
        task._prepare_model_specific_config()
        for one in some:
            one.arguments = (_text(task, one), *one.args[1:])


def _text(task: Any, instance: Instance) -> str:
    return task.fewshot_context(task.eval_docs_no_media[instance.args[3]], 0)
