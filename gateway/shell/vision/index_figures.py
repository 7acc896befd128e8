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
        pages: that were kept, by kind: `text` has its text in the document, of `ocr` some was read from a picture.
        page_s: seconds that they took to be read and kept, by kind.
        store_waits: times that something was tried again, as the store was not there.
    """

    jobs: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    pages: Counter[str] = field(default_factory=Counter)
    page_s: dict[str, float] = field(default_factory=lambda: {"text": 0.0, "ocr": 0.0})
    store_waits: int = 0
