"""What is made from the charts and their values, so that it cannot disagree with them: `python3 dev.py chart-docs`.

It writes values.schema.json (from schemas/*.json and the gateway's own options), the tables of values in the READMEs
(from the comments of values.yaml), the second copy of templates/_container.tpl, and plain manifests for those who use
kustomize (examples/kubernetes, rendered by the Helm engine). tests/test_chart_files.py compares what is there.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from gateway.settings_reference import render_schema  # noqa: E402 - the gateway beside this folder, wherever it runs

HELM = ROOT / "helm"
CHARTS = ("llm-gateway", "llm-gateway-sidecar")
PLAIN = ROOT / "examples" / "kubernetes"
Json = dict[str, Any]

_SECRETS = ("api_key", "admin_token")
_LOOPBACK = r"^(127\.|localhost$|::1$|\[::1\]$)"
_NO_PASSWORD = {"pattern": "://[^/@]*:[^/@$][^/@]*@"}
_BEGIN = "<!-- values: made by `python3 dev.py chart-docs` -->"
_END = "<!-- end of values -->"


# Schemas


def schema_of(chart: str) -> str:
    """values.schema.json: the chart's own part, and the gateway's options as far as they may stand in a ConfigMap."""
    schema: Json = json.loads((HELM / "schemas" / f"{chart}.json").read_text())
    shared: Json = json.loads((HELM / "schemas" / "shared.json").read_text())
    options = json.loads(render_schema().replace("#/$defs/", "#/definitions/"))["$defs"]
    for definition in options.values():
        _strip(definition)
    _narrow_secrets(options)
    _narrow_budgets(options)
    _narrow_server(options["Server"], is_sidecar=chart.endswith("-sidecar"))
    options["Settings"]["required"] = ["server"]
    schema["definitions"] = {**schema.get("definitions", {}), **shared, **options}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def _strip(node: Any) -> None:
    """Titles and defaults are for config/gateway.schema.json; beside a reference, draft 7 reads nothing."""
    if isinstance(node, list):
        for item in node:
            _strip(item)
    elif isinstance(node, dict):
        for name in ("title", "default"):
            if not isinstance(node.get(name), dict) or "type" not in node[name]:
                node.pop(name, None)
        for child in node.values():
            _strip(child)


def _narrow_secrets(options: Json) -> None:
    for definition in options.values():
        for name, option in definition.get("properties", {}).items():
            if name in _SECRETS:
                definition["properties"][name] = {"$ref": "#/definitions/secretReference"}
            elif name.endswith(("url", "endpoint")) and option.get("type") == "string":
                option["not"] = _NO_PASSWORD


def _narrow_budgets(options: Json) -> None:
    """What one model's budget may say, which the gateway checks when it reads it."""
    budget = options["TokenBudget"]
    differing = copy.deepcopy(budget)
    del differing["properties"]["models"]
    options["TokenBudgetDiffering"] = differing
    budget["properties"]["models"]["additionalProperties"] = {"$ref": "#/definitions/TokenBudgetDiffering"}


def _narrow_server(server: Json, *, is_sidecar: bool) -> None:
    options = server["properties"]
    pod_address = {"minLength": 1, "not": {"pattern": _LOOPBACK}}
    for name in ("port", "admin_port"):
        options[name] = {**options[name], "minimum": 1024}
    options["admin_host"] = {**options["admin_host"], **pod_address}
    needed = ["host", "port", "admin_host", "admin_port", "drain_seconds"]
    if is_sidecar:
        options["host"] = {**options["host"], "pattern": _LOOPBACK}
        del options["lame_duck_seconds"]  # it is computed of appGraceSeconds
    else:
        options["host"] = {**options["host"], **pod_address}
        needed.append("lame_duck_seconds")
    server["required"] = needed


# READMEs


