"""Compact JSON and Base64, in which everything is written that is stored, wrapped or sent."""

import binascii
import json

__all__ = ["compact_json", "decode_base64", "decode_lenient_base64", "encode_base64"]

# json.dumps() would make a new encoder for each call.
compact_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def encode_base64(raw: bytes) -> str:
    """Return the standard Base64 of ``raw``, padded and without line ends."""
    return binascii.b2a_base64(raw, newline=False).decode()


def decode_base64(text: str) -> bytes | None:
    """Return the bytes, or None unless ``text`` is the one canonical Base64 text for them."""
    raw = decode_lenient_base64(text)
    if raw is None:
        return None
    # The last character may hold bits that decoding ignores, and padding may be missing or repeated. Where text is
    # compared or authenticated as text, one value must not have several.
    tail = len(raw) % 3
    canonical = len(text) == 4 * ((len(raw) + 2) // 3) and (not tail or text.endswith(encode_base64(raw[-tail:])))
    return raw if canonical else None


def decode_lenient_base64(text: str) -> bytes | None:
    """Return the bytes, or None for text that has any character outside the standard alphabet and its padding."""
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return None
