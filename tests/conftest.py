"""What the whole suite takes from the command line."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--hub-kubeconfig",
        metavar="FILE",
        help="Run the hub contract suite against this cluster instead of the embedded hub.",
    )
