"""How compaction behaves for a client and a model: the defaults, what the model's pattern says otherwise, and over
both what the client's own settings say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from types import MappingProxyType

_MAX_REMEMBERED = 1000
"""Pairs of client and model; clients may make up any number of models."""


@dataclass(frozen=True, slots=True)
class CompactionOptions:
    """How compaction behaves.

    Attributes:
        is_enabled: else requests that do not fit are refused (or forwarded, by `on_unfittable`).
        is_shadow: plan and record, and forward the client's own bytes.
        target_ratio: of the prompt's limit, what a fresh compaction aims at.
        recalls: folded messages come back where a user's message needs them.
        fills: what other shares leave is for that, too.
        fingerprint: of the settings that shape a brief's text.
        is_early: chats that fit are compacted, too, where that costs less.
    """

    is_enabled: bool
    is_shadow: bool
    target_ratio: float
    recalls: bool
    fills: bool
    fingerprint: bytes
    is_early: bool = False


@dataclass(frozen=True, slots=True)
class Differing:
    """What differs from the defaults; None is as they are. Nothing here shapes the text of a brief."""

    is_enabled: bool | None = None
    is_shadow: bool | None = None
    target_ratio: float | None = None
    recalls: bool | None = None
    fills: bool | None = None

    def over(self, options: CompactionOptions) -> CompactionOptions:
        """These options with the differences."""
        return replace(
            options,
            is_enabled=options.is_enabled if self.is_enabled is None else self.is_enabled,
            is_shadow=options.is_shadow if self.is_shadow is None else self.is_shadow,
            target_ratio=options.target_ratio if self.target_ratio is None else self.target_ratio,
            recalls=options.recalls if self.recalls is None else self.recalls,
            fills=options.fills if self.fills is None else self.fills,
        )


class CompactionTable:
    """The options of every client and model.

    Args:
        default: where nothing differs.
        by_model: what differs for models that match a pattern; the first match wins.
        by_client: what differs for a client, by its name.
    """

    def __init__(
        self,
        default: CompactionOptions,
        by_model: Sequence[tuple[str, Differing]] = (),
        by_client: Mapping[str, Differing] = MappingProxyType({}),
    ) -> None:
        self._default = default
        self._by_model = by_model
        self._by_client = by_client
        self._known: dict[tuple[str, str], CompactionOptions] = {}

    def options_for(self, client: str, model: str) -> CompactionOptions:
        """The options of a request."""
        if not self._by_model and not self._by_client:
            return self._default
        found = self._known.get((client, model))
        if found is None:
            found = self._made(client, model)
            if len(self._known) < _MAX_REMEMBERED:
                self._known[client, model] = found
        return found

    def _made(self, client: str, model: str) -> CompactionOptions:
        options = self._default
        differing = next((each for pattern, each in self._by_model if fnmatchcase(model, pattern)), None)
        for each in (differing, self._by_client.get(client)):
            options = each.over(options) if each is not None else options
        return options
