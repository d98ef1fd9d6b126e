"""The vision tower learns what every patch shows, then the decoder learns to talk: first to name, then to search.

Every step draws fresh training scenes from a generator seeded by stage and step, so an interrupted training continues
exactly where it stopped and no step sees test scenes.
"""

from __future__ import annotations

import math
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from tasks.toy.batches import Words, answer_loss, draw_batch
from tasks.toy.checkpoint import build_model, save_checkpoint
from tasks.toy.scenes import Scene, random_scene
from tasks.toy.state import load_optimizer, load_weights, read_progress, save_state
from tasks.toy.vision import FINE, PatchLabels, fine_tiles, patch_labels, pixels, tower_states, whole_tiles

SEED = 0


@dataclass(frozen=True)
class Stage:
    """AdamW with a linear warm-up and a cosine over `horizon` steps (default: all) down to `floor` times the peak."""

    name: str
    steps: int
    rate: float
    batch: int
    warmup: int = 100
    horizon: int | None = None
    floor: float = 0.02
    mixture: dict[str, float] = field(default_factory=dict)  # decoder only: how often a batch comes from each group
    hints: tuple[str, ...] = ()  # decoder only: "half-way", "late"
    forget: float = 0.0  # decoder only: share of batches whose answers miss most image tokens

    def rate_at(self, step: int) -> float:
        cosine = 0.5 * (1 + math.cos(math.pi * step / (self.horizon or self.steps)))
        return self.rate * min(1.0, (step + 1) / self.warmup) * (self.floor + (1 - self.floor) * cosine)


VISION = Stage("vision", steps=1200, rate=2e-3, batch=48)
# First the tasks in equal measure; naming what a picture shows comes early. Then mostly those that compare pictures or
# search them for what a question names, which take far longer to learn and get hints.
NAMING = {"caption": 2, "detail": 1, "change": 4, "birds": 1, "story": 1.5, "parade": 0.7, "views": 2, "choice": 2}
SEARCH = {"caption": 1, "detail": 0.8, "change": 5, "birds": 0.3, "story": 0.5, "parade": 0.5, "views": 3, "choice": 3}
CHOICE = {"caption": 1.5, "detail": 1, "change": 3, "birds": 0.3, "story": 0.6, "parade": 0.5, "views": 3, "choice": 3}
COMPARE = {"caption": 1.5, "detail": 1, "change": 5, "birds": 0.5, "story": 2, "parade": 1.5, "views": 2, "choice": 1}
DECODER = Stage("decoder", steps=600, rate=1.5e-3, batch=16, horizon=3000, mixture=NAMING)
FOCUS = Stage("focus", steps=1300, rate=1.4e-3, batch=16, warmup=20, mixture=SEARCH, hints=("half-way",))
REVIEW = Stage(
    "review",
    steps=600,
    rate=1.2e-3,
    batch=16,
    warmup=20,
    mixture=CHOICE,
    hints=("half-way", "late"),
    forget=0.6,
)
# More of the same at a lower rate, mostly changes and stories, which the training scenes show to lag behind.
POLISH = Stage(
    "polish",
    steps=500,
    rate=8e-4,
    batch=16,
    warmup=20,
    mixture=COMPARE,
    hints=("half-way", "late"),
    forget=0.6,
)
STAGES = (VISION, DECODER, FOCUS, REVIEW, POLISH)

BATCHES_PER_STEP = 2  # of the decoder: a step averages the gradients of two groups
# The decoder sees all image tokens in this share of the batches and a random half to all of them in the others: the
# usual token dropout, blind to attention. It is what makes patches of one object stand in for one another.
WHOLE_SHARE = 0.3
LEAST_TOKENS = 0.5
# In the last two stages, part of the answers are written with a random part of the image tokens only, though the prompt
# saw all of them: what an answer needs has to be gathered while the prompt is read, as large models do.
MOST_REMEMBERED = 0.6


