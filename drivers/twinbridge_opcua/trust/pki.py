"""The folder of certificates: our own, those that are trusted, those that were turned away.

    own/cert.der own/key.pem   made at the first start; a person may replace them
    trusted/                   servers, or authorities, that are trusted (.der .cer .crt .pem)
    issuers/                   authorities that complete a chain, but are not trusted by themselves
    rejected/                  servers that are not trusted yet; moved to trusted/ by a person

Files are read anew for each connection, so that a change needs no restart. Nothing here is
asynchronous: callers with a loop use a thread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

MOST_REJECTED = 100
_SUFFIXES = frozenset({".der", ".cer", ".crt", ".pem"})
_PEM = b"-----BEGIN CERTIFICATE-----"


class Unusable(Exception):
    """A file that is needed cannot be used; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class PkiFolder:
    root: Path

    @property
    def certificate(self) -> Path:
        return self.root / "own" / "cert.der"

    @property
    def key(self) -> Path:
        return self.root / "own" / "key.pem"

    @property
    def trusted(self) -> Path:
        return self.root / "trusted"

    @property
    def issuers(self) -> Path:
        return self.root / "issuers"

    @property
    def rejected(self) -> Path:
        return self.root / "rejected"

    def make(self) -> None:
        """Make what is not there; only the owner may look into it. Raises Unusable."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.certificate.parent, self.trusted, self.issuers, self.rejected):
                folder.mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise Unusable(
                f"the folder of certificates {self.root} cannot be made: {error.strerror}"
            ) from error

    def turn_away(self, certificate: x509.Certificate) -> Path:
        """Put it into rejected/, once, for a person to look at; the oldest of too many go.

        Raises Unusable where nothing can be written.
        """
        self.make()
        path = self.rejected / f"{_file_name(certificate)}.der"
        try:
            if not path.exists():
                write_whole(path, certificate.public_bytes(Encoding.DER), mode=0o644)
            for old in _oldest_first(self.rejected)[:-MOST_REJECTED]:
                old.unlink(missing_ok=True)
        except OSError as error:
            raise Unusable(f"{path} cannot be written: {error.strerror}") from error
        return path


def pki_folder(named: str | None, environment: Mapping[str, str] = os.environ) -> PkiFolder:
    """The connection's own, else $TWINBRIDGE_PKI_DIR, else one in the state folder of the user."""
    folder = named or environment.get("TWINBRIDGE_PKI_DIR") or "~/.local/state/twinbridge/pki"
    return PkiFolder(Path(folder).expanduser())


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder's certificates, and what was found among them that is none."""

    certificates: Sequence[x509.Certificate]
    complaints: Sequence[str]


def shelf(folder: Path) -> Shelf:
    """A broken file costs only what it should have held. Raises Unusable for the folder."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    except FileNotFoundError:
        return Shelf((), ())
    except OSError as error:
        raise Unusable(f"{folder} cannot be read: {error.strerror}") from error
    certificates: list[x509.Certificate] = []
    complaints = []
    for path in files:
        try:
            certificates += read_certificates(path)
        except Unusable as complaint:
            complaints.append(str(complaint))
    return Shelf(certificates, complaints)


def read_certificates(path: Path) -> list[x509.Certificate]:
    """DER or PEM, whatever its name says. Raises Unusable."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unusable(f"the certificate {path} cannot be read: {error.strerror}") from error
    try:
        if _PEM in content:
            return x509.load_pem_x509_certificates(content)
        return [x509.load_der_x509_certificate(content)]
    except ValueError as error:
        raise Unusable(f"{path} holds no certificate (DER or PEM): {error}") from error


def write_whole(path: Path, content: bytes, *, mode: int) -> None:
    """A reader sees the old file or the new one, never a part; a crash leaves one of them."""
    with NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:  # made with 0600
        try:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def thumbprint(certificate: x509.Certificate) -> str:
    """SHA-1 in hexadecimal: what OPC UA tools show to compare, no proof by itself."""
    return certificate.fingerprint(hashes.SHA1()).hex().upper()  # noqa: S303 - as tools show it


def common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else "(no name)"


def _file_name(certificate: x509.Certificate) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", common_name(certificate)).strip(".-")[:40]
    return f"{name or 'server'}-{thumbprint(certificate)}"


def _oldest_first(folder: Path) -> list[Path]:
    """A file that another process removes meanwhile is no concern."""
    aged = []
    for path in folder.glob("*.der"):
        try:
            aged.append((path.stat().st_mtime_ns, path))
        except FileNotFoundError:
            continue
    return [path for _, path in sorted(aged)]
