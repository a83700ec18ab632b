"""Who may connect: what every catalog's access registry must do, on each database."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from cloud_sync.catalog import audit_rows
from cloud_sync.catalog.access import Access, Candidate, Joined
from cloud_sync.catalog.actors import ACTOR_LOCAL
from cloud_sync.catalog.catalog import Catalog
from cloud_sync.catalog.identity_rows import Issued
from cloud_sync.catalog.join_tokens import JoinTokens, TokenTerms
from cloud_sync.catalog.schema import audit
from cloud_sync.catalog.sql_catalog import SqlCatalog
from cloud_sync.errors import AccessDenied, CatalogDown, JoinRefused, NotFound
from tests.conformance.test_catalog import DialClock, Open, S, hello
from wire.join import JoinToken

UNSEAL = {  # what only the owner of the tables may
    "sqlite": ("DROP TRIGGER audit_no_update", "DROP TRIGGER audit_no_delete"),
    "postgresql": ("DROP TRIGGER audit_only_added_to ON audit",),
}
KEY, OTHER_KEY = b"k" * 32, b"o" * 32


@pytest.fixture
def access(catalog: Catalog) -> Access:
    assert isinstance(catalog, SqlCatalog)
    return catalog.access


@pytest.fixture
def tokens(catalog: Catalog) -> JoinTokens:
    assert isinstance(catalog, SqlCatalog)
    return catalog.join_tokens


class Signer:
    """Gives certificates with serials 1, 2, 3."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, gateway: str) -> Issued:
        self.count += 1
        return Issued(f"{gateway} {self.count}".encode(), str(self.count), 0)


@pytest.fixture
def sign() -> Signer:
    return Signer()


def made(tokens: JoinTokens, uses: int = 1, gateway: str = "", approved: bool = True, ttl_s: int = 3600) -> JoinToken:
    token = JoinToken.new(b"ca", "cloud:1")
    tokens.create(token, TokenTerms(ttl_s, uses, gateway, approved, {"site": "oslo"}, "x = 1"))
    return token


def who(gateway: str = "gw-a", key: bytes = KEY) -> Candidate:
    return Candidate(gateway, key, key[:4].hex(), b"m" * 16, "1.0")


def test_a_join_gives_what_the_token_says(tokens: JoinTokens, access: Access, sign: Signer) -> None:
    token = made(tokens)
    joined = access.join(token.id, token.secret, who(), sign)
    assert joined == Joined("gw-a", b"gw-a 1", {"site": "oslo"}, "x = 1")
    access.authorise("gw-a", "1")
    assert [(row.gateway, row.state, row.serial) for row in access.identities()] == [("gw-a", "active", "1")]


def test_the_same_key_gets_the_same_answer_and_counts_once(
    tokens: JoinTokens, access: Access, sign: Signer, clock: DialClock
) -> None:
    token = made(tokens)
    first = access.join(token.id, token.secret, who(), sign)
    clock.now_us += 7200 * S  # the answer was lost, and the token has expired meanwhile
    assert access.join(token.id, token.secret, who(), sign) == first
    assert (tokens.all()[0].uses, sign.count) == (1, 1)


def test_a_token_is_good_for_so_many_devices(tokens: JoinTokens, access: Access, sign: Signer) -> None:
    token = made(tokens, uses=2)
    access.join(token.id, token.secret, who("a", b"a" * 32), sign)
    access.join(token.id, token.secret, who("b", b"b" * 32), sign)
    with pytest.raises(JoinRefused, match="used 2 times of 2"):
        access.join(token.id, token.secret, who("c", b"c" * 32), sign)
    assert tokens.all()[0].state == "used up"


