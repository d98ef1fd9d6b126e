"""What a run of a table is configured to do, in the words of a report: rows, benchmarks, models."""

from __future__ import annotations

from plphp_core.analysis.comparable import RowSpec
from plphp_core.config.benchmark_catalogue import label_of
from plphp_core.config.hydra_app import composed, options
from plphp_core.config.run_settings import table_methods
from plphp_core.config.table_configs import table_config
from plphp_core.config.table_rows import method_defaults
from plphp_core.records.errors import ReportError, UserError


def is_planned(table: str) -> bool:
    """Whether a table names its rows, for one profile or another; others show whatever has been run."""
    return bool(table_config(table).table.get("rows"))


def has_rows(table: str, profile: str) -> bool:
    """Whether a table can be made on a profile: it names rows for it, or none at all."""
    return not is_planned(table) or profile in table_config(table).table.rows


def rows_configured(table: str, profile: str, model: str) -> list[RowSpec]:
    """The rows that a run of `table` for `profile` and `model` has.

    Raises ReportError for a row that a run would refuse, and for a profile without rows.
    """
    return [RowSpec(row.name, row.params, row.setting) for row in _rows(table, profile, model)[0]]


def refused_configured(table: str, profile: str, model: str) -> list[str]:
    """Which combinations of the table's grids the method refuses, and why."""
    return list(_rows(table, profile, model)[1]) if is_planned(table) else []


def _rows(table: str, profile: str, model: str) -> tuple:
    if not has_rows(table, profile):
        known = ", ".join(map(str, table_config(table).table.rows))
        raise ReportError(f"configs/table/{table}.yaml has no rows for profile {profile!r}; it has some for {known}")
    try:
        config = table_config(table, profile, model)
        return table_methods(config.table, config.profile, config.model)
    except UserError as error:
        raise ReportError(f"the rows of {table} cannot be read: {error}") from error


def method_configured(method: str, profile: str, model: str) -> dict:
    """A method's `name`, `setting` and parameters, with a profile's values for this model in them. Raises UserError."""
    config = table_config(None, profile, model)
    return method_defaults(method, config.profile, config.model)


def dtype_configured(profile: str, model: str) -> str | None:
    """What a run of `model` under `profile` computes in unless it is told otherwise; None if that is not known."""
    return str(table_config(None, profile, model).dtype) if model in options("model") else None


def benchmarks_configured(tasks: str | None, table: str | None = None) -> list[str]:
    """The labels that `tasks` means, in its order: an option of the group, or several as in "[sd,ie]"; None: those of
    the table.

    Raises ReportError, naming those there are.
    """
    if tasks is None:
        return [label_of(entry) for entry in table_config(table).tasks.values()]
    try:
        return [label_of(entry) for entry in composed([f"tasks={tasks}"]).tasks.values()]
    except UserError as error:
        raise ReportError(str(error)) from error


def benchmark_configured(tasks: str | None, table: str | None = None) -> str:
    """The label of the one benchmark that `tasks` means. Raises ReportError, naming those there are."""
    labels = benchmarks_configured(tasks, table)
    if len(labels) != 1:
        raise ReportError(f"tasks={tasks}: a table of costs is about one benchmark, not about {', '.join(labels)}")
    return labels[0]
