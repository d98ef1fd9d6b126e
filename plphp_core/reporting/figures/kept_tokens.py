"""Token maps: which vision tokens of a few samples each method keeps, and which it merges others into."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from plphp_core.analysis.method_style import method_style
from plphp_core.analysis.results import NothingToShow
from plphp_core.records.attention_result import TokenMaps
from plphp_core.records.errors import ReportError
from plphp_core.reporting import notes
from plphp_core.reporting.configured import benchmark_configured
from plphp_core.reporting.figures import drawing
from plphp_core.reporting.figures.figure_spec import FigureSpec, Page, Shown
from plphp_core.reporting.request import ReportRequest, joined, model_suffix
from plphp_core.reporting.table_model import Table, TableColumn, TableRow, percent
from plphp_core.vision.token_pictures import token_picture

NAME = "token_maps"  # of the table and of the folder of readings
ACROSS = 5  # pictures of a line
MOST = 3  # images drawn of a sample
TALLEST = 2  # times as high as wide is drawn; beyond that a picture is drawn narrower
ROOM, HEAD, BAR = 0.42, 0.26, 0.6  # inches: a picture's heading, a sample's, the bar of levels
COLUMNS = (
    TableColumn("Sample"),
    TableColumn("Method", text=True),
    TableColumn("Setting", text=True),
    TableColumn("kept", "Vision"),
    TableColumn("least in a layer", "Vision"),
    TableColumn("Merged"),
)


@dataclass(frozen=True, eq=False)
class MethodMaps:
    """What the figure shows.

    Attributes:
        tensors: as `TokenMaps` names them.
        images: of each sample, RGB.
        layer: from 0; None: the mean over all of them. image: from 1; None: the first MOST of each sample.
    """

    record: TokenMaps
    tensors: dict[str, Tensor]
    images: list[list[Image.Image]]
    layer: int | None = None
    image: int | None = None

    def __post_init__(self) -> None:
        """Raises ReportError: there is no such layer or image."""
        layers = len(next(one for key, one in self.tensors.items() if key.endswith(".kept")))
        if self.layer is not None and self.layer >= layers:
            raise ReportError(f"report.layer={self.layer}, but {self.record.title} has the layers 0 to {layers - 1}")
        fewest = min(map(len, self.images))
        if self.image is not None and self.image > fewest:
            raise ReportError(f"report.image={self.image}, but the samples have the images 1 to {fewest}")

    def shown(self, sample: int) -> range:
        """Places of the images that are drawn."""
        last = self.image or min(len(self.images[sample]), MOST)
        return range(last - 1 if self.image else 0, last)

    def kept(self, sample: int, method: int) -> tuple[Tensor, Tensor] | None:
        """`(tokens,)`: the share of heads, and of layers where several are shown, that kept each token; and whether
        others were merged into it in any of them. None without a map."""
        if self.record.samples[sample].refused[method]:
            return None
        kept, merged = (self.tensors[f"{sample}.{method}.{name}"].bool() for name in ("kept", "merged"))
        layers = slice(None) if self.layer is None else slice(self.layer, self.layer + 1)
        return kept[layers].float().mean((0, 1)), merged[layers].any(0)


def gather(asked: ReportRequest) -> Shown[MethodMaps]:
    """The samples that were read last for the model, or those of the benchmark or number that was asked for."""
    options = asked.options
    tasks = options.tasks if options.table == NAME else None
    benchmark = benchmark_configured(tasks) if tasks else None
    found = [TokenMaps.load(path) for path in (asked.folder / NAME).glob(f"{options.model}.*.json")]
    fitting = [one for one in found if one.doc == options.doc and benchmark in (None, one.benchmark)]
    if not fitting:
        which = "" if options.doc is None else f" attention.doc={options.doc}"
        run = f"plphp reproduce table={NAME} profile={asked.profile} model={options.model}{which}"
        raise NothingToShow(f"no token maps have been read for {options.model}: {run}{f' tasks={tasks}' * bool(tasks)}")
    record = max(fitting, key=lambda one: (one.path.stat().st_mtime_ns, one.path.name))
    named = {"doc": options.doc, "layer": options.layer, "image": options.image}
    variant = model_suffix(options) + (f".tasks={joined(tasks)}" if tasks else "")
    variant += "".join(f".{name}={one}" for name, one in named.items() if one is not None)
    return Shown(_read(record, options.layer, options.image), variant)


def _read(record: TokenMaps, layer: int | None, image: int | None) -> MethodMaps:
    """The record with what lies beside it. Raises ReportError naming a file that is damaged or missing."""
    path = record.path
    try:
        tensors = load_file(path.with_name(record.tensors))
        images = [
            [Image.open(path.with_name(name)).convert("RGB") for name in sample.images] for sample in record.samples
        ]
        for place, sample in enumerate(record.samples):
            for method in (at for at, refused in enumerate(sample.refused) if not refused):
                own = [tensors[f"{place}.{method}.{name}"] for name in ("kept", "merged", "boxes", "image_of")]
                sizes = {own[0].shape[-1], own[1].shape[-1], len(own[2]), len(own[3])}
                if len(sizes) > 1 or len(own[0]) != len(own[1]) or int(own[3].max()) >= len(sample.images):
                    raise ValueError("tensors disagree in the number of tokens, layers or images")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ReportError(f"{path}: cannot be read ({type(error).__name__}: {error}); read it again") from error
    return MethodMaps(record, tensors, images, layer, image)


def draw(content: MethodMaps, page: Page) -> Figure:
    """Per image of a sample the image, then what each method keeps of it."""
    blocks = [(sample, image) for sample in range(len(content.images)) for image in content.shown(sample)]
    pictures = 1 + len(content.record.methods)
    across = min(pictures, ACROSS)
    lines, width = -(-pictures // across), 2 * drawing.COLUMN
    shapes = [content.images[sample][image] for sample, image in blocks]
    high = [width / across * min(one.height / one.width, TALLEST) for one in shapes]
    heights = [BAR, *(HEAD + lines * (one + ROOM) for one in high)]
    figure = drawing.blank(sum(heights), width)
    above, *places = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    bar = above.add_gridspec(1, 3, width_ratios=[1, 2.4, 1])
    drawing.kept_bar(above.add_subplot(bar[1]), "; framed: others were merged into it" if _merges(content) else "")
    which = "mean over layers and heads" if content.layer is None else f"layer {content.layer}, mean over heads"
    figure.suptitle(f"{page.title}: {content.record.title}, {which}")
    for place, (sample, image) in zip(places, blocks, strict=True):
        _block(content, place, sample, image, (lines, across))
    return figure


def _block(content: MethodMaps, place: SubFigure, sample: int, image: int, shape: tuple[int, int]) -> None:
    """One image: itself, then under each method."""
    record = content.record.samples[sample]
    count = f", image {image + 1} of {len(record.images)}" if len(record.images) > 1 else ""
    question = textwrap.shorten(" ".join(record.question.split()), 100, placeholder=" …")
    said = f"{content.record.benchmark}, sample {record.doc_id}{count}: “{question}”"
    place.suptitle(said, x=0.01, ha="left", fontsize=7)
    axes = list(place.subplots(*shape, squeeze=False).flat)
    for one in axes:
        one.axis("off")
    picture = content.images[sample][image]
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    _show(axes[0], token_picture(picture, whole, torch.ones(1)), "image")
    for method, (one, shown) in enumerate(zip(axes[1:], content.record.methods, strict=False)):
        title = f"{method_style(shown.name).label} {shown.setting}".strip()
        found = content.kept(sample, method)
        if found is None:
            _show(one, token_picture(picture, whole, torch.zeros(1)), f"{title}\nn/a")
            continue
        boxes, image_of = (content.tensors[f"{sample}.{method}.{name}"] for name in ("boxes", "image_of"))
        kept, merged = (values[image_of == image] for values in found)
        own = f"{percent(float(kept.mean()), 0, signed=False)} kept"
        own += f", {int(merged.sum())} merged" * bool(merged.any())
        _show(one, token_picture(picture, boxes[image_of == image], kept, merged), f"{title}\n{own}")


def _show(axes: Axes, picture: Image.Image, title: str) -> None:
    axes.imshow(picture, interpolation="nearest")
    heading, _, below = title.partition("\n")
    lines = textwrap.wrap(heading, 26, max_lines=2, placeholder=" …")
    axes.set_title("\n".join([*lines, *([below] if below else [])]), fontsize=6.5, pad=2)


def _merges(content: MethodMaps) -> bool:
    return any(bool(one.any()) for key, one in content.tensors.items() if key.endswith(".merged"))


def tables(content: MethodMaps, page: Page) -> list[Table]:
    """How much each method keeps and merges, over all images of a sample."""
    record, rows, missing = content.record, [], []
    for sample, one in enumerate(record.samples):
        for method, shown in enumerate(record.methods):
            label = method_style(shown.name).label
            texts = ["n/a"] * 3
            if (found := content.kept(sample, method)) is None:
                missing.append(f"{label} on sample {one.doc_id}: {one.refused[method]}")
            else:
                layers = content.tensors[f"{sample}.{method}.kept"].float().mean((1, 2))
                texts = [percent(float(share), 1, signed=False) for share in (found[0].mean(), layers.min())]
                texts.append(str(int(found[1].sum())))
            rows.append(TableRow.of(str(one.doc_id), label, shown.setting, *texts, rule=not method))
    first = "the first of the seeded random order; attention.doc=… chooses another"
    said = [
        page.files,
        f"{notes.weights(record.title, record)}, on {record.hardware}. Samples of {record.benchmark}: "
        f"{'chosen by number' if record.doc is not None else first}. At most {MOST} images of each are drawn.",
        "Where tokens were dropped, the image is grey and striped, the more strongly the more heads and layers dropped "
        "them; report.layer=… shows one layer. A frame is around a token that others were merged into before one of "
        "these layers; merged: how many of these there are. Where tokens of the whole image and of its tiles overlap, "
        "stripes are as strong as the share that is dropped.",
        notes.LAYERS,
        *([f"No map: {'; '.join(missing)}."] if missing else []),
        *([] if record.located else [f"The tokens of {record.title} are latents without places on the image: only how "
                                     "strong the stripes are means something."]),
        notes.profile(page.profile, several=False),
    ]  # fmt: skip
    return [Table(f"{page.title}: {record.title} on {record.benchmark}", COLUMNS, tuple(rows), tuple(said))]


TOKEN_MAPS = FigureSpec(
    NAME,
    gather,
    tables,
    {"": draw},
    "read again with `plphp reproduce table=token_maps`",
    "What to look for: whether what the question asks about is among what a method keeps, and which methods keep "
    "other places than Random does.",
    from_cells=False,
    latex=False,
    heading="Token maps",
)
