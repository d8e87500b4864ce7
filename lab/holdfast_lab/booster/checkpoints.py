"""The state of a training on disk, always whole: a kill loses the steps since the last save, and nothing else.

The tensors lie in a file of their own for each save, ``state-STEP.safetensors``; ``checkpoint.json`` names it, and
replacing that one file is what commits the save. Randomness needs no state of its own: it is drawn anew for each step
from (seed, stage, step).
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_INDEX: Final = "checkpoint.json"


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    run: Mapping[str, Any],
    network: nn.Module,
    average: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Commits the state after `step` steps, then removes the one before.

    Args:
        folder: of this stage's checkpoints; made if need be.
        step: steps done.
        run: what the training is determined by, as JSON values; a resumed one must match it.
        network: being trained.
        average: the moving average of its weights, by name.
        optimizer: of its weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    weights = folder / f"state-{step:08d}.safetensors"
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, weights)
    _settle(weights)
    fresh = folder / f".{_INDEX}.new"
    fresh.write_text(json.dumps({"step": step, "weights": weights.name, "run": run}, indent=2) + "\n", "utf-8")
    _settle(fresh)
    os.replace(fresh, folder / _INDEX)
    _settle(folder)
    for stale in set(folder.glob("state-*.safetensors")) - {weights}:
        stale.unlink()


def restore_checkpoint(
    folder: Path,
    *,
    run: Mapping[str, Any],
    network: nn.Module,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> int:
    """Puts the last committed state into network, average and optimizer.

    Args:
        folder: of this stage's checkpoints.
        run: as it was saved.
        network: as freshly built.
        average: filled in place.
        optimizer: as freshly built.

    Returns:
        Steps done, 0 where nothing was ever saved.

    Raises:
        ValueError: the checkpoint belongs to another training, or is damaged.
    """
    if not (folder / _INDEX).is_file():
        return 0
    try:
        index = json.loads((folder / _INDEX).read_text("utf-8"))
        step, stored, tensors = int(index["step"]), dict(index["run"]), load_file(folder / index["weights"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"{folder} is no checkpoint that can be resumed ({type(error).__name__}: {error}); remove it to begin again"
        ) from error
    _require_same(folder, stored, run)
    network.load_state_dict(_under("model.", tensors))
    average.update({name: value.to(average[name].device) for name, value in _under("average.", tensors).items()})
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer.", tensors).items():
        number, field = name.split(".", 1)
        state.setdefault(int(number), {})[field] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return step


def _require_same(folder: Path, stored: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    wanted = json.loads(json.dumps(run))
    if other := sorted(key for key in stored.keys() | wanted.keys() if stored.get(key) != wanted.get(key)):
        raise ValueError(
            f"the checkpoint in {folder} was made with another {', '.join(other)}, a resumed training must have the"
            " same; give what it was started with, or another output folder"
        )


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _settle(path: Path) -> None:
    """Has the disk itself hold a file or a folder's entries, so that a commit is never ahead of what it names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
