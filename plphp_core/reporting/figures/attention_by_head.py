"""Figure 3: where single heads of one layer look on the image, and which of its tokens PLPHP keeps for them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from plphp_core.analysis.results import NothingToShow
from plphp_core.records.errors import ReportError
from plphp_core.reporting import score_columns
from plphp_core.reporting.attention_sample import AttentionSample
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.table_model import Table, TableCell, TableColumn, TableRow, number, percent
from plphp_core.vision.token_geometry import kept_share, painted

MOST = 8  # KV heads drawn; of more, so many evenly spaced
PIXELS = 384  # of a picture's long side
HEAT = "magma"
TALLEST = 4  # times as high as wide is drawn; beyond that a picture is drawn narrower
DRAWN = "the first of the seeded random order; doc=… chooses another"


def chosen_layer(sight: AttentionSample, layer: int | None) -> int:
    """`layer` as given (from 1), 0-based; None: of the layers that are pruned, the one that attends to vision most.

    Raises ReportError for a layer that the model does not have.
    """
    layers = len(sight.gamma)
    if layer is not None:
        if not 1 <= layer <= layers:
            raise ReportError(f"layer={layer}, but {sight.title} has the layers 1 to {layers}")
        return layer - 1
    pruned = np.flatnonzero(sight.retention < 1)
    candidates = pruned if len(pruned) else np.arange(layers)
    return int(candidates[np.argmax(sight.gamma[candidates])])


def chosen_image(sight: AttentionSample, layer: int, image: int | None) -> int:
    """`image` as given (from 1), 0-based; None: the image that the layer attends to most.

    Raises ReportError for an image that the sample does not have, NothingToShow where tokens have no places.
    """
    if not sight.located:
        raise NothingToShow(f"the vision tokens of {sight.title} are latents without places of their own on the image")
    if image is not None:
        if not 1 <= image <= len(sight.images):
            raise ReportError(f"image={image}, but sample {sight.doc_id} has the images 1 to {len(sight.images)}")
        return image - 1
    row = sight.rows[layer].mean(axis=0)
    return int(np.argmax([row[sight.image_of == j].sum() for j in range(len(sight.images))]))


def shown_heads(sight: AttentionSample) -> list[int]:
    """KV heads of the figure."""
    heads = sight.kept.shape[1]
    return sorted({round(at) for at in np.linspace(0, heads - 1, min(heads, MOST))})


def strongest(sight: AttentionSample, layer: int, head: int) -> int:
    """Of the query heads that read KV head `head`, the one with most attention to vision."""
    first = head * sight.group
    return first + int(np.argmax(sight.rows[layer, first : first + sight.group].sum(axis=-1)))


def draw(sight: AttentionSample, layer: int, image: int, profile: str) -> dict[str, bytes]:
    """The figure as "pdf" and "png": per KV head its strongest query head's attention, above what the head keeps."""
    heads, picture = shown_heads(sight), fitted(sight.images[image])
    own, boxes = sight.image_of == image, sight.boxes[sight.image_of == image]
    columns = min(len(heads), 4)
    blocks = -(-len(heads) // columns)
    with drawing.style():
        side = (drawing.COLUMN * 2) / (columns + 1)
        height = side * min(picture.height / picture.width, TALLEST) + 0.22
        figure = drawing.blank(2 * blocks * height + 0.75)
        figure.set_size_inches(drawing.COLUMN * 2, 2 * blocks * height + 0.75)
        axes = figure.subplots(2 * blocks, columns + 1, squeeze=False)
        for one in axes.flat:
            one.axis("off")
        _picture(axes[0][0], picture, "image")
        _heat(axes[1][0], picture, boxes, sight.rows[layer].mean(axis=0)[own], "mean of all heads")
        for at, head in enumerate(heads):
            above, column = 2 * (at // columns), at % columns + 1
            query = strongest(sight, layer, head)
            title = _with_gamma(f"query head {query + 1}", sight.rows[layer, query])
            _heat(axes[above][column], picture, boxes, sight.rows[layer, query, own], title)
            kept = sight.kept[layer, head, own]
            _kept(
                axes[above + 1][column],
                picture,
                boxes,
                kept,
                f"KV head {head + 1} keeps {percent(kept.mean(), 0, False)}",
            )
        question = textwrap.shorten(" ".join(sight.question.split()), 110, placeholder=" …")
        where = f"{sight.title}, layer {layer + 1} of {len(sight.gamma)}, γ = {sight.gamma[layer]:.2f}"
        figure.suptitle(f"Figure 3{score_columns.where(profile)}: {where}\n“{question}”", fontsize=8)
        return drawing.files(figure)


def draw_heads(sight: AttentionSample, layer: int, image: int, profile: str) -> bytes:
    """Every query head of the layer, as PNG."""
    picture = fitted(sight.images[image])
    own, boxes = sight.image_of == image, sight.boxes[sight.image_of == image]
    heads = sight.rows.shape[1]
    columns = max(
        range(min(heads, 4), min(heads, 8) + 1), key=lambda number: (-(-heads % number), number)
    )  # fewest gaps
    lines = -(-heads // columns)
    with drawing.style():
        height = drawing.COLUMN * 2 / columns * min(picture.height / picture.width, TALLEST) + 0.2
        figure = drawing.blank(lines * height + 0.4)
        figure.set_size_inches(drawing.COLUMN * 2, lines * height + 0.4)
        axes = figure.subplots(lines, columns, squeeze=False)
        for one in axes.flat:
            one.axis("off")
        for head, one in zip(range(heads), axes.flat, strict=False):
            title = _with_gamma(f"head {head + 1}", sight.rows[layer, head])
            _heat(one, picture, boxes, sight.rows[layer, head, own], title)
        where = f"{sight.title}, layer {layer + 1} of {len(sight.gamma)}, every query head"
        figure.suptitle(f"Figure 3{score_columns.where(profile)}: {where}", fontsize=8)
        return drawing.files(figure)["png"]


def sheets(sight: AttentionSample, layer: int, image: int, profile: str, png: str, others: int) -> list[Table]:
    """What each KV head of the layer looks at and keeps, in numbers, over all images of the sample."""
    columns = (
        TableColumn("KV head"),
        TableColumn("Query heads", text=True),
        TableColumn("γ of its query heads"),
        TableColumn("kept", "Vision"),
        TableColumn("of its attention kept", "Share"),
        TableColumn("with other heads", "Overlap"),
    )
    rows = []
    kept = sight.kept[layer]
    for head in range(len(kept)):
        first = head * sight.group
        attention = sight.rows[layer, first : first + sight.group].mean(axis=0)
        total = attention.sum()
        covered = attention[kept[head]].sum() / total if total > 0 else float("nan")
        rows.append(
            TableRow(
                (
                    TableCell(str(head + 1)),
                    TableCell(f"{first + 1}–{first + sight.group}"),
                    TableCell(number(float(total), 3)),
                    TableCell(percent(float(kept[head].mean()), 1, False)),
                    TableCell(percent(float(covered), 1, False)),
                    TableCell(percent(overlap(kept, head), 1, False)),
                )
            )
        )
    method = ", ".join(f"{name}={value}" for name, value in sight.method["params"].items())
    notes = [
        f"The figure: {png} and the .pdf beside it; all query heads: {png.replace('figure3', 'figure3_heads')}.",
        f"{sight.title}: {sight.checkpoint}, revision {sight.revision[:19]}, {sight.dtype}, on {sight.hardware}. "
        f"Sample {sight.doc_id} of {sight.benchmark}, image {image + 1} of {len(sight.images)}; "
        f"{sight.prompt_tokens} prompt tokens, {sight.rows.shape[2]} of them vision.",
        "Above: attention of the last prompt token to the image's tokens, each spread over its place, of the query "
        "head with most attention to vision among those that share a KV head. Each map is brightest at its own "
        "maximum: compare heads by their γ, their attention to all images. Below: "
        f"what {sight.method['name']} ({method}) keeps for that KV head; dropped tokens are dark. Where tokens of the "
        "whole image and of its tiles overlap, attention adds up, and darkness is the dropped share. Grey: no token.",
        "Layer: of the pruned ones, that with the highest γ, unless layer=… names another (from 1). Image: the one "
        f"it attends to most, unless image=… does. Sample: {'chosen by its number' if sight.asked_for else DRAWN}.",
        f"{percent(_nowhere(sight, layer), 1, False)} of the layer's attention to vision goes to tokens without a "
        "place, such as those that end a row of tiles; no map shows it.",
        "Overlap: of the tokens that the head or another one keeps, the share that both keep; mean over other heads.",
    ]
    if profile != "paper":
        notes.append(
            f"Profile {profile}: a small trained model on drawn data; this shows nothing of the paper's models."
        )
    if others:
        notes.append(f"{others} more samples of this model have been looked at; doc=… and tasks=… choose among them.")
    title = f"Figure 3{score_columns.where(profile)}: heads of layer {layer + 1}, {sight.title} on {sight.benchmark}"
    return [Table(title, columns, tuple(rows), tuple(notes))]


def overlap(kept: np.ndarray, head: int) -> float:
    """Mean over the other heads of |both keep| / |either keeps|; nan for a single head."""
    others = np.delete(kept, head, axis=0)
    either = (others | kept[head]).sum(axis=1)
    shared = (others & kept[head]).sum(axis=1)
    return float(np.mean(shared / np.maximum(either, 1))) if len(others) else float("nan")


def fitted(image: Image.Image) -> Image.Image:
    """The image with its long side at PIXELS."""
    scale = PIXELS / max(image.size)
    size = tuple(max(1, round(length * scale)) for length in image.size)
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _with_gamma(name: str, row: np.ndarray) -> str:
    return f"{name}, γ {row.sum():.2f}"


def _nowhere(sight: AttentionSample, layer: int) -> float:
    """Share of the layer's attention to vision that goes to tokens without a place."""
    row = sight.rows[layer].mean(axis=0)
    return float(row[np.isnan(sight.boxes[:, 0])].sum() / max(row.sum(), 1e-12))


def _picture(axes: Axes, picture: Image.Image, title: str) -> None:
    axes.imshow(picture)
    axes.set_title(title, fontsize=6.5, pad=2)


def _heat(axes: Axes, picture: Image.Image, boxes: Sequence, values: np.ndarray, title: str) -> None:
    heat = painted(boxes, values, picture.height, picture.width)
    _picture(axes, picture.convert("L").convert("RGB"), title)
    axes.imshow(heat, cmap=HEAT, alpha=0.72, vmin=0, vmax=max(float(heat.max()), 1e-12), interpolation="nearest")


def _kept(axes: Axes, picture: Image.Image, boxes: Sequence, kept: np.ndarray, title: str) -> None:
    share = kept_share(boxes, kept, picture.height, picture.width)
    dark = np.zeros((*share.shape, 4))
    dark[..., 3] = 0.82 * (1 - np.nan_to_num(share, nan=1))
    dark[np.isnan(share)] = (0.6, 0.6, 0.6, 0.8)
    _picture(axes, picture, title)
    axes.imshow(dark, interpolation="nearest")
