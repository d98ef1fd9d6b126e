"""What a report is asked for: the keys of a run, of which those that are given choose among finished cells, and the
choices under `report`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from plphp_core.config import checked_values as values
from plphp_core.config.equal_cost import EqualCost, equal_cost
from plphp_core.config.hydra_app import composed, key, value
from plphp_core.config.locations import PACKAGED
from plphp_core.config.report_choices import ANY, Filters, Options
from plphp_core.config.run_settings import ENGINES, PROTOCOL_PROMPTS, PROTOCOLS
from plphp_core.config.table_configs import COMPARE
from plphp_core.families.base import STYLES
from plphp_core.records.errors import UserError
from plphp_core.vision.spatial_groups import CUTS

MODEL = "llava_onevision"  # of all tables but those over several models


@dataclass(frozen=True)
class ReportSettings:
    """One report.

    tasks: the option of the group, or a list such as "[sd,ie]"; None: the table's own.
    models: of a table or figure over several, such as "mantis,idefics2"; empty: its own, or all that were read.
    equal: budgets and methods of a comparison at equal cost; None: of other tables.
    filters: of the cells; a field that they leave open has the usual kind of those there are (`analysis.usual_kind`).
    """

    table: str
    profile: str
    results: Path
    published: Path = PACKAGED / "results" / "paper" / "published"
    model: str = MODEL
    models: str = ""
    tasks: str | None = None
    filters: Filters = field(default_factory=Filters)
    choices: Options = field(default_factory=Options)
    caption_metric: str = "cider"
    cut: str = "bands"
    doc: int | None = None
    layer: int | None = None
    image: int | None = None
    cases: int = 1
    docs: str | None = None
    strict: bool = False
    quiet: bool = False
    equal: EqualCost | None = None

    @property
    def model_names(self) -> list[str]:
        """`models`, one by one."""
        return [name for name in self.models.strip("[]").split(",") if name]


def report_settings(overrides: Sequence[str]) -> ReportSettings:
    """What a command line asks for. Raises UserError."""
    return report_from_config(composed(overrides), overrides)


def report_from_config(config: DictConfig, overrides: Sequence[str], also: Collection[str] = ()) -> ReportSettings:
    """The settings of a composed configuration.

    Args:
        overrides: of the command line; a key that it does not name leaves a field of the cells open.
        also: keys to take as if they were named.
    Raises:
        UserError: a value is not allowed, or no table is named.
    """
    if config.get("table") is None:
        raise UserError("no table or figure is named; give table=table1, table=figure5, table=claims or table=all")
    given = {key(one): value(one) for one in overrides} | {name: "" for name in also}
    node = config.report

    def asked(name: str, check=lambda _, value: value):
        """The value of a key of a run, checked; None where the command line does not name it."""
        found = OmegaConf.select(config, name)
        return check(name, found) if name in given and found is not None else None

    def choice(name: str, *allowed: str) -> str:
        return values.one_of(f"report.{name}", node[name], allowed)

    def number(name: str, at_least: int = 1) -> int | None:
        found = OmegaConf.select(config, name)
        return None if found is None else values.whole(name, found, at_least)

    def one_of(*allowed: str):
        return lambda name, found: values.one_of(name, found, allowed)

    several = [name for name in ("table.models", "attention.models") if name in given]
    models = ",".join(OmegaConf.select(config, several[0])) if several else ""
    if ("models" in config.table or config.table.get("kind") == "attention") and "model" in given:
        models = config.model.name
    compares = config.table.get("kind") == COMPARE
    limit, protocol = number("limit"), asked("protocol", one_of(*PROTOCOLS))
    return ReportSettings(
        table=config.table.name,
        profile=config.profile.name,
        results=values.results_folder(config.results),
        published=values.absolute(node.published) if node.published else ReportSettings.published,
        model=config.model.name,
        models=models,
        tasks=given.get("tasks"),
        filters=Filters(
            checkpoint=asked("model.checkpoint", values.text),
            revision=asked("model.revision", values.text),
            dtype=asked("dtype", lambda _, found: values.dtype(found)),
            attn_implementation=asked("attn_implementation", values.text),
            protocol=protocol,
            prompts=asked("prompts", one_of(*STYLES)) or PROTOCOL_PROMPTS.get(protocol or ""),
            engine=asked("engine", one_of(*ENGINES)),
            limit=limit if "limit" in given else ANY,
            limit_seed=asked("limit_seed", lambda name, found: values.whole(name, found, 0)),
            params={
                (config.method.name, name.removeprefix("method.")): str(OmegaConf.select(config, name))
                for name in given
                if name.startswith("method.")
            },
            exclude=tuple(node.exclude or ()),
        ),
        choices=Options(
            rank=choice("rank", "compressed", "all"),
            average=choice("average", "columns", "benchmarks"),
            gains=choice("gains", "relative", "points"),
            seed=number("report.seed", 0) or 0,
        ),
        caption_metric=choice("caption_metric", "cider", "meteor"),
        cut=choice("cut", *CUTS),
        doc=number("attention.doc", 0),
        layer=number("report.layer", 0),
        image=number("report.image"),
        cases=values.one_of("report.cases", node.cases, range(1, 11)),
        docs=node.docs if node.docs is None else ",".join([node.docs] if isinstance(node.docs, str) else node.docs),
        strict=values.flag("report.strict", node.strict),
        quiet=values.flag("report.quiet", node.quiet),
        equal=equal_cost(config.table, config.profile, config.model) if compares else None,
    )
