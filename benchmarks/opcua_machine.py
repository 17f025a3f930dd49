"""A server of OPC UA variables that all change at a fixed rate, in a process of its own.

Prints `{"url": …}` when it serves. SIGUSR1: prints how many values it has changed so far, and how
many rounds began late by more than a tenth of their interval.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
from contextlib import suppress
from datetime import UTC

import uvloop
from asyncua import ua
from asyncua.server.server import Server

NAMESPACE = "urn:twinbridge:benchmark"


class Machine:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.changed = 0
        self.late = 0

    async def run(self) -> None:
        """Until SIGTERM."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
        loop.add_signal_handler(signal.SIGUSR1, self.tell)
        server = Server()
        await server.init()
        url = f"opc.tcp://127.0.0.1:{self.options.port}/bench/"
        server.set_endpoint(url)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        nodes = await self.variables(server)
        with suppress(asyncio.CancelledError):
            async with server:
                print(json.dumps({"url": url, "namespace": NAMESPACE}), flush=True)
                await self.change(server, nodes)

    async def variables(self, server: Server) -> list[ua.NodeId]:
        index = await server.register_namespace(NAMESPACE)
        folder = await server.nodes.objects.add_folder(index, "bench")
        nodes = []
        for number in range(self.options.items):
            node = ua.NodeId.from_string(f"ns={index};s=v{number}")
            await folder.add_variable(node, f"v{number}", 0.0)
            nodes.append(node)
        return nodes

    async def change(self, server: Server, nodes: list[ua.NodeId]) -> None:
        loop = asyncio.get_running_loop()
        interval = 1 / self.options.rate
        due = loop.time()
        count = 0.0
        while True:
            due += interval
            await asyncio.sleep(max(0.0, due - loop.time()))
            if loop.time() - due > interval / 10:
                self.late += 1
                due = max(due, loop.time() - interval)
            count += 1.0
            now = ua.DateTime.now(UTC)
            for number, node in enumerate(nodes):
                value = ua.DataValue(
                    ua.Variant(count + number, ua.VariantType.Double), SourceTimestamp=now
                )
                await server.write_attribute_value(node, value)
            self.changed += len(nodes)

    def tell(self) -> None:
        print(json.dumps({"changed": self.changed, "late": self.late}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=10.0, help="changes per second and item")
    parser.add_argument("port", type=int)
    logging.disable(logging.WARNING)
    uvloop.run(Machine(parser.parse_args()).run())


if __name__ == "__main__":
    main()
