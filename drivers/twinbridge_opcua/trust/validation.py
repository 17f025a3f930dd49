"""Whether a server's certificate is good for its endpoint (OPC UA Part 4, 6.1.3). Pure.

Every objection is said, not only the first: a person mends them in one go.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from twinbridge_opcua.trust.identity import application_uri
from twinbridge_opcua.trust.pki import common_name

LEAST_KEY_BITS = 2048
_WEAK = (hashes.MD5, hashes.SHA1)
_SERVER_USES = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


@dataclass(frozen=True, slots=True)
class Presented:
    """What a server shows of itself in an endpoint's description."""

    certificate: x509.Certificate
    issuers: Sequence[x509.Certificate]
    """What it sent along to complete the chain; trusted in nothing else."""
    application_uri: str


def trust_path(
    presented: Presented, trusted: Sequence[x509.Certificate], issuers: Sequence[x509.Certificate]
) -> Sequence[x509.Certificate] | None:
    """From the server's certificate up to one in the trust list; None if none leads there.

    Each is signed by the next, but whether they are valid today is not looked at.
    """
    anchors = set(trusted)
    candidates = {*trusted, *issuers, *presented.issuers} - {presented.certificate}
    paths: list[tuple[x509.Certificate, ...]] = [(presented.certificate,)]
    while paths:
        path = paths.pop(0)
        if path[-1] in anchors:
            return path
        signers = {issuer for issuer in candidates if _issued(path[-1], issuer, len(path) - 1)}
        candidates -= signers  # a second way to the same authority gains nothing
        paths += [(*path, signer) for signer in signers]
    return None


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, below: int) -> bool:
    """Whether an authority signed it that may, with so many authorities between."""
    if issuer.subject != certificate.issuer or not _may_sign(issuer, below):
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _may_sign(authority: x509.Certificate, below: int) -> bool:
    extensions = authority.extensions
    try:
        basic = extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    if not basic.ca or (basic.path_length is not None and below > basic.path_length):
        return False
    try:
        return extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound:
        return True


def objections(
    presented: Presented, path: Sequence[x509.Certificate], host: str, now: datetime
) -> Iterator[str]:
    """What is wrong apart from trust, a clause each; `path` as `trust_path` gave it."""
    yield from _of_time(presented.certificate, now)
    for authority in path[1:]:
        for objection in _of_time(authority, now):
            yield f"of its issuer '{common_name(authority)}': {objection}"
    yield from _of_names(presented, host)
    yield from _of_use(presented.certificate)
    yield from _of_strength(presented.certificate)


def _of_time(certificate: x509.Certificate, now: datetime) -> Iterator[str]:
    if certificate.not_valid_after_utc < now:
        yield (
            f"it expired on {date(certificate.not_valid_after_utc)} UTC; ask whoever runs the"
            " server for a new one, and check the clock of this machine"
        )
    if certificate.not_valid_before_utc > now:
        yield (
            f"it is valid only from {date(certificate.not_valid_before_utc)} UTC on, and it is"
            f" {date(now)} here; check the clocks of the server and of this machine"
        )


def _of_names(presented: Presented, host: str) -> Iterator[str]:
    names = _host_names(presented.certificate)
    if _same_host(host) not in {_same_host(name) for name in names}:
        listed = ", ".join(names) or "no host name at all"
        yield (
            f"it is made out to {listed}, not to {host}; name the server in the url as the"
            " certificate does, or have one made for this name"
        )
    uri = application_uri(presented.certificate)
    if uri != presented.application_uri:
        yield (
            f"it belongs to the application {uri or '(none named)'}, but the server calls itself"
            f" {presented.application_uri or '(nothing)'}; have the server's certificate made anew"
        )


def _host_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = names.get_values_for_type(x509.IPAddress)
    return [*names.get_values_for_type(x509.DNSName), *map(str, addresses)]


def _same_host(name: str) -> str:
    """Addresses are compared as addresses, names without regard to case or a final dot."""
    with suppress(ValueError):
        return str(ip_address(name))
    return name.rstrip(".").lower()


def _of_use(certificate: x509.Certificate) -> Iterator[str]:
    """An absent extension restricts nothing; one that is there must allow what we do."""
    with suppress(x509.ExtensionNotFound):
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        if not (usage.digital_signature and usage.key_encipherment):
            yield (
                "its key usage lacks digitalSignature or keyEncipherment, which OPC UA asks for;"
                " have it made anew"
            )
    with suppress(x509.ExtensionNotFound):
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if not _SERVER_USES.intersection(uses):
            yield "it is not made for servers (extended key usage serverAuth); have it made anew"


def _of_strength(certificate: x509.Certificate) -> Iterator[str]:
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey):
        yield "its key is not RSA, which the security policies ask for"
    elif key.key_size < LEAST_KEY_BITS:
        yield f"its key has {key.key_size} bits, and {LEAST_KEY_BITS} are the least allowed"
    if isinstance(certificate.signature_hash_algorithm, _WEAK):
        yield f"it is signed with {certificate.signature_hash_algorithm.name}, which is too weak"


def date(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")
