"""`edge-agent doctor`: checks of this machine, its agent and the way to its cloud. Nothing here changes anything."""
