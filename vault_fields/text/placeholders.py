"""Placeholders that stand for a secret in examples, templates and first tries, and are none."""

import hashlib
import re
from collections.abc import Iterator
from itertools import pairwise

__all__ = ["hashes_of_placeholders", "is_guessable", "is_placeholder"]

# Placeholders of examples, the first guesses of everybody, and the values of a setting that nobody filled in.
_TEXTS = (
    *("", "…", "...", "-", "?", "KEY", "API key", "your-api-key", "your_api_key", "your-key", "my-key", "my-secret"),
    *("sk_", "sk_…", "sk_...", "sk_KEY", "sk_example", "test", "test1", "test2", "test3", "testing", "example"),
    *("sample", "demo", "dev", "development", "prod", "live", "production", "staging", "local", "localhost", "key"),
    *("placeholder", "dummy", "fake", "todo", "fixme", "tbd", "none", "api_key", "apikey", "api-key", "bearer"),
    *("token", "vault", "secret", "password", "passwd", "pass", "changeme", "change-me", "change_me", "change-it"),
    *("replaceme", "replace-me", "replace_me", "admin", "root", "user", "default", "foo", "bar", "baz", "foobar"),
    *("null", "nil", "undefined", "nan", "true", "false", "empty", "hello", "letmein", "qwerty", "abc123", "abcdef"),
    *("xxx", "xxxx", "xxxxxxxx", "123", "1234", "12345", "123456", "1234567", "12345678", "123456789", "1234567890"),
)
# Sentences of these words ask for a secret, such as "whsec_from_the_dashboard": one of the first, and any of the
# others.
_ASKING = (
    "your",
    "dashboard",
    "replace",
    "change",
    "put",
    "insert",
    "enter",
    "paste",
    "placeholder",
    "example",
    "todo",
)
_AMONG = (
    *("my", "the", "a", "an", "of", "from", "in", "with", "here", "this", "me", "it", "is", "goes", "some", "signing"),
    *("secret", "key", "api", "token", "webhook", "whsec", "sk", "workos", "vault", "test", "live"),
)
# Syntax that a template, or a shell, would have replaced.
_TEMPLATE = re.compile(r"\$\{.*\}|\$\(.*\)|\$\w+|\{\{.*\}\}|\{.*\}|<.*>|\[.*\]|%\(.*\)s|%\w+%|__\w+__", re.DOTALL)
_FEW_CHARACTERS = 4
_FEW_BYTES = 12


def is_placeholder(text: str) -> bool:
    """Whether a text asks for a secret in words that examples use, is a template, or has hardly any characters."""
    bare = re.sub(r"[^a-z0-9]", "", text.lower())
    return len(set(bare)) <= _FEW_CHARACTERS or _TEMPLATE.fullmatch(text) is not None or _asks(bare)


def hashes_of_placeholders() -> Iterator[str]:
    """Yield the SHA-256, in hex, of known placeholders, for callers that have only hashes of secrets."""
    names = [re.sub(r"\W", "_", text) for text in _TEXTS]
    for spelling in {spell(text) for text in (*_TEXTS, *names) for spell in (str, str.upper, str.capitalize)}:
        templates = [form % spelling for form in ("${%s}", "$%s", "<%s>", "{{%s}}", "{{ %s }}", "{%s}")]
        for text in (spelling, *templates):
            yield hashlib.sha256(text.encode()).hexdigest()


def is_guessable(material: bytes) -> bool:
    """
    Whether 32 bytes have a visible pattern: few different bytes, a sequence that counts, or one repeated.

    A random key looks like that less often than once in 2**64.
    """
    steps = {(after - before) % 256 for before, after in pairwise(material)}
    is_periodic = any(material[period:] == material[:-period] for period in range(1, len(material) // 2 + 1))
    return len(set(material)) <= _FEW_BYTES or len(steps) <= _FEW_BYTES or is_periodic


def _asks(text: str) -> bool:
    """Whether a text consists of these words alone, and one that asks is among them."""
    # Positions where a word may end, and whether a word that asks came before.
    reached = {(0, False)}
    for end in range(1, len(text) + 1):
        words = [(text[begin:end], has_asked) for begin, has_asked in reached]
        reached |= {(end, has_asked or word in _ASKING) for word, has_asked in words if word in _ASKING + _AMONG}
    return (len(text), True) in reached
