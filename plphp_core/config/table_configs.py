"""Tables over several models, and all tables at once: one configuration for each, as if chosen on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig

from plphp_core.config.hydra_app import options
from plphp_core.records.errors import UserError, unknown

ALL = "all"


def configurations(
    config: DictConfig, overrides: Sequence[str], choices: Mapping[str, str], root: Path
) -> list[DictConfig]:
    """`config` itself, or one configuration for each table of `table=all` and each model that a table names.

    Args:
        overrides: the command line's; `model=…` among them restricts tables to that model.
        choices: the option of each group that `config` was composed with.
    Raises:
        UserError: a model that the table or the group does not have, or a `model.…=` that several models would share.
    """
    table = config.get("table")
    if not table or table.name != ALL:
        return _of_models(config, overrides, choices["model"], options(root, "model"))
    found, others = [], [override for override in overrides if key(override) != "table"]
    for name in tables(root):
        own = [*others, f"table={name}"]
        one = hydra.compose(config_name="config", overrides=own)
        if "model" in map(key, overrides) and choices["model"] not in one.table.get("models", [choices["model"]]):
            continue  # not a table about that model
        found += _of_models(one, own, choices["model"], options(root, "model"))
    return found


def tables(root: Path) -> list[str]:
    """All tables and figures that have a file in configs/table, tables first."""
    return sorted(set(options(root, "table")) - {ALL}, key=lambda name: (not name.startswith("table"), name))


def _of_models(config: DictConfig, overrides: Sequence[str], chosen: str, known: Sequence[str]) -> list[DictConfig]:
    table = config.get("table")
    if not table or "models" not in table:
        return [config]
    models = list(table.models or ())
    if not models:
        raise UserError(f"table.models of {table.name} is empty; name some of {', '.join(known)}")
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
    return of_each(models, overrides, known, f"table.models of {table.name}")


def of_each(models: Sequence[str], overrides: Sequence[str], known: Sequence[str], where: str) -> list[DictConfig]:
    """One configuration for each model, as if chosen on the command line. Raises UserError for an unknown one."""
    for name in models:
        if name not in known:
            raise unknown(f"model in {where}", name, known)
    return [hydra.compose(config_name="config", overrides=[*overrides, f"model={name}"]) for name in models]


def key(override: str) -> str:
    """What an override of the command line sets."""
    return override.split("=")[0].lstrip("+~")
