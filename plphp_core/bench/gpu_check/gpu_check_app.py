"""The command: which parts there are, in which order, and where their evidence goes."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers

from plphp_core.bench.bench_machine import look_at
from plphp_core.bench.bench_tables import DECODE, PREFILL
from plphp_core.bench.gpu_check import gpu_answers, gpu_costs, gpu_exactness
from plphp_core.bench.gpu_check.gpu_evidence import Evidence, Part, carry_out
from plphp_core.bench.gpu_check.gpu_setting import DTYPE, FULL, REDUCED, Setting
from plphp_core.records.errors import RunError
from plphp_core.records.manifest import git_state, versions

SHOWN = ("python", "torch", "torchvision", "transformers", "numpy")


def _number(digits: int):
    return lambda value: f"{value:.{digits}f}"


def _mb(value: int) -> str:
    return f"{value / 1e6:.2f}"


# The most important first: a run that is cut off has shown them.
PARTS = (
    Part(
        "kernels",
        "Which kernel attends",
        "Every kernel of the fast path over ragged slots of the real shape in bf16: the largest difference from fp32, "
        "and milliseconds of 28 calls, from a CUDA graph on CUDA. Right: it agrees, recorded in a graph too.",
        gpu_exactness.kernel_choice,
        {
            "kernel": ("kernel", str),
            "": ("taken", str),
            "found": ("found", str),
            "largest difference": ("error", _number(4)),
            "ms": ("ms", _number(3)),
            "25 %": ("q1", _number(3)),
            "75 %": ("q3", _number(3)),
            "GB/s": ("gb_per_s", _number(1)),
        },
        least=10,
        limit=60,
    ),
    Part(
        "identity",
        "Identity where nothing is pruned",
        "Logits of four tokens in bf16 under methods that prune nothing against those without any, bit for bit. "
        "Padded: two prompts, one of them padded on the left.",
        gpu_exactness.identity,
        {
            "attention": ("attention", str),
            "prompts": ("prompts", str),
            "method": ("method", str),
            "logits": ("logits", str),
            "differing": ("differing", str),
            "found": ("found", str),
        },
        least=30,
        limit=100,
    ),
    Part(
        "graph",
        "CUDA graph against the same steps without",
        "Greedy steps of the fast path after a real prefill of a ragged batch, from a graph and called one by one.",
        gpu_exactness.graph,
        {
            "method": ("method", str),
            "kernel": ("kernel", str),
            "tokens": ("tokens", str),
            "the same": ("equal", str),
            "logits differ by": ("largest", _number(4)),
        },
        least=20,
        limit=60,
    ),
    Part(
        "memory",
        "Memory before and after pruning",
        "What a prefill of one prompt leaves in memory: as `trace.kv_bytes` reports it, as the storage of keys and "
        "values, as the CUDA allocator counts it, and what is left once the cache is let go. MB.",
        gpu_costs.memory,
        {
            "method": ("method", str),
            "unpruned": ("full", _mb),
            "reported": ("reported", _mb),
            "storage": ("held", _mb),
            "allocated": ("allocated", _mb),
            "peak of the prefill": ("peak", _mb),
            "left": ("left", _mb),
        },
        least=15,
        limit=40,
    ),
    Part(
        "ragged",
        "Ragged batches",
        "Answers of trained toy checkpoints to prompts of different lengths, padded on the left: the fast path against "
        "`generate()`. A tie: two logits of `generate()` that differ by less than eight roundings.",
        gpu_answers.ragged,
        {
            "checkpoint": ("checkpoint", str),
            "dtype": ("dtype", str),
            "method": ("method", str),
            "kernel": ("kernel", str),
            "padding": ("padding", str),
            "samples": ("samples", str),
            "the same": ("same", str),
            "from a tie on": ("ties", str),
            "wrong": ("wrong", str),
        },
        least=20,
        limit=90,
    ),
    Part(
        "decoding",
        "Decoding beside its floor",
        "The three regimes, as in `make bench`: cases of a batch take turns, speed-up and share are of the same round. "
        "ρ = floor / measured; floor: weights, keys and values read once. See docs/performance.md.",
        gpu_costs.decoding,
        {"vision": ("vision_tokens", str)} | DECODE,
        least=40,
        limit=240,
    ),
    Part(
        "prefill",
        "Prefill with and without scoring",
        "Prefills of one prompt take turns. Added: the method's own work within the prefill; in tokens: of an unpruned "
        "one in the fast regime.",
        gpu_costs.prefills,
        PREFILL,
        least=15,
        limit=60,
    ),
    Part(
        "out_of_memory",
        "Out of memory",
        "A batch of a run that does not fit: answered sample by sample, as samples asked alone.",
        gpu_answers.out_of_memory,
        {
            "provoked": ("provoked", str),
            "batch": ("batch", str),
            "ran out": ("ran_out", str),
            "answered": ("answered", str),
            "in batches of": ("batch_size", str),
        },
        least=15,
        limit=60,
    ),
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
    machine = look_at(device, DTYPE, sizes.bandwidth_mb)
    setting = Setting(device, sizes, machine, root, began + 60 * args.minutes)
    now = datetime.now(UTC)
    state = git_state(root)
    nominal = f"{machine.nominal / 1e9:.0f} GB/s by the data sheet, " if machine.nominal else ""
    about = {
        "hardware": machine.name,
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "reduced": sizes is REDUCED,
        "memory": f"{nominal}{machine.measured / 1e9:.1f} GB/s measured",
        "notes": machine.notes | _versions(),
        "command": shlex.join(["python", "scripts/gpu_check.py", *arguments]),
        "commit": f"{state['commit'] or 'unknown'}{' with changes' if state['dirty'] else ''}",
        "shape": sizes.shape,
    }
    wanted = [part for part in PARTS if not args.parts or part.name in args.parts]
    if sizes is REDUCED:  # seconds in all
        wanted = [Part(**{**vars(part), "least": 0}) for part in wanted]
    evidence = Evidence(about, args.out / f"{machine.slug}-{now:%Y-%m-%d-%H%M}", wanted)
    try:
        evidence.write()  # an --out that cannot be written is told now, not after eight minutes
        carry_out(evidence, setting, setting.deadline, lambda text: print(text, flush=True))
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
    parser = argparse.ArgumentParser(prog="scripts/gpu_check.py", description=main.__doc__.splitlines()[0])
    parser.add_argument("--device", help="cuda, cuda:1, cpu; by default, cuda where there is one")
    parser.add_argument("--minutes", type=float, default=8, help="after which no part is running any more (8)")
    parser.add_argument("--parts", nargs="*", choices=[part.name for part in PARTS], help="by default, all")
    parser.add_argument("--out", type=Path, default=Path("results/gpu"), help="folder of the evidence (results/gpu)")
    return parser
