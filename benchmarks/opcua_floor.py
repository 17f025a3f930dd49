"""What an OPC UA subscription costs at least: a bare asyncua client that counts what it is told.

SIGUSR1: prints how many changes it has seen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
from contextlib import suppress

import uvloop
from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.node import Node
from asyncua.common.subscription import DataChangeNotif


class Counter:
    def __init__(self) -> None:
        self.samples = 0

    def datachange_notification(self, _node: Node, _value: object, _data: DataChangeNotif) -> None:
        self.samples += 1

    def tell(self) -> None:
        print(json.dumps({"samples": self.samples}), flush=True)


async def run(options: argparse.Namespace) -> None:
    """Until SIGTERM."""
    counter = Counter()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    loop.add_signal_handler(signal.SIGUSR1, counter.tell)
    with suppress(asyncio.CancelledError):
        async with Client(options.url) as client:
            index = await client.get_namespace_index(options.namespace)
            nodes = [
                client.get_node(ua.NodeId.from_string(f"ns={index};s=v{n}"))
                for n in range(options.items)
            ]
            subscription = await client.create_subscription(options.publishing, counter)
            await subscription.subscribe_data_change(
                nodes, queuesize=options.queue, sampling_interval=options.sampling
            )
            await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--publishing", type=float, default=1000, help="milliseconds")
    parser.add_argument("--sampling", type=float, default=100, help="milliseconds")
    parser.add_argument("--queue", type=int, default=20, help="values per item")
    parser.add_argument("url")
    parser.add_argument("namespace")
    logging.disable(logging.WARNING)
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
