"""What the SDK raises beside the service's own problems.

    ConnectionFailedError        no service answers, or the connection broke
    UnexpectedAnswerError        whatever answers does not speak this contract
    CertificationCancelledError  the certification was cancelled, so it has no certificate

Everything that the service refuses is a `holdfast.contract.problems.ProblemError`.
"""

__all__ = ["CertificationCancelledError", "ConnectionFailedError", "UnexpectedAnswerError"]


class ConnectionFailedError(ConnectionError):
    """No service answers at the URL, or the connection broke before the answer was complete."""


class UnexpectedAnswerError(Exception):
    """What answers at the URL does not speak this contract."""


class CertificationCancelledError(Exception):
    """The certification was cancelled, so it has no certificate."""
