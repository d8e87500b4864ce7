"""What the SDK raises beside the service's own problems.

    ConnectionFailedError           the connection broke before the answer was complete
    └── ServiceUnreachableError     no service answers, so none has received anything
    ServiceStoppedError             the service has stopped, and what it was certifying is lost with its queue
    UnexpectedAnswerError           what answers does not speak this contract
    CertificationCancelledError     the certification was cancelled, so it has no certificate

Everything that the service refuses is a `holdfast.contract.problems.ProblemError`.
"""


class ConnectionFailedError(ConnectionError):
    """The connection broke before the answer was complete."""


class ServiceUnreachableError(ConnectionFailedError):
    """No service answers at the URL, so none has received anything."""


class ServiceStoppedError(Exception):
    """The service has stopped, and what it was certifying is lost with its queue."""


class UnexpectedAnswerError(Exception):
    """What answers at the URL does not speak this contract."""


class CertificationCancelledError(Exception):
    """The certification was cancelled, so it has no certificate."""
