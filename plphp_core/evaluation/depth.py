"""Which methods do not fit the depth of a model, as far as its configuration on this machine tells."""

from __future__ import annotations

import functools

from plphp_core.config.run_settings import ModelSettings, Settings


def misfits(settings: Settings) -> list[str]:
    """A sentence for each row whose method refuses the model; none where its configuration is not on this machine."""
    layers = _layers(settings.model)
    if layers is None:
        return []
    found = []
    for row in settings.methods:
        try:
            if row.built is not None:
                row.built.check(layers)
        except ValueError as error:
            found.append(f"{f'{row.name} {row.setting}'.strip()} does not fit {settings.model.name}: {error}")
    return found


@functools.cache
def _layers(model: ModelSettings) -> int | None:
    """Decoder layers; None where the configuration cannot be read, which loading the model then explains."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            model.checkpoint, revision=model.revision, local_files_only=True, trust_remote_code=False
        )
        return int(config.get_text_config(decoder=True).num_hidden_layers)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
