"""The face: one connection to the broker at a time, and what outlives it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from twinbridge.adapters.scada_kubeedge.answers import Answers
from twinbridge.adapters.scada_kubeedge.inbox import Inbox
from twinbridge.adapters.scada_kubeedge.journal import Journal
from twinbridge.adapters.scada_kubeedge.outlet import Outlet
from twinbridge.adapters.scada_kubeedge.presenter import Presenter
from twinbridge.adapters.scada_kubeedge.topics import Topics
from twinbridge.api.broker import parse_url
from twinbridge.api.scada import KubeEdgeTopics
from twinbridge.mqtt.connection import connected, stay_connected
from twinbridge.ports import Actor, Twins

GOOD_BYE = 0.5
"""Seconds that the last record of the journal may take on a stop."""


class KubeEdgeFace:
    """Fills `twinbridge.ports.Face`: does what KubeEdge's EventBus and DeviceTwin do over MQTT."""

    name = "kubeedge"

    def __init__(self, options: KubeEdgeTopics, twins: Twins) -> None:
        self._broker = parse_url(options.broker)
        self._topics = Topics(twins.node, namespaced=options.device_ids == "NamespaceAndName")
        self._out = Outlet()
        self._presenter = Presenter(twins, self._topics, self._out)
        actor = Actor(self.name, "mqtt", self._broker.endpoint)
        self._journal = Journal(twins, actor)
        self._inbox = Inbox(twins, self._topics, self._journal)
        self._answers = Answers(
            twins,
            self._topics,
            actor,
            self._inbox,
            self._out,
            self._presenter,
            self._journal,
            take_updates=options.commands == "Allow",
        )

    @property
    def connected(self) -> bool:
        return self._out.open

    async def run(self) -> None:
        """Serve until cancelled.

        A lost broker ends no request that is being answered: what is half accepted is finished.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._journal.run(), name="kubeedge journal")
                tasks.create_task(self._answers.run(), name="kubeedge answers")
                tasks.create_task(stay_connected(self.name, self._serve), name="kubeedge")
        finally:
            with suppress(TimeoutError):
                async with asyncio.timeout(GOOD_BYE):
                    await self._journal.write()

    async def _serve(self) -> None:
        async with connected(self._broker, self._inbox.take) as connection:
            await connection.subscribe(*self._topics.filters, commands=True)
            self._presenter.begin()
            with self._out.through(connection):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(connection.until_lost(), name="kubeedge broker")
                    tasks.create_task(self._presenter.follow(), name="kubeedge changes")
                    tasks.create_task(self._presenter.tell(), name="kubeedge documents")
