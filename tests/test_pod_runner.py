"""The pod runner itself: with small programs, does it do what kubelet does?"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

import pytest

from tests.pod_runner import PodFailedError, PodRunner, may_unshare

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="a pod's own address is one of 127/8, as Linux has them"
)

Json = dict[str, Any]
WAITS = "print('up', flush=True)\nwhile 1: time.sleep(9)"
STUBBORN = f"import signal, time\nsignal.signal(signal.SIGTERM, lambda *_: None)\n{WAITS}"
POLITE = f"import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n{WAITS}"
SERVES = """
import http.server, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    looks = 0
    def do_GET(self):
        Handler.looks += 1
        self.send_response(200 if Handler.looks > 2 else 503)
        self.end_headers()
        print("looked at", flush=True)
    def log_message(self, *_): pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
http.server.HTTPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port() -> int:
    """One that nobody has now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def container(name: str, program: str, *arguments: str, **fields: Any) -> Json:
    return {"name": name, "image": "python", "command": ["python3", "-c", program, *arguments], **fields}


def sidecar(name: str, program: str = POLITE, *arguments: str, **fields: Any) -> Json:
    return container(name, program, *arguments, restartPolicy="Always", **fields)


def probed(name: str, failure_threshold: int = 60) -> Json:
    port = free_port()
    probe = {
        "httpGet": {"path": "/", "port": "http"},
        "periodSeconds": 1,
        "timeoutSeconds": 1,
        "failureThreshold": failure_threshold,
    }
    return sidecar(name, SERVES, str(port), ports=[{"name": "http", "containerPort": port}], startupProbe=probe)


def pod(*containers: Json, init: tuple[Json, ...] = (), grace_s: float = 20, **fields: Any) -> list[Json]:
    spec = {"initContainers": [*init], "containers": [*containers], "terminationGracePeriodSeconds": grace_s, **fields}
    return [{"kind": "Deployment", "spec": {"template": {"spec": spec}}}]


def runner(documents: list[Json], **more: Any) -> PodRunner:
    return PodRunner(documents, {}, **more)


async def wait_up(running: PodRunner, *names: str) -> None:
    for name in names:
        await running.wait_line(name, lambda line: line == "up")


async def test_containers_wait_for_init_containers() -> None:
    """One after the other: what ends must have ended, what stays must have passed its probe, twice refused before."""
    documents = pod(container("app", POLITE), init=(container("first", "print('done')"), probed("beside")))
    async with runner(documents) as running:
        await wait_up(running, "app")
        started = list(running.events)
        looks = len(running.containers["beside"].lines)

    assert started == ["first started", "beside started", "beside started up", "app started"]
    assert looks == 3


@pytest.mark.parametrize("init", [container("bad", "raise SystemExit(3)"), probed("bad", failure_threshold=0)])
async def test_nothing_starts_behind_an_init_container_that_fails(init: Json) -> None:
    """An exit code that is not 0, or a probe that never passes: the application is not started."""
    running = runner(pod(container("app", POLITE), init=(init,)))
    with pytest.raises(PodFailedError, match="bad"):
        await running.__aenter__()

    assert running.events == ["bad started"]
    assert running.containers["bad"].process.returncode is not None


async def test_sidecars_end_after_containers_in_reverse() -> None:
    """SIGTERM to all containers at once; to sidecars when all of them have ended, the last one first."""
    documents = pod(container("a", POLITE), container("b", POLITE), init=(sidecar("one"), sidecar("two")))
    async with runner(documents) as running:
        await wait_up(running, "one", "two", "a", "b")
        running.events.clear()
        codes = await running.stop()

    assert running.events[:2] == ["a SIGTERM", "b SIGTERM"]
    assert set(running.events[2:4]) == {"a ended", "b ended"}
    assert running.events[4:] == ["two SIGTERM", "two ended", "one SIGTERM", "one ended"]
    assert codes == {"one": 0, "two": 0, "a": 0, "b": 0}


async def test_one_grace_period_for_all() -> None:
    """A container that takes all of it is killed, and so is a sidecar after its two seconds."""
    documents = pod(container("app", STUBBORN), init=(sidecar("beside", STUBBORN),), grace_s=0.2)
    async with runner(documents) as running:
        await wait_up(running, "beside", "app")
        running.events.clear()
        codes = await running.stop()

    assert running.events == [
        *("app SIGTERM", "app SIGKILL", "app ended"),
        *("beside SIGTERM", "beside SIGKILL", "beside ended"),
    ]
    assert codes == {"beside": -9, "app": -9}


async def test_config_maps_are_swapped_as_one() -> None:
    """A container reads files behind a link, and after a change the new ones, under the same names."""
    says = "import sys\nfor _ in sys.stdin: pass\nprint(open(sys.argv[1]).read(), flush=True)\n" + POLITE
    mount = [{"name": "config", "mountPath": "/etc/app"}]
    documents = [
        *pod(
            container("app", says, "/etc/app/a.txt", volumeMounts=mount),
            volumes=[{"name": "config", "configMap": {"name": "texts"}}],
        ),
        {"kind": "ConfigMap", "metadata": {"name": "texts"}, "data": {"a.txt": "at /etc/app/b"}},
    ]
    async with runner(documents) as running:
        await wait_up(running, "app")
        said = running.containers["app"].lines[0]
        folder = running._folder / "config"
        before = (folder / "..data").readlink()
        running.change_config_map("texts", {"a.txt": "new"})
        after, text = (folder / "..data").readlink(), (folder / "a.txt").read_text()

    assert said == f"at {folder}/b"
    assert (before != after, text) == (True, "new")


async def test_environment_is_the_manifests() -> None:
    """Values and Secrets, and nothing of this process but where programs are."""
    env = [
        {"name": "A", "value": "1"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]
    says = "import json,os\nprint(json.dumps(dict(os.environ)), flush=True)\n" + POLITE
    async with runner(pod(container("app", says, env=env)), secrets={"s": {"k": "hidden"}}) as running:
        await wait_up(running, "app")
        found = json.loads(running.containers["app"].lines[0])

    assert {name: value for name, value in found.items() if name not in ("PATH", "LC_CTYPE")} == {
        "A": "1",
        "B": "hidden",
    }


@pytest.mark.skipif(not may_unshare(), reason="this machine lets us make no mount namespaces")
async def test_a_read_only_root_is() -> None:
    """Nothing can be written but in a volume; one at /tmp is where temporary files go."""
    says = """
import sys, tempfile
for place in (*sys.argv[1:], "/var/tmp"):
    try:
        print(tempfile.mkdtemp(dir=place) and "written")
    except OSError as error:
        print(error.strerror)
print(tempfile.gettempdir())
"""
    mounts = [{"name": "data", "mountPath": "/data"}, {"name": "scratch", "mountPath": "/tmp"}]
    documents = pod(
        container(
            *("app", says + POLITE, "/data/", "/tmp/"),
            volumeMounts=mounts,
            securityContext={"readOnlyRootFilesystem": True},
        ),
        volumes=[{"name": "data", "emptyDir": {}}, {"name": "scratch", "emptyDir": {}}],
    )
    async with runner(documents) as running:
        await wait_up(running, "app")
        lines = running.containers["app"].lines
        scratch = running._folder / "scratch"

    assert lines == ["written", "written", "Read-only file system", str(scratch), "up"]


async def test_hooks_are_refused() -> None:
    """What is not played is not passed over in silence."""
    with pytest.raises(NotImplementedError, match="hooks"):
        await runner(pod(container("app", POLITE, lifecycle={"preStop": {}}))).__aenter__()
