"""Configuration: every fault at once, nothing silently ignored, the reference file true."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.compose import make_early_rule, make_price_table, make_reuse_options, make_route, make_state_store
from gateway.core.context.economics import Prices
from gateway.core.context.prices import ModelPrices
from gateway.settings import LATER, Cache, Compaction, Settings, TokenBudget
from gateway.settings_check import Fault, _check_cache, sqlite_path
from gateway.settings_clients import ClientOptions
from gateway.settings_load import InvalidSettings, load_settings
from gateway.settings_reference import render_reference, render_schema
from gateway.settings_upstreams import UpstreamOptions
from gateway.shell.state.redis import RedisStateStore
from gateway.shell.state.sent_prompts import RememberedPrompts

PROJECT = Path(__file__).resolve().parent.parent


def faults_of(text: str, tmp_path: Path, environment: dict[str, str] | None = None) -> dict[str, str]:
    """Path -> the whole message, for each fault."""
    path = tmp_path / "gateway.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidSettings) as caught:
        load_settings(path, environment or {})
    return {fault.path: str(fault) for fault in caught.value.faults}


def settings_of(text: str, tmp_path: Path, environment: dict[str, str] | None = None) -> Settings:
    """The settings of a file that has no fault."""
    path = tmp_path / "gateway.yaml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, environment or {}).settings


def test_without_a_file_the_demo_answers() -> None:
    """No file, no environment: one upstream, the built-in one, said in a note."""
    loaded = load_settings(None, {})

    assert [upstream.base_url for upstream in loaded.settings.upstreams] == ["builtin://demo"]
    assert any("no language model" in note for note in loaded.notes)


def test_the_usual_environment_is_enough() -> None:
    """OPENAI_BASE_URL and OPENAI_API_KEY make one upstream."""
    environment = {"OPENAI_BASE_URL": "https://api.openai.com/v1", "OPENAI_API_KEY": "sk-1"}
    (upstream,) = load_settings(None, environment).settings.upstreams

    assert (upstream.base_url, upstream.api_key) == ("https://api.openai.com/v1", "sk-1")


def test_all_faults_are_said_at_once(tmp_path: Path) -> None:
    """One start, one list: unknown keys, wrong types, bounds, missing values, contradictions."""
    faults = faults_of(
        """
        server: {prot: 1, port: x, max_body_bytes: 1}
        upstreams: [{name: a}, {name: b, base_url: "ftp://x"}, {name: b, base_url: "http://h/v1"}]
        token_budget: {completion: 9000}
        summarizer: {endpoint: nonsense}
        compaction: []
        nosuch: 1
        """,
        tmp_path,
    )

    assert set(faults) == {
        "nosuch",
        "server.prot",
        "server.port",
        "server.max_body_bytes",
        "upstreams[0].base_url",
        "upstreams[1].name",
        "token_budget",
        "summarizer.endpoint",
        "compaction",
    } | {path for path in faults if path.startswith("upstreams[")}
    assert "did you mean 'port'" in faults["server.prot"]
    assert "found 'x'" in faults["server.port"]
    assert "= 15100" in faults["token_budget"]
    assert "max_total 8000" in faults["token_budget"]


@pytest.mark.parametrize("name", sorted(LATER))
def test_what_is_not_there_yet_says_so(name: str, tmp_path: Path) -> None:
    """An option of a later version is an error that says it, not a silence."""
    section, _, key = name.partition(".")
    inner = f"{{{key}: 1}}" if key else "{}"
    if section == "upstreams[]":
        section, inner = "upstreams", f"[{{name: a, base_url: 'http://h/v1', {key}: 1}}]"
    faults = faults_of(f"{section}: {inner}", tmp_path)

    assert "does not have it yet" in faults[name.replace("[]", "[0]")]


CONTRADICTIONS = {
    "key on an open port": (
        "server: {host: 0.0.0.0}\nupstreams: [{name: a, base_url: 'http://h/v1', api_key: k}]",
        "server.host",
    ),
    "upstream is the gateway itself": (
        "server: {port: 9999}\nupstreams: [{name: a, base_url: 'http://localhost:9999/v1'}]",
        "upstreams[0].base_url",
    ),
    "two names": (
        "upstreams: [{name: a, base_url: 'http://h/v1'}, {name: a, base_url: 'http://i/v1'}]",
        "upstreams[1].name",
    ),
    "credentials in the URL": ("upstreams: [{name: a, base_url: 'http://u:p@h/v1'}]", "upstreams[0].base_url"),
    "key and key file": (
        "upstreams: [{name: a, base_url: 'http://h/v1', api_key: k, api_key_file: /x}]",
        "upstreams[0].api_key_file",
    ),
    "missing key file": ("upstreams: [{name: a, base_url: 'http://h/v1', api_key_file: /no/file}]", None),
    "shares above max_total": ("token_budget: {max_total: 5000}", "token_budget"),
    "fractions above max_total": ("token_budget: {running_brief: 0.5, retrieved_context: 0.6}", "token_budget"),
    "model's shares": (
        "token_budget: {models: {'x*': {max_total: 100}}}",
        'token_budget.models["x*"]',
    ),
    "model's unknown key": ("token_budget: {models: {'x*': {max_totl: 1}}}", 'token_budget.models["x*"]'),
    "a cached token that costs more": ("prices: {'x*': {input: 1, cached_input: 2}}", 'prices["x*"].cached_input'),
    "a price below nothing": ("prices: {'x*': {input: 1, output: -1}}", 'prices["x*"].output'),
    "a write cheaper than a read": (
        "prices: {'x*': {input: 1, cached_input: 0.5, cache_write: 0.2}}",
        'prices["x*"].cache_write',
    ),
    "a price that is not a number": ("prices: {'x*': {input: 1, cached_input: .nan}}", 'prices["x*"].cached_input'),
    "answers in a file": ("cache: {url: 'sqlite:///tmp/answers.db'}", "cache.url"),
    "answers in no Redis": ("cache: {url: 'redis://h/name'}", "cache.url"),
    "an answer larger than the cache": ("cache: {max_bytes: 65536, max_answer_bytes: 65537}", "cache.max_answer_bytes"),
    "wrong word": ("upstreams: [{name: a, base_url: 'http://h/v1', roles: loose}]", "upstreams[0].roles"),
}


@pytest.mark.parametrize(("text", "path"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_contradictions_are_faults(text: str, path: str | None, tmp_path: Path) -> None:
    """What cannot work together is refused at the path where it stands."""
    faults = faults_of(text, tmp_path)

    assert path is None or path in faults


def test_a_summarisers_key_is_a_key_too(tmp_path: Path) -> None:
    """Who reaches the port could spend it."""
    path = tmp_path / "gateway.yaml"
    path.write_text(
        "server: {host: 0.0.0.0}\nsummarizer: {endpoint: 'http://s/v1', api_key: k, model: m}\n"
        "upstreams: [{name: a, base_url: 'http://h/v1'}]",
        encoding="utf-8",
    )

    with pytest.raises(InvalidSettings, match=r"server\.host"):
        load_settings(path, {})


def test_a_proxy_that_is_everybody_is_told(tmp_path: Path) -> None:
    """It is no fault, but hardly meant."""
    path = tmp_path / "gateway.yaml"
    path.write_text("server: {trusted_proxies: [10.0.0.0/8, '::/0']}", encoding="utf-8")

    (note,) = [note for note in load_settings(path, {}).notes if "everybody" in note]
    assert "trusted_proxies[1]" in note


def test_anonymous_use_of_a_key_must_be_allowed_by_name(tmp_path: Path) -> None:
    """allow_anonymous: true opens what is refused without it."""
    text = "server: {host: 0.0.0.0, allow_anonymous: true}\nupstreams: [{name: a, base_url: 'http://h/v1', api_key: k}]"

    assert settings_of(text, tmp_path).server.host == "0.0.0.0"


def test_prices_that_are_left_out_follow_the_input_price(tmp_path: Path) -> None:
    """Cached a tenth, written to the cache as any other, an answer four times; a model without a row: the ratios."""
    text = "prices: {'a*': {input: 2}, 'b*': {input: 3, cached_input: 0.3, cache_write: 3.75, output: 15}}"
    table = make_price_table(settings_of(text, tmp_path))

    assert table.prices_of("a1") == ModelPrices(Prices(2.0, 0.2, 2.0), 8.0)
    assert table.prices_of("b1") == ModelPrices(Prices(3.0, 0.3, 3.75), 15.0)
    assert table.prices_of("c1") == ModelPrices(Prices(1.0, 0.1, 1.25), 4.0)


def test_compacting_early_is_off_until_it_is_asked_for(tmp_path: Path) -> None:
    """It changes requests that would fit."""
    sent = RememberedPrompts()

    assert make_early_rule(settings_of("{}", tmp_path), sent) is None
    assert make_early_rule(settings_of("compaction: {early: true}", tmp_path), sent) is not None


def test_how_long_an_upstream_caches_is_its_own(tmp_path: Path) -> None:
    """Five minutes unless it says otherwise; never is 0."""
    text = "upstreams: [{name: a, base_url: 'http://h/v1'}, {name: b, base_url: 'http://i/v1', cache_seconds: 0}]"

    assert [make_route(each).cache_s for each in settings_of(text, tmp_path).upstreams] == [300.0, 0.0]


STATE_URLS = {
    "memory://": None,
    "sqlite:///var/lib/gateway/state.db": "/var/lib/gateway/state.db",
    "sqlite:////tmp/state.db": "/tmp/state.db",
    "sqlite:///%h/state.db": "/%h/state.db",
}


@pytest.mark.parametrize(("url", "file"), STATE_URLS.items())
def test_state_is_kept_where_the_url_says(url: str, file: str | None, tmp_path: Path) -> None:
    """The path is absolute, with three slashes or with four."""
    path = sqlite_path(settings_of(f"state: {{url: '{url}'}}", tmp_path).state.url)

    assert path == (Path(file) if file else None)


BAD_STATE_URLS = [
    "", "memory", "sqlite://", "sqlite:///", "sqlite://state.db", "sqlite:state.db", "sqlite:///tmp/", "sqlite:///tmp",
    "sqlite:///a?mode=ro", "postgres://h/d", "redis://", "redis:///0", "redis://h:x", "redis://h:0", "redis://h/name",
    "redis://h?db=1", "redis://h?socket_timeout=60", "redis://h#x", "rediss://h?ssl_cert_reqs=none", "redis+unix://h",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD_STATE_URLS)
def test_state_elsewhere_is_a_fault(url: str, tmp_path: Path) -> None:
    assert list(faults_of(f"state: {{url: '{url}'}}", tmp_path)) == ["state.url"]


@pytest.mark.parametrize(
    "url",
    ["redis://h", "redis://h:6379", "redis://h:6379/", "redis://u:p%40ss@h:6379/3", "redis://:p@[::1]:6379/0",
     "rediss://:p@redis.example:6380/0?ssl_ca_certs=/etc/ca.pem"],
)  # fmt: skip
def test_state_may_be_shared(url: str, tmp_path: Path) -> None:
    """In a Redis, with or without TLS; such a store can be made of it."""
    state = settings_of(f"state: {{url: '{url}'}}", tmp_path).state

    assert sqlite_path(state.url) is None
    assert isinstance(make_state_store(state), RedisStateStore)


def test_a_redis_password_is_not_shown(tmp_path: Path) -> None:
    """Not where the URL is at fault, either."""
    for url in ("redis://:hunter2@h:x/0", "redis://u:hunter2@h/name", "redis://:hun@ter2@h?x", "http://u:hunter2@h"):
        fault = faults_of(f"state: {{url: '{url}'}}", tmp_path)["state.url"]

        assert "ter2" not in fault


def test_a_redis_without_its_package_is_a_fault_that_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    fault = faults_of("state: {url: 'redis://:hunter2@h:6379/0'}", tmp_path)["state.url"]

    assert "llm-gateway[redis]" in fault
    assert "hunter2" not in fault


def test_a_password_in_the_clear_is_noted(tmp_path: Path) -> None:
    """What is kept there is what users said; on this machine nobody listens."""
    noted = []
    for url in ("redis://:p@redis.example", "redis://:p@localhost", "redis://redis.example", "rediss://:p@r.example"):
        path = tmp_path / "gateway.yaml"
        path.write_text(f"state: {{url: '{url}'}}", encoding="utf-8")
        noted.append(any("rediss://" in note for note in load_settings(path, {}).notes))

    assert noted == [True, False, False, False]


def test_a_state_folder_that_is_not_here_is_noted(tmp_path: Path) -> None:
    """A configuration may be checked on another machine than it runs on."""
    path = tmp_path / "gateway.yaml"
    path.write_text("state: {url: 'sqlite:///no/such/folder/state.db'}", encoding="utf-8")

    assert any("/no/such/folder" in note for note in load_settings(path, {}).notes)


BROKEN_FILES = {
    "no YAML": "a: [",
    "a list": "[1, 2]",
    "a key twice": "server: {}\nserver: {}",
    "a tag": "a: !!python/object/apply:os.system ['true']",
}


@pytest.mark.parametrize("text", BROKEN_FILES.values(), ids=BROKEN_FILES)
def test_a_broken_file_is_one_clear_fault(text: str, tmp_path: Path) -> None:
    """What is no configuration at all names the file."""
    faults = faults_of(text, tmp_path)

    assert list(faults) == [str(tmp_path / "gateway.yaml")]


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    """It is not taken for an empty one."""
    with pytest.raises(InvalidSettings) as caught:
        load_settings(tmp_path / "absent.yaml", {})

    assert "absent.yaml" in str(caught.value)


def test_variables_are_expanded(tmp_path: Path) -> None:
    """Set, empty, defaulted; numbers and booleans from text."""
    text = """
    server: {port: "${PORT:-7000}", drain_seconds: "${DRAIN}", allow_anonymous: "${ANON:-true}"}
    upstreams: [{name: a, base_url: "http://${HOST:-h}/v1", api_key: "${KEY}"}]
    """
    settings = settings_of(text, tmp_path, {"DRAIN": "3", "KEY": ""})

    assert (settings.server.port, settings.server.drain_seconds, settings.server.allow_anonymous) == (7000, 3.0, True)
    assert (settings.upstreams[0].base_url, settings.upstreams[0].api_key) == ("http://h/v1", "")


def test_an_unset_variable_is_a_fault(tmp_path: Path) -> None:
    """Without a default, silence would be a wrong value."""
    faults = faults_of('server: {host: "${NO_SUCH_VARIABLE}"}', tmp_path)

    assert "NO_SUCH_VARIABLE" in faults["server.host"]


def test_the_environment_overrides(tmp_path: Path) -> None:
    """GATEWAY__A__B wins over the file; other GATEWAY_ names are not ours."""
    environment = {
        "GATEWAY__SERVER__PORT": "9001",
        "GATEWAY__UPSTREAMS__0__API_KEY": "12345",
        "GATEWAY__TOKEN_BUDGET__MODELS": '{"x": {"max_total": 9000}}',
        "GATEWAY__SUMMARIZER__ENDPOINT": "",
        "GATEWAY__SUMMARIZER__MODEL": "'quoted'",
        "GATEWAY_SERVICE_HOST": "10.0.0.1",
    }
    text = "server: {port: 1}\nupstreams: [{name: a, base_url: 'http://h/v1'}]"
    settings = settings_of(text, tmp_path, environment)

    assert settings.server.port == 9001
    assert settings.upstreams[0].api_key == "12345"
    assert settings.token_budget.models == {"x": {"max_total": 9000}}
    assert (settings.summarizer.endpoint, settings.summarizer.model) == ("", "quoted")


@pytest.mark.parametrize("name", ["GATEWAY__SERVR__PORT", "GATEWAY__SERVER__PROT", "GATEWAY__UPSTREAMS__7__NAME"])
def test_an_override_of_nothing_is_a_fault(name: str, tmp_path: Path) -> None:
    """A mistyped variable is not ignored."""
    faults = faults_of("upstreams: [{name: a, base_url: 'http://h/v1'}]", tmp_path, {name: "1"})

    assert len(faults) == 1


def test_secrets_come_from_files_and_never_show(tmp_path: Path) -> None:
    """A key file is read and stripped; faults about keys hide their values."""
    secret = tmp_path / "key"
    secret.write_text("sk-from-file\n")
    text = f"upstreams: [{{name: a, base_url: 'http://h/v1', api_key_file: '{secret}'}}]"

    assert settings_of(text, tmp_path).upstreams[0].api_key == "sk-from-file"
    faults = faults_of("upstreams: [{name: a, base_url: 'http://h/v1', api_key: [sk-hidden]}]", tmp_path)
    assert "sk-hidden" not in str(faults)


def test_the_reference_file_is_the_one_that_is_made() -> None:
    """config/ holds what `dev.py docs` writes today."""
    assert (PROJECT / "config" / "gateway.yaml").read_text(encoding="utf-8") == render_reference()
    assert (PROJECT / "config" / "gateway.schema.json").read_text(encoding="utf-8") == render_schema()


def test_the_reference_file_is_all_defaults() -> None:
    """Loading it gives the defaults, with its example upstream; every option stands in it."""
    loaded = load_settings(PROJECT / "config" / "gateway.yaml", {})
    defaults = Settings(upstreams=loaded.settings.upstreams)

    assert loaded.settings == defaults
    assert leaves(yaml.safe_load(render_reference())) == leaves(msgspec.to_builtins(defaults))


def leaves(tree: Any, path: str = "") -> set[str]:
    """The paths of all options."""
    if isinstance(tree, dict) and tree:
        return {leaf for key, value in tree.items() for leaf in leaves(value, f"{path}.{key}")}
    if isinstance(tree, list) and tree and isinstance(tree[0], dict):
        return leaves(tree[0], f"{path}[]")
    return {path}


@pytest.mark.parametrize("path", sorted((PROJECT / "config" / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_valid(path: Path) -> None:
    """An example that does not load helps nobody."""
    environment = {"OPENAI_API_KEY": "k", "AZURE_API_KEY": "k"}

    assert load_settings(path, environment).settings.upstreams


def test_the_schema_knows_every_section() -> None:
    """Editors complete what the loader takes."""
    schema = json.loads(render_schema())

    assert set(schema["$defs"]["Settings"]["properties"]) == set(Settings.__struct_fields__)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*Settings.__struct_fields__, "port", "name", "max_total", "x"]), inner)
        ),
        max_leaves=12,
    )
)
def test_no_tree_breaks_the_loader(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    """Whatever the file holds: settings, or faults; never another error."""
    path = tmp_path_factory.mktemp("any") / "gateway.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    try:
        outcome: list[Any] = list(load_settings(path, {}).settings.upstreams)
    except InvalidSettings as invalid:
        outcome = list(invalid.faults)

    assert outcome


def test_a_cache_needs_its_library() -> None:
    """Where that is missing, a cache that is on is a fault that names it; one that is off is none."""
    for is_enabled in (True, False):
        faults: list[Fault] = []
        _check_cache(Cache(enabled=is_enabled), faults, [], lambda _: None)

        assert [fault.path for fault in faults] == ["cache.enabled"] * is_enabled
        assert all("llm-gateway[cache]" in str(fault) for fault in faults)


def test_answers_of_another_configuration_are_others() -> None:
    """What shapes prompts or chooses upstreams does; keys, timeouts and log levels do not."""
    base = Settings(upstreams=[UpstreamOptions(name="a", base_url="http://h/v1")])
    others = [
        Settings(upstreams=[UpstreamOptions(name="a", base_url="http://i/v1")]),
        msgspec.structs.replace(base, token_budget=TokenBudget(max_total=9000)),
        msgspec.structs.replace(base, compaction=Compaction(enabled=False)),
        msgspec.structs.replace(base, clients=[ClientOptions(name="c", max_total=100)]),
    ]
    same = Settings(upstreams=[UpstreamOptions(name="a", base_url="http://h/v1", api_key="k")])
    prints = [make_reuse_options(each, each.cache).fingerprint for each in [base, *others]]

    assert len(set(prints)) == len(prints)
    assert make_reuse_options(same, same.cache).fingerprint == prints[0]


LIMITS_TOLD = {
    "no prices at all": ("rate_limits: [{cost_per_day_usd: 1}]", "cost nothing"),
    "prices of other models": (
        "rate_limits: [{model: 'claude*', cost_per_day_usd: 1}]\nprices: {'gpt-4o*': {input: 1}}",
        "'claude*'",
    ),
    "a client that is none": ("rate_limits: [{client: app, requests_per_minute: 1}]", "matches no client"),
    "less than one answer": ("rate_limits: [{tokens_per_minute: 10}]", "an answer alone"),
}


@pytest.mark.parametrize(("text", "says"), LIMITS_TOLD.values(), ids=LIMITS_TOLD)
def test_limits_that_hold_otherwise_than_one_thinks_are_told(text: str, says: str, tmp_path: Path) -> None:
    """They are no faults, but worth a person's attention."""
    path = tmp_path / "gateway.yaml"
    path.write_text(text, encoding="utf-8")

    assert any(says in note for note in load_settings(path, {}).notes)


def test_a_price_for_a_limits_models_is_found(tmp_path: Path) -> None:
    """Whichever of the two patterns is the wider."""
    path = tmp_path / "gateway.yaml"
    for model, price in (("gpt-4o-mini", "gpt-4o*"), ("*", "gpt-4o*"), ("gpt-4o*", "gpt-4o*")):
        path.write_text(
            f"rate_limits: [{{model: '{model}', cost_per_day_usd: 1}}]\nprices: {{'{price}': {{input: 1}}}}"
        )

        assert not any("cost nothing" in note for note in load_settings(path, {}).notes)
