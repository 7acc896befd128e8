"""Compaction behaves as the client's settings say, else as the model's do, else as for all."""

from __future__ import annotations

import pytest

from gateway.fitting.options import CompactionOptions, CompactionTable, Differing

DEFAULT = CompactionOptions(True, False, 0.65, True, True, b"fingerprint")
TABLE = CompactionTable(
    DEFAULT,
    [("gpt-4o-mini*", Differing(is_shadow=True)), ("gpt-4o*", Differing(is_enabled=False, target_ratio=0.5))],
    {"batch": Differing(is_enabled=True, recalls=False), "idle": Differing()},
)


@pytest.mark.parametrize(
    ("client", "model", "differs"),
    [
        ("app", "o3", Differing()),
        ("app", "gpt-4o", Differing(is_enabled=False, target_ratio=0.5)),
        ("app", "gpt-4o-mini-2024", Differing(is_shadow=True)),
        ("batch", "o3", Differing(recalls=False)),
        ("batch", "gpt-4o", Differing(target_ratio=0.5, recalls=False)),
        ("idle", "gpt-4o", Differing(is_enabled=False, target_ratio=0.5)),
    ],
)
def test_the_nearest_setting_holds(client: str, model: str, differs: Differing) -> None:
    """The first matching pattern, and over it the client; asked twice, the same."""
    for _ in range(2):
        assert TABLE.options_for(client, model) == differs.over(DEFAULT)


def test_made_up_models_take_no_memory_for_ever() -> None:
    """The right answer comes all the same."""
    found = {TABLE.options_for("app", f"gpt-4o-{number}").is_enabled for number in range(3000)}

    assert found == {False}
    assert len(TABLE._known) <= 1000
