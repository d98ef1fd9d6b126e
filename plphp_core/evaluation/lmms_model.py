"""The models that lmms-eval's own command line sees, one class per method and family.

    python -m lmms_eval --model plphp_llava_onevision --model_args pretrained=…,r=0.4,delta_r=0.3 \
        --include_path tasks --tasks …

Prompts, image handling and generation arguments are those of lmms-eval's wrapper of the same family (see `families`).
The harness's own runs do not go through these classes: they need a journal, which lmms-eval has no place for.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from lmms_eval.models.model_utils.gen_metrics import log_metrics
from tqdm import tqdm

from plphp_core.config import checked_values as values
from plphp_core.config.run_settings import ATTENTION, ENGINES, ModelSettings, check_method
from plphp_core.decoding.device import free_memory
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.lmms_plugin import model_ids
from plphp_core.evaluation.loading import LoadedModel, load
from plphp_core.evaluation.options import refuse, refused_of_task
from plphp_core.evaluation.requests import Failure, Request, batches
from plphp_core.families import get_family
from plphp_core.families.base import STYLES
from plphp_core.records.errors import UserError, unknown
from plphp_core.records.journal_lines import Answer

if TYPE_CHECKING:
    from accelerate import Accelerator  # imported where several processes are joined

log = logging.getLogger(__name__)

SHOWN_FAILURES = 20


class GenerationErrors(RuntimeError):
    """Samples that could not be answered. Raised after all others were."""


def _or_exit(method: Callable) -> Callable:
    """lmms-eval's own command line prints what an evaluation raises and reports success: there, exit code 1 instead."""

    @wraps(method)
    def called(self, *arguments, **named):
        try:
            return method(self, *arguments, **named)
        except Exception as error:
            if not _from_command_line():
                raise
            if not isinstance(error, (UserError, GenerationErrors, NotImplementedError)):
                traceback.print_exc()
            raise SystemExit(f"error: {error}") from error

    return called


def _from_command_line() -> bool:
    started_as = Path(sys.argv[0])
    return started_as.name in ("lmms-eval", "lmms_eval") or started_as.parts[-2:] == ("lmms_eval", "__main__.py")


