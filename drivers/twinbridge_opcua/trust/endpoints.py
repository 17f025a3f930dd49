"""Which of the endpoints that a server offers fits what is asked of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from asyncua import ua
from asyncua.crypto import security_policies

from twinbridge_opcua.config import OpcUaConnection

POLICIES: dict[str, type[security_policies.SecurityPolicy]] = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
_NONE = security_policies.SecurityPolicyNone.URI
_TOKENS = {
    ua.UserTokenType.Anonymous: "anonymous",
    ua.UserTokenType.UserName: "user with password",
    ua.UserTokenType.Certificate: "user with certificate",
    ua.UserTokenType.IssuedToken: "issued token",
}


class Unsuitable(Exception):
    """The server offers nothing that fits; the text says what it does offer."""


def suitable(
    offered: Iterable[ua.EndpointDescription], connection: OpcUaConnection
) -> ua.EndpointDescription:
    """The endpoint with the policy, mode and kind of user asked for. Raises Unsuitable."""
    binary = [e for e in offered if e.EndpointUrl and e.EndpointUrl.startswith(ua.OPC_TCP_SCHEME)]
    uri, mode = asked_for(connection)
    fitting = [e for e in binary if e.SecurityPolicyUri == uri and e.SecurityMode == mode]
    if not fitting:
        raise Unsuitable(
            f"the server has no endpoint with security {_named(uri, mode)}; it offers"
            f" {_listed(_named(e.SecurityPolicyUri, e.SecurityMode) for e in binary)}: set"
            " security in the connection to one of these, or have the server set up for it"
        )
    endpoint = fitting[0]
    _admits(endpoint, connection)
    return endpoint


def asked_for(connection: OpcUaConnection) -> tuple[str, ua.MessageSecurityMode]:
    if connection.security is None:
        return _NONE, ua.MessageSecurityMode.None_
    mode = ua.MessageSecurityMode[connection.security.mode]
    return POLICIES[connection.security.policy].URI, mode


def _admits(endpoint: ua.EndpointDescription, connection: OpcUaConnection) -> None:
    """Raises Unsuitable if the kind of user is not taken there, or its password is not kept."""
    wanted = _token(connection)
    tokens = endpoint.UserIdentityTokens or []
    taken = [token for token in tokens if token.TokenType == wanted]
    if not taken:
        raise Unsuitable(
            f"the server takes no {_TOKENS[wanted]} on this endpoint; it takes"
            f" {_listed(_TOKENS.get(t.TokenType, 'another kind') for t in tokens)}"
        )
    encrypted = endpoint.SecurityMode == ua.MessageSecurityMode.SignAndEncrypt
    plain = taken[0].SecurityPolicyUri == _NONE  # the library takes the first of the kind
    if wanted == ua.UserTokenType.UserName and plain and not encrypted:
        raise Unsuitable(
            "the server wants the password unencrypted on this endpoint, and it is not sent so;"
            " use security mode SignAndEncrypt, or a user with a certificate"
        )


def _token(connection: OpcUaConnection) -> ua.UserTokenType:
    if connection.user_certificate is not None:
        return ua.UserTokenType.Certificate
    if connection.user is not None:
        return ua.UserTokenType.UserName
    return ua.UserTokenType.Anonymous


def _named(uri: str | None, mode: ua.MessageSecurityMode) -> str:
    """`Basic256Sha256/SignAndEncrypt`; `None` for no security."""
    policy = (uri or "").rpartition("#")[2]
    return "None" if policy in ("", "None") else f"{policy}/{mode.name}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names)) or "nothing"


def certificates_of(endpoint: ua.EndpointDescription) -> Sequence[bytes]:
    """The server's own certificate in DER, and those that it sent along after it."""
    rest, found = endpoint.ServerCertificate or b"", []
    while rest:
        length = _der_length(rest)
        found.append(rest[:length])
        rest = rest[length:]
    return found


def _der_length(encoded: bytes) -> int:
    """Of the first value in DER, its header included (X.690, 8.1.3)."""
    short = encoded[1] if len(encoded) > 1 else 0
    if short < 0x80:  # noqa: PLR2004 - the long form has the top bit set
        return 2 + short
    size = short & 0x7F
    return 2 + size + int.from_bytes(encoded[2 : 2 + size], "big")
