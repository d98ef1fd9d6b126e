"""Find VTW's K by its own rule: the first depth at which withdrawing vision hardly moves the next token.

    python scripts/choose_vtw_k.py profile=toy tasks=[sd,flickr30k] vtw_depth.samples=20 vtw_depth.first=1

Takes the same options as scripts/run.py; `vtw_depth` in configs/config.yaml holds the rule's own.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import offline  # noqa: E402

offline.force(sys.argv[1:])

import hydra  # noqa: E402
from loguru import logger  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402
from omegaconf.errors import OmegaConfBaseException  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from plphp_core.evaluation.errors import UserError  # noqa: E402
from plphp_core.evaluation.settings import settings_from_config  # noqa: E402


def main(overrides: list[str]) -> int:
    OmegaConf.register_new_resolver("repository", lambda path: str(ROOT / path), replace=True)
    with hydra.initialize_config_dir(version_base="1.3", config_dir=str(ROOT / "configs")):
        config = hydra.compose(config_name="config", overrides=overrides)
    settings, rule = settings_from_config(config, ROOT), config.vtw_depth

    from baselines.vtw_depth import choose_k, divergences
    from plphp_core.evaluation.answering import Answerer
    from plphp_core.evaluation.benchmarks import Suite
    from plphp_core.evaluation.identity import Fingerprints
    from plphp_core.evaluation.loading import load

    logger.disable("lmms_eval")
    suite = Suite(settings, Fingerprints(settings.results / "fingerprints.json"))
    answerer = Answerer(load(settings.model), None)

    def samples():
        for benchmark in settings.benchmarks:
            task = suite.open(suite.facts(benchmark))
            for doc_id in task.chosen(rule.samples, settings.limit_seed):
                yield answerer.inputs(task.requests[doc_id])

    found = divergences(answerer.loaded.model, samples(), rule.first)
    table = Table("K", "mean KL(P_vtw ‖ P_full), nats", "≤ η")
    for K, divergence in found.items():
        table.add_row(str(K), f"{divergence:.6f}", "yes" if divergence <= rule.eta else "no")
    chosen = choose_k(found, rule.eta)
    Console().print(table)
    if chosen is None:
        print(f"no K has a divergence of at most η = {rule.eta}: VTW would withdraw nowhere")
        return 1
    print(f"VTW: K = {chosen} (η = {rule.eta}, {rule.samples} samples each of {len(settings.benchmarks)} benchmarks)")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (UserError, ValueError, OmegaConfBaseException, hydra.errors.HydraException) as error:
        sys.exit(f"error: {error}")
