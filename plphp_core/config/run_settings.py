"""From the composed configuration to the checked settings of a run. Nothing here imports lmms-eval."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from plphp_core.config import checked_values as values
from plphp_core.config.benchmark_catalogue import catalogue, label_of
from plphp_core.config.locations import config_file, measured_apart
from plphp_core.config.table_rows import NOT_PARAMETERS, SYMBOLS, method_defaults, table_rows, unknown_method
from plphp_core.families.base import STYLES, Family
from plphp_core.pruning.method import Method, make_method, method_names
from plphp_core.records.errors import UserError, unknown

PROTOCOLS = ("lmms_eval", "llava")
PROTOCOL_PROMPTS = {"lmms_eval": "lmms_eval", "llava": "plain"}  # the prompt style that goes with each
ENGINES = ("generate", "fast")
ATTENTION = ("sdpa", "eager", "flash_attention_2", "flash_attention_3")

T = TypeVar("T")


class MethodRefused(UserError):
    """A method has all the parameters that are given, but does not allow their values."""


@dataclass(frozen=True)
class ModelSettings:
    """Which weights to load and how. `checkpoint` is a hub name or an absolute local path.

    prompts: how prompts are made, one of `plphp_core.families.base.STYLES`.
    engine: what decodes: "generate" (transformers) or "fast" (`plphp_core.decoding.fast_generate`).
    options: of the family (`Family.options`), as pairs of name and value.
    """

    name: str
    family: str
    checkpoint: str
    revision: str | None
    dtype: str
    attn_implementation: str
    device: str
    prompts: str = "lmms_eval"
    options: tuple[tuple[str, Any], ...] = ()
    engine: str = "generate"

    def at(self, weights: str) -> ModelSettings:
        """The same with the very commit that `weights` names (`revisions.checkpoint_identity`); a folder has none."""
        return self if weights.startswith("sha256:") else replace(self, revision=weights)

    def make_family(self) -> Family:
        """The family, with this model's style of prompts and options."""
        from plphp_core.families import get_family

        return get_family(self.family, self.prompts, **dict(self.options))


@dataclass(frozen=True)
class MethodSettings:
    """One row of a table: a method's name, every parameter (defaults filled in) and its label."""

    name: str
    params: dict[str, Any] = field(default_factory=dict)
    setting: str = ""

    @property
    def row(self) -> str:
        """Method and setting, as a row of a table shows them."""
        return f"{self.name} {self.setting}".strip()

    @cached_property
    def built(self) -> Method | None:
        """The method itself, built once: every cell of the row runs this object. Raises UserError."""
        return check_method(self.name, self.params)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's label in tables and its task name for lmms-eval.

    name: as it was chosen, without the profile's prefix: lmms-eval's own task where none of ours is called `task`.
    """

    label: str
    task: str
    name: str = ""


@dataclass(frozen=True)
class Settings:
    """One run: a model, methods × benchmarks, and how to go about it.

    root: the working directory; its tasks/ is read before the packaged one, paths below it are shown relative to it.
    skipped: labels of chosen benchmarks that the table leaves out for this model.
    refused: combinations of the table's grids that their method does not allow, and why.
    """

    root: Path
    results: Path
    profile: str
    protocol: str
    data_root: Path | None
    model: ModelSettings
    methods: tuple[MethodSettings, ...]
    benchmarks: tuple[Benchmark, ...]
    batch_size: int
    extra_metrics: dict[str, str] = field(default_factory=dict)
    table: str | None = None
    skipped: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    limit: int | None = None
    limit_seed: int = 0
    seed: int = 0
    lock_timeout: float | None = None
    stop_after_errors: int = 20
    rescore: bool = False
    share: bool = True
    verbose: bool = False

    def as_dict(self) -> dict:
        """The settings as plain data, paths relative to `root` where they lie in it."""

        def plain(value):
            if isinstance(value, str) and value.startswith(f"{self.root}/"):
                value = Path(value)
            if isinstance(value, Path):
                return str(value.relative_to(self.root)) if value.is_relative_to(self.root) else str(value)
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

        return plain(asdict(self))

    def shared(self) -> Settings:
        """Without what the runs of a group may differ in: methods, benchmarks, and the table they belong to."""
        return replace(self, methods=(), benchmarks=(), table=None, skipped=(), refused=())


Run = tuple[Settings, dict]  # and its resolved configuration


def merged(group: Sequence[Settings]) -> Settings:
    """The settings of a group of runs as those of one, with all their methods and benchmarks."""
    return replace(
        group[0],
        methods=distinct(method for settings in group for method in settings.methods),
        benchmarks=distinct(benchmark for settings in group for benchmark in settings.benchmarks),
        table=", ".join(distinct(settings.table for settings in group if settings.table)) or None,
        skipped=(),
        refused=distinct(message for settings in group for message in settings.refused),
    )


def distinct(items: Iterable[T]) -> tuple[T, ...]:
    """Each item once, in order of first appearance; they need not be hashable."""
    found: list[T] = []
    for item in items:
        if item not in found:
            found.append(item)
    return tuple(found)


def resolved(config: DictConfig, settings: Settings) -> dict:
    """The configuration as plain data. A table's methods replace the unused single one."""
    plain = OmegaConf.to_container(config, resolve=True)
    if settings.table:
        plain.pop("method")
    return plain


