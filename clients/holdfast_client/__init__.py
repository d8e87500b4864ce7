"""The Python SDK and the command line.

from holdfast_client import Client

with Client() as client:
    certification = client.certify(text="Love the way you smell today", image="skunk.png")
    for progress in certification:
        print(progress.draws, progress.frontier)
    certificate = certification.wait()
    print(certificate.verdict, [point.radius for point in certificate.frontier])

    features = client.certify_features(image="skunk.png", prototypes="animals").wait()
    print([(radius.cosine_floor, radius.radius) for radius in features.radii])
    embedding = client.embed(image="skunk.png").embedding

`verify` checks a certificate without the service.
"""

from holdfast.contract.features.certificates import FeatureCertificate
from holdfast.contract.features.keywords import CertifyFeaturesKeywords, EmbedKeywords
from holdfast.contract.guard.certificates import Certificate
from holdfast.contract.guard.keywords import CertifyKeywords
from holdfast.contract.jobs import Check, Job, KeySet, Progress, Verification
from holdfast.contract.problems import ProblemError
from holdfast_client.async_client import AsyncClient
from holdfast_client.certification import (
    AsyncCertification,
    AsyncFeatureCertification,
    Certification,
    FeatureCertification,
)
from holdfast_client.client import Client
from holdfast_client.errors import (
    CertificationCancelledError,
    ConnectionFailedError,
    ServiceStoppedError,
    ServiceUnreachableError,
    UnexpectedAnswerError,
)
from holdfast_client.verification import verify

__all__ = [
    "AsyncCertification",
    "AsyncClient",
    "AsyncFeatureCertification",
    "Certificate",
    "Certification",
    "CertificationCancelledError",
    "CertifyFeaturesKeywords",
    "CertifyKeywords",
    "Check",
    "Client",
    "ConnectionFailedError",
    "EmbedKeywords",
    "FeatureCertificate",
    "FeatureCertification",
    "Job",
    "KeySet",
    "ProblemError",
    "Progress",
    "ServiceStoppedError",
    "ServiceUnreachableError",
    "UnexpectedAnswerError",
    "Verification",
    "verify",
]
