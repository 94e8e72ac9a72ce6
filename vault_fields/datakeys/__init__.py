"""Data keys that a process holds: the cache of unwrapped keys, and the keys that rows share."""
