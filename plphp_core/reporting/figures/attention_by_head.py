"""Figure 3: where single heads of one layer look on the image, and which of its tokens PLPHP keeps for them."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from plphp_core.analysis.attention_heads import head_frame
from plphp_core.analysis.results import NothingToShow
from plphp_core.records.errors import ReportError
from plphp_core.reporting import attention_sample, notes
from plphp_core.reporting.attention_sample import AttentionSample
from plphp_core.reporting.configured import benchmark_configured
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.figure_spec import FigureSpec, Page, Shown
from plphp_core.reporting.request import ReportRequest, joined, model_suffix
from plphp_core.reporting.table_model import Table, TableColumn, TableRow, number, percent
from plphp_core.vision.token_geometry import kept_share, painted, veiled

MOST = 8  # KV heads drawn; of more, so many evenly spaced
PIXELS = 384  # of a picture's long side
BAR = 0.6  # inches of a bar of levels with its words
HEAT: dict[str, Any] = {"cmap": "magma", "alpha": 0.72, "vmin": 0, "vmax": 1}
TALLEST = 4  # times as high as wide is drawn; beyond that a picture is drawn narrower
COLUMNS = (
    TableColumn("KV head"),
    TableColumn("Query heads", text=True),
    TableColumn("γ of its query heads"),
    TableColumn("kept", "Vision"),
    TableColumn("of its attention kept", "Share"),
    TableColumn("with other heads", "Overlap"),
)


class HeadAttention:
    """One layer and one image of a sample.

    Attributes:
        layer, image: from 0; others: how many more samples there are.
        rows: attention of the layer, `(query_heads, tokens)`; kept: what the layer keeps, `(kv_heads, tokens)`.
        own: which tokens are the image's, `(tokens,)`; boxes: their places, `(own tokens, 4)`.
        frame: `head_frame` of the layer.
        picture: the image with its long side at PIXELS.
    """

    def __init__(self, sample: AttentionSample, layer: int | None, image: int | None, others: int = 0):
        """
        Args:
            layer: from 0; None: of the layers that are pruned, the one that attends to vision most.
            image: from 1; None: the one that the layer attends to most.

        Raises:
            ReportError: there is no such layer or image.
            NothingToShow: the model's tokens have no places on the image.
        """
        record, gamma = sample.record, sample.record.vision_attention
        if layer is None:
            pruned = record.retention < 1
            layer = int(np.argmax(np.where(pruned, gamma, -1) if pruned.any() else gamma))
        if not 0 <= layer < len(gamma):
            raise ReportError(f"report.layer={layer}, but {record.title} has the layers 0 to {len(gamma) - 1}")
        if not record.located:
            raise NothingToShow(f"the vision tokens of {record.title} are latents without places on the image")
        self.sample, self.layer, self.others = sample, layer, others
        self.rows, self.kept = sample.rows[self.layer], sample.kept[self.layer]
        if image is None:
            mass = np.bincount(sample.image_of, self.rows.mean(axis=0))
            image = int(np.argmax(mass)) + 1
        if not 1 <= image <= len(sample.images):
            count = len(sample.images)
            raise ReportError(f"report.image={image}, but sample {record.doc_id} has the images 1 to {count}")
        self.image = image - 1
        self.own = sample.image_of == self.image
        self.boxes = sample.boxes[self.own]
        self.frame: pd.DataFrame = head_frame(self.rows, self.kept)
        self.picture = _fitted(sample.images[self.image])
        self.heading = f"{record.title}, layer {layer} (of 0 to {len(gamma) - 1})"


def gather(asked: ReportRequest) -> Shown[HeadAttention]:
    """The sample, layer and image that were asked for."""
    options = asked.options
    tasks = options.tasks if options.table == "figure3" else None
    benchmark = benchmark_configured(tasks) if tasks else None
    record, others = attention_sample.find(asked.folder / "attention", options.model, benchmark, options.doc)
    content = HeadAttention(attention_sample.load(record), options.layer, options.image, others)
    named = {"doc": options.doc, "layer": options.layer, "image": options.image}
    variant = model_suffix(options) + (f".tasks={joined(tasks)}" if tasks else "")
    return Shown(content, variant + "".join(f".{name}={one}" for name, one in named.items() if one is not None))


def draw(content: HeadAttention, page: Page) -> Figure:
    """Per KV head its strongest query head's attention, above what the head keeps."""
    record, frame, rows = content.sample.record, content.frame, content.rows
    heads = sorted({round(at) for at in np.linspace(0, len(frame) - 1, min(len(frame), MOST))})
    columns = min(len(heads), 4)
    figure, axes, bars = _grid(2 * -(-len(heads) // columns), columns + 1, content.picture, bars=2)
    _attention_bar(bars[0])
    drawing.kept_bar(bars[1])
    _show(axes[0][0], content.picture, "image")
    _heat(axes[1][0], content, rows.mean(axis=0), "mean of all heads")
    for at, head in enumerate(heads):
        line, column = 2 * (at // columns), at % columns + 1
        query = frame.strongest[head]
        _heat(axes[line][column], content, rows[query], f"query head {query}, γ {rows[query].sum():.2f}")
        _kept(axes[line + 1][column], content, head)
    question = textwrap.shorten(" ".join(record.question.split()), 110, placeholder=" …")
    gamma = record.vision_attention[content.layer]
    figure.suptitle(f"{page.title}: {content.heading}, γ = {gamma:.2f}\n“{question}”")
    return figure


def draw_heads(content: HeadAttention, page: Page) -> Figure:
    """Every query head of the layer."""
    heads = len(content.rows)
    # fewest gaps, then fewest columns
    columns = min(range(min(heads, 4), min(heads, 8) + 1), key=lambda number: (-heads % number, -number))
    figure, axes, bars = _grid(-(-heads // columns), columns, content.picture, bars=1)
    _attention_bar(bars[0])
    for head, one in zip(range(heads), axes.flat, strict=False):
        _heat(one, content, content.rows[head], f"head {head}, γ {content.rows[head].sum():.2f}")
    figure.suptitle(f"{page.title}: {content.heading}, every query head")
    return figure


def tables(content: HeadAttention, page: Page) -> list[Table]:
    """What each KV head of the layer looks at and keeps, in numbers, over all images of the sample."""
    sample, record = content.sample, content.sample.record
    rows = []
    for head, one in enumerate(content.frame.itertuples()):
        shares = (percent(share, 1, signed=False) for share in (one.kept, one.covered, one.overlap))
        rows.append(TableRow.of(str(head), f"{one.first}–{one.last}", number(one.gamma, 3), *shares))
    method = ", ".join(f"{name}={value}" for name, value in record.method.params.items())
    first = "the first of the seeded random order; attention.doc=… chooses another"
    attention = content.rows.mean(axis=0)
    nowhere = float(attention[np.isnan(sample.boxes[:, 0])].sum() / max(attention.sum(), 1e-12))
    said = [
        page.files,
        f"{notes.weights(record.title, record)}, on {record.hardware}. Sample {record.doc_id} of {record.benchmark}, "
        f"image {content.image + 1} of {len(sample.images)}; {record.prompt_tokens} prompt tokens, "
        f"{sample.rows.shape[2]} of them vision.",
        "Above: attention of the last prompt token to the image's tokens, each spread over its place, of the query "
        "head with most attention to vision among those that share a KV head. Each map is brightest at its own "
        "maximum: compare heads by their γ, their attention to all images. Below: "
        f"what {record.method.name} ({method}) keeps for that KV head; what it drops is grey and striped. Where tokens "
        "of the whole image and of its tiles overlap, attention adds up, and stripes are as strong as the share that "
        "is dropped. Plain grey: no token.",
        "Layer: of the pruned ones, that with the highest γ, unless report.layer=… names another. "
        f"{notes.LAYERS} So are heads. Image: "
        "the one it attends to most, unless report.image=… does. "
        f"Sample: {'chosen by its number' if record.asked_for else first}.",
        f"{percent(nowhere, 1, signed=False)} of the layer's attention to vision goes to tokens without a place, such "
        "as those that end a row of tiles; no map shows it.",
        "Overlap: of the tokens that the head or another one keeps, the share that both keep; mean over other heads.",
        notes.profile(page.profile, several=False),
    ]
    if content.others:
        said.append(f"{content.others} more samples of this model have been read; attention.doc=… and tasks=… choose.")
    title = f"{page.title}: heads of layer {content.layer}, {record.title} on {record.benchmark}"
    return [Table(title, COLUMNS, tuple(rows), tuple(said))]


def _fitted(image: Image.Image) -> Image.Image:
    scale = PIXELS / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    return image.resize((width, height), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _grid(lines: int, columns: int, picture: Image.Image, bars: int) -> tuple[Figure, np.ndarray, list[Axes]]:
    """A page-wide figure of places for the picture, each with a title above it, and so many bars below them."""
    width = 2 * drawing.COLUMN
    height = width / columns * min(picture.height / picture.width, TALLEST) + 0.2
    figure = drawing.blank(lines * height + 0.5 + BAR, width)
    cells = figure.add_gridspec(lines + 1, 1, height_ratios=[height] * lines + [BAR])
    axes = np.array([figure.add_subplot(one) for line in range(lines) for one in cells[line].subgridspec(1, columns)])
    for one in axes:
        one.axis("off")
    below = cells[lines].subgridspec(1, 2 * bars + 1, width_ratios=[0.4, *[2, 0.4] * bars])
    return figure, axes.reshape(lines, columns), [figure.add_subplot(below[2 * at + 1]) for at in range(bars)]


def _attention_bar(axes: Axes) -> None:
    ramp = np.linspace(0, 1, 256)[None]
    axes.imshow(np.full((1, 256, 3), 128, np.uint8), aspect="auto", extent=(0, 1, 0, 1))
    axes.imshow(ramp, aspect="auto", extent=(0, 1, 0, 1), **HEAT)
    axes.grid(False)
    axes.set(yticks=[], xticks=[0, 0.5, 1], xticklabels=["none", "half", "the map's maximum"])
    axes.set_title("attention to a place", fontsize=6.5, pad=2)


def _show(axes: Axes, picture: Image.Image | np.ndarray, title: str) -> None:
    axes.imshow(picture)
    axes.set_title(title, fontsize=6.5, pad=2)


def _heat(axes: Axes, content: HeadAttention, row: np.ndarray, title: str) -> None:
    """A row of attention, `(tokens,)`, over the grey picture."""
    picture = content.picture
    heat = painted(content.boxes, row[content.own], picture.height, picture.width)
    _show(axes, picture.convert("L").convert("RGB"), title)
    axes.imshow(heat / max(float(heat.max()), 1e-12), interpolation="nearest", **HEAT)


def _kept(axes: Axes, content: HeadAttention, head: int) -> None:
    """The picture, striped where the KV head keeps nothing, grey where there is no token."""
    kept, picture = content.kept[head, content.own], content.picture
    share = kept_share(content.boxes, kept, picture.height, picture.width)
    shown = veiled(np.asarray(picture, dtype=float), share)
    _show(axes, shown, f"KV head {head} keeps {percent(kept.mean(), 0, signed=False)}")


FIGURE3 = FigureSpec(
    "figure3",
    gather,
    tables,
    {"": draw, "_heads": draw_heads},
    "all query heads: figure3_heads{variant}.png",
    "What to look for: whether the heads of one layer look at different places, and whether what each keeps (below) is "
    "where its own query heads look (above), also where other heads keep nothing.",
    from_cells=False,
    latex=False,
)
