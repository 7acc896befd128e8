"""What stands beside the charts is what they make: schemas, tables of values, plain manifests, and what texts name."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.settings_reference import render_schema
from helm import generate
from tests.charts import HELM, LIBRARY, ROOT, STANDALONE, values_of

Json = dict[str, Any]
BOTH = pytest.mark.parametrize("chart", [STANDALONE, LIBRARY])
FREE = {
    "global",  # Helm's own
    "affinity",
    "tolerations",
    "VisionModel.options",  # a model server's own
}
"""Values that are handed on as they are; whoever gets them checks them."""


@pytest.mark.parametrize("path", generate.all_files(), ids=lambda path: str(path.relative_to(HELM)))
def test_made_files_are_current(path: Path) -> None:
    """`python3 dev.py chart-docs` would change nothing."""
    assert path.read_text() == generate.all_files()[path], "run `python3 dev.py chart-docs`"


def test_plain_manifests_are_current() -> None:
    """Those of examples/kubernetes are what the charts render."""
    pytest.importorskip("helm_python", reason="helm-python-sdk (the Helm engine) is not installed")
    made = generate.plain_manifests()

    assert {path: path.read_text() for path in made} == made
    assert set(generate.PLAIN.rglob("*.yaml")) == set(made)


def test_kustomizations_name_what_is_there() -> None:
    """Each resource is a file beside it."""
    for path in generate.PLAIN.rglob("kustomization.yaml"):
        assert all((path.parent / name).exists() for name in yaml.safe_load(path.read_text())["resources"])


@BOTH
def test_schema_is_strict_everywhere(chart: str) -> None:
    """Every object of values.schema.json names all its properties, or says what any property must be."""
    schema = json.loads((HELM / chart / "values.schema.json").read_text())

    def loose(node: Any, path: tuple[str, ...]) -> list[str]:
        if isinstance(node, list):
            return [found for item in node for found in loose(item, path)]
        if not isinstance(node, dict):
            return []
        is_open = node.get("type") == "object" and node.get("additionalProperties", True) is True
        here = [".".join(path)] if is_open else []
        passed = {"properties", "items", "definitions"}
        return here + [
            found for name, child in node.items() for found in loose(child, path if name in passed else (*path, name))
        ]

    assert set(loose(schema, ())) - FREE == set()


@BOTH
def test_every_option_of_the_gateway_may_be_set(chart: str) -> None:
    """The sections under `config` are those of the gateway's own schema, less what a chart computes."""
    mine = json.loads((HELM / chart / "values.schema.json").read_text())["definitions"]
    theirs = json.loads(render_schema())["$defs"]
    computed = {("Server", "lame_duck_seconds")} if chart == LIBRARY else set()

    lacking = {
        (section, option)
        for section, definition in theirs.items()
        for option in definition["properties"]
        if option not in mine[section]["properties"]
    }
    assert lacking == computed


def option_exists(path: list[str], definition: Json, definitions: Json) -> bool:
    """Whether a path of names leads to an option of the gateway."""
    while "$ref" in definition:
        definition = definitions[definition["$ref"].rpartition("/")[2]]
    if not path:
        return True
    if path[0] in definition.get("properties", {}):
        return option_exists(path[1:], definition["properties"][path[0]], definitions)
    return False


def texts_about_charts() -> list[Path]:
    """What people read of the charts."""
    names = ("README.md", "values.yaml", "templates/*.tpl", "templates/NOTES.txt", "ci/*.yaml")
    return [path for name in names for path in sorted(HELM.glob(f"*/{name}"))] + [ROOT / "docs" / "sidecar.md"]


@pytest.mark.parametrize("path", texts_about_charts(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_option_that_a_text_names_exists(path: Path) -> None:
    """`config.server.drain_seconds` in prose is an option of the gateway, and so is all that leads to it."""
    definitions = json.loads(render_schema())["$defs"]
    named = set(re.findall(r"\bconfig\.((?:[a-z_]+\.)*[a-z_]+)\b(?!\()", path.read_text()))

    wrong = {name for name in named if not option_exists(name.split("."), definitions["Settings"], definitions)}
    assert wrong == set()


@BOTH
def test_every_value_is_explained(chart: str) -> None:
    """The README's table has a row for each value, and each template reads only values that are there."""
    readme = (HELM / chart / "README.md").read_text()
    values = values_of(chart)
    rows = set(re.findall(r"^\| `([\w.]+)` \|", readme, re.MULTILINE))
    read = {
        name
        for path in (HELM / chart / "templates").iterdir()
        for name in re.findall(r"(?:\.Values|\$v)\.([A-Za-z]+)", path.read_text())
    }

    assert {row.partition(".")[0] for row in rows} == set(values)
    assert read - set(values) == set()


def test_links_of_readmes_lead_somewhere() -> None:
    """Files that a README or docs/sidecar.md names are there."""
    texts = [HELM / STANDALONE / "README.md", HELM / LIBRARY / "README.md", ROOT / "docs" / "sidecar.md"]
    broken = [
        (path.name, link)
        for path in texts
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text())
        if not (path.parent / link).exists()
    ]

    assert broken == []


def test_alert_rules_are_rules(tmp_path: Path) -> None:
    """promtool takes them, where there is one."""
    rules = HELM / STANDALONE / "files" / "rules.yaml"
    found = yaml.safe_load(rules.read_text())["groups"]

    assert all({"alert", "expr", "labels", "annotations"} <= set(rule) for group in found for rule in group["rules"])
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run([promtool, "check", "rules", str(rules)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
