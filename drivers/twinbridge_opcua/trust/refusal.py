"""What a person can do about a server that turned us down."""

from __future__ import annotations

from asyncua.ua.status_codes import StatusCodes, get_name_and_doc
from asyncua.ua.uaerrors import UaStatusCodeError

from twinbridge_opcua.config import OpcUaConnection
from twinbridge_opcua.trust.pki import Unusable, pki_folder, read_certificates, thumbprint

_USER_REFUSED = frozenset(
    {
        StatusCodes.BadUserAccessDenied,
        StatusCodes.BadIdentityTokenInvalid,
        StatusCodes.BadIdentityTokenRejected,
        StatusCodes.BadUserSignatureInvalid,
    }
)
_WE_ARE_REFUSED = frozenset(
    {
        StatusCodes.BadSecurityChecksFailed,
        StatusCodes.BadCertificateInvalid,
        StatusCodes.BadCertificateTimeInvalid,
        StatusCodes.BadCertificateUntrusted,
        StatusCodes.BadCertificateUriInvalid,
        StatusCodes.BadCertificateUseNotAllowed,
        StatusCodes.BadCertificateChainIncomplete,
        StatusCodes.BadCertificateRevoked,
        StatusCodes.BadCertificatePolicyCheckFailed,
    }
)


def refusal(error: Exception, connection: OpcUaConnection) -> str | None:
    """What a person can do when the server turned down `connect`; None if it is not about us."""
    if isinstance(error, UaStatusCodeError):
        if error.code in _USER_REFUSED:
            return f"the server refuses {_user(connection)} ({_code(error)}); check name and secret"
        if error.code in _WE_ARE_REFUSED:
            return f"the server refuses us ({_code(error)}); {_trust_us(connection)}"
    elif _shown_the_door(error) and connection.security is not None:
        return (
            "the server closed the connection as we were about to log in; if it runs,"
            f" {_trust_us(connection)}"
        )
    return None


def _shown_the_door(error: Exception) -> bool:
    """Servers that do not know us often only close, and the library loses what they say."""
    return isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError)


def _code(error: UaStatusCodeError) -> str:
    return get_name_and_doc(error.code)[0]


def _user(connection: OpcUaConnection) -> str:
    if connection.user_certificate is not None:
        return f"the user's certificate {connection.user_certificate.certificate}"
    if connection.user is not None:
        return f"the user '{connection.user.name}'"
    return "anonymous users"


def _trust_us(connection: OpcUaConnection) -> str:
    own = pki_folder(connection.pki).certificate
    try:
        shown = f", thumbprint {thumbprint(read_certificates(own)[0])}"
    except Unusable:
        shown = ""
    return f"have our certificate trusted in the server ({own}{shown})"
