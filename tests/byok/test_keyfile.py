"""Keys in files: who may read them, and what becomes of them when they are gone."""

import errno
import os
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest
from cryptography.exceptions import InvalidTag

from tests.byok.conftest import on_the_page
from vault_fields.byok.keyfile import KeyFile
from vault_fields.exceptions import KeyRevoked, VaultRefused, VaultUnavailable


@pytest.fixture
def provider(key_file: Path) -> KeyFile:
    return KeyFile({"path": str(key_file)})


def test_file_that_is_taken_away_is_a_key_that_is_withdrawn_at_once(provider: KeyFile, key_file: Path) -> None:
    wrapped = provider.wrap(b"sealed", {}, timeout=1)
    elsewhere = key_file.rename(key_file.with_name("elsewhere"))

    with pytest.raises(KeyRevoked, match="is gone or may not be read"):
        provider.unwrap(wrapped, {}, timeout=1)
    elsewhere.rename(key_file)
    assert provider.unwrap(wrapped, {}, timeout=1) == b"sealed"


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.ENOTDIR])
def test_file_that_may_not_be_read_is_a_key_that_is_withdrawn(
    provider: KeyFile, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Said by the operating system, whom the administrator of this machine would not hear it from."""

    def refuse(*args: Any) -> NoReturn:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(KeyRevoked, match="is gone or may not be read"):
        provider.wrap(b"sealed", {}, timeout=1)


def test_command_of_the_page_makes_a_key_that_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "customer-acme.key"
    command = on_the_page("A key file", "sh").replace("/etc/clinic/customer-acme.key", str(path))
    subprocess.run(["sh", "-c", command], check=True)

    assert path.stat().st_mode & 0o777 == 0o400
    provider = KeyFile({"path": str(path)})
    assert provider.unwrap(provider.wrap(b"sealed", {}, timeout=1), {}, timeout=1) == b"sealed"


@pytest.mark.parametrize("byte", [0, 97, 255])
def test_key_that_anybody_can_guess_is_refused(provider: KeyFile, key_file: Path, byte: int) -> None:
    key_file.chmod(0o600)
    key_file.write_bytes(bytes([byte]) * 32)

    with pytest.raises(VaultRefused, match="holds one byte repeated"):
        provider.wrap(b"sealed", {}, timeout=1)


def test_another_key_in_its_place_does_not_open(provider: KeyFile, key_file: Path) -> None:
    wrapped = provider.wrap(b"sealed", {}, timeout=1)
    key_file.write_bytes(bytes(range(32)))

    with pytest.raises(InvalidTag):
        provider.unwrap(wrapped, {}, timeout=1)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o610, 0o601, 0o620])
def test_file_that_others_may_touch_is_refused(provider: KeyFile, key_file: Path, mode: int) -> None:
    key_file.chmod(mode)

    with pytest.raises(VaultRefused, match="chmod 0400"):
        provider.wrap(b"sealed", {}, timeout=1)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_file_of_another_size_is_refused(provider: KeyFile, key_file: Path, size: int) -> None:
    key_file.write_bytes(bytes(size))

    with pytest.raises(VaultRefused, match="exactly 32 bytes"):
        provider.wrap(b"sealed", {}, timeout=1)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)

    for name in ("pipe", "."):
        with pytest.raises(VaultRefused, match="is not a file"):
            KeyFile({"path": str(tmp_path / name)}).wrap(b"sealed", {}, timeout=1)


def test_disk_that_fails_is_unavailable(provider: KeyFile, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> NoReturn:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for function in ("open", "read"):
        with monkeypatch.context() as patch:
            patch.setattr(os, function, fail)
            with pytest.raises(VaultUnavailable, match="cannot be read"):
                provider.wrap(b"sealed", {}, timeout=1)
