"""How this device becomes a gateway of a cloud, stays one, and stops being one."""
