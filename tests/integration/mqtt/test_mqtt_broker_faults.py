"""Brokers that refuse, die, forget or fall silent: said in words, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import json
import os
from pathlib import Path
from typing import Any

import pytest
from mosquitto import Certificates, Mosquitto, free_port
from mqtt_rig import Peer, a_point, connection, followed

from twinbridge.core.model import Access, Reason
from twinbridge.errors import LinkLost, NoResponse
from twinbridge.testing.proxy import FaultProxy
from twinbridge_mqtt import driver
from twinbridge_mqtt.config import MqttConnection

STATE = "plant/{device}/state"


async def refusal(at: MqttConnection) -> str:
    """What the driver says when it cannot open."""
    with pytest.raises(LinkLost) as refused:
        async with driver.open(at):
            pass
    return str(refused.value)


def say_once(port: int, topic: str, content: object) -> None:
    with Peer(port) as peer:
        peer.say(topic, content)


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only their number counts


def test_a_broker_that_is_not_there_is_said_to_be_unreachable() -> None:
    port = free_port()
    said = asyncio.run(refusal(connection(port)))
    assert f"mqtt://127.0.0.1:{port}: cannot connect" in said


def test_a_name_that_nobody_knows_is_said_so() -> None:
    at = MqttConnection(url="mqtt://no-such-host.invalid:1883")
    assert "no-such-host.invalid" in asyncio.run(refusal(at))


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_a_wrong_password_is_said_so_and_the_right_one_is_read_from_its_file(
    tmp_path: Path, version: str
) -> None:
    secret = tmp_path / "password"
    with Mosquitto(tmp_path / "broker", users={"pump": "right"}) as broker:
        user = {"username": "pump", "passwordFile": str(secret), "version": version}
        secret.write_text("wrong\n")
        assert "not authorized" in asyncio.run(refusal(connection(broker.port, **user)))
        anonymous = connection(broker.port, version=version)
        assert "not authorized" in asyncio.run(refusal(anonymous))
        secret.write_text("right\n")

        async def body() -> None:
            at = connection(broker.port, **user)
            async with followed(at, a_point(at, topic=STATE)) as link:
                await link.says("d/temp", "no message")

        asyncio.run(body())
        secret.unlink()
        assert "password" in asyncio.run(refusal(connection(broker.port, **user)))


@pytest.mark.parametrize("version", ["3.1.1", "5"])
def test_a_refused_subscription_makes_only_its_own_properties_bad(
    tmp_path: Path, version: str
) -> None:
    """The plug-in for dynamic security refuses in the SUBACK; an acl_file does not."""
    plugin = next(Path("/usr/lib").rglob("mosquitto_dynamic_security.so"))
    rules = tmp_path / "rules.json"
    denied = {"acltype": "subscribeLiteral", "topic": "plant/d/b", "priority": 1, "allow": False}
    open_ = {"subscribe": True, "unsubscribe": True, "publishClientSend": True}
    rules.write_text(
        json.dumps(
            {
                "defaultACLAccess": {**open_, "publishClientReceive": True},
                "clients": [],
                "groups": [{"groupname": "all", "roles": [{"rolename": "some"}], "clients": []}],
                "anonymousGroup": "all",
                "roles": [{"rolename": "some", "acls": [denied]}],
            }
        )
    )
    options = [f"plugin {plugin}", f"plugin_opt_config_file {rules}"]
    with Mosquitto(tmp_path / "broker", options=options) as broker, Peer(broker.port) as peer:

        async def body() -> None:
            at = connection(broker.port, version=version)
            points = [a_point(at, name, topic="plant/{device}/{property}") for name in "ab"]
            async with followed(at, *points) as link:
                refused = await link.says("d/b", "the broker does not let us read plant/d/b")
                assert refused.reason is Reason.NOT_READ
                peer.say("plant/d/a", 1)
                await link.shows("d/a", 1)

        asyncio.run(body())


def test_a_broker_that_is_killed_ends_the_link_and_a_new_one_hears_again(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:

        async def body() -> None:
            at = connection(broker.port)
            before = open_files()
            for end in (broker.kill, broker.stop):
                async with followed(at, a_point(at, topic=STATE)) as link:
                    await link.says("d/temp", "no message")
                    say_once(broker.port, "plant/d/state", 1)
                    await link.shows("d/temp", 1)
                    end()
                    await link.until(lambda: link.ended)
                    assert isinstance(link.ended, LinkLost)
                    with pytest.raises(LinkLost):
                        await link.link.read(link.requests[0])
                broker.start()
            assert open_files() == before

        asyncio.run(body())


def test_a_broker_that_falls_silent_is_noticed(tmp_path: Path) -> None:
    async def body(port: int) -> None:
        async with FaultProxy("127.0.0.1", port) as proxy:
            at = connection(proxy.port, keepalive="1s")
            async with followed(at, a_point(at, topic=STATE)) as link:
                await link.says("d/temp", "no message")
                proxy.faults.half_open = True
                await link.until(lambda: link.ended)
                assert "the broker was silent for 1.5 s" in str(link.ended)

    with Mosquitto(tmp_path) as broker:
        asyncio.run(body(broker.port))


def test_an_idle_link_stays_open_for_longer_than_its_keepalive(tmp_path: Path) -> None:
    async def body(port: int) -> None:
        at = connection(port, keepalive="1s")
        async with followed(at, a_point(at, topic=STATE)) as link:
            await link.says("d/temp", "no message")
            answers = link.answers
            await link.until(lambda: link.answers > answers + 7)  # two a second
            assert link.ended is None

    with Mosquitto(tmp_path) as broker:
        asyncio.run(body(broker.port))


def test_a_silent_broker_is_given_up_within_the_timeout(tmp_path: Path) -> None:
    async def body(port: int) -> str:
        async with FaultProxy("127.0.0.1", port) as proxy:
            proxy.faults.half_open = True
            before = open_files()
            said = await refusal(connection(proxy.port, timeout="300ms"))
            proxy.cut()
            for _ in range(100):
                if open_files() <= before:
                    break
                await asyncio.sleep(0.01)
            assert open_files() <= before
            return said

    with Mosquitto(tmp_path) as broker:
        assert "did not answer within 0.3 s" in asyncio.run(body(broker.port))


def test_a_command_that_the_broker_does_not_acknowledge_is_no_response(tmp_path: Path) -> None:
    async def body(port: int) -> None:
        async with FaultProxy("127.0.0.1", port) as proxy:
            at = connection(proxy.port, timeout="300ms", keepalive="10s")
            point = a_point(
                at, topic=STATE, access=Access.READ_WRITE, command={"topic": "plant/d/set"}
            )
            async with followed(at, point) as link:
                await link.says("d/temp", "no message")
                proxy.faults.half_open = True
                with pytest.raises(NoResponse, match="did not acknowledge"):
                    await link.link.write(point, 1.0)

    with Mosquitto(tmp_path) as broker:
        asyncio.run(body(broker.port))


@pytest.mark.parametrize(
    ("version", "answer", "words"),
    [
        ("3.1.1", b"\x20\x02\x00\x01", "not of this version"),
        ("3.1.1", b"\x20\x02\x00\x02", "refuses the client id"),
        ("3.1.1", b"\x20\x02\x00\x03", "not available now"),
        ("3.1.1", b"\x20\x02\x00\x04", "wrong user name or password"),
        ("5", b"\x20\x03\x00\x84\x00", "does not speak this version"),
        ("5", b"\x20\x03\x00\x8a\x00", "banned"),
        ("5", b"\x20\x03\x00\x01\x00", ""),
        ("5", b"\xe0\x02\x8b\x00", "shutting down"),
        ("3.1.1", b"HTTP/1.1 400 Bad Request\r\n\r\n", "no packet begins with 0x48"),
        ("3.1.1", b"", "the broker closed the connection"),
    ],
)
def test_every_refusal_of_a_connection_is_said_in_words(
    version: str, answer: bytes, words: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def body() -> str:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await refusal(connection(port, version=version, timeout="1s"))

    assert words in asyncio.run(body())


def test_garbage_instead_of_mqtt_ends_the_link(tmp_path: Path) -> None:
    async def body(port: int) -> None:
        async with FaultProxy("127.0.0.1", port) as proxy:
            at = connection(proxy.port)
            async with followed(at, a_point(at, topic=STATE)) as link:
                await link.says("d/temp", "no message")
                proxy.inject(b"\x00\x01HTTP/1.1 400 Bad Request\r\n\r\n" * 10)
                await link.until(lambda: link.ended)

    with Mosquitto(tmp_path) as broker:
        asyncio.run(body(broker.port))


def test_another_client_with_the_same_id_is_named_as_the_reason(tmp_path: Path) -> None:
    async def body(port: int) -> None:
        at = connection(port, clientId="one")
        async with followed(at, a_point(at, topic=STATE)) as link:
            await link.says("d/temp", "no message")
            async with driver.open(at):
                await link.until(lambda: link.ended)
            assert "does another client use the client id one?" in str(link.ended)

    with Mosquitto(tmp_path) as broker:
        asyncio.run(body(broker.port))


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


def secured(port: int, **tls: Any) -> MqttConnection:
    files = {name: str(file) for name, file in tls.items()}
    return MqttConnection.model_validate(
        {"url": f"mqtts://127.0.0.1:{port}", "maxAge": "5m", "tls": files}
    )


def test_tls_with_a_client_certificate_carries_large_messages(
    tmp_path: Path, certificates: Certificates
) -> None:
    async def body(port: int) -> None:
        right = secured(
            port, ca=certificates.ca, certificate=certificates.client, key=certificates.client_key
        )
        points = [
            a_point(right, "temp", topic=STATE, pointer="/t"),
            a_point(right, "last", topic=STATE, pointer="/last"),
        ]
        large = {"t": 1.0, "fill": "x" * 200_000, "last": 2.0}
        speaker = Peer(port)
        speaker.client.tls_set(
            str(certificates.ca), str(certificates.client), str(certificates.client_key)
        )
        async with followed(right, *points) as link:
            await link.says("d/temp", "no message")
            with speaker:
                for number in range(20):
                    speaker.say("plant/d/state", {**large, "t": number}, qos=0)
                await link.shows("d/temp", 19)
                await link.shows("d/last", 2)

    with Mosquitto(tmp_path, tls=certificates, client_certificates=True) as broker:
        asyncio.run(body(broker.port))


def test_without_the_right_certificates_tls_is_refused_in_words(
    tmp_path: Path, certificates: Certificates
) -> None:
    with Mosquitto(tmp_path, tls=certificates, client_certificates=True) as broker:
        stranger = secured(broker.port, ca=certificates.stranger_ca)
        assert "certificate verify failed" in asyncio.run(refusal(stranger))
        nobody = secured(broker.port, ca=certificates.ca)
        assert "mqtts://127.0.0.1" in asyncio.run(refusal(nobody))
        missing = secured(broker.port, ca=tmp_path / "none.pem")
        assert "No such file" in asyncio.run(refusal(missing))


def test_a_server_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    other = Certificates.make(tmp_path / "other", server_name="elsewhere.example")
    with Mosquitto(tmp_path / "broker", tls=other) as broker:
        said = asyncio.run(refusal(secured(broker.port, ca=other.ca)))
        assert "127.0.0.1" in said
        assert "certificate verify failed" in said
