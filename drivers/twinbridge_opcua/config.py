"""What a Device says of its OPC UA server and a property of its node.

These models become part of the CRDs; their field descriptions are the reference a user reads.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from twinbridge.api.base import Scalar
from twinbridge.api.durations import Duration
from twinbridge_opcua.nodes import parse_node, parse_path

Policy: TypeAlias = Literal["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"]
Mode: TypeAlias = Literal["Sign", "SignAndEncrypt"]
DEFAULT_PORT = 4840
VALUE = "$value"
"""Among the arguments of a method: the value that is written."""


class _Model(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
    )


def _node_id(text: object) -> object:
    if isinstance(text, str):
        parse_node(text)
    return text


NodeName: TypeAlias = Annotated[str, BeforeValidator(_node_id)]


class Security(_Model):
    """How messages are protected."""

    policy: Policy = Field(description="The security policy of the server's endpoint.")
    mode: Mode = Field(
        default="SignAndEncrypt", description="Sign, or SignAndEncrypt (no one can listen)."
    )


class User(_Model):
    """A user by name and password."""

    name: str = Field(min_length=1, description="The user's name.")
    password_file: str = Field(min_length=1, description="A file that holds the password.")


class UserCertificate(_Model):
    """A user by an X.509 certificate."""

    certificate: str = Field(min_length=1, description="The user's certificate, PEM or DER file.")
    key: str = Field(min_length=1, description="Its private key, PEM file.")


class OpcUaConnection(_Model):
    """How an OPC UA server is reached, and what it bears."""

    url: str = Field(description="opc.tcp://HOST[:PORT][/PATH] of the server; the port is 4840.")
    security: Security | None = Field(
        default=None, description="Policy and mode; without it allowInsecure must be true."
    )
    allow_insecure: bool = Field(
        default=False, description="Speak to the server unprotected; anyone can listen and write."
    )
    user: User | None = Field(default=None, description="A user name; anonymous without it.")
    user_certificate: UserCertificate | None = Field(
        default=None, description="A user's certificate, in place of user."
    )
    pki: str | None = Field(
        default=None,
        min_length=1,
        description="Folder of certificates (own, trusted, rejected); beside the state if absent.",
    )
    mode: Literal["subscribe", "poll"] = Field(
        default="subscribe", description="Let the server tell changes, or ask for every value."
    )
    timeout: Duration = Field(
        default="2s", validate_default=True, gt=0, description="How long a request may take."
    )
    session_timeout: Duration = Field(
        default="60s", validate_default=True, gt=0, description="Asked of the server."
    )
    publishing_interval: Duration = Field(
        default="1s",
        validate_default=True,
        gt=0,
        description="How often changes are told; inputs of trips at their own interval.",
    )
    queue_size: int = Field(
        default=10, ge=1, le=10_000, description="Changes kept per node between two publications."
    )
    max_per_call: int = Field(
        default=100, ge=1, le=10_000, description="Nodes per request, if the server says no limit."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        parts = urlsplit(self.url)
        try:
            reachable = parts.scheme == "opc.tcp" and parts.hostname and parts.port != 0
        except ValueError:
            reachable = False
        if not reachable:
            raise ValueError(f"url: {self.url!r} is no address such as opc.tcp://10.0.0.5:4840")
        if parts.username is not None or parts.password is not None:
            raise ValueError("url: give a user in user, with its password in a file")
        if self.security is None and not self.allow_insecure:
            raise ValueError("give security: {policy: …}, or say allowInsecure: true")
        if self.user is not None and self.user_certificate is not None:
            raise ValueError("give user or userCertificate, not both")
        if self.security is None and (self.user is not None or self.user_certificate is not None):
            raise ValueError("a password or key is never sent unprotected: a user needs security")
        return self

    @property
    def where(self) -> str:
        """`host:port/path` of the server."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{parts.port or DEFAULT_PORT}{parts.path.rstrip('/')}"


class Deadband(_Model):
    """Which changes the server need not tell."""

    absolute: float | None = Field(default=None, gt=0, description="In the unit of the node.")
    percent: float | None = Field(
        default=None, gt=0, le=100, description="Of the node's EURange; analog items only."
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.absolute is None) == (self.percent is None):
            raise ValueError("give exactly one of absolute and percent")
        return self


class Method(_Model):
    """A method that is called when the property is written."""

    object: NodeName = Field(description="The object that has the method, nsu=URI;s=NAME.")
    method: NodeName = Field(description="The method, nsu=URI;s=NAME.")
    arguments: list[Scalar] = Field(
        default_factory=list,
        max_length=16,
        description=f'Its arguments in order; "{VALUE}" stands for the value that is written.',
    )


def _integer_keys(labels: object) -> object:
    """JSON has only string keys, YAML has integers: both name the same value."""
    if not isinstance(labels, dict):
        return labels
    return {
        int(k) if isinstance(k, str) and k.lstrip("-").isdecimal() else k: v
        for k, v in labels.items()
    }


_LABELS: dict[str, JsonValue] = {"type": "object", "additionalProperties": {"type": "string"}}
Labels: TypeAlias = Annotated[
    dict[int, str], BeforeValidator(_integer_keys), WithJsonSchema(_LABELS)
]


class OpcUaAddress(_Model):
    """Which node of the server a property is, or which method writes it."""

    node: NodeName | None = Field(
        default=None,
        description='Node id by namespace: "nsu=http://acme.com/boiler;s=Temperature".',
    )
    path: str | None = Field(
        default=None, description='Browse path from Objects, instead of node: "Boiler/Temperature".'
    )
    namespace: str | None = Field(
        default=None, min_length=1, description="Namespace URI of the names in path."
    )
    index: int | None = Field(default=None, ge=0, description="Element of an array, from 0.")
    sampling_interval: Duration | None = Field(
        default=None, gt=0, description="How often the server looks; the interval if absent."
    )
    deadband: Deadband | None = Field(
        default=None, description="Which changes the server need not tell."
    )
    scale: float | None = Field(default=None, description="value = node * scale + offset; not 0.")
    offset: float = Field(default=0.0, description="Added after scaling.")
    labels: Labels | None = Field(
        default=None, description="Names of numbers, for a string property: {0: stopped}."
    )
    method: Method | None = Field(
        default=None, description="Called to write the property; for WriteOnly or pulse."
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.node is not None and self.path is not None:
            raise ValueError("give node or path, not both")
        if self.node is None and self.path is None and self.method is None:
            raise ValueError("give node, path or method")
        if (self.path is None) != (self.namespace is None):
            raise ValueError("path and namespace belong together: the URI that its names are in")
        if self.path is not None:
            parse_path(self.path)
        if self.scale == 0:
            raise ValueError("scale must not be 0")
        return self