def table_of(values: str) -> str:
    """The values of a values.yaml with their defaults and comments; `config`, a file's content, is one row."""
    rows = ["| value | default | |", "|---|---|---|"]
    for path, default, text in _walk(values.splitlines(), yaml.compose(values), ""):
        shown = "see values.yaml" if len(default) > 60 else f"`{default}`"
        rows.append(f"| `{path}` | {shown} | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def _walk(lines: list[str], node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, str, str]]:
    for key, value in node.value:
        path = prefix + key.value
        is_group = isinstance(value, yaml.MappingNode) and value.value and path not in ("config", "secretEnv")
        text = _comment_above(lines, key.start_mark.line)
        if not is_group or path == "resources":
            plain = yaml.safe_load(yaml.serialize(value))
            yield path, json.dumps(plain, ensure_ascii=False), text
            continue
        if text:
            yield path, "", text
        yield from _walk(lines, value, path + ".")


def _comment_above(lines: list[str], line: int) -> str:
    """The comment right above a line, and the one at its end."""
    first = line
    while first > 0 and lines[first - 1].strip().startswith("#"):
        first -= 1
    words = [each.strip().removeprefix("#").strip() for each in lines[first:line]]
    tail = lines[line].partition(" # ")[2]
    return " ".join([*words, *([f"Such as `{tail}`"] if tail else [])])


def readme_of(chart: str) -> str:
    """The chart's README with the table as it must be."""
    text = (HELM / chart / "README.md").read_text()
    head, _, rest = text.partition(_BEGIN)
    table = table_of((HELM / chart / "values.yaml").read_text()).replace("| `` |", "| |")
    return f"{head}{_BEGIN}\n{table}\n{_END}{rest.partition(_END)[2]}"


# Plain manifests


def render(chart: str, values: Json, name: str, namespace: str) -> list[Json]:
    """The documents of a chart of this folder, with its dependencies beside it, as `helm template` makes them."""
    import helm_python  # heavy, and not needed for the rest

    with tempfile.TemporaryDirectory(prefix="chart-") as folder:
        place = with_dependencies(chart, Path(folder))
        with helm_python.Chart.load(place) as loaded:
            files = loaded.render(values, name=name, namespace=namespace)
    texts = [text for path, text in sorted(files.items()) if path.endswith(".yaml")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def with_dependencies(chart: str, folder: Path) -> Path:
    """A copy of a chart, as `helm dependency build` leaves it: what it depends on stands in charts/."""
    place = folder / chart
    shutil.copytree(HELM / chart, place, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
    meta = yaml.safe_load((place / "Chart.yaml").read_text())
    for dependency in meta.get("dependencies", ()):
        shutil.copytree(HELM / dependency["name"], place / "charts" / dependency["name"])
    return place


def plain_manifests() -> dict[Path, str]:
    """What stands in examples/kubernetes."""
    shared = yaml.safe_load((HELM / "llm-gateway" / "ci" / "plain-values.yaml").read_text())
    beside = yaml.safe_load((HELM / "example-app" / "ci" / "native-values.yaml").read_text())
    return {
        PLAIN / "standalone" / "gateway.yaml": _plain(render("llm-gateway", shared, "llm-gateway", "default")),
        PLAIN / "standalone" / "kustomization.yaml": _kustomization("gateway.yaml"),
        PLAIN / "sidecar" / "app.yaml": _plain(render("example-app", beside, "example-app", "default")),
        PLAIN / "sidecar" / "kustomization.yaml": _kustomization("app.yaml"),
    }


def _plain(documents: list[Json]) -> str:
    head = "# Made from helm/ by `python3 dev.py chart-docs`; change it by patches of your own kustomization.\n"
    for document in documents:
        for labels in (document["metadata"].get("labels"), _template_labels(document)):
            for name in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
                (labels or {}).pop(name, None)
    texts = [yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120) for document in documents]
    return head + "---\n".join(texts)


def _template_labels(document: Json) -> Json | None:
    found = document.get("spec", {}).get("template", {}).get("metadata", {})
    (found.get("annotations") or {}).pop("checksum/config", None)
    if found.get("annotations") == {}:
        del found["annotations"]
    return found.get("labels")


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as blocks, so that gateway.yaml is read as it is."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _kustomization(resource: str) -> str:
    return f"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n  - {resource}\n"


def all_files() -> dict[Path, str]:
    """Every file that is made, with what it must hold."""
    container = (HELM / "llm-gateway-sidecar" / "templates" / "_container.tpl").read_text()
    made = {HELM / "llm-gateway" / "templates" / "_container.tpl": container}
    for chart in CHARTS:
        made[HELM / chart / "values.schema.json"] = schema_of(chart)
        made[HELM / chart / "README.md"] = readme_of(chart)
    return made


def _write(files: dict[Path, str]) -> None:
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    _write(all_files())
    _write(plain_manifests())  # rendered with the schemas that were just written
