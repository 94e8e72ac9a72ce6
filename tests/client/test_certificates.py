"""Over https a Vault proves who it is: by the certificates of an option, or those that the environment names."""

import datetime as dt
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.faulty_server import FaultyServer
from vault_fields.byok.openbao import OpenBaoTransit
from vault_fields.client import Endpoint, RetryPolicy, VaultClient, endpoint as module
from vault_fields.exceptions import VaultUnavailable


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate authority that nobody knows, which is the server too: its certificate, and behind that its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Somebody's own")])
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(True, False, False, False, False, True, False, False, False)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("certificates") / "authority.pem"
    form = serialization.PrivateFormat.PKCS8
    private = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def address(server: FaultyServer, authority: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    # What is trusted is read once in the life of a process.
    module._ssl_context.cache_clear()
    yield f"https://127.0.0.1:{server.server_port}"
    module._ssl_context.cache_clear()


def post(address: str, ca_file: str | None = None) -> int:
    endpoint = Endpoint(address, alias="eu", headers={"Authorization": "Bearer sk_x"}, ca_file=ca_file)
    client = VaultClient(endpoint, RetryPolicy(max_retries=0))
    try:
        return len(client.post("/vault/v1/keys/data-key", {"context": {"a": "b"}}, timeout=30).content)
    finally:
        client.close()


def test_whom_nobody_vouches_for_is_sent_nothing(address: str, server: FaultyServer) -> None:
    with pytest.raises(VaultUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        post(address)
    assert server.seen == []


def test_the_option_says_whom_to_trust(address: str, authority: Path) -> None:
    assert post(address, ca_file=str(authority))


def test_the_environment_says_whom_to_trust(address: str, authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    assert post(address)


def test_a_customers_openbao_is_trusted_likewise(
    address: str, server: FaultyServer, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "s.token")
    provider = OpenBaoTransit({"address": address, "key": "acme", "token_env": "TOKEN"})
    with pytest.raises(VaultUnavailable):
        provider.wrap(b"sealed", {"vault": "v"}, timeout=1.0)
    provider.close()
    module._ssl_context.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    server.usual.content = {"data": {"ciphertext": "vault:v1:x"}}
    assert provider.wrap(b"sealed", {"vault": "v"}, timeout=30.0) == b"vault:v1:x"
    provider.close()


def test_a_customers_openbao_has_certificates_of_its_own(
    address: str, server: FaultyServer, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "s.token")
    server.usual.content = {"data": {"ciphertext": "vault:v1:x"}}
    settings = {"address": address, "key": "acme", "token_env": "TOKEN", "ca_file": str(authority)}
    provider = OpenBaoTransit(settings)
    assert provider.wrap(b"sealed", {"vault": "v"}, timeout=30.0) == b"vault:v1:x"
    provider.close()
