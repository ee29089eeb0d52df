"""Whether a definition is well formed, before anything runs: what the platform refuses when it is saved, and more.

Every name is known: properties, action types, functions, parameters, variables. An action refers only to actions that
have had their turn for certain: before it in its own scope, or before one of the scopes around it; never into a loop.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.support.logicapps.expressions import Call, Literal, WorkflowError, calls, trees
from tests.support.logicapps.functions import PURE

_CONTEXT = {
    "parameters",
    "variables",
    "triggerbody",
    "outputs",
    "body",
    "item",
    "items",
    "workflow",
    "utcnow",
    "iterationindexes",
}
_WEBHOOK_ONLY = "listcallbackurl"
JUNCTIONS = ("and", "or", "not")
CONDITIONS = {name: PURE[name.lower()] for name in (*JUNCTIONS, "equals", "greater", "lessOrEquals")}
_COMMON = {"type", "runAfter", "inputs", "description"}
# type: properties besides the common ones, and those that `inputs` may and must have
_TYPES: Mapping[str, tuple[set[str], set[str], set[str]]] = {
    "Compose": (set(), set(), set()),
    "Select": (set(), {"from", "select"}, {"from", "select"}),
    "Query": (set(), {"from", "where"}, {"from", "where"}),
    "InitializeVariable": (set(), {"variables"}, {"variables"}),
    "SetVariable": (set(), {"name", "value"}, {"name", "value"}),
    "If": ({"expression", "actions", "else"}, set(), set()),
    "Foreach": ({"foreach", "actions", "operationOptions"}, set(), set()),
    "Until": ({"expression", "limit", "actions"}, set(), set()),
    "Wait": (set(), {"interval"}, {"interval"}),
    "Http": (
        {"operationOptions", "runtimeConfiguration"},
        {"method", "uri", "headers", "body", "authentication", "retryPolicy"},
        {"method", "uri", "authentication"},
    ),
    "ApiConnection": (set(), {"host", "method", "path", "body"}, {"host", "method", "path"}),
    "Terminate": (set(), {"runStatus", "runError"}, {"runStatus"}),
}
_SCOPES = ("If", "Foreach", "Until")
_LOOPS = ("Foreach", "Until")
_STATUSES = {"Succeeded", "Failed", "Skipped", "TimedOut"}
_NESTED_MOST, _ACTIONS_MOST = 8, 500
_KINDS = {"String": str, "Int": int, "Bool": bool, "Object": dict, "Array": list}


def definition(given: Mapping[str, Any]) -> None:
    """Raises WorkflowError for the first thing that is wrong."""
    if set(given) != {"$schema", "contentVersion", "parameters", "triggers", "actions", "outputs"}:
        raise WorkflowError(f"the definition has {sorted(given)}")
    if len(given["triggers"]) != 1:
        raise WorkflowError("one trigger")
    [trigger] = given["triggers"].values()
    if trigger["type"] != "ApiConnectionWebhook":
        raise WorkflowError(f"the trigger type {trigger['type']} is not known here")
    for call in _calls(trigger):
        if call.name.lower() not in {"parameters", "encodeuricomponent", _WEBHOOK_ONLY}:
            raise WorkflowError(f"{call.name}() in a trigger")
    names = list(_names(given["actions"]))
    if len(set(names)) != len(names) or len(names) > _ACTIONS_MOST:
        raise WorkflowError("action names are unique, over all scopes")
    variables = {
        variable["name"]
        for action in given["actions"].values()
        if action["type"] == "InitializeVariable"
        for variable in action["inputs"]["variables"]
    }
    _Checker(given["parameters"], variables, set(names)).scope(given["actions"], frozenset(), (), 1)


def parameter(name: str, about: Mapping[str, Any], value: Any) -> None:
    """Whether the value is of the declared type and among the allowed ones. Raises WorkflowError."""
    if set(about) - {"type", "defaultValue", "allowedValues", "metadata"} or type(value) is not _KINDS[about["type"]]:
        raise WorkflowError(f"the parameter {name} ({about['type']}) is {value!r}")
    if "allowedValues" in about and value not in about["allowedValues"]:
        raise WorkflowError(f"the parameter {name} is {value!r}, not one of {about['allowedValues']}")


def order(actions: Mapping[str, Any]) -> list[str]:
    """Names in an order in which each comes after those it runs after. Raises WorkflowError."""
    found: list[str] = []
    while len(found) < len(actions):
        ready = [
            name
            for name, action in actions.items()
            if name not in found and all(before in found for before in action.get("runAfter", {}))
        ]
        if not ready:
            raise WorkflowError(f"runAfter of {sorted(set(actions) - set(found))} leads nowhere, or in a circle")
        found += ready
    return found


def branches(action: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The actions inside an action, a dict for each branch."""
    if action["type"] not in _SCOPES:
        return []
    no = action.get("else", {}).get("actions", {})
    return [action["actions"], no] if no else [action["actions"]]


