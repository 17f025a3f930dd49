"""What `--hub` must be is told once, at start."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from twinbridge.cli.main import app
from twinbridge.cli.options import hub_options
from twinbridge.errors import InvalidInput
from twinbridge.testing.hub import kubeconfig

COMMANDS = (("run",), ("agent", "--bus", "mqtt://127.0.0.1:1"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_client_that_is_not_installed_is_named_before_anything_starts(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    state = tmp_path / "state"
    asked = [*command, "--hub", "http://127.0.0.1:1", "--node", "a", "--state-dir", str(state)]
    refused = CliRunner().invoke(app, asked).exception
    assert isinstance(refused, InvalidInput)
    assert "pip install 'twinbridge[hub]'" in str(refused)
    assert not state.exists()


@pytest.mark.parametrize("where", ["hub:6443", "ftp://hub", "nowhere.yaml", "in-cluster"])
def test_a_hub_that_cannot_be_meant_is_refused_before_anything_starts(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InvalidInput, match=f"--hub {where}"):
        hub_options(None, "edge-1", where, None, None, None, None)


def test_an_empty_namespace_is_none(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(kubeconfig("http://127.0.0.1:1", namespace="plant"))
    options = hub_options(None, "edge-1", str(config), "", None, None, None)
    assert options is not None
    assert options.namespace is None
