"""Is the toy a fair instrument? Slot accuracy on the test data, uncompressed, with foreign images, and pruned.

It is, if keeping the right tokens is enough (`oracle`), keeping random ones is not (`random`), and nothing is left
without the images.

    python -m tasks.toy.fairness [--family mantis] [--checkpoint …] [--samples 48] [--split test] [--out FILE]

Also prints how γ is spread over the prunable layers on training scenes. The toy profile's α and β come from there: its
2/3 and 1/3 quantiles, so that as many layers gain Δr as lose it, rounded to 0.05.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from baselines import VTW, Oracle, RandomTokens, SnapKV
from plphp_core import PLPHP, prune
from plphp_core.evaluation.encoding import pixels_sha256, sample_key
from plphp_core.pruning import Method
from plphp_core.pruning.prompt import sample_keys
from tasks.toy.generate import SEED, image_seed
from tasks.toy.prompts import context
from tasks.toy.samples import BENCHMARKS, SUB_TASKS, Sample, make_samples
from tasks.toy.scenes import draw
from tasks.toy.slots import slot_accuracy
from tasks.toy.toy import Toy, get_toy, toy_names

NEW_TOKENS = {"flickr30k": 64, "coco2017": 64, "detailcaps": 512, "reading": 32, "finding": 32, "long": 128}
OTHERS = 16  # new tokens of the rest, as their task files say
LOOKING = ("reading", "finding", "long")
BUDGETS = (0.1, 0.2, 0.4)  # kept share of the vision bytes, in every layer
AT = 0.2  # the budget of the targets


def methods(alpha: float, beta: float, layers: int) -> dict[str, Method | None]:
    """Uncompressed, withdrawal after a quarter and half of the layers, PLPHP's defaults, and rivals at equal bytes."""
    found: dict[str, Method | None] = {"none": None}
    found |= {f"VTW {K}": VTW(K=K) for K in (layers // 4, layers // 2)}
    found["PLPHP"] = PLPHP(alpha=alpha, beta=beta)
    for budget in BUDGETS:
        found[f"oracle {budget}"] = Oracle(budget=budget)
        found[f"random {budget}"] = RandomTokens(r=budget, delta_r=0.0, whole_layers="none")
        # One row, no smoothing: what PLPHP's scores choose, in every layer and over all images together.
        found[f"last row {budget}"] = SnapKV(budget=budget, window_size=1, kernel_size=1)
    return found


class Bench:
    """A loaded checkpoint and the samples it is asked, images drawn as the generator draws them."""

    def __init__(self, toy: Toy, checkpoint: Path, split: str, samples: int, batch: int = 12) -> None:
        self.family, self.batch = toy.family, batch
        self.model, self.processor = self.family.load(str(checkpoint), dtype="float32")
        self.layers = self.model.config.text_config.num_hidden_layers
        self.samples: dict[str, list[Sample]] = {}
        self.images: dict[str, list[list]] = {}
        for benchmark in BENCHMARKS:
            names = SUB_TASKS[benchmark]
            drawn = list(make_samples(benchmark, -(-samples // len(names)) * len(names), SEED, split))
            self.samples[benchmark] = drawn
            self.images[benchmark] = [
                [draw(scene, image_seed(SEED, benchmark, row, i)) for i, scene in enumerate(sample.scenes)]
                for row, sample in enumerate(drawn)
            ]

    def swapped(self, benchmark: str) -> list[list]:
        """Every sample's images replaced by those of the previous sample of its sub-task."""
        rows: dict[str, list[int]] = defaultdict(list)
        for row, sample in enumerate(self.samples[benchmark]):
            rows[sample.sub_task].append(row)
        donor = {row: group[i - 1] for group in rows.values() for i, row in enumerate(group)}
        return [self.images[benchmark][donor[row]] for row in range(len(donor))]

    def encode(self, samples: list[Sample], images: list[list]) -> tuple[dict, list[str]]:
        """The model's inputs, and what a run would call the samples."""
        prompts = [self.family.prompt(context(s), len(i)) for s, i in zip(samples, images, strict=True)]
        images = [self.family.images(sample) for sample in images]
        keys = [sample_key(p, map(pixels_sha256, i)) for p, i in zip(prompts, images, strict=True)]
        return self.family.encode(self.processor, prompts, images), keys

    @torch.no_grad()
    def answers(self, benchmark: str, method, images: list[list]) -> tuple[list[str], float]:
        """Greedy answers and the mean share of vision tokens kept."""
        texts, kept, samples = [], [], self.samples[benchmark]
        limit = NEW_TOKENS.get(benchmark, OTHERS)
        with prune(self.model, method) as trace:
            for first in range(0, len(samples), self.batch):
                part = slice(first, first + self.batch)
                inputs, keys = self.encode(samples[part], images[part])
                with sample_keys(keys):
                    ids = self.model.generate(**inputs, max_new_tokens=limit, do_sample=False)
                texts += self.processor.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
                kept += trace.retention.mean(dim=1).tolist()
        return texts, sum(kept) / len(kept)

    @torch.no_grad()
    def vision_attention(self, benchmark: str) -> torch.Tensor:
        """γ of every sample and layer, (samples, layers)."""
        rows, samples, images = [], self.samples[benchmark], self.images[benchmark]
        with prune(self.model, None) as trace:
            for first in range(0, len(samples), self.batch):
                part = slice(first, first + self.batch)
                self.model(**self.encode(samples[part], images[part])[0])
                rows.append(trace.vision_attention.clone())
        return torch.cat(rows)


def measure(bench: Bench, alpha: float, beta: float, only: list[str] | None, console: Console) -> dict:
    """Slot accuracy per setting and benchmark, with the share of vision tokens kept."""
    rows: dict[str, dict] = {}
    settings: dict[str, tuple] = {"none, images swapped": (None, True)}
    settings |= {label: (method, False) for label, method in methods(alpha, beta, bench.layers).items()}
    for label, (method, swap) in settings.items():
        if only and label not in only:
            continue
        began, row = time.monotonic(), {}
        retention = []
        for benchmark, samples in bench.samples.items():
            images = bench.swapped(benchmark) if swap else bench.images[benchmark]
            answers, kept = bench.answers(benchmark, method, images)
            scores = [slot_accuracy(a, list(s.references)) for a, s in zip(answers, samples, strict=True)]
            by_task = defaultdict(list)
            for sample, score in zip(samples, scores, strict=True):
                by_task[sample.sub_task].append(score)
            row[benchmark] = {
                "slots": sum(scores) / len(scores),
                "sub_tasks": {name: sum(values) / len(values) for name, values in by_task.items()},
                "example": [answers[0], samples[0].answer],
            }
            retention.append(kept)
        for name, group in {"suite": set(bench.samples) - set(LOOKING), "looking": set(LOOKING)}.items():
            row[name] = sum(row[b]["slots"] for b in group) / len(group)
        row["retention"] = sum(retention) / len(retention)
        row["seconds"] = time.monotonic() - began
        rows[label] = row
        numbers = "  ".join(f"{b} {row[b]['slots']:.3f}" for b in bench.samples)
        summary = f"suite {row['suite']:.3f}  looking {row['looking']:.3f}  kept {row['retention']:.2f}"
        console.print(f"{label:22} {summary}  {numbers}  {row['seconds']:.0f} s")
    return rows


def targets(rows: dict[str, dict], console: Console) -> dict[str, bool]:
    """The instrument's targets, each met or not; a loss is relative to uncompressed."""

    def loss(label: str, group: str) -> float:
        return 1 - rows[label][group] / rows["none"][group]

    oracle, chance, swapped = f"oracle {AT}", f"random {AT}", "none, images swapped"
    found = {}
    for said, value, met in (
        ("uncompressed, suite ≥ 0.90", rows["none"]["suite"], rows["none"]["suite"] >= 0.9),
        ("uncompressed, looking ≥ 0.90", rows["none"]["looking"], rows["none"]["looking"] >= 0.9),
        ("oracle loses ≤ 5 %, suite", loss(oracle, "suite"), loss(oracle, "suite") <= 0.05),
        ("oracle loses ≤ 5 %, looking", loss(oracle, "looking"), loss(oracle, "looking") <= 0.05),
        ("random loses ≥ 10 %, suite", loss(chance, "suite"), loss(chance, "suite") >= 0.1),
        ("random loses ≥ 25 %, looking", loss(chance, "looking"), loss(chance, "looking") >= 0.25),
        ("images swapped ≤ 1/3, suite", 1 - loss(swapped, "suite"), 1 - loss(swapped, "suite") <= 1 / 3),
        ("images swapped ≤ 1/3, looking", 1 - loss(swapped, "looking"), 1 - loss(swapped, "looking") <= 1 / 3),
    ):
        console.print(f"{'met   ' if met else 'MISSED'}  {said:32} {value:.3f}")
        found[said] = met
    return found


def spread(bench: Bench, console: Console) -> dict:
    """Quantiles of γ over samples and prunable layers (2 … N − 2), each benchmark weighing the same; mean per layer."""
    gammas = {benchmark: bench.vision_attention(benchmark) for benchmark in bench.samples}
    table = Table("benchmark", *(f"layer {i}" for i in range(next(iter(gammas.values())).shape[1])), title="mean γ")
    for benchmark, gamma in gammas.items():
        table.add_row(benchmark, *(f"{value:.3f}" for value in gamma.mean(0).tolist()))
    console.print(table)
    pooled = torch.cat([gamma[:48, 2:-1].flatten() for gamma in gammas.values()])
    steps = [0.1, 0.2, 0.25, 1 / 3, 0.4, 0.5, 0.6, 2 / 3, 0.75, 0.8, 0.9]
    quantiles = {f"{q:.2f}": float(torch.quantile(pooled, q)) for q in steps}
    console.print("γ quantiles over prunable layers:", {q: round(v, 4) for q, v in quantiles.items()})
    return {"quantiles": quantiles, "layers": {b: g.mean(0).tolist() for b, g in gammas.items()}}


def _rounded(value: float) -> float:
    return round(round(value / 0.05) * 0.05, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=toy_names(), default="llava_onevision", help="(%(default)s)")
    parser.add_argument("--checkpoint", type=Path, help="the family's own if not given")
    parser.add_argument("--samples", type=int, default=48, help="samples per benchmark (%(default)s)")
    parser.add_argument("--split", choices=("train", "test"), default="test", help="accuracy on these (%(default)s)")
    parser.add_argument("--alpha", type=float, help="the 2/3 quantile of γ on training scenes if not given")
    parser.add_argument("--beta", type=float, help="the 1/3 quantile of γ on training scenes if not given")
    parser.add_argument("--only", nargs="*", help="settings by label; all if not given")
    parser.add_argument("--no-gamma", action="store_true", help="skip γ on training scenes; give α and β then")
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    arguments = parser.parse_args()
    toy, console = get_toy(arguments.family), Console(width=200)
    checkpoint = arguments.checkpoint or toy.checkpoint
    numbers: dict = {"split": arguments.split}
    alpha, beta = arguments.alpha, arguments.beta
    if not arguments.no_gamma:
        numbers["gamma"] = spread(Bench(toy, checkpoint, "train", arguments.samples), console)
        alpha = _rounded(numbers["gamma"]["quantiles"]["0.67"]) if alpha is None else alpha
        beta = _rounded(numbers["gamma"]["quantiles"]["0.33"]) if beta is None else beta
    elif alpha is None or beta is None:
        parser.error("--no-gamma needs --alpha and --beta")
    console.print(f"α {alpha}  β {beta}")
    bench = Bench(toy, checkpoint, arguments.split, arguments.samples)
    rows = measure(bench, alpha, beta, arguments.only, console)
    numbers |= {"alpha": alpha, "beta": beta, "rows": rows}
    if not arguments.only:
        numbers["targets"] = targets(rows, console)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
