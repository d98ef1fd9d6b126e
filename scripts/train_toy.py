"""Train a toy model: `python -m scripts.train_toy --family mantis`.

LLaVA-OneVision is trained from scratch (about an hour); the others start from its checkpoint.
Interrupt it whenever you like; the same command continues. `--fresh` starts again.
"""

import argparse
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that it runs from any folder, installed or not

from plphp_core.cli.entry_point import start  # noqa: E402


def load():
    import tasks.toy.training  # noqa: F401  torch and transformers

    return main


def main() -> int:
    import torch
    from rich.console import Console

    from tasks.toy.toy import get_toy, toy_names
    from tasks.toy.training import Trainer

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=toy_names(), default="llava_onevision", help="(default %(default)s)")
    parser.add_argument("--folder", type=Path, help="state (default results/toy-model/FAMILY)")
    parser.add_argument("--out", type=Path, help="where the checkpoint goes (default tasks/toy/checkpoints/FAMILY)")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: torch's choice)")
    parser.add_argument("--fresh", action="store_true", help="forget the saved state")
    arguments = parser.parse_args()
    toy = get_toy(arguments.family)
    folder, out = arguments.folder or Path("results/toy-model") / toy.name, arguments.out or toy.checkpoint
    if arguments.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    console = Console()
    trainer = Trainer(toy, folder, console)
    trainer.train()
    trainer.export(out)
    console.print(f"checkpoint written to {out} after {trainer.seconds / 60:.0f} minutes of training")
    return 0


if __name__ == "__main__":
    sys.exit(start(load))