def settings_from_config(config: DictConfig) -> Settings:
    """Check a composed configuration and turn it into `Settings`.

    Raises:
        UserError: a value is not allowed; the message names the key, the value and what is allowed.
    """
    table = config.get("table")
    protocol = values.one_of("protocol", config.protocol, PROTOCOLS)
    model = _model(config)
    profile = config.profile
    prefix = profile.task_prefix
    if not config.get("tasks"):
        raise UserError("no tasks chosen; give tasks=table1 or a list such as tasks=[sd,pope]")
    own_batch = table.get("batch_size") if table else None
    labels = {name: label_of(entry) for name, entry in config.tasks.items()}
    skipped = _skipped(config, table)
    methods, refused = _methods(config, table)
    return Settings(
        root=Path.cwd(),
        results=measured_apart(values.results_folder(config.results) / profile.name, own_batch, profile.batch_size),
        profile=profile.name,
        protocol=protocol,
        data_root=values.absolute(profile.data_root) if profile.get("data_root") else None,
        model=model,
        methods=methods,
        benchmarks=tuple(
            Benchmark(label=label, task=prefix + name, name=name)
            for name, label in labels.items()
            if label not in skipped
        ),
        batch_size=values.whole("batch_size", own_batch or config.batch_size, at_least=1),
        extra_metrics=dict(profile.get("extra_metrics") or {}),
        table=table.name if table else None,
        skipped=skipped,
        refused=refused,
        limit=None if config.limit is None else values.whole("limit", config.limit, at_least=1),
        limit_seed=values.whole("limit_seed", config.limit_seed, at_least=0),
        seed=values.whole("seed", config.seed, at_least=0),
        lock_timeout=None if config.lock_timeout is None else values.number("lock_timeout", config.lock_timeout),
        stop_after_errors=values.whole("stop_after_errors", config.stop_after_errors, at_least=1),
        rescore=values.flag("rescore", config.rescore),
        share=values.flag("share", config.share),
        verbose=values.flag("verbose", config.verbose),
    )


def _methods(config: DictConfig, table: DictConfig | None) -> tuple[tuple[MethodSettings, ...], tuple[str, ...]]:
    """The methods of a run: a table's rows for this profile, or the one chosen method; and what its grids leave out."""
    if table and "budgets" in table:  # kind compare: the others are known once they are at the same bytes
        return (MethodSettings("none"),), ()
    if table:
        return table_methods(table, config.profile, config.model)
    chosen = OmegaConf.to_container(config.method, resolve=True)
    return (method_row(chosen, method_defaults(chosen["name"], config.profile, config.model)),), ()


def table_methods(
    table: DictConfig, profile: Mapping, model: Mapping
) -> tuple[tuple[MethodSettings, ...], tuple[str, ...]]:
    """The rows that a table lists for a profile, each once, and what its grids leave out. Raises UserError."""
    rows, refused = table_rows(table, profile, model)
    return distinct(method_row(chosen, defaults) for chosen, defaults in rows), tuple(refused)


