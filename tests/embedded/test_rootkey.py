import base64
import copy
import logging
import pickle
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from vault_fields.embedded.managed.rootkey import (
    DevelopmentRootKey,
    RootKey,
    configured_root_key,
    decode_root_key,
    generate_root_key,
)


def generated(path: Path) -> RootKey:
    with pytest.warns(RuntimeWarning):
        return DevelopmentRootKey(path).obtain(generate=True)


def test_generated_keys_are_random_and_decode() -> None:
    assert decode_root_key(generate_root_key()).id != decode_root_key(generate_root_key()).id


def test_id_tells_keys_apart_and_is_stable() -> None:
    assert RootKey(bytes(32)).id == RootKey(bytes(32)).id == "9fa3587ac45d42ebeb20c26f271660d4"
    assert RootKey(bytes(32)).id != RootKey(b"\x01" * 32).id


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "of 32 bytes, not of 0"),
        ("not base64 !", "not base64"),
        ("ключ", "not base64"),
        ("c2hvcnQ=", "of 32 bytes, not of 5"),
        (base64.b64encode(bytes(32)).decode(), "one byte repeated"),
        (base64.b64encode(b"a" * 32).decode(), "one byte repeated"),
        ("b2xkIHJvb3Qga2V5IGZvciB0aGVzZSBzbmlwcGV0cyE=", "a key that was published"),
    ],
)
def test_what_is_no_root_key_is_refused_without_showing_it(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        decode_root_key(text)

    assert not text or text not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_material_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        RootKey(bytes(31))


def test_line_end_around_the_key_does_not_matter() -> None:
    text = generate_root_key()

    assert decode_root_key(f"{text}\n").id == decode_root_key(text).id


def test_root_key_leaves_by_no_door() -> None:
    key = RootKey(b"secret" * 5 + b"!!")

    assert "secret" not in repr(key)
    assert key.id in repr(key)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="must not leave"):
            leak(key)


def test_option_counts_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    option, variable = generate_root_key(), generate_root_key()
    monkeypatch.setenv("VAULT_ROOT_KEY", variable)

    with_option, without = configured_root_key(option), configured_root_key(None)

    assert with_option is not None
    assert without is not None
    assert with_option.id == decode_root_key(option).id
    assert without.id == decode_root_key(variable).id


def test_nothing_configured_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_ROOT_KEY", raising=False)

    assert configured_root_key(None) is None


@pytest.mark.parametrize("value", ["", "nonsense"])
def test_configured_nonsense_is_an_error_and_no_reason_for_a_development_key(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("VAULT_ROOT_KEY", value)

    with pytest.raises(ValueError, match=r"environment variable VAULT_ROOT_KEY cannot be used.*vault_root_key"):
        configured_root_key(None)
    with pytest.raises(ValueError, match="root_key cannot be used"):
        configured_root_key(value)


def test_option_of_another_type_is_an_error() -> None:
    with pytest.raises(ValueError, match="root_key cannot be used: it must be a string, not bytes"):
        configured_root_key(b"k" * 32)  # type: ignore[arg-type]


def test_development_key_is_loud_and_private(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING, "vault_fields.embedded.managed.rootkey"),
        pytest.warns(RuntimeWarning, match="python manage.py vault_root_key") as warned,
    ):
        DevelopmentRootKey(path).obtain(generate=True)

    file = path.with_name("vault.sqlite3-development-root-key")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(file) in str(warned[0].message)
    assert str(file) in caplog.text
    assert file.read_text().strip() not in str(warned[0].message) + caplog.text


def test_development_key_is_generated_once_and_logged_by_each_process(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = generated(path)
    caplog.clear()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = DevelopmentRootKey(path).obtain(generate=True)

    assert second.id == first.id
    assert "not for production" in caplog.text


def test_no_development_key_for_a_keystore_that_has_a_root_key(path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"no root key is configured, but the keystore .* was made with one"):
        DevelopmentRootKey(path).obtain(generate=False)

    assert list(path.parent.iterdir()) == []


def test_damaged_development_key_is_an_error_and_stays(path: Path) -> None:
    file = path.with_name("vault.sqlite3-development-root-key")
    file.write_text("damaged")

    with pytest.raises(ImproperlyConfigured, match="development-root-key cannot be used"):
        DevelopmentRootKey(path).obtain(generate=True)

    assert file.read_text() == "damaged"


def test_development_key_without_a_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="its directory does not exist"):
        DevelopmentRootKey(tmp_path / "missing" / "vault.sqlite3").obtain(generate=True)


def test_development_key_that_cannot_be_read_is_an_error(path: Path) -> None:
    path.with_name("vault.sqlite3-development-root-key").mkdir()

    with pytest.raises(ImproperlyConfigured, match="is a directory"):
        DevelopmentRootKey(path).obtain(generate=True)


def test_dangling_link_in_place_of_the_development_key_is_an_error(path: Path) -> None:
    path.with_name("vault.sqlite3-development-root-key").symlink_to(path.with_name("nowhere"))

    with pytest.raises(ImproperlyConfigured, match="was removed while it was being read"):
        DevelopmentRootKey(path).obtain(generate=True)


def test_racing_processes_agree_on_one_development_key(path: Path) -> None:
    code = (
        "import sys, warnings; from pathlib import Path\n"
        "from vault_fields.embedded.managed.rootkey import DevelopmentRootKey\n"
        "warnings.simplefilter('ignore'); sys.stdin.read()\n"
        "print(DevelopmentRootKey(Path(sys.argv[1])).obtain(generate=True).id)"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
    ids = set()
    for racer in racers:
        assert racer.stdout is not None
        with racer.stdout as stdout:
            ids.add(stdout.read())
        assert racer.wait() == 0

    assert len(ids) == 1
    assert [file.name for file in path.parent.iterdir()] == ["vault.sqlite3-development-root-key"]
