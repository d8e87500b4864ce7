"""A name for exactly one multimodal base classifier: equal fingerprints vote alike on equal draws."""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from holdfast.certificates.noise.version import SAMPLER
from holdfast_worker.models.folder import digest, weights_and_files
from holdfast_worker.models.guard.config import GuardConfig
from holdfast_worker.models.guard.policies import policy_text

_RULES = {"layout", "decision", "answer", "answer_prefix", "max_new_tokens", "unparseable", "text_alone"}


def fingerprint(folder: Path, config: GuardConfig, alphabet: NDArray[np.int64], *, dtype: str) -> str:
    """Hashes all that a vote depends on besides the draw itself.

    SHA-256 over framed (name, bytes) pairs: every weight, configuration, tokenizer, template and image-processor file
    of the folder by name except ``holdfast.json``, then the policy's text, the user template, the verdict, filler and
    mask tokens, the alphabet's ids (little-endian int64), the tiling, the noise size, the number type, and how draws
    follow from a seed. What is not the default of layout and decision rule, and whether a text alone is answered,
    follow them, if anything. Limits, defaults, the served name and the device are left out.

    Args:
        folder: Checkpoint folder.
        config: The guard's settings.
        alphabet: Replacement alphabet, shape (V,).
        dtype: Number type in use, e.g. ``float32``.

    Returns:
        ``sha256:`` and 64 hexadecimal digits.
    """
    prompt = config.model_dump(include={"user_template", "unsafe_tokens", "safe_tokens", "filler_token", "mask_token"})
    space = config.model_dump(include={"tiles", "noise_height", "noise_width"})
    rules = config.model_dump(include=_RULES, exclude_defaults=True)
    return digest(
        [
            *weights_and_files(folder),
            ("policy", policy_text(config.policy).encode()),
            ("prompt", json.dumps(prompt, sort_keys=True).encode()),
            ("alphabet", alphabet.astype("<i8").tobytes()),
            ("computation", json.dumps(space | {"dtype": dtype, "sampler": SAMPLER}, sort_keys=True).encode()),
            *([("rules", json.dumps(rules, sort_keys=True).encode())] if rules else []),
        ]
    )
