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
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = Path(os.environ.get("DEV_VENV", ROOT / ".venv"))
LOCK = ROOT / "requirements-dev.lock"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def installed_digest() -> str:
    """What the environment must hold: locked packages, our own metadata, and the interpreter."""
    parts = [
        LOCK.read_bytes(),
        (ROOT / "pyproject.toml").read_bytes(),
        sys.version.encode(),
        str(ROOT).encode(),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def ensure_environment() -> None:
    """Make or refresh the virtual environment.

    Raises:
        SystemExit: Python is older than 3.11, or pip failed (its own message stands above).
    """
    if sys.version_info < (3, 11):  # noqa: UP036 - this line runs before any environment exists
        sys.exit(f"dev.py needs Python 3.11 or newer, this is {sys.version.split()[0]}")
    stamp = VENV / ".installed"
    digest = installed_digest()
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == digest:
        return
    print(f"dev.py: installing locked packages into {VENV}", file=sys.stderr, flush=True)
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for arguments in (
        ["--require-hashes", "--only-binary", ":all:", "-r", str(LOCK)],
        ["--no-deps", "--no-build-isolation", "-e", str(ROOT)],
    ):
        if subprocess.run([*pip, *arguments], cwd=ROOT, check=False).returncode != 0:
            sys.exit("dev.py: pip could not install the locked packages; its message stands above")
    stamp.write_text(digest)


def run(*command: str) -> int:
    """Run a command of the environment from the project's root; returns its exit code."""
    ensure_environment()
    return subprocess.run([str(PYTHON), *command], cwd=ROOT, check=False).returncode


def task_setup(_: list[str]) -> int:
    """make the environment only"""
    ensure_environment()
    return 0


def task_demo(arguments: list[str]) -> int:
    """a long conversation through the gateway, with the built-in upstream"""
    return run("-m", "gateway", "demo", *arguments)


def task_test(arguments: list[str]) -> int:
    """all tests (arguments go to pytest)"""
    return run("-m", "pytest", *arguments)


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


def task_docs(_: list[str]) -> int:
    """write config/gateway.yaml and config/gateway.schema.json from the options table"""
    return run("-m", "gateway", "config", "--write", str(ROOT / "config"))


def task_lock(_: list[str]) -> int:
    """resolve the versions anew (needs `uv` on PATH)"""
    base = ["uv", "pip", "compile", "-q", "--universal", "--generate-hashes", "--no-annotate", "--no-header"]
    base += ["-p", "3.11", "pyproject.toml"]
    for extra, target in (([], "requirements.lock"), (["--extra", "dev"], "requirements-dev.lock")):
        code = subprocess.run([*base, *extra, "--upgrade", "-o", target], cwd=ROOT, check=False).returncode
        if code != 0:
            return code
    return 0


TASKS: dict[str, Callable[[list[str]], int]] = {
    name.removeprefix("task_"): task for name, task in sorted(globals().items()) if name.startswith("task_")
}


def main() -> int:
    listing = "\n".join(f"  {name:8} {task.__doc__}" for name, task in TASKS.items())
    parser = argparse.ArgumentParser(
        description=f"tasks:\n{listing}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS, metavar="TASK")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    chosen = parser.parse_args()
    return TASKS[chosen.task](chosen.arguments)


if __name__ == "__main__":
    sys.exit(main())
