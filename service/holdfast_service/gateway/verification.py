"""The routes that let anyone check a certificate: recompute it, and the public keys it may be signed with."""

from collections.abc import Mapping
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Request, Response

from holdfast.certificates import not_checked, verify
from holdfast.contract.jobs import Check, KeySet, Verification
from holdfast.contract.problems import (
    InternalError,
    InvalidValueError,
    MalformedRequestError,
    TooLargeError,
    UnsupportedMediaTypeError,
)
from holdfast.contract.strict_json import strict_json
from holdfast.signing import check_signature
from holdfast_service.gateway.context import GatewayOfApp
from holdfast_service.gateway.limits import require_json
from holdfast_service.gateway.problems import documented

_KEYS_LIFE_S = 300  # how long a verifier may go without a new key
_BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Certificate"}}},
}

router = APIRouter(tags=["verification"])


@router.post(
    "/v1/verify",
    summary="Check a certificate",
    dependencies=[Depends(require_json)],
    responses=documented(
        MalformedRequestError, TooLargeError, UnsupportedMediaTypeError, InvalidValueError, InternalError
    ),
    openapi_extra={"requestBody": _BODY},
)
async def verify_certificate(request: Request, response: Response, gateway: GatewayOfApp) -> Verification:
    """Recomputes every number of the certificate from its evidence, and checks its signature.

    An unsigned certificate is valid only where this service has no keys. What no evidence decides is `not_checked`.
    """
    body = await request.body()
    response.headers["Cache-Control"] = "no-store"
    return await to_thread.run_sync(_verified, body, gateway.keys, limiter=gateway.threads)


@router.get("/.well-known/holdfast-keys.json", summary="Public keys")
async def read_keys(response: Response, gateway: GatewayOfApp) -> KeySet:
    """The keys that certificates are signed with now (the first) or were before, as a JSON Web Key Set."""
    response.headers["Cache-Control"] = f"public, max-age={_KEYS_LIFE_S}"
    return gateway.keys


def _verified(body: bytes, keys: KeySet) -> Verification:
    certificate = _certificate(body)
    found = [*check_signature(certificate, keys, required=bool(keys.keys)), *verify(certificate)]
    checks = tuple(Check(field=check.field, ok=check.ok, detail=check.detail) for check in found)
    valid = all(check.ok for check in checks)
    return Verification(valid=valid, checks=checks, not_checked=tuple(not_checked(certificate)))


def _certificate(body: bytes) -> Mapping[str, Any]:
    """The JSON object of the body; what readers of JSON could take in two ways is refused.

    Raises:
        MalformedRequestError: the body is no JSON.
        InvalidValueError: it is no object.
    """
    try:
        found = strict_json(body)
    except ValueError as error:
        message = f"the body cannot be read as JSON: {error}; send the certificate as it was issued"
        raise MalformedRequestError(message) from None
    if not isinstance(found, dict):
        raise InvalidValueError("the body must be a certificate, a JSON object; send the whole certificate")
    return found
