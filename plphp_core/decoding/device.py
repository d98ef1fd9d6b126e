"""What a device is told beside computing."""

import gc

import torch


def synchronise(device: torch.device | str) -> None:
    """Wait until a CUDA device has done what it was given; on others a call returns when its work is done."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def free_memory() -> None:
    """Collect garbage, and return what the CUDA allocator holds and does not use."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class PeakMemory:
    """The most memory that tensors on a CUDA device took at once since this was made, beyond what they took then."""

    def __init__(self, device: torch.device | str):
        self.cuda = torch.device(device).type == "cuda"
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()

    def bytes(self) -> int | None:
        """None on other devices."""
        return torch.cuda.max_memory_allocated() - self.before if self.cuda else None
