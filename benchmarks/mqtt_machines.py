"""Machines that publish JSON at a fixed rate, in a process of their own.

Each message is one machine's five values, all of them changed. SIGUSR1: prints how many messages
were sent.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from types import FrameType

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

PROPERTIES = ("temperature", "pressure", "flow", "speed", "power")


class Machines:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.sent = 0
        self.running = True

    def tell(self, _signal: int, _frame: FrameType | None) -> None:
        print(json.dumps({"sent": self.sent}), flush=True)

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.running = False

    def run(self) -> None:
        client = Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", self.options.port)
        client.loop_start()
        pause = 0.01
        due, owed, count = time.monotonic(), 0.0, 0
        while self.running:
            due += pause
            time.sleep(max(0.0, due - time.monotonic()))
            owed += self.options.rate * pause
            while owed >= 1:
                owed -= 1
                count += 1
                values = {name: round(count * 0.1 + n, 1) for n, name in enumerate(PROPERTIES)}
                topic = f"bench/m{count % self.options.devices}/state"
                client.publish(topic, json.dumps(values))
                self.sent += 1
        client.disconnect()
        client.loop_stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--rate", type=float, default=2000.0, help="messages per second")
    parser.add_argument("port", type=int)
    machines = Machines(parser.parse_args())
    signal.signal(signal.SIGUSR1, machines.tell)
    signal.signal(signal.SIGTERM, machines.stop)
    machines.run()


if __name__ == "__main__":
    main()
