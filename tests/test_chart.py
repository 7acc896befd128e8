"""The Helm chart, rendered by the real Helm engine and held against the Kubernetes schemas.

No cluster is needed and none is touched. What stands in plain files is read always; what must be
rendered needs `helm-python-sdk` and `kubernetes-validate`, and is skipped where they are not installed.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import gateway

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "helm" / "llm-gateway"
META = yaml.safe_load((CHART / "Chart.yaml").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
OLDEST_KUBERNETES = re.search(r"\d+\.\d+", META["kubeVersion"])[0]

# Values that switch every optional part of the templates on.
EVERYTHING = {
    "replicas": 3,
    "fullnameOverride": "spender",
    "image": {"repository": "registry.example/llm-gateway", "digest": "sha256:" + "0" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "existingSecret": "openai",
    "secretEnv": {"OPENAI_API_KEY": "key", "REDIS_URL": "redis"},
    "config": {
        "server": {"port": 18080, "admin_port": 18081, "workers": 2, "max_body_bytes": 33554432},
        "state": {"url": "${REDIS_URL}"},
        "token_budget": {"max_total": "auto", "models": {"gpt-4o*": {"completion": 0.25}}},
        "telemetry": {"otlp_endpoint": None},
    },
    "service": {"port": 80, "annotations": {"a": "b"}},
    "serviceAccount": {"annotations": {"a": "b"}},
    "podAnnotations": {"prometheus.io/scrape": "true"},
    "podLabels": {"team": "a"},
    "nodeSelector": {"kubernetes.io/arch": "amd64"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
}

WRONG_VALUES = {
    "an unknown name at the top": ({"replicaCount": 2}, "replicaCount"),
    "a mistyped name in config": ({"config": {"server": {"prot": 1}}}, "prot"),
    "an unknown section of config": ({"config": {"budget": {}}}, "budget"),
    "a text for a number": ({"config": {"server": {"drain_seconds": "20s"}}}, "drain_seconds"),
    "no drain time": ({"config": {"server": {"drain_seconds": None}}}, "drain_seconds"),
    "a privileged port": ({"config": {"server": {"port": 80}}}, "port"),
    "a data port on loopback": ({"config": {"server": {"host": "127.0.0.1"}}}, "host"),
    "an admin port on loopback": ({"config": {"server": {"admin_host": "localhost"}}}, "admin_host"),
    "a fraction of a replica": ({"replicas": 1.5}, "replicas"),
    "a Service of another type": ({"service": {"type": "LoadBalancer"}}, "type"),
    "a file as state, on a read-only root": ({"config": {"state": {"url": "sqlite:///x"}}}, "state"),
    "a literal key of an upstream": (
        {"config": {"upstreams": [{"name": "a", "base_url": "https://a.example", "api_key": "sk-1234"}]}},
        "api_key",
    ),
    "a literal key of the summarizer": ({"config": {"summarizer": {"api_key": "sk-1234"}}}, "api_key"),
    "a password in the state's URL": ({"config": {"state": {"url": "redis://:pw@r:6379/0"}}}, "state"),
    "a password in an upstream's URL": (
        {"config": {"upstreams": [{"name": "a", "base_url": "https://me:pw@a.example"}]}},
        "base_url",
    ),
    "a label of the selector": ({"podLabels": {"app.kubernetes.io/name": "other"}}, "kubernetes.io/name"),
}


def merge(base: Any, over: Any) -> Any:
    """As Helm merges values: mappings by name, everything else whole; null takes a name away."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return copy.deepcopy(over)
    merged = {name: merge(base[name], over[name]) if name in over else base[name] for name in base}
    merged |= {name: copy.deepcopy(over[name]) for name in over if name not in base}
    return {name: value for name, value in merged.items() if not (name in base and value is None)}


@pytest.fixture(scope="module")
def helm() -> Any:
    return pytest.importorskip("helm_python", reason="helm-python-sdk (the Helm engine) is not installed")


@pytest.fixture(scope="module")
def render(helm: Any) -> Any:
    """render(values, name) -> {kind: document}, as `helm template` would print them."""
    with helm.Chart.load(CHART) as chart:

        def rendered(values: dict[str, Any] | None = None, name: str = "gateway") -> dict[str, Any]:
            files = chart.render(values or {}, name=name, namespace="llm")
            documents = [
                document
                for path, text in files.items()
                if path.endswith(".yaml")
                for document in yaml.safe_load_all(text)
                if document is not None
            ]
            assert len({document["kind"] for document in documents}) == len(documents)
            return {document["kind"]: document for document in documents}

        yield rendered


