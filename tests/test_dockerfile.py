"""The Dockerfile, read as the build reads it: what the image promises to whoever runs it.

No container engine is needed, and no image is built: these are the promises that a quiet edit could break.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.requirements import Requirement

import gateway

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "helm" / "llm-gateway"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())


class Instruction(NamedTuple):
    name: str
    rest: str


def parse_dockerfile(text: str) -> list[list[Instruction]]:
    """Instructions by stage; the first list is what stands before the first FROM."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    stages: list[list[Instruction]] = [[]]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        name, rest = line.split(maxsplit=1)
        if name == "FROM":
            stages.append([])
        stages[-1].append(Instruction(name, rest))
    return stages


PREAMBLE, *STAGES = parse_dockerfile((ROOT / "Dockerfile").read_text())
FINAL = STAGES[-1]


def all_of(stage: list[Instruction], name: str) -> list[str]:
    return [instruction.rest for instruction in stage if instruction.name == name]


def pairs(texts: list[str]) -> dict[str, str]:
    """ENV or LABEL instructions as one mapping, quotes taken off."""
    found = re.findall(r'([\w.]+)=("[^"]*"|\S+)', " ".join(texts))
    return {name: value.strip('"') for name, value in found}


def test_final_stage_only_takes_the_environment():
    """Caches, locks and sources stay behind: nothing is run in the last stage, one folder is copied."""
    assert len(STAGES) > 1
    assert all_of(FINAL, "RUN") == all_of(FINAL, "ADD") == []
    assert all_of(FINAL, "COPY") == ["--from=build /opt/llm-gateway /opt/llm-gateway"]


def test_stages_share_one_python():
    """A virtual environment points at the interpreter that made it, so both stages come from one base."""
    bases = {instruction.split()[0] for stage in STAGES for instruction in all_of(stage, "FROM")}
    (argument,) = all_of(PREAMBLE, "ARG")

    assert bases == {"${PYTHON_IMAGE}"}
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+-slim-\w+", argument)


def test_user_is_a_number_and_not_root():
    """runAsNonRoot refuses an image whose user is a name; the chart runs the very same user."""
    (user,) = all_of(FINAL, "USER")
    uid, gid = (int(part) for part in user.split(":"))
    template = (CHART / "templates" / "deployment.yaml").read_text()

    assert uid > 0
    assert gid > 0
    assert re.findall(r"runAs(?:User|Group): (\d+)", template) == [str(uid), str(gid)]


def test_signals_reach_the_gateway():
    """Exec form: a shell as process 1 would swallow SIGTERM, and every drain would end in SIGKILL."""
    (entrypoint,) = all_of(FINAL, "ENTRYPOINT")
    (command,) = all_of(FINAL, "CMD")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

    assert json.loads(entrypoint) == list(scripts) == ["llm-gateway"]
    assert json.loads(command) == ["serve"]


def test_every_install_is_hash_checked():
    """pip either checks hashes of wheels, or may not use a network at all."""
    commands = [part for stage in STAGES for run in all_of(stage, "RUN") for part in run.split("&&")]
    installs = [command.split("install", 1)[1] for command in commands if "pip" in command and " install " in command]

    assert len(installs) == 3
    for arguments in installs:
        is_checked = "--require-hashes" in arguments and "--only-binary :all:" in arguments
        is_local = "--no-index" in arguments and "--no-deps" in arguments
        assert is_checked or is_local, arguments


def test_what_reads_documents_is_an_option():
    """The image is small unless its builder asks for more, by the name of a lock that is there."""
    arguments = dict(text.split("=", 1) for text in all_of(STAGES[0], "ARG"))
    (named,) = set(re.findall(r"--build-arg LOCK=(\S+)", (ROOT / "Dockerfile").read_text()))

    assert arguments["LOCK"] == "requirements.lock"
    assert "pypdfium2==" not in (ROOT / "requirements.lock").read_text()
    assert "pypdfium2==" in (ROOT / named).read_text()


def test_build_backend_is_cut_from_the_lock_whole():
    """What is cut out of the development lock is all that hatchling needs: no more, no less, all hashed."""
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    (pattern,) = re.findall(r"keep = /(\^\([^/]+)/", (ROOT / "Dockerfile").read_text())
    lock = re.sub(r"\\\n\s*", "", (ROOT / "requirements-dev.lock").read_text()).splitlines()
    cut = {line.split("==")[0]: line for line in lock if re.match(pattern, line)}

    needed, todo = set(), ["hatchling"]
    while todo:
        name = todo.pop()
        needed.add(name)
        wants = [Requirement(text) for text in importlib.metadata.requires(name) or []]
        todo += {
            wanted.name
            for wanted in wants
            if wanted.name not in needed and (wanted.marker is None or wanted.marker.evaluate({"extra": ""}))
        }

    assert set(cut) == needed
    assert [name for name, line in cut.items() if "--hash=sha256:" not in line] == []


def test_read_only_root_suffices():
    """No bytecode is written at run time, it was compiled before; the configuration comes from a mount."""
    environment = pairs(all_of(FINAL, "ENV"))

    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert any("compileall" in run for run in all_of(STAGES[0], "RUN"))
    assert environment["LLM_GATEWAY_CONFIG"] == "/etc/llm-gateway/gateway.yaml"


def test_image_opens_no_port_by_itself():
    """Loopback unless the operator says otherwise: no image decides that strangers may spend a key."""
    environment = pairs(all_of(FINAL, "ENV"))
    server = VALUES["config"]["server"]

    assert [name for name in environment if name.startswith("GATEWAY__")] == []
    assert all_of(FINAL, "EXPOSE") == [f"{server['port']} {server['admin_port']}"]


def test_labels_tell_what_it_is():
    """The version is that of the sources; name, licence and description are the package's."""
    labels = pairs(all_of(FINAL, "LABEL"))
    arguments = dict(text.split("=", 1) for text in all_of(FINAL, "ARG"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert arguments["VERSION"] == gateway.__version__
    assert labels["org.opencontainers.image.version"] == "${VERSION}"
    assert labels["org.opencontainers.image.revision"] == "${REVISION}"
    assert labels["org.opencontainers.image.title"] == project["name"]
    assert labels["org.opencontainers.image.licenses"] == project["license"]
    assert labels["org.opencontainers.image.description"] == project["description"]


def test_context_holds_what_is_copied_and_nothing_else():
    """.dockerignore starts from nothing, so that a new folder, or a stray .env, is kept out unasked."""
    first, *rules = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for stage in STAGES
        for copy in all_of(stage, "COPY")
        if not copy.startswith("--from")
        for source in copy.split()[:-1]
    }

    assert first == "*"
    assert let_in == copied
    assert [name for name in copied if not (ROOT / name).exists()] == []
