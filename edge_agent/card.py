"""Files on a card that fails: whose fault it is that one cannot be read."""

from __future__ import annotations

import errno

_BY_PEOPLE = frozenset(
    {errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
)


def may_pass(error: Exception) -> bool:
    """Is it the card's (EIO and the like), so that the next try may succeed, and no mistake that people must mend?"""
    return isinstance(error, OSError) and error.errno not in _BY_PEOPLE
