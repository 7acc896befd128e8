"""The library chart that puts the gateway beside an application, as the example application uses it."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import gateway
from helm import generate
from tests import charts
from tests.charts import (
    EXAMPLE,
    HELM,
    LIBRARY,
    OLDEST_KUBERNETES,
    OLDEST_NATIVE,
    ci_files,
    ci_values,
    container_of,
    merge,
    pod_of,
    values_of,
)

helm: Any = pytest.importorskip("helm_python", reason="helm-python-sdk (the Helm engine) is not installed")

Json = dict[str, Any]
FEATURES = pytest.mark.parametrize("path", ci_files(EXAMPLE), ids=lambda path: path.stem)
MODES = pytest.mark.parametrize("mode", ["native", "classic"])

WRONG_VALUES: dict[str, tuple[Json, str]] = {
    "an unknown name": ({"replicas": 2}, "replicas"),
    "an unknown mode": ({"mode": "injected"}, "mode"),
    "a mistyped name in config": ({"config": {"server": {"prot": 1}}}, "prot"),
    "a lame duck of one's own": ({"config": {"server": {"lame_duck_seconds": 1}}}, "lame_duck_seconds"),
    "a data port for all": ({"config": {"server": {"host": "0.0.0.0"}}}, "host"),
    "an admin port that kubelet cannot reach": ({"config": {"server": {"admin_host": "127.0.0.1"}}}, "admin_host"),
    "a literal key": (
        {"config": {"upstreams": [{"name": "a", "base_url": "https://a", "api_key": "sk-1"}]}},
        "api_key",
    ),
    "a monitor of all pods": ({"podMonitor": {"enabled": True}}, "matchLabels"),
}


def beside(**values: Any) -> Json:
    """Values of the example in which the library has these."""
    return {LIBRARY: values}


def render(values: Json | None = None) -> list[Json]:
    return charts.render(EXAMPLE, values, "app")


def both_of(documents: list[Json]) -> tuple[Json, Json]:
    """The gateway's container and the application's."""
    pod = pod_of(documents)
    return container_of(pod, "llm-gateway"), container_of(pod, "app")


def test_library_names_the_gateways_version() -> None:
    """A library does not see its own appVersion, so the tag stands in its values."""
    meta = yaml.safe_load((HELM / LIBRARY / "Chart.yaml").read_text())

    assert meta["type"] == "library"
    assert meta["appVersion"] == values_of(LIBRARY)["image"]["tag"] == gateway.__version__


@FEATURES
def test_lint_is_clean(path: Path, tmp_path: Path) -> None:
    """The application that depends on it lints strictly, in a version that has what it uses."""
    place = generate.with_dependencies(EXAMPLE, tmp_path)
    report = helm.lint(place, ci_values(path), strict=True, kube_version=f"v{OLDEST_NATIVE}.0")

    assert report["errors"] == []
    assert [m["error"] for m in report["messages"] if m["severity"] > 1] == []


def test_native_is_refused_where_it_would_hang(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Before 1.29 such a pod would wait for ever for an init container that never ends; classic is taken.

    Only lint can be told a version; it logs what `helm template` and `helm install` end with.
    """
    place = generate.with_dependencies(EXAMPLE, tmp_path)
    helm.lint(place, {}, strict=True, kube_version="v1.28.9")
    native = capfd.readouterr().err
    classic = helm.lint(place, beside(mode="classic"), strict=True, kube_version=f"v{OLDEST_KUBERNETES}.0")

    assert "Set llm-gateway-sidecar.mode: classic" in native
    assert (classic["errors"], capfd.readouterr().err) == ([], "")


