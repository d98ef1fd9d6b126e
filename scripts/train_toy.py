"""Train the toy LLaVA-OneVision from scratch: `python -m scripts.train_toy`.

Interrupt it whenever you like; the same command continues. `--fresh` starts again.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from rich.console import Console

from tasks.toy.checkpoint import CHECKPOINT
from tasks.toy.training import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("results/toy-model"), help="state (default %(default)s)")
    parser.add_argument("--out", type=Path, default=CHECKPOINT, help="checkpoint in Hugging Face layout")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (default: torch's choice)")
    parser.add_argument("--fresh", action="store_true", help="forget the saved state")
    arguments = parser.parse_args()
    if arguments.fresh:
        shutil.rmtree(arguments.folder, ignore_errors=True)
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    console = Console()
    trainer = Trainer(arguments.folder, console)
    trainer.train()
    trainer.export(arguments.out)
    console.print(f"checkpoint written to {arguments.out} after {trainer.seconds / 60:.0f} minutes of training")


if __name__ == "__main__":
    main()
