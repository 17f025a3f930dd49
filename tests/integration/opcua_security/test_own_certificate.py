"""Our own certificate: made once, kept private, replaced by a person."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from asyncua import ua
from cryptography import x509
from opcua_certificates import DAY, pair
from secured_server import Bench, connection, server_time, trust

from twinbridge.errors import LinkLost
from twinbridge_opcua.trust.identity import application_uri, own_identity
from twinbridge_opcua.trust.pki import MOST_REJECTED, PkiFolder, Unusable, pki_folder
from twinbridge_opcua.trust.security import cautions

DRIVERS = Path(__file__).parents[3] / "drivers"
MAKE = """
import sys
from pathlib import Path
from twinbridge_opcua.trust.identity import own_identity
from twinbridge_opcua.trust.pki import PkiFolder, thumbprint
print(thumbprint(own_identity(PkiFolder(Path(sys.argv[1]))).certificate))
"""


def test_it_carries_what_part_6_asks_for(tmp_path: Path) -> None:
    own = own_identity(PkiFolder(tmp_path / "deep" / "pki"))
    names = own.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    usage = own.certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert own.application_uri == f"urn:{socket.gethostname()}:twinbridge"
    assert application_uri(own.certificate) == own.application_uri
    assert names.get_values_for_type(x509.DNSName) == [socket.gethostname()]
    assert usage.digital_signature
    assert usage.content_commitment
    assert usage.key_encipherment
    assert usage.data_encipherment
    assert own.key.key_size == 2048


def test_the_key_is_for_its_owner_alone(tmp_path: Path) -> None:
    pki = PkiFolder(tmp_path)
    previous = os.umask(0)
    try:
        own_identity(pki)
    finally:
        os.umask(previous)
    assert pki.key.stat().st_mode & 0o777 == 0o600
    assert pki.key.parent.stat().st_mode & 0o077 == 0


def test_processes_that_start_at_once_share_one_certificate(tmp_path: Path) -> None:
    starts = [
        subprocess.Popen(
            [sys.executable, "-c", MAKE, str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(DRIVERS)},
            text=True,
        )
        for _ in range(4)
    ]
    shown = {process.communicate(timeout=60)[0] for process in starts}
    assert len(shown) == 1
    assert shown != {""}


def test_links_that_start_at_once_share_one_certificate(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(own_identity, [PkiFolder(tmp_path)] * 8))
    assert len({identity.certificate for identity in made}) == 1


def test_a_start_that_was_cut_off_goes_on_with_its_key(tmp_path: Path) -> None:
    pki = PkiFolder(tmp_path)
    first = own_identity(pki)
    pki.certificate.unlink()
    second = own_identity(pki)
    assert second.key.private_numbers() == first.key.private_numbers()


def test_a_new_pair_is_taken_up_at_the_next_connect(bench: Bench, tmp_path: Path) -> None:
    async def scenario() -> None:
        seen: list[str | None] = []

        async def watch(_: x509.Certificate, client: ua.ApplicationDescription) -> None:
            seen.append(client.ApplicationUri)

        server = pair()
        trust(tmp_path, server)
        pki = PkiFolder(tmp_path)
        async with bench.serving(server, validator=watch) as url:
            wanted = connection(url, tmp_path)
            await server_time(wanted)
            replaced = pair("ours", uri="urn:plant:bridge", hosts=("bridge",), server=False)
            pki.certificate.write_bytes(replaced.pem)
            pki.key.write_bytes(replaced.key_pem)
            await server_time(wanted)
            assert seen == [f"urn:{socket.gethostname()}:twinbridge", "urn:plant:bridge"]

    bench.run(scenario())


def test_a_folder_that_holds_a_pair_and_trust_is_only_read(bench: Bench, tmp_path: Path) -> None:
    """As when both are mounted from a secret."""

    async def scenario() -> None:
        server, ours = pair(), pair("ours", uri="urn:plant:bridge", server=False)
        trust(tmp_path, server)
        (tmp_path / "own").mkdir()
        (tmp_path / "own" / "cert.der").write_bytes(ours.der)
        (tmp_path / "own" / "key.pem").write_bytes(ours.key_pem)
        async with bench.serving(server) as url:
            assert await server_time(connection(url, tmp_path)) == ua.ServerState.Running

    bench.run(scenario())
    held = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert held == ["own", "own/cert.der", "own/key.pem", "trusted", "trusted/0.der"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Unusable, match=r"the folder of certificates .* cannot be made"):
        own_identity(PkiFolder(tmp_path / "file" / "pki"))


def test_two_files_that_are_no_pair_are_told(tmp_path: Path) -> None:
    pki = PkiFolder(tmp_path)
    own_identity(pki)
    pki.key.write_bytes(pair("another").key_pem)
    with pytest.raises(Unusable, match="is not the key of"):
        own_identity(pki)


def test_a_certificate_without_an_application_uri_is_told(tmp_path: Path) -> None:
    pki = PkiFolder(tmp_path)
    pki.make()
    plain = pair("plain", uri=None)
    pki.certificate.write_bytes(plain.der)
    pki.key.write_bytes(plain.key_pem)
    with pytest.raises(Unusable, match="carries no application URI"):
        own_identity(pki)


def test_our_own_expired_certificate_is_announced_and_then_refused(
    bench: Bench, tmp_path: Path
) -> None:
    async def scenario() -> None:
        server, pki = pair(), PkiFolder(tmp_path)
        trust(tmp_path, server)
        pki.make()
        async with bench.serving(server) as url:
            wanted = connection(url, tmp_path)
            ending = pair("ours", uri="urn:x", ends=2 * DAY, server=False)
            pki.certificate.write_bytes(ending.der)
            pki.key.write_bytes(ending.key_pem)
            await server_time(wanted)
            assert (
                f"our own certificate {pki.certificate}" in cautions(wanted)["certificate-expiry"]
            )
            over = pair("ours", uri="urn:x", starts=-9 * DAY, ends=-DAY, server=False)
            pki.certificate.write_bytes(over.der)
            with pytest.raises(LinkLost, match=r"our own certificate .* expired on"):
                await server_time(wanted)

    bench.run(scenario())


def test_only_so_many_rejected_certificates_are_kept(tmp_path: Path) -> None:
    pki = PkiFolder(tmp_path)
    pki.make()
    for number in range(MOST_REJECTED):
        old = pki.rejected / f"{number}.der"
        old.write_bytes(b"")
        os.utime(old, ns=(number, number))
    newest = pki.turn_away(pair().certificate)
    left = {path.name for path in pki.rejected.iterdir()}
    assert len(left) == MOST_REJECTED
    assert newest.name in left
    assert "0.der" not in left


def test_a_broken_file_in_the_trust_list_is_named_and_costs_nobody_else(
    bench: Bench, tmp_path: Path
) -> None:
    async def scenario() -> None:
        server = pair()
        trust(tmp_path, server)
        (tmp_path / "trusted" / "broken.der").write_bytes(b"not a certificate")
        async with bench.serving(server) as url:
            assert await server_time(connection(url, tmp_path)) == ua.ServerState.Running
        async with bench.serving() as url:
            with pytest.raises(LinkLost, match=r"broken\.der holds no certificate"):
                await server_time(connection(url, tmp_path))

    bench.run(scenario())


def test_the_folder_is_the_connections_or_the_environments_or_the_users() -> None:
    environment = {"TWINBRIDGE_PKI_DIR": "/from/environment"}
    assert pki_folder("/of/connection", environment).root == Path("/of/connection")
    assert pki_folder(None, environment).root == Path("/from/environment")
    assert pki_folder(None, {}).root == Path.home() / ".local/state/twinbridge/pki"
