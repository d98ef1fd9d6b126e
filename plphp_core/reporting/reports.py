"""Every table and figure of `scripts/report.py`: from the finished cells to sheets, csv tables and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import pandas as pd

from plphp_core.analysis.comparable import rows_found
from plphp_core.analysis.costs import Costs, cost_table, costs, sample_table
from plphp_core.analysis.results import NothingToShow, Results, evaluate
from plphp_core.analysis.retention_stats import savings
from plphp_core.reporting import (
    engine_table,
    engines,
    published,
    sweep,
    table1,
    table2,
    table3,
    table4,
    table5,
    vtw_rule,
)
from plphp_core.reporting.attention_results import AttentionResult
from plphp_core.reporting.configured import (
    benchmark_configured,
    benchmarks_configured,
    extra_metrics_configured,
    method_configured,
    models_configured,
    refused_configured,
    rows_configured,
    tasks_configured,
)
from plphp_core.reporting.csv_export import long_table, relative_table
from plphp_core.reporting.request import (
    Report,
    ReportRequest,
    joined,
    model_suffix,
    on_benchmarks,
    selection_suffix,
)


def _table1(asked: ReportRequest) -> Report:
    options = asked.options
    rows = rows_configured(asked.configs, "table1", asked.profile, options.model)
    tasks = benchmarks_configured(asked.configs, tasks_configured(asked.configs, "table1"))
    results = evaluate(asked.own_cells, rows, asked.of_model, asked.choices, tasks)
    reference = published.load_reference(options.published, "table1")
    rule = vtw_rule.load_rule(vtw_rule.path(options.results, asked.profile, options.model))
    sheets = table1.sheets(results, asked.profile, reference, vtw_rule.note(rule, results))
    return Report(
        "table1", model_suffix(options) + selection_suffix(asked, [results]), sheets, [results], _scores([results])
    )


def _table2(asked: ReportRequest) -> Report:
    results, _, variant = on_benchmarks("table2", asked)
    defaults = method_configured(asked.configs, "plphp", asked.profile, asked.options.model)
    refused = refused_configured(asked.configs, "table2", asked.profile, asked.options.model)
    saved = savings(results)
    sheets = table2.sheets(saved, asked.profile, defaults, refused, _claim(asked, "C12"))
    return Report("table2", variant, sheets, [results], {"": long_table(results, saved)})


def _table3(asked: ReportRequest) -> Report:
    options = asked.options
    models = [name for name in options.models.strip("[]").split(",") if name]
    cells = asked.settled(models or models_configured(asked.configs, "table3")[0])
    parts = table3.compare(cells, asked.configs, asked.profile, models, asked.filters, asked.choices)
    references = {part.model: published.load_reference(options.published, "table3", part.model) for part in parts}
    sheets = table3.sheets(parts, asked.profile, references, _claims(options))
    chosen = f".models={'+'.join(models)}" if models else ""
    return Report("table3", chosen + selection_suffix(asked, parts), sheets, parts, _scores(parts))


def _table4(asked: ReportRequest) -> Report:
    found, variant = _costs("table4", asked)
    sheets = table4.sheets(found, asked.profile, published.load_reference(asked.options.published, "table4"))
    return Report("table4", variant, sheets, [found.results], {"": cost_table(found)})


def _table5(asked: ReportRequest) -> Report:
    found, variant = _costs("table5", asked)
    reference = published.load_reference(asked.options.published, "table5")
    sheets = table5.sheets(found, asked.profile, reference, _claims(asked.options))
    return Report("table5", variant, sheets, [found.results], {"": cost_table(found)})


# matplotlib takes a second to import, which the tables need not wait for: each figure imports its own module
def _figure1(asked: ReportRequest) -> Report:
    from plphp_core.reporting.figures import attention_by_layer

    models, variant = _readings(asked)
    thresholds = {}
    for name in models:
        params = method_configured(asked.configs, "plphp", asked.profile, name)
        thresholds[name] = (params["alpha"], params["beta"])
    pictures = attention_by_layer.draw(models, thresholds, asked.profile, asked.choices.seed)
    sheets = attention_by_layer.sheets(models, thresholds, asked.profile, f"figure1{variant}.png", asked.choices.seed)
    tables = {"": attention_by_layer.table(models, asked.choices.seed)}
    return Report("figure1", variant, sheets, [], tables, pictures, planned=False, latex=False)


def _figure2(asked: ReportRequest) -> Report:
    from plphp_core.reporting.figures import attention_by_region

    (every, variant), cut = _readings(asked), asked.options.cut
    models = attention_by_region.with_places(every, cut)
    if not models:
        raise NothingToShow(f"no model's tokens have places of their own; cut=order draws {', '.join(every)}")
    left_out = [parts[0].title for name, parts in every.items() if name not in models]
    variant += "" if cut == "bands" else f".cut={cut}"
    pictures = attention_by_region.draw(models, cut, asked.profile)
    sheets = attention_by_region.sheets(models, cut, left_out, asked.profile, f"figure2{variant}.png")
    tables = {"": attention_by_region.table(models, cut)}
    return Report("figure2", variant, sheets, [], tables, pictures, planned=False, latex=False)


def _figure3(asked: ReportRequest) -> Report:
    from plphp_core.reporting import attention_sample
    from plphp_core.reporting.figures import attention_by_head

    options = asked.options
    benchmark = (
        benchmark_configured(asked.configs, options.tasks) if options.tasks and options.table == "figure3" else None
    )
    path, others = attention_sample.find(asked.folder / "attention", options.model, benchmark, options.doc)
    sight = attention_sample.load(path)
    layer = attention_by_head.chosen_layer(sight, options.layer)
    image = attention_by_head.chosen_image(sight, layer, options.image)
    asked_for = [(name, getattr(options, name)) for name in ("doc", "layer", "image")]
    variant = model_suffix(options) + (f".tasks={joined(options.tasks)}" if benchmark else "")
    variant += "".join(f".{name}={value}" for name, value in asked_for if value is not None)
    sheets = attention_by_head.sheets(sight, layer, image, asked.profile, f"figure3{variant}.png", others)
    pictures = attention_by_head.draw(sight, layer, image, asked.profile)
    extra = {f"figure3_heads{variant}.png": attention_by_head.draw_heads(sight, layer, image, asked.profile)}
    return Report("figure3", variant, sheets, [], {}, pictures, extra, planned=False, latex=False)


def _figure5(asked: ReportRequest) -> Report:
    from plphp_core.reporting.figures import retention_vs_score

    results, _, variant = on_benchmarks("figure5", asked)
    saved = savings(results)
    sheets = retention_vs_score.sheets(saved, asked.profile, f"figure5{variant}.png", asked.options.caption_metric)
    pictures = retention_vs_score.draw(saved, asked.profile, asked.options.caption_metric)
    return Report("figure5", variant, sheets, [results], {"": long_table(results, saved)}, pictures)


def _figure6(asked: ReportRequest) -> Report:
    from plphp_core.reporting.figures import retention_grid

    results, benchmarks, variant = on_benchmarks("figure6", asked)
    saved = savings(results)
    refused = refused_configured(asked.configs, "figure6", asked.profile, asked.options.model)
    picture = f"figure6{variant}.png"
    sheets = retention_grid.sheets(saved, asked.profile, picture, refused, _claim(asked, "C11"))
    pictures = retention_grid.draw(saved, asked.profile, benchmarks, asked.options.caption_metric)
    tables = {"": long_table(results, saved), "_delta_r": retention_grid.paired_table(saved)}
    return Report("figure6", variant, sheets, [results], tables, pictures)


def _figure7(asked: ReportRequest) -> Report:
    from plphp_core.reporting.figures import cost_per_sample

    found, variant = _costs("figure7", asked)
    sheets = cost_per_sample.sheets(found, asked.profile, f"figure7{variant}.png")
    pictures = cost_per_sample.draw(found, asked.profile)
    return Report("figure7", variant, sheets, [found.results], {"": sample_table(found)}, pictures)


def _figure8(asked: ReportRequest) -> Report:
    from plphp_core.reporting import qualitative_examples
    from plphp_core.reporting.dataset_access import DatasetAccess
    from plphp_core.reporting.figures import answers_side_by_side

    options = asked.options
    results, benchmarks, variant = on_benchmarks("figure8", asked)
    chosen = qualitative_examples.choose(results, benchmarks, options.cases, options.seed, options.docs)
    variant += f".cases={options.cases}" if options.cases != 1 and not options.docs else ""
    variant += f".docs={options.docs.strip('[]').replace(',', '+').replace(':', '-')}" if options.docs else ""
    documents = DatasetAccess(asked.root, asked.profile, asked.folder / "fingerprints.json")
    extra_metrics = extra_metrics_configured(asked.configs, asked.profile)
    found = qualitative_examples.cases(results, asked.folder, documents, chosen, extra_metrics)
    picture = f"figure8{variant}.png"
    sheets = answers_side_by_side.sheets(found, results, asked.profile, picture, options.seed, bool(options.docs))
    pictures = answers_side_by_side.draw(found, results, asked.profile)
    return Report(
        "figure8", variant, sheets, [results], {"": answers_side_by_side.table(found, results)}, pictures, latex=False
    )


def _sweep(asked: ReportRequest) -> Report:
    tasks = asked.options.tasks
    labels = benchmarks_configured(asked.configs, tasks) if tasks else None
    cells = [cell for cell in asked.own_cells if labels is None or cell.benchmark in labels]
    found = [cell.benchmark for cell in filter(asked.of_model, cells)]
    results = evaluate(cells, None, asked.of_model, asked.choices, found)
    variant = (
        model_suffix(asked.options) + (f".tasks={joined(tasks)}" if tasks else "") + selection_suffix(asked, [results])
    )
    sheets = sweep.sheets(results, asked.profile)
    return Report("sweep", variant, sheets, [results], {"": sweep.table(results)}, planned=False, latex=False)


def _engines(asked: ReportRequest) -> Report:
    """Of the rows of Table 1."""
    if asked.filters.engine is not None:
        raise NothingToShow(f"both engines are compared; leave out engine={asked.filters.engine}")
    cells = engines.under_both([cell for cell in asked.cells if asked.of_model(cell)])
    cells = asked.settled(cells=cells, leave=["engine"])
    rows = rows_configured(asked.configs, "table1", asked.profile, asked.options.model)
    found = engines.compare(cells, rows or rows_found(cells), asked.of_model, asked.choices)
    variant = model_suffix(asked.options) + selection_suffix(asked, found.parts)
    sheets = engine_table.sheets(found, asked.profile)
    return Report("engines", variant, sheets, found.parts, {"": engine_table.table(found)}, latex=False)


def _readings(asked: ReportRequest) -> tuple[dict[str, list[AttentionResult]], str]:
    """The readings of each model, and what files' names say of the choice."""
    found = asked.readings()
    alone = asked.options.table in ("figure1", "figure2")  # `all` chooses models and benchmarks of tables
    names = [name for name in asked.options.models.strip("[]").split(",") if name] if alone else []
    tasks = asked.options.tasks if alone else None
    labels = benchmarks_configured(asked.configs, tasks) if tasks else []
    chosen = {
        model: own
        for model, parts in found.items()
        if (not names or model in names) and (own := [one for one in parts if not labels or one.benchmark in labels])
    }
    if not chosen:
        raise NothingToShow(f"nobody has read where models look; make reproduce-figure1 PROFILE={asked.profile}")
    variant = (f".models={'+'.join(names)}" if names else "") + (f".tasks={joined(tasks)}" if tasks else "")
    filters = asked.filters
    for name in ("protocol", "prompts"):
        kinds = {getattr(one, name) for parts in chosen.values() for one in parts}
        variant += "".join(f".{name}={kind}" for kind in sorted(kinds) if kind != "lmms_eval")
    return chosen, variant + (f".limit={filters.limit}" if filters.limit not in (None, "full") else "")


