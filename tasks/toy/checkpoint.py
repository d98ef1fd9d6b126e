"""The files of a toy checkpoint, in Hugging Face layout."""

from __future__ import annotations

from pathlib import Path

import torch


def save_checkpoint(model, processor, folder: Path) -> None:
    """Write config, bf16 safetensors, tokenizer, processor and chat template to `folder`; the model stays as it is."""
    state = {name: tensor.detach().to(torch.bfloat16) for name, tensor in model.state_dict().items()}
    copy = type(model)(model.config).to(torch.bfloat16)
    copy.load_state_dict(state)
    copy.generation_config = model.generation_config
    copy.save_pretrained(folder)
    processor.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner can read
