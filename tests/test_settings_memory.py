"""Options of memory: what contradicts is a fault with its path, what works badly is told, and secrets stay hidden."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.compose_memory import make_memory_store
from gateway.settings import Server, Settings, State
from gateway.settings_check import Fault
from gateway.settings_check_memory import check_memory, has_memory
from gateway.settings_load import InvalidSettings, load_settings
from gateway.settings_memory import Embeddings, Facts
from gateway.shell.facts.sqlite import SqliteMemoryStore

EMBEDDINGS = Embeddings(model="text-embedding-3-small")
POSTGRES = "postgresql://gateway:hunter22@db.example:5432/facts"


def said_of(
    facts: Facts, server: Server | None = None, state: State | None = None, *, lacks: str = ""
) -> tuple[dict[str, str], list[str]]:
    """Faults by path, and notes."""
    settings = Settings(facts=facts, server=server or Server(), state=state or State())
    faults: list[Fault] = []
    notes = check_memory(settings, faults, lambda name: None if name == lacks else name)
    return {fault.path: str(fault) for fault in faults}, notes


@pytest.mark.parametrize(
    "url",
    [
        "",
        "memory",
        "redis://localhost:6379/0",
        "sqlite://facts.db",
        "sqlite:///tmp/",
        "postgresql://",
        "postgresql://db.example",
        "postgresql://db.example:0/facts",
        "postgresql://[::1/facts",
        "postgresql://db.example/facts?colour=blue",
        "mysql://u:hunter22@h/d",
    ],
)
def test_where_memories_cannot_be_kept(url: str) -> None:
    faults, _ = said_of(Facts(url=url))

    assert list(faults) == ["facts.url"]
    assert "hunter22" not in faults["facts.url"]


@pytest.mark.parametrize(
    "url", ["memory://", POSTGRES, "postgres:///facts", "postgresql://[::1]:5432/facts?sslmode=require"]
)
def test_where_they_can(url: str, tmp_path: Path) -> None:
    assert said_of(Facts(url=url))[0] == {}
    assert said_of(Facts(url=f"sqlite://{tmp_path}/facts.db")) == ({}, [])


def test_a_file_is_of_memory_alone(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/state.db"
    faults, _ = said_of(Facts(url=url), state=State(url=url))
    _, notes = said_of(Facts(url=f"sqlite://{tmp_path}/nowhere/facts.db"))

    assert "a file of its own" in faults["facts.url"]
    assert len(notes) == 1
    assert "nowhere" in notes[0]


def test_what_is_needed_is_named() -> None:
    """The extra that is missing; nothing of the sort where memory is off."""
    postgres, _ = said_of(Facts(url=POSTGRES), lacks="psycopg")
    vectors, _ = said_of(Facts(embeddings=EMBEDDINGS), lacks="numpy")

    assert "llm-gateway[postgres]" in postgres["facts.url"]
    assert "hunter22" not in postgres["facts.url"]
    assert "llm-gateway[embeddings]" in vectors["facts.embeddings"]
    assert said_of(Facts(url=POSTGRES, enabled=False), lacks="psycopg") == ({}, [])


def test_what_is_said_in_the_clear_is_told() -> None:
    _, notes = said_of(Facts(url=POSTGRES))
    _, quiet = said_of(Facts(url=f"{POSTGRES}?sslmode=verify-full"))

    assert len(notes) == 1
    assert "hunter22" not in notes[0]
    assert quiet == []


def test_embeddings_are_asked_for_somewhere() -> None:
    wrong, _ = said_of(Facts(embeddings=Embeddings(model="m", base_url="ftp://host")))
    keyed, _ = said_of(Facts(embeddings=Embeddings(model="m", api_key="k")))
    right, _ = said_of(Facts(embeddings=Embeddings(model="m", base_url="https://host/v1", api_key="k")))

    assert list(wrong) == ["facts.embeddings.base_url"]
    assert list(keyed) == ["facts.embeddings.api_key"]
    assert right == {}


@pytest.mark.parametrize(
    ("facts", "workers", "has"),
    [
        (Facts(), 1, True),
        (Facts(), 2, False),
        (Facts(url="sqlite:///tmp/facts.db"), 2, True),
        (Facts(enabled=False), 1, False),
        (Facts(enabled=False, url=POSTGRES), 1, False),
    ],
)
async def test_where_anything_is_remembered(facts: Facts, workers: int, has: bool) -> None:
    """One process's memory cannot be several workers'; that is told, too."""
    settings = Settings(facts=facts, server=Server(workers=workers))
    store = make_memory_store(settings)
    _, notes = said_of(facts, Server(workers=workers))

    assert has_memory(settings) is has
    assert isinstance(store, SqliteMemoryStore) is has
    assert any("several workers" in note for note in notes) is (facts.enabled and not has)
    if store is not None:
        await store.close()


def load(tmp_path: Path, text: str, **environment: str) -> Settings:
    path = tmp_path / "gateway.yaml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, environment).settings


def test_embeddings_are_read_from_a_file_and_the_environment(tmp_path: Path) -> None:
    """A section that may be null is one like others: its numbers, its secrets, its files."""
    key = tmp_path / "key"
    key.write_text("sk-embedding\n", encoding="utf-8")
    options = "model: m, base_url: 'http://h/v1', batch_size: '${SIZE}'"
    loaded = load(tmp_path, f"facts: {{enabled: false, embeddings: {{{options}, api_key_file: {key}}}}}", SIZE="7")
    over = load(tmp_path, "facts: {enabled: false, embeddings: null}", GATEWAY__FACTS__EMBEDDINGS__MODEL="n")

    assert loaded.facts.embeddings is not None
    assert (loaded.facts.embeddings.api_key, loaded.facts.embeddings.batch_size) == ("sk-embedding", 7)
    assert load(tmp_path, "facts: {embeddings: null}").facts == Facts()
    assert over.facts.embeddings == Embeddings(model="n")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{embeddings: {}}", "facts.embeddings.model"),
        ("{embeddings: {modell: m}}", "facts.embeddings.modell"),
        ("{embeddings: {model: m, batch_size: 0}}", "facts.embeddings.batch_size"),
        ("{collection_name: 'facts; --'}", "facts.collection_name"),
        ("{confidence_threshold: 1.5}", "facts.confidence_threshold"),
        ("{max_facts_per_query: 0}", "facts.max_facts_per_query"),
        ("{ttl_seconds: 0}", "facts.ttl_seconds"),
        ("{levels: {immediate_seconds: -1}}", "facts.levels.immediate_seconds"),
        ("{levels: {forever: 1}}", "facts.levels.forever"),
        ("{wait_seconds: 0}", "facts.wait_seconds"),
    ],
)
def test_a_fault_has_its_path(tmp_path: Path, text: str, path: str) -> None:
    with pytest.raises(InvalidSettings) as invalid:
        load(tmp_path, f"facts: {text}")

    assert path in {fault.path for fault in invalid.value.faults}
