import asyncio
import os
from pathlib import Path

import httpx
import pytest
from agent_rig import overheat, running_api, trip_alarm, until

from twinbridge.errors import InvalidInput
from twinbridge.rest.tokens import Tokens

LINES = """
# who may what
viewer-token-123456 viewer Vera
operator-token-1234 operator Otto of the night shift
admin-token-1234567 admin Ada
"""
VERA, OTTO, ADA = ("viewer-token-123456", "operator-token-1234", "admin-token-1234567")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(LINES)
    return path


def test_each_role_may_what_it_may(token_file: Path) -> None:
    async def story() -> None:
        async with running_api(tokens=Tokens(token_file), rules=(overheat(),)) as edge:

            async def statuses(token: str) -> list[int]:
                look = await edge.http.get("/devices", headers=bearer(token))
                order = await edge.http.patch(
                    "/devices/pump-1/desired", json={"speed": 1}, headers=bearer(token)
                )
                arm = await edge.http.patch(
                    "/rules/overheat", json={"mode": "Armed"}, headers=bearer(token)
                )
                return [look.status_code, order.status_code, arm.status_code]

            assert await statuses(VERA) == [200, 403, 403]
            assert await statuses(OTTO) == [200, 202, 403]
            assert await statuses(ADA) == [200, 202, 200]
            assert await statuses("operator-token-123") == [401, 401, 401]

    asyncio.run(story())


def test_without_a_token_only_the_probes_answer(token_file: Path) -> None:
    async def story() -> None:
        async with running_api(tokens=Tokens(token_file)) as edge:
            for path in ("/devices", "/devices/pump-1", "/alarms", "/rules", "/events", "/metrics"):
                answer = await edge.http.get(path)
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"] == "Bearer"
            for path in ("/healthz", "/readyz"):
                assert (await edge.http.get(path)).status_code == 200

    asyncio.run(story())


def test_the_callers_name_goes_to_the_journal_and_the_machines(token_file: Path) -> None:
    async def story() -> None:
        async with running_api(tokens=Tokens(token_file)) as edge:
            edge.http.headers.update(bearer(OTTO))
            await edge.http.patch("/devices/pump-1/desired", json={"speed": 1})
            detail = edge.store.disk.audit[-1].detail
            assert (detail["who"], detail["from"]) == ("Otto of the night shift", "127.0.0.1")
            edge.machines.tell(trip_alarm())
            await until(edge.agent.alarms.listed)
            await edge.http.post("/alarms/overheat-1/ack", json={})
            await until(lambda: edge.agent.alarms.listed()[0].acked_by == "Otto of the night shift")

    asyncio.run(story())


def test_the_token_file_is_read_again_when_it_changes_and_a_bad_one_is_not(
    token_file: Path,
) -> None:
    tokens = Tokens(token_file)
    _replace(token_file, "another-token-12345 viewer Zoe\n")
    assert tokens.identify(VERA) is None
    assert tokens.identify("another-token-12345") is not None
    _replace(token_file, "short viewer Zoe\n")
    assert tokens.identify("another-token-12345") is not None
    assert tokens.identify("short") is None


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)  # noqa: PTH105 - what an administrator's tool does


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no token"),
        ("secret-token-123456 viewer\n", ":1:"),
        ("# x\nsecret-token-123456 root Vera\n", ":2: the role"),
        ("secret viewer Vera\n", "shorter"),
    ],
)
def test_a_bad_token_file_is_refused_by_its_line_without_its_tokens(
    tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(InvalidInput) as refusal:
        Tokens(path)
    assert said in str(refusal.value)
    assert "secret" not in str(refusal.value)
    with pytest.raises(InvalidInput):
        Tokens(tmp_path / "none")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:80"}, 403),
        ({"Host": "["}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:8470", "Origin": "http://localhost:8470"}, 202),
        ({}, 202),
    ],
)
def test_no_foreign_page_reaches_an_api_without_tokens(
    headers: dict[str, str], status: int
) -> None:
    async def story() -> None:
        async with running_api() as edge:
            answer = await edge.http.patch(
                "/devices/pump-1/desired", json={"run": True}, headers=headers
            )
            assert answer.status_code == status

    asyncio.run(story())


def test_a_token_is_never_in_an_answer(token_file: Path) -> None:
    async def story() -> None:
        async with running_api(tokens=Tokens(token_file)) as edge:
            wrong = bearer("wrong-token-that-is-secret")
            answers: list[httpx.Response] = [
                await edge.http.get("/devices", headers=wrong),
                await edge.http.patch("/rules/x", json={"mode": "Armed"}, headers=bearer(VERA)),
            ]
            for answer in answers:
                assert "token-that-is-secret" not in answer.text + str(answer.headers)
                assert VERA not in answer.text + str(answer.headers)

    asyncio.run(story())