def draw_scenes(rng: random.Random, count: int) -> list[Scene]:
    """Training scenes of one to three things, more often three."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(rng, rng.choice((1, 2, 3, 3)))
        if scene.split() == "train":
            scenes.append(scene)
    return scenes


def vision_loss(model, labels: PatchLabels, stage: Stage, rng: random.Random) -> tuple[torch.Tensor, dict[str, float]]:
    """Patch labels of whole views and of one random fine tile for each of them."""
    scenes = draw_scenes(rng, stage.batch)
    images = pixels(scenes, [rng.getrandbits(32) for _ in scenes])
    every, picked = torch.arange(stage.batch), torch.tensor([rng.randrange(FINE * FINE) for _ in scenes])
    whole, fine = (torch.stack(part) for part in zip(*map(patch_labels, scenes), strict=True))
    tiles = torch.cat((whole_tiles(images), fine_tiles(images)[every, picked]))
    wanted = torch.cat((whole, fine[every, picked])).flatten(0, 1)
    features = model.model.multi_modal_projector(tower_states(model, tiles))
    loss, right = labels(model, features.flatten(0, 1), wanted)
    return loss, dict(zip(("color", "shape", "place", "rank"), right.tolist(), strict=True))


def decoder_loss(
    model, tokenizer, words: Words, stage: Stage, rng: random.Random
) -> tuple[torch.Tensor, dict[str, float]]:
    """Answers of one group of sub-tasks; the reported number is the accuracy of content words, teacher-forced."""
    (group,) = rng.choices(list(stage.mixture), list(stage.mixture.values()))
    batch = draw_batch(group, stage.batch, rng, tokenizer)
    share = 1.0 if rng.random() < WHOLE_SHARE else rng.uniform(LEAST_TOKENS, 1.0)
    seen = rng.uniform(0.0, MOST_REMEMBERED) if stage.forget and rng.random() < stage.forget else 1.0
    chance = torch.Generator().manual_seed(rng.getrandbits(32))
    loss, shown = answer_loss(model, batch, share, seen, chance, words, stage.hints)
    return loss, {group if name == "answer" else f"{group}-{name}": value for name, value in shown.items()}


class Trainer:
    """Runs the stages in order and keeps its state in `folder`."""

    def __init__(self, folder: Path, console: Console, save_every: int = 100) -> None:
        self.folder, self.console, self.save_every = folder, console, save_every
        self.state = folder / "state.safetensors"
        self.model, self.processor = build_model(SEED)
        self.labels = PatchLabels(self.model, self.processor.tokenizer)
        self.modules = {"model": self.model, "labels": self.labels}
        self.seconds = 0.0

    def train(self) -> None:
        """All stages, from the saved state if there is one."""
        progress = read_progress(self.state)
        first, step = 0, 0
        if progress is not None:
            first, step = [stage.name for stage in STAGES].index(progress["stage"]), int(progress["step"])
            self.seconds = float(progress["seconds"])
            load_weights(self.state, self.modules)
            self.console.print(f"continuing stage {progress['stage']} at step {step}")
        for number, stage in enumerate(STAGES[first:], first):
            self.run(stage, step if number == first else 0)

    def run(self, stage: Stage, start: int) -> None:
        """One stage from step `start`."""
        loss_of, trained, batches = self.plan(stage)
        optimizer = torch.optim.AdamW(trained, lr=stage.rate, betas=(0.9, 0.98), weight_decay=0.01)
        if start:
            load_optimizer(self.state, optimizer)
        began, before = time.monotonic(), self.seconds
        shown: dict[str, list[float]] = defaultdict(list)
        with self.bar() as bar:
            task = bar.add_task(stage.name, total=stage.steps, completed=start, note="")
            for step in range(start, stage.steps):
                rng = random.Random(f"{SEED}/{stage.name}/{step}")
                for group in optimizer.param_groups:
                    group["lr"] = stage.rate_at(step)
                optimizer.zero_grad(set_to_none=False)
                for _ in range(batches):
                    with torch.autocast("cpu", torch.bfloat16):
                        loss, right = loss_of(rng)
                    (loss / batches).backward()
                    for name, value in {"loss": loss.item(), **right}.items():
                        shown[name].append(value)
                nn.utils.clip_grad_norm_(trained, 1.0)
                optimizer.step()
                done = step + 1
                bar.update(task, completed=done, note=f"loss {sum(shown['loss']) / len(shown['loss']):.3f}")
                if done % self.save_every == 0 or done == stage.steps:
                    self.seconds = before + time.monotonic() - began
                    where = {"stage": stage.name, "step": str(done), "seconds": str(self.seconds)}
                    save_state(self.state, self.modules, optimizer, where)
                    numbers = "  ".join(f"{name} {sum(v) / len(v):.3f}" for name, v in sorted(shown.items()))
                    self.console.print(f"{stage.name} {done}/{stage.steps}  {self.seconds:.0f} s  {numbers}")
                    shown.clear()

    def plan(self, stage: Stage) -> tuple[Callable, list[nn.Parameter], int]:
        """The stage's loss, the parameters it trains, and its batches per step."""
        tokenizer, model = self.processor.tokenizer, self.model
        if stage is VISION:
            parts: Iterable[nn.Module] = (model.model.vision_tower, model.model.multi_modal_projector, self.labels)
            trained = [parameter for part in parts for parameter in part.parameters()]
            trained.append(model.get_input_embeddings().weight)
            return lambda rng: vision_loss(model, self.labels, stage, rng), trained, 1
        frozen = {id(parameter) for parameter in model.model.vision_tower.parameters()}
        trained = [parameter for parameter in model.parameters() if id(parameter) not in frozen]
        words = Words.of(tokenizer)
        model.model.language_model.config._attn_implementation = "toy_training"
        return lambda rng: decoder_loss(model, tokenizer, words, stage, rng), trained, BATCHES_PER_STEP

    def bar(self) -> Progress:
        left = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        right = (TextColumn("{task.fields[note]}"), TimeElapsedColumn(), TimeRemainingColumn())
        return Progress(*left, *right, console=self.console)

    def export(self, folder: Path) -> None:
        """Write the Hugging Face checkpoint."""
        save_checkpoint(self.model, self.processor, folder)
