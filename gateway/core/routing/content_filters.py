"""Did an upstream refuse a prompt for what it says? Such a refusal is passed on, and no other model is asked.

Known by the code where vendors give one, else by how the message begins. A model that declines in words of its own has
answered, and is no refusal.
"""

from __future__ import annotations

import re

from gateway.core.routing.error_texts import read_error

_STATUSES = frozenset({400, 403, 422, 451})
_CODES = frozenset(
    {
        *("content_filter", "content_policy_violation", "responsibleaipolicyviolation", "contentpolicyviolationerror"),
        *("moderation_blocked", "data_inspection_failed", "datainspectionfailed", "prohibited_content"),
    }
)
_begins = re.compile(
    r"""(?:
        the\ response\ was\ filtered\ due\ to\ the\ prompt\ triggering
      | your\ request\ was\ rejected\ as\ a\ result\ of\ our\ safety\ system
      | (?:invalid\ prompt:\ )?your\ prompt\ was\ flagged\ as\ potentially\ violating
      | output\ blocked\ by\ content\ filtering\ policy
      | content\ violates\ usage\ guidelines
      | (?:input|output)\ data\ may\ contain\ inappropriate\ content
      | \S{1,200}\ requires\ moderation\ on\ .{1,100}?\.\ your\ input\ was\ flagged
    )""",
    re.VERBOSE | re.IGNORECASE,
).match


def is_filtered(status: int, body: bytes) -> bool:
    """Whether an upstream's answer is a refusal of the content.

    Args:
        status: of the answer.
        body: of the answer, not compressed.
    """
    if status not in _STATUSES:
        return False
    error = read_error(body)
    return bool(error.codes & _CODES) or any(_begins(head) for head in error.heads)
