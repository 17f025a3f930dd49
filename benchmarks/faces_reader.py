"""A SCADA client that counts what is told it: messages, and values in `changes`.

SIGUSR1: prints how many it has seen.
"""

from __future__ import annotations

import argparse
import json
import signal
from types import FrameType

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion


class Reader:
    def __init__(self) -> None:
        self.messages = 0
        self.values = 0

    def on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self.messages += 1
        self.values += message.payload.count(b'"value"')

    def tell(self, _signal: int, _frame: FrameType | None) -> None:
        print(json.dumps({"messages": self.messages, "values": self.values}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    reader = Reader()
    client = Client(CallbackAPIVersion.VERSION2)
    client.on_message = reader.on_message
    client.connect("127.0.0.1", parser.parse_args().port)
    client.subscribe("twinbridge/v1/+/+/changes")
    signal.signal(signal.SIGUSR1, reader.tell)
    signal.signal(signal.SIGTERM, lambda *_: client.disconnect())
    client.loop_forever()


if __name__ == "__main__":
    main()
