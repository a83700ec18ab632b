"""How often somebody may be refused before we stop looking: a share per address that grows with time."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict

REFUSALS_PER_S = 0.2  # of one address
REFUSALS_BURST = 20.0
ADDRESSES_MAX = 10_000  # whose refusals are remembered


def share_of(host: str) -> str:
    """Whose share a refusal costs: an IPv4 address, or the /64 of an IPv6 address, all of which one machine may have.

    What is no address is a share of its own.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
    return str(getattr(address, "ipv4_mapped", None) or address)


class Bucket:
    """A share that grows with time: `take` while there is some. Seconds are the caller's."""

    def __init__(self, rate: float, burst: float, now_s: float) -> None:
        self._rate, self._burst, self._level, self._at = rate, burst, burst, now_s

    def _fill(self, now_s: float) -> None:
        self._level = min(self._burst, self._level + (now_s - self._at) * self._rate)
        self._at = now_s

    def is_empty(self, now_s: float) -> bool:
        """Whether nothing can be taken now."""
        self._fill(now_s)
        return self._level < 1

    def take(self, now_s: float) -> None:
        """One; below nothing it does not go."""
        self._fill(now_s)
        self._level = max(self._level - 1, 0.0)


class Refusals:
    """The shares of the addresses that were refused lately. Used from one thread."""

    def __init__(self) -> None:
        self._shares: OrderedDict[str, Bucket] = OrderedDict()

    def are_too_many(self, address: str, now_s: float) -> bool:
        """Whether the address has used up its share."""
        share = self._shares.get(address)
        return share is not None and share.is_empty(now_s)

    def note(self, address: str, now_s: float) -> None:
        """One more."""
        share = self._shares.setdefault(address, Bucket(REFUSALS_PER_S, REFUSALS_BURST, now_s))
        share.take(now_s)
        self._shares.move_to_end(address)
        while len(self._shares) > ADDRESSES_MAX:
            self._shares.popitem(last=False)
