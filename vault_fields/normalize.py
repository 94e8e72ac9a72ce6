"""
Normalizations for blind indexes: functions that make one text of the spellings that are to be found as one.

An index applies its function to each value and to each text that is looked for. Migrations name the function, so a
function of a project's own has to be importable by name, and may not change while an index is made with it: rebuild
the index with ``manage.py vault_index --rebuild`` afterwards. A function that returns None leaves a value out of the
index. ``casefold`` and ``nfkc_casefold`` follow the Unicode tables of the Python that runs them.
"""

import unicodedata

__all__ = ["casefold", "digits", "last_four", "nfkc", "nfkc_casefold"]


def casefold(text: str) -> str:
    """Return the text without differences of case, as for e-mail addresses."""
    return text.casefold()


def nfkc(text: str) -> str:
    """Return the text in Unicode's normal form KC, in which composed and compatible characters are one."""
    return unicodedata.normalize("NFKC", text)


def nfkc_casefold(text: str) -> str:
    """Return the text in normal form KC without differences of case, as for names."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def digits(text: str) -> str | None:
    """Return the decimal digits, as of a number written with spaces or hyphens; None for a text without any."""
    return "".join(str(unicodedata.decimal(each)) for each in text if each.isdecimal()) or None


def last_four(text: str) -> str | None:
    """Return the last four digits, as people are asked for them; None for a text that has fewer."""
    found = digits(text)
    return found[-4:] if found is not None and len(found) >= 4 else None


# Those that leave no value out.
TOTAL = frozenset({casefold, nfkc, nfkc_casefold})
