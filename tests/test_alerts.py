"""Alert rules: what they ask for is exported, each has a page, fires when it should, and stays silent otherwise."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fakes.openai_server import FakeOpenAI
from tests.gateway_process import GatewayProcess, config_for
from tests.redis_server import RedisServer

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "helm" / "llm-gateway" / "files" / "rules.yaml"
TESTS = ROOT / "tests" / "alerts" / "rules.test.yaml"
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
FOREIGN = {"kube_pod_container_resource_limits"}
"""Of kube-state-metrics."""
_metric_names = re.compile(r"\b([a-z][a-z0-9]*(?:_[a-z0-9]+)+)(?=[{\[)\s=])").findall


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    """How bad it is, what it means, and on a page of its own what to look at and do."""
    page = ROOT / rule["annotations"]["runbook"]

    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"]
    assert page.name == f"{rule['alert']}.md"
    assert page.read_text().startswith(f"# {rule['alert']}\n")
    assert "## Look at" in page.read_text()
    assert "## Do" in page.read_text()


def test_no_page_is_left_over() -> None:
    """Pages are of alerts that there are, and lead only to one another."""
    pages = {page.stem: page.read_text() for page in (ROOT / "docs" / "runbooks").glob("*.md")}
    linked = {link for text in pages.values() for link in re.findall(r"\]\((\w+)\.md\)", text)}

    assert set(pages) == {rule["alert"] for rule in ALERTS}
    assert linked <= set(pages)


async def test_every_metric_is_exported() -> None:
    """By a gateway in which all that they ask about is on."""
    limits = {"rate_limits": [{"client": "*", "requests_per_minute": 60}]}
    with RedisServer() as redis:
        config = {**limits, "rate_limit_store": {"url": redis.url}}
        async with FakeOpenAI() as fake, GatewayProcess(config_for(fake, **config)) as gateway:
            exported = set(re.findall(r"^# TYPE (\S+)", (await gateway.metrics()).text, re.MULTILINE))
    asked = {name for rule in ALERTS for name in _metric_names(rule["expr"])}
    asked = {re.sub(r"_(bucket|count)$", "", name) for name in asked} - FOREIGN - {"histogram_quantile", "client_id"}

    assert asked
    assert asked <= exported


def test_each_alert_fires_and_stays_silent() -> None:
    """By Prometheus's own tool, on series that are made up."""
    cases = [case["name"] for case in yaml.safe_load(TESTS.read_text())["tests"]]
    expected = {f"{rule['alert']} {what}" for rule in ALERTS for what in ("fires", "stays silent")}
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    tested = subprocess.run([promtool, "test", "rules", str(TESTS)], capture_output=True, text=True, check=False)

    assert {case.partition(":")[0] for case in cases} == expected
    assert tested.returncode == 0, tested.stdout + tested.stderr
