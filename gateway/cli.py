"""The command line: serve, check, count, compact, demo, config."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gateway import __version__
from gateway.settings import TokenBudget
from gateway.settings_check import SHARES
from gateway.settings_load import InvalidSettings, Loaded, load_settings

CONFIG_VARIABLE = "LLM_GATEWAY_CONFIG"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the process's exit code."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
    except InvalidSettings as invalid:
        print(render_faults(invalid), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `llm-gateway ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llm-gateway", description="A token-budget gateway for LLM applications.")
    parser.add_argument("--version", action="version", version=f"llm-gateway {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str, *, takes_config: bool = True) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        if takes_config:
            default = os.environ.get(CONFIG_VARIABLE)
            sub.add_argument("--config", "-c", type=Path, default=Path(default) if default else None, help="YAML file")
        return sub

    command("serve", run_serve, "Run the gateway.")
    worker = commands.add_parser("worker")  # started by the supervisor, and by nobody else
    worker.set_defaults(run=run_worker_process)
    worker.add_argument("--channel", type=int, required=True)
    worker.add_argument("--listener", type=int, required=True)
    command("check", run_check, "Say everything that is wrong with a configuration.")
    for name, run, text in (
        ("count", run_count, "Count the tokens of a chat JSON file, by section."),
        ("compact", run_compact, "Show what compaction would do to a chat JSON file, offline."),
    ):
        sub = command(name, run, text)
        sub.add_argument(
            "file", type=Path, help='a chat completions body, or {"messages": [...]}, or a list of messages'
        )
        sub.add_argument("--model", default=None, help="in place of the file's own")
        sub.add_argument("--json", action="store_true", help="print JSON")
        if name == "compact":
            sub.add_argument("--explain", action="store_true", help="show before and after, message by message")
    command("key", run_key, "Make a key for a client, and what the configuration knows it by.", takes_config=False)
    demo = command(
        "demo",
        run_demo,
        "A long conversation through the gateway, with the built-in upstream.",
        takes_config=False,
    )
    demo.add_argument("--turns", type=int, default=64)
    demo.add_argument("--budget", type=int, default=8000, help="max_total in tokens")
    demo.add_argument("--verbose", action="store_true")
    config = command("config", run_config, "Print every option at its default, with its help.", takes_config=False)
    config.add_argument("--schema", action="store_true", help="print the JSON Schema for editors instead")
    config.add_argument("--write", type=Path, metavar="FOLDER", help="write gateway.yaml and gateway.schema.json there")
    return parser


def render_faults(invalid: InvalidSettings) -> str:
    """All faults of a configuration, one a line."""
    count = len(invalid.faults)
    lines = [f"The configuration has {count} fault{'s' if count > 1 else ''}:"]
    return "\n".join(lines + [f"  {fault}" for fault in invalid.faults])


def run_serve(options: argparse.Namespace) -> int:
    """Run the gateway until it is told to stop."""
    from gateway.shell.telemetry.logs import set_up_logging

    loaded = load_settings(options.config, os.environ)
    set_up_logging(loaded.settings.telemetry.log_level, loaded.settings.telemetry.log_format)
    reload = (lambda: load_settings(options.config, os.environ)) if options.config else None
    try:
        if loaded.settings.server.workers > 1:
            return _run_supervisor(loaded, reload)
        from gateway.app import serve

        _run_loop(serve(loaded, reload))
    except OSError as error:
        print(f"llm-gateway: cannot listen: {error}", file=sys.stderr)
        return 1
    return 0


def _run_supervisor(loaded: Loaded, reload: Callable[[], Loaded] | None) -> int:
    from gateway.supervisor import WorkersFailed, supervise

    try:
        _run_loop(supervise(loaded, reload))
    except WorkersFailed as failed:
        print(f"llm-gateway: {failed}; the log above says why", file=sys.stderr)
        return 1
    return 0


def run_worker_process(options: argparse.Namespace) -> int:
    """Serve as one of several workers."""
    import socket

    from gateway.worker import run_worker

    code: int = _run_loop(run_worker(socket.socket(fileno=options.channel), socket.socket(fileno=options.listener)))
    return code


def _run_loop(work: Any) -> Any:
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def run_check(options: argparse.Namespace) -> int:
    """Load a configuration and say what was found."""
    from gateway.compose import check_tokenizers

    loaded: Loaded = load_settings(options.config, os.environ)
    check_tokenizers(loaded.settings.token_estimator)
    for note in loaded.notes:
        print(f"note: {note}")
    names = ", ".join(f"{upstream.name} ({upstream.base_url})" for upstream in loaded.settings.upstreams)
    print(f"OK: {options.config or 'defaults and environment'}; upstreams: {names}")
    return 0


def run_key(_: argparse.Namespace) -> int:
    """Print a new key, which is kept nowhere, and its digest."""
    key = f"gw-{secrets.token_urlsafe(32)}"
    print(f"key         {key}   (give it to the client; it is shown this once)")
    print(f"key_sha256  {hashlib.sha256(key.encode()).hexdigest()}   (for the configuration)")
    return 0


def run_count(options: argparse.Namespace) -> int:
    """Count a chat file."""
    from gateway.offline import count_file

    return count_file(
        options.file, load_settings(options.config, os.environ).settings, options.model, as_json=options.json
    )


def run_compact(options: argparse.Namespace) -> int:
    """Compact a chat file without a summariser."""
    from gateway.offline import compact_file

    settings = load_settings(options.config, os.environ).settings
    return compact_file(options.file, settings, options.model, as_json=options.json, is_explained=options.explain)


def run_demo(options: argparse.Namespace) -> int:
    """Start a gateway with the built-in upstream, and drive it with the real client."""
    from gateway.app import Gateway
    from gateway.demo import run_demo as drive
    from gateway.shell.telemetry.logs import set_up_logging

    loaded = load_settings(None, _demo_environment(options.budget))
    set_up_logging("error", "text")

    async def run() -> int:
        gateway = Gateway(loaded)
        await gateway.start()
        base_url = f"http://127.0.0.1:{gateway.data_port}/v1"
        print(f"gateway {base_url}   metrics http://127.0.0.1:{gateway.admin_port}/metrics")
        try:
            return await drive(
                base_url,
                turns=options.turns,
                budget=options.budget,
                verbose=options.verbose,
                brief_text=gateway.newest_brief,
            )
        finally:
            await gateway.stop()

    return asyncio.run(run())


def _demo_environment(max_total: int) -> dict[str, str]:
    """Free ports, and the default shares in proportion to the budget."""
    defaults = TokenBudget()
    assert isinstance(defaults.max_total, int)
    environment = {"GATEWAY__SERVER__PORT": "0", "GATEWAY__SERVER__ADMIN_PORT": "0"}
    environment["GATEWAY__TOKEN_BUDGET__MAX_TOTAL"] = str(max_total)
    for share in SHARES:
        tokens = int(getattr(defaults, share) * max_total / defaults.max_total)
        environment[f"GATEWAY__TOKEN_BUDGET__{share.upper()}"] = str(tokens)
    return environment


def run_config(options: argparse.Namespace) -> int:
    """Print or write the reference configuration."""
    from gateway.settings_reference import render_reference, render_schema

    if options.write:
        (options.write / "gateway.yaml").write_text(render_reference(), encoding="utf-8")
        (options.write / "gateway.schema.json").write_text(render_schema(), encoding="utf-8")
        return 0
    print(render_schema() if options.schema else render_reference(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
