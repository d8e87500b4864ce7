"""The shipped guard's folder, and the same guard as transformers 5 names its tensors."""

from pathlib import Path

from safetensors.torch import load_file, save_file

from holdfast_worker.models import registry
from holdfast_worker.models.guard.llava import LlavaGuard

PACKAGED = Path(registry.__file__).parent / "reference_guard"


def saved_anew(folder: Path, plain: LlavaGuard) -> Path:
    """The shipped guard, which is in the hub's layout, under the names that transformers 5 has for its tensors."""
    for file in PACKAGED.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    weights = {name: tensor.contiguous() for name, tensor in plain._model.state_dict().items()}
    assert not set(weights) & set(load_file(PACKAGED / "model.safetensors"))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
