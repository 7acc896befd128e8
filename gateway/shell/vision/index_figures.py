"""What indexing did so far, for metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class IndexFigures:
    """Counters of this process.

    Attributes:
        jobs: that ended, or were given back, by how: `succeeded`, `failed`, `cancelled`, `released`.
        duplicates: of those that succeeded, documents that were indexed already.
        errors: of jobs that failed, by code.
        store_waits: times that something was tried again, as the store was not there.
    """

    jobs: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    store_waits: int = 0
