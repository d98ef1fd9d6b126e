"""The command: which parts there are, in which order, and where their evidence goes."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers

from plphp_core.bench.bench_tables import file_slug
from plphp_core.bench.gpu_check import gpu_answers, gpu_costs, gpu_exactness
from plphp_core.bench.gpu_check.gpu_evidence import Evidence, run_parts
from plphp_core.bench.gpu_check.gpu_setting import DTYPE, FULL, REDUCED, GpuSetting
from plphp_core.bench.roofline import measure_machine
from plphp_core.records.errors import RunError
from plphp_core.records.manifest import git_state, versions

SHOWN = ("python", "torch", "torchvision", "transformers", "numpy")


# The most important first: a run that is cut off has shown them.
PARTS = (
    gpu_exactness.kernel_choice,
    gpu_exactness.identity,
    gpu_exactness.graph,
    gpu_costs.memory,
    gpu_answers.ragged,
    gpu_costs.decoding,
    gpu_costs.prefills,
)


def main(root: Path, arguments: list[str], began: float) -> int:
    """Run the parts. Returns 0; 1 if something does not hold, broke or was cut off, or nothing could be written; 2 for
    a request that cannot be served.

    Args:
        began: of `time.monotonic`, when the process did; the minutes are counted from there.
    """
    args = _parser().parse_args(arguments)
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        print("error: --device cuda, but torch finds no CUDA device here; without it, a CPU is used", file=sys.stderr)
        return 2
    sizes = FULL if device.startswith("cuda") else REDUCED
    transformers.utils.logging.disable_progress_bar()
    machine = measure_machine(device, DTYPE, sizes.bench.bandwidth_mb)
    setting = GpuSetting(device, sizes, machine, root, began + 60 * args.minutes)
    now = datetime.now(UTC)
    state = git_state(root)
    about = {
        "hardware": machine.name,
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "reduced": sizes is REDUCED,
        "memory": machine.memory,
        "notes": machine.notes | _versions(),
        "command": shlex.join(["python", "scripts/gpu_check.py", *arguments]),
        "commit": f"{state['commit'] or 'unknown'}{' with changes' if state['dirty'] else ''}",
        "shape": sizes.bench.models[0],
    }
    wanted = [part for part in PARTS if not args.parts or part.name in args.parts]
    if sizes is REDUCED:  # seconds in all
        wanted = [replace(part, least=0) for part in wanted]
    evidence = Evidence(about, args.out / f"{file_slug(machine.name)}-{now:%Y-%m-%d-%H%M}", wanted)
    try:
        evidence.write()  # an --out that cannot be written is told now, not after eight minutes
        run_parts(evidence, setting, setting.deadline, lambda text: print(text, flush=True))
    except (OSError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        for path in evidence.files:
            if path.exists():
                print(os.path.relpath(path))
    return 1 if evidence.bad else 0


def _versions() -> dict[str, str]:
    found = {name: version for name, version in versions().items() if name in SHOWN}
    if torch.cuda.is_available():
        found |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/gpu_check.py", description=(main.__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", help="cuda, cuda:1, cpu; by default, cuda where there is one")
    parser.add_argument("--minutes", type=float, default=8, help="after which no part is running any more (8)")
    parser.add_argument("--parts", nargs="*", choices=[part.name for part in PARTS], help="by default, all")
    parser.add_argument("--out", type=Path, default=Path("results/gpu"), help="folder of the evidence (results/gpu)")
    return parser
