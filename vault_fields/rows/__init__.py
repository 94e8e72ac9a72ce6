"""Engines that go through the rows of a table in batches: encrypt, rewrite, rekey and rewrap."""
