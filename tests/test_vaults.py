"""``settings.VAULTS`` and its handler: one vault per alias and process, and errors that say what to do."""

import os
import pathlib
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from vault_fields.backends.base import BaseVault
from vault_fields.keys import DataKey, KeyContext
from vault_fields.runtime.deadline import Deadline
from vault_fields.vaults import DEFAULT_VAULT_ALIAS, VaultHandler, vaults

HERE = "tests.test_vaults."


class CountingVault(BaseVault):
    """A vault that answers from nothing and knows how many of it were built."""

    built = 0
    closed = 0

    def __init__(self, alias: str = "default", *, secret: str, colour: str = "red", **options: Any) -> None:
        super().__init__(alias, **options)
        type(self).built += 1
        self.colour = colour

    def _create(self, context: KeyContext) -> DataKey:
        return DataKey("id", "blob", bytes(32))

    def _decrypt(self, encrypted_keys: str, deadline: Deadline) -> DataKey:
        return DataKey("id", encrypted_keys, bytes(32))

    def _rekey(self, encrypted_keys: str, context: KeyContext) -> DataKey:
        return DataKey("id", encrypted_keys, bytes(32))

    def close(self) -> None:
        type(self).closed += 1
        super().close()


class PlainVault(CountingVault):
    """Needs no options."""

    def __init__(self, alias: str = "default", **options: Any) -> None:
        super().__init__(alias, secret="", **options)


class NarrowVault(PlainVault):
    """Takes one option and no other."""

    def __init__(self, alias: str = "default", *, width: int = 1) -> None:
        super().__init__(alias)


class BrokenVault(PlainVault):
    """Has a bug in its constructor."""

    def __init__(self, alias: str = "default", **options: Any) -> None:
        super().__init__(alias, **options)
        len(None)  # type: ignore[arg-type]


class LayeredVault(PlainVault):
    """Stands on another vault."""

    def __init__(self, alias: str = "default", *, over: str, **options: Any) -> None:
        super().__init__(alias, **options)
        self.over = vaults[over]


not_a_class = 3
PLAIN = {"BACKEND": f"{HERE}PlainVault"}


def problem(configured: Any, alias: Any = "default") -> str:
    with override_settings(VAULTS=configured), pytest.raises(ImproperlyConfigured) as caught:
        vaults[alias]
    return str(caught.value)


def test_an_alias_is_a_vault_with_its_options() -> None:
    entry = {"BACKEND": f"{HERE}CountingVault", "OPTIONS": {"secret": "s", "colour": "blue", "key_max_age": 5}}
    with override_settings(VAULTS={"eu": entry}):
        vault = vaults["eu"]
        assert isinstance(vault, CountingVault)
        assert (vault.alias, vault.colour, vault.cache.max_age) == ("eu", "blue", 5)
        assert vaults["eu"] is vault


def test_new_data_keys_come_from_the_last_successor() -> None:
    configured = {"a": {**PLAIN, "SUCCESSOR": "b"}, "b": {"SUCCESSOR": "c"}, "c": PLAIN}
    with override_settings(VAULTS=configured):
        assert [vaults.writer(alias) for alias in vaults] == ["c", "c", "c"]
        assert [vaults.is_left(alias) for alias in vaults] == [False, True, False]
        assert vaults["a"] is not vaults["c"]
    with override_settings(VAULTS={"a": PLAIN}):
        assert vaults.writer("a") == "a"


@pytest.mark.parametrize("successor", ["", "gone", None, 7])
def test_successor_must_be_there(successor) -> None:
    with (
        override_settings(VAULTS={"a": {**PLAIN, "SUCCESSOR": successor}}),
        pytest.raises(ImproperlyConfigured) as caught,
    ):
        vaults.writer("a")
    assert str(caught.value) == "VAULTS['a']: SUCCESSOR must be the alias of another vault in VAULTS."


def test_successors_must_not_go_round() -> None:
    configured = {"a": {**PLAIN, "SUCCESSOR": "b"}, "b": {**PLAIN, "SUCCESSOR": "a"}}
    with (
        override_settings(VAULTS=configured),
        pytest.raises(ImproperlyConfigured, match=r"^VAULTS\['b'\]: SUCCESSOR leads back"),
    ):
        vaults.writer("a")


