"""Our own application certificate: made once, then whatever a person puts in its place."""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from twinbridge_opcua.trust.pki import PkiFolder, Unusable, read_certificates, write_whole

LIFETIME = timedelta(days=5 * 365)


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate, and the key that proves it."""

    certificate: x509.Certificate
    key: RSAPrivateKey
    application_uri: str
    """What the application must call itself: the URI that the certificate carries."""


def own_identity(pki: PkiFolder) -> Identity:
    """Made if there is none; two that start at once get the same. Raises Unusable."""
    if not pki.certificate.exists():  # else nothing is written: the folder may be a mounted secret
        pki.make()
        with _alone(pki):
            if not pki.certificate.exists():
                _make(pki)
    certificate = read_certificates(pki.certificate)[0]
    key = read_key(str(pki.key))
    if certificate.public_key() != key.public_key():
        raise Unusable(
            f"{pki.key} is not the key of {pki.certificate}: put the two files of one pair there,"
            " or remove both, and a new pair is made"
        )
    uri = application_uri(certificate)
    if uri is None:
        raise Unusable(
            f"{pki.certificate} carries no application URI (a URI among its subject alternative"
            " names): OPC UA servers refuse it; ask whoever made it for one that has it"
        )
    return Identity(certificate, key, uri)


def application_uri(certificate: x509.Certificate) -> str | None:
    """The URI of an application's certificate, OPC UA Part 6, 6.2.2."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    return next(iter(names.get_values_for_type(x509.UniformResourceIdentifier)), None)


def read_key(path: str) -> RSAPrivateKey:
    """An RSA key in PEM, without a pass phrase. Raises Unusable."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - the text is what a person wrote
            key = load_pem_private_key(file.read(), password=None)
    except OSError as error:
        raise Unusable(f"the private key {path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise Unusable(
            f"{path} holds no private key in PEM without a pass phrase: {error}"
        ) from error
    if not isinstance(key, RSAPrivateKey):
        raise Unusable(f"the key in {path} is not RSA, which the security policies ask for")
    return key


@contextmanager
def _alone(pki: PkiFolder) -> Iterator[None]:
    """Among all processes, and links of one process, that use the folder."""
    try:
        lock = os.open(pki.root / "own" / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Unusable(
            f"our own certificate cannot be made in {pki.certificate.parent}: {error.strerror}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _make(pki: PkiFolder) -> None:
    """The key is written first: a crash between leaves a key, of which the next start goes on."""
    try:
        if pki.key.exists():
            key = read_key(str(pki.key))
        else:
            key = generate_private_key(public_exponent=65537, key_size=2048)
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_whole(pki.key, pem, mode=0o600)
        certificate = _self_signed(key, _host_name())
        write_whole(pki.certificate, certificate.public_bytes(Encoding.DER), mode=0o644)
    except OSError as error:
        raise Unusable(
            f"our own certificate cannot be written to {pki.certificate.parent}: {error.strerror}"
        ) from error


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "localhost"


def _self_signed(key: RSAPrivateKey, host: str) -> x509.Certificate:
    """As OPC UA Part 6, 6.2.2 asks of an application instance certificate."""
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"TwinBridge at {host}"[:64]),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "TwinBridge"),
        ]
    )
    serial = x509.random_serial_number()
    public = key.public_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    # An hour back: the server's clock may be behind ours.
    start = datetime.now(UTC) - timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier(identifier.digest, [x509.DirectoryName(name)], serial),
            critical=False,
        )
        .add_extension(
            x509.SubjectAlternativeName(
                [
                    x509.UniformResourceIdentifier(f"urn:{host}:twinbridge"),
                    x509.DNSName(host),
                ]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=True,
                key_encipherment=True,
                data_encipherment=True,
                key_agreement=False,
                key_cert_sign=True,  # Part 6: a self-signed certificate has it too
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