def pod_of(documents: dict[str, Any]) -> dict[str, Any]:
    return documents["Deployment"]["spec"]["template"]["spec"]


def container_of(documents: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod_of(documents)["containers"]
    return container


def test_chart_names_the_gateways_version():
    """The image tag is the chart's appVersion, so it must be the version that the sources carry."""
    assert META["appVersion"] == gateway.__version__


def test_schema_is_strict_everywhere():
    """Every object of values.schema.json names all its properties, or says what any property must be."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    free = {"global", "affinity", "tolerations", "token_estimator.models"}

    def loose(node: Any, path: tuple[str, ...]) -> list[str]:
        if isinstance(node, list):
            return [found for item in node for found in loose(item, path)]
        if not isinstance(node, dict):
            return []
        is_open = node.get("type") == "object" and node.get("additionalProperties", True) is True
        here = [".".join(path)] if is_open else []
        return here + [
            found
            for name, child in node.items()
            for found in loose(child, path if name in {"properties", "items"} else (*path, name))
        ]

    assert {path.removeprefix("config.") for path in loose(schema, ())} == free


def test_lint_is_clean(helm: Any):
    """Neither a warning nor an error, strictly; that a chart should have a picture is only information."""
    report = helm.lint(CHART, {}, strict=True, kube_version=f"v{OLDEST_KUBERNETES}.0")

    assert report["errors"] == []
    assert [m["error"] for m in report["messages"] if m["severity"] > 1] == []


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, "newest"])
def test_kubernetes_accepts_every_document(render: Any, values: dict[str, Any], version: str):
    """No unknown field, no wrong type, in the oldest version that the chart admits and the newest known."""
    kubernetes = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    version = kubernetes.latest_version() if version == "newest" else version
    documents = render(values)

    for document in documents.values():
        kubernetes.validate(document, version, strict=True)
    assert set(documents) == {"Deployment", "Service", "ConfigMap", "ServiceAccount"}

    misplaced = copy.deepcopy(documents["Deployment"])
    pod_of({"Deployment": misplaced})["securityContext"]["readOnlyRootFilesystem"] = True
    with pytest.raises(kubernetes.ValidationError):  # or the lines above would prove nothing
        kubernetes.validate(misplaced, version, strict=True)


@pytest.mark.parametrize(("values", "named"), WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_wrong_values_are_refused(helm: Any, render: Any, values: dict[str, Any], named: str):
    """Refused before anything is rendered, with the name of what is wrong."""
    with pytest.raises(helm.HelmValuesError, match=named):
        render(values)


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_pod_is_restricted(render: Any, values: dict[str, Any]):
    """The pod security standard "restricted", a read-only root, and no way to talk to the cluster."""
    documents = render(values)
    pod, container = pod_of(documents), container_of(documents)

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
    assert pod["automountServiceAccountToken"] is False
    assert documents["ServiceAccount"]["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert documents["Service"]["spec"]["type"] == "ClusterIP"


@pytest.mark.parametrize(("lame_duck", "drain"), [(5, 20), (0, 0), (2.5, 0.1), (30, 3600)])
def test_grace_period_outlasts_the_drain(render: Any, lame_duck: float, drain: float):
    """SIGKILL never comes before the gateway has had its lame duck, its drain, and 5 s to settle."""
    server = {"lame_duck_seconds": lame_duck, "drain_seconds": drain}
    grace = pod_of(render({"config": {"server": server}}))["terminationGracePeriodSeconds"]

    assert lame_duck + drain + 5 <= grace <= math.ceil(lame_duck) + math.ceil(drain) + 5


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_probes_and_service_meet_the_ports_of_the_config(render: Any, values: dict[str, Any]):
    """kubelet asks the admin port, the Service leads to the data port, and only to this release's pods."""
    documents = render(values)
    container, service = container_of(documents), documents["Service"]["spec"]
    server = merge(DEFAULTS, values)["config"]["server"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    labels = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]

    assert ports == {"http": server["port"], "admin": server["admin_port"]}
    assert probes == {
        "startup": {"path": "/health/live", "port": "admin"},
        "liveness": {"path": "/health/live", "port": "admin"},
        "readiness": {"path": "/health/ready", "port": "admin"},
    }
    assert [port["targetPort"] for port in service["ports"]] == ["http"]
    assert service["selector"].items() <= labels.items()
    assert service["selector"] == documents["Deployment"]["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_config_arrives_unchanged(render: Any, values: dict[str, Any]):
    """gateway.yaml is `config` of the values: no number turned into 3.3e+07, no ${NAME} eaten."""
    documents = render(values)
    arrived = yaml.safe_load(documents["ConfigMap"]["data"]["gateway.yaml"])

    assert arrived == merge(DEFAULTS, values)["config"]
    assert "e+" not in documents["ConfigMap"]["data"]["gateway.yaml"]


def test_config_is_mounted_as_a_folder_where_the_gateway_looks(render: Any):
    """No subPath, since such a file is never renewed; the variable names a file of the mounted folder."""
    documents = render()
    (mount,) = container_of(documents)["volumeMounts"]
    (volume,) = pod_of(documents)["volumes"]
    (path,) = [e["value"] for e in container_of(documents)["env"] if e["name"] == "LLM_GATEWAY_CONFIG"]

    assert mount == {"name": volume["name"], "mountPath": "/etc/llm-gateway", "readOnly": True}
    assert volume["configMap"]["name"] == documents["ConfigMap"]["metadata"]["name"]
    assert Path(path).parent == Path(mount["mountPath"])
    assert Path(path).name in documents["ConfigMap"]["data"]


def test_a_changed_config_rolls_the_pods(render: Any):
    """The pod template differs if and only if the configuration does."""

    def template(values: dict[str, Any]) -> Any:
        return render(values)["Deployment"]["spec"]["template"]

    assert template({}) == template({"service": {"port": 80}})
    assert template({}) != template({"config": {"token_budget": {"max_total": 9000}}})


def test_secrets_are_only_referred_to(render: Any):
    """No document holds a key: the environment has references, the configuration has names."""
    documents = render(EVERYTHING)
    environment = {entry.pop("name"): entry for entry in container_of(documents)["env"]}
    del environment["LLM_GATEWAY_CONFIG"]

    assert "Secret" not in documents
    assert environment == {
        "OPENAI_API_KEY": {"valueFrom": {"secretKeyRef": {"name": "openai", "key": "key"}}},
        "REDIS_URL": {"valueFrom": {"secretKeyRef": {"name": "openai", "key": "redis"}}},
    }


def test_without_a_secret_no_key_is_injected(render: Any):
    """Every variable that config may name exists and is empty, so that each client brings its own key."""
    environment = {entry["name"]: entry for entry in container_of(render())["env"]}
    named = set(re.findall(r"\$\{(\w+)\}", json.dumps(DEFAULTS["config"])))

    assert named == set(DEFAULTS["secretEnv"])
    assert [environment[name] for name in named] == [{"name": name, "value": ""} for name in named]


def test_names_stay_within_kubernetes_limits(render: Any):
    """The longest release name that Helm allows (53) gives names and labels of at most 63 characters."""
    documents = render(name="r" * 53)
    names = [document["metadata"]["name"] for document in documents.values()]
    labels = [v for document in documents.values() for v in document["metadata"]["labels"].values()]

    assert [name for name in [*names, *labels] if len(name) > 63 or name.endswith("-")] == []


@pytest.mark.skipif(importlib.util.find_spec("gateway.cli") is None, reason="gateway.cli is not there")
@pytest.mark.parametrize("existing_secret", ["", "openai"], ids=["own keys", "injected key"])
def test_the_gateway_accepts_the_default_config(render: Any, tmp_path: Path, existing_secret: str):
    """What the chart mounts is what `llm-gateway check` takes, with the pod's environment and no other."""
    documents = render({"existingSecret": existing_secret})
    file = tmp_path / "gateway.yaml"
    file.write_text(documents["ConfigMap"]["data"]["gateway.yaml"])
    environment = {e["name"]: e.get("value", "sk-of-a-test") for e in container_of(documents)["env"]}
    checked = subprocess.run(
        [sys.executable, "-m", "gateway", "check"],
        env={"PATH": os.environ["PATH"], **environment, "LLM_GATEWAY_CONFIG": str(file)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr
