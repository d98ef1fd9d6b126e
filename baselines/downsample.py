"""Control: the image is made smaller before the model sees it (VTC-Bench, arXiv 2510.07143)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from plphp_core.families.base import through_jpeg
from plphp_core.pruning.method import Method
from plphp_core.pruning.validation import require, whole_number


@dataclass(frozen=True)
class Downsample(Method):
    """Both sides of every image divided by `factor`, rounded down; the processor and the model do the rest.

    https://arxiv.org/abs/2510.07143; semantics of github.com/Chenfei-Liao/VTC-Bench at 983e443. How many tokens that
    saves is the processor's: about 1 / factor² stay where images have as many as they have pixels (Qwen-VL), all of
    them where every image is scaled to one size (LLaVA-1.5). What is kept is measured, against the original images.

    In runs; under `prune` alone, which does not see images, give the processor `method.images(images)`.

    Args:
        factor: a whole number from 1 on.
        jpeg: quality that images are stored at in between, 1 … 95, PIL's own 75 in their code; None: they are not.
    """

    name: ClassVar[str] = "downsample"
    label: ClassVar[str] = "Downsample"
    control: ClassVar[bool] = True

    factor: int = 2
    jpeg: int | None = 75

    def __post_init__(self) -> None:
        whole_number("Downsample", "factor", self.factor, 1)
        fits = self.jpeg is None or (type(self.jpeg) is int and 1 <= self.jpeg <= 95)
        require(fits, f"Downsample: jpeg = {self.jpeg!r}, but must be None or a whole number from 1 to 95")

    def images(self, images: list[Any]) -> list[Any]:
        return [self._smaller(image) for image in images]

    def _smaller(self, image: Any) -> Any:
        from PIL import Image

        size = tuple(max(length // self.factor, 1) for length in image.size)
        image = image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)
        return image if self.jpeg is None else through_jpeg(image, self.jpeg)