class PrunedModel(lmms):
    """A vision-language model under a pruning method, as an lmms-eval "simple" model.

    Args:
        pretrained: hub name or folder of the checkpoint; the family's default if not given.
        revision: of a hub checkpoint.
        device: "cuda", "cuda:1", "cpu"; under torchrun each process takes the GPU of its local rank.
        dtype: "float32", "bfloat16", "float16" or short ("bf16"); by default the family's on a GPU, float32 on a CPU.
        attn_implementation: as in transformers.
        prompts: "lmms_eval" (as lmms-eval's own wrapper of the family) or "plain" (as the model's authors mean them).
        batch_size: samples per batch; `max_batch_size` caps it.
        engine: "generate" (transformers) or "fast" (`plphp_core.decoding.fast_generate`).
        params: the method's own parameters, and the family's own options (`Family.options`).
    Raises:
        UserError: unknown or refused arguments; the message lists the known ones.
    """

    is_simple = True
    method_name = "none"
    family_name = ""

    @_or_exit
    def __init__(
        self,
        pretrained: str | None = None,
        revision: str | None = None,
        device: str | None = None,
        dtype: str | None = None,
        attn_implementation: str = "sdpa",
        prompts: str = "lmms_eval",
        engine: str = "generate",
        batch_size: int | str | None = 1,
        max_batch_size: int | str | None = None,
        **params,
    ):
        super().__init__()
        family = get_family(self.family_name)
        options = {name: params.pop(name) for name in family.options if name in params}
        self.method = check_method(self.method_name, params)
        self.accelerator: Accelerator | None = None
        device = self._join_processes(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.batch_size = min(_batch_size(batch_size or 1), _batch_size(max_batch_size or batch_size or 1))
        self.loaded: LoadedModel = load(
            ModelSettings(
                name=self.family_name,
                family=self.family_name,
                checkpoint=pretrained or family.default_checkpoint,
                revision=revision,
                dtype=values.dtype(dtype or (family.dtype if device.startswith("cuda") else "float32")),
                attn_implementation=values.one_of("attn_implementation", attn_implementation, ATTENTION),
                device=device,
                prompts=values.one_of("prompts", prompts, STYLES),
                engine=values.one_of("engine", engine, ENGINES),
                options=tuple(sorted(options.items())),
            )
        )

    def _join_processes(self, device: str) -> str:
        """Under torchrun or accelerate: rank, world size and this process's own device."""
        if int(os.environ.get("WORLD_SIZE", 1)) == 1:
            return device
        from accelerate import Accelerator

        self.accelerator = accelerator = Accelerator(cpu=device.startswith("cpu"))
        self._rank, self._world_size = accelerator.process_index, accelerator.num_processes
        return f"cuda:{accelerator.local_process_index}" if device.startswith("cuda") else device

    @property
    def device(self) -> torch.device:
        return self.loaded.device

    @property
    def config(self):
        """The model's transformers configuration; lmms-eval reads its name for the results file."""
        return self.loaded.model.config

    @_or_exit
    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """Answer all requests, in order.

        Raises:
            GenerationErrors: after everything else was answered, if some samples could not be. An empty answer in their
                place would silently lower the score.
            UserError: a task's generation arguments cannot be served; nothing was answered.
        """
        for task, generation in {instance.task_name: instance.args[1] for instance in requests}.items():
            refuse(f"task {task}", refused_of_task(generation, self.loaded.engine), self.loaded.engine)
        family = self.loaded.family
        speak_to(family.upstream or family.name, requests)
        asked = [self._request(index, instance) for index, instance in enumerate(requests)]
        answerer = JointAnswerer(self.loaded)
        answerer.check(self.method)
        found: dict[int, GenerationResult] = {}
        failures: list[str] = []
        answers: list[Answer] = []
        began = time.perf_counter()
        with tqdm(total=len(asked), disable=self.rank != 0, desc="Model Responding") as bar:
            for batch in batches(asked, self.batch_size):
                ((_, results),) = answerer.answer(batch, [self.method])
                for request, result in results:
                    if isinstance(result, Failure):
                        instance = requests[request.tag]
                        failures.append(f"{instance.task_name} sample {instance.doc_id}: {result}")
                        continue
                    answers.append(result)
                    found[request.tag] = GenerationResult(
                        result.text, TokenCounts(result.prompt_tokens, result.new_tokens)
                    )
                bar.update(len(results))
        _raise_failures(self._of_all_ranks(failures))
        self._log(time.perf_counter() - began, answers)
        return [found[index] for index in range(len(requests))]

    def _request(self, index: int, instance: Instance) -> Request:
        context, generation, doc_to_visual, doc_id, task, split = instance.args
        # evens out ranks, nobody reads the answer: one short step
        if (instance.metadata or {}).get("__padding_only__"):
            return Request("", {"max_new_tokens": 1}, list, tag=index)

        def visuals() -> list:
            return doc_to_visual(self.task_dict[task][split][doc_id])

        return Request(context, generation, visuals, index, f"{task} sample {doc_id}")

    def _of_all_ranks(self, failures: list[str]) -> list[str]:
        """All ranks must fail together, or the others would wait for the failed one for a day."""
        if self.world_size == 1 or not torch.distributed.is_initialized():
            return failures
        gathered: list[list[str]] = [[] for _ in range(self.world_size)]
        torch.distributed.all_gather_object(gathered, failures)
        return [line for lines in gathered for line in lines]

    def _log(self, elapsed: float, answers: list[Answer]) -> None:
        if self.rank != 0 or not answers:
            return
        tokens = sum(answer.new_tokens for answer in answers)
        kept, full = sum(a.kv_bytes for a in answers), sum(a.kv_bytes_full for a in answers)
        log_metrics(
            elapsed,
            tokens,
            tokens / elapsed if elapsed > 0 else 0.0,
            additional_metrics={
                "kv_bytes_per_sample": kept / len(answers),
                "kv_share_kept": kept / full if full else 1.0,
                "vision_retention": sum(sum(a.retention) / len(a.retention) for a in answers) / len(answers),
                "prefill_ms_per_sample": sum(a.prefill_ms / a.batch_size for a in answers) / len(answers),
            },
        )

    @_or_exit
    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError("these models only generate; choose tasks with output_type: generate_until")

    @_or_exit
    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError(
            "several rounds per sample are not supported; choose tasks with output_type: generate_until"
        )

    def clean(self) -> None:
        """lmms-eval would delete the model here; keep it for the next run and let go of what is cached."""
        free_memory()


def speak_to(model: str, instances: Iterable[Instance]) -> None:
    """On lmms-eval's own command line too, a task speaks to a model as to lmms-eval's own model of that family: give
    requests the prompts that their tasks have for `model`, its id there (MMMU has some for `qwen3_vl`, for example).

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


def _batch_size(value: int | str) -> int:
    try:
        number = int(value)
    except ValueError:
        number = 0
    if number < 1:
        raise unknown("batch_size", value, ("a whole number, at least 1 (auto is not supported)",))
    return number


def _raise_failures(failures: list[str]) -> None:
    if not failures:
        return
    listed = "\n".join(f"  {line}" for line in failures[:SHOWN_FAILURES])
    more = f"\n  … and {len(failures) - SHOWN_FAILURES} more" if len(failures) > SHOWN_FAILURES else ""
    raise GenerationErrors(f"{len(failures)} samples could not be answered, so there is no score:\n{listed}{more}")


def __getattr__(name: str) -> type[PrunedModel]:
    """The class of a model id, built on first use."""
    if name not in model_ids():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; model ids: {', '.join(model_ids())}")
    method, family = model_ids()[name]
    doc = f"{family} under method {method}. {PrunedModel.__doc__}"
    attributes = {"method_name": method, "family_name": family, "__module__": __name__, "__doc__": doc}
    globals()[name] = cls = type(name, (PrunedModel,), attributes)
    return cls
