"""The broker of the manifests, with its own files: its users speak on the bus, others nowhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

from edge_process import free_port, until

FILES = Path(__file__).parents[3] / "manifests" / "components" / "mosquitto"
TOPIC = "twinbridge/bus/v1/edge-1/agent"


def settled(folder: Path, port: int) -> Path:
    """The configuration of the manifests, its files and port moved to the test's own."""
    users = folder / "users"
    users.touch(mode=0o600)
    for user in ("agent", "driver", "stranger"):
        command = ["mosquitto_passwd", "-b", str(users), user, f"of-{user}"]
        subprocess.run(command, check=True, timeout=20, capture_output=True)
    acl = folder / "bus.acl"
    acl.write_text((FILES / "bus.acl").read_text("utf-8"))
    acl.chmod(0o600)
    text = (FILES / "mosquitto.conf").read_text("utf-8")
    for there, here in (
        ("listener 1883", f"listener {port} 127.0.0.1"),
        ("/etc/mosquitto-users/users", str(users)),
        ("/mosquitto/config/bus.acl", str(acl)),
    ):
        assert there in text
        text = text.replace(there, here)
    path = folder / "mosquitto.conf"
    path.write_text(f"{text}user root\n")  # or it gives up rights, and reads no file of the test's
    return path


def client(kind: str, port: int, *more: str) -> subprocess.CompletedProcess[str]:
    command = [f"mosquitto_{kind}", "-h", "127.0.0.1", "-p", str(port), "-V", "mqttv5", *more]
    return subprocess.run(command, check=False, timeout=20, capture_output=True, text=True)


def say(port: int, user: str, password: str) -> int:
    told = client(
        "pub", port, "-u", user, "-P", password, "-q", "1", "-r", "-t", TOPIC, "-m", "online"
    )
    return told.returncode if "Not authorized" not in told.stderr + told.stdout else -1


def test_only_the_bus_own_users_are_heard(tmp_path: Path) -> None:
    port = free_port()
    broker = subprocess.Popen(
        ["/usr/sbin/mosquitto", "-c", str(settled(tmp_path, port))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: say(port, "agent", "of-agent") == 0, "the broker")
        heard = client(
            "sub", port, "-u", "driver", "-P", "of-driver", "-C", "1", "-W", "10", "-t", TOPIC
        )
        assert heard.stdout.strip() == "online"
        assert say(port, "stranger", "of-stranger") != 0
        assert say(port, "agent", "of-driver") != 0
        assert client("pub", port, "-q", "1", "-t", TOPIC, "-m", "x").returncode != 0
    finally:
        broker.terminate()
        broker.wait(10)