def method_row(chosen: Mapping, defaults: Mapping) -> MethodSettings:
    """A row from its complete parameters, with `name` and `setting` among them. Raises UserError."""
    built = check_method(chosen["name"], {name: one for name, one in chosen.items() if name not in NOT_PARAMETERS})
    params = {} if built is None else built.params()
    return MethodSettings(chosen["name"], params, _setting(chosen.get("setting", ""), params, defaults))


def check_method(name: str, params: Mapping) -> Method | None:
    """Build a method; None for "none". Raises UserError, as MethodRefused if only values are not allowed."""
    if name not in method_names():
        raise unknown_method(name)
    try:
        return make_method(name, **params)
    except (ValueError, TypeError) as error:
        known: dict[str, Any] = getattr(make_method(name), "params", dict)()
        refused = MethodRefused if isinstance(error, ValueError) and set(params) <= set(known) else UserError
        raise refused(f"method {name} with {dict(params) or 'no parameters'}: {error}") from error


def _setting(template: str, params: Mapping, defaults: Mapping) -> str:
    """How a row's setting is printed: `template` filled in, and the parameters it hides that are not `defaults`."""
    shown = {key: f"{value:g}" if isinstance(value, float) else value for key, value in params.items()}
    hidden = [key for key in params if f"{{{key}}}" not in template and params[key] != defaults.get(key, params[key])]
    named = (f"{SYMBOLS.get(key, key)}={shown[key]}" for key in hidden)
    return ", ".join(filter(None, [template.format(**shown), *named]))


def _skipped(config: DictConfig, table: DictConfig | None) -> tuple[str, ...]:
    """The chosen benchmarks that the table does not ask of this model."""
    if not table:
        return ()
    places = table.get("skip") or ()
    for place in places:
        model, _, label = str(place).partition("/")
        known = model in (table.get("models") or ()) or config_file("model", model)
        if not known or label not in catalogue().labels:
            raise unknown("place in table.skip", place, (f"<model>/{label}" for label in catalogue().labels))
    return tuple(label for label in map(label_of, config.tasks.values()) if f"{config.model.name}/{label}" in places)


def _model(config: DictConfig) -> ModelSettings:
    from plphp_core.families import family_names, get_family

    if config.model.family not in family_names():
        raise unknown("model family", config.model.family, family_names())
    device = str(config.device)
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise unknown("device", device, ("cpu", "cuda", "cuda:<number>"))
    _refuse_without_toy(config)
    checkpoint = values.text("model.checkpoint", config.model.checkpoint)
    local, revision = values.absolute(checkpoint), config.model.revision
    if revision is not None and local.is_dir():
        raise UserError(
            f"model.revision={revision} is of a hub repository, but model.checkpoint={checkpoint} is a folder, which "
            "has no revisions; leave one of them out"
        )
    options = OmegaConf.to_container(config.model.get("options") or OmegaConf.create(), resolve=True)
    try:
        get_family(config.model.family, **options)
    except ValueError as error:
        raise UserError(f"model.options: {error}") from error
    return ModelSettings(
        name=config.model.name,
        family=config.model.family,
        checkpoint=str(local) if local.is_dir() else checkpoint,
        revision=None if revision is None else str(revision),
        dtype=values.dtype(config.dtype),
        attn_implementation=values.one_of("attn_implementation", config.attn_implementation, ATTENTION),
        device=device,
        options=tuple(sorted(options.items())),
        engine=values.one_of("engine", config.engine, ENGINES),
        prompts=values.one_of("prompts", config.prompts or PROTOCOL_PROMPTS[config.protocol], STYLES),
    )


def _refuse_without_toy(config: DictConfig) -> None:
    """Raise UserError if the profile is offline and neither it nor the command line brings weights of the model."""
    profile, model = config.profile, config.model
    given = not OmegaConf.is_interpolation(model, "checkpoint")  # as its file has it
    if profile.offline and not given and model.name not in profile.checkpoints:
        raise UserError(
            f"profile={profile.name} has no checkpoint of model={model.name}; it has: "
            f"{', '.join(sorted(profile.checkpoints))}. Choose one of these, another profile, or give a folder, or a "
            "hub name that is in this machine's cache, as model.checkpoint=…"
        )
