"""How much is tried, by the environment."""

import os
import secrets

__all__ = ["FAULTS", "KILLS", "SECONDS", "SEED"]

SEED = os.environ.get("CHAOS_SEED") or str(secrets.randbelow(10**6))
KILLS = int(os.environ.get("CHAOS_KILLS", "16"))
FAULTS = int(os.environ.get("CHAOS_FAULTS", "40"))
SECONDS = float(os.environ.get("CHAOS_SECONDS", "20"))
