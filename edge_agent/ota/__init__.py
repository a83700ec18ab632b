"""Updates over the air: what may be installed is decided by signatures, checked here, on the gateway."""