def test_tokens_that_are_not_good(tokens: JoinTokens, access: Access, sign: Signer, clock: DialClock) -> None:
    token, other = made(tokens), made(tokens)
    for id_, secret in ((token.id, other.secret), ("nosuch", token.secret), (token.id, ""), (token.id, "\0")):
        with pytest.raises(JoinRefused, match="no such token"):
            access.join(id_, secret, who(), sign)
    tokens.revoke(other.id)
    with pytest.raises(JoinRefused, match="revoked"):
        access.join(other.id, other.secret, who(), sign)
    clock.now_us += 2 * 3600 * S
    with pytest.raises(JoinRefused, match=r"expired 1\.0 hours ago"):
        access.join(token.id, token.secret, who(), sign)
    assert {row.state for row in tokens.all()} == {"expired", "revoked"}
    assert sign.count == 0
    with pytest.raises(NotFound):
        tokens.revoke("nosuch")


def test_nobody_takes_the_id_of_another(tokens: JoinTokens, access: Access, sign: Signer, catalog: Catalog) -> None:
    token = made(tokens, uses=9)
    access.join(token.id, token.secret, who(), sign)
    catalog.hello("gw-b", hello())  # came with a certificate of its own
    access.join(token.id, token.secret, who("gw-c", b"c" * 32), sign)
    access.revoke("gw-c", "lost")
    for gateway in ("gw-a", "gw-b", "gw-c"):
        with pytest.raises(JoinRefused, match=f"id {gateway} is taken"):
            access.join(token.id, token.secret, who(gateway, OTHER_KEY), sign)
    assert tokens.all()[0].uses == 2


def test_a_token_for_an_id_puts_a_device_in_its_place(tokens: JoinTokens, access: Access, sign: Signer) -> None:
    token = made(tokens)
    access.join(token.id, token.secret, who(), sign)
    access.revoke("gw-a", "stolen")
    bound = made(tokens, gateway="gw-a")
    joined = access.join(bound.id, bound.secret, who("whatever", OTHER_KEY), sign)
    assert joined is not None
    assert joined.gateway == "gw-a"
    access.authorise("gw-a", "2")
    with pytest.raises(AccessDenied, match="replaced by a newer one"):
        access.authorise("gw-a", "1")
    with pytest.raises(JoinRefused, match="another key now"):
        access.join(token.id, token.secret, who(), sign)


def test_waiting_for_approval(tokens: JoinTokens, access: Access, sign: Signer) -> None:
    token = made(tokens, approved=False, uses=2)
    assert access.join(token.id, token.secret, who(), sign) is None
    assert access.join(token.id, token.secret, who(), sign) is None
    with pytest.raises(JoinRefused, match="taken"):
        access.join(token.id, token.secret, who("gw-a", OTHER_KEY), sign)
    waiting = access.identities()
    assert [(row.gateway, row.state, row.code) for row in waiting] == [("gw-a", "pending", KEY[:4].hex())]
    with pytest.raises(NotFound):
        access.approve("ffff")
    assert access.approve(waiting[0].code) == "gw-a"
    assert access.join(token.id, token.secret, who(), sign) is not None
    assert access.join(token.id, token.secret, who("gw-b", OTHER_KEY), sign) is None
    access.revoke("gw-b", "not ours")
    with pytest.raises(JoinRefused, match="used 2 times"):
        access.join(token.id, token.secret, who("gw-b", OTHER_KEY), sign)


def test_revoked_and_left(tokens: JoinTokens, access: Access, sign: Signer, catalog: Catalog) -> None:
    token = made(tokens, uses=2)
    access.join(token.id, token.secret, who(), sign)
    access.revoke("gw-a", "stolen")
    with pytest.raises(AccessDenied, match="was revoked"):
        access.authorise("gw-a", "1")
    with pytest.raises(AccessDenied, match="was revoked"):
        access.renew("gw-a", "1", OTHER_KEY, sign)
    with pytest.raises(JoinRefused, match="was revoked"):
        access.join(token.id, token.secret, who(), sign)
    access.join(token.id, token.secret, who("gw-b", OTHER_KEY), sign)
    access.leave("gw-b", "2")
    with pytest.raises(AccessDenied, match="has left"):
        access.authorise("gw-b", "2")
    access.authorise("never-seen", "77")  # signed by the CA, and nothing is known against it
    catalog.hello("never-seen", hello())
    access.revoke("never-seen", "")
    with pytest.raises(AccessDenied):
        access.authorise("never-seen", "77")
    with pytest.raises(NotFound):
        access.revoke("nosuch", "")