def _ledger(asked: ReportRequest) -> Report:
    from plphp_core import claims

    return claims.report(asked)


def _costs(name: str, asked: ReportRequest) -> tuple[Costs, str]:
    """The costs of a table's rows on its one benchmark, and what its files' names say of it."""
    label = benchmark_configured(asked.configs, asked.options.tasks or tasks_configured(asked.configs, name))
    results, _, variant = on_benchmarks(name, asked)
    return costs(results, label), variant


def _scores(parts: Sequence[Results]) -> dict[str, pd.DataFrame]:
    return {"": pd.concat(map(long_table, parts)), "_relative": pd.concat(map(relative_table, parts))}


def _claims(options: argparse.Namespace) -> list[published.Claim]:
    known = (options.published / "claims.yaml").exists()
    return published.load_claims(options.published) if known else []


def _claim(asked: ReportRequest, name: str) -> str:
    """What the paper says in words, with what it is worth on this profile; empty where the claims are not at hand."""
    found = [claim for claim in _claims(asked.options) if claim.id == name]
    if not found:
        return ""
    said = f"The paper claims of its 7B model ({name}): {found[0].text}."
    return said if asked.profile == "paper" else f"{said} Nothing on this profile speaks for it or against it."


# name → what makes it, in the order of `all`
REPORTS: dict[str, Callable[[ReportRequest], Report]] = {
    "table1": _table1,
    "table2": _table2,
    "table3": _table3,
    "table4": _table4,
    "table5": _table5,
    "figure1": _figure1,
    "figure2": _figure2,
    "figure3": _figure3,
    "figure5": _figure5,
    "figure6": _figure6,
    "figure7": _figure7,
    "figure8": _figure8,
    "sweep": _sweep,
    "engines": _engines,
    "claims": _ledger,
}
