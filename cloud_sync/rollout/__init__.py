"""Releases of models: signed offline, kept current by the service, which can sign no release."""
