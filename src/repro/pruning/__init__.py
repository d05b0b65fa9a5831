"""Pruning by penalties that grow: groups of weights, schedules, methods, MACs, and cutting for real.

The public names load when they are asked for, so that settings do without torch.
"""

from importlib import import_module

_MODULES = {
    "AFP": "methods.constant",
    "GReg1": "methods.growing",
    "GReg2": "methods.growing",
    "GroupLasso": "methods.constant",
    "Groups": "groups",
    "IncReg": "methods.incremental",
    "LargestL1": "methods.at_once",
    "Method": "methods.method",
    "OneShot": "methods.at_once",
    "Random": "methods.at_once",
    "companions": "dependencies",
    "conv_macs": "macs",
    "cut": "cutting",
    "expand": "groups",
    "group_norms": "groups",
    "group_scores": "groups",
    "increment": "schedule",
    "load": "cutting",
    "prunable": "dependencies",
    "remaining_macs": "macs",
    "removal_times": "schedule",
    "save": "cutting",
    "silenced": "cutting",
    "speed_up": "macs",
    "target": "schedule",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
