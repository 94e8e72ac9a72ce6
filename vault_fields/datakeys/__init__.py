"""Data keys that a process holds: the cache of those that were unwrapped, and those that rows share."""
