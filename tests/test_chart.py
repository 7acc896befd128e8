"""The chart of a shared gateway, rendered by the real Helm engine and held against the Kubernetes schemas.

No cluster is needed and none is touched. It needs `helm-python-sdk` and `kubernetes-validate`, and is skipped where
they are not installed. tests/test_chart_sidecar.py has the library, tests/test_chart_files.py what is made.
"""

from __future__ import annotations

import copy
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import gateway
from tests import charts
from tests.charts import OLDEST_KUBERNETES, STANDALONE, by_kind, ci_files, ci_values, merge, pod_of

helm: Any = pytest.importorskip("helm_python", reason="helm-python-sdk (the Helm engine) is not installed")

Json = dict[str, Any]
CHART = charts.HELM / STANDALONE
DEFAULTS = charts.values_of(STANDALONE)
FEATURES = pytest.mark.parametrize("path", ci_files(STANDALONE), ids=lambda path: path.stem)
REDIS = {"secretEnv": {"REDIS_URL": "redis"}, "config": {"state": {"url": "${REDIS_URL}"}, "facts": {"enabled": False}}}

WRONG_VALUES: dict[str, tuple[Json, str]] = {
    "an unknown name at the top": ({"replicaCount": 2}, "replicaCount"),
    "a mistyped name in config": ({"config": {"server": {"prot": 1}}}, "prot"),
    "an unknown section of config": ({"config": {"budget": {}}}, "budget"),
    "a mistyped name in a model's budget": (
        {"config": {"token_budget": {"models": {"a": {"max_totl": 1}}}}},
        "max_totl",
    ),
    "a text for a number": ({"config": {"server": {"drain_seconds": "20s"}}}, "drain_seconds"),
    "no drain time": ({"config": {"server": {"drain_seconds": None}}}, "drain_seconds"),
    "a privileged port": ({"config": {"server": {"port": 80}}}, "port"),
    "a data port on loopback": ({"config": {"server": {"host": "127.0.0.1"}}}, "host"),
    "an admin port on loopback": ({"config": {"server": {"admin_host": "localhost"}}}, "admin_host"),
    "a fraction of a replica": ({"replicas": 1.5}, "replicas"),
    "a Service of another type": ({"service": {"type": "LoadBalancer"}}, "type"),
    "a literal key of an upstream": (
        {"config": {"upstreams": [{"name": "a", "base_url": "https://a.example", "api_key": "sk-1234"}]}},
        "api_key",
    ),
    "a literal key of the summarizer": ({"config": {"summarizer": {"api_key": "sk-1234"}}}, "api_key"),
    "a literal admin token": ({"config": {"server": {"admin_token": "letmein"}}}, "admin_token"),
    "a password in the state's URL": ({"config": {"state": {"url": "redis://:pw@r:6379/0"}}}, "state"),
    "a password in the facts' URL": ({"config": {"facts": {"url": "postgresql://me:pw@db/facts"}}}, "facts"),
    "a password in an upstream's URL": (
        {"config": {"upstreams": [{"name": "a", "base_url": "https://me:pw@a.example"}]}},
        "base_url",
    ),
    "a label of the selector": ({"podLabels": {"app.kubernetes.io/name": "other"}}, "kubernetes.io/name"),
    "a literal secret in the environment": ({"secretEnv": {"KEY": {"value": "sk-1234"}}}, "secretEnv"),
    "nobody may call": ({"networkPolicy": {"enabled": True, "clients": []}}, "clients"),
    "a mistyped peer": ({"networkPolicy": {"clients": [{"podSelektor": {}}]}}, "podSelektor"),
    "a budget that lets nobody go": ({"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
}
"""What values.schema.json refuses, and the name that its message has."""

REFUSED: dict[str, tuple[Json, str]] = {
    "replicas with memory state": ({"replicas": 2}, r"replicas is 2, and config\.state\.url is memory://"),
    "scaling with memory state": ({"autoscaling": {"enabled": True}}, r"autoscaling\.maxReplicas is 6, .*memory://"),
    "replicas with a file as state": (
        {
            "replicas": 3,
            "data": {"enabled": True},
            "config": {"state": {"url": "sqlite:///var/lib/llm-gateway/a.db"}},
        },
        r"replicas is 3, and config\.state\.url is sqlite:",
    ),
    "replicas with facts in memory": (
        merge(REDIS, {"replicas": 2, "config": {"facts": {"enabled": True}}}),
        r"config\.facts\.url is memory://.*config\.facts\.enabled: false",
    ),
    "a file on the read-only root": ({"config": {"state": {"url": "sqlite:///x/a.db"}}}, r"Set data\.enabled: true"),
    "a file beside the folder": (
        {"data": {"enabled": True}, "config": {"facts": {"url": "sqlite:///x/a.db"}}},
        r"sqlite:///var/lib/llm-gateway/facts\.db",
    ),
    "a variable that nobody sets": (
        {"config": {"state": {"url": "${REDIS_URL}"}}},
        r"config names \$\{REDIS_URL\}, but secretEnv has no REDIS_URL",
    ),
    "one port for both": ({"config": {"server": {"admin_port": 8080}}}, "both 8080"),
    "fewer at most than at least": (
        merge(REDIS, {"autoscaling": {"enabled": True, "minReplicas": 9}}),
        r"minReplicas 9 is above autoscaling\.maxReplicas 6",
    ),
}
"""What the templates refuse, in words that say what to do."""


def render(values: Json | None = None, name: str = "gateway") -> dict[str, Json]:
    return by_kind(charts.render(STANDALONE, values, name))


def container_in(documents: dict[str, Json]) -> Json:
    (container,) = pod_of(list(documents.values()))["containers"]
    assert isinstance(container, dict)
    return container


def test_chart_names_the_gateways_version() -> None:
    """The image tag is the chart's appVersion, so it must be the version that the sources carry."""
    meta = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert meta["appVersion"] == gateway.__version__
    assert meta["kubeVersion"] == f">={OLDEST_KUBERNETES}.0-0"


@FEATURES
def test_lint_is_clean(path: Path) -> None:
    """Neither a warning nor an error, strictly; that a chart should have a picture is only information."""
    report = helm.lint(CHART, ci_values(path), strict=True, kube_version=f"v{OLDEST_KUBERNETES}.0")

    assert report["errors"] == []
    assert [m["error"] for m in report["messages"] if m["severity"] > 1] == []


@FEATURES
@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, "newest"])
def test_kubernetes_accepts_every_document(path: Path, version: str) -> None:
    """No unknown field, no wrong type, in the oldest version that the chart admits and the newest known."""
    documents = charts.render(STANDALONE, ci_values(path))
    charts.validate(documents, version)

    misplaced = copy.deepcopy(documents)
    pod_of(misplaced)["securityContext"]["readOnlyRootFilesystem"] = True
    with pytest.raises(charts.InvalidDocumentError):  # or the lines above would prove nothing
        charts.validate(misplaced, version)


