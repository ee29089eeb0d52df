"""The way in: encodings, forms, pointers, limits, and that nothing but the declared errors ever comes out."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from samples.make_batch import batch
from shared import guard
from shared.errors import IntakeError, TooLargeError, UnreadableError
from shared.indicators.model import Action, Indicator
from shared.intake import read
from shared.intake.contract import Door, Message, Pointer
from shared.intake.detect import Repeated, decode
from shared.publishing.deliver import read_pointer
from shared.settings import Settings

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SETTINGS = Settings()
SAMPLES = Path(__file__).parents[2] / "samples"
PART = "20260301a-7f3c2b1d"


def take(body, door=Door.QUEUE, settings=SETTINGS) -> Message:
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    message = read(body, door=door, now=NOW, settings=settings)
    assert isinstance(message, Message)
    for ordinal, item in enumerate(message.items):
        assert item.ordinal == ordinal
        assert (item.indicator is None) != (item.problem is None)
    return message


def refused(body, door=Door.QUEUE, settings=SETTINGS) -> str:
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    with pytest.raises(UnreadableError) as caught:
        read(body, door=door, now=NOW, settings=settings)
    assert caught.value.remediation
    return caught.value.reason


NATIVE = json.dumps({"indicatorValue": "evil.example", "title": "Ünï"}, ensure_ascii=False)


@pytest.mark.parametrize(
    "body",
    [
        NATIVE.encode(),
        ("\r\n " + NATIVE + "\n").encode(),
        NATIVE.encode("utf-8-sig"),
        NATIVE.encode("utf-16"),
        b"\xfe\xff" + NATIVE.encode("utf-16-be"),
        base64.b64encode(NATIVE.encode()),
        base64.encodebytes(NATIVE.encode() * 1).replace(b"\n", b"\r\n"),
        base64.b64encode(NATIVE.encode()).rstrip(b"="),
        base64.urlsafe_b64encode(NATIVE.encode()),
        base64.b64encode(NATIVE.encode("utf-16")),
        base64.b64encode(NATIVE.encode("utf-8-sig")),
        base64.b64encode(NATIVE.encode()).decode().encode("utf-16"),
        base64.b64encode(base64.b64encode(NATIVE.encode())),
    ],
)
def test_p22_plain_json_is_taken_beside_base64_in_any_encoding(body):
    for door in Door:
        (item,) = take(body, door).items
        assert item.indicator is not None
        assert (item.indicator.value, item.indicator.title) == ("evil.example", "Ünï")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"hello", "not_json"),
        (b"evil.example", "not_json"),
        (b'{"indicatorValue": "evil.example"', "not_json"),
        (b'{"indicatorValue": "evil.example"} x', "not_json"),
        (b"{'indicatorValue': 'evil.example'}", "not_json"),
        (b'"evil.example"', "not_json"),
        (b"5", "not_json"),
        (b"null", "not_json"),
        (b"\xff\xff\xff", "not_text"),
        (b'{"indicatorValue": "\xe9"}', "not_text"),
        (base64.b64encode(b"\xff\xfe\xfd"), "not_json"),
        (base64.b64encode(base64.b64encode(base64.b64encode(NATIVE.encode()))), "not_json"),
        (b'[{"x-a": NaN}]', "not_json"),
        (b'[{"x-a": -Infinity}]', "not_json"),
        (b'[{"x-a": 1e999}]', "not_json"),
        (b'[{"x-a": ' + b"9" * 5000 + b"}]", "not_json"),
        (b'["a\x01b"]', "not_json"),
        (b"[" * 200_000, "too_deep"),
        (b'{"a":' * 200_000, "too_deep"),
        (b"[" * 200_000 + b"]" * 200_000, "too_deep"),
        (b"{}", "no_indicator"),
        (b'{"title": "x"}', "no_indicator"),
        (b"[]", "empty"),
        (b'{"indicators": []}', "empty"),
        (b'{"indicators": {}}', "wrong_type"),
        (b'{"indicators": ["evil.example"], "schema": 2}', "unknown_schema"),
        (b'{"indicators": ["evil.example"], "schema": "1"}', "unknown_schema"),
        (b'{"indicators": ["evil.example"], "schema": true}', "unknown_schema"),
        (b'{"indicators": ["evil.example"], "schema": 1.0}', "unknown_schema"),
        (b'{"indicatorValue": "evil.example", "schema": 7}', "unknown_schema"),
        (b'{"indicators": ["evil.example"], "titel": 1}', "unknown_field"),
        (b'{"indicators": ["evil.example"], "indicatorValue": "x"}', "unknown_field"),
        (b'{"indicators": ["evil.example"], "indicators": []}', "duplicate_field"),
        (b'{"indicators": ["evil.example"], "Indicators": []}', "duplicate_field"),
        (b'{"indicators": ["evil.example"], "defaults": []}', "wrong_type"),
        (b'{"indicators": ["evil.example"], "defaults": {"a": 1, "a": 2}}', "wrong_type"),
        (b'{"indicators": ["evil.example"], "defaults": {"value": "evil.example"}}', "wrong_type"),
        (b'{"indicators": ["evil.example"], "source": {}}', "wrong_type"),
        (b'{"indicators": ["evil.example"], "source": "a\\nb"}', "wrong_type"),
        (b'{"indicators": ["evil.example"], "correlationId": "\\ud800"}', "wrong_type"),
        (b'{"indicators": ["evil.example"], "incident": true}', "wrong_type"),
        (b'{"indicators": ["evil.example"], "incident": {}}', "wrong_type"),
        (b'{"indicators": ["evil.example"], "incident": 1.5}', "wrong_type"),
        (b'{"indicators": ["evil.example"], "x-a": ' + b"[" * 30 + b"]" * 30 + b"}", "too_deep"),
        *(
            (b'{"indicators": ["evil.example"], "%s": true}' % name, "not_permitted")
            for name in (b"override", b"Role", b"allow")
        ),
    ],
)
def test_unreadable(body, reason):
    for door in Door:
        assert refused(body, door) == reason


def holds_repetition(value) -> bool:
    if isinstance(value, Repeated):
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(holds_repetition(entry) for entry in inner)


KEYS = st.sampled_from(["a", "b", "{", '"', ":", '":', "", "\\"])
SEPARATORS = st.sampled_from([":", ": ", " :", "\n:", "\t: "])
TEXT_OF_JSON = st.recursive(
    st.sampled_from(["1", '"x"', '":"', '"{"', '"\\":"', "null", '" :"']),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: "[" + ",".join(parts) + "]")
        | st.lists(st.tuples(KEYS.map(json.dumps), SEPARATORS, inner), max_size=4).map(
            lambda pairs: "{" + ",".join("".join(pair) for pair in pairs) + "}"
        )
    ),
    max_leaves=10,
)


@given(TEXT_OF_JSON.filter(lambda text: text[0] in "{["))
def test_a_repeated_name_is_always_found(text):
    exact = json.loads(
        text, object_pairs_hook=lambda pairs: Repeated(pairs) if len(dict(pairs)) < len(pairs) else dict(pairs)
    )
    decoded = decode(text.encode())
    assert decoded == exact
    assert holds_repetition(decoded) == holds_repetition(exact)


def test_a_pointer_is_one_only_on_the_queue_and_only_whole():
    body = json.dumps({"v": 1, "part": PART}).encode()
    for form in (body, base64.b64encode(body)):
        assert read(form, door=Door.QUEUE, now=NOW, settings=SETTINGS) == Pointer(PART)
        assert refused(form, Door.HTTP) == "pointer"
    for number in (0, 1, 999_999_999):
        numbered = json.dumps({"v": 1, "part": PART, "n": number}).encode()
        for form in (numbered, base64.b64encode(numbered), json.dumps({"n": number, "part": PART, "v": 1}).encode()):
            assert read(form, door=Door.QUEUE, now=NOW, settings=SETTINGS) == Pointer(PART, number)
            assert refused(form, Door.HTTP) == "pointer"
        assert read_pointer(numbered) == Pointer(PART, number)
    assert read_pointer(body) == Pointer(PART) and read_pointer(b'{"v":1,"part":"%s","n":01}' % PART.encode()) is None
    for number in (-1, 1.0, True, "1", None, 1_000_000_000, [1]):
        assert refused({"v": 1, "part": PART, "n": number}) == "pointer"
        assert read_pointer(json.dumps({"v": 1, "part": PART, "n": number}).encode()) is None
    for wrong in (
        {"v": 2, "part": PART},
        {"v": True, "part": PART},
        {"v": "1", "part": PART},
        {"v": 1.0, "part": PART},
        {"v": 1, "part": "../x"},
        {"v": 1, "part": PART.upper()},
        {"v": 1, "part": "a" * 81},
        {"v": 1, "part": "a" * 9},
        {"v": 1, "part": PART + "\n"},
        {"v": 1, "part": [PART]},
        {"part": PART},
        {"part": PART, "n": 1},
    ):
        assert refused(wrong) == "pointer"
    assert refused(b'{"v": 1, "v": 1, "part": "%s"}' % PART.encode()) == "pointer"
    assert refused({"v": 1, "part": PART, "override": True}) == "no_indicator"
    (item,) = take({"v": 1, "part": PART, "indicatorValue": "evil.example"}).items
    assert item.problem is not None and item.problem.reason == "unknown_field"


def test_a_foreign_message_gains_nothing_by_what_it_claims():
    for claim in ({"override": True}, {"role": "Guards.Override"}, {"allow": True}, {"action": "Allowed"}):
        for door in Door:
            (item,) = take({"indicatorValue": "evil.example", **claim}, door).items
            assert item.problem is not None and item.problem.reason == "not_permitted"
            defaulted = take({"indicators": ["evil.example", "a.example"], "defaults": claim}, door)
            assert {i.problem.reason for i in defaulted.items if i.problem} == {"not_permitted"}
            assert not any(i.indicator for i in defaulted.items)


def test_the_three_forms_and_the_envelope():
    single = take(
        {"indicatorValue": "evil.example", "Source": " s ", "INCIDENT": 3177, "correlationId": "c", "schema": 1}
    )
    assert (single.source, single.incident, single.correlation_id) == ("s", "3177", "c")
    assert single.items[0].indicator is not None and "3177" in single.items[0].indicator.description
    assert single.items[0].notes == ()
    whole = take(["evil.example", {"value": "a.example"}])
    assert [i.indicator.value for i in whole.items if i.indicator] == ["evil.example", "a.example"]
    api = take({"Indicators": [{"indicatorValue": "evil.example", "action": "Block"}], "x-own": 1, "defaults": None})
    assert api.items[0].indicator is not None and api.items[0].indicator.action is Action.BLOCK


@pytest.mark.parametrize(
    ("incident", "text"),
    [
        (3177, "3177"),
        ("abc", "abc"),
        (None, ""),
        ({"number": 3177, "id": "x"}, "3177"),
        ({"incidentNumber": 5}, "5"),
        ({"number": None, "id": "x", "title": "t"}, "x"),
        ({"name": "n", "other": {}}, "n"),
        ({"title": "t"}, "t"),
    ],
)
def test_incidents(incident, text):
    assert take({"indicators": ["evil.example"], "incident": incident}).incident == text


def test_one_bad_item_does_not_touch_the_others():
    bad = [
        5,
        None,
        True,
        [],
        {},
        1.5,
        "10.0.0.1",
        "hello world",
        {"value": "\ud800"},
        {"valeu": "x"},
        {"value": "a.example", "zz": {}},
    ]
    body = json.dumps(["first.example", *bad, "last.example"]).encode()
    body = body.replace(b'"first.example"', b'"first.example", {"value": "a.example", "value": "b.example"}')
    message = take(body)
    assert len(message.items) == len(bad) + 3
    assert [i.indicator.value for i in message.items if i.indicator] == ["first.example", "last.example"]
    assert message.items[1].problem is not None and message.items[1].problem.reason == "duplicate_field"
    for item in message.items:
        assert item.shown.encode() is not None
        assert item.problem is None or item.problem.text.encode()


def test_too_many_items_and_bytes():
    settings = Settings(max_items=3, max_body_bytes=1000)
    assert len(take(["a.example"] * 3, settings=settings).items) == 3
    for body in (["a.example"] * 4, {"indicators": ["a.example"] * 4}):
        assert refused(body, Door.QUEUE, settings) == "too_many_items"
        with pytest.raises(TooLargeError):
            take(body, Door.HTTP, settings)
    with pytest.raises(TooLargeError):
        take(b" " * 1001, Door.HTTP, settings)


def test_what_is_shown_is_short():
    (item,) = take({"indicatorValue": "http://evil.example/" + "a" * 5000}).items
    assert item.problem is not None and len(item.shown) <= 80 and len(item.problem.text) < 400


def test_the_samples_read_as_they_are_meant_to():
    def sample(name: str) -> Message:
        return take((SAMPLES / name).read_bytes())

    plain, encoded = sample("sentinel-incident.json"), sample("sentinel-incident.base64.txt")
    assert plain == encoded and plain.incident == "3177" and len(plain.items) == 5
    assert all(item.indicator for item in plain.items)
    assert sample("plain-message.json").items[0].indicator is not None
    assert refused((SAMPLES / "bad-message.txt").read_bytes()) == "not_json"
    (private,) = sample("private-ip.json").items
    assert private.problem is not None and private.problem.reason == "private_address"
    large = take(batch(), Door.HTTP)
    assert len(large.items) == 1_200 and all(item.indicator for item in large.items)
    assert len({item.indicator.key for item in large.items if item.indicator}) == 1_200


NAMES = [
    "indicatorValue", "value", "indicatorType", "action", "title", "expires", "severity", "indicators", "defaults",
    "schema", "source", "incident", "v", "part", "override", "x-a", "id", "generateAlert", "rbacGroupNames",
    "certificateInfo",
]  # fmt: skip
TEXTS = [
    "evil.example",
    "10.0.0.1",
    "Block",
    "Allowed",
    "never",
    "P1D",
    "High",
    "DomainName",
    "a" * 40,
    "http://a.example/x",
    PART,
]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(TEXTS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=8), inner, max_size=6)
    ),
    max_leaves=25,
)


def check_taken(body: bytes) -> None:
    for door in Door:
        try:
            taken = read(body, door=door, now=NOW, settings=SETTINGS)
        except IntakeError as error:
            assert str(error).encode() and error.remediation
            continue
        if isinstance(taken, Pointer):
            assert door is Door.QUEUE
            continue
        for item in taken.items:
            assert item.shown.encode() is not None
            assert all(note.encode() for note in item.notes)
            if item.indicator is None:
                assert item.problem is not None and item.problem.text.encode()
            else:
                assert item.indicator.action is not Action.ALLOWED
                assert guard.check(item.indicator) is None
                stored = json.loads(json.dumps(item.indicator.payload()).encode())
                assert Indicator.from_payload(stored) == item.indicator


@given(st.binary(max_size=300))
def test_any_bytes_raise_only_the_declared_errors(body):
    check_taken(body)
    check_taken(base64.b64encode(body))


@given(VALUES)
def test_any_json_raises_only_the_declared_errors(value):
    check_taken(json.dumps(value).encode())


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), LEAVES, max_size=6) | st.sampled_from(TEXTS), max_size=6))
def test_any_list_of_items_raises_only_the_declared_errors(items):
    check_taken(json.dumps(items).encode())
    check_taken(json.dumps({"indicators": items}).encode())


def test_a_real_hash_list_is_taken_whole():
    folder = Path(__file__).parents[3] / "shared" / "data" / "eset"
    lists = sorted(folder.glob("*.sha1")) + sorted(folder.glob("*.sha256"))
    if not lists:
        pytest.skip("the real hash lists are not on this machine")
    for path in lists:
        values = path.read_text().split()
        message = take({"indicators": values, "defaults": {"action": "Block"}})
        assert [i.indicator.value for i in message.items if i.indicator] == [value.lower() for value in values]
