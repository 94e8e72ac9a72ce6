"""Reports about stored values: which keys open them, whose keys these are, and proofs that a key is gone."""
