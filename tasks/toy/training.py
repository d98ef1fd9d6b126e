"""The trainer: a toy's stages one after the other, first of its vision part, then of its decoder.

Every step draws fresh training scenes from a generator seeded by stage and step, so an interrupted training continues
exactly where it stopped and no step sees test scenes.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from tasks.toy.batches import Words, answer_loss, draw_batch
from tasks.toy.checkpoint import save_checkpoint
from tasks.toy.stage import Stage
from tasks.toy.state import load_optimizers, load_weights, read_progress, save_state
from tasks.toy.toy import Toy

SEED = 0


BATCHES_PER_STEP = 2  # of the decoder: a step averages the gradients of two groups


def decoder_loss(
    toy: Toy, model, tokenizer, words: Words, stage: Stage, rng: random.Random
) -> tuple[torch.Tensor, dict[str, float]]:
    """Answers of one group of sub-tasks; the reported number is the accuracy of content words, teacher-forced."""
    (group,) = rng.choices(list(stage.mixture), list(stage.mixture.values()))
    batch = draw_batch(toy, group, stage.batch, rng, tokenizer)
    loss, shown = answer_loss(toy, model, batch, words)
    return loss, {group if name == "answer" else f"{group}-{name}": value for name, value in shown.items()}


def optimizers(model: nn.Module, trained: list[nn.Parameter], rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the maps between hidden states, AdamW for everything else, word vectors included.

    Muon's steps are scaled to the size of AdamW's, so that both share a learning rate.
    """
    linear = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    linear.discard(id(model.get_input_embeddings().weight))  # the output layer's too
    hidden = [parameter for parameter in trained if id(parameter) in linear]
    others = [parameter for parameter in trained if id(parameter) not in linear]
    return [
        torch.optim.Muon(hidden, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


class Trainer:
    """Runs the stages in order and keeps its state in `folder`."""

    def __init__(self, toy: Toy, folder: Path, console: Console, save_every: int = 100) -> None:
        self.toy, self.folder, self.console, self.save_every = toy, folder, console, save_every
        self.state = folder / "state.safetensors"
        self.model, self.processor = toy.build_model(SEED)
        self.lesson = toy.lesson(self.model, self.processor.tokenizer)
        self.modules = {"model": self.model, "labels": self.lesson}
        self.seconds = 0.0

    def train(self) -> None:
        """All stages, from the saved state if there is one."""
        progress = read_progress(self.state)
        first, step = 0, 0
        if progress is not None:
            first, step = [stage.name for stage in self.toy.stages].index(progress["stage"]), int(progress["step"])
            self.seconds = float(progress["seconds"])
            load_weights(self.state, self.modules)
            self.console.print(f"continuing stage {progress['stage']} at step {step}")
        for number, stage in enumerate(self.toy.stages[first:], first):
            self.run(stage, step if number == first else 0)

    def run(self, stage: Stage, start: int) -> None:
        """One stage from step `start`."""
        loss_of, trained, batches = self.plan(stage)
        both = optimizers(self.model, trained, stage.rate)
        if start:
            load_optimizers(self.state, both)
        began, before = time.monotonic(), self.seconds
        shown: dict[str, list[float]] = defaultdict(list)
        with self.bar() as bar:
            task = bar.add_task(stage.name, total=stage.steps, completed=start, note="")
            for step in range(start, stage.steps):
                rng = random.Random(f"{SEED}/{stage.name}/{step}")
                for optimizer in both:
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
                for optimizer in both:
                    optimizer.step()
                done = step + 1
                bar.update(task, completed=done, note=f"loss {sum(shown['loss']) / len(shown['loss']):.3f}")
                if done % self.save_every == 0 or done == stage.steps:
                    self.seconds = before + time.monotonic() - began
                    where = {"stage": stage.name, "step": str(done), "seconds": str(self.seconds)}
                    save_state(self.state, self.modules, both, where)
                    numbers = "  ".join(f"{name} {sum(v) / len(v):.3f}" for name, v in sorted(shown.items()))
                    self.console.print(f"{stage.name} {done}/{stage.steps}  {self.seconds:.0f} s  {numbers}")
                    shown.clear()

    def plan(self, stage: Stage) -> tuple[Callable, list[nn.Parameter], int]:
        """The stage's loss, the parameters it trains, and its batches per step."""
        toy, tokenizer, model = self.toy, self.processor.tokenizer, self.model
        if not stage.mixture:
            trained = [*toy.vision_parameters(model), *self.lesson.parameters()]
            return lambda rng: self.lesson(stage, rng), trained, 1
        frozen = {id(parameter) for parameter in toy.tower(model).parameters()}
        trained = [parameter for parameter in model.parameters() if id(parameter) not in frozen]
        words = Words.of(tokenizer)
        toy.family.decoder(model).config._attn_implementation = "toy_training"
        return lambda rng: decoder_loss(toy, model, tokenizer, words, stage, rng), trained, BATCHES_PER_STEP

    def bar(self) -> Progress:
        left = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        right = (TextColumn("{task.fields[note]}"), TimeElapsedColumn(), TimeRemainingColumn())
        return Progress(*left, *right, console=self.console)

    def export(self, folder: Path) -> None:
        """Write the Hugging Face checkpoint."""
        save_checkpoint(self.model, self.processor, folder)
