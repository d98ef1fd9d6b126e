"""Find VTW's K by its own rule: the first depth at which withdrawing vision hardly moves the next token.

    python scripts/choose_vtw_k.py profile=toy tasks=[sd,flickr30k] vtw_depth.samples=20 vtw_depth.first=1

Takes the same options as scripts/run.py; `vtw_depth` in configs/config.yaml holds the rule's own. Writes
results/<profile>/vtw_k.<model>.json, which Table 1 then quotes.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # tasks/ is found from any working directory

from scripts.start import start  # noqa: E402


def load():
    from scripts import offline

    offline.force(sys.argv[1:])
    import plphp_core.evaluation.answering  # noqa: F401  torch and transformers

    return command


def command() -> int:
    from omegaconf.errors import OmegaConfBaseException

    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__.strip())
        return 0
    try:
        return main(sys.argv[1:])
    except (ValueError, OmegaConfBaseException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def main(overrides: list[str]) -> int:
    """Apply the rule. Returns 0; 1 if it chooses no K. Raises ValueError for what cannot be served."""
    from loguru import logger
    from rich.console import Console
    from rich.table import Table

    from baselines.vtw_depth import choose_k, divergences
    from plphp_core.config.hydra_app import composed
    from plphp_core.config.run_settings import settings_from_config
    from plphp_core.evaluation.answering import JointAnswerer
    from plphp_core.evaluation.lmms_tasks import Suite
    from plphp_core.evaluation.loading import load as load_model
    from plphp_core.evaluation.results_folder import check_folders
    from plphp_core.records.depth_rule import DepthRule, rule_path
    from plphp_core.records.revisions import Fingerprints, checkpoint_identity

    config = composed(ROOT, overrides)
    settings, rule = settings_from_config(config, ROOT), config.vtw_depth
    check_folders(settings.results)
    logger.disable("lmms_eval")
    fingerprints = Fingerprints(settings.results / "fingerprints.json")
    weights = checkpoint_identity(settings.model.checkpoint, settings.model.revision, fingerprints)
    suite = Suite(settings, fingerprints)
    answerer = JointAnswerer(load_model(settings.model), [])

    tasks = [suite.open(suite.facts(benchmark)) for benchmark in settings.benchmarks]
    prompts = [task.requests[doc] for task in tasks for doc in task.chosen(rule.samples, settings.limit_seed)]
    found = divergences(answerer.loaded.model, map(answerer.inputs, prompts), rule.first)
    table = Table("K", "mean KL(P_vtw ‖ P_full), nats", "≤ η")
    for K, divergence in found.items():
        table.add_row(str(K), f"{divergence:.6f}", "yes" if divergence <= rule.eta else "no")
    chosen = choose_k(found, rule.eta)
    Console().print(table)
    checkpoint = Path(settings.model.checkpoint)
    result = DepthRule(
        model=settings.model.name,
        checkpoint=str(checkpoint.relative_to(ROOT) if checkpoint.is_relative_to(ROOT) else checkpoint),
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


if __name__ == "__main__":
    sys.exit(start(load))
