"""One machine for all steps: test_1_manual installs on it, test_2_life uses it, test_3_troubles ends it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulator.i2c_umockdev import probe
from tests.system.package import machine as machines
from tests.system.package.bench import Bench


@pytest.fixture(scope="package")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    if reason := machines.missing() or probe():
        pytest.skip(reason)
    bench = Bench(tmp_path_factory.mktemp("deb"))
    try:
        bench.machine.boot()
        yield bench
    finally:
        bench.close()
