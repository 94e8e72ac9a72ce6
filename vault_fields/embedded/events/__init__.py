"""Events of a keystore, and the log that stores them."""
