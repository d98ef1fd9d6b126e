"""The header of a safetensors file: names, dtypes and shapes of its tensors, without reading them.

The layout: https://huggingface.co/docs/safetensors/index#format.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
}
LFS = b"version https://git-lfs"
LONGEST = 100 * 2**20  # of a header, as the format itself limits it


@dataclass(frozen=True)
class TensorHeader:
    """One tensor of a checkpoint: its dtype as safetensors names it ("BF16"), and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


class DamagedFile(ValueError):
    """A safetensors file that cannot be whole; the message says why."""


def read_header(path: Path) -> dict[str, TensorHeader]:
    """Tensors of a safetensors file.

    Raises:
        DamagedFile: the header cannot be read, or the file is shorter or longer than its header says.
        OSError: the file cannot be opened.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start + file.read(len(LFS) - 8) == LFS:
            raise DamagedFile("is a Git LFS pointer, not the weights themselves")
        length = int.from_bytes(start, "little")
        if size < 8 or length > min(size - 8, LONGEST):
            raise DamagedFile(f"has {size:,} bytes, too few for its header")
        file.seek(8)
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            found = {name: TensorHeader(one["dtype"], tuple(one["shape"])) for name, one in header.items()}
            end = max((one["data_offsets"][1] for one in header.values()), default=0)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DamagedFile("has a header that is not JSON of tensors") from error
    expected = 8 + length + end
    if size != expected:
        raise DamagedFile(f"has {size:,} bytes where its header promises {expected:,}")
    return found
