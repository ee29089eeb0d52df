"""Runs the actions of a definition in the order of `runAfter`, and tells what became of each.

Statuses follow the documentation: an action whose `runAfter` is not met is Skipped; a scope has failed when a branch in
it ended in a failure that nothing followed up; an Until loop has failed when any action of its last round has.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections import ChainMap
from collections.abc import Mapping, MutableMapping
from typing import Any

from tests.support.logicapps import check
from tests.support.logicapps.expressions import WorkflowError, evaluate, parse, render, text_of
from tests.support.logicapps.functions import PURE
from tests.support.logicapps.world import World, seconds

__all__ = ["Result", "Run", "Workflow", "WorkflowError"]

_DEFAULT_RETRY = {
    "type": "exponential",
    "interval": "PT7S",
    "count": 4,
    "minimumInterval": "PT5S",
    "maximumInterval": "PT1H",
}
_UNITS = {"Second": 1, "Minute": 60, "Hour": 3600, "Day": 86_400}


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What became of an action: Succeeded, Failed or Skipped, and its outputs."""

    status: str
    outputs: Any = None


@dataclasses.dataclass(slots=True)
class Run:
    """A run that has ended. `history` has every action, each round of a loop too, in the order they ended."""

    name: str
    status: str = ""
    error: Mapping[str, str] = dataclasses.field(default_factory=dict)
    history: list[tuple[str, Result]] = dataclasses.field(default_factory=list)
    variables: dict[str, Any] = dataclasses.field(default_factory=dict)

    def of(self, name: str) -> list[Result]:
        """What became of this action, once for each time it came to its turn."""
        return [result for known, result in self.history if known == name]

    def outputs(self, name: str) -> Any:
        """The outputs of an action that ran once."""
        [result] = self.of(name)
        return result.outputs


class _Terminated(Exception):
    pass


@dataclasses.dataclass(slots=True)
class _Scope:
    """Where expressions are evaluated: results seen from here, and the items of the loops around."""

    workflow: Workflow
    run: Run
    trigger: Any
    results: MutableMapping[str, Result]
    items: dict[str, Any]
    item: list[Any]
    rounds: dict[str, int] = dataclasses.field(default_factory=dict)

    def inner(self, **changes: Any) -> _Scope:
        return dataclasses.replace(self, results=ChainMap({}, self.results), items=dict(self.items), **changes)

    def call(self, name: str, arguments: list[Any]) -> Any:
        known = PURE.get(name.lower())
        if known:
            least, most, function = known
            if not least <= len(arguments) <= most:
                raise WorkflowError(f"{name}() with {len(arguments)} arguments")
            return function(*arguments)
        match name.lower(), arguments:
            case "parameters", [str(key)]:
                return self.workflow.parameters[key]
            case "variables", [str(key)]:
                if key not in self.run.variables:
                    raise WorkflowError(f"variables({key!r}) before it is initialised")
                return self.run.variables[key]
            case "triggerbody", []:
                return self.trigger
            case "outputs", [str(key)]:
                return self._result(key).outputs
            case "body", [str(key)]:
                outputs = self._result(key).outputs
                return outputs.get("body") if isinstance(outputs, dict) else None
            case "item", [] if self.item:
                return self.item[-1]
            case "items", [str(key)] if key in self.items:
                return self.items[key]
            case "iterationindexes", [str(key)] if key in self.rounds:
                return self.rounds[key]
            case "workflow", []:
                run = {"name": self.run.name, "type": "Microsoft.Logic/workflows/runs", "id": f"runs/{self.run.name}"}
                return {"name": self.workflow.name, "type": "Microsoft.Logic/workflows", "run": run}
            case "utcnow", ["R"]:
                return self.workflow.world.clock.now().strftime("%a, %d %b %Y %H:%M:%S GMT")
        raise WorkflowError(f"the function {name}() with {arguments} is not known here")

    def _result(self, name: str) -> Result:
        if name not in self.results:
            raise WorkflowError(f"{name} has not run, or cannot be seen from here")
        return self.results[name]


