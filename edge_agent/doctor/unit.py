"""The systemd unit: is what runs as confined and as watched as what is shipped, or did a drop-in weaken it?"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

from edge_agent.doctor.finding import Finding, ok, skipped, warning

IDS = ("unit.hardening",)
UNIT = "edge-agent.service"
ANSWER_S_MAX = 5.0
SHIPPED = {  # of the package's unit, as systemctl(1) show prints it: what keeps a broken driver from the machine
    "Type": "notify",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "RestrictSUIDSGID": "yes",
    "RestrictRealtime": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "CapabilityBoundingSet": "",
    "DevicePolicy": "closed",
    "UMask": "0077",
}


def check_unit() -> Iterator[Finding]:
    """Skipped, with the reason, where there is no systemd or no unit of ours."""
    names = ",".join(("LoadState", *SHIPPED))
    try:
        done = subprocess.run(
            ["systemctl", "show", UNIT, f"--property={names}"],
            capture_output=True,
            text=True,
            timeout=ANSWER_S_MAX,
            check=False,
        )
    except FileNotFoundError:
        yield skipped("unit.hardening", "there is no systemctl on this machine")
        return
    except subprocess.TimeoutExpired:
        yield skipped("unit.hardening", f"systemctl did not answer within {ANSWER_S_MAX:g} s")
        return
    if done.returncode:
        said = done.stderr.strip().partition("\n")[0]
        yield skipped("unit.hardening", f"systemctl cannot tell: {said}")
        return
    yield compare(dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line))


def compare(found: dict[str, str]) -> Finding:
    """What systemd knows of the unit, against what is shipped. What this systemd does not know is left out."""
    if found.get("LoadState") != "loaded":
        return skipped("unit.hardening", f"systemd has no {UNIT}; the agent was started in another way")
    weaker = [f"{name}={found[name]}" for name, value in SHIPPED.items() if found.get(name, value) != value]
    if weaker:
        text = f"{UNIT} differs from what is shipped: {', '.join(weaker)}"
        return warning("unit.hardening", text, f"sudo systemctl revert {UNIT}")
    return ok("unit.hardening", f"{UNIT} is confined and watched as shipped")
