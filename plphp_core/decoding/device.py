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
