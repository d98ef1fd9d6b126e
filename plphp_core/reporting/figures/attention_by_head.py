"""Figure 3: where single heads of one layer look on the image, and which of its tokens PLPHP keeps for them."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from plphp_core.analysis.attention_heads import head_frame
from plphp_core.analysis.results import NothingToShow
from plphp_core.records.errors import ReportError
from plphp_core.reporting import attention_sample
from plphp_core.reporting.attention_sample import AttentionSample
from plphp_core.reporting.configured import benchmark_configured
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.figure_spec import FigureSpec, Page, Shown
from plphp_core.reporting.notes import profile, weights
from plphp_core.reporting.request import ReportRequest, joined, model_suffix
from plphp_core.reporting.table_model import Table, TableColumn, TableRow, number, percent
from plphp_core.vision.token_geometry import kept_share, painted

MOST = 8  # KV heads drawn; of more, so many evenly spaced
PIXELS = 384  # of a picture's long side
HEAT = "magma"
TALLEST = 4  # times as high as wide is drawn; beyond that a picture is drawn narrower
COLUMNS = (
    TableColumn("KV head"),
    TableColumn("Query heads", text=True),
    TableColumn("γ of its query heads"),
    TableColumn("kept", "Vision"),
    TableColumn("of its attention kept", "Share"),
    TableColumn("with other heads", "Overlap"),
)


@dataclass(frozen=True, eq=False)
class HeadAttention:
    """One layer (from 0) of a sample, and one of its images (from 0); others: how many more samples there are."""

    sample: AttentionSample
    layer: int
    image: int
    others: int = 0

    @property
    def rows(self) -> np.ndarray:
        """Attention of the layer, `(query_heads, tokens)`."""
        return self.sample.rows[self.layer]

    @property
    def kept(self) -> np.ndarray:
        """What the layer keeps, `(kv_heads, tokens)`."""
        return self.sample.kept[self.layer]

    @property
    def frame(self) -> pd.DataFrame:
        """`head_frame` of the layer."""
        return head_frame(self.rows, self.kept)

    @property
    def own(self) -> np.ndarray:
        """Which tokens are the image's, `(tokens,)`."""
        return self.sample.image_of == self.image

    @property
    def heading(self) -> str:
        return f"{self.sample.title}, layer {self.layer + 1} of {len(self.sample.gamma)}"


def head_attention(sample: AttentionSample, layer: int | None, image: int | None, others: int = 0) -> HeadAttention:
    """What is shown of a sample.

    Args:
        layer: from 1; None: of the layers that are pruned, the one that attends to vision most.
        image: from 1; None: the one that the layer attends to most.

    Raises:
        ReportError: there is no such layer or image. NothingToShow: the model's tokens have no places on the image.
    """
    if layer is None:
        pruned = np.flatnonzero(sample.retention < 1)
        candidates = pruned if len(pruned) else np.arange(len(sample.gamma))
        layer = int(candidates[np.argmax(sample.gamma[candidates])]) + 1
    if not 1 <= layer <= len(sample.gamma):
        raise ReportError(f"report.layer={layer}, but {sample.title} has the layers 1 to {len(sample.gamma)}")
    if not sample.located:
        raise NothingToShow(f"the vision tokens of {sample.title} are latents without places of their own on the image")
    if image is None:
        row = sample.rows[layer - 1].mean(axis=0)
        image = int(np.argmax([row[sample.image_of == j].sum() for j in range(len(sample.images))])) + 1
    if not 1 <= image <= len(sample.images):
        raise ReportError(f"report.image={image}, but sample {sample.doc_id} has the images 1 to {len(sample.images)}")
    return HeadAttention(sample, layer - 1, image - 1, others)


def gather(asked: ReportRequest) -> Shown[HeadAttention]:
    """The sample, layer and image that were asked for."""
    options = asked.options
    alone = options.tasks and options.table == "figure3"
    benchmark = benchmark_configured(options.tasks) if alone else None
    path, others = attention_sample.find(asked.folder / "attention", options.model, benchmark, options.doc)
    content = head_attention(attention_sample.load(path), options.layer, options.image, others)
    variant = model_suffix(options) + (f".tasks={joined(options.tasks)}" if benchmark else "")
    named = {name: getattr(options, name) for name in ("doc", "layer", "image")}
    return Shown(content, variant + "".join(f".{name}={one}" for name, one in named.items() if one is not None))


