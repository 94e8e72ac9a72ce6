"""Work on a whole keystore: snapshots, restores, upgrades and new root keys."""
