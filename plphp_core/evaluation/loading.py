"""One loaded model, shared by every method of a run."""

from __future__ import annotations

import functools
import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors import SafetensorError

from plphp_core.decoding.device import free_memory
from plphp_core.evaluation import options
from plphp_core.records.errors import UserError

if TYPE_CHECKING:
    from plphp_core.config.run_settings import ModelSettings, Settings  # needs OmegaConf, which a loaded model does not

log = logging.getLogger("plphp.loading")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model on its device with all it takes to talk to it.

    `model.generation_config` is the checkpoint's without what runs do not take over (`options.one_answer`).
    """

    family: Any
    model: Any
    processor: Any
    device: torch.device
    dtype: torch.dtype
    engine: str = "generate"


def load(settings: ModelSettings) -> LoadedModel:
    """Load weights and processor.

    Raises:
        UserError: the device is not there; the checkpoint cannot be read as this family, or its generation
            configuration asks for what the engine does not do.
    """
    device = check_device(settings)
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    family = settings.make_family()
    dtype = getattr(torch, settings.dtype)
    try:
        model, processor = family.load(
            settings.checkpoint, settings.revision, dtype, device, settings.attn_implementation
        )
    except (OSError, ValueError, ImportError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"cannot load {settings.checkpoint} as {settings.family} with {settings.attn_implementation} "
            f"attention on {settings.device}: {reason}"
        ) from error
    model.eval()
    content = model.generation_config.to_dict()
    refused = options.refused_of_checkpoint(content, settings.engine)
    options.refuse(f"the checkpoint's {options.FILE}", refused, settings.engine)
    if aside := options.set_aside(content):
        listed = ", ".join(f"{name}={value!r}" for name, value in sorted(aside.items()))
        log.info("%s of the checkpoint set aside: one answer per prompt, searched as the task says", listed)
    model.generation_config = options.one_answer(model.generation_config)
    return LoadedModel(family, model, processor, device, dtype, settings.engine)


def check_device(settings: ModelSettings) -> torch.device:
    """The device to load on.

    Raises:
        UserError: it is not there.
    """
    device = torch.device(settings.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is available; on a CPU use profile=toy or device=cpu (with dtype=float32)")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"no device {settings.device}: this machine has {torch.cuda.device_count()} CUDA devices")
    return device


class LoadOnce:
    """Loads on first use and keeps the latest model, so that a sweep or a table pays for one load.

    Attributes:
        loads: how many times weights were read.
    """

    def __init__(self, loader=load):
        self._loader = loader
        self._settings: ModelSettings | None = None
        self._loaded: LoadedModel | None = None
        self.loads = 0

    def __call__(self, settings: ModelSettings) -> LoadedModel:
        if self._loaded is None or settings != self._settings:
            self._loaded = None  # let go of the old weights before the new ones arrive
            free_memory()
            self._loaded, self._settings = self._loader(settings), settings
            self.loads += 1
        return self._loaded


def misfits(settings: Settings) -> list[str]:
    """A sentence for each row whose method refuses the model; none where its configuration is not on this machine."""
    layers = _layers(settings.model)
    if layers is None:
        return []
    found = []
    for row in settings.methods:
        try:
            if row.built is not None:
                row.built.check(layers)
        except ValueError as error:
            found.append(f"{row.row} does not fit {settings.model.name}: {error}")
    return found


@functools.cache
def _layers(model: ModelSettings) -> int | None:
    """Decoder layers; None where the configuration cannot be read, which loading the model then explains."""
    try:
        config = transformers.AutoConfig.from_pretrained(
            model.checkpoint, revision=model.revision, local_files_only=True, trust_remote_code=False
        )
        return int(config.get_text_config(decoder=True).num_hidden_layers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
