"""The repository's own configuration, composed and checked as the commands do it."""

from functools import cache
from pathlib import Path

from plphp_core.config.hydra_app import composed
from plphp_core.config.run_settings import Settings, settings_from_config

ROOT = Path(__file__).resolve().parents[1]


def configured(*overrides: str) -> Settings:
    return _configured(overrides, Path.cwd())


@cache  # a tenth of a second each
def _configured(overrides: tuple[str, ...], folder: Path) -> Settings:
    return settings_from_config(composed(list(overrides)))
