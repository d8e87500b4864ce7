"""What a guard refuses and why.

    GuardError
    ├── GuardConfigError   the checkpoint or its settings cannot be served; found at load
    ├── GuardOutputError   the model answered with something that is no verdict; found in a batch
    └── InputRefusedError  this input does not fit this guard; the other inputs are unaffected

Every message gives the value, the rule and the remedy, and never a word or pixel of the input.
"""

__all__ = ["GuardConfigError", "GuardError", "GuardOutputError", "InputRefusedError"]


class GuardError(Exception):
    """Root of everything a guard raises on purpose."""


class GuardConfigError(GuardError, ValueError):
    """The checkpoint folder or its settings cannot be served."""


class GuardOutputError(GuardError, ArithmeticError):
    """The model returned a margin that is not finite, which is no vote either way."""


class InputRefusedError(GuardError, ValueError):
    """The input does not fit this guard: too long, or of the wrong form."""
