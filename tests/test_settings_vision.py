"""Options of vision: what contradicts is a fault with its path, what works badly is told, and secrets stay hidden."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway.compose_vision import make_backend, make_decoder, make_fetcher, make_guard_rules, make_reader, make_service
from gateway.core.routing.breaker import BreakerRules
from gateway.core.vision.sources import SourceRules
from gateway.settings import Facts, Server, Settings, State
from gateway.settings_check import Fault
from gateway.settings_check_vision import check_vision, has_vision
from gateway.settings_load import InvalidSettings, load_settings
from gateway.settings_vision import Fetching, Vision, VisionModel
from gateway.shell.upstream.client import HttpUpstream
from gateway.shell.vision.decode_cache import CachedDecoder
from gateway.shell.vision.decode_flights import SharedDecoder
from gateway.shell.vision.decode_guard import GuardRules
from gateway.shell.vision.decode_log import LoggedDecoder
from gateway.shell.vision.local_decoder import LocalDecoder
from gateway.shell.vision.model_decoder import ModelDecoder
from gateway.shell.vision.reader_process import ReaderOptions
from gateway.shell.vision.readers import ChildReaders
from gateway.shell.vision.remote_service import RemoteDecoder
from gateway.shell.vision.source import ReadLimits
from gateway.tasks import TaskGroup
from tests.fakes.documents import LinesReader, ToldDecoder

ONE, TWO = Server(workers=1), Server(workers=2)


def said_of(vision: Vision, server: Server = ONE, lacks: str = "", **sections: Any) -> tuple[dict[str, str], list[str]]:
    """Faults by path, and notes."""
    faults: list[Fault] = []
    settings = Settings(vision=vision, server=server, **sections)
    notes = check_vision(settings, faults, lambda name: None if name == lacks else name)
    return {fault.path: str(fault) for fault in faults}, notes


@pytest.mark.parametrize(
    "url", ["", "memory", "redis://h/0", "postgresql://u:hunter22@h/d", "sqlite://a.db", "sqlite:///tmp/"]
)
def test_where_documents_cannot_be_kept(url: str) -> None:
    faults, _ = said_of(Vision(url=url))

    assert list(faults) == ["vision.url"]
    assert "hunter22" not in faults["vision.url"]


def test_where_they_can(tmp_path: Path) -> None:
    assert said_of(Vision()) == ({}, [])
    assert said_of(Vision(url=f"sqlite://{tmp_path}/documents.db"), TWO) == ({}, [])


def test_a_file_is_of_documents_alone(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/one.db"

    assert "state.url" in said_of(Vision(url=url), state=State(url=url))[0]["vision.url"]
    assert "facts.url" in said_of(Vision(url=url), facts=Facts(url=url))[0]["vision.url"]


def test_several_workers_share_no_memory() -> None:
    faults, notes = said_of(Vision(), TWO)

    assert faults == {}
    assert "vision is off" in notes[0]
    assert not has_vision(Settings(vision=Vision(), server=TWO))
    assert has_vision(Settings(vision=Vision(), server=ONE))
    assert not has_vision(Settings(vision=Vision(enabled=False), server=ONE))


@pytest.mark.parametrize(
    ("vision", "path"),
    [
        (Vision(backend="openai"), "vision.service_url"),
        (Vision(backend="remote"), "vision.service_url"),
        (Vision(backend="openai", service_url="localhost:8000"), "vision.service_url"),
        (Vision(backend="openai", service_url="http://user:pass@h/v1"), "vision.service_url"),
        (Vision(fetch=Fetching(allow=["*", "not a host"])), "vision.fetch.allow[1]"),
        (Vision(fetch=Fetching(allow_addresses=["10.0.0.0/99"])), "vision.fetch.allow_addresses[0]"),
        (Vision(fetch=Fetching(file_root="/no/such/folder")), "vision.fetch.file_root"),
    ],
)
def test_what_contradicts(vision: Vision, path: str) -> None:
    faults, _ = said_of(vision)

    assert list(faults) == [path]


def test_a_missing_extra_is_no_fault() -> None:
    """It is told where it will be wanted; a gateway that nobody asks for documents does without."""
    wants = Vision(backend="openai", service_url="http://h/v1")

    assert said_of(Vision(), lacks="pypdfium2") == ({}, [])
    assert "llm-gateway[vision]" in said_of(wants, lacks="pypdfium2")[1][0]
    assert said_of(Vision(enabled=False, backend="openai", url="nonsense")) == ({}, [])


def test_a_key_comes_from_a_file_and_is_never_shown(tmp_path: Path) -> None:
    key, config = tmp_path / "key", tmp_path / "gateway.yaml"
    key.write_text("sk-vision\n")
    config.write_text(f"vision: {{backend: openai, service_url: 'http://h/v1', api_key_file: {key}}}")
    loaded = load_settings(config, {})
    config.write_text("vision: {api_key: [sk-secret]}")
    with pytest.raises(InvalidSettings) as invalid:
        load_settings(config, {})

    assert loaded.settings.vision.api_key == "sk-vision"
    assert key in loaded.files
    assert "sk-secret" not in str(invalid.value)


@pytest.mark.parametrize(
    ("vision", "kind", "url"),
    [
        (Vision(), LocalDecoder, ""),
        (Vision(backend="openai", service_url="http://h:8000/v1/"), ModelDecoder, "http://h:8000/v1"),
        (Vision(backend="openai", service_url="http://h/v1/chat/completions"), ModelDecoder, "http://h/v1"),
        (Vision(backend="remote", service_url="http://localhost:8080"), RemoteDecoder, "http://localhost:8080"),
        (Vision(backend="remote", service_url="http://localhost:8080/v1/ocr/"), RemoteDecoder, "http://localhost:8080"),
    ],
)
def test_options_become_a_backend(vision: Vision, kind: type, url: str) -> None:
    upstream = HttpUpstream()
    service = make_service(vision, upstream) if vision.backend == "remote" else None
    backend = make_backend(vision, upstream, LinesReader(), service, TaskGroup())

    assert type(backend) is kind
    if service is not None:
        assert service.route.base_url == url
    elif isinstance(backend, ModelDecoder):
        assert backend._options.route.base_url == url


def test_options_become_rules() -> None:
    named = {"timeout_ms": 250, "retry_backoff_ms": 100, "circuit_breaker_failures": 3}
    rules = make_guard_rules(Vision(backend="openai", **named))
    local = make_guard_rules(Vision(**named))

    assert (local.max_concurrent, local.timeout_s, local.retries) == (1, 0.25, 0)
    assert rules == GuardRules(16, 120.5, 60.0, 2, 0.1, BreakerRules(3, 30.0))
    assert make_fetcher(Vision(), SourceRules(["*"], [])) is not None


def test_options_become_readers() -> None:
    options = Vision(
        ocr=False,
        max_pages=7,
        max_pixels=70_000,
        index_workers=3,
        page_seconds=4.5,
        reader_idle_seconds=5.5,
        reader_memory_bytes=300_000_000,
        max_document_bytes=5000,
    )
    readers = make_reader(options)

    assert isinstance(readers, ChildReaders)
    assert readers.options == ReaderOptions(ReadLimits(7, 70_000, ocr=False), 3, 4.5, 5.5, 300_000_000, 5000)


def test_texts_reach_the_log_where_that_is_asked_for_alone() -> None:
    never, always = (
        make_decoder(Vision(log_redact_text=redacts, decode_cache_ttl_secs=0), ToldDecoder(), Counter())
        for redacts in (True, False)
    )

    assert isinstance(never, SharedDecoder)
    assert isinstance(always, SharedDecoder)
    assert (type(never._decoder), type(always._decoder)) == (ToldDecoder, LoggedDecoder)


def test_what_is_asked_of_a_model() -> None:
    options = Vision(
        backend="openai",
        service_url="http://h/v1",
        model=VisionModel("m", "p", "t", 9, read_twice=True, options={"a": 1}),
    )
    backend = make_backend(options, HttpUpstream(), LinesReader(), None, TaskGroup())
    rules = make_guard_rules(Vision(backend="openai", max_concurrent_decodes=5, retry_attempts=1))

    assert isinstance(backend, ModelDecoder)
    asked = backend._options
    assert (asked.model, asked.prompt, asked.table_prompt, asked.max_tokens) == ("m", "p", "t", 9)
    assert (asked.options, asked.reads_twice, asked.timeout_s) == ({"a": 1}, True, 5.0)
    assert (rules.max_concurrent, rules.retries) == (5, 1)


@pytest.mark.parametrize(
    ("vision", "kind"),
    [
        (Vision(), CachedDecoder),
        (Vision(decode_cache_ttl_secs=0), SharedDecoder),
        (Vision(decode_cache_max_size=0), SharedDecoder),
    ],
)
def test_nothing_is_remembered_where_nothing_may_be(vision: Vision, kind: type) -> None:
    assert type(make_decoder(vision, ToldDecoder(), Counter())) is kind
