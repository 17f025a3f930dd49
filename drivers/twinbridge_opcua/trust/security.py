"""What stands between a plant's network and its machines: policy, certificates, user.

`secure` prepares a client that is not connected yet. It raises LinkLost in the words of the
plant: what is wrong, whose file or server it is, and what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from asyncua import ua
from asyncua.client.client import Client
from asyncua.crypto.uacrypto import CertProperties
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from twinbridge.errors import LinkLost
from twinbridge_opcua.config import OpcUaConnection
from twinbridge_opcua.trust.endpoints import (
    POLICIES,
    Unsuitable,
    asked_for,
    certificates_of,
    suitable,
)
from twinbridge_opcua.trust.identity import Identity, own_identity, read_key
from twinbridge_opcua.trust.pki import (
    PkiFolder,
    Unusable,
    common_name,
    pki_folder,
    read_certificates,
    shelf,
    thumbprint,
)
from twinbridge_opcua.trust.validation import Presented, date, objections, trust_path

NOTICE = timedelta(days=30)
_MOST_SENT_ALONG = 10

_ends: dict[str, datetime] = {}
"""When the certificate of the server at a URL ends, as last seen."""


async def secure(client: Client, connection: OpcUaConnection, endpoint: str) -> None:
    """Set policy, mode, own certificate and user, after the server's certificate was checked.

    Asks the server for its endpoints over a channel of its own. Raises LinkLost when they do not
    fit or are not to be trusted; the library's errors and OSError pass when it cannot be reached.
    """
    offered = await client.connect_and_get_server_endpoints()
    try:
        chosen = suitable(offered, connection)
        if connection.security is not None:
            await _encrypt(client, connection, chosen)
            await asyncio.to_thread(_log_in, client, connection)
    except (Unsuitable, Unusable) as error:
        raise LinkLost(f"{endpoint}: {error}") from error


async def _encrypt(
    client: Client, connection: OpcUaConnection, chosen: ua.EndpointDescription
) -> None:
    pki = pki_folder(connection.pki)
    own = await asyncio.to_thread(own_identity, pki)
    _still_valid(own, pki)
    server = await asyncio.to_thread(_checked_server, pki, chosen, connection.url)
    if connection.security is None:
        raise TypeError("a connection without security has nothing to encrypt")
    client.application_uri = own.application_uri
    await client.set_security(
        POLICIES[connection.security.policy],
        CertProperties(own.certificate.public_bytes(Encoding.DER), "der"),
        CertProperties(
            own.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), "der"
        ),
        server_certificate=CertProperties(server.public_bytes(Encoding.DER), "der"),
        mode=asked_for(connection)[1],
    )


def _still_valid(own: Identity, pki: PkiFolder) -> None:
    end = own.certificate.not_valid_after_utc
    if end < datetime.now(UTC):
        raise Unusable(
            f"our own certificate {pki.certificate} expired on {date(end)} UTC; put a new one"
            f" and its key {pki.key} there, or remove both for a pair to be made, which the"
            " server must then be told to trust"
        )


def _checked_server(pki: PkiFolder, chosen: ua.EndpointDescription, url: str) -> x509.Certificate:
    """The certificate to encrypt to. Raises Unusable with all that is wrong with it."""
    presented = _presented(chosen)
    certificate = presented.certificate
    _ends[url] = certificate.not_valid_after_utc
    trusted, issuers = shelf(pki.trusted), shelf(pki.issuers)
    path = trust_path(presented, trusted.certificates, issuers.certificates)
    host = urlsplit(url).hostname or ""
    wrong = list(objections(presented, path or (), host, datetime.now(UTC)))
    if path is None:
        wrong = [_not_trusted(pki, certificate), *wrong, *trusted.complaints, *issuers.complaints]
    if wrong:
        raise Unusable(f"the server's certificate '{common_name(certificate)}': {'; '.join(wrong)}")
    return certificate


def _presented(chosen: ua.EndpointDescription) -> Presented:
    encoded = certificates_of(chosen)
    if not encoded:
        raise Unusable("the server has a secured endpoint but shows no certificate for it")
    try:
        certificate, *along = [
            x509.load_der_x509_certificate(der) for der in encoded[: 1 + _MOST_SENT_ALONG]
        ]
        for each in (certificate, *along):
            _ = each.extensions  # read only when asked for: a broken one must show here
    except ValueError as error:
        raise Unusable(f"the server's certificate cannot be read: {error}") from error
    return Presented(certificate, along, chosen.Server.ApplicationUri or "")


def _not_trusted(pki: PkiFolder, certificate: x509.Certificate) -> str:
    try:
        kept = pki.turn_away(certificate)
    except Unusable as error:
        return (
            f"it is not trusted yet, and could not be kept for you to look at: {error}; put the"
            f" certificate with the thumbprint {thumbprint(certificate)} into {pki.trusted}/"
        )
    return (
        f"it is not trusted yet: it was put into {kept}; after checking that its thumbprint"
        f" {thumbprint(certificate)} is the one that the server shows, move it to {pki.trusted}/"
    )


def _log_in(client: Client, connection: OpcUaConnection) -> None:
    """Who we are to the server, apart from which application."""
    if connection.user is not None:
        client.set_user(connection.user.name)
        client.set_password(_password(connection.user.password_file))
    if connection.user_certificate is not None:
        files = connection.user_certificate
        certificate = read_certificates(Path(files.certificate).expanduser())[0]
        end = certificate.not_valid_after_utc
        if end < datetime.now(UTC):
            raise Unusable(f"the user's certificate {files.certificate} expired on {date(end)} UTC")
        client.user_certificate = certificate
        client.user_private_key = read_key(str(Path(files.key).expanduser()))


def _password(path: str) -> str:
    """Of a file whose last line may end in a line break that is not part of it."""
    try:
        return Path(path).expanduser().read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        raise Unusable(f"the passwordFile {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Unusable(f"the passwordFile {path} is not UTF-8 text") from error


def cautions(connection: OpcUaConnection) -> Mapping[str, str]:
    """`certificate-expiry` when one of the certificates in use ends within 30 days."""
    if connection.security is None:
        return {}
    now = datetime.now(UTC)
    ending = [
        f"{whose} ends on {date(end)} UTC, after which there is no connection; {remedy}"
        for whose, end, remedy in _all_ends(connection)
        if end - now < NOTICE
    ]
    return {"certificate-expiry": "; ".join(ending)} if ending else {}


def _all_ends(connection: OpcUaConnection) -> list[tuple[str, datetime, str]]:
    """Whose certificate, when it ends, and what to do; those that cannot be read have no end."""
    own = pki_folder(connection.pki).certificate
    ends = [(f"our own certificate {own}", _end(own), "put a new one there, with its key")]
    if connection.user_certificate is not None:
        file = Path(connection.user_certificate.certificate).expanduser()
        ends.append((f"the user's certificate {file}", _end(file), "put a new one there"))
    server = f"the certificate of the server at {connection.url}"
    ends.append((server, _ends.get(connection.url), "ask whoever runs the server for a new one"))
    return [(whose, end, remedy) for whose, end, remedy in ends if end is not None]


def _end(file: Path) -> datetime | None:
    """A file that is not there, or broken, is a failure of `secure`, not a caution."""
    try:
        return read_certificates(file)[0].not_valid_after_utc
    except Unusable:
        return None
