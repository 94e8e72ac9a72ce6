"""The stored format: envelopes, companions and the cipher, as bytes and text that know no models and no settings."""
