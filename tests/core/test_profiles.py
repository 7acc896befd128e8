"""A model's name says how its tokens are counted, however vendors dress the name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tokens import images
from gateway.core.tokens.profiles import (
    CL100K,
    ENCODINGS,
    O200K,
    WORDS,
    Family,
    Profile,
    Template,
    bare_model,
    profile_of,
)

CHAT = profile_of("gpt-4o", {})
REASONING = profile_of("gpt-5", {})
OLDER = profile_of("gpt-3.5-turbo", {})
FIRST = profile_of("gpt-4-0613", {})
O_SERIES = profile_of("o3", {})

MODELS = [
    ("gpt-4o", CHAT),
    ("gpt-4o-2024-08-06", CHAT),
    ("gpt-4.1", CHAT),
    ("gpt-4.5-preview", CHAT),
    ("chatgpt-4o-latest", CHAT),
    ("gpt-audio", CHAT),
    ("gpt-4o-mini-audio-preview", CHAT),
    ("gpt-oss-120b", CHAT),
    ("gpt-5-2025-08-07", REASONING),
    ("gpt-5-pro", REASONING),
    ("gpt-5-codex", REASONING),
    ("o1", O_SERIES),
    ("o3-mini", O_SERIES),
    ("gpt-4", FIRST),
    ("gpt-4-0613", FIRST),
    ("gpt-4-turbo-2024-04-09", OLDER),
    ("gpt-4-1106-preview", OLDER),
    ("gpt-3.5-turbo-instruct", OLDER),
    ("gpt-35-turbo", OLDER),
    ("text-embedding-3-small", OLDER),
    ("text-embedding-ada-002", OLDER),
    ("davinci-002", OLDER),
    ("text-davinci-003", OLDER),
    ("curie", OLDER),
    ("openai/gpt-4-turbo", OLDER),
    ("azure/eu/gpt-4", FIRST),
    ("GPT-4", FIRST),
    ("ft:gpt-3.5-turbo:acme::7p4lURel", OLDER),
    ("ft:gpt-4o-2024-08-06:acme::9x", CHAT),
    ("openai/o3-mini:free", O_SERIES),
    ("openai.gpt-oss-120b-1:0", CHAT),
    ("my-gpt-4o-deployment", CHAT),
    ("prod_gpt-35-turbo_eu", OLDER),
    ("llama-3.1-8b-instruct", CHAT),
    ("mistral-large", CHAT),
    ("models/gemini-2.5-flash", CHAT),
    ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", CHAT),
    ("o11", CHAT),
    ("canada-7b", CHAT),
    ("", CHAT),
]


@pytest.mark.parametrize(("model", "profile"), MODELS)
def test_a_name_has_its_profile(model, profile):
    """Families, vendor prefixes, fine-tunes, deployments and letter case are seen through; the unknown is as gpt-4o."""
    assert profile_of(model, {}) == profile


FAMILIES = {
    "gpt-4o": (O200K, Family.GPT_4O, 3, 0),
    "gpt-5": (O200K, Family.GPT_5, 2, 2),
    "gpt-5.2-chat-latest": (O200K, Family.GPT_5, 2, 2),
    "gpt-5-chat-latest": (O200K, Family.GPT_4O, 3, 0),
    "o4-mini": (O200K, Family.O, 2, 2),
    "gpt-3.5-turbo": (CL100K, Family.GPT_4O, 3, 0),
    "gpt-4": (CL100K, Family.GPT_4_FIRST, 3, 0),
}


@pytest.mark.parametrize("model", FAMILIES)
def test_families_frame_messages_in_their_own_way(model):
    profile = profile_of(model, {})

    found = (profile.encoding, profile.family, profile.priming_tokens, profile.assistant_tokens)
    assert found == FAMILIES[model]
    assert profile.is_reasoning is (profile.family in (Family.O, Family.GPT_5))


PICTURES = {
    "gpt-4o": images.TILES_GPT_4O,
    "gpt-4o-mini": images.TILES_GPT_4O_MINI,
    "gpt-4.1-mini-2025-04-14": images.PATCHES_GPT_4_1_MINI,
    "gpt-4.1-nano": images.PATCHES_GPT_4_1_NANO,
    "gpt-5": images.TILES_GPT_5,
    "gpt-5-mini": images.PATCHES_GPT_5_MINI,
    "gpt-5-nano-2025-08-07": images.PATCHES_GPT_5_NANO,
    "gpt-5.4-nano": images.PATCHES_GPT_5_4,
    "gpt-5.6-sol": images.PATCHES_GPT_5_4,
    "o1": images.TILES_O,
    "o4-mini": images.PATCHES_O4_MINI,
    "computer-use-preview": images.TILES_COMPUTER_USE,
}


@pytest.mark.parametrize("model", PICTURES)
def test_families_have_their_own_rule_for_pictures(model):
    assert profile_of(model, {}).images == PICTURES[model]


@pytest.mark.parametrize(
    ("model", "thinks"),
    [("gpt-5", True), ("gpt-5.1", False), ("gpt-5.4", False), ("gpt-5.5", True), ("gpt-5.6-luna", False), ("o3", True)],
)
def test_some_models_think_unless_told_not_to(model, thinks):
    assert profile_of(model, {}).thinks is thinks


OVERRIDES = [
    ("a model's own pattern", "acme-7b", {"acme-*": CL100K}, CHAT._replace(encoding=CL100K)),
    ("the first that matches", "acme-7b", {"acme-7*": WORDS, "*": CL100K}, CHAT._replace(encoding=WORDS)),
    ("none that matches", "acme-7b", {"other": CL100K}, CHAT),
    ("another encoding keeps the family", "gpt-5", {"gpt-5": CL100K}, REASONING._replace(encoding=CL100K)),
    ("the name as requested, prefix included", "openai/gpt-4", {"gpt-4": O200K}, FIRST),
    ("a prefix in the pattern", "openai/gpt-4", {"openai/*": O200K}, FIRST._replace(encoding=O200K)),
    ("a deployment by its model's name", "prod-eu", {"prod-*": "gpt-5"}, REASONING),
]


@pytest.mark.parametrize(
    ("model", "overrides", "profile"), [row[1:] for row in OVERRIDES], ids=[row[0] for row in OVERRIDES]
)
def test_the_configuration_has_the_last_word(model, overrides, profile):
    assert profile_of(model, overrides) == profile


@given(st.text(max_size=30))
def test_any_name_has_a_profile(model):
    profile = profile_of(model, {})

    assert profile.encoding in ENCODINGS
    assert profile_of(f"vendor/{model}", {}) == profile
    assert profile_of(model.upper(), {}) == profile_of(model.upper().lower(), {})


def test_a_profile_is_gpt_4os_unless_it_says_otherwise():
    assert Profile(O200K) == CHAT


BARE = [
    ("gpt-4o", "gpt-4o"),
    ("openai/GPT-4o", "gpt-4o"),
    ("a/b/c", "c"),
    ("ft:gpt-4o:acme", "gpt-4o:acme"),
    ("models/gemini-2.5-pro", "gemini-2.5-pro"),
    ("us.anthropic.claude-3-haiku", "claude-3-haiku"),
    ("meta.llama3-70b-instruct-v1:0", "llama3-70b-instruct-v1:0"),
]


@pytest.mark.parametrize(("model", "bare"), BARE)
def test_bare_names(model, bare):
    assert bare_model(model) == bare


def test_a_file_and_a_template_may_be_named_for_a_model():
    """A tokenizer's file takes the place of the encoding, a template's overheads that of the table's."""
    overrides = {"my-*": "hf:/models/tokenizer.json", "prod-*": "gpt-5"}
    templates = {"my-large*": Template(message_tokens=5, priming_tokens=2)}
    mine, large = (profile_of(name, overrides, templates) for name in ("my-small", "my-large-2"))

    assert mine.encoding == large.encoding == "hf:/models/tokenizer.json"
    assert mine == profile_of("my-small", {})._replace(encoding=mine.encoding)
    assert (large.message_tokens, large.priming_tokens) == (5, 2)
    assert profile_of("prod-1", overrides, templates) == profile_of("gpt-5", {})
