"""Plays kubelet with the pod of a rendered manifest, on real processes: `async with PodRunner(documents, ...) as pod`.

Kept as kubelet keeps it: init containers start in their order; one with restartPolicy Always is waited for until its
startup probe passes, over real HTTP on the pod's address, any other until it ends with 0; then the containers start.
Volumes are folders, ConfigMaps and Secrets laid out behind the link `..data`, which `change_config_map` swaps. On the
pod's end all containers get SIGTERM at once, native sidecars after them in the reverse of their order, all within one
terminationGracePeriodSeconds, at whose end SIGKILL comes (a sidecar has at least two seconds). Where Linux lets us
(`may_unshare`), a root that should be read-only is: all but the pod's folders.

Not played: images (a container is a program here, named by its image), mount namespaces (mount paths are replaced by
the folders' in commands, environment and ConfigMaps; one at /tmp is TMPDIR), users, memory limits, restarts, readiness
and liveness, preStop hooks (refused). What it was told is in `events`, what containers wrote in `lines`.

Invariants, each with a test of its own:
  1. No container starts before all init containers have started up or ended well.
  2. A sidecar hears SIGTERM only after all containers have ended, or their time is over.
  3. Nothing outlives the grace period, but for a sidecar's two seconds.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp

from tests.charts import containers_of, pod_of

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
POD_ADDRESS = "127.0.0.2"
"""Another than 127.0.0.1, so that what listens on that one alone is not reached by probes (Linux has all of 127/8)."""
MIN_SIDECAR_SECONDS = 2.0
READ_ONLY = (
    'mount --make-rprivate / && mount --bind "$0" "$0" && mount -o remount,bind,ro / &&'
    ' { ! mountpoint -q /tmp || mount -o remount,bind,ro /tmp; } && exec "$@"'
)
"""In a mount namespace of its own: everything is read-only but the folder $0. The process keeps its id."""


class PodFailedError(Exception):
    """The pod did not come up; the message says which container, and what it wrote."""


@dataclass(slots=True)
class Running:
    """One container: its process and what it wrote."""

    name: str
    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    reader: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Gather lines until the process closes its output."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
            self.changed.set()
        self.changed.set()


class PodRunner:
    """A pod of processes.

    Args:
        documents: the manifest, with one Deployment and the ConfigMaps that it mounts.
        programs: what stands for an image's entrypoint, by image; [] where the container names a command.
        secrets: the Secrets' texts, by name and key.
        hurry: by how much the periods of probes are shortened; the grace period is not.
    """

    def __init__(
        self,
        documents: Sequence[Json],
        programs: Mapping[str, Sequence[str]],
        secrets: Mapping[str, Mapping[str, str]] | None = None,
        hurry: float = 20,
    ) -> None:
        self.pod = pod_of(list(documents))
        self.events: list[str] = []
        self.containers: dict[str, Running] = {}
        self._maps = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
        self._programs = programs
        self._secrets = secrets or {}
        self._hurry = hurry
        self._holder = tempfile.TemporaryDirectory(prefix="pod-")
        self._folder = Path(self._holder.name)
        self._sidecars = [c["name"] for c in self.pod.get("initContainers") or [] if is_sidecar(c)]

    # Starting

    async def start(self) -> Self:
        """Start all containers as kubelet does.

        Raises:
            PodFailedError: an init container ended, or did not start up; the containers were not started.
        """
        for volume in self.pod.get("volumes") or []:
            self._make_volume(volume)
        for container in self.pod.get("initContainers") or []:
            running = await self._start(container)
            if is_sidecar(container):
                await self._wait_started(container, running)
            elif (code := await running.process.wait()) != 0:
                raise PodFailedError(f"{running.name} ended with {code}: {running.lines}")
        for container in self.pod["containers"]:
            await self._start(container)
        return self

    async def _start(self, container: Json) -> Running:
        if "lifecycle" in container:
            raise NotImplementedError("hooks are not played")
        command = [self._on_host(word, container) for word in container.get("command", [])]
        words = command or list(self._programs[container["image"]])  # these are the host's already
        words[0] = sys.executable if words[0] == "python3" else words[0]
        words += [self._on_host(word, container) for word in container.get("args", [])]
        if container.get("securityContext", {}).get("readOnlyRootFilesystem") and may_unshare():
            words = [*unshared(self._folder), *words]
        process = await asyncio.create_subprocess_exec(
            *words,
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **self._environment(container)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            limit=2**22,
        )
        running = Running(container["name"], process)
        running.reader = asyncio.create_task(running.read())
        self.containers[running.name] = running
        self.events.append(f"{running.name} started")
        return running

    def _environment(self, container: Json) -> dict[str, str]:
        mounts = container.get("volumeMounts", [])
        temporary = next((mount["name"] for mount in mounts if mount["mountPath"] == "/tmp"), None)
        found = {"TMPDIR": str(self._folder / temporary)} if temporary else {}
        for entry in container.get("env", []):
            if "valueFrom" in entry:
                wanted = entry["valueFrom"]["secretKeyRef"]
                found[entry["name"]] = self._secrets[wanted["name"]][wanted["key"]]
            else:
                found[entry["name"]] = self._on_host(entry.get("value", ""), container)
        return found

    def _on_host(self, text: str, container: Json) -> str:
        """A text in which the paths of mounts are those of their folders."""
        mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", [])}
        if not mounts:
            return text
        longest_first = "|".join(re.escape(path) for path in sorted(mounts, key=len, reverse=True))
        return re.sub(f"({longest_first})/", lambda found: f"{self._folder / mounts[found[1]]}/", text)

    async def _wait_started(self, container: Json, running: Running) -> None:
        """Ask the startup probe until it passes.

        Raises:
            PodFailedError: the container ended, or the probe has failed failureThreshold times.
        """
        if "startupProbe" not in container:
            return
        probe = container["startupProbe"]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(probe["timeoutSeconds"])) as session:
            # Failures count as for kubelet, though the looks come sooner: a start takes as long as it takes.
            for _ in range(int(probe["failureThreshold"] * self._hurry)):
                if await self._is_well(session, container, probe):
                    self.events.append(f"{running.name} started up")
                    return
                if running.process.returncode is not None:
                    break
                await asyncio.sleep(probe["periodSeconds"] / self._hurry)
        raise PodFailedError(f"{running.name} did not start up: {running.lines[-5:]}")

    async def _is_well(self, session: aiohttp.ClientSession, container: Json, probe: Json) -> bool:
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        wanted = probe["httpGet"]
        url = f"http://{POD_ADDRESS}:{ports[wanted['port']]}{wanted['path']}"
        try:
            async with session.get(url) as response:
                return 200 <= response.status < 400
        except (aiohttp.ClientError, TimeoutError):
            return False

    # Volumes

    def _make_volume(self, volume: Json) -> None:
        folder = self._folder / volume["name"]
        folder.mkdir()
        if "configMap" in volume:
            self._lay_out(folder, self._maps[volume["configMap"]["name"]])
        elif "secret" in volume:
            self._lay_out(folder, self._secrets[volume["secret"]["secretName"]])
        elif "emptyDir" not in volume:
            raise NotImplementedError(f"volume {volume}")

    def _lay_out(self, folder: Path, files: Mapping[str, str]) -> None:
        """Files behind a link to a link, which is replaced as one: nobody reads half of a change."""
        content = Path(tempfile.mkdtemp(prefix="..content-", dir=folder))
        owner = next((c for c in containers_of(self.pod) if self._mounts(c, folder.name)), {})
        for name, text in files.items():
            (content / name).write_text(self._on_host(text, owner), encoding="utf-8")
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(f"..data/{name}")
        link = folder / "..data_tmp"
        link.symlink_to(content.name)
        link.replace(folder / "..data")

    def _mounts(self, container: Json, volume: str) -> bool:
        return any(mount["name"] == volume for mount in container.get("volumeMounts", []))

    def change_config_map(self, name: str, files: Mapping[str, str]) -> None:
        """What kubelet does within a minute or so after a ConfigMap has changed."""
        for volume in self.pod["volumes"]:
            if volume.get("configMap", {}).get("name") == name:
                self._lay_out(self._folder / volume["name"], files)

    # Watching

    async def wait_line(self, name: str, accept: Callable[[str], bool], since: int = 0, timeout_s: float = 20) -> str:
        """The first line of a container, from that number on, that is accepted.

        Raises:
            TimeoutError: with what it wrote last.
        """
        running = self.containers[name]
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    running.changed.clear()
                    for line in running.lines[since:]:
                        if accept(line):
                            return line
                    await running.changed.wait()
        except TimeoutError:
            raise TimeoutError(f"{name} did not say it: {running.lines[-5:]}") from None

    # Ending

    async def stop(self) -> dict[str, int]:
        """Delete the pod; returns the exit codes, negative for a signal."""
        deadline = asyncio.get_running_loop().time() + self.pod.get("terminationGracePeriodSeconds", 30)
        main = [name for name in self.containers if name not in self._sidecars]
        await asyncio.gather(*(self._end(name, deadline) for name in main))
        for name in reversed(self._sidecars):
            if name in self.containers:
                least = asyncio.get_running_loop().time() + MIN_SIDECAR_SECONDS
                await self._end(name, max(deadline, least))
        return {name: running.process.returncode or 0 for name, running in self.containers.items()}

    async def _end(self, name: str, deadline: float) -> None:
        running = self.containers[name]
        if running.process.returncode is None:
            self._signal(running, signal.SIGTERM)
        try:
            async with asyncio.timeout_at(deadline):
                await running.process.wait()
        except TimeoutError:
            self._signal(running, signal.SIGKILL)
            await running.process.wait()
        if running.reader is not None:
            await running.reader
        self.events.append(f"{name} ended")

    def _signal(self, running: Running, number: signal.Signals) -> None:
        self.events.append(f"{running.name} {number.name}")
        running.process.send_signal(number)

    async def __aenter__(self) -> Self:
        try:
            return await self.start()
        except BaseException:
            await self._kill()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self._kill()

    async def _kill(self) -> None:
        """Whatever has happened, no process and no folder is left."""
        for running in self.containers.values():
            if running.process.returncode is None:
                running.process.kill()
            await running.process.wait()
            if running.reader is not None:
                await running.reader
        self._holder.cleanup()


def is_sidecar(container: Json) -> bool:
    """Whether an init container stays."""
    return container.get("restartPolicy") == "Always"


def unshared(folder: Path) -> list[str]:
    """What a command is prefixed with, to find all but this folder read-only."""
    return ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c", READ_ONLY, str(folder)]


@functools.cache
def may_unshare() -> bool:
    """Whether this machine lets us make mount namespaces."""
    if shutil.which("unshare") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run([*unshared(Path(folder)), "true"], capture_output=True, check=False)
    return tried.returncode == 0
