"""Which names make a gateway."""

from __future__ import annotations

import pytest

from cloud_sync.auth.identity import IdentityRefused, gateway_of
from wire.join import check_gateway_id


@pytest.mark.parametrize("gateway_id", ["a", "0", "gw-1", "a" * 63, "a-"])
def test_ids(gateway_id: str) -> None:
    assert check_gateway_id(gateway_id) == gateway_id
    assert gateway_of(["https://elsewhere", f"urn:tidegate:gateway:{gateway_id}"]) == gateway_id


@pytest.mark.parametrize("gateway_id", ["", "-a", "A", "a_b", "a/b", "a b", "a" * 64, "ä", "a\n", "a.b"])
def test_not_ids(gateway_id: str) -> None:
    with pytest.raises(ValueError, match="gateway id"):
        check_gateway_id(gateway_id)
    with pytest.raises(IdentityRefused):
        gateway_of([f"urn:tidegate:gateway:{gateway_id}"])


@pytest.mark.parametrize("uris", [[], ["urn:other:gw-a"], ["urn:tidegate:gateway:a", "urn:tidegate:gateway:b"]])
def test_exactly_one(uris: list[str]) -> None:
    with pytest.raises(IdentityRefused, match="exactly 1"):
        gateway_of(uris)
