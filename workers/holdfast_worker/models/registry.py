"""Guards and encoders by name: what ships with the worker, and any checkpoint folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from holdfast.certificates.guard.false_flag import false_flag_faults
from holdfast_worker.models.checkpoint import model_folder
from holdfast_worker.models.encoder.config import EncoderConfig
from holdfast_worker.models.encoder.encoder import Encoder
from holdfast_worker.models.encoder.loading import load_encoder
from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import load_config, read_settings
from holdfast_worker.models.guard.config import GuardConfig, TabularConfig
from holdfast_worker.models.guard.loading import load_guard
from holdfast_worker.models.guard.tabular import load_tabular
from holdfast_worker.models.guard.voting import Guard
from holdfast_worker.models.vllm.loading import load_vllm_guard

Model = Guard | Encoder
AnyConfig = TypeVar("AnyConfig", GuardConfig, TabularConfig)


def load_served(name: str, served: Mapping[str, Mapping[str, Any]]) -> Model:
    """Loads the guard or encoder that the worker's settings serve under this name.

    Args:
        name: The name; of a packaged guard, or with a folder in ``served``.
        served: The settings' table of models: per name the folder and configuration.

    Raises:
        ModelConfigError: There is no such model, or it cannot be served.
    """
    overrides = dict(served.get(name, {}))
    return load(overrides.pop("folder", name), {**overrides, "name": name})


def load(folder_or_name: str | Path, overrides: Mapping[str, Any]) -> Model:
    """Loads a guard or encoder of the kind that its settings name.

    Args:
        folder_or_name: A name in ``PACKAGED``, or a checkpoint folder.
        overrides: Fields of ``GuardConfig``, ``TabularConfig`` or ``EncoderConfig`` laid over the folder's
            ``holdfast.json``.

    Raises:
        ModelConfigError: There is no such model, or it cannot be served.
    """
    folder = model_folder(folder_or_name)
    kind = read_settings(folder, overrides).get("kind")
    if kind == "tabular":
        return load_tabular(folder, measured(load_config(TabularConfig, folder, overrides)))
    if kind == "encoder":
        return load_encoder(folder, load_config(EncoderConfig, folder, overrides))
    config = measured(load_config(GuardConfig, folder, overrides))
    return load_vllm_guard(folder, config) if config.engine == "vllm" else load_guard(folder, config)


def measured(config: AnyConfig) -> AnyConfig:
    """The settings of a guard, whose false-flag bounds are those of their counts: `verify` computes them again.

    Raises:
        ModelConfigError: One is not.
    """
    l0 = config.defaults.l0
    for flag in (config.false_flag, None if l0 is None else l0.false_flag, config.defaults.append):
        for _, fault in false_flag_faults(None if flag is None else flag.model_dump()):
            raise ModelConfigError(f"false_flag of {config.name}: {fault}; state what was measured")
    return config


def require_guard(model: Model) -> Guard:
    """The model itself, for what only a guard can do.

    Raises:
        ModelConfigError: It is an encoder.
    """
    if isinstance(model, Encoder):
        raise ModelConfigError(f"model {model.config.name!r} is an encoder, must be a guard here; name a guard")
    return model


def require_one_set_of_heads(served: Sequence[Model]) -> None:
    """Refuses one encoder under two names with different heads: its orders do not say which name they came by.

    Raises:
        ModelConfigError: There are two such names.
    """
    known: dict[str, Encoder] = {}
    for encoder in (model for model in served if isinstance(model, Encoder)):
        first = known.setdefault(encoder.fingerprint, encoder)
        if first.info.heads != encoder.info.heads:
            raise ModelConfigError(
                f"{first.config.name!r} and {encoder.config.name!r} are the same encoder with different heads, must"
                " have the same; serve it under one name with all of them"
            )
