"""What `edge-agent config init` prints: every table with what most people set; it passes `config check` as it is."""

from __future__ import annotations

EXAMPLE = """\
# Configuration of the edge agent. Check it with:  edge-agent config check -c FILE
# More files may stand in conf.d/*.toml beside this one. Relative paths are taken from the file they stand in.
# Durations: "500ms", "10s", "5m", "1h 30m". Sizes: "64 MB", "2 GB".

[agent]
# name = "greenhouse-07"            # default: the host name
interval = "10s"                    # of sensors that name none
state_dir = "/var/lib/edge-agent"   # the outbox: readings until the cloud has them
runtime_dir = "/run/edge-agent"     # the journal and the control socket; should be RAM
# labels = { site = "oslo" }
# timezone = "Europe/Oslo"          # default: the machine's
# log_level = "info"                # debug, info, warning, error

# Until it has joined a cloud (edge-agent join TOKEN) the agent collects and keeps. Then [cloud] may say otherwise:
# [cloud]
# url = "https://fleet.example.org:8443"    # default: the cloud that was joined
# batch = "60s"                     # how long readings are merged before they go; "0s": as they are committed
# rate_max = "20 kB"                # a second; alarms do not wait for it
# [[cloud.window]]                  # readings go only then; alarms always
# start = "0 22 * * mon-fri"        # as in crontab(5), local time
# lasts = "8h"
# [[cloud.plan]]                    # what an interface may carry, TLS and TCP included
# interface = "wwan0"
# daily = "2 MB"
# monthly = "50 MB"

[buffer]
max_size = "2 GB"                   # then the oldest low-priority readings go first, and that is recorded
# min_free = "64 MB"                # on the disk; there the buffer stops growing too
# history_size = "200 MB"           # readings that stay here after the cloud has them: edge-agent buffer export
commit_interval = "5s"              # the most that a power cut can cost

[bus.i2c-1]
kind = "i2c"                        # device = "/dev/i2c-1" follows from the name

[[sensor]]
id = "climate"
driver = "bme280"                   # edge-agent driver list
bus = "i2c-1"
address = 0x76
# interval = "1s"
# priority = "low"                  # kept longest: normal
# timeout = "2s"                    # a driver call that takes longer is given up

# What you know better than the driver, per channel:
# [sensor.channel.temperature]
# filter = [
#   { median = 5 },                              # of the last five
#   { delta = 0.05, heartbeat = "5m" },          # only when it moved by 0.05 Cel, or after five minutes
#   { calibrate_linear = [[0.2, 0.0], [39.8, 40.0]], version = 1 },  # pairs: measured, true
# ]
# low = -20                         # outside: quality bit "range"
# high = 60
# rate_max = 0.5                    # Cel per second; faster: quality bit "rate"
# stuck = 100                       # so many equal readings in a row: quality bit "stuck"
# stale = "30s"                     # without a value for longer: stale
# alarm = { high = 40, hysteresis = 1, for = "10s", severity = "critical" }   # also: low, rate, stale = "1m"

# A model learns what is usual and alarms on what is not. See: edge-agent model list
# [[model]]
# id = "unusual"
# name = "value-novelty"
# inputs = ["climate"]              # a sensor, or "climate.temperature"
# threshold = 4.0                   # default: the model's own
# calibration = 1000                # rows that it only learns from; default: the model's own
"""