def _names(actions: Mapping[str, Any]) -> Iterator[str]:
    for name, action in actions.items():
        yield name
        for inner in branches(action):
            yield from _names(inner)


def _calls(part: Any) -> Iterator[Call]:
    for tree in trees(part):
        yield from calls(tree)


def _known_condition(name: str, expression: Any) -> None:
    if isinstance(expression, dict):
        if len(expression) != 1 or not set(expression) <= set(CONDITIONS):
            raise WorkflowError(f"the condition of {name} has {sorted(expression)}")
        for given in expression.values():
            for one in [given] if isinstance(given, dict) else given:
                _known_condition(name, one)


class _Checker:
    def __init__(self, parameters: Mapping[str, Any], variables: set[str], names: set[str]) -> None:
        self.parameters, self.variables, self.names = parameters, variables, names

    def scope(
        self, actions: Mapping[str, Any], seen: frozenset[str], loops: Sequence[str], depth: int
    ) -> frozenset[str]:
        """`seen`: actions that may be referred to; what of this scope may be referred to after it."""
        if depth > _NESTED_MOST:
            raise WorkflowError(f"more than {_NESTED_MOST} levels")
        before: dict[str, frozenset[str]] = {}
        for name in order(actions):
            action = actions[name]
            if not re.fullmatch(r"[A-Za-z][\w()-]{0,79}", name):
                raise WorkflowError(f"the name {name!r}")
            for statuses in action.get("runAfter", {}).values():
                if not statuses or set(statuses) - _STATUSES:
                    raise WorkflowError(f"{name} runs after {statuses}")
            earlier = frozenset[str]().union(*(before[one] | {one} for one in action.get("runAfter", {})))
            inside = self.action(name, action, seen | earlier, loops, depth)
            before[name] = earlier | inside
        return frozenset[str]().union(*(before[name] | {name} for name in actions))

    def action(
        self, name: str, action: Mapping[str, Any], seen: frozenset[str], loops: Sequence[str], depth: int
    ) -> frozenset[str]:
        kind = action["type"]
        if kind not in _TYPES:
            raise WorkflowError(f"{name}: the action type {kind} is not known here")
        own, allowed, needed = _TYPES[kind]
        if set(action) - own - _COMMON:
            raise WorkflowError(f"{name} has {sorted(set(action) - own - _COMMON)}")
        inputs = action.get("inputs")
        if allowed and (set(inputs) - allowed or needed - set(inputs)):
            raise WorkflowError(f"the inputs of {name} have {sorted(inputs)}")
        if kind == "InitializeVariable" and depth > 1:
            raise WorkflowError(f"{name}: variables are initialised at the top")
        if kind == "Terminate" and loops:
            raise WorkflowError(f"{name}: no Terminate in a loop")
        if kind == "SetVariable" and inputs["name"] not in self.variables:
            raise WorkflowError(f"{name} sets {inputs['name']}, which is not initialised")
        if kind == "Foreach" and action.get("operationOptions") != "Sequential":
            raise WorkflowError(f"{name}: loops run side by side unless they are Sequential")
        if kind == "Until" and set(action["limit"]) != {"count", "timeout"}:
            raise WorkflowError(f"{name} needs both limits")
        inside: frozenset[str] = frozenset()
        for inner in branches(action):
            within = (*loops, name) if kind in _LOOPS else loops
            found = self.scope(inner, seen, within, depth + 1)
            if kind == "Until":
                self.expressions(name, action["expression"], seen | found, within, ())
            inside |= found if kind == "If" else frozenset()
        self.expressions(name, {key: action[key] for key in ("inputs", "foreach") if key in action}, seen, loops, kind)
        if kind == "If":
            _known_condition(name, action["expression"])
            self.expressions(name, action["expression"], seen, loops, ())
        return inside

    def expressions(self, name: str, part: Any, seen: frozenset[str], loops: Sequence[str], kind: Any) -> None:
        for call in _calls(part):
            function = call.name.lower()
            if function not in PURE and function not in _CONTEXT:
                raise WorkflowError(f"{name}: the function {call.name}() is not known here")
            first = call.arguments[0].value if call.arguments and isinstance(call.arguments[0], Literal) else None
            match function:
                case "outputs" | "body" if first not in seen:
                    raise WorkflowError(f"{name} refers to {first}, which may not have had its turn")
                case "parameters" if first not in self.parameters:
                    raise WorkflowError(f"{name} uses the parameter {first}, which is not declared")
                case "variables" if first not in self.variables:
                    raise WorkflowError(f"{name} uses the variable {first}, which is not initialised")
                case "items" | "iterationindexes" if first not in loops:
                    raise WorkflowError(f"{name} uses the items of {first} outside of it")
                case "item" if kind not in ("Select", "Query"):
                    raise WorkflowError(f"{name} uses item(); write items() in a loop")
