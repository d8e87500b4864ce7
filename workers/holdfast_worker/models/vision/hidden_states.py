"""How transformers is asked for hidden states of a vision tower."""

from collections.abc import Sequence

from transformers.utils import output_capturing

# Before it resolved them, a list counted from the first layer's output on and knew no negative index.
_RESOLVES_INDEXES = hasattr(output_capturing, "resolve_hidden_states_indices")


def hidden_states_of(indexes: Sequence[int]) -> list[int] | bool:
    """The value of ``output_hidden_states`` that yields these, each under its own index.

    Args:
        indexes: Hidden states by their place among all of them, 0 being the first layer's input; negative ones count
            from the end.

    Returns:
        The indexes, so that only these states are kept; True, for all of them, where transformers would take the
        indexes for others; False where none is wanted.
    """
    return list(indexes) if _RESOLVES_INDEXES and indexes else bool(indexes)
