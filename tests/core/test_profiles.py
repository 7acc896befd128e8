"""A model's name says how its tokens are counted, however vendors dress the name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.tokens.profiles import CL100K, ENCODINGS, O200K, WORDS, Profile, bare_model, profile_of

CHAT = Profile(O200K)
REASONING = Profile(O200K, priming_tokens=2, assistant_tokens=2)
OLDER = Profile(CL100K, name_tokens=1)

MODELS = [
    ("gpt-4o", CHAT),
    ("gpt-4o-mini-2024-07-18", CHAT),
    ("gpt-4.1", CHAT),
    ("gpt-4.5-preview", CHAT),
    ("chatgpt-4o-latest", CHAT),
    ("gpt-audio", CHAT),
    ("gpt-oss-120b", CHAT),
    ("gpt-5", REASONING),
    ("gpt-5-mini-2025-08-07", REASONING),
    ("gpt-5.4-nano", REASONING),
    ("gpt-5-chat-latest", CHAT),
    ("o1", REASONING),
    ("o3-mini", REASONING),
    ("o4-mini-2025-04-16", REASONING),
    ("gpt-4", OLDER),
    ("gpt-4-turbo-2024-04-09", OLDER),
    ("gpt-4-0613", OLDER),
    ("gpt-3.5-turbo-instruct", OLDER),
    ("gpt-35-turbo", OLDER),
    ("text-embedding-3-small", OLDER),
    ("text-embedding-ada-002", OLDER),
    ("davinci-002", OLDER),
    ("openai/gpt-4", OLDER),
    ("azure/eu/gpt-4", OLDER),
    ("GPT-4", OLDER),
    ("ft:gpt-3.5-turbo:acme::7p4lURel", OLDER),
    ("openai/o3-mini:free", REASONING),
    ("llama-3.1-8b-instruct", CHAT),
    ("mistral-large", CHAT),
    ("o11", CHAT),
    ("my-gpt-4", CHAT),
    ("", CHAT),
]


@pytest.mark.parametrize(("model", "profile"), MODELS)
def test_a_name_has_its_profile(model, profile):
    """Families, vendor prefixes, fine-tunes and letter case are seen through; the unknown is o200k_base."""
    assert profile_of(model, {}) == profile


OVERRIDES = [
    ("a model's own pattern", "acme-7b", {"acme-*": CL100K}, Profile(CL100K)),
    ("the first that matches", "acme-7b", {"acme-7*": WORDS, "*": CL100K}, Profile(WORDS)),
    ("none that matches", "acme-7b", {"other": CL100K}, CHAT),
    ("what is so anyway keeps its family's overheads", "gpt-4", {"gpt-4": CL100K}, OLDER),
    ("the name as requested, prefix included", "openai/gpt-4", {"gpt-4": O200K}, OLDER),
    ("a prefix in the pattern", "openai/gpt-4", {"openai/*": O200K}, CHAT),
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


BARE = [("gpt-4o", "gpt-4o"), ("openai/GPT-4o", "gpt-4o"), ("a/b/c", "c"), ("ft:gpt-4o:acme", "gpt-4o:acme")]


@pytest.mark.parametrize(("model", "bare"), BARE)
def test_bare_names(model, bare):
    assert bare_model(model) == bare
