"""Secrets are masked by their shape, and nothing else is touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.context.secrets import MASK, mask_secrets

SECRETS = [
    "sk-proj-" + "a1B2" * 8,
    "sk-" + "abcdef0123456789" * 2,
    "sk_live_" + "a1b2c3d4e5f6a7b8",
    "ghp_" + "aB3" * 12,
    "github_pat_" + "a1_" * 20,
    "AKIA" + "ABCDEFGH12345678",
    "AIza" + "a" * 35,
    "xoxb-123456789012-abcdef",
    "hf_" + "aB3" * 12,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQdGBF\n-----END PGP PRIVATE KEY BLOCK-----",
    "SG." + "aB3" * 8 + "." + "cD4" * 12,
    "whsec_" + "aB3d" * 8,
    "gsk_" + "aB3d" * 8,
    "hvs." + "aB3d" * 8,
    "123456789:AA" + "aB3" * 11,
    "GOCSPX-" + "aB3d" * 6,
    "xai-" + "aB3d" * 10,
]


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_go_and_their_surroundings_stay(secret: str) -> None:
    assert mask_secrets(f"Use {secret} for it.") == f"Use {MASK} for it."


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("password: hunter2hunter2", f"password: {MASK}"),
        ('{"api_key": "abc123def456"}', f'{{"api_key": "{MASK}"}}'),
        ("DB_PASSWORD=correcthorse", f"DB_PASSWORD={MASK}"),
        ("postgres://app:s3cr3t@db:5432/x", f"postgres://app:{MASK}@db:5432/x"),
        ("Authorization: Bearer abcdefghijk", f"Authorization: Bearer {MASK}"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEow and no end", MASK),
        ("The password is hunter2hunter2, right?", f"The password is {MASK}, right?"),
        ("Das Passwort lautet Sommer2026!", f"Das Passwort lautet {MASK}"),
        ("密码是hunter22", f"密码是{MASK}"),
        (
            '{"body": "{\\"client_secret\\": \\"abc123def456\\"}"}',
            f'{{"body": "{{\\"client_secret\\": \\"{MASK}\\"}}"}}',
        ),
        ("apiKey => 'abc123def456'", f"apiKey => '{MASK}'"),
        ("HF_TOKEN=aB3aB3aB3aB3aB3aB3", f"HF_TOKEN={MASK}"),
        ("redis://:s3cr3t@cache:6379/0", f"redis://:{MASK}@cache:6379/0"),
        ("https://hooks.slack.com/services/T0/B0/abcdefghijkl", f"https://hooks.slack.com/services/{MASK}"),
        ("İ password: hunter2hunter2", f"İ password: {MASK}"),
    ],
)
def test_what_it_was_assigned_to_stays(text: str, masked: str) -> None:
    assert mask_secrets(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "The password must be long.", "sk-short", "Ask risk-management about it.", "See eyJhb and nothing more.",
        "http://example.org:8080/a@b", "The secret of success: work.", "task-0123456789abcdef0123",
        "The password is required.", "The token is counted: 12 tokens.", "sk-learn-is-a-python-library",
        "Your api key is missing.", "A secret is what nobody knows.", "The bearer of this letter", "max_tokens: 4096",
        "primary_key: customer_id", "sort-key = created_at", '{"cache_key": "user:17:orders"}', "next_token: null",
    ],
)  # fmt: skip
def test_other_text_stays(text: str) -> None:
    assert mask_secrets(text) == text


@given(st.lists(st.sampled_from([*SECRETS, "password=hunter22", " and ", "\n", "x", "://u:pass12@h"])).map("".join))
def test_masking_twice_changes_nothing(text: str) -> None:
    once = mask_secrets(text)

    assert mask_secrets(once) == once
