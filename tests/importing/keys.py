"""Functions that readers in the tests name: keys that no setting has, and a primitive as Tink makes them."""

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from django.conf import settings

NO_KEYS: list[str] = []


class Primitive:
    """An AEAD of Tink as its keysets of one key have it: a header, then the ciphertext of AES-GCM or AES-SIV."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def decrypt(self, ciphertext: bytes, associated_data: bytes) -> bytes:
        _require_header(ciphertext)
        return AESGCM(self._key).decrypt(ciphertext[5:17], ciphertext[17:], associated_data)

    def decrypt_deterministically(self, ciphertext: bytes, associated_data: bytes) -> bytes:
        _require_header(ciphertext)
        return AESSIV(self._key).decrypt(ciphertext[5:], [associated_data])


def _require_header(ciphertext: bytes) -> None:
    if not ciphertext.startswith(b"\x01"):
        raise ValueError("Not of this keyset.")


def primitive() -> Primitive:
    return Primitive(bytes.fromhex(settings.OLD_TINK_KEY))


def associated_data() -> bytes:
    return b"patient.ssn"


def fernet_keys() -> list[str]:
    return list(settings.ELSEWHERE)


def no_keys() -> list[str]:
    return NO_KEYS
