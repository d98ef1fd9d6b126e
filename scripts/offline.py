"""Forces the Hugging Face libraries offline where a profile asks for it.

They read their environment when they are imported, so this must come before every other import of a script.
"""

import os
from pathlib import Path

from omegaconf import OmegaConf

VARIABLES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
PROFILES = Path(__file__).resolve().parent.parent / "configs" / "profile"


def force(arguments: list[str]) -> None:
    """Set the offline variables if every profile that `arguments` name (`profile=…`) is an offline one."""
    chosen = [argument.removeprefix("profile=") for argument in arguments if argument.startswith("profile=")]
    files = [PROFILES / f"{name}.yaml" for names in chosen for name in names.split(",")]
    if files and all(file.is_file() and OmegaConf.load(file).get("offline") for file in files):
        os.environ.update(dict.fromkeys(VARIABLES, "1"))
