"""What a model's folder must be before anything is imported that could read its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from holdfast_worker.models.errors import ModelConfigError
from holdfast_worker.models.folder import load_config, model_type, read_object, read_settings
from holdfast_worker.models.guard.config import GuardConfig, TabularConfig

PACKAGED = {"reference-guard": "reference_guard", "reference-encoder": "reference_encoder"}
"""Name of a guard or encoder that ships with the worker → its folder beside this module."""

LLAVA_TYPES = ("llava", "llava_next", "llava_onevision")


def model_folder(folder_or_name: str | Path) -> Path:
    """The folder of a model.

    Raises:
        ModelConfigError: There is none.
    """
    if (packaged := PACKAGED.get(str(folder_or_name))) is not None:
        return Path(__file__).parent / packaged
    if (folder := Path(folder_or_name)).is_dir():
        return folder
    raise ModelConfigError(
        f"model {str(folder_or_name)!r} must be one of {sorted(PACKAGED)} or an existing folder; correct the name"
    )


def check_model(folder_or_name: str | Path, overrides: Mapping[str, Any]) -> None:
    """Finds in milliseconds what is wrong with a model's folder and its settings, as far as that shows unread.

    Args:
        folder_or_name: A name in ``PACKAGED``, or a checkpoint folder.
        overrides: Fields of its configuration laid over the folder's ``holdfast.json``, its name among them.

    Raises:
        ModelConfigError: It cannot be served.
    """
    folder = model_folder(folder_or_name)
    kind = read_settings(folder, overrides).get("kind")
    if kind == "encoder":  # its fields are checked by the loader: their declaration needs torch
        require_safetensors(folder)
    elif kind == "tabular":
        load_config(TabularConfig, folder, overrides)
        require_safetensors(folder)
    else:
        load_config(GuardConfig, folder, overrides)
        require_llava(folder)


def require_llava(folder: Path) -> str:
    """Refuses a folder that is no LLaVA checkpoint in safetensors, or that asks for code of its own.

    Returns:
        Its architecture, of ``LLAVA_TYPES``.

    Raises:
        ModelConfigError: It is none.
    """
    kind = model_type(folder, LLAVA_TYPES, remedy="; use such a checkpoint")
    require_no_code(folder)
    require_safetensors(folder)
    return kind


def require_no_code(folder: Path) -> None:
    """Refuses a folder that names code of its own, which nothing here would run.

    Raises:
        ModelConfigError: A file names some.
    """
    for path in sorted(folder.glob("*config.json")):
        if read_object(path).get("auto_map"):
            raise ModelConfigError(
                f"{path.name} has an auto_map, which asks for code of the checkpoint's own, and none is run; use a"
                " checkpoint that transformers itself knows, or drop auto_map where that is the same model"
            )


def require_safetensors(folder: Path) -> None:
    """Refuses a folder without safetensors.

    Raises:
        ModelConfigError: It holds none.
    """
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(file.name for ending in ("*.bin", "*.pt", "*.pth") for file in folder.glob(ending))
        raise ModelConfigError(
            f"{folder} holds no safetensors (pickled: {pickles}), weights must be safetensors, since unpickling runs"
            " code; convert them in a place you trust"
        )