def draw(content: HeadAttention, page: Page) -> Figure:
    """Per KV head its strongest query head's attention, above what the head keeps."""
    sample, frame, picture = content.sample, content.frame, fitted(content.sample.images[content.image])
    heads = sorted({round(at) for at in np.linspace(0, len(frame) - 1, min(len(frame), MOST))})
    columns = min(len(heads), 4)
    lines = 2 * -(-len(heads) // columns)
    figure, axes = _grid(lines, columns + 1, picture, title=0.22, extra=0.75)
    _picture(axes[0][0], picture, "image")
    _heat(axes[1][0], picture, content, content.rows.mean(axis=0), "mean of all heads")
    for at, head in enumerate(heads):
        line, column = 2 * (at // columns), at % columns + 1
        query = frame.strongest[head]
        title = f"query head {query + 1}, γ {content.rows[query].sum():.2f}"
        _heat(axes[line][column], picture, content, content.rows[query], title)
        _kept(axes[line + 1][column], picture, content, head)
    question = textwrap.shorten(" ".join(sample.question.split()), 110, placeholder=" …")
    heading = f"{content.heading}, γ = {sample.gamma[content.layer]:.2f}"
    figure.suptitle(f"{page.title}: {heading}\n“{question}”")
    return figure


def draw_heads(content: HeadAttention, page: Page) -> Figure:
    """Every query head of the layer."""
    picture, heads = fitted(content.sample.images[content.image]), len(content.rows)
    # fewest gaps, then fewest columns
    columns = min(range(min(heads, 4), min(heads, 8) + 1), key=lambda number: (-heads % number, -number))
    figure, axes = _grid(-(-heads // columns), columns, picture, title=0.2, extra=0.4)
    for head, one in zip(range(heads), axes.flat, strict=False):
        _heat(one, picture, content, content.rows[head], f"head {head + 1}, γ {content.rows[head].sum():.2f}")
    figure.suptitle(f"{page.title}: {content.heading}, every query head")
    return figure


def tables(content: HeadAttention, page: Page) -> list[Table]:
    """What each KV head of the layer looks at and keeps, in numbers, over all images of the sample."""
    sample = content.sample
    rows = []
    for head, one in enumerate(content.frame.itertuples(), start=1):
        shares = (percent(share, 1, signed=False) for share in (one.kept, one.covered, one.overlap))
        rows.append(TableRow.of(str(head), f"{one.first + 1}–{one.last + 1}", number(one.gamma, 3), *shares))
    method = ", ".join(f"{name}={value}" for name, value in sample.method["params"].items())
    first = "the first of the seeded random order; attention.doc=… chooses another"
    attention = content.rows.mean(axis=0)
    nowhere = float(attention[np.isnan(sample.boxes[:, 0])].sum() / max(attention.sum(), 1e-12))
    notes = [
        page.files,
        f"{weights(sample.title, sample)}, on {sample.hardware}. "
        f"Sample {sample.doc_id} of {sample.benchmark}, image {content.image + 1} of {len(sample.images)}; "
        f"{sample.prompt_tokens} prompt tokens, {sample.rows.shape[2]} of them vision.",
        "Above: attention of the last prompt token to the image's tokens, each spread over its place, of the query "
        "head with most attention to vision among those that share a KV head. Each map is brightest at its own "
        "maximum: compare heads by their γ, their attention to all images. Below: "
        f"what {sample.method['name']} ({method}) keeps for that KV head; dropped tokens are dark. Where tokens of the "
        "whole image and of its tiles overlap, attention adds up, and darkness is the dropped share. Grey: no token.",
        "Layer: of the pruned ones, that with the highest γ, unless report.layer=… names another (from 1). Image: "
        "the one it attends to most, unless report.image=… does. "
        f"Sample: {'chosen by its number' if sample.asked_for else first}.",
        f"{percent(nowhere, 1, signed=False)} of the layer's attention to vision goes to tokens without a place, such "
        "as those that end a row of tiles; no map shows it.",
        "Overlap: of the tokens that the head or another one keeps, the share that both keep; mean over other heads.",
        profile(page.profile, several=False),
    ]
    if content.others:
        notes.append(
            f"{content.others} more samples of this model have been looked at; attention.doc=… and tasks=… choose "
            "among them."
        )
    title = f"{page.title}: heads of layer {content.layer + 1}, {sample.title} on {sample.benchmark}"
    return [Table(title, COLUMNS, tuple(rows), tuple(notes))]


def fitted(image: Image.Image) -> Image.Image:
    """The image with its long side at PIXELS."""
    scale = PIXELS / max(image.size)
    size = tuple(max(1, round(length * scale)) for length in image.size)
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _grid(lines: int, columns: int, picture: Image.Image, title: float, extra: float) -> tuple[Figure, np.ndarray]:
    """A page-wide figure of places for the picture, with `title` inches above each and `extra` above all."""
    width = 2 * drawing.COLUMN
    height = width / columns * min(picture.height / picture.width, TALLEST) + title
    figure = drawing.blank(lines * height + extra, width)
    axes = figure.subplots(lines, columns, squeeze=False)
    for one in axes.flat:
        one.axis("off")
    return figure, axes


def _picture(axes: Axes, picture: Image.Image, title: str) -> None:
    axes.imshow(picture)
    axes.set_title(title, fontsize=6.5, pad=2)


def _heat(axes: Axes, picture: Image.Image, content: HeadAttention, row: np.ndarray, title: str) -> None:
    """A row of attention, `(tokens,)`, over the grey picture."""
    heat = painted(content.sample.boxes[content.own], row[content.own], picture.height, picture.width)
    _picture(axes, picture.convert("L").convert("RGB"), title)
    axes.imshow(heat, cmap=HEAT, alpha=0.72, vmin=0, vmax=max(float(heat.max()), 1e-12), interpolation="nearest")


def _kept(axes: Axes, picture: Image.Image, content: HeadAttention, head: int) -> None:
    """The picture, dark where the KV head keeps nothing, grey where there is no token."""
    kept = content.kept[head, content.own]
    share = kept_share(content.sample.boxes[content.own], kept, picture.height, picture.width)
    dark = np.zeros((*share.shape, 4))
    dark[..., 3] = 0.82 * (1 - np.nan_to_num(share, nan=1))
    dark[np.isnan(share)] = (0.6, 0.6, 0.6, 0.8)
    _picture(axes, picture, f"KV head {head + 1} keeps {percent(kept.mean(), 0, signed=False)}")
    axes.imshow(dark, interpolation="nearest")


FIGURE = FigureSpec(
    "figure3",
    gather,
    tables,
    {"": draw, "_heads": draw_heads},
    "all query heads: figure3_heads{variant}.png",
    from_cells=False,
    latex=False,
)
