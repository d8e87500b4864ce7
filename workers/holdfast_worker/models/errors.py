"""What a model refuses and why.

    ModelError
    ├── EngineLostError    the process or server that runs the language model died; found in a batch
    ├── ModelConfigError   the checkpoint or its settings cannot be served; found at load
    ├── ModelOutputError   an answer is no verdict, or a feature no number; found in a batch
    └── InputRefusedError  this input does not fit this model; the other inputs are unaffected

Every message gives the value, the rule and the remedy, and never a word or pixel of the input.
"""


class ModelError(Exception):
    """Root of everything a model raises on purpose."""


class EngineLostError(ModelError, ConnectionError):
    """The engine died under a batch, none of which is answered; it must be started again."""


class ModelConfigError(ModelError, ValueError):
    """The checkpoint folder or its settings cannot be served."""


class ModelOutputError(ModelError, ArithmeticError):
    """The model returned a number that is not finite, which is no vote either way and no feature."""


class InputRefusedError(ModelError, ValueError):
    """The input does not fit this model: too long, or of the wrong form."""
