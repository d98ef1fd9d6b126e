"""CDPruner: tokens that the question is about and that are unlike each other, by a determinant (arXiv 2506.10967)."""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from baselines.per_image import PerImage, normalised, whole
from plphp_core.pruning.encode_view import ImageView, KeptTokens
from plphp_core.pruning.tower import Tower, TowerLayer
from plphp_core.pruning.validation import choice, require

# What the authors' scripts cut off a question.
INSTRUCTIONS = (
    "\nAnswer the question using a single word or phrase.",
    "\nAnswer with the option's letter from the given choices directly.",
)


@dataclass(frozen=True)
class CDPruner(PerImage):
    """Before the decoder: of each image the tokens whose similarities, times their relevance, have a large determinant.

    https://arxiv.org/abs/2506.10967; semantics of github.com/Theia-4869/CDPruner at 9541616. Tokens are compared by the
    cosine of the features that enter the decoder, and picked one by one (greedy MAP of a determinantal point process).

    Args:
        relevance: `"clip"`: minus the cosine with the question in CLIP's common space, as in the official code, since
            patches of CLIP point away from what they show; `"text"`: plus the mean cosine with the embeddings of the
            text behind the last image, for other towers; `"none"`: all are equally relevant.
        clip: checkpoint or folder of the CLIP model that the vision tower is from, with its text tower. For `"clip"`.

    Raises:
        ValueError: as `PerImage`; `"clip"` with a vision tower that is no CLIP or another one, or without a question:
            runs know it, elsewhere say it by `plphp_core.pruning.prompt.questions`.
    """

    name: ClassVar[str] = "cdpruner"
    label: ClassVar[str] = "CDPruner"

    relevance: Literal["clip", "text", "none"] = "clip"
    clip: str = "openai/clip-vit-large-patch14-336"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("CDPruner", "relevance", self.relevance, ("clip", "text", "none"))

    @property
    def checkpoints(self) -> tuple[str, ...]:
        return (self.clip,) if self.relevance == "clip" else ()

    @property
    def tower_layer(self) -> TowerLayer | None:
        return "features" if self.relevance == "clip" else None

    def check_tower(self, tower: Tower) -> None:
        kind = type(tower.layers[0]).__name__
        require(
            kind.startswith("CLIP"),
            f"relevance = 'clip', but its layers are of {kind}, which shares no space with text: take 'text' or 'none'",
        )

    def choose(self, image: ImageView, among: Tensor, budget: int) -> KeptTokens:
        relevance = self.relevances(image)[among]
        unit = normalised(image.features[among])
        alike = (unit @ unit.T).fill_diagonal_(1.0)  # exactly, so that equal relevance is a tie
        kernel = relevance[:, None] * alike * relevance
        return whole(image, among[greedy_map(kernel, relevance, budget)])

    def relevances(self, image: ImageView) -> Tensor:
        """`(S_j,)` fp32, from about 0 to 1 over the tokens that compete; 1 where all are equal."""
        if self.relevance == "none":
            return torch.ones(len(image), device=image.features.device)
        if self.relevance == "text":
            found = (normalised(image.features) @ normalised(image.text).T).mean(1)
        else:
            require(
                image.question is not None,
                "cdpruner ranks by the question, which is known in runs only; elsewhere, say it: "
                "with plphp_core.pruning.prompt.questions([…]), one per sample, or take relevance='text'",
            )
            found = -self._cosines(image)
        rivals = found if self.newlines == "compete" else found[~image.newline]  # those that can be kept
        low, high = rivals.aminmax()
        return torch.where(high > low, (found - low + 1e-6) / (high - low).clamp(min=1e-12), torch.ones_like(found))

    def _cosines(self, image: ImageView) -> Tensor:
        """With the question, a mean over its pieces, `(S_j,)`."""
        parts = clip_parts(self.clip, image.features.device)
        features = image.tower_features
        width = parts.norm.weight.shape[0]
        require(
            features.shape[1] == width,
            f"cdpruner: {self.clip} is {width} wide, but the vision tower is {features.shape[1]}: name its own CLIP",
        )
        patches = parts.visual(parts.norm(features))
        return (normalised(patches) @ normalised(parts.text(shortened(str(image.question)))).T).mean(1)


def shortened(question: str) -> str:
    """Without marks of images and what the authors' scripts cut off."""
    for words in ("<image>", *INSTRUCTIONS):
        question = question.replace(words, "")
    return question.strip()


class ClipParts(nn.Module):
    """What of a CLIP model maps patches and questions into its common space."""

    def __init__(self, checkpoint: str):
        from transformers import AutoTokenizer, CLIPModel

        super().__init__()
        try:
            model = CLIPModel.from_pretrained(checkpoint, use_safetensors=True).float().eval()
        except OSError as error:
            raise ValueError(
                f"cdpruner: clip = {checkpoint!r} cannot be loaded ({error}); name a folder with it, or take "
                "relevance='text' or 'none'"
            ) from error
        self.norm, self.visual = model.vision_model.post_layernorm, model.visual_projection
        self.text_model, self.text_projection = model.text_model, model.text_projection
        self.tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
        self.length = model.config.text_config.max_position_embeddings

    def text(self, question: str) -> Tensor:
        """`(pieces, width)`: of pieces as long as the text tower reads, the last one filled up with zeros."""
        ids = torch.tensor(self.tokenizer(question)["input_ids"], device=self.visual.weight.device)
        pieces = nn.functional.pad(ids, (0, -len(ids) % self.length)).view(-1, self.length)
        return self.text_projection(self.text_model(input_ids=pieces).pooler_output)


@functools.lru_cache(maxsize=1)
def clip_parts(checkpoint: str, device: torch.device) -> ClipParts:
    return ClipParts(checkpoint).to(device)


def greedy_map(kernel: Tensor, relevance: Tensor, number: int) -> Tensor:
    """`(number,)` long: each the token that makes the determinant of the kernel of those picked largest.

    By its Cholesky factor, a row per pick. Where nothing is left that adds to it, the most relevant follow.

    Args:
        kernel: `(n, n)` fp32, positive semidefinite.
        relevance: `(n,)`.
    """
    gain = kernel.diagonal().clone()
    rows = torch.zeros(number, len(kernel), device=kernel.device)
    picked = torch.zeros(len(kernel), dtype=torch.bool, device=kernel.device)
    order = []
    for step in range(number):
        left = gain.masked_fill(picked, float("-inf"))
        # Beyond the kernel's rank gains are rounding: then relevance decides.
        by_relevance = relevance.masked_fill(picked, float("-inf"))
        best = torch.where(left.amax() > 1e-6 * kernel.diagonal().amax(), left.argmax(), by_relevance.argmax())
        row = (kernel[best] - rows[:step, best] @ rows[:step]) / gain[best].clamp(min=1e-12).sqrt()
        rows[step] = torch.where(gain[best] > 1e-12, row, torch.zeros_like(row))
        gain = gain - rows[step] ** 2
        picked = picked.index_fill(0, best, True)
        order.append(best)
    return torch.stack(order)
