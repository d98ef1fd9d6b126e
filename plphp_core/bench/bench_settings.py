"""What a benchmark run is asked to do: `configs/bench.yaml`, checked before anything is built."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import torch

from plphp_core.bench.decode_backends import BACKENDS
from plphp_core.bench.decoder_shapes import shape_named
from plphp_core.bench.forced_retention import checked_method, forced_method
from plphp_core.config.checked_values import dtype as checked_dtype
from plphp_core.config.checked_values import results_folder
from plphp_core.families import family_names
from plphp_core.pruning.method import method_names
from plphp_core.records.errors import UserError, unknown

GRID = ("models", "backends", "methods", "batch", "vision_tokens", "retention")
LEAST = {
    "rounds": 1, "steps": 1, "at_least": 1, "warm_up": 0, "prefill_rounds": 1, "prefill_warm_up": 0, "prefill_batch": 1,
    "text_tokens": 2,
}  # fmt: skip
KINDS = ("speed", "memory", "sharing")


@dataclass(frozen=True)
class BenchCase:
    """One row to measure. `params`: the method's parameters, sorted by name."""

    model: str
    backend: str
    method: str
    params: tuple[tuple[str, object], ...]
    batch: int
    vision_tokens: int

    @property
    def shown_params(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.params)


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
    also: list[dict] = field(default_factory=list)
    text_tokens: int = 200
    warm_up: int = 2
    rounds: int = 5
    steps: int = 2
    at_least: int = 3
    group_seconds: float = 90.0
    prefill_batch: int = 1
    prefill_warm_up: int = 0
    prefill_rounds: int = 2
    prefill_vision_tokens: list[int] | None = None
    memory_gb: float | None = None
    new_tokens: int = 256
    delta_r: list[float] = field(default_factory=lambda: [0.3])  # of kind sharing: each with every retention
    bandwidth_mb: int = 1024
    checkpoint: str | None = None
    family: str = "llava_onevision"
    revision: str | None = None
    image_size: int = 384
    out: Path = Path("results/bench")

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def grids(self) -> list[BenchSettings]:
        """These settings, and each entry of `also` in its place."""
        return [replace(self, **more) for more in [{}, *self.also]]

    @property
    def cases(self) -> list[BenchCase]:
        """Every row, in the order of measuring: a model, a length and a batch at a time."""
        found: dict[BenchCase, None] = {}
        for grid in self.grids:
            for model, vision, batch, backend, method in itertools.product(
                grid.models, grid.vision_tokens, grid.batch, grid.backends, grid.methods
            ):
                for params in grid.variants(method):
                    found[BenchCase(model, backend, method, tuple(sorted(params.items())), batch, vision)] = None
        models = [name for grid in self.grids for name in grid.models]

        def place(case: BenchCase) -> tuple:
            return models.index(case.model), case.vision_tokens, case.batch, BACKENDS.index(case.backend)

        return sorted(found, key=place)

    def variants(self, method: str) -> list[dict]:
        """Parameters of a method: its own, once per retention rate where it has one (r)."""
        params = dict(self.params.get(method) or {})
        if method == "plphp" and "r" not in params:
            return [{**params, "r": rate} for rate in self.retention]
        return [params]


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
    bench = BenchSettings(**given, **config["model"], out=results_folder(config["results"]) / "bench")
    if bench.checkpoint:
        bench = replace(bench, models=[Path(bench.checkpoint).name], also=[])
    _check(bench)
    return bench


def _check(bench: BenchSettings) -> None:
    if bench.kind not in KINDS:
        raise unknown("bench.kind", bench.kind, KINDS)
    if bench.family not in family_names():
        raise unknown("model family", bench.family, family_names())
    if bench.device.split(":")[0] not in ("cpu", "cuda"):
        raise unknown("device", bench.device, ("cpu", "cuda"))
    if bench.device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            f"bench={bench.name} measures on {bench.device}, but torch finds no CUDA device here: "
            "run it on a machine with an NVIDIA GPU, or choose bench=cpu"
        )
    for name in (name for more in bench.also for name in more):
        if name not in GRID:
            raise unknown("option of bench.also", name, GRID)
    for name, least in LEAST.items():
        if getattr(bench, name) < least:
            raise UserError(f"bench.{name} = {getattr(bench, name)}, but must be at least {least}")
    for grid in bench.grids:
        _check_grid(grid)


def _check_grid(bench: BenchSettings) -> None:
    for name in GRID:
        values = getattr(bench, name)
        if not isinstance(values, list) or not values:
            raise UserError(f"bench.{name} = {values!r}, but must be a list of at least one value: bench.{name}=[…]")
    for name in ("batch", "vision_tokens"):
        for value in getattr(bench, name):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UserError(f"bench.{name} holds {value!r}, but every value must be an integer ≥ 1")
    for backend in bench.backends:
        if backend not in BACKENDS:
            raise unknown("backend", backend, BACKENDS)
    for method in bench.methods:
        if method not in method_names():
            raise unknown("method", method, method_names())
        for params in bench.variants(method):
            (checked_method if bench.checkpoint else forced_method)(method, params)
    if not bench.checkpoint:
        for model in bench.models:
            shape_named(model)
