#!/bin/sh
# What is known of the packages in a folder: how exposed their services are, and what lintian says. Usage: figures.sh FOLDER
set -eu
units=$(dirname "$0")

if command -v systemd-analyze >/dev/null; then
    systemd-analyze security --offline=true --no-pager "$units"/*/*.service 2>/dev/null | grep Overall
else
    echo "exposure: not measured. Try: sudo apt-get install systemd"
fi
if command -v lintian >/dev/null; then
    # Each package by itself: lintian works on one CPU.
    printf '%s\0' "$1"/*.deb | xargs -0 -n 1 -P "$(nproc)" lintian --allow-root --fail-on error,warning
    echo "lintian: no error, no warning; what is excepted stands with its reason in $units/*/lintian-overrides"
else
    echo "lintian: not run. Try: sudo apt-get install lintian"
fi
