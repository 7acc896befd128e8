"""Times of what is remembered: microseconds since 1970 in stores, RFC 3339 on the wire, from year 1 to 9999.

Invariants, each with a test of its own:
  1. A time that is told and read again is the same, to the microsecond, before 1970 as well.
  2. The same moment in any time zone is one number.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

SECOND_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LEAST_US = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_MOST_US = (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - _EPOCH) // _MICROSECOND


def micros_of(moment: datetime) -> int | None:
    """A moment, of any time zone, as a number; None where it is not within the years 1 to 9999 of UTC."""
    found = (moment - _EPOCH) // _MICROSECOND
    return found if _LEAST_US <= found <= _MOST_US else None


def told_time(micros: int) -> str:
    """A moment as it is told, in UTC."""
    told = _EPOCH + timedelta(microseconds=min(max(micros, _LEAST_US), _MOST_US))
    return told.isoformat().replace("+00:00", "Z")


def later(micros: int, seconds: float | None) -> int | None:
    """A moment so many seconds after another, and at most the last that can be told; None for never."""
    return None if seconds is None else min(_MOST_US, micros + round(seconds * SECOND_US))
