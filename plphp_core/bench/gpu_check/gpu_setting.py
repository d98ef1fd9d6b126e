"""What the parts share: sizes, the machine, and one model of a real shape with random weights."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from plphp_core.bench.bench_settings import BenchSettings
from plphp_core.bench.decode_backends import BACKENDS
from plphp_core.bench.decoder_shapes import DecoderShape
from plphp_core.bench.gpu_check.gpu_evidence import NotAvailableError
from plphp_core.bench.random_model import RandomModel
from plphp_core.bench.roofline import MeasuredMachine
from plphp_core.pruning.method import Method

DTYPE = "bfloat16"


@dataclass(frozen=True)
class Sizes:
    """How much is done.

    Attributes:
        bench: of decoding and prefill. Its first number of vision tokens is also that of the other parts' prompts where
            one prompt is enough, the last where several are.
        steps: tokens of the comparisons of tokens.
        slots: per sample, of the kernels' comparison.
    """

    bench: BenchSettings
    steps: int
    slots: int
    toys: tuple[str, ...]


def _bench(depth: dict[str, int], **given) -> BenchSettings:
    """PLPHP's classes of layers are forced, see `plphp_core.bench.forced_retention`. depth: K of FastV and VTW."""
    return BenchSettings(
        name="gpu_check",
        dtype=DTYPE,
        backends=list(BACKENDS),
        methods=["none", "plphp"],
        retention=[0.4],
        params={"plphp": {"delta_r": 0.3}, "fastv": {"K": depth["fastv"], "R": 0.5}, "vtw": {"K": depth["vtw"]}},
        **given,
    )


FULL = Sizes(
    _bench(
        {"fastv": 3, "vtw": 14},
        device="cuda",
        models=["qwen2_7b"],
        vision_tokens=[7000, 2000],
        batch=[1, 8, 64],
        warm_up=5,
        rounds=12,
        steps=5,
        at_least=4,
        group_seconds=20.0,
        prefill_warm_up=2,
        bandwidth_mb=4096,
    ),
    steps=32,
    slots=7000,
    toys=("llava_onevision", "qwen2_vl", "idefics2", "mantis"),
)
REDUCED = Sizes(
    _bench(
        {"fastv": 2, "vtw": 3},
        device="cpu",
        models=["tiny"],
        vision_tokens=[195, 130],
        batch=[1, 2],
        text_tokens=20,
        warm_up=0,
        rounds=1,
        steps=1,
        at_least=1,
        prefill_rounds=1,
        bandwidth_mb=8,
    ),
    steps=6,
    slots=40,
    toys=("llava_onevision",),
)


@dataclass
class GpuSetting:
    """Attributes:
    deadline: of `time.monotonic`, when everything must have ended.
    decoded: rows of decoding, once measured.
    """

    device: str
    sizes: Sizes
    machine: MeasuredMachine
    root: Path
    deadline: float
    decoded: list[dict] = field(default_factory=list)

    def __post_init__(self):
        self.bench = replace(self.sizes.bench, device=self.device)
        self.random = RandomModel(self.bench.models[0], self.bench)

    @property
    def cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    @property
    def shape(self) -> DecoderShape:
        return self.random.shape

    @property
    def model(self) -> nn.Module:
        """The shape with random weights, built when it is first asked for.

        Raises:
            NotAvailableError: it does not fit into memory.
        """
        if not self.random.loaded:
            needed, free = self.random.weight_bytes, self.random.available
            if needed > free:
                raise NotAvailableError(
                    f"the weights of {self.shape.name} need {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free"
                )
            self.random.load()
            self.random.model.generation_config.eos_token_id = None  # random tokens end nothing
        return self.random.model

    def inputs(self, batch: int, vision: int) -> dict:
        """Prompts of at least `vision` vision tokens."""
        self.model  # noqa: B018  (first, since it says what is wrong with the memory)
        return self.random.inputs(batch, vision)

    def ragged(self, vision: int) -> dict:
        """Two such prompts, the last one padded on the left by half of the text before its images."""
        inputs = self.inputs(2, vision)
        mask = inputs["attention_mask"].clone()
        mask[-1, : self.bench.text_tokens // 4] = 0
        return inputs | {"attention_mask": mask}

    def methods(self) -> list[Method | None]:
        """None, and methods of both verbs that random weights can follow."""
        all_of_them = replace(self.bench, methods=["none", "plphp", "fastv", "vtw"]).cases
        return list(dict.fromkeys(case.method for case in all_of_them))