KEY = "sk_live_4f9Za81"


@pytest.mark.parametrize(
    "entry",
    [
        {"SUCCESSOR": f"workos://:{KEY}@host"},
        {"SUCCESSOR": [KEY]},
        {**PLAIN, KEY: 1},
        {**PLAIN, "OPTIONS": {KEY: 1}},
        {"BACKEND": f"{HERE}CountingVault", "OPTIONS": {"secret": "x", KEY: 1}},
        {"BACKEND": f"{HERE}NarrowVault", "OPTIONS": {KEY: 1}},
        {"BACKEND": f"vault_fields.{KEY}"},
        {"BACKEND": f"vault_fields.backends.local.{KEY}"},
        {"BACKEND": f"os.{KEY}.Vault"},
        {"BACKEND": "vault_fields.backends.openbao.OpenBaoVault", "OPTIONS": {"token_file": KEY}},
    ],
)
def test_a_key_in_the_wrong_place_is_not_repeated(entry) -> None:
    with override_settings(VAULTS={"a": entry}), pytest.raises(ImproperlyConfigured) as caught:
        _ = vaults["a"]
    error = caught.value
    while error is not None:
        assert KEY not in str(error)
        error = None if error.__suppress_context__ and error.__cause__ is None else error.__cause__ or error.__context__


def test_vault_that_was_left_cannot_be_asked() -> None:
    assert problem({"a": {"SUCCESSOR": "b"}, "b": PLAIN}, "a") == (
        "VAULTS['a']: this vault was left for 'b'. To open what it encrypted, give its BACKEND."
    )
    assert "BACKEND must be the dotted path" in problem({"a": {"SUCCESSOR": "b", "OPTIONS": {}}, "b": PLAIN}, "a")


def test_options_may_be_left_out() -> None:
    with override_settings(VAULTS={DEFAULT_VAULT_ALIAS: PLAIN}):
        assert isinstance(vaults["default"], PlainVault)


def test_the_handler_is_a_collection_of_aliases_and_builds_nothing_for_it() -> None:
    before = CountingVault.built
    with override_settings(VAULTS={"a": PLAIN, "b": {"BACKEND": "no.such"}}):
        assert list(vaults) == ["a", "b"]
        assert len(vaults) == 2
        assert "a" in vaults
        assert "c" not in vaults
    assert CountingVault.built == before


def test_50_threads_share_one_vault() -> None:
    before = PlainVault.built
    ready = threading.Barrier(50)

    def look_up() -> BaseVault:
        ready.wait(60)
        return vaults["default"]

    with override_settings(VAULTS={"default": PLAIN}), ThreadPoolExecutor(50) as pool:
        found = [future.result() for future in [pool.submit(look_up) for _ in range(50)]]
    assert len(set(map(id, found))) == 1
    assert PlainVault.built == before + 1


def test_a_thread_that_comes_second_gets_the_first_ones_vault() -> None:
    with override_settings(VAULTS={"default": PLAIN}), ThreadPoolExecutor(1) as pool:
        with vaults._lock:
            second = pool.submit(lambda: vaults["default"])
            time.sleep(0.05)
            first = vaults["default"]
        assert second.result() is first


def test_a_vault_may_be_built_on_another_one() -> None:
    layered = {"BACKEND": f"{HERE}LayeredVault", "OPTIONS": {"over": "base"}}
    with override_settings(VAULTS={"top": layered, "base": PLAIN}):
        assert vaults["top"].over is vaults["base"]  # type: ignore[attr-defined]


def test_another_setting_drops_and_closes_the_vaults() -> None:
    with override_settings(VAULTS={"default": PLAIN}):
        first = vaults["default"]
        closed = PlainVault.closed
        with override_settings(VAULTS={"default": PLAIN}):
            assert PlainVault.closed == closed + 1
            second = vaults["default"]
        third = vaults["default"]
    assert len({first, second, third}) == 3


