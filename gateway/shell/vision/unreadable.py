"""What is raised where a document cannot be read.

It stands alone so that whoever catches it need not load the libraries that read.
"""

from __future__ import annotations


class Unreadable(Exception):  # noqa: N818 - named for what it says of a document
    """A document, or a page of it, is broken, encrypted, of no known type, or beyond the limits.

    Attributes:
        message: why, with numbers; a caller may know it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
