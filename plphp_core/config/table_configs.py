"""Tables of configs/table: one configuration for each model of a table and each table of `table=all`, and what a table
says where nothing else is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from plphp_core.config.hydra_app import composed, key, options
from plphp_core.config.locations import config_folders
from plphp_core.records.errors import UserError, unknown

ALL = "all"
RUN = "run"  # kind of a table whose cells are run; others are of attention readings or of whatever has been run
COMPARE = "compare"  # kind of a table whose methods are brought to the same bytes before their cells are run
MAPS = "maps"  # kind of a table whose methods are followed on a few samples: what do they keep?


def configurations(config: DictConfig) -> list[DictConfig]:
    """The configuration of the running Hydra job, or one for each table of `table=all` and each model of a table.

    Raises:
        UserError: a model that the table or the group does not have, or a `model.…=` that several models would share.
    """
    state = HydraConfig.get()
    overrides, model = list(state.overrides.task), state.runtime.choices["model"]
    if config.get("table") is None or config.table.name != ALL:
        return _of_models(config, overrides, model)
    found, others = [], [override for override in overrides if key(override) != "table"]
    for name in runnable_tables():
        own = [*others, f"table={name}"]
        one = hydra.compose(config_name="config", overrides=own)
        if "model" in map(key, overrides) and model not in one.table.get("models", [model]):
            continue  # not a table about that model
        if one.profile.name not in one.table.rows:
            continue  # a table of one's own, for other profiles
        found += _of_models(one, own, model)
    return found


def runnable_tables() -> list[str]:
    """All tables and figures of configs/table that are made of cells of their own, tables first."""
    names = sorted(set(options("table")) - {ALL}, key=lambda name: (not name.startswith("table"), name))
    return [name for name in names if table_config(name).table.get("kind", RUN) == RUN]


def _of_models(config: DictConfig, overrides: Sequence[str], chosen: str) -> list[DictConfig]:
    table = config.get("table")
    if not table or "models" not in table:
        return [config]
    models = list(table.models or ())
    if not models:
        raise UserError(f"table.models of {table.name} is empty; name some of {', '.join(options('model'))}")
    keys = list(map(key, overrides))
    if "model" in keys:
        if chosen not in models:
            raise UserError(
                f"{table.name} is about {', '.join(models)}, not about {chosen}; choose one of them, or name others "
                f"with table.models=[{chosen}]"
            )
        return [config]
    if shared := [one for one in keys if one.startswith("model.")]:
        raise UserError(
            f"{shared[0]}=… would be the same for all of {', '.join(models)}; say which one is meant with model=…"
        )
    return of_each(models, overrides, f"table.models of {table.name}")


def of_each(models: Sequence[str], overrides: Sequence[str], where: str) -> list[DictConfig]:
    """One configuration for each model, as if chosen on the command line. Raises UserError for an unknown one."""
    for name in models:
        if name not in options("model"):
            raise unknown(f"model in {where}", name, options("model"))
    return [hydra.compose(config_name="config", overrides=[*overrides, f"model={name}"]) for name in models]


def table_config(table: str | None, profile: str = "paper", model: str | None = None) -> DictConfig:
    """What a run of a table is configured to do unless it is told otherwise. Raises UserError."""
    return _table_config(table, profile, model, tuple(config_folders()))


@cache
def _table_config(table: str | None, profile: str, model: str | None, folders: tuple) -> DictConfig:
    chosen = {"table": table, "profile": profile, "model": model}
    config = composed([f"{name}={value}" for name, value in chosen.items() if value is not None])
    OmegaConf.set_readonly(config, True)
    return config
