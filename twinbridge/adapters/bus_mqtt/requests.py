"""The driver's side of requests: each is done once, however often it comes, and answered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import structlog

from twinbridge.adapters.bus_mqtt.encoding import Answer, Asked, Malformed, decode_asked
from twinbridge.adapters.bus_mqtt.metrics import REFUSED, REPEATED
from twinbridge.adapters.state_sqlite import boot_id
from twinbridge.core.messages import Desire, Request
from twinbridge.errors import TwinBridgeError

log = structlog.get_logger()

REMEMBERED = 4096
"""Requests of which the answer is kept, for one that comes again."""
QUEUE_LIMIT = 1000

Ask = Callable[[Request], Awaitable[None]]


class Requests:
    """`ask` hands a request to the machines; `answer` says what became of it.

    Desired values and the rest wait in lines of their own: a disk that is slow to keep an
    acknowledgement delays no write.
    """

    def __init__(
        self, owner: str, ask: Ask, answer: Callable[[str, Answer], Awaitable[None]]
    ) -> None:
        self._owner = owner
        self._ask = ask
        self._answer = answer
        self._agent = ""
        self._newest = 0
        self._answers: OrderedDict[int, Answer | None] = OrderedDict()
        self._desires: asyncio.Queue[Asked] = asyncio.Queue(QUEUE_LIMIT)
        self._others: asyncio.Queue[Asked] = asyncio.Queue(QUEUE_LIMIT)
        self._again: asyncio.Queue[tuple[str, Answer]] = asyncio.Queue(QUEUE_LIMIT)
        self._system = boot_id()

    def expect(self, boot: str) -> None:
        """From this start of the agent alone requests are taken."""
        if boot != self._agent:
            self._agent = boot
            self._newest = 0
            self._answers.clear()

    def heard(self, payload: bytes, *, retained: bool) -> None:
        """A message on the topic of requests, whoever it comes from."""
        if retained:
            REFUSED.labels("retained request").inc()
            return
        try:
            asked = decode_asked(payload)
        except Malformed as error:
            REFUSED.labels("malformed request").inc()
            log.debug("a request cannot be read", why=str(error))
            return
        if asked.boot != self._agent or asked.number <= self._newest - REMEMBERED:
            REFUSED.labels("replayed request").inc()
        elif asked.number in self._answers:
            self._repeat(asked)
        else:
            self._enqueue(asked)

    def _repeat(self, asked: Asked) -> None:
        REPEATED.labels("request").inc()
        answer = self._answers[asked.number]
        if answer is not None and not self._again.full():
            self._again.put_nowait((asked.agent, answer))

    def _enqueue(self, asked: Asked) -> None:
        queue = self._desires if isinstance(asked.request, Desire) else self._others
        if queue.full():  # it is asked again
            REFUSED.labels("too many requests").inc()
            return
        self._newest = max(self._newest, asked.number)
        self._answers[asked.number] = None
        if len(self._answers) > REMEMBERED:
            self._answers.popitem(last=False)
        queue.put_nowait(asked)

    async def run(self) -> None:
        """Until cancelled; what waits stays for the next run."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._work(self._desires), name="desired values")
            tasks.create_task(self._work(self._others), name="requests")
            tasks.create_task(self._answer_again(), name="repeated answers")

    async def _work(self, queue: asyncio.Queue[Asked]) -> None:
        while True:
            asked = await queue.get()
            answer = Answer(asked.number, self._owner, await self._done(asked))
            if asked.boot == self._agent:
                self._answers[asked.number] = answer
            await self._answer(asked.agent, answer)

    async def _answer_again(self) -> None:
        while True:
            agent, answer = await self._again.get()
            await self._answer(agent, answer)

    async def _done(self, asked: Asked) -> TwinBridgeError | None:
        request = asked.request
        if isinstance(request, Desire) and asked.system != self._system:
            request = request._replace(accepted_mono=0)  # another machine's clock
        try:
            await self._ask(request)
        except TwinBridgeError as error:
            return error
        except (TypeError, ValueError, AttributeError) as error:
            # Its parts are of types that no request of ours has.
            REFUSED.labels("malformed request").inc()
            return TwinBridgeError(f"the request cannot be done: {error}")
        return None
