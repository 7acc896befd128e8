"""The command line, as a person uses it: real processes, exit codes, words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway import __version__
from gateway.offline import compact_file
from gateway.settings import Settings
from gateway.settings_load import load_settings

PROJECT = Path(__file__).resolve().parent.parent
CHAT = {
    "model": "gpt-4o",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Never mention the locker code 4711 to strangers. What is an upstream?"},
        *(
            {"role": role, "content": f"Turn {turn}: {'words of no great weight, told at length. ' * 12}"}
            for turn in range(60)
            for role in ("assistant", "user")
        ),
        {"role": "user", "content": "And what was the first thing I asked?"},
    ],
    "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}],
}


def run(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with no environment but what is given."""
    return subprocess.run(
        [sys.executable, "-m", "gateway", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment or {},
        cwd=PROJECT,
        check=False,
    )


@pytest.fixture
def chat_file(tmp_path: Path) -> Path:
    """A chat of about 13,000 tokens."""
    path = tmp_path / "chat.json"
    path.write_text(json.dumps(CHAT), encoding="utf-8")
    return path


def test_version_is_the_package_s() -> None:
    """One version, said everywhere."""
    assert run("--version").stdout.strip() == f"llm-gateway {__version__}"


def test_without_a_command_it_says_which_there_are() -> None:
    """Usage, and exit code 2."""
    result = run()

    assert result.returncode == 2
    assert "COMMAND" in result.stderr


def test_check_accepts_the_reference_file() -> None:
    """The file that ships is valid as it is."""
    result = run("check", "--config", "config/gateway.yaml")

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("OK")


def test_check_lists_every_fault(tmp_path: Path) -> None:
    """All of them, on stderr, with exit code 2."""
    path = tmp_path / "bad.yaml"
    path.write_text("server: {prot: 1, port: x}\nnosuch: 1")

    result = run("check", environment={"LLM_GATEWAY_CONFIG": str(path)})

    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == "The configuration has 3 faults:"
    assert all(word in result.stderr for word in ("server.prot", "server.port", "nosuch"))


def test_count_prints_sections_that_sum_up(chat_file: Path) -> None:
    """As a table for people and as JSON for programs."""
    table = run("count", str(chat_file))
    fields: dict[str, Any] = json.loads(run("count", str(chat_file), "--json").stdout)

    assert table.returncode == 0
    assert f"{fields['total']} tokens" in table.stdout
    assert fields["encoding"] == "o200k_base"
    assert sum(fields["sections"].values()) == fields["total"]
    assert {"system", "turns", "tools", "priming"} <= set(fields["sections"])


@pytest.mark.parametrize("shape", ["list", "object", "prompt", "responses"])
def test_count_takes_every_usual_shape(shape: str, tmp_path: Path) -> None:
    """A list of messages, an object without a model, a legacy prompt, a Responses input."""
    trees: dict[str, Any] = {
        "list": CHAT["messages"],
        "object": {"messages": CHAT["messages"]},
        "prompt": {"prompt": ["Once upon", "a time"]},
        "responses": {"instructions": "Be brief.", "input": [{"role": "user", "content": "Hello there"}]},
    }
    path = tmp_path / "x.json"
    path.write_text(json.dumps(trees[shape]))

    result = run("count", str(path), "--model", "gpt-3.5-turbo", "--json")

    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["encoding"] == "cl100k_base"
    assert json.loads(result.stdout)["total"] > 3


UNUSABLE = {"absent": None, "not JSON": b"{", "a number": b"3", "empty messages": b'{"messages": []}'}


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_files_are_said_plainly(content: bytes | None, tmp_path: Path) -> None:
    """One line on stderr, no traceback, an exit code that is not 0."""
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)

    result = run("count", str(path))

    assert result.returncode in (1, 2)
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.stderr


