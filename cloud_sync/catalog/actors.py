"""Who the audit names where nobody has a name."""

from __future__ import annotations

ACTOR_LOCAL = "command line"  # whoever may read the service's folder
