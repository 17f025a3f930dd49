"""A mosquitto of one's own on a free port of 127.0.0.1, for tests that need a real broker.

`with Mosquitto(tmp_path) as broker:` gives a broker at `broker.port` that takes anybody. Options
add users, an access list, TLS, and what it keeps on disk; `stop`, `kill` and `start` are a
maintenance, a crash and a return on the same port.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SECONDS = 10.0
"""How long a broker may take to start or to end."""


class Mosquitto:
    """A broker process. Reentrant in no way; its files live in `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        users: Mapping[str, str] | None = None,
        acl: Iterable[str] | None = None,
        tls: Certificates | None = None,
        client_certificates: bool = False,
        persistence: bool = False,
        options: Iterable[str] = (),
    ) -> None:
        """`users` is name → password; `acl` is lines such as `topic read plant/#`."""
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        user = pwd.getpwuid(os.getuid()).pw_name  # it would leave root for one that reads no files
        lines = [f"user {user}", f"listener {self.port} 127.0.0.1", *options]
        lines += _persistence(folder) if persistence else ["persistence false"]
        lines += _users(folder, users)
        if acl is not None:
            lines.append(f"acl_file {_written(folder / 'acl', acl)}")
        if tls is not None:
            lines += [f"cafile {tls.ca}", f"certfile {tls.server}", f"keyfile {tls.server_key}"]
            lines += ["require_certificate true"] if client_certificates else []
        self._configuration = _written(folder / "mosquitto.conf", lines)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Returns once it takes connections."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program(), "-c", str(self._configuration)], stdout=log, stderr=log
            )
        until = time.monotonic() + SECONDS
        while not _listens(self.port):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"mosquitto did not start: {self.log}")
            time.sleep(0.02)

    def stop(self) -> None:
        """As a maintenance does: clients are told, what persists is written."""
        self._end(kill=False)

    def kill(self) -> None:
        """As a crash does."""
        self._end(kill=True)

    def pause(self) -> None:
        """It hangs: connections stay, and nothing is answered until `resume`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def reload(self) -> None:
        """Read users and access list again (SIGHUP)."""
        if self._process is not None:
            self._process.send_signal(1)

    def write_acl(self, lines: Iterable[str]) -> None:
        """Takes effect with `reload`."""
        _written(self._folder / "acl", lines)

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if kill:
            process.kill()
        else:
            process.terminate()
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(SECONDS)


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: an authority, a server for 127.0.0.1 and localhost, a client, a stranger."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    stranger_ca: Path
    """An authority that has signed none of them."""

    @classmethod
    def make(cls, folder: Path, *, server_name: str = "localhost") -> Certificates:
        folder.mkdir(parents=True, exist_ok=True)
        authority = _Authority("Test authority")
        stranger = _Authority("Somebody else")
        made = cls(
            folder / "ca.pem",
            folder / "server.pem",
            folder / "server.key",
            folder / "client.pem",
            folder / "client.key",
            folder / "stranger.pem",
        )
        made.ca.write_bytes(authority.pem)
        made.stranger_ca.write_bytes(stranger.pem)
        names = [x509.DNSName(server_name)]
        if server_name == "localhost":
            names = [*names, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]  # type: ignore[list-item]  # both are GeneralName
        authority.issue(server_name, made.server, made.server_key, names)
        authority.issue("twinbridge", made.client, made.client_key, ())
        return made


class _Authority:
    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        basic = x509.BasicConstraints(ca=True, path_length=None)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        self._certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(basic, critical=True)
            .add_extension(usage, critical=True)
            .add_extension(_key_id(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def issue(
        self, name: str, certificate: Path, key: Path, names: Iterable[x509.GeneralName]
    ) -> None:
        private = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), self._name, private.public_key()).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
            critical=False,
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        key.write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
    )


def _key_id(key: ec.EllipticCurvePublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(key)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _persistence(folder: Path) -> list[str]:
    return ["persistence true", f"persistence_location {folder}/", "autosave_interval 1"]


def _users(folder: Path, users: Mapping[str, str] | None) -> list[str]:
    if users is None:
        return ["allow_anonymous true"]
    file = _written(folder / "users", (f"{name}:{word}" for name, word in users.items()))
    subprocess.run(["mosquitto_passwd", "-U", str(file)], check=True, capture_output=True)
    return ["allow_anonymous false", f"password_file {file}"]


def _written(file: Path, lines: Iterable[str]) -> Path:
    file.write_text("".join(f"{line}\n" for line in lines))
    file.chmod(0o600)
    return file


def _program() -> str:
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if found is None:
        raise RuntimeError("mosquitto is not installed")
    return found


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
