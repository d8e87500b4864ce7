"""What the SDK raises beside the service's own problems.

    ConnectionFailedError           the connection broke before the answer was complete
    └── ServiceUnreachableError     no service answers, so none has received anything
    UnexpectedAnswerError           what answers does not speak this contract
    CertificationCancelledError     the certification was cancelled, so it has no certificate

Everything that the service refuses is a `holdfast.contract.problems.ProblemError`.
"""

__all__ = ["CertificationCancelledError", "ConnectionFailedError", "ServiceUnreachableError", "UnexpectedAnswerError"]


class ConnectionFailedError(ConnectionError):
    """The connection broke before the answer was complete."""


class ServiceUnreachableError(ConnectionFailedError):
    """No service answers at the URL, so none has received anything."""


class UnexpectedAnswerError(Exception):
    """What answers at the URL does not speak this contract."""


class CertificationCancelledError(Exception):
    """The certification was cancelled, so it has no certificate."""
