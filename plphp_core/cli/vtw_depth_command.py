"""`plphp choose-vtw-k`: VTW's K by its own rule, the first depth where withdrawing vision hardly moves the next token.

    plphp choose-vtw-k profile=toy tasks=[sd,flickr30k] vtw_depth.samples=20 vtw_depth.first=1

Writes results/<profile>/vtw_k.<model>.json, which Table 1 then quotes.
"""

from __future__ import annotations

from collections.abc import Sequence

from loguru import logger
from rich.console import Console
from rich.table import Table

from baselines.vtw_depth import choose_k, divergences
from plphp_core.config.hydra_app import composed
from plphp_core.config.run_settings import settings_from_config
from plphp_core.evaluation.cell_spec import shown
from plphp_core.evaluation.generation import JointAnswerer
from plphp_core.evaluation.lmms_tasks import Suite
from plphp_core.evaluation.loading import load
from plphp_core.evaluation.results_folder import check_folders
from plphp_core.records.depth_rule import DepthRule, rule_path
from plphp_core.records.errors import UserError
from plphp_core.records.revisions import Fingerprints, checkpoint_identity


def main(arguments: Sequence[str]) -> int:
    """Apply the rule. Returns 0; 1 if it chooses no K. Raises UserError for what cannot be served."""
    config = composed(arguments)
    settings, rule = settings_from_config(config), config.vtw_depth
    check_folders(settings.results)
    logger.disable("lmms_eval")
    fingerprints = Fingerprints(settings.results / "fingerprints.json")
    weights = checkpoint_identity(settings.model.checkpoint, settings.model.revision, fingerprints)
    suite = Suite(settings, fingerprints)
    facts = suite.all_facts(settings.benchmarks)
    answerer = JointAnswerer(load(settings.model))

    tasks = list(map(suite.open, facts))
    prompts = [task.requests[doc] for task in tasks for doc in task.chosen(rule.samples, settings.limit_seed)]
    try:
        found = divergences(answerer.loaded.model, (answerer.inputs(one)[0] for one in prompts), rule.first)
    except ValueError as error:  # vtw_depth.first of a model that is not so deep
        raise UserError(str(error)) from error
    table = Table("K", "mean KL(P_vtw ‖ P_full), nats", "≤ η")
    for K, divergence in found.items():
        table.add_row(str(K), f"{divergence:.6f}", "yes" if divergence <= rule.eta else "no")
    chosen = choose_k(found, rule.eta)
    Console().print(table)
    result = DepthRule(
        model=settings.model.name,
        checkpoint=shown(settings.model.checkpoint, settings.root),
        revision=weights,
        dtype=settings.model.dtype,
        prompts=settings.model.prompts,
        benchmarks=[benchmark.label for benchmark in settings.benchmarks],
        samples=len(prompts),
        seed=settings.limit_seed,
        eta=rule.eta,
        divergence=found,
        chosen=chosen,
    )
    file = rule_path(settings.results.parent, settings.profile, settings.model.name)
    result.write(file)
    print(f"written to {file}")
    if chosen is None:
        print(f"no K has a divergence of at most η = {rule.eta}: VTW would withdraw nowhere")
        return 1
    print(f"VTW: K = {chosen} (η = {rule.eta}, {len(prompts)} samples of {len(tasks)} benchmarks)")
    return 0
