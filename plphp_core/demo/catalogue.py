"""Which models and methods the demo offers, and with which settings they start: what `configs/` says of a profile."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from plphp_core.config.hydra_app import composed, options
from plphp_core.config.run_settings import ModelSettings, settings_from_config
from plphp_core.families import get_family
from plphp_core.pruning.method import method_label
from plphp_core.records.errors import UserError, unknown
from plphp_core.reporting.configured import method_configured, rows_configured


def check_checkpoint(checkpoint: str) -> None:
    """Raises UserError for what can only be a path, where no folder is; a hub name is the hub's to judge."""
    if not Path(checkpoint).is_dir() and (checkpoint.startswith(("/", ".", "~")) or checkpoint.count("/") > 1):
        raise UserError(
            f"no checkpoint at {checkpoint}: give a folder with config.json and safetensors, or a hub name "
            "(owner/name). The toy checkpoints are made by `make toy-model`"
        )


class Catalogue:
    """The models of a profile.

    Args:
        root: of the repository.
        profile: a file of `configs/profile/`.
        first: the model that the demo starts with.
        loading: `device`, `dtype` and `attn_implementation` of every model, where they are not the profile's.
        checkpoint: hub name or folder of the first model's weights, if not its configured ones.

    Attributes:
        names: of the models offered.
        configured: (model, method) → the method's defaults in this profile.
        start: (model, method) → the parameters to start with.

    Raises:
        UserError: a name that is not known, or a value that is not allowed.
    """

    def __init__(
        self,
        root: Path,
        profile: str = "toy",
        first: str = "llava_onevision",
        loading: Mapping[str, str] | None = None,
        checkpoint: str | None = None,
    ):
        self._configs, self.profile, self.first = root / "configs", profile, first
        if profile not in options(root, "profile"):
            raise unknown("profile", profile, options(root, "profile"))
        models = options(root, "model")
        # A profile with checkpoints of its own has no others.
        own = OmegaConf.load(self._configs / "profile" / f"{profile}.yaml").get("checkpoints") or models
        self.names = [name for name in models if name in own]
        if first not in self.names:
            raise unknown(f"model of profile {profile}", first, self.names)
        configs = {name: self._composed(name) for name in self.names}
        if checkpoint is not None:
            OmegaConf.update(configs[first], "model.checkpoint", checkpoint)
        self._settings: dict[str, ModelSettings] = {}
        self.configured, self.start = cache(self._configured), cache(self._started)  # files are read once
        for name in self.names:
            for key, value in (loading or {}).items():
                OmegaConf.update(configs[name], key, value)
            self._settings[name] = settings_from_config(configs[name], root).model

    def _composed(self, model: str) -> DictConfig:
        overrides = [f"profile={self.profile}", f"model={model}", "prompts=plain"]
        try:
            return composed(self._configs.parent, overrides)
        except UserError as error:
            raise UserError(f"configs/model/{model}.yaml with profile {self.profile}: {error}") from error

    def settings(self, model: str) -> ModelSettings:
        """How to load a model. Raises UserError for one that is not offered."""
        if model not in self._settings:
            raise unknown("model", model, self.names)
        return self._settings[model]

    def title(self, model: str) -> str:
        """A model's name as people write it."""
        family = get_family(self.settings(model).family)
        size = model.removeprefix(family.name).strip("_").replace("_", ".")
        return f"{family.title}{size and f' {size}'}{' (toy)' if self.profile == 'toy' else ''}"

    def method_title(self, method: str) -> str:
        """A method's name as tables print it."""
        return method_label(method)

    def _configured(self, model: str, method: str) -> dict:
        """A method's parameters and the template of its `setting`."""
        return method_configured(self._configs, method, self.profile, model)

    def _started(self, model: str, method: str) -> dict:
        """The parameters a method starts with: the middle one of its rows in Table 1 of this profile, or configured."""
        rows = rows_configured(self._configs, "table1", self.profile, model) or ()
        rows = [one for one in rows if one.method == method]
        if rows:
            return dict(rows[len(rows) // 2].params)
        return {
            name: value for name, value in self.configured(model, method).items() if name not in ("name", "setting")
        }