def test_helm_builds_the_dependency(tmp_path: Path) -> None:
    """`helm dependency update` finds the library beside the example, and what it packs renders the same."""
    for chart in (EXAMPLE, LIBRARY):
        shutil.copytree(HELM / chart, tmp_path / chart, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
    helm.dependency_update(tmp_path / EXAMPLE, skip_refresh=True)
    with helm.Chart.load(tmp_path / EXAMPLE) as loaded:
        files = loaded.render({}, name="app", namespace="llm")
    documents = [d for path, text in sorted(files.items()) if path.endswith(".yaml") for d in yaml.safe_load_all(text)]

    assert [document for document in documents if document] == render()


@FEATURES
@pytest.mark.parametrize("version", ["oldest", "newest"])
def test_kubernetes_accepts_every_document(path: Path, version: str) -> None:
    """No unknown field and no wrong type, in the oldest version that the mode is for and the newest known."""
    documents = render(ci_values(path))
    is_native = ci_values(path)[LIBRARY].get("mode", "native") == "native"
    oldest = OLDEST_NATIVE if is_native else OLDEST_KUBERNETES
    charts.validate(documents, oldest if version == "oldest" else version)

    if is_native:
        with pytest.raises(charts.InvalidDocumentError, match="restartPolicy"):  # or the line above would prove nothing
            charts.validate(documents, OLDEST_KUBERNETES)


@pytest.mark.parametrize(("values", "named"), WRONG_VALUES.values(), ids=WRONG_VALUES)
def test_wrong_values_are_refused(values: Json, named: str) -> None:
    """The library's schema holds in the chart that depends on it."""
    with pytest.raises(helm.HelmValuesError, match=named):
        render({LIBRARY: values})


def test_what_would_not_work_is_refused_in_words() -> None:
    """The same words as those of the shared gateway's chart."""
    with pytest.raises(helm.HelmRenderError, match="secretEnv has no REDIS_URL"):
        render(beside(config={"state": {"url": "${REDIS_URL}"}}))
    with pytest.raises(helm.HelmRenderError, match=r"Set data\.enabled: true"):
        render(beside(config={"state": {"url": "sqlite:///x/a.db"}}))


def test_a_chart_without_the_dependency_is_told_so(tmp_path: Path) -> None:
    """Templates that are there by another way find no values."""
    place = generate.with_dependencies(EXAMPLE, tmp_path)
    shutil.copytree(HELM / LIBRARY / "templates", place / "templates", dirs_exist_ok=True)
    shutil.rmtree(place / "charts")
    meta = yaml.safe_load((place / "Chart.yaml").read_text())
    del meta["dependencies"]
    (place / "Chart.yaml").write_text(yaml.safe_dump(meta))
    values = yaml.safe_load((place / "values.yaml").read_text())
    del values[LIBRARY]
    (place / "values.yaml").write_text(yaml.safe_dump(values))
    with helm.Chart.load(place) as loaded, pytest.raises(helm.HelmRenderError, match="not among the dependencies"):
        loaded.render({}, name="app", namespace="llm")


@FEATURES
def test_pod_is_restricted(path: Path) -> None:
    """The gateway's container is so by itself, whatever the pod's own security context leaves open."""
    pod = pod_of(render(ci_values(path)))
    bare = {**pod, "securityContext": {}, "containers": [c for c in pod["containers"] if c["name"] != "app"]}

    assert list(charts.restricted_faults(pod)) == []
    assert list(charts.restricted_faults(bare)) == []
    assert container_of(pod, "llm-gateway")["securityContext"]["readOnlyRootFilesystem"] is True


def test_pod_security_checks_find_faults() -> None:
    """Each rule is broken once, and found."""
    good = pod_of(render())
    breaks: dict[str, Json] = {
        "capabilities": {"capabilities": {"drop": ["NET_RAW"]}},
        "allowPrivilegeEscalation": {"allowPrivilegeEscalation": None},
        "privileged": {"privileged": True},
        "root": {"runAsUser": 0},
        "seccompProfile": {"seccompProfile": {"type": "Unconfined"}},
    }
    found = {}
    for name, change in breaks.items():
        pod = copy.deepcopy(good)
        pod["containers"][0]["securityContext"] |= change
        found[name] = list(charts.restricted_faults(pod))
    pod = copy.deepcopy(good) | {"hostNetwork": True, "volumes": [{"name": "a", "hostPath": {"path": "/"}}]}
    pod["containers"][0]["ports"] = [{"containerPort": 1, "hostPort": 1}]

    assert found == {name: [f"app: {name}"] for name in breaks}
    assert list(charts.restricted_faults(pod)) == ["pod: hostNetwork", "volume a: hostPath", "app: hostPort"]


def test_native_sidecar_is_an_init_container_that_stays() -> None:
    """First of all, gated by a startup probe, and without a preStop hook, which would only cost the grace period."""
    gateway_container, app = both_of(render())
    pod = pod_of(render())

    assert pod["initContainers"][0]["name"] == "llm-gateway"
    assert gateway_container["restartPolicy"] == "Always"
    assert gateway_container["startupProbe"]["httpGet"] == {"path": "/health/ready", "port": "llm-admin"}
    assert "lifecycle" not in gateway_container
    assert [container["name"] for container in pod["containers"]] == [app["name"]]


def test_classic_sidecar_is_an_ordinary_container() -> None:
    """No init container; what it is otherwise is the same."""
    classic, native = render(beside(mode="classic")), render()
    pod = pod_of(classic)

    assert not pod.get("initContainers")
    assert [container["name"] for container in pod["containers"]] == ["llm-gateway", "app"]
    assert {**both_of(classic)[0], "restartPolicy": "Always"} == both_of(native)[0]


@MODES
@pytest.mark.parametrize(("app_s", "drain_s"), [(30, 5), (0, 0), (600, 2.5)])
def test_grace_period_is_the_sum(mode: str, app_s: int, drain_s: float) -> None:
    """What the application may take, the gateway's drain, and 5 s; classic: it serves on while the application may."""
    values = beside(mode=mode, appGraceSeconds=app_s, config={"server": {"drain_seconds": drain_s}})
    documents = render(values)
    server = yaml.safe_load(charts.gateway_config(documents))["server"]
    grace = pod_of(documents)["terminationGracePeriodSeconds"]

    assert app_s + drain_s + 5 <= grace < app_s + drain_s + 6
    assert server["lame_duck_seconds"] == (app_s if mode == "classic" else 0)


@FEATURES
def test_application_is_led_to_the_gateway(path: Path) -> None:
    """OPENAI_BASE_URL names the data port on loopback; kubelet and Prometheus find the admin port by its name."""
    documents = render(ci_values(path))
    gateway_container, app = both_of(documents)
    server = yaml.safe_load(charts.gateway_config(documents))["server"]
    environment = {entry["name"]: entry.get("value") for entry in app["env"]}
    ports = {port["name"]: port["containerPort"] for port in gateway_container["ports"]}

    assert environment["OPENAI_BASE_URL"] == f"http://127.0.0.1:{server['port']}/v1"
    assert server["host"] == "127.0.0.1"
    assert ports == {"llm-http": server["port"], "llm-admin": server["admin_port"]}
    assert all(len(name) <= 15 for name in ports)


def test_ports_are_not_those_that_applications_like() -> None:
    """14080 and 14081, in the container and in the configuration."""
    documents = render()
    server = yaml.safe_load(charts.gateway_config(documents))["server"]

    assert (server["port"], server["admin_port"]) == (14080, 14081)


def test_application_gets_a_stand_in_only_for_a_key_that_the_gateway_has() -> None:
    """Without one its own key is sent on; with client keys it needs its own, which the stand-in would hide."""
    clients = {"clients": [{"name": "app", "key_sha256": "0" * 64}]}
    names = [
        {entry["name"] for entry in both_of(render(values))[1]["env"]} & {"OPENAI_API_KEY"}
        for values in ({}, beside(existingSecret="openai"), beside(existingSecret="openai", config=clients))
    ]

    assert names == [set(), {"OPENAI_API_KEY"}, set()]


@FEATURES
def test_nothing_else_is_done_to_the_application(path: Path) -> None:
    """No checksum that restarts it, no policy or budget that is its own to have, no account, no Secret."""
    documents = render(ci_values(path))
    (deployment,) = [document for document in documents if document["kind"] == "Deployment"]
    kinds = [document["kind"] for document in documents]

    assert "annotations" not in deployment["spec"]["template"]["metadata"]
    assert set(kinds) <= {"Deployment", "ConfigMap", "PodMonitor"}
    assert render(ci_values(path))[0] == render(merge(ci_values(path), beside(config={"prices": {}})))[0]


def test_a_changed_config_does_not_restart_the_application() -> None:
    """It arrives in the mounted folder, and the gateway applies it."""
    changed = render(beside(config={"token_budget": {"max_total": 9000}}))

    assert pod_of(changed) == pod_of(render())
    assert charts.gateway_config(changed) != charts.gateway_config(render())


@FEATURES
def test_the_gateway_accepts_the_config(path: Path, tmp_path: Path) -> None:
    """What is mounted is what `llm-gateway check` takes, with the container's environment and no other."""
    code, output = charts.check_config(render(ci_values(path)), "llm-gateway", tmp_path)

    assert code == 0, output


@FEATURES
def test_config_arrives_unchanged(path: Path) -> None:
    """But for what is computed."""
    text = charts.gateway_config(render(ci_values(path)))
    arrived = yaml.safe_load(text)
    del arrived["server"]["lame_duck_seconds"]

    assert arrived == merge(values_of(LIBRARY), ci_values(path)[LIBRARY])["config"]
    assert "e+" not in text


def test_what_is_mounted_where() -> None:
    """Folders without subPath; each volume is the pod's, under a name that no application has by chance."""
    documents = render(ci_values(HELM / EXAMPLE / "ci" / "everything-values.yaml"))
    gateway_container, _ = both_of(documents)
    volumes = {volume["name"] for volume in pod_of(documents)["volumes"]} - {"app"}
    mounts = {mount["mountPath"]: mount["name"] for mount in gateway_container["volumeMounts"]}

    assert set(mounts) == {"/etc/llm-gateway", "/etc/llm-gateway-secret", "/tmp", "/var/lib/llm-gateway"}
    assert set(mounts.values()) == volumes
    assert all(re.match("llm-gateway-", name) for name in volumes)
    assert "subPath" not in json.dumps(gateway_container)


DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
"""


@MODES
def test_the_five_lines_of_the_documentation_work(mode: str, tmp_path: Path) -> None:
    """Copied out of docs/sidecar.md into a chart that has nothing else."""
    text = (charts.ROOT / "docs" / "sidecar.md").read_text()
    dependency, lines, values = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (manifests,) = re.findall(r"holds the ConfigMap: `(.*?)`", text)
    chart = tmp_path / "app"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: app\nversion: 1.0.0\n{dependency}")
    (chart / "values.yaml").write_text(values)
    lines = lines.replace("- name: app\n", "- name: app\n          image: app\n")
    (chart / "templates" / "app.yaml").write_text(DEPLOYMENT + lines)
    (chart / "templates" / "llm-gateway.yaml").write_text(manifests)
    shutil.copytree(HELM / LIBRARY, tmp_path / LIBRARY)
    helm.dependency_update(chart, skip_refresh=True)
    with helm.Chart.load(chart) as loaded:
        files = loaded.render(beside(mode=mode), name="app", namespace="llm")
    documents = [
        d for path, found in sorted(files.items()) if path.endswith(".yaml") for d in yaml.safe_load_all(found)
    ]
    documents = [document for document in documents if document]
    charts.validate(documents, OLDEST_NATIVE)

    gateway_container, app = both_of(documents)
    assert gateway_container == both_of(render(beside(mode=mode, existingSecret="openai")))[0]
    assert [entry["name"] for entry in app["env"]] == ["OPENAI_BASE_URL", "OPENAI_API_KEY"]
    assert pod_of(documents)["terminationGracePeriodSeconds"] == 40
