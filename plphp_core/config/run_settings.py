"""From the composed configuration to checked settings. Nothing here imports torch models or lmms-eval."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from plphp_core.config import checked_values as values
from plphp_core.config.benchmark_catalogue import label_of
from plphp_core.config.method_defaults import method_defaults, unknown_method
from plphp_core.config.row_grid import expand
from plphp_core.families.base import STYLES, Family
from plphp_core.records.errors import UserError, unknown

PROTOCOLS = ("lmms_eval", "llava")
PROTOCOL_PROMPTS = {"lmms_eval": "lmms_eval", "llava": "plain"}  # the prompt style that goes with each
ENGINES = ("generate", "fast")
SYMBOLS = {"delta_r": "Δr", "alpha": "α", "beta": "β"}  # of parameters, as the papers write them
ATTENTION = ("sdpa", "eager", "flash_attention_2", "flash_attention_3")


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


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's label in tables and its task name for lmms-eval."""

    label: str
    task: str


@dataclass(frozen=True)
class Settings:
    """One run: a model, methods × benchmarks, and how to go about it.

    skipped: labels of chosen benchmarks that the table leaves out for this model.
    refused: combinations of the table's grids that their method does not allow, and why.
    """

    root: Path
    results: Path
    profile: str
    protocol: str
    offline: bool
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

    def as_dict(self) -> dict:
        """The settings as plain data, paths relative to the repository root where they lie in it."""

        def plain(value):
            if isinstance(value, str) and value.startswith(f"{self.root}/"):
                value = Path(value)
            if isinstance(value, Path):
                return str(value.relative_to(self.root)) if value.is_relative_to(self.root) else str(value)
            if isinstance(value, dict):
                return {key: plain(item) for key, item in value.items()}
            return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

        return plain(asdict(self))


def settings_from_config(config: DictConfig, root: Path) -> Settings:
    """Check a composed configuration and turn it into `Settings`.

    Raises:
        UserError: a value is not allowed; the message names the key, the value and what is allowed.
    """
    table = config.get("table")
    protocol = values.one_of("protocol", config.protocol, PROTOCOLS)
    model = _model(config, root)
    profile = config.profile
    prefix = profile.task_prefix
    if not config.get("tasks"):
        raise UserError("no tasks chosen; give tasks=table1 or a list such as tasks=[sd,mv]")
    labels = {name: label_of(entry) for name, entry in config.tasks.items()}
    skipped = _skipped(config, root, table)
    methods, refused = _rows(config, root, table)
    return Settings(
        root=root,
        results=values.results_folder(root, config.results) / profile.name,
        profile=profile.name,
        protocol=protocol,
        offline=bool(profile.offline),
        data_root=values.inside(root, profile.data_root) if profile.get("data_root") else None,
        model=model,
        methods=methods,
        benchmarks=tuple(
            Benchmark(label=label, task=prefix + name) for name, label in labels.items() if label not in skipped
        ),
        batch_size=values.whole("batch_size", config.batch_size, at_least=1),
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
    )


def check_method(name: str, params: dict):
    """Build the method to see that its name and parameters are allowed.

    Returns:
        The method, or None for "none".
    Raises:
        UserError: with the names or fields that are known.
    """
    from plphp_core.pruning.method import make_method, method_names

    if name not in method_names():
        raise unknown_method(name)
    try:
        return make_method(name, **params)
    except (ValueError, TypeError) as error:
        raise UserError(f"method {name} with {params or 'no parameters'}: {error}") from error


def _rows(
    config: DictConfig, root: Path, table: DictConfig | None
) -> tuple[tuple[MethodSettings, ...], tuple[str, ...]]:
    """The methods of a run: a table's rows for this profile, or the one chosen method; and what its grids leave out."""
    if not table:
        chosen = OmegaConf.to_container(config.method, resolve=True)
        return (_method(chosen, _method_defaults(config, root, chosen["name"])),), ()
    if config.profile.name not in table.rows:
        raise unknown(f"profile for table {table.name}", config.profile.name, table.rows)
    found, refused = [], []
    for row in table.rows[config.profile.name]:
        changes = OmegaConf.to_container(row, resolve=True)
        defaults = _method_defaults(config, root, changes["method"])
        if extra := set(changes) - set(defaults) - {"method"}:
            raise unknown(
                f"parameter of {changes['method']} in table {table.name}",
                min(extra),
                set(defaults) - {"name", "setting"},
            )
        rows, left_out = expand(changes, defaults)
        found += [_method({**defaults, **one}, defaults) for one in rows]
        refused += left_out
    once = [method for number, method in enumerate(found) if method not in found[:number]]
    return tuple(once), tuple(refused)


def _method_defaults(config: DictConfig, root: Path, name: str) -> dict:
    return method_defaults(root / "configs", name, config.profile, config.model)


def _skipped(config: DictConfig, root: Path, table: DictConfig | None) -> tuple[str, ...]:
    """The chosen benchmarks that the table does not ask of this model."""
    places = (table.get("skip") if table else None) or ()
    for place in places:
        model, _, label = str(place).partition("/")
        known = model in (table.get("models") or ()) or (root / "configs" / "model" / f"{model}.yaml").is_file()
        if not known or label not in _labels(root):
            raise unknown("place in table.skip", place, (f"<model>/{label}" for label in _labels(root)))
    return tuple(label for label in map(label_of, config.tasks.values()) if f"{config.model.name}/{label}" in places)


def _labels(root: Path) -> set[str]:
    """The labels of all benchmarks."""
    files = (OmegaConf.load(path) for path in (root / "configs" / "tasks").glob("*.yaml"))
    return {label_of(entry) for file in files for key, entry in file.items() if key != "defaults"}


def _method(chosen: dict, defaults: dict) -> MethodSettings:
    """A row from its complete parameters."""
    chosen = dict(chosen)
    name, label = chosen.pop("name"), chosen.pop("setting", "")
    chosen.pop("method", None)
    method = check_method(name, chosen)
    params = dict(method.params()) if method is not None else {}
    return MethodSettings(name=name, params=params, setting=setting_text(label, params, defaults))


def setting_text(template: str, params: dict, defaults: dict) -> str:
    """How a row's setting is printed: `template` filled in, and the parameters it hides that are not `defaults`."""
    shown = {key: f"{value:g}" if isinstance(value, float) else value for key, value in params.items()}
    hidden = [key for key in params if f"{{{key}}}" not in template and params[key] != defaults.get(key, params[key])]
    named = (f"{SYMBOLS.get(key, key)}={shown[key]}" for key in hidden)
    return ", ".join(filter(None, [template.format(**shown), *named]))


def _model(config: DictConfig, root: Path) -> ModelSettings:
    from plphp_core.families import family_names, get_family

    if config.model.family not in family_names():
        raise unknown("model family", config.model.family, family_names())
    device = str(config.device)
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise unknown("device", device, ("cpu", "cuda", "cuda:<number>"))
    checkpoint = values.text("model.checkpoint", config.model.checkpoint)
    local, revision = values.inside(root, checkpoint), config.model.revision
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
