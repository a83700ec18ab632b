"""Models of the configuration: installed, sound, fit for their channels; and the runtime's telemetry switched off.

The runtime is loaded here as the agent does it, and only when the configuration names a model.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import msgspec

from edge_agent.config.detect import ModelPlan
from edge_agent.config.model import Config
from edge_agent.doctor.finding import Finding, all_skipped, failed, ok, skipped
from wire.clock import NS_PER_S, Clock

IDS = ("telemetry.off", "model.installed", "model.valid", "model.fits")
SWITCHES = ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")
RUNTIME = "onnxruntime"
LIST = "edge-agent model list"


def check_models(config: Config, clock: Clock) -> Iterator[Finding]:
    """Telemetry first: what counts is how things stood before the runtime came."""
    if not config.models and RUNTIME not in sys.modules:
        yield from all_skipped(IDS, "no [[model]] is configured, and the runtime is not loaded")
        return
    yield _telemetry()
    if not config.models:
        yield from all_skipped(IDS[1:], "no [[model]] is configured")
    for plan in config.models:
        yield from _model(plan, config, clock)


def _telemetry() -> Finding:
    """A driver that imports the runtime itself does so before the agent can switch anything off."""
    if RUNTIME in sys.modules and any(os.environ.get(name) != "1" for name in SWITCHES):
        text = "the runtime was loaded, by a driver of others, before its telemetry was switched off"
        return failed("telemetry.off", text, "edge-agent driver list")
    try:
        from edge_agent.detect.session import load_runtime

        load_runtime()
    except ImportError as error:
        return failed("telemetry.off", f"there is no runtime for models: {error}", "pip install onnxruntime")
    return ok("telemetry.off", f"the runtime is loaded with {' and '.join(SWITCHES)} set")


def _model(plan: ModelPlan, config: Config, clock: Clock) -> Iterator[Finding]:
    from edge_agent.detect.contract import load_model
    from edge_agent.detect.errors import ModelRefused
    from edge_agent.detect.golden import check_model
    from edge_agent.detect.library import find_model, folders_for
    from edge_agent.detect.session import Session

    try:
        folder = find_model(plan.name, folders_for(plan.folder, config.state_dir))
    except ModelRefused as error:
        yield failed("model.installed", str(error), LIST, plan.id)
        yield from (skipped(check, "the model is not installed", subject=plan.id) for check in IDS[2:])
        return
    yield ok("model.installed", f"{plan.name} is {folder}", plan.id)
    test = f"edge-agent model test {plan.name}" + (f" --models {plan.folder}" if plan.folder else "")
    try:
        session = Session(load_model(folder))
    except (ModelRefused, ImportError) as error:
        yield failed("model.valid", str(error), test, plan.id)
        yield skipped("model.fits", "the model cannot be run", subject=plan.id)
        return
    wrong = [f"{one.name}: {one.problem}" for one in check_model(session) if one.problem]
    if wrong:
        yield failed("model.valid", wrong[0], test, plan.id)
    else:
        yield ok("model.valid", f"{session.model.title} keeps its contract and gives its golden scores", plan.id)
    yield _fit(plan, config, clock)


def _fit(plan: ModelPlan, config: Config, clock: Clock) -> Finding:
    """As the agent puts it together; what a broker brings is told by the running agent alone."""
    from edge_agent.detect.assembly import Grid, assemble
    from edge_agent.sources.sources import make_lines

    polled = [sensor for sensor in config.sensors if not sensor.is_mqtt]
    lines = make_lines(polled, config.buses, clock)
    grids = [Grid(group.set, group.period_ns / NS_PER_S) for line in lines for group in line.groups]
    refused = assemble(msgspec.structs.replace(config, models=(plan,)), grids, boot=0).refused
    if refused:
        return failed("model.fits", refused[plan.id], "edge-agent config show", plan.id)
    return ok("model.fits", "its channels have the units and intervals that it asks for", plan.id)
