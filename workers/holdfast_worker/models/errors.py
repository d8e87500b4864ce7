"""What a guard refuses and why.

    ModelError
    ├── EngineLostError    the process or server that runs the language model died; found in a batch
    ├── GuardConfigError   the checkpoint or its settings cannot be served; found at load
    ├── GuardOutputError   the model answered with something that is no verdict; found in a batch
    └── InputRefusedError  this input does not fit this guard; the other inputs are unaffected

Every message gives the value, the rule and the remedy, and never a word or pixel of the input.
"""

__all__ = ["EngineLostError", "GuardConfigError", "GuardOutputError", "InputRefusedError", "ModelError"]


class ModelError(Exception):
    """Root of everything a guard raises on purpose."""


class EngineLostError(ModelError, ConnectionError):
    """The engine died under a batch, none of which is answered; it must be started again."""


class GuardConfigError(ModelError, ValueError):
    """The checkpoint folder or its settings cannot be served."""


class GuardOutputError(ModelError, ArithmeticError):
    """The model returned a margin that is not finite, which is no vote either way."""


class InputRefusedError(ModelError, ValueError):
    """The input does not fit this guard: too long, or of the wrong form."""
