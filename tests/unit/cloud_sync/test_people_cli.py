"""`cloud-sync admin-link` and `api-token`, and the link that `init` prints; HTTPS of a real service."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from httpx import Client

from cloud_sync.auth.credentials import Credential, Kind
from cloud_sync.cli import main
from cloud_sync.cli_options import EXIT_CONFIG

LINK = re.compile(r"(http\S+)/login\?link=(\S+)")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fails(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == EXIT_CONFIG
    assert done.stderr.startswith("cloud-sync: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture
def data(tmp_path: Path) -> Path:
    assert run("init", "--data", tmp_path / "data").exit_code == 0
    return tmp_path / "data"


def test_init_prints_a_link(tmp_path: Path) -> None:
    said = run("init", "--data", tmp_path / "data").output
    (base, link), *more = LINK.findall(said)
    assert (base, more) == ("http://127.0.0.1:8080", [])
    assert Credential.parse(link, Kind.LINK)
    (row,) = json.loads(run("api-token", "list", "--json", "--data", tmp_path / "data").stdout)["credentials"]
    assert (row["kind"], row["role"], row["state"]) == ("link", "admin", "good")


def test_admin_link(data: Path) -> None:
    assert LINK.search(run("admin-link", "--data", data).stdout)
    told = run("admin-link", "--data", data, "--url", "https://cloud.example:8080/", "--ttl", "5m").stdout
    assert told.startswith("https://cloud.example:8080/login?link=tgl1.")
    (data / "run").mkdir()
    (data / "run/addresses.json").write_text('{"http": "https://0.0.0.0:9"}')
    assert run("admin-link", "--data", data).stdout.startswith("https://0.0.0.0:9/login")
    for wrong in (("--ttl", "8d"), ("--ttl", "soon"), ("--url", "cloud.example"), ("--url", "ftp://x")):
        assert wrong[0] in fails("admin-link", "--data", data, *wrong)


def test_api_tokens(data: Path) -> None:
    made = run("api-token", "create", "grafana", "--role", "operator", "--ttl", "1d", "--data", data)
    token = Credential.parse(made.stdout.strip(), Kind.TOKEN)
    assert token is not None
    assert "Bearer" in made.stderr
    told = json.loads(run("api-token", "create", "script", "--json", "--data", data).stdout)
    assert told["ttl_s"] == 90 * 86_400
    rows = {
        row["name"]: row for row in json.loads(run("api-token", "list", "--json", "--data", data).stdout)["credentials"]
    }
    assert (rows["grafana"]["role"], rows["grafana"]["state"], rows["script"]["role"]) == (
        "operator",
        "good",
        "readonly",
    )
    assert token.secret not in run("api-token", "list", "--data", data).output
    assert "is ended" in run("api-token", "revoke", token.id, "--data", data).output
    assert re.search(
        rf"{token.id} +api-token +grafana +operator +ended", run("api-token", "list", "--data", data).output
    )
    assert run("api-token", "revoke", "nosuch", "--data", data).exit_code == 1
    for wrong in ("", " ", "a\nb", "x" * 65):
        assert "printable" in fails("api-token", "create", wrong, "--data", data)
    assert "--ttl" in fails("api-token", "create", "x", "--ttl", "4000d", "--data", data)
    assert run("api-token", "create", "x", "--role", "root", "--data", data).exit_code == 2
    actions = [row["action"] for row in json.loads(run("audit", "--json", "--data", data).stdout)["changes"]]
    assert actions == ["api-token.end", "api-token.create", "api-token.create", "link.create", "cloud.init"]


@pytest.mark.parametrize("http", ["0.0.0.0:8080", "192.0.2.1:80", "cloud.example:80", "[::]:80"])
def test_plain_http_is_for_loopback(data: Path, http: str) -> None:
    said = fails("serve", "--data", data, "--http", http)
    assert "--http-tls" in said
    assert "ssh -L" in said


def test_certificates_that_cannot_be_used(data: Path, tmp_path: Path) -> None:
    pki = data / "pki"
    locked = tmp_path / "locked.key"
    command = ["openssl", "ec", "-in", str(pki / "server.key"), "-aes256", "-passout", "pass:x", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    pairs = {
        (pki / "server.pem", tmp_path / "none.key"): "none.key cannot be read",
        (pki / "server.key", pki / "server.key"): "no certificate and its key",
        (pki / "server.pem", pki / "ca.key"): "no certificate and its key",
        (pki / "server.pem", locked): "without a password",
    }
    for (certificate, key), words in pairs.items():
        assert words in fails("serve", "--data", data, "--http-cert", certificate, "--http-key", key)
    assert "--http-key" in fails("serve", "--data", data, "--http-cert", pki / "server.pem")
    assert "either" in fails("serve", "--data", data, "--http-tls", "--http-cert", pki / "ca.pem", "--http-key", locked)


@contextmanager
def service(data: Path, *options: str) -> Iterator[str]:
    """The base URL of a real service."""
    program = [sys.executable, "-c", "from cloud_sync.cli import main; main()", "serve", "--data", str(data)]
    command = [*program, "--grpc", "127.0.0.1:0", "--log-level", "error", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            words = dict(word.split("=", 1) for word in process.stdout.readline().split() if "=" in word)
            yield words["http"]
        finally:
            process.terminate()


def test_https_off_loopback(data: Path) -> None:
    """Listening on all addresses: with the service's own certificate, sessions are for HTTPS only."""
    with service(data, "--http", "0.0.0.0:0", "--http-tls") as url:
        base = url.replace("0.0.0.0", "127.0.0.1")
        assert base.startswith("https://")
        old = ssl.create_default_context(cafile=data / "pki/ca.pem")
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        for stranger in (ssl.create_default_context(), old):
            with pytest.raises(httpx.ConnectError), Client(verify=stranger, trust_env=False) as client:
                client.get(f"{base}/health")
        with pytest.raises(httpx.TransportError), Client(trust_env=False) as client:
            client.get(f"{base.replace('https', 'http')}/health")
        trust = ssl.create_default_context(cafile=data / "pki/ca.pem")
        with Client(base_url=base, verify=trust, trust_env=False) as client:
            assert client.get("/health").status_code == 200
            link = run("admin-link", "--data", data, "--url", base).stdout.strip().partition("link=")[2]
            answer = client.post("/login", data={"link": link}, headers={"sec-fetch-site": "same-origin"})
            set_cookie = answer.headers["set-cookie"]
            assert set_cookie.startswith("__Host-tidegate-")
            assert "; Secure" in set_cookie
            assert client.get("/v1/me").json()["role"] == "admin"
            assert client.get("/v1/me", headers={"host": "evil.example"}).status_code == 421
