"""A real OPC UA server that insists on security, for the tests beside it."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from asyncua import Client, Server, ua
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.crypto.security_policies import SecurityPolicyNone
from asyncua.server.user_managers import PermissiveUserManager
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from opcua_certificates import URI, Pair, pair

from twinbridge_opcua.config import OpcUaConnection
from twinbridge_opcua.trust.security import secure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence
    from pathlib import Path

    from asyncua.crypto.validator import CertificateValidatorMethod

STRONG = (ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,)
EVERY = (
    ua.SecurityPolicyType.NoSecurity,
    ua.SecurityPolicyType.Basic256Sha256_Sign,
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_Sign,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_Sign,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
)


class Operators:
    """Knows operator/pa55 and, if one is given, the holder of one certificate."""

    def __init__(self, certificate: bytes | None = None) -> None:
        self._certificate = certificate

    def get_user(
        self,
        iserver: Any,
        username: str | None = None,
        password: str | None = None,
        certificate: bytes | None = None,
    ) -> User | None:
        known = (username, password) == ("operator", "pa55") or (
            certificate is not None and certificate == self._certificate
        )
        return User(role=UserRole.User, name=username or "by certificate") if known else None


class Bench:
    """One server for all tests, since making one takes seconds; each test sets it up anew."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._server = Server()
        self._url = f"opc.tcp://127.0.0.1:{_free_port()}"

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        self._runner.run(scenario)

    async def open(self) -> None:
        await self._server.init()
        self._server.set_endpoint(self._url)
        await self._server.set_application_uri(URI)
        self._server.set_security_policy([])
        await self._server.start()

    def close(self) -> None:
        self._runner.run(self._server.stop())
        self._runner.close()

    @asynccontextmanager
    async def serving(
        self,
        own: Pair | None = None,
        *,
        policies: Sequence[ua.SecurityPolicyType] = STRONG,
        users: Operators | None = None,
        tokens: Sequence[type] = (ua.AnonymousIdentityToken,),
        validator: CertificateValidatorMethod | None = None,
    ) -> AsyncIterator[str]:
        """The server as told, with its own new certificate if none is given; gives its URL."""
        own, server = own or pair(), self._server
        await server.load_certificate(own.der, "der")
        await server.load_private_key(
            own.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        )
        server.set_security_policy(list(policies))
        server.set_identity_tokens(list(tokens))
        server.iserver.user_manager = users or PermissiveUserManager()
        server.iserver.certificate_validator = validator
        server.iserver.endpoints.clear()
        server._policies.clear()
        await server._setup_server_nodes()
        assert server.bserver is not None
        server.bserver.set_policies(server._policies)
        yield self._url

    def ask_for_plain_passwords(self) -> None:
        """As a careless server does on an endpoint that only signs."""
        for endpoint in self._server.iserver.endpoints:
            for token in endpoint.UserIdentityTokens:
                token.SecurityPolicyUri = SecurityPolicyNone.URI


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def connection(url: str, pki: Path, **more: Any) -> OpcUaConnection:
    written = {
        "url": url,
        "security": {"policy": "Basic256Sha256", "mode": "SignAndEncrypt"},
        "pki": str(pki),
        "allowInsecure": True,
        **more,
    }
    return OpcUaConnection.model_validate({k: v for k, v in written.items() if v is not None})


def trust(pki: Path, *certificates: Pair) -> None:
    (pki / "trusted").mkdir(parents=True, exist_ok=True)
    for number, each in enumerate(certificates):
        (pki / "trusted" / f"{number}.der").write_bytes(each.der)


async def server_time(wanted: OpcUaConnection) -> object:
    """Connect as the link does, and read what every server has."""
    client = Client(wanted.url, timeout=10)
    await secure(client, wanted, wanted.url)
    async with client:
        return await client.nodes.server_state.read_value()
