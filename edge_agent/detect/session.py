"""The ONNX runtime, and the only module that imports it: one session per model, one thread, no spinning, no telemetry.

The Linux wheel reports use to its maker unless told not to by the environment before the library is loaded; the two
variables below are its old and its new name, and the call after the import is its own switch.
Options as measured (docs/decisions/0081): one thread and no spinning cost a 24th of the default's CPU at 20 Hz.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.detect.contract import Model
from edge_agent.detect.errors import ModelRefused, RunFailed

F32 = NDArray[np.float32]


def load_runtime() -> Any:
    """The library, told to report nothing."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    os.environ["ORT_TELEMETRY_DISABLED"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a run reads and writes. It keeps the arrays, of which the runtime knows the addresses alone."""

    inputs: Mapping[str, F32]
    outputs: Mapping[str, F32]
    places: Any  # of the runtime


class Session:
    """A model ready to run. Not for two threads at once."""

    def __init__(self, model: Model) -> None:
        """Raises ModelRefused when the runtime cannot make a session of the graph."""
        runtime = load_runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 4
        self.model = model
        self._outputs = sorted(model.outputs)
        self._value = runtime.OrtValue.ortvalue_from_numpy
        try:
            self._session = runtime.InferenceSession(model.onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelRefused(f"{model.title}: the runtime refuses the graph: {_first_line(error)}") from error

    def run(self, feeds: Mapping[str, F32]) -> dict[str, F32]:
        """One batched run. Raises RunFailed."""
        try:
            results = self._session.run(self._outputs, dict(feeds))
        except Exception as error:
            raise RunFailed(f"{self.model.title}: {_first_line(error)}") from error
        return dict(zip(self._outputs, results))

    def bind(self, inputs: Mapping[str, F32], outputs: Mapping[str, F32]) -> Binding:
        """For `run_bound`: a run from these very arrays into those."""
        places = self._session.io_binding()
        for name, array in inputs.items():
            places.bind_ortvalue_input(name, self._value(array))
        for name, array in outputs.items():
            places.bind_ortvalue_output(name, self._value(array))
        return Binding(inputs, outputs, places)

    def run_bound(self, binding: Binding) -> None:
        """As `run`. Raises RunFailed, also when an output has not the shape of its array."""
        try:
            self._session.run_with_iobinding(binding.places)
        except Exception as error:
            raise RunFailed(f"{self.model.title}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