def test_each_feature_makes_what_it_says() -> None:
    """Nothing is rendered that nobody asked for."""
    kinds = {path.stem.removesuffix("-values"): set(render(ci_values(path))) for path in ci_files(STANDALONE)}
    always = {"Deployment", "Service", "ConfigMap", "ServiceAccount"}

    assert {name: found - always for name, found in kinds.items()} == {
        "data": set(),
        "default": set(),
        "monitoring": {"PodMonitor", "PrometheusRule", "NetworkPolicy"},
        "placed": set(),
        "plain": {"NetworkPolicy", "PodDisruptionBudget"},
        "shared": {"HorizontalPodAutoscaler", "PodDisruptionBudget"},
    }
    assert all(always <= found for found in kinds.values())


@pytest.mark.parametrize(("values", "named"), WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_wrong_values_are_refused(values: Json, named: str) -> None:
    """Refused before anything is rendered, with the name of what is wrong."""
    with pytest.raises(helm.HelmValuesError, match=named):
        render(values)


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED)
def test_what_would_not_work_is_refused_in_words(values: Json, message: str) -> None:
    """Values that Kubernetes would take and the gateway would not, or not as it was meant."""
    with pytest.raises(helm.HelmRenderError, match=re.compile(message, re.DOTALL)):
        render(values)