def test_other_settings_leave_the_vaults_alone() -> None:
    with override_settings(VAULTS={"default": PLAIN}):
        first = vaults["default"]
        with override_settings(DEBUG=True):
            assert vaults["default"] is first


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_builds_its_own_even_if_a_lock_was_held() -> None:
    """The thread that held it does not exist in the child, and would never let go."""
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with vaults._lock:
            held.set()
            done.wait(60)

    with override_settings(VAULTS={"default": PLAIN, "other": PLAIN}):
        parents = vaults["default"]
        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(60)
        pid = os.fork()
        if pid == 0:  # pragma: no cover - coverage does not see into this child.
            code = 1
            try:
                code = 0 if vaults["default"] is parents and vaults["other"] is vaults["other"] else 2
            finally:
                os._exit(code)
        done.set()
        thread.join()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert vaults["default"] is parents


def test_vaults_go_on_in_a_forked_child_under_a_lock_of_its_own() -> None:
    """What runs in a forked child, run here: a child leaves no trace of which lines it ran."""
    handler = VaultHandler()
    with override_settings(VAULTS={"default": PLAIN}):
        first, lock = handler["default"], handler._lock
        handler.reset_in_child()
        assert handler["default"] is first
        assert handler._lock is not lock


# Errors.


def test_without_the_setting_the_error_shows_what_to_paste(settings) -> None:
    del settings.VAULTS
    vaults.reset()  # pytest-django tells nobody of a setting that is deleted.
    for use in (lambda: vaults["default"], lambda: list(vaults), lambda: len(vaults), lambda: "default" in vaults):
        with pytest.raises(ImproperlyConfigured, match=r"^VAULTS: not set") as caught:
            use()
    pasted: dict[str, Any] = {}
    block = str(caught.value).partition("\n\n")[2]
    exec(textwrap.dedent(block), {"BASE_DIR": pathlib.Path("/srv/app")}, pasted)
    settings.VAULTS = pasted["VAULTS"]
    assert repr(vaults["default"])


@pytest.mark.parametrize("wrong", [[], "local:///x", 3])
def test_vaults_must_be_a_dict(wrong) -> None:
    assert problem(wrong) == f"VAULTS: must be a dict of aliases to vaults, not {type(wrong).__name__}."


def test_an_alias_that_is_not_there() -> None:
    assert problem({"a": PLAIN, "b": PLAIN}) == (
        "VAULTS['default']: there is no such vault. Add it to VAULTS, which has 'a', 'b'."
    )
    assert problem({}).endswith("which has no vault at all.")


def test_an_entry_that_is_a_url_is_not_shown() -> None:
    message = problem({"default": "workos://:sk_secret@api.workos.com"})
    assert message.startswith("VAULTS['default']: must be a dict with BACKEND and OPTIONS, not str.")
    assert "vault_config(" in message
    assert "sk_secret" not in message


def test_an_entry_that_is_something_else() -> None:
    assert problem({"default": None}) == "VAULTS['default']: must be a dict with BACKEND and OPTIONS, not NoneType."


def test_unknown_keys_are_named() -> None:
    assert problem({"default": {**PLAIN, "timeout": 3, "LOCATION": "x"}}) == (
        "VAULTS['default']: unknown keys: LOCATION, timeout. Only BACKEND, OPTIONS and SUCCESSOR stand here; "
        "the rest is OPTIONS."
    )


@pytest.mark.parametrize("entry", [{}, {"BACKEND": ""}, {"BACKEND": PlainVault}, {"BACKEND": None}])
def test_backend_must_be_a_dotted_path(entry) -> None:
    assert "BACKEND must be the dotted path of a vault class" in problem({"default": entry})


