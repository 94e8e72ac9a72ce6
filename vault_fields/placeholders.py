"""What stands in the place of a secret in examples, templates and first tries, and so is none."""

import hashlib
import re
from collections.abc import Iterator
from itertools import pairwise

__all__ = ["hashes_of_placeholders", "is_guessable", "is_placeholder"]

# What examples put in a secret's place, what everybody tries first, and what is there if nothing was filled in.
_TEXTS = (
    *("", "…", "...", "-", "?", "KEY", "API key", "your-api-key", "your_api_key", "your-key", "my-key", "my-secret"),
    *("test", "test1", "test2", "test3", "testing", "example", "sample", "demo", "dev", "development", "prod", "live"),
    *("production", "staging", "local", "localhost", "placeholder", "dummy", "fake", "todo", "fixme", "tbd", "none"),
    *("key", "api_key", "apikey", "api-key", "bearer", "token", "vault", "secret", "password", "passwd", "pass"),
    *("changeme", "change-me", "change_me", "change-it", "replaceme", "replace-me", "replace_me", "admin", "root"),
    *("user", "default", "foo", "bar", "baz", "foobar", "null", "nil", "undefined", "nan", "true", "false", "empty"),
    *("hello", "letmein", "qwerty", "abc123", "abcdef", "xxx", "xxxx", "xxxxxxxx"),
    *("123", "1234", "12345", "123456", "1234567", "12345678", "123456789", "1234567890", "0123456789"),
    *("webhook", "webhook-secret", "webhook_secret", "whsec", "sk", "workos", "signing", "from-the-dashboard"),
)
# With these between them they make sentences, such as "replace-me-with-your-secret".
_BETWEEN = (
    *("your", "my", "the", "a", "an", "of", "from", "in", "with", "here", "this", "me", "it", "is", "not", "for"),
    *("dashboard", "replace", "change", "put", "insert", "enter", "paste", "goes", "some", "very", "super"),
)
_PREFIXES = ("sk_", "sk_test_", "sk_live_", "whsec_")
# What a template, or a shell, would have put something in the place of.
_TEMPLATE = re.compile(r"\$\{.*\}|\$\(.*\)|\$\w+|\{\{.*\}\}|\{.*\}|<.*>|\[.*\]|%\(.*\)s|%\w+%|__\w+__", re.DOTALL)
_WORDS = frozenset(re.sub(r"[^a-z0-9]", "", text.lower()) for text in (*_TEXTS, *_BETWEEN)) - {""}
_FEW_CHARACTERS = 4
_FEW_BYTES = 12


def is_placeholder(text: str) -> bool:
    """Whether a text is nothing but words that examples use, or a template that nobody filled in."""
    bare = re.sub(r"[^a-z0-9]", "", text.lower())
    return len(set(bare)) <= _FEW_CHARACTERS or _TEMPLATE.fullmatch(text) is not None or _is_made_of_words(bare)


def hashes_of_placeholders() -> Iterator[str]:
    """SHA-256 in hex of what placeholders there are, for who has nothing but hashes of secrets."""
    names = [re.sub(r"\W", "_", text) for text in _TEXTS]
    spellings = {spell(text) for text in (*_TEXTS, *names) for spell in (str, str.upper, str.capitalize)}
    for spelling in spellings:
        prefixed = [prefix + spelling for prefix in ("", *_PREFIXES)]
        templates = [form % spelling for form in ("${%s}", "$%s", "<%s>", "{{%s}}", "{{ %s }}", "{%s}")]
        for text in (*prefixed, *(prefix[:-1] for prefix in _PREFIXES), *templates):
            yield hashlib.sha256(text.encode()).hexdigest()


def is_guessable(material: bytes) -> bool:
    """
    Whether 32 bytes have a pattern that can be seen: few different ones, a sequence that counts, or one repeated.

    A random key looks like that less often than once in 2**64.
    """
    steps = {(after - before) % 256 for before, after in pairwise(material)}
    is_periodic = any(material[period:] == material[:-period] for period in range(1, len(material) // 2 + 1))
    return len(set(material)) <= _FEW_BYTES or len(steps) <= _FEW_BYTES or is_periodic


def _is_made_of_words(text: str) -> bool:
    reached = {0}
    for end in range(1, len(text) + 1):
        if any(text[begin:end] in _WORDS for begin in reached):
            reached.add(end)
    return len(text) in reached