def _condition(expression: Any, scope: _Scope) -> bool:
    """An expression, or an object such as {"and": [{"equals": [...]}]}."""
    if not isinstance(expression, dict):
        holds = render(expression, scope)
    else:
        [(name, arguments)] = expression.items()
        junction = name in check.JUNCTIONS
        given = [arguments] if isinstance(arguments, dict) else arguments
        values = [_condition(one, scope) if junction else render(one, scope) for one in given]
        # A junction of one condition is what the designer writes, and is that condition.
        alone = name in ("and", "or") and len(values) == 1
        holds = values[0] if alone else check.CONDITIONS[name][2](*values)
    if type(holds) is not bool:
        raise WorkflowError(f"a condition gives {holds!r}")
    return holds


class Workflow:
    """A definition with its parameters. Raises WorkflowError when it is not well formed."""

    def __init__(
        self, definition: Mapping[str, Any], *, parameters: Mapping[str, Any], world: World, name: str = "playbook"
    ) -> None:
        check.definition(definition)
        declared = definition["parameters"]
        if set(parameters) - set(declared):
            raise WorkflowError(f"parameters that are not declared: {sorted(set(parameters) - set(declared))}")
        missing = [key for key, about in declared.items() if key not in parameters and "defaultValue" not in about]
        if missing:
            raise WorkflowError(f"parameters without a value: {missing}")
        self.parameters = {key: about.get("defaultValue") for key, about in declared.items()} | dict(parameters)
        for key, about in declared.items():
            check.parameter(key, about, self.parameters[key])
        self.definition = definition
        self.world = world
        self.name = name

    def run(self, trigger: Any, name: str = "") -> Run:
        """One run of it for this trigger body; `name` is the run's."""
        run = Run(name or f"0858{uuid.uuid4().int % 10**20:020d}CU00")
        scope = _Scope(self, run, trigger, {}, {}, [])
        try:
            run.status = self._actions(self.definition["actions"], scope)
        except _Terminated:
            pass
        return run

    def _actions(self, actions: Mapping[str, Any], scope: _Scope, *, last_round: bool = False) -> str:
        """Runs the actions of one scope; its status."""
        own: dict[str, Result] = {}
        for name in check.order(actions):
            action = actions[name]
            after = action.get("runAfter", {})
            if all(own[before].status in allowed for before, allowed in after.items()):
                result = self._run(name, action, scope)
            else:
                result = Result("Skipped")
                self._skip(action, scope)
            own[name] = scope.results[name] = result
            scope.run.history.append((name, result))
        if last_round:
            return "Failed" if any(result.status == "Failed" for result in own.values()) else "Succeeded"
        followed = {before for action in actions.values() for before in action.get("runAfter", {})}
        ends = [name for name in actions if name not in followed]
        return "Failed" if any(self._ended_badly(actions, own, name) for name in ends) else "Succeeded"

    def _ended_badly(self, actions: Mapping[str, Any], own: Mapping[str, Result], name: str) -> bool:
        """A branch that ends with a skipped action has the status of what came before that."""
        if own[name].status == "Skipped":
            return any(self._ended_badly(actions, own, before) for before in actions[name].get("runAfter", {}))
        return own[name].status == "Failed"

    def _skip(self, action: Mapping[str, Any], scope: _Scope) -> None:
        for inner in check.branches(action):
            for name, below in inner.items():
                self._skip(below, scope)
                scope.results[name] = Result("Skipped")

    def _run(self, name: str, action: Mapping[str, Any], scope: _Scope) -> Result:
        match action["type"]:
            case "Compose":
                return Result("Succeeded", render(action["inputs"], scope))
            case "Select" | "Query":
                return self._over(action, scope)
            case "InitializeVariable":
                [variable] = action["inputs"]["variables"]
                scope.run.variables[variable["name"]] = self._typed(variable, scope)
                return Result("Succeeded")
            case "SetVariable":
                key = action["inputs"]["name"]
                value = render(action["inputs"]["value"], scope)
                if type(value) is not type(scope.run.variables[key]):
                    raise WorkflowError(f"{name} sets the variable {key} to {type(value).__name__}")
                scope.run.variables[key] = value
                return Result("Succeeded")
            case "If":
                return self._if(action, scope)
            case "Foreach":
                return self._foreach(name, action, scope)
            case "Until":
                return self._until(name, action, scope)
            case "Wait":
                interval = render(action["inputs"]["interval"], scope)
                if type(interval["count"]) is not int or interval["count"] < 0:
                    raise WorkflowError(f"{name} waits {interval['count']!r}")
                self.world.clock.sleep(interval["count"] * _UNITS[interval["unit"]])
                return Result("Succeeded")
            case "Http":
                return self._http(action, scope)
            case "ApiConnection":
                return self._connection(action, scope)
            case "Terminate":
                inputs = render(action["inputs"], scope)
                scope.run.status, scope.run.error = inputs["runStatus"], inputs.get("runError", {})
                raise _Terminated
        raise WorkflowError(f"{name}: the action type {action['type']} is not known here")

    @staticmethod
    def _typed(variable: Mapping[str, Any], scope: _Scope) -> Any:
        value = render(variable["value"], scope)
        kind = {"string": str, "integer": int, "boolean": bool}[variable["type"]]
        if type(value) is not kind:
            raise WorkflowError(f"the variable {variable['name']} is initialised with {value!r}")
        return value

    @staticmethod
    def _over(action: Mapping[str, Any], scope: _Scope) -> Result:
        inputs = action["inputs"]
        source = render(inputs["from"], scope)
        if not isinstance(source, list):
            raise WorkflowError(f"an array expected, not {str(source)[:80]!r}")
        found = []
        for one in source:
            inner = scope.inner(item=[*scope.item, one])
            if action["type"] == "Select":
                found.append(render(inputs["select"], inner))
                continue
            keep = render(inputs["where"], inner)
            if type(keep) is not bool:
                raise WorkflowError(f"`where` gives {keep!r}")
            if keep:
                found.append(one)
        return Result("Succeeded", {"body": found})

    def _if(self, action: Mapping[str, Any], scope: _Scope) -> Result:
        holds = _condition(action["expression"], scope)
        yes, no = action["actions"], action.get("else", {}).get("actions", {})
        taken, left = (yes, no) if holds else (no, yes)
        for name, below in left.items():
            self._skip(below, scope)
            scope.results[name] = Result("Skipped")
        return Result(self._actions(taken, scope))

    def _foreach(self, name: str, action: Mapping[str, Any], scope: _Scope) -> Result:
        over = render(action["foreach"], scope)
        if not isinstance(over, list):
            raise WorkflowError(f"{name} goes over {str(over)[:80]!r}")
        statuses = []
        for one in over:
            inner = scope.inner(item=[*scope.item, one])
            inner.items[name] = one
            statuses.append(self._actions(action["actions"], inner))
        return Result("Failed" if "Failed" in statuses else "Succeeded")

    def _until(self, name: str, action: Mapping[str, Any], scope: _Scope) -> Result:
        limit = action["limit"]
        clock = self.world.clock
        end = clock.now().timestamp() + seconds(limit["timeout"])
        for number in range(limit["count"]):
            inner = scope.inner(rounds={**scope.rounds, name: number})
            status = self._actions(action["actions"], inner, last_round=True)
            done = evaluate(parse(action["expression"][1:]), inner)
            if type(done) is not bool:
                raise WorkflowError(f"the expression of a loop gives {done!r}")
            if done or clock.now().timestamp() >= end:
                break
        return Result(status)

    def _http(self, action: Mapping[str, Any], scope: _Scope) -> Result:
        inputs = render(action["inputs"], scope)
        answer = self.world.request(inputs, inputs.get("retryPolicy", _DEFAULT_RETRY))
        if answer.status == 202 and action.get("operationOptions") != "DisableAsyncPattern":
            raise WorkflowError("a 202 without DisableAsyncPattern: the platform would poll by itself")
        if 300 <= answer.status < 400:
            raise WorkflowError(f"redirects are not known here: {answer.status}")
        good = 200 <= answer.status < 300
        return Result("Succeeded" if good else "Failed", self.world.outputs(answer))

    def _connection(self, action: Mapping[str, Any], scope: _Scope) -> Result:
        inputs = render(action["inputs"], scope)
        wanted = inputs["host"]["connection"]["name"]
        about = next(one for one in self.parameters["$connections"].values() if one["connectionId"] == wanted)
        authentication = about["connectionProperties"]["authentication"]
        if authentication["type"] != "ManagedServiceIdentity":
            raise WorkflowError(f"the connection {wanted} does not use a managed identity")
        connection = self.world.connections[wanted]
        identity = text_of(authentication.get("identity"))
        status, body = connection.call(inputs["method"], inputs["path"], inputs.get("body"), identity)
        good = 200 <= status < 300
        return Result("Succeeded" if good else "Failed", {"statusCode": status, "headers": {}, "body": body})
