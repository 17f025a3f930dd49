"""The certificate of a simulated server: made for it, signed by itself."""

from __future__ import annotations

import ipaddress
import socket
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME = timedelta(days=365)


def self_signed(application_uri: str, host: str) -> tuple[x509.Certificate, RSAPrivateKey]:
    """For one application at one host, as OPC UA Part 6, 6.2.2 asks."""
    key = generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "TwinBridge simulator"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "TwinBridge"),
        ]
    )
    start = datetime.now(UTC) - timedelta(hours=1)
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=True,
        key_encipherment=True,
        data_encipherment=True,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(_names(application_uri, host)), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _names(application_uri: str, host: str) -> list[x509.GeneralName]:
    """The application first, then every name by which a client may call the host."""
    named: list[x509.GeneralName] = [x509.UniformResourceIdentifier(application_uri)]
    for name in dict.fromkeys((host, "localhost", "127.0.0.1", socket.gethostname())):
        try:
            named.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            named.append(x509.DNSName(name))
    return named
