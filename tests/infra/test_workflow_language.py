"""The evaluator of workflow definitions against the documentation: its examples, and that nothing unknown passes."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.logicapps import Clock, Fault, Workflow, WorkflowError, World
from tests.support.logicapps.check import definition as check
from tests.support.logicapps.expressions import calls, evaluate, parse, render, trees
from tests.support.logicapps.functions import PURE

PLAYBOOKS = sorted((Path(__file__).resolve().parents[2] / "infra" / "playbooks").glob("*.json"))

# The examples of Microsoft's reference guide where it has one for what is used here.
DOCUMENTED: dict[str, Any] = {
    "and(true, true)": True,
    "and(true, false)": False,
    "base64('hello')": "aGVsbG8=",
    "base64ToString('aGVsbG8=')": "hello",
    "chunk(createArray(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12), 5)": [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12]],
    "coalesce(null, true, false)": True,
    "coalesce(null, 'hello', 'world')": "hello",
    "coalesce(null, null, null)": None,
    "coalesce('', 'x')": "",
    "concat('Hello', 'World')": "HelloWorld",
    "contains('hello world', 'world')": True,
    "contains('hello world', 'universe')": False,
    "contains(createArray(200, 202), 202)": True,
    "createArray('h', 'e', 'l', 'l', 'o')": ["h", "e", "l", "l", "o"],
    "decodeUriComponent('https%3A%2F%2Fcontoso.com')": "https://contoso.com",
    "empty('')": True,
    "empty('abc')": False,
    "empty(json('[]'))": True,
    "encodeUriComponent('https://contoso.com')": "https%3A%2F%2Fcontoso.com",
    "equals(1, 1)": True,
    "equals('abc', 'abcd')": False,
    "greater(10, 5)": True,
    "if(equals(1, 1), 'yes', 'no')": "yes",
    "int('10')": 10,
    "isInt('10')": True,
    "isInt('')": False,
    "isInt('Wed, 21 Oct 2026 07:28:00 GMT')": False,
    "join(createArray('a', 'b', 'c'), '.')": "a.b.c",
    "json('[1, 2, 3]')": [1, 2, 3],
    "json('{\"fullName\": \"Sophia Owen\"}')?['fullName']": "Sophia Owen",
    "last(createArray(0, 1, 2, 3))": 3,
    "lessOrEquals(10, 10)": True,
    "length('abcd')": 4,
    "length(createArray(0, 1, 2, 3))": 4,
    "max(1, 2, 3)": 3,
    "min(1, 2, 3)": 1,
    "mul(1, 2)": 2,
    "not(false)": True,
    "or(true, false)": True,
    "or(false, false)": False,
    "replace('the old string', 'old', 'new')": "the new string",
    "split('a_b_c', '_')": ["a", "b", "c"],
    "startsWith('hello world', 'hello')": True,
    "startsWith('hello world', 'greetings')": False,
    "string(10)": "10",
    'string(json(\'{ "name": "Sophie Owen" }\'))': '{"name":"Sophie Owen"}',
    "string(null)": "",
    "sub(10, 3)": 7,
    "take('abcde', 3)": "abc",
    "take(createArray(0, 1, 2, 3, 4), 3)": [0, 1, 2],
    "toLower('Hello World')": "hello world",
    "trim(' Hello World  ')": "Hello World",
    "union(createArray(1, 2, 3), createArray(1, 2, 10, 101))": [1, 2, 3, 10, 101],
    # What .NET makes of text: two units for what lies beyond the first plane, and half of a pair is no letter.
    "length('😀')": 2,
    "take('a😀', 3)": "a😀",
    "base64(take('a😀', 2))": "Ye+/vQ==",
    "'it''s'": "it's",
    "string(createArray('Ä', '\u2028'))": '["Ä","\\u2028"]',
}


class NoContext:
    """Knows the functions that need none."""

    def call(self, name: str, arguments: list[Any]) -> Any:
        least, most, function = PURE[name.lower()]
        assert least <= len(arguments) <= most
        return function(*arguments)


@pytest.mark.parametrize("source", DOCUMENTED)
def test_documented(source: str) -> None:
    found = evaluate(parse(source), NoContext())
    assert found == DOCUMENTED[source] and type(found) is type(DOCUMENTED[source])


def functions(part: Any) -> Iterator[str]:
    for tree in trees(part):
        for call in calls(tree):
            yield call.name.lower()


def conditions(part: Any) -> Iterator[str]:
    """Comparisons that the designer writes as objects."""
    if isinstance(part, dict):
        for name, inner in part.items():
            if name == "expression" and isinstance(inner, dict):
                yield from (word for word in PURE if f'"{word}"' in json.dumps(inner).lower())
            yield from conditions(inner)


def test_every_function_is_used_and_every_one_has_its_example() -> None:
    definitions = [json.loads(file.read_text("utf-8")) for file in PLAYBOOKS]
    used = {name for one in definitions for name in (*functions(one), *conditions(one))}
    assert set(PURE) == used & set(PURE), f"not used: {sorted(set(PURE) - used)}"
    shown = {call.name.lower() for source in DOCUMENTED for call in calls(parse(source))}
    assert set(PURE) == shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("@{length('abc')}", "3"),
        ("@length('abc')", 3),
        ("a@{toLower('B')}c@{null}", "abc"),
        ("@@length('abc')", "@length('abc')"),
        ("mail@example.com", "mail@example.com"),
        ("@{'}'}", "}"),
        (["@length('a')", {"x": "@null"}], [1, {"x": None}]),
    ],
)
def test_where_expressions_stand(text: Any, expected: Any) -> None:
    assert render(text, NoContext()) == expected


@pytest.mark.parametrize(
    "source",
    [
        "equals(null, '')",
        "equals(1, '1')",
        "concat('a', 1)",
        "int('Wed')",
        "json('<html>')",
        "empty(null)",
        "if('true', 1, 2)",
        "json('{}')['missing']",
        "'text'?['property']",
        "take('abc', 0)",
        "chunk(json('[]'), 5)",
        "greater('1', 2)",
        "join(createArray(1, 2), ',')",
    ],
)
def test_what_the_documentation_leaves_open_is_refused(source: str) -> None:
    with pytest.raises(WorkflowError):
        evaluate(parse(source), NoContext())


@pytest.mark.parametrize("source", ["f(", "f(1,)", "a b", "f(1)]", "'open", "x", "f(1).", "1 +"])
def test_what_cannot_be_read_is_refused(source: str) -> None:
    with pytest.raises(WorkflowError):
        parse(source)


def world() -> World:
    return World(tokens={}, clock=Clock(0))


AUTHENTICATION = {"type": "ManagedServiceIdentity", "audience": "x"}


def workflow(actions: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "$schema": "",
        "contentVersion": "1.0.0.0",
        "parameters": {"word": {"type": "String", "defaultValue": "w"}},
        "triggers": {"t": {"type": "ApiConnectionWebhook", "inputs": {"body": "@{listCallbackUrl()}"}}},
        "actions": actions,
        "outputs": {},
        **more,
    }


def compose(inputs: Any, **after: list[str]) -> dict[str, Any]:
    return {"type": "Compose", "inputs": inputs, "runAfter": after}


def until(actions: Mapping[str, Any], expression: str, **limit: Any) -> dict[str, Any]:
    return {"type": "Until", "actions": actions, "expression": expression, "limit": limit, "runAfter": {}}


COUNT = {
    "Zero": {"type": "InitializeVariable", "inputs": {"variables": [{"name": "n", "type": "integer", "value": 0}]}}
}
LOOP = {"type": "Foreach", "operationOptions": "Sequential", "foreach": "@json('[1]')", "runAfter": {}}


@pytest.mark.parametrize(
    "actions",
    [
        {"A": {"type": "JavaScriptCode", "inputs": {"code": "1"}}},
        {"A": compose("@utcNowish()")},
        {"A": compose("@addDays(utcNow('R'), 1)")},
        {"A": {**compose("x"), "limit": {"timeout": "PT1M"}}},
        {"A": compose("@parameters('other')")},
        {"A": compose("@variables('n')")},
        {"A": compose("@outputs('B')"), "B": compose(1)},
        {"A": compose("@outputs('A')")},
        {"A": compose(1, B=["Succeeded"])},
        {"A": compose(1, B=["Succeeded"]), "B": compose(1, A=["Succeeded"])},
        {"A": compose(1), "B": compose(1, A=["Done"])},
        {"A": compose("@item()")},
        {"A": {**LOOP, "actions": {"B": compose(1)}}, "C": compose("@outputs('B')", A=["Succeeded"])},
        {"A": {**LOOP, "actions": {"B": compose("@items('Z')")}}},
        {"A": {**LOOP, "operationOptions": "None", "actions": {}}},
        {"A": {**LOOP, "actions": {"A": compose(1)}}},
        {"A": {**LOOP, "actions": {"B": {"type": "Terminate", "inputs": {"runStatus": "Failed"}}}}},
        {"A": {**LOOP, "actions": COUNT}},
        {"A": {"type": "SetVariable", "inputs": {"name": "n", "value": 1}}},
        {"A": until({}, "@equals(1, 1)", count=5)},
        {
            "A": {
                "type": "Http",
                "inputs": {"method": "GET", "uri": "x", "cookie": "y", "authentication": AUTHENTICATION},
            }
        },
        {"A": {"type": "Http", "inputs": {"method": "GET", "uri": "x"}}},
        {"A": {"type": "If", "expression": {"and": [{"endsWith": ["a", "b"]}]}, "actions": {}, "runAfter": {}}},
    ],
    ids=str,
)
def test_a_definition_that_is_not_well_formed_is_refused(actions: Mapping[str, Any]) -> None:
    with pytest.raises(WorkflowError):
        check(workflow(actions))


def test_parameters_are_of_their_type_and_among_the_allowed() -> None:
    given = workflow({}, parameters={"p": {"type": "String", "allowedValues": ["a", "b"]}})
    assert Workflow(given, parameters={"p": "a"}, world=world()).run({}).status == "Succeeded"
    for parameters in ({"p": "c"}, {"p": 1}, {}, {"p": "a", "q": "b"}):
        with pytest.raises(WorkflowError):
            Workflow(given, parameters=parameters, world=world())


def run(actions: Mapping[str, Any], trigger: Any = None, outside: World | None = None) -> Any:
    return Workflow(workflow(actions), parameters={}, world=outside or world()).run(trigger or {})


def get(**more: Any) -> dict[str, Any]:
    inputs = {"method": "GET", "uri": "http://127.0.0.1:9/x", "authentication": AUTHENTICATION, **more}
    return {"type": "Http", "operationOptions": "DisableAsyncPattern", "inputs": inputs, "runAfter": {}}


def failing(status: int = 500) -> World:
    found = World(tokens={"": lambda _audience: "token"}, clock=Clock(0))
    found.faults.append(Fault("GET", "/x", status, times=99))
    return found


NONE = {"retryPolicy": {"type": "none"}}


def test_what_runs_after_what() -> None:
    done = run(
        {
            "Good": compose(1),
            "After_good": compose(2, Good=["Succeeded"]),
            "After_bad": compose(3, Good=["Failed"]),
            "After_skipped": compose(4, After_bad=["Skipped"]),
        }
    )
    assert [done.of(name)[0].status for name in ("After_good", "After_bad", "After_skipped")] == [
        "Succeeded",
        "Skipped",
        "Succeeded",
    ]
    assert done.status == "Succeeded"


def test_a_failure_that_is_followed_up_is_none_and_one_that_is_not_is() -> None:
    caught = {"Bad": get(**NONE), "Caught": compose("x", Bad=["Failed"])}
    assert run(caught, outside=failing()).status == "Succeeded"
    left = {"Bad": get(**NONE), "Only_if_good": compose("x", Bad=["Succeeded"])}
    assert run(left, outside=failing()).status == "Failed"
    assert run({"Bad": get(**NONE)}, outside=failing(404)).status == "Failed"


def test_a_loop_is_as_its_last_round() -> None:
    outside = failing()
    outside.faults[0].times = 1
    outside.faults.append(Fault("GET", "/x", 200, times=99, headers={"Content-Type": "text/plain"}, body="fine"))
    loop = until(
        {"Bad": get(**NONE)}, "@equals(coalesce(outputs('Bad')?['statusCode'], 0), 200)", count=9, timeout="PT1H"
    )
    assert run({"Loop": loop}, outside=outside).status == "Succeeded" and len(outside.sent) == 2
    outside = failing()
    loop["actions"]["Caught"] = compose(1, Bad=["Failed"])
    assert run({"Loop": loop}, outside=outside).status == "Failed" and len(outside.sent) == 9


def test_a_loop_ends_at_its_time_between_two_rounds() -> None:
    wait = {"type": "Wait", "inputs": {"interval": {"count": 40, "unit": "Minute"}}, "runAfter": {}}
    outside = world()
    run({"Loop": until({"Wait": wait}, "@equals(1, 2)", count=60, timeout="PT1H")}, outside=outside)
    assert outside.clock.pauses == [2400, 2400]


def test_retries_are_those_of_the_policy() -> None:
    outside = failing(503)
    run({"Bad": get()}, outside=outside)
    assert len(outside.sent) == 5  # four more by default
    assert all(5 <= pause <= 56 for pause in outside.clock.pauses)
    outside = failing(400)
    run({"Bad": get()}, outside=outside)
    assert len(outside.sent) == 1
    outside = failing(429)
    policy = {
        "type": "exponential",
        "interval": "PT10S",
        "count": 3,
        "minimumInterval": "PT10S",
        "maximumInterval": "PT30S",
    }
    run({"Bad": get(retryPolicy=policy)}, outside=outside)
    first, second, third = outside.clock.pauses
    assert first == 10 and 10 <= second <= 20 and 20 <= third <= 30
    for bad in ({"type": "fixed"}, policy | {"count": 91}, policy | {"interval": "PT1S"}):
        with pytest.raises(WorkflowError):
            run({"Bad": get(retryPolicy=bad)}, outside=failing())


def test_what_the_world_does_not_have_is_refused() -> None:
    with pytest.raises(WorkflowError, match="does not have the identity"):
        run({"A": get()})
    with pytest.raises(WorkflowError, match="not on this machine"):
        run({"A": get(uri="https://example.com/")}, outside=failing())
    polling = get()
    del polling["operationOptions"]
    with pytest.raises(WorkflowError, match="DisableAsyncPattern"):
        run({"A": polling}, outside=failing(202))
    with pytest.raises(WorkflowError, match="redirects"):
        run({"A": get()}, outside=failing(302))


@pytest.mark.parametrize("file", PLAYBOOKS, ids=lambda file: file.stem)
def test_a_definition_with_anything_unknown_in_it_is_refused(file: Path) -> None:
    """Each action of the real definitions in turn gets a property, a type and a function that are not known."""
    given = json.loads(file.read_text("utf-8"))
    check(given)

    def places(actions: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for action in actions.values():
            yield action
            yield from places(action.get("actions", {}))
            yield from places(action.get("else", {}).get("actions", {}))

    for number in range(len(list(places(given["actions"])))):
        for change in ({"surprise": 1}, {"type": "Surprise"}, {"runAfter": {"Nobody": ["Succeeded"]}}):
            broken = copy.deepcopy(given)
            list(places(broken["actions"]))[number].update(change)
            with pytest.raises(WorkflowError):
                check(broken)
