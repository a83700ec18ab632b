"""Errors of detection, named by what the caller does next.

AgentError
├── ModelRefused  stop and tell: this model is not run; the message names what was found and what is allowed
├── RunFailed     go on without a score: one run of a model gave nothing that can be used
└── StateRefused  begin anew: what was saved does not belong to this model, or is damaged
"""

from edge_agent.errors import AgentError


class ModelRefused(AgentError):
    """The model breaks the contract of docs/formats/model.md, or does not fit the channels it was given."""


class RunFailed(AgentError):
    """The runtime raised, or the output was not finite. It costs a score, never a reading."""


class StateRefused(AgentError):
    """Saved detector state that cannot be used: calibrate again."""
