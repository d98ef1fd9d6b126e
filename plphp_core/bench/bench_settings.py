"""What a benchmark run is asked to do: `configs/bench.yaml`, checked before anything is built."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch

from plphp_core.bench.decode_backends import BACKENDS
from plphp_core.bench.decoder_shapes import shape_named
from plphp_core.bench.forced_retention import forced_lengths, forced_method
from plphp_core.config.checked_values import dtype as checked_dtype
from plphp_core.config.checked_values import results_folder, whole
from plphp_core.pruning.method import Method, method_names
from plphp_core.records.errors import UserError, unknown

GRID = ("models", "backends", "methods", "batch", "vision_tokens", "retention")
LEAST = {
    "rounds": 1, "steps": 1, "at_least": 1, "warm_up": 0, "prefill_rounds": 1, "prefill_warm_up": 0, "text_tokens": 2,
}  # fmt: skip
KINDS = ("speed", "memory", "sharing", "scores")


@dataclass(frozen=True)
class BenchCase:
    """One row to measure. `params`: those given of the method's parameters, as a row shows them."""

    model: str
    backend: str
    method: Method | None
    params: str
    batch: int
    vision_tokens: int


@dataclass(frozen=True)
class BenchSettings:
    """A preset, see configs/bench/cpu.yaml for what the fields mean."""

    name: str
    device: str
    dtype: str
    models: list[str]
    backends: list[str]
    methods: list[str]
    batch: list[int]
    vision_tokens: list[int]
    retention: list[float]
    params: dict
    kind: str = "speed"
    text_tokens: int = 200
    warm_up: int = 2
    rounds: int = 5
    steps: int = 2
    at_least: int = 3
    group_seconds: float = 90.0
    prefill_warm_up: int = 0
    prefill_rounds: int = 2
    memory_gb: float | None = None
    new_tokens: int = 256
    delta_r: list[float] = field(default_factory=lambda: [0.3])  # of kind sharing: each with every retention
    windows: list[int] = field(default_factory=lambda: [1])  # of kind scores
    bandwidth_mb: int = 1024
    out: Path = Path("results/bench")

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def cases(self) -> list[BenchCase]:
        """Every row, in the order of measuring: a model, a length and a batch at a time. Raises UserError, see
        `forced_method`.
        """
        return [
            BenchCase(model, backend, made, shown, batch, vision)
            for model, vision, batch, backend, method in itertools.product(
                self.models, self.vision_tokens, self.batch, self.backends, self.methods
            )
            for made, shown in self._variants(method)
        ]

    def _variants(self, method: str) -> list[tuple[Method | None, str]]:
        """The method with its own parameters, once per retention rate where it has one (r), and the parameters."""
        params = dict(self.params.get(method) or {})
        several = [params]
        if method == "plphp" and "r" not in params:
            several = [{**params, "r": rate} for rate in self.retention]
        return [
            (forced_method(method, one), ", ".join(f"{name}={value}" for name, value in sorted(one.items())))
            for one in several
        ]


def bench_from_config(config: dict) -> BenchSettings:
    """Settings from the composed configuration as plain data.

    Raises:
        UserError: unknown or impossible values, no CUDA where it is asked for, or a method that random weights cannot
            follow.
    """
    given = dict(config["bench"])
    given |= {"device": config["device"] or given["device"], "dtype": checked_dtype(config["dtype"] or given["dtype"])}
    known = {each.name for each in fields(BenchSettings)}
    for name in given:
        if name not in known:
            raise unknown("option of bench", name, known)
    bench = BenchSettings(**given, out=results_folder(config["results"]) / "bench")
    _check(bench)
    return bench


def _check(bench: BenchSettings) -> None:
    if bench.device.split(":")[0] not in ("cpu", "cuda"):
        raise unknown("device", bench.device, ("cpu", "cuda"))
    if bench.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"bench={bench.name} measures on {bench.device}, but torch finds no CUDA device here: "
            "run it on a machine with an NVIDIA GPU, or choose bench=cpu"
        )
    for name, least in LEAST.items():
        whole(f"bench.{name}", getattr(bench, name), least)
    for name in GRID:
        values = getattr(bench, name)
        if not isinstance(values, list) or not values:
            raise UserError(f"bench.{name} = {values!r}, but must be a list of at least one value: bench.{name}=[…]")
    for name in ("batch", "vision_tokens", "windows"):
        for value in getattr(bench, name):
            whole(f"each value of bench.{name}", value, 1)
    names = [("bench.kind", KINDS, [bench.kind]), ("backend", BACKENDS, bench.backends)]
    for what, allowed, values in [*names, ("method", method_names(), bench.methods)]:
        for value in values:
            if value not in allowed:
                raise unknown(what, value, allowed)
    shapes = {model: shape_named(model) for model in bench.models}
    for case in bench.cases:
        shape = shapes[case.model]
        try:
            if case.method is not None:
                case.method.check(shape.layers)
        except ValueError as error:
            raise UserError(f"{case.model}: {error}") from None
        # Raises where random weights cannot tell what the method keeps.
        forced_lengths(case.method, shape, 2, bench.text_tokens)
