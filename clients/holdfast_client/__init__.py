"""The Python SDK and the command line.

from holdfast_client import Client

with Client() as client:
    certification = client.certify(text="Love the way you smell today", image="skunk.png")
    for progress in certification:
        print(progress.passes, progress.frontier)
    certificate = certification.wait()
    print(certificate.verdict, [point.radius for point in certificate.frontier])
"""

from holdfast.contract.certificates import Certificate, Job, Progress
from holdfast.contract.problems import ProblemError
from holdfast_client.client import Certification, Client
from holdfast_client.errors import (
    CertificationCancelledError,
    ConnectionFailedError,
    ServiceUnreachableError,
    UnexpectedAnswerError,
)

__all__ = [
    "Certificate",
    "Certification",
    "CertificationCancelledError",
    "Client",
    "ConnectionFailedError",
    "Job",
    "ProblemError",
    "Progress",
    "ServiceUnreachableError",
    "UnexpectedAnswerError",
]