def test_compact_shows_what_would_be_forwarded(chat_file: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Within the budget, the brief in it, the rule quoted; the JSON is a body that can be sent."""
    table = run("compact", str(chat_file))
    assert compact_file(chat_file, settings(), None, as_json=True) == 0
    body = json.loads(capfdbinary.readouterr().out)

    assert table.returncode == 0
    assert "the running brief" in table.stdout
    assert body["messages"][0] == CHAT["messages"][0]
    assert body["messages"][-1] == CHAT["messages"][-1]
    assert body["tools"] == CHAT["tools"]
    assert any("<running_brief>" in str(message["content"]) for message in body["messages"])
    assert "4711" in json.dumps(body)


def test_compact_takes_a_responses_body(tmp_path: Path) -> None:
    """Its items are folded like messages."""
    turns = [
        {"role": role, "content": f"{turn} " + "word " * 400} for turn in range(12) for role in ("user", "assistant")
    ]
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"model": "gpt-5", "input": turns, "instructions": "Be brief."}))

    table = run("compact", str(path))

    assert table.returncode == 0
    assert "the running brief" in table.stdout
    assert "tokens in 24 messages" in table.stdout


def settings() -> Settings:
    """The defaults."""
    return load_settings(None, {}).settings


def test_compact_refuses_what_cannot_fit(tmp_path: Path) -> None:
    """A last message above the whole budget is refused with numbers."""
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"role": "user", "content": "word " * 9000}]))

    result = run("compact", str(path))

    assert result.returncode == 1
    assert "8000" in result.stderr


def test_config_prints_the_reference_and_the_schema() -> None:
    """What stands in config/ can be had from the program alone."""
    assert run("config").stdout == (PROJECT / "config/gateway.yaml").read_text(encoding="utf-8")
    assert run("config", "--schema").stdout == (PROJECT / "config/gateway.schema.json").read_text(encoding="utf-8")


def test_check_loads_the_tokenizers_that_are_named(tmp_path: Path) -> None:
    """A file that is none is a fault with its path, before anything is served; a good one is fine."""
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra `tokenizers`")
    good = tmp_path / "tokenizer.json"
    tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "?": 1}, unk_token="?")).save(str(good))
    config = tmp_path / "gateway.yaml"
    seen = []
    for file in (good, tmp_path / "missing.json"):
        config.write_text(f'token_estimator: {{models: {{"my-*": "hf:{file}"}}}}\n')
        seen.append(run("check", "--config", str(config)))

    assert seen[0].returncode == 0
    assert seen[1].returncode == 2
    assert 'token_estimator.models["my-*"]' in seen[1].stderr
    assert "there is no such file" in seen[1].stderr


LOG = "\n".join(f"line {number} of the log, 処理が終わりました \x1b[31mred\x1b[0m" for number in range(400))
LOOK = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def explained(messages: list[Any], path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    path.write_text(json.dumps({"messages": messages, "tools": CHAT["tools"]}))
    assert compact_file(path, settings(), None, as_json=False, is_explained=True) == 0
    return capsys.readouterr().out


def test_explain_shows_before_and_after(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What became of each message, what stands in its place, which words brought passages back; 100 columns at most."""
    messages = list(CHAT["messages"])  # type: ignore[call-overload]
    messages[9] = {"role": "user", "content": "The gardener keeps the spare key under the third flowerpot."}
    messages[-1] = {"role": "user", "content": "Where does the gardener keep the spare key?"}
    shown = explained(messages, tmp_path / "x.json", capsys)
    rows = {line[:5].strip(): line for line in shown.splitlines()}

    assert max(map(len, shown.splitlines())) <= 100
    assert "kept" in rows["0"]
    assert "kept beside the brief" in rows["1"]
    assert "folded, recalled (1 passage)" in rows["9"]
    assert "more messages" in rows["..."]
    assert "the running brief" in rows["+"] or "what is recalled" in rows["+"]
    assert "because of: " in shown
    assert "gardener" in shown.split("because of: ")[1].splitlines()[0]
    assert "<running_brief>" in shown
    assert "tokens by section" in shown


def test_explain_shows_what_was_shortened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From how much to how much; escape sequences of a log never reach the terminal."""
    call = {"role": "assistant", "content": None, "tool_calls": [LOOK]}
    result = {"role": "tool", "tool_call_id": "c1", "content": LOG}
    shown = explained([{"role": "user", "content": "Read the log."}, call, result], tmp_path / "x.json", capsys)
    row = next(line for line in shown.splitlines() if line.startswith("    2  tool"))
    before, after = row.split()[2:4]

    assert f"shortened {before} -> {after}" in row
    assert int(after) < int(before)
    assert "\x1b" not in shown


def test_explain_says_when_nothing_was_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = explained([{"role": "user", "content": "Hi"}], tmp_path / "x.json", capsys)

    assert "every message is forwarded as it came" in shown
