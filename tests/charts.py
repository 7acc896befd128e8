"""The charts, rendered for tests by the real Helm engine, and what the pod security standard says of a pod."""

from __future__ import annotations

import copy
import functools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm import generate

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
HELM = ROOT / "helm"
STANDALONE = "llm-gateway"
LIBRARY = "llm-gateway-sidecar"
EXAMPLE = "example-app"
OLDEST_KUBERNETES = "1.25"
OLDEST_NATIVE = "1.29"
"""The first version that has native sidecars switched on."""
ALLOWED_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
}


def values_of(chart: str) -> Json:
    """The chart's own values.yaml."""
    values: Json = yaml.safe_load((HELM / chart / "values.yaml").read_text())
    return values


def ci_files(chart: str) -> list[Path]:
    """The values of each feature."""
    return sorted((HELM / chart / "ci").glob("*-values.yaml"))


def ci_values(path: Path) -> Json:
    """What stands in one of them."""
    values: Json = yaml.safe_load(path.read_text())
    return values


def merge(base: Any, over: Any) -> Any:
    """As Helm merges values: mappings by name, everything else whole; null takes a name away."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return copy.deepcopy(over)
    merged = {name: merge(base[name], over[name]) if name in over else base[name] for name in base}
    merged |= {name: copy.deepcopy(over[name]) for name in over if name not in base}
    return {name: value for name, value in merged.items() if not (name in base and value is None)}


def render(chart: str, values: Json | None = None, name: str = "gateway") -> list[Json]:
    """The documents as `helm template` makes them; the same ones are not rendered twice."""
    return copy.deepcopy(_rendered(chart, yaml.safe_dump(values or {}), name))


@functools.cache
def _rendered(chart: str, values: str, name: str) -> list[Json]:
    return generate.render(chart, yaml.safe_load(values), name, "llm")


def by_kind(documents: list[Json]) -> dict[str, Json]:
    """Documents of which there is one of a kind."""
    kinds = [document["kind"] for document in documents]
    assert len(set(kinds)) == len(kinds), kinds
    return dict(zip(kinds, documents, strict=True))


def pod_of(documents: list[Json]) -> Json:
    """The pod of the one Deployment."""
    (deployment,) = [document for document in documents if document["kind"] == "Deployment"]
    pod: Json = deployment["spec"]["template"]["spec"]
    return pod


def containers_of(pod: Json) -> list[Json]:
    """All containers, in the order of their start."""
    return [*(pod.get("initContainers") or []), *pod["containers"]]


def container_of(pod: Json, name: str) -> Json:
    """The one of that name."""
    (container,) = [each for each in containers_of(pod) if each["name"] == name]
    return container


def gateway_config(documents: list[Json]) -> str:
    """The text of gateway.yaml."""
    (text,) = [d["data"]["gateway.yaml"] for d in documents if "gateway.yaml" in d.get("data", {})]
    assert isinstance(text, str)
    return text


def restricted_faults(pod: Json) -> Iterator[str]:
    """What the pod security standard "restricted" forbids (kubernetes.io, Pod Security Standards, of 1.25 to 1.37).

    Yields:
        One text for each fault, with the name of the container.
    """
    yield from (f"pod: {name}" for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
    for volume in pod.get("volumes") or []:
        yield from (f"volume {volume['name']}: {kind}" for kind in set(volume) - {"name"} - ALLOWED_VOLUMES)
    shared = pod.get("securityContext") or {}
    if shared.get("sysctls"):
        yield "pod: sysctls"
    for container in containers_of(pod):
        yield from (f"{container['name']}: {fault}" for fault in _container_faults(container, shared))


def _container_faults(container: Json, shared: Json) -> Iterator[str]:
    own = container.get("securityContext") or {}
    both = shared | own
    capabilities = own.get("capabilities", {})
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities"
    if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
        yield "root"
    if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    if own.get("procMount", "Default") != "Default" or both.get("seLinuxOptions") or both.get("appArmorProfile"):
        yield "procMount, SELinux or AppArmor"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "hostPort"


# What Kubernetes takes


class InvalidDocumentError(Exception):
    """A document that the API server would refuse, or take without a field that it does not know."""


_OPERATOR_FIELDS = {
    "PodMonitor": {
        "spec": {"selector", "podMetricsEndpoints", "namespaceSelector"},
        "podMetricsEndpoints": {"port", "path", "interval", "scrapeTimeout"},
    },
    "PrometheusRule": {
        "spec": {"groups"},
        "groups": {"name", "interval", "rules"},
        "rules": {"alert", "expr", "for", "labels", "annotations", "record"},
    },
}
"""Fields of the Prometheus operator's kinds that the charts may use (their definition accepts unknown ones)."""


def validate(documents: list[Json], version: str) -> None:
    """Hold documents against the schemas of a Kubernetes version ("newest" for the newest known), strictly.

    Raises:
        InvalidDocumentError: with what is wrong.
    """
    kubernetes_validate: Any = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate (the schemas) is not installed"
    )
    wanted = kubernetes_validate.latest_version() if version == "newest" else version
    for document in documents:
        if document["kind"] in _OPERATOR_FIELDS:
            _validate_operators(document)
            continue
        try:
            kubernetes_validate.validate(document, wanted, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise InvalidDocumentError(f"{document['kind']}: {error.message}") from error


def _validate_operators(document: Json) -> None:
    known = _OPERATOR_FIELDS[document["kind"]]

    def check(name: str, node: Any) -> None:
        for each in node if isinstance(node, list) else [node]:
            if name in known and set(each) - known[name]:
                raise InvalidDocumentError(f"{document['kind']}: {name} has {set(each) - known[name]}")
            if isinstance(each, dict):
                for key in set(each) & set(known):
                    check(key, each[key])

    if document["apiVersion"] != "monitoring.coreos.com/v1":
        raise InvalidDocumentError(f"{document['kind']} of {document['apiVersion']}")
    check("spec", document["spec"])


# What the gateway takes

_STAND_INS = {"REDIS_URL": "redis://redis:6379/0", "FACTS_URL": "postgresql://me@db/facts"}
"""What the Secrets of ci files hold, beside keys."""


def check_config(documents: list[Json], container: str, folder: Path) -> tuple[int, str]:
    """`llm-gateway check` of the rendered configuration, in the container's environment and no other.

    Args:
        container: its name.
        folder: an empty one, for the configuration and the files of secrets that it names.

    Returns:
        The exit code, and what was printed.
    """
    file = folder / "gateway.yaml"
    key = folder / "OPENAI_API_KEY"
    key.write_text("sk-of-a-test")
    file.write_text(gateway_config(documents).replace("/etc/llm-gateway-secret", str(folder)))
    entries = container_of(pod_of(documents), container)["env"]
    environment = {e["name"]: e.get("value", _STAND_INS.get(e["name"], "sk-of-a-test")) for e in entries}
    checked = subprocess.run(
        [sys.executable, "-m", "gateway", "check"],
        env={"PATH": os.environ["PATH"], **environment, "LLM_GATEWAY_CONFIG": str(file)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return checked.returncode, checked.stdout + checked.stderr
