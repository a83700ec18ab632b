"""From a tick to committed atoms: journal (RAM), outbox (flash), and the view of it that the sync machine uses."""
