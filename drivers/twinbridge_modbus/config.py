"""What a Device says of its Modbus connection and a property of its Modbus address.

These models become part of the CRDs; their field descriptions are the reference a user reads.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from twinbridge.api.durations import Duration

Table: TypeAlias = Literal["coil", "discrete", "input", "holding"]
Transport: TypeAlias = Literal["tcp", "rtuOverTcp", "udp", "tls", "serial"]
Encoding: TypeAlias = Literal[
    "bool",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
    "string",
    "bcd16",
    "bcd32",
    "unixtime",
]
Order: TypeAlias = Literal["ABCD", "CDAB", "BADC", "DCBA"]
Register: TypeAlias = Annotated[int, Field(ge=0, le=65535)]

_REFERENCE = re.compile(r"([0134])(\d{4,5})")
_REFERENCE_TABLES: dict[str, Table] = {
    "0": "coil",
    "1": "discrete",
    "3": "input",
    "4": "holding",
}
_HIGHEST_REFERENCE = 65536


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="forbid",
        strict=True,
        frozen=True,
    )


class SerialLine(_Model):
    """A serial line that speaks Modbus RTU."""

    device: str = Field(min_length=1, description="The serial device, e.g. /dev/ttyUSB0.")
    baudrate: int = Field(default=9600, ge=300, le=4_000_000, description="Bits per second.")
    parity: Literal["even", "odd", "none"] = Field(
        default="even", description="Parity; with none the standard asks for two stop bits."
    )
    stopbits: Literal[1, 2] = Field(default=1, description="Stop bits.")
    echo: bool = Field(
        default=False, description="The adapter sends back what it transmits; it is skipped."
    )
    rs485: bool = Field(
        default=False, description="Let the kernel switch the direction of an RS-485 line by RTS."
    )


class TlsOptions(_Model):
    """Modbus/TCP Security: TLS with, where the device asks for it, a client certificate."""

    ca: str = Field(min_length=1, description="PEM file of the authorities that are trusted.")
    cert: str | None = Field(default=None, description="PEM file of the client's certificate.")
    key: str | None = Field(default=None, description="PEM file of the client's private key.")
    server_name: str | None = Field(
        default=None, description="The name in the server's certificate, if it is not the host."
    )

    @model_validator(mode="after")
    def _certificate_and_key(self) -> TlsOptions:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key belong together: give both or neither")
        return self


class AddressRange(_Model):
    """Addresses that only a property of its own may read."""

    table: Table = Field(description="The table that the range is in.")
    address: Register = Field(description="First address, zero-based as on the wire.")
    count: int = Field(default=1, ge=1, le=65536, description="How many addresses.")


class ModbusConnection(_Model):
    """How a device is reached over Modbus, and what it bears."""

    transport: Transport = Field(default="tcp", description="How Modbus frames are carried.")
    host: str | None = Field(
        default=None, min_length=1, description="Host name or IP address; for all but serial."
    )
    port: int | None = Field(
        default=None, ge=1, le=65535, description="Port; 502, or 802 with tls, if left out."
    )
    serial: SerialLine | None = Field(default=None, description="The line, for transport serial.")
    tls: TlsOptions | None = Field(default=None, description="Certificates, for transport tls.")
    unit: int = Field(default=1, ge=0, le=255, description="Unit id (slave address).")
    timeout: Duration = Field(
        default="1s",
        validate_default=True,
        gt=0,
        description="How long to wait for a connection or an answer, e.g. 500ms.",
    )
    max_connections: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Connections to the endpoint; its units are shared out among them.",
    )
    close_after_poll: bool = Field(
        default=False, description="Close when idle, for devices that serve a single client."
    )
    delay_after_connect: Duration = Field(
        default="0s",
        validate_default=True,
        description="Pause between connecting and the first request.",
    )
    inter_request_delay: Duration = Field(
        default="0s",
        validate_default=True,
        description="Shortest pause between an answer and the next request.",
    )
    max_block: int = Field(default=125, ge=1, le=125, description="Most registers per read.")
    max_bits: int = Field(default=2000, ge=1, le=2000, description="Most bits per read.")
    max_gap: int = Field(
        default=8,
        ge=0,
        le=124,
        description="Unused registers that may be read to join two properties; 0 joins none.",
    )
    read_sensitive: list[AddressRange] = Field(
        default_factory=list,
        description="Addresses that a read changes; never read merely to close a gap.",
    )
    mask_write: bool = Field(
        default=False,
        description="The device has function 22 (mask write); else bits are read and rewritten.",
    )

    @model_validator(mode="after")
    def _transport_has_its_parts(self) -> ModbusConnection:
        if self.transport == "serial":
            if self.serial is None:
                raise ValueError("transport serial needs serial: {device: …}")
            if self.host is not None or self.port is not None:
                raise ValueError("transport serial takes no host or port")
            if self.max_connections != 1:
                raise ValueError("a serial line has one connection: maxConnections must be 1")
        else:
            if self.host is None:
                raise ValueError(f"transport {self.transport} needs a host")
            if self.serial is not None:
                raise ValueError(f"serial is for transport serial, not {self.transport}")
        if self.tls is not None and self.transport != "tls":
            raise ValueError(f"tls is for transport tls, not {self.transport}")
        if self.transport == "tls" and self.tls is None:
            raise ValueError("transport tls needs tls: {ca: …}")
        return self

    @property
    def effective_port(self) -> int:
        return self.port or (802 if self.transport == "tls" else 502)


class BitField(_Model):
    """Neighbouring bits of a register that hold one number."""

    low: int = Field(alias="from", ge=0, le=63, description="Lowest bit; bit 0 is the least.")
    high: int = Field(alias="to", ge=0, le=63, description="Highest bit, itself included.")

    @model_validator(mode="after")
    def _ordered(self) -> BitField:
        if self.high < self.low:
            raise ValueError(f"from ({self.low}) must not be above to ({self.high})")
        return self


class ScaleFactor(_Model):
    """A signed register n: the value is multiplied by ten to the power n (SunSpec)."""

    table: Literal["input", "holding"] | None = Field(
        default=None, description="Its table, if it is not that of the property."
    )
    address: Register = Field(description="Its address, zero-based as on the wire.")


def _integer_keys(labels: object) -> object:
    """JSON has only string keys, YAML has integers: both name the same raw value."""
    if not isinstance(labels, dict):
        return labels
    return {
        int(key) if isinstance(key, str) and re.fullmatch(r"-?\d+", key) else key: text
        for key, text in labels.items()
    }


Labels: TypeAlias = Annotated[
    dict[int, str],
    BeforeValidator(_integer_keys),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "string"}}),
]


class ModbusAddress(_Model):
    """Where a property lives in the device's tables, and how its bits become a value."""

    table: Table | None = Field(
        default=None, description="coil, discrete (input), input (register), holding (register)."
    )
    address: Register | None = Field(
        default=None, description="Zero-based, as on the wire; not the 4xxxx notation."
    )
    reference: str | None = Field(
        default=None,
        pattern=r"^[0134][0-9]{4,5}$",
        description='One-based by convention, instead of table and address: "40001" or "400001".',
    )
    encoding: Encoding | None = Field(
        default=None,
        description="How the bits become a value; may be left out for coils, bits and fields.",
    )
    word_order: Literal["big", "little"] | None = Field(
        default=None, description="Which register comes first; instead of order."
    )
    byte_order: Literal["big", "little"] | None = Field(
        default=None, description="Which byte of a register comes first; instead of order."
    )
    order: Order | None = Field(
        default=None,
        description="Byte order of 32 bits (64 alike): ABCD (default), CDAB, BADC or DCBA.",
    )
    length: int | None = Field(
        default=None, ge=1, le=125, description="Registers of a string, two characters each."
    )
    trim: bool = Field(
        default=True, description="Cut a string at its first NUL and drop blanks at its end."
    )
    bit: int | None = Field(
        default=None, ge=0, le=63, description="One bit as a bool; bit 0 is the least."
    )
    field: BitField | None = Field(default=None, description="Neighbouring bits as a number.")
    scale: float | None = Field(default=None, description="value = raw * scale + offset; not zero.")
    offset: float = Field(default=0.0, description="Added after scaling.")
    scale_factor: ScaleFactor | None = Field(
        default=None, description="A register that holds a further power of ten."
    )
    labels: Labels | None = Field(
        default=None, description="Names of raw values, for a string property: {0: stopped}."
    )
    invalid_values: list[int | float] = Field(
        default_factory=list,
        description="Raw values that mean 'not available', e.g. 0x8000; NaN always does.",
        json_schema_extra={"items": {"type": "number"}},
    )
    clamp: bool = Field(
        default=False, description="Hold what is read within the property's minimum and maximum."
    )
    atomic_group: str | None = Field(
        default=None,
        min_length=1,
        description="Properties of the device with the same group are read in one request.",
    )
    write_function: Literal["single", "multiple", "readWrite"] | None = Field(
        default=None,
        description="Function 5/6 (single), 15/16 (multiple) or 23 (readWrite), if only one works.",
    )

    @model_validator(mode="after")
    def _one_place(self) -> ModbusAddress:
        if (self.address is None) == (self.reference is None):
            raise ValueError("give exactly one of address (with table) and reference")
        if self.address is not None and self.table is None:
            raise ValueError("address needs a table: coil, discrete, input or holding")
        if self.reference is not None:
            table, address = parse_reference(self.reference)
            if self.table not in (None, table):
                raise ValueError(f"reference {self.reference} is in table {table}")
            if not 0 <= address < _HIGHEST_REFERENCE:
                raise ValueError(f"reference {self.reference} is outside 1 to 65536 of {table}")
        if self.order is not None and (self.word_order or self.byte_order):
            raise ValueError("give order, or wordOrder and byteOrder, not both")
        return self

    @property
    def place(self) -> tuple[Table, int]:
        """Table and zero-based wire address."""
        if self.reference is not None:
            return parse_reference(self.reference)
        if self.table is None or self.address is None:
            raise ValueError("an address has a table and an address")
        return self.table, self.address

    @property
    def effective_order(self) -> Order:
        if self.order is not None:
            return self.order
        swapped = (self.word_order == "little", self.byte_order == "little")
        orders: dict[tuple[bool, bool], Order] = {
            (False, False): "ABCD",
            (True, False): "CDAB",
            (False, True): "BADC",
            (True, True): "DCBA",
        }
        return orders[swapped]


def parse_reference(reference: str) -> tuple[Table, int]:
    """`40001` or `400001` → ('holding', 0). Raises ValueError for anything else."""
    matched = _REFERENCE.fullmatch(reference)
    if matched is None:
        raise ValueError(f"{reference!r} is no reference such as 40001 or 400001")
    return _REFERENCE_TABLES[matched[1]], int(matched[2]) - 1
