"""The parts of a model's fingerprint, each by itself: when two differ, which part it is that does."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from holdfast_worker.models.folder import digest, weights_and_files
from holdfast_worker.models.guard.llava import LlavaGuard
from holdfast_worker.models.guard.policies import POLICIES, policy_text
from holdfast_worker.models.registry import Model
from holdfast_worker.models.vllm.guard import VllmGuard

_SHOWN = 16


def fingerprint_parts(folder: Path, model: Model) -> dict[str, str]:
    """Short digests of weights, configuration files and preprocessing; of policy and alphabet where there are any.

    They tell two checkpoints apart at a glance; what counts is the fingerprint, of which these are no substitute.

    Args:
        folder: The checkpoint folder that the model was loaded from.
        model: The model.
    """
    files = weights_and_files(folder)
    found = {
        "weights": _short(file for file in files if file[0].endswith(".safetensors")),
        "config": _short(file for file in files if file[0] == "config.json"),
        "tokenizer": _short(file for file in files if "token" in file[0] or file[0].startswith(("vocab", "merges"))),
        "preprocessing": _short(file for file in files if "processor" in file[0]),
    }
    if not isinstance(model, LlavaGuard | VllmGuard):
        return {name: part for name, part in found.items() if part}
    policy = hashlib.sha256(policy_text(model.config.policy).encode()).hexdigest()[:_SHOWN]
    ids = model.inputs.prompt.alphabet
    alphabet = hashlib.sha256(ids.astype("<i8").tobytes()).hexdigest()[:_SHOWN]
    named = model.config.policy if model.config.policy in POLICIES else "a text of its own"
    sizes = {
        "policy": f"{policy} ({named})",
        "alphabet": f"{alphabet} ({len(ids)} tokens)",
    }
    return {name: part for name, part in found.items() if part} | sizes


def _short(files: Iterable[tuple[str, bytes]]) -> str:
    chosen = list(files)
    return digest(chosen).removeprefix("sha256:")[:_SHOWN] if chosen else ""
