"""What `configs/` says of a table: its rows, benchmarks and models, as a run of it means them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from plphp_core.analysis.comparable import RowSpec
from plphp_core.config.benchmark_catalogue import label_of
from plphp_core.config.method_defaults import method_defaults
from plphp_core.config.row_grid import expand
from plphp_core.config.run_settings import setting_text
from plphp_core.records.errors import ReportError, UserError


def rows_configured(configs: Path, table: str, profile: str, model: str) -> list[RowSpec] | None:
    """The rows that `configs/table/<table>.yaml` lists for `profile`, completed as a run of `model` does;
    None without rows.

    A row's open parameters come from `configs/method/<method>.yaml`, whose references into the profile are resolved;
    lists of parameters are grids. Raises ReportError for a row of no known method.
    """
    return _expanded(configs, table, profile, model)[0] or None


def refused_configured(configs: Path, table: str, profile: str, model: str) -> list[str]:
    """Which combinations of the table's grids the method refuses, and why."""
    return _expanded(configs, table, profile, model)[1]


def _expanded(configs: Path, table: str, profile: str, model: str) -> tuple[list[RowSpec], list[str]]:
    found, refused = [], []
    try:
        for row in _table(configs, table).rows.get(profile) or ():
            defaults = method_configured(configs, row.method, profile, model)
            rows, left_out = expand(OmegaConf.to_container(row), defaults)
            refused += left_out
            for changes in rows:
                params = {**defaults, **changes}
                name, template = params.pop("method"), params.pop("setting", "")
                params.pop("name", None)
                one = RowSpec(name, params, setting_text(template, params, defaults))
                found += [one] * (one not in found)
    except FileNotFoundError:
        return [], []
    except (OmegaConfBaseException, KeyError, UserError) as error:
        raise ReportError(f"the rows of {table} in {configs} cannot be read: {error}") from error
    return found, refused


def method_configured(configs: Path, method: str, profile: str, model: str) -> dict:
    """A method's defaults (`method_defaults`), with a profile's values for this model in them. Raises UserError."""
    return method_defaults(configs, method, OmegaConf.load(configs / "profile" / f"{profile}.yaml"), {"name": model})


def dtype_configured(configs: Path, profile: str, model: str) -> str | None:
    """What a run of `model` under `profile` computes in unless it is told otherwise; None if that is not known."""
    try:
        files = {"profile": configs / "profile" / f"{profile}.yaml", "model": configs / "model" / f"{model}.yaml"}
        return str(OmegaConf.create({name: OmegaConf.load(path) for name, path in files.items()}).profile.dtype)
    except (OSError, OmegaConfBaseException):
        return None


def tasks_configured(configs: Path, table: str) -> str:
    """The option of the group `tasks` that a run of a table has: the one it brings along, else the configuration's.

    Raises ReportError if neither names one.
    """
    try:
        for defaults in (_table(configs, table).defaults, OmegaConf.load(configs / "config.yaml").defaults):
            for entry in reversed(defaults):  # a table's own last
                for name, option in entry.items() if OmegaConf.is_dict(entry) else ():
                    if name == "tasks" or name.startswith("override /tasks"):
                        return str(option)
    except (OSError, OmegaConfBaseException) as error:
        raise ReportError(f"the tasks of {table} in {configs} cannot be read: {error}") from error
    raise ReportError(f"{table} in {configs} names no tasks")


def benchmarks_configured(configs: Path, tasks: str) -> list[str]:
    """The labels that `tasks` means, in its order: an option of the group, or several as in "[sd,ie]".

    Raises ReportError, naming those there are.
    """
    known = {path.stem: OmegaConf.load(path) for path in sorted((configs / "tasks").glob("*.yaml"))}
    labels: list[str] = []
    for name in tasks.strip("[]").split(","):
        if name.strip() not in known:
            raise ReportError(f"tasks {tasks!r}: {name.strip()!r} is none of {', '.join(known)}")
        file = known[name.strip()]
        for part in [known[one] for one in file.defaults] if "defaults" in file else [file]:
            labels += [label for label in map(label_of, part.values()) if label not in labels]
    return labels


def benchmark_configured(configs: Path, tasks: str) -> str:
    """The label of the one benchmark that `tasks` means. Raises ReportError, naming those there are."""
    known = {path.stem: OmegaConf.load(path) for path in sorted((configs / "tasks").glob("*.yaml"))}
    single = {name: next(iter(file.values())) for name, file in known.items() if "defaults" not in file}
    if (name := tasks.strip("[]")) not in single:
        raise ReportError(f"tasks {tasks!r}: a table of costs is about one benchmark, one of {', '.join(single)}")
    return label_of(single[name])


def models_configured(configs: Path, table: str) -> tuple[list[str], list[tuple[str, str]]]:
    """The models of `configs/table/<table>.yaml`, and the (model, benchmark label) places that it skips.

    Raises ReportError if the file cannot be read or names no models.
    """
    path = configs / "table" / f"{table}.yaml"
    try:
        plain = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        return list(plain["models"]), [tuple(place.split("/", 1)) for place in plain.get("skip") or ()]
    except (OSError, OmegaConfBaseException, KeyError, TypeError, AttributeError) as error:
        raise ReportError(f"{path}: names no models and what they skip ({type(error).__name__}: {error})") from error


def _table(configs: Path, table: str) -> DictConfig:
    """A table's file over the tables that it names in its defaults, as Hydra composes them."""
    own = OmegaConf.load(configs / "table" / f"{table}.yaml")
    below = [_table(configs, name) for name in own.get("defaults") or () if isinstance(name, str) and name != "_self_"]
    whole = OmegaConf.merge(*below, own)
    whole.defaults = [entry for one in (*below, own) for entry in _defaults(one)]
    return whole


def _defaults(table: DictConfig) -> Sequence:
    return table.get("defaults") or ()
