"""Reading on from what a language model has read already, whatever its version of transformers calls that."""

import inspect
from collections.abc import Callable
from functools import cache as once
from typing import Any

from torch import nn
from transformers import DynamicCache


def read_on(language_model: nn.Module, cache: DynamicCache, **given: Any) -> Any:
    """One forward pass behind what ``cache`` holds; what is read is added to it.

    Args:
        language_model: A decoder of transformers, without its head.
        cache: What was read before.
        **given: The other arguments of the pass.

    Returns:
        What the model returns.
    """
    return language_model(**{cache_word(type(language_model).forward): cache, "use_cache": True}, **given)


@once
def cache_word(forward: Callable[..., Any]) -> str:
    """The argument that takes the cache: ``cache`` since transformers 5.24, ``past_key_values`` before."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"