@pytest.mark.parametrize("path", ["no.such.module.Vault", "nodots", "hvs.CAESIJ", "workos://:sk_live@host", "-"])
def test_a_backend_of_no_package_is_not_shown(path) -> None:
    assert problem({"default": {"BACKEND": path}}) == (
        "VAULTS['default']: BACKEND must be the dotted path of a vault class, and begins with the name of no package "
        "here. It is not shown: it may be a key."
    )


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("vault_fields.no.such.Vault", "vault_fields"),
        ("vault_fields.vaults.NoSuchVault", "vault_fields.vaults"),
        ("vault_fields.backends.local.LocalVualt", "vault_fields.backends.local"),
    ],
)
def test_a_backend_that_cannot_be_imported(path, there) -> None:
    assert problem({"default": {"BACKEND": path}}) == (
        f"VAULTS['default']: BACKEND cannot be imported: {there} has nothing of the name that follows. It is not "
        "shown: it may be a key."
    )


def test_a_backend_in_a_package_without_a_path() -> None:
    assert problem({"default": {"BACKEND": "vault_fields"}}) == (
        "VAULTS['default']: BACKEND cannot be imported: it is no dotted path."
    )


def test_what_a_backend_itself_imports_is_named(monkeypatch, tmp_path) -> None:
    (tmp_path / "backend_of_the_tests.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    assert problem({"default": {"BACKEND": "backend_of_the_tests.Vault"}}) == (
        "VAULTS['default']: BACKEND cannot be imported: No module named 'no_such_dependency'"
    )


@pytest.mark.parametrize(
    "path",
    ["vault_fields.backends.base.BaseVault", "datetime.date", "os.path.join", f"{HERE}not_a_class"],
)
def test_a_backend_that_is_not_a_vault(path) -> None:
    assert "is not a vault: it must be a concrete subclass of BaseVault" in problem({"default": {"BACKEND": path}})


@pytest.mark.parametrize("options", [None, [], "path=x", {3: "x"}])
def test_options_must_be_a_dict_of_names(options) -> None:
    assert problem({"default": {**PLAIN, "OPTIONS": options}}) == (
        "VAULTS['default']: OPTIONS must be a dict of option names to values."
    )


def test_a_missing_option_is_named() -> None:
    message = problem({"default": {"BACKEND": f"{HERE}CountingVault"}})
    assert message.startswith("VAULTS['default']: OPTIONS do not fit CountingVault: missing a required")
    assert "'secret'" in message


def test_an_option_that_a_vault_does_not_take_is_named() -> None:
    assert problem({"default": {"BACKEND": f"{HERE}NarrowVault", "OPTIONS": {"hieght": 1, "width": 2}}}) == (
        "VAULTS['default']: OPTIONS do not fit NarrowVault: got unexpected arguments: hieght."
    )


def test_alias_is_not_an_option() -> None:
    assert "OPTIONS do not fit PlainVault: multiple values for argument 'alias'" in problem(
        {"default": {**PLAIN, "OPTIONS": {"alias": "x"}}}
    )


def test_an_unknown_option_is_named_and_its_value_is_not_shown() -> None:
    options = {"secret": "s3cr3t", "tiemout": "s3cr3t"}
    message = problem({"default": {"BACKEND": f"{HERE}CountingVault", "OPTIONS": options}})
    assert message.startswith("VAULTS['default']: unknown OPTIONS: tiemout.")
    assert "s3cr3t" not in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_cached_keys", -1),
        ("max_cached_keys", 1.5),
        ("max_cached_keys", True),
        ("key_max_age", -0.1),
        ("key_max_age", "60"),
        ("key_max_age", float("nan")),
        ("max_concurrency", 0),
    ],
)
def test_numbers_out_of_range_are_named(name, value) -> None:
    assert problem({"default": {**PLAIN, "OPTIONS": {name: value}}}).startswith(f"VAULTS['default']: {name} must be ")


def test_a_bug_in_a_constructor_shows_as_what_it_is() -> None:
    with override_settings(VAULTS={"default": {"BACKEND": f"{HERE}BrokenVault"}}), pytest.raises(TypeError):
        vaults["default"]


def test_a_vault_that_could_not_be_built_is_tried_again() -> None:
    with override_settings(VAULTS={"default": {"BACKEND": f"{HERE}CountingVault"}}):
        for _ in range(2):
            with pytest.raises(ImproperlyConfigured):
                vaults["default"]