@FEATURES
def test_pod_is_restricted(path: Path) -> None:
    """The pod security standard "restricted", a read-only root, and no way to talk to the cluster."""
    documents = render(ci_values(path))
    pod, container = pod_of(list(documents.values())), container_in(documents)

    assert list(charts.restricted_faults(pod)) == []
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False
    assert documents["ServiceAccount"]["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert documents["Service"]["spec"]["type"] == "ClusterIP"
    assert {"requests", "limits"} <= set(container["resources"])


@pytest.mark.parametrize(("lame_duck", "drain"), [(5, 20), (0, 0), (2.5, 0.1), (30, 3600)])
def test_grace_period_outlasts_the_drain(lame_duck: float, drain: float) -> None:
    """SIGKILL never comes before the gateway has had its lame duck, its drain, and 5 s to settle."""
    server = {"lame_duck_seconds": lame_duck, "drain_seconds": drain}
    documents = charts.render(STANDALONE, {"config": {"server": server}})
    grace = pod_of(documents)["terminationGracePeriodSeconds"]

    assert lame_duck + drain + 5 <= grace <= math.ceil(lame_duck) + math.ceil(drain) + 5


@FEATURES
def test_probes_and_service_meet_the_ports_of_the_config(path: Path) -> None:
    """kubelet asks the admin port, the Service leads to the data port, and only to this release's pods."""
    documents = render(ci_values(path))
    container, service = container_in(documents), documents["Service"]["spec"]
    server = merge(DEFAULTS, ci_values(path))["config"]["server"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    labels = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]

    assert ports == {"http": server["port"], "admin": server["admin_port"]}
    assert probes == {
        "startup": {"path": "/health/ready", "port": "admin"},
        "liveness": {"path": "/health/live", "port": "admin"},
        "readiness": {"path": "/health/ready", "port": "admin"},
    }
    assert [port["targetPort"] for port in service["ports"]] == ["http"]
    assert service["selector"].items() <= labels.items()
    assert service["selector"] == documents["Deployment"]["spec"]["selector"]["matchLabels"]


@FEATURES
def test_config_arrives_unchanged(path: Path) -> None:
    """gateway.yaml is `config` of the values: no number turned into 3.3e+07, no ${NAME} eaten."""
    text = charts.gateway_config(charts.render(STANDALONE, ci_values(path)))

    assert yaml.safe_load(text) == merge(DEFAULTS, ci_values(path))["config"]
    assert "e+" not in text


@FEATURES
def test_the_gateway_accepts_the_config(path: Path, tmp_path: Path) -> None:
    """What the chart mounts is what `llm-gateway check` takes, with the container's environment and no other."""
    documents = charts.render(STANDALONE, ci_values(path))
    code, output = charts.check_config(documents, "gateway", tmp_path)

    assert code == 0, output


@FEATURES
def test_every_mount_is_a_folder_with_a_volume(path: Path) -> None:
    """No subPath, since such a file is never renewed; every file that config names is in a folder that is mounted."""
    documents = render(ci_values(path))
    mounts = container_in(documents)["volumeMounts"]
    volumes = {volume["name"]: volume for volume in pod_of(list(documents.values()))["volumes"]}
    named = re.findall(r"/(?:etc|var)/[\w./-]+", json.dumps(merge(DEFAULTS, ci_values(path))["config"]))
    folders = [mount["mountPath"] for mount in mounts]

    assert {mount["name"] for mount in mounts} == set(volumes)
    assert all("subPath" not in mount for mount in mounts)
    assert [file for file in named if str(Path(file).parent) not in folders] == []
    assert volumes["llm-gateway-config"]["configMap"]["name"] == documents["ConfigMap"]["metadata"]["name"]
    assert [mount["mountPath"] for mount in mounts if not mount.get("readOnly")] == [
        folder for folder in folders if folder in ("/tmp", "/var/lib/llm-gateway")
    ]


def test_workers_have_a_folder_to_share() -> None:
    """A root that is read-only has none; one process needs none."""
    folders = {
        workers: [mount["mountPath"] for mount in container_in(render(values))["volumeMounts"]]
        for workers in (1, 2)
        for values in [{"config": {"server": {"workers": workers}}}]
    }

    assert folders == {1: ["/etc/llm-gateway"], 2: ["/etc/llm-gateway", "/tmp"]}


def test_a_changed_config_rolls_the_pods() -> None:
    """The pod template differs if and only if the configuration does."""

    def template(values: Json) -> Any:
        return render(values)["Deployment"]["spec"]["template"]

    assert template({}) == template({"service": {"port": 80}})
    assert template({}) != template({"config": {"token_budget": {"max_total": 9000}}})


def test_secrets_are_only_referred_to() -> None:
    """No document holds a key: the environment has references, to one Secret or several."""
    documents = render(ci_values(CHART / "ci" / "shared-values.yaml"))
    environment = {entry.pop("name"): entry for entry in container_in(documents)["env"]}
    del environment["LLM_GATEWAY_CONFIG"]

    assert "Secret" not in documents
    assert environment == {
        name: {"valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
        for name, secret, key in [
            ("OPENAI_API_KEY", "openai", "OPENAI_API_KEY"),
            ("REDIS_URL", "redis-credentials", "url"),
            ("FACTS_URL", "postgres-app", "uri"),
        ]
    }


def test_without_a_secret_no_key_is_injected() -> None:
    """Every variable that config may name exists and is empty, so that each client brings its own key."""
    environment = {entry["name"]: entry for entry in container_in(render())["env"]}
    named = set(re.findall(r"\$\{(\w+)\}", json.dumps(DEFAULTS["config"])))

    assert named == set(DEFAULTS["secretEnv"])
    assert [environment[name] for name in named] == [{"name": name, "value": ""} for name in named]


def test_image_is_the_charts_version_or_a_digest() -> None:
    """A tag of one's own wins over the chart's version, and a digest over any tag."""
    digest = "sha256:" + "0" * 64
    images = [
        container_in(render({"image": image}))["image"]
        for image in ({}, {"tag": "1.2"}, {"tag": "1.2", "digest": digest, "repository": "registry.example/g"})
    ]

    assert images == [f"llm-gateway:{gateway.__version__}", "llm-gateway:1.2", f"registry.example/g@{digest}"]


@pytest.mark.parametrize(
    ("values", "said", "unsaid"),
    [
        ({}, "no key is injected", "spends them"),
        ({"existingSecret": "openai"}, "Keys come from the Secret openai", "no key is injected"),
        ({"existingSecret": "openai"}, "whoever reaches this Service spends them", "no key is injected"),
        ({}, "One replica, whose briefs, limits and facts are lost", "narrow it"),
        (merge(REDIS, {"replicas": 2}), "http://gateway-llm-gateway.llm.svc:8080/v1", "One replica"),
    ],
)
def test_notes_say_what_the_release_means(values: Json, said: str, unsaid: str) -> None:
    """The address to use, whose key is spent, and what is lost."""
    with helm.Chart.load(CHART) as chart:
        notes = chart.render(values, name="gateway", namespace="llm")["llm-gateway/templates/NOTES.txt"]

    assert said in notes
    assert unsaid not in notes


def test_replicas_are_scaled_by_one_hand() -> None:
    """With autoscaling the Deployment names no number, or each upgrade would take it back."""
    documents = render(ci_values(CHART / "ci" / "shared-values.yaml"))
    scaled = documents["HorizontalPodAutoscaler"]["spec"]

    assert "replicas" not in documents["Deployment"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == documents["Deployment"]["metadata"]["name"]
    assert (scaled["minReplicas"], scaled["maxReplicas"]) == (3, 12)
    assert render(merge(REDIS, {"replicas": 4}))["Deployment"]["spec"]["replicas"] == 4


def test_policies_select_this_releases_pods() -> None:
    """Budget, policy and monitor name the labels that the pods have, and the ports by names that the container has."""
    values = merge(ci_values(CHART / "ci" / "monitoring-values.yaml"), merge(REDIS, {"replicas": 2}))
    documents = render(values)
    labels = documents["Deployment"]["spec"]["selector"]["matchLabels"]
    policy = documents["NetworkPolicy"]["spec"]
    ports = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]

    assert policy["podSelector"]["matchLabels"] == labels
    assert documents["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert documents["PodMonitor"]["spec"]["selector"]["matchLabels"] == labels
    assert ports == ["http", "admin"]
    assert [end["port"] for end in documents["PodMonitor"]["spec"]["podMetricsEndpoints"]] == ["admin"]


def test_names_stay_within_kubernetes_limits() -> None:
    """The longest release name that Helm allows (53) gives names and labels of at most 63 characters."""
    documents = render(ci_values(CHART / "ci" / "monitoring-values.yaml"), name="r" * 53)
    names = [document["metadata"]["name"] for document in documents.values()]
    labels = [v for document in documents.values() for v in document["metadata"]["labels"].values()]

    assert [name for name in [*names, *labels] if len(name) > 63 or name.endswith("-")] == []
