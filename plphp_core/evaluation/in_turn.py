"""Tables over several models: one configuration per model, one run after the other in one process."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence

import hydra
from omegaconf import DictConfig

from plphp_core.evaluation.errors import UserError, unknown
from plphp_core.evaluation.settings import Settings

FAILED, USAGE = 1, 2


def configurations(
    config: DictConfig, overrides: Sequence[str], chosen: str, options: Sequence[str]
) -> list[DictConfig]:
    """`config`, or one configuration for each model that its table names, composed as if chosen on the command line.

    Args:
        overrides: the command line's; `model=…` among them restricts the table to that model.
        chosen: the option of the group `model` that `config` was composed with.
        options: all options of that group.
    Raises:
        UserError: a model that the table or the group does not have, or a `model.…=` that several models would share.
    """
    table = config.get("table")
    if not table or "models" not in table:
        return [config]
    models = list(table.models or ())
    if not models:
        raise UserError(f"table.models of {table.name} is empty; name some of {', '.join(options)}")
    keys = [override.split("=")[0].lstrip("+~") for override in overrides]
    if "model" in keys:
        if chosen not in models:
            raise UserError(
                f"{table.name} is about {', '.join(models)}, not about {chosen}; choose one of them, or name others "
                f"with table.models=[{chosen}]"
            )
        return [config]
    if shared := [key for key in keys if key.startswith("model.")]:
        raise UserError(
            f"{shared[0]}=… would be the same for all of {', '.join(models)}; say which one is meant with model=…"
        )
    for name in models:
        if name not in options:
            raise unknown(f"model in table.models of {table.name}", name, options)
    return [hydra.compose(config_name="config", overrides=[*overrides, f"model={name}"]) for name in models]


def in_turn(runs: Sequence[tuple[Settings, dict]], run: Callable[[Settings, dict], int]) -> int:
    """Carry out a run per model; one that fails costs the others nothing.

    Returns:
        exit code: 0 all finished; 1 some samples, cells or models failed; 2 every model was refused; 128 and more:
        interrupted, and the models after that one were not begun.
    Raises:
        UserError: the only run was refused.
    """
    codes, failed = [], {}
    for number, (settings, config) in enumerate(runs, start=1):
        name = settings.model.name
        if len(runs) > 1:
            _say(f"model {number} of {len(runs)}: {name}")
        if settings.skipped:
            _say(f"{name}: {settings.table} leaves out {', '.join(settings.skipped)}; table.skip=[] runs it too")
        if not settings.benchmarks:
            continue
        if len(runs) == 1:
            return run(settings, config)
        try:
            codes.append(run(settings, config))
        except UserError as error:
            failed[name] = str(error)
        except Exception as error:  # a night's run must not lose the models that would work
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}"
            codes.append(FAILED)
        if name in failed:
            _say(f"error: {name}: {failed[name]}")
        elif codes[-1] >= 128:
            return codes[-1]
    for name, reason in failed.items():  # again: what was said above may have scrolled away hours ago
        _say(f"failed: {name} was not run to its end: {reason}")
    if failed and not codes:
        return USAGE
    return max([*codes, FAILED if failed else 0])


def _say(message: str) -> None:
    print(message, file=sys.stderr)
