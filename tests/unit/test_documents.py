"""What the documents show exists, and is one story."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY as LIBRARY_REGISTRY

import twinbridge.adapters.bus_mqtt.lease
import twinbridge.adapters.bus_mqtt.metrics
import twinbridge.adapters.hub_kube.metrics
import twinbridge.adapters.outbox_sqlite.metrics
import twinbridge.adapters.scada_kubeedge.metrics
import twinbridge.adapters.scada_mqtt.metrics
import twinbridge.adapters.scada_sparkplug.metrics
import twinbridge.app.forwarding
import twinbridge.hub.api  # noqa: F401 - its counters
import twinbridge_mqtt.metrics  # noqa: F401 - its counters
import twinbridge_opcua.subscription  # noqa: F401 - its counters
from twinbridge.app.metrics import REGISTRY

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for place in (ROOT, ROOT / "docs", ROOT / "benchmarks", ROOT / "examples")
    for path in (place.glob("*.md") if place == ROOT else place.rglob("*.md"))
)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
COLLECTED = re.compile(r"(Counter|Gauge)MetricFamily\(\s*\"(\w+)\"")
EXAMPLE = re.compile(r"<!-- example: pump.yaml -->\n```yaml\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_inside_the_repository_leads_somewhere(document: Path) -> None:
    links = LINK.findall(document.read_text())
    inside = [link for link in links if not link.startswith(("http:", "https:", "mailto:"))]
    assert [link for link in inside if not (document.parent / link).exists()] == []


def test_the_readme_and_the_tutorial_show_the_same_machine() -> None:
    readme = EXAMPLE.search((ROOT / "README.md").read_text())
    tutorial = EXAMPLE.search((ROOT / "docs/tutorial/first-machine.md").read_text())
    assert readme
    assert tutorial
    assert readme[1] == tutorial[1]


@pytest.mark.parametrize("document", ["README.md", "docs/explanation/safety.md"])
def test_the_documents_make_no_safety_claim(document: str) -> None:
    text = " ".join((ROOT / document).read_text().replace(">", " ").split())
    for said in ("non-safety", "no SIL or PL claim", "not be the only layer against injury"):
        assert said in text


def test_every_page_is_linked_from_the_index() -> None:
    docs = ROOT / "docs"
    linked = {(docs / link).resolve() for link in LINK.findall((docs / "index.md").read_text())}
    assert set(docs.rglob("*.md")) - linked - {docs / "index.md"} == set()


def test_every_metric_is_in_the_reference_and_no_other() -> None:
    of_drivers = [f for f in LIBRARY_REGISTRY.collect() if f.name.startswith("twinbridge_")]
    counted = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in (*REGISTRY.collect(), *of_drivers)
    }
    commands = sorted((ROOT / "twinbridge/cli").glob("*.py"))
    source = "".join(path.read_text() for path in commands)
    collected = {
        f"{name}_total" if kind == "Counter" else name for kind, name in COLLECTED.findall(source)
    }
    assert collected
    reference = (ROOT / "docs/reference/metrics.md").read_text()
    told = re.findall(r"^\| `(\w+)`", reference, re.MULTILINE)
    assert sorted(told) == sorted(counted | collected)
