"""One connection to one Modbus endpoint, and everything that a device may answer to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from weakref import WeakSet

from twinbridge.core.model import Point, Quality, Reason, Value
from twinbridge.errors import DeviceBusy, DeviceError, LinkLost, NoResponse, WriteRejected
from twinbridge.ports import Reading, ReadRequest, ReadResult
from twinbridge_modbus import writing
from twinbridge_modbus.answers import Acknowledged, exception_answer
from twinbridge_modbus.codec import BadValue, Refused
from twinbridge_modbus.config import ModbusConnection
from twinbridge_modbus.isolation import isolate
from twinbridge_modbus.plan import Block, Knowledge, bound, plan_blocks
from twinbridge_modbus.reading import ModbusRead, Query, queries, read_pdu
from twinbridge_modbus.wire import Wire

PROBE_AFTER = 60.0
BUSY_RETRIES = 3
BUSY_PAUSE = 0.1
_IDLE = 0.05
_LINE_SETTLES = 0.05
_EXCEPTION = 0x80


class ModbusLink:
    """Fills `twinbridge.ports.Link`.

    After a timeout the socket is replaced before the next request, for a late answer would be
    taken for the next one's. That fails only the unit which was silent (NoResponse); LinkLost is
    raised when the connection ends during a request or cannot be had again.
    """

    def __init__(self, connection: ModbusConnection, endpoint: str) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._wire: Wire | None = None
        self._known = Knowledge()
        self._probe_at: dict[Point, float] = {}
        self._reads: WeakSet[ModbusRead] = WeakSet()
        self._pause = _pause_between(connection)
        self._free_at = 0.0
        self._idle: asyncio.TimerHandle | None = None

    async def connect(self) -> None:
        """Raises LinkLost."""
        self.close()
        wire = Wire(self._connection, self._endpoint)
        try:
            await wire.open()
        except BaseException:
            wire.drop()
            raise
        self._wire = wire
        if self._connection.delay_after_connect:
            await asyncio.sleep(self._connection.delay_after_connect / 1e9)

    def close(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._wire is not None:
            self._wire.drop()
            self._wire = None

    def plan(self, points: Sequence[Point]) -> Sequence[ReadRequest]:
        reads = [ModbusRead(block) for block in plan_blocks(points, self._known)]
        self._reads.update(reads)
        return reads

    async def read(self, request: ReadRequest) -> ReadResult:
        if not isinstance(request, ModbusRead):
            raise TypeError("a link reads what it has planned")
        block = request.block
        if block.unreadable:
            return _all_bad(block, block.unreadable)
        if block.probe:
            return await self._probe(request)
        try:
            return request.confirm(await self._image(request.queries))
        except WriteRejected as refusal:
            found = await self._isolated(block, str(refusal))
            request.forget()
            return found
        except DeviceError as error:
            self._forget(block.unit, error)
            raise

    async def write(self, point: Point, value: Value) -> None:
        """Busy (06) is asked again three times, 100 ms apart, but not for a pulse."""
        retries = 0 if point.spec.pulse else BUSY_RETRIES
        while True:
            try:
                await self._write_once(point, value)
            except Acknowledged:
                return
            except DeviceBusy:
                if not retries:
                    raise
                retries -= 1
                await asyncio.sleep(BUSY_PAUSE)
            else:
                return

    async def identify(self, unit: int) -> dict[str, str]:
        """Vendor, product and revision by function 43/14; raises WriteRejected if it has none."""
        timeout = self._connection.timeout / 1e9
        answer = await self._ask(unit, writing.IDENTIFY, timeout)
        try:
            return writing.identification(answer)
        except ValueError as error:
            raise NoResponse(f"{self._endpoint} unit {unit}: {error}") from error

    async def _image(self, asked: tuple[Query, ...]) -> bytes:
        """The answer of a block and those of its scale factors, joined."""
        image = await self._data(asked[0])
        for query in asked[1:]:
            image += await self._data(query)
        return image

    async def _data(self, query: Query) -> bytes:
        """An answer to a read that has just the bytes that were asked for."""
        answer = await self._ask(query.unit, query.pdu, query.timeout)
        if len(answer) != query.size + 2 or answer[1] != query.size:
            raise self._nonsense(query.unit, f"{len(answer) - 2} bytes instead of {query.size}")
        return answer

    async def _ask(self, unit: int, pdu: bytes, timeout: float) -> bytes:  # noqa: ASYNC109 - each unit has its own
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        wire = self._wire
        if wire is None or not wire.usable:
            wire = await self._replace()
        if self._pause and (left := self._free_at - monotonic()) > 0:
            await asyncio.sleep(left)
        try:
            answer = await wire.exchange(unit, pdu, timeout)
        finally:
            self._rest()
        if answer[0] & _EXCEPTION:
            raise exception_answer(answer[1], f"{self._endpoint} unit {unit}")
        return answer

    async def _replace(self) -> Wire:
        settle = self._connection.serial is not None and self._wire is not None
        await self.connect()
        if settle:
            await asyncio.sleep(_LINE_SETTLES)
        if self._wire is None:
            raise LinkLost(f"{self._endpoint}: closed")
        return self._wire

    def _rest(self) -> None:
        if self._pause:
            self._free_at = monotonic() + self._pause
        if self._connection.close_after_poll:
            self._idle = asyncio.get_running_loop().call_later(_IDLE, self.close)

    def _nonsense(self, unit: int, what: str) -> NoResponse:
        """The stream can't be trusted any more."""
        if self._wire is not None:
            self._wire.tainted = True
        return NoResponse(f"{self._endpoint} unit {unit}: malformed answer: {what}")

    def _forget(self, unit: int, error: DeviceError) -> None:
        for read in self._reads:
            if read.unit == unit or isinstance(error, LinkLost):
                read.forget()

    async def _isolated(self, block: Block, why: str) -> ReadResult:
        async def image(part: Block) -> bytes:
            return await self._image(queries(part))

        try:
            found = await isolate(block, why, image)
        except DeviceError as error:
            self._forget(block.unit, error)
            raise
        self._known.cuts |= found.cuts
        for point, refusal in found.refused.items():
            self._refuse(point, refusal)
        return ReadResult(found.readings, replan=True)

    def _refuse(self, point: Point, why: str) -> None:
        where = bound(point)
        self._probe_at[point] = monotonic() + PROBE_AFTER
        for address in range(where.address, where.end):
            self._known.refused[where.unit, where.table, address] = why

    async def _probe(self, request: ModbusRead) -> ReadResult:
        """A refused point is asked for again once a minute, and is bad until it answers."""
        (point,) = request.points
        where = bound(point)
        places = [(where.unit, where.table, a) for a in range(where.address, where.end)]
        why = next((self._known.refused[p] for p in places if p in self._known.refused), "")
        if why and monotonic() < self._probe_at.get(point, 0.0):
            return _all_bad(request.block, why)
        try:
            image = await self._image(request.queries)
        except WriteRejected as refusal:
            self._refuse(point, str(refusal))
            return _all_bad(request.block, str(refusal))
        for place in places:
            self._known.refused.pop(place, None)
        return ReadResult(request.confirm(image).readings, replan=True)

    async def _write_once(self, point: Point, value: Value) -> None:
        where = bound(point)
        where_to = f"{self._endpoint} unit {where.unit}"
        try:
            masks = where.codec.masks
            if masks is not None and where.limits.mask_write:
                request = writing.mask_write(where.address, *masks(value))
            else:
                current = await self._current(point) if where.codec.partial else b""
                power = await self._power(point)
                request = writing.write(where, where.codec.encode(value, power, current))
        except (Refused, BadValue) as error:
            raise WriteRejected(f"{point.ref}: {error}") from error
        answer = await self._ask(where.unit, request, where.limits.timeout)
        if not writing.acknowledges(request, answer):
            raise self._nonsense(where.unit, f"write to {where_to} is not acknowledged as sent")

    async def _current(self, point: Point) -> bytes:
        where = bound(point)
        pdu = read_pdu(where.table, where.address, where.count)
        query = Query(where.unit, pdu, 2 * where.count, where.limits.timeout)
        return (await self._data(query))[2:]

    async def _power(self, point: Point) -> int:
        where = bound(point)
        if where.factor is None:
            return 0
        query = Query(where.unit, read_pdu(*where.factor, 1), 2, where.limits.timeout)
        return int.from_bytes((await self._data(query))[2:], "big", signed=True)


def _all_bad(block: Block, why: str) -> ReadResult:
    return ReadResult([Reading(p, None, Quality.BAD, Reason.NOT_READ, why) for p in block.points])


def _pause_between(connection: ModbusConnection) -> float:
    """Seconds; on a serial line at least 3.5 characters, 1.75 ms above 19200 baud."""
    asked = connection.inter_request_delay / 1e9
    if connection.serial is None:
        return asked
    return max(asked, 0.00175, 3.5 * 11 / connection.serial.baudrate)


@asynccontextmanager
async def open_link(connection: ModbusConnection, endpoint: str) -> AsyncIterator[ModbusLink]:
    """Raises LinkLost when the endpoint cannot be reached in time."""
    link = ModbusLink(connection, endpoint)
    await link.connect()
    try:
        yield link
    finally:
        link.close()
