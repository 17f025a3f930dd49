"""The plain MQTT face: one connection after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from time import monotonic

from typing_extensions import override

from twinbridge.adapters.scada_mqtt.commands import CommandDesk
from twinbridge.adapters.scada_mqtt.history import Outage, Outages
from twinbridge.adapters.scada_mqtt.leftovers import Retained
from twinbridge.adapters.scada_mqtt.metrics import CONNECTIONS
from twinbridge.adapters.scada_mqtt.service import OFFLINE, Service
from twinbridge.adapters.scada_mqtt.topics import Layout, Topics
from twinbridge.api.broker import Will, parse_url
from twinbridge.api.scada import PlainMqtt
from twinbridge.core.model import SECOND
from twinbridge.mqtt.connection import Connection, Message, connected, stay_connected
from twinbridge.ports import Face, Twins


class PlainFace(Face):
    """Twins, alarms and commands on MQTT topics, as `docs/reference/scada-mqtt.md` says."""

    name = "mqtt"

    def __init__(self, options: PlainMqtt, twins: Twins) -> None:
        self._options = options
        self._twins = twins
        self._topics = Topics(options, twins.node)
        broker = parse_url(options.broker)
        self._broker = replace(broker, called=f"{broker.endpoint} (plain MQTT)")
        self._desk = CommandDesk(self._topics, twins, broker.endpoint, monotonic)
        self._outages = Outages()
        self._shown_until = 0
        """UTC ns until when the broker was told everything."""
        self._service: Service | None = None
        self._layout = Layout()

    @property
    @override
    def connected(self) -> bool:
        return self._service is not None and self._service.online

    @property
    def problems(self) -> Mapping[str, str]:
        """What is not shown (`device`, `device/property`), and why."""
        return (self._service.shown.layout if self._service else self._layout).problems

    @override
    async def run(self) -> None:
        self._shown_until = self._twins.now()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._desk.run(), name="mqtt face commands")
            tasks.create_task(stay_connected("mqtt face", self._serve), name="mqtt face")

    async def _serve(self) -> None:
        """Connect, and serve until the broker is lost. Raises Unreachable."""
        retained = Retained(self._topics.prefix)

        def hear(message: Message) -> None:
            if retained.listening:
                retained.hear(message)
            elif self._service is not None and self._service.listening:
                self._desk.hear(message)

        will = Will(self._topics.status, OFFLINE, qos=1, retain=True)
        async with connected(self._broker, hear, will) as connection:
            CONNECTIONS.inc()
            await retained.collect(connection)
            service = Service(self._options, self._topics, self._twins, connection, self._layout)
            with self._serving(service, connection):
                try:
                    await service.run(retained.found, self._outages)
                finally:
                    await service.say_good_bye()

    @contextmanager
    def _serving(self, service: Service, connection: Connection) -> Iterator[None]:
        began = self._twins.now()
        self._outages.add(Outage(self._shown_until, began))
        self._service = service
        self._desk.open(service.outlet, lambda: service.shown.layout)
        try:
            yield
        finally:
            self._service = None
            self._layout = service.shown.layout
            self._desk.close()
            # An answer says that what was sent a keep-alive before it has come to the broker; what
            # was sent since then may never have.
            doubtful = round(connection.silence * SECOND) + self._broker.keepalive
            self._shown_until = max(began, self._twins.now() - doubtful)