def test_renewal(tokens: JoinTokens, access: Access, sign: Signer) -> None:
    token = made(tokens)
    access.join(token.id, token.secret, who(), sign)
    assert access.renew("gw-a", "1", b"2" * 32, sign) == b"gw-a 2"
    access.authorise("gw-a", "1")  # the answer may have been lost
    assert access.renew("gw-a", "1", b"2" * 32, sign) == b"gw-a 2"
    with pytest.raises(AccessDenied, match="another device has it"):
        access.renew("gw-a", "1", b"3" * 32, sign)
    access.authorise("gw-a", "2")  # it has the new one: the old one ends
    with pytest.raises(AccessDenied, match="replaced"):
        access.authorise("gw-a", "1")
    with pytest.raises(AccessDenied, match="replaced"):
        access.renew("gw-a", "1", b"2" * 32, sign)
    assert access.renew("came-by-file", "9", KEY, sign) == b"came-by-file 3"
    access.register("gw-a", OTHER_KEY, sign("gw-a"))
    with pytest.raises(AccessDenied, match="replaced"):
        access.authorise("gw-a", "2")


def test_what_changed_lately(tokens: JoinTokens, access: Access, sign: Signer, clock: DialClock) -> None:
    token = made(tokens, uses=2)
    access.join(token.id, token.secret, who("a", b"a" * 32), sign)
    clock.now_us += S
    access.join(token.id, token.secret, who("b", b"b" * 32), sign)
    changed, until_us = access.changed({"a", "b"}, 0)
    assert (sorted(changed), until_us) == (["a", "b"], clock.now_us)
    assert access.changed({"a", "b"}, until_us) == ([], until_us)
    clock.now_us += S
    access.revoke("a", "")
    assert access.changed({"a", "b"}, until_us) == (["a"], clock.now_us)
    assert access.changed({"b"}, until_us)[0] == []


def test_the_audit_is_a_chain(tokens: JoinTokens, access: Access, sign: Signer, catalog: Catalog, reopen: Open) -> None:
    token = made(tokens)
    access.join(token.id, token.secret, who(), sign)
    access.revoke("gw-a", "stolen\0")
    actions = ["gateway.revoke", "gateway.join", "gateway.request", "token.create"]
    assert isinstance(catalog, SqlCatalog)
    told = catalog.audit
    assert [row.action for row in told.rows(10)] == actions
    assert told.first_broken() is None
    assert token.secret not in repr(told.rows(10))
    for break_it in (
        audit.update().where(audit.c.id == 3).values(subject="gw-b"),
        audit.delete().where(audit.c.id == 3),
    ):
        with pytest.raises(CatalogDown, match="only added to"), catalog._database.write() as connection:
            connection.execute(break_it)
        assert told.first_broken() in (None, 3)
        with catalog._database.write() as connection:
            for unseal in UNSEAL[connection.dialect.name]:
                connection.exec_driver_sql(unseal)
            connection.execute(break_it)
            audit_rows.seal(connection)
        assert told.first_broken() == 3
    with catalog._database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(audit)).scalar_one() == 3


EVADE = {  # what changes rows of a table by other words than UPDATE and DELETE
    "sqlite": "REPLACE INTO audit SELECT id, at_us, 'nobody', action, subject, detail, hash FROM audit WHERE id = 1",
    "postgresql": "TRUNCATE audit",
}


def test_the_audit_is_not_replaced_either(tokens: JoinTokens, catalog: Catalog) -> None:
    made(tokens)
    assert isinstance(catalog, SqlCatalog)
    with pytest.raises(CatalogDown, match="only added to"), catalog._database.write() as connection:
        connection.exec_driver_sql(EVADE[connection.dialect.name])
    assert [row.actor for row in catalog.audit.rows(9)] == [ACTOR_LOCAL]
