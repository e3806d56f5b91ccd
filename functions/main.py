"""All functions of the project: the one FUNCTION_SOURCE of functions-framework.

    functions-framework --source functions/main.py --target send

A target is looked up here by its name and its module is imported then, so that a function starts
with what it needs and nothing else (design.md D21). `triggers` says which there are.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from functions.triggers import TRIGGERS

_MODULES: Final = {trigger.target: trigger.module for trigger in TRIGGERS}


def __getattr__(name: str) -> Any:
    """The target of that name: its module is imported when the target is looked up, which
    functions-framework does after this module.
    """
    if name not in _MODULES:
        raise AttributeError(name)
    return getattr(import_module(f"functions.{_MODULES[name]}"), name)
