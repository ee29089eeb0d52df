"""What is read by looking things up is what is read from its names on: same indicators, reasons, notes and texts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from shared import guard
from shared.indicators import normalise as normalising
from shared.indicators.fields import Builder
from shared.intake import read
from shared.intake.contract import Door, Message, Privilege
from shared.intake.native import read_item
from shared.settings import Settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = Settings()
VALUES = [
    "evil.example", "Evil.Example", "evil[.]example", "*.evil.example", "com", "co.uk", "x.ck", "www.ck", "intranet",
    "a" * 64 + ".example", "-a.example", "a-.example", "a_b.example", "evil.123", "1.2.3", "xn--p1ai", "пример.рф",
    "45.77.12.34", "10.0.0.1", "192.0.3.1", "192.0.2.1", "172.32.0.1", "045.1.1.1", "45.1.1.0/24", "2001:db8::1",
    "http://evil.example/x", "https://Evil.example/X", "https://10.0.0.1/x", "https://45.77.12.34?q", "http://com/",
    "http://a@evil.example/", "https://evil.example:8443/x", "https://evil.example./x", "http://evil.example/#f",
    "http://[2001:db8::1]/", "https://evil.example/" + "x" * 300, "https://evil.example/" + "x" * 100, "evil.example/x",
    "a" * 32, "b" * 40, "c" * 64, "C" * 64, "d" * 63, "", " evil.example ", "evil.example\n", None, 1, True, [],
]  # fmt: skip
FIELDS = {
    "indicatorType": ["DomainName", "Url", "ip", "FileSha256", "sha1", "md5", "CertificateThumbprint", "?", None, 1],
    "action": ["Audit", "Block", "BlockAndRemediate", "Alert", "Allowed", "no", None, ["Audit"]],
    "title": ["T", "U", None, "", 1, True, "x" * 201],
    "description": ["D", "E", None, {}],
    "externalId": ["1", "2", None, 2],
    "severity": ["High", "Low", "?", None],
    "generateAlert": [True, False, 1, 0, "true", None],
    "expirationTime": ["P30D", "never", "2026-12-12T00:00:00", "2026-01-01T00:00:00Z", None],
    "bypassDurationHours": [1, 1.0, True, 24],
    "category": [1, "1", True],
    "rbacGroupNames": [["a"], ["a", "a"], "a,b", []],
    "certificateInfo": [{"issuer": "i"}, {}],
    "x-own": [1, {"a": [[]]}],
    "createdBy": ["me"],
    "override": ["because"],
    "tittle": ["T"],
}


@st.composite
def entries(draw):
    """Items of which many repeat each other but for a value or two."""
    chosen = draw(st.lists(st.sampled_from(sorted(FIELDS)), unique=True, max_size=4))
    spelling = draw(st.sampled_from(["indicatorValue", "value", "INDICATORVALUE"]))
    # Few of each, so that they meet again; the first are those that are taken.
    few = {name: draw(st.lists(st.sampled_from(FIELDS[name][:3] * 2 + FIELDS[name]), min_size=1, max_size=2))
           for name in chosen}  # fmt: skip
    item = st.fixed_dictionaries({spelling: st.sampled_from(VALUES), **{n: st.sampled_from(v) for n, v in few.items()}})
    return draw(st.lists(item | st.sampled_from(VALUES), min_size=1, max_size=12))


DEFAULTS = [None, {}, {"title": "T", "severity": "Low"}, {"action": "Block", "type": "DomainName"}, {"title": 1}]
PRIVILEGES = [frozenset(), frozenset(Privilege)]


def from_names_on(entry, defaults, privileges):
    """The item by a builder that knows of no other, so that nothing is looked up."""
    builder = Builder(
        settings=SETTINGS,
        now=NOW,
        defaults=defaults,
        allow_allowed=bool(privileges),
        allow_override=bool(privileges),
    )
    return read_item(builder, 0, entry, "somebody")


@given(entries(), st.sampled_from(DEFAULTS), st.sampled_from(PRIVILEGES))
def test_items_of_a_message_are_read_as_each_is_alone(items, defaults, privileges):
    body = json.dumps({"indicators": items, **({} if defaults is None else {"defaults": defaults})}).encode()
    taken = read(body, door=Door.HTTP, now=NOW, settings=SETTINGS, privileges=privileges, caller="somebody")
    assert isinstance(taken, Message)
    for found, entry in zip(taken.items, items, strict=True):
        assert repr(found._replace(ordinal=0)) == repr(from_names_on(entry, defaults, privileges))


@given(entries(), st.sampled_from(PRIVILEGES), st.lists(st.integers(0, 2), min_size=12, max_size=12))
def test_messages_of_one_indicator_are_read_as_each_is_alone(items, privileges, seconds):
    for entry, second in zip(items, seconds, strict=False):
        if type(entry) is not dict:
            continue
        now = NOW + timedelta(seconds=second)
        alone = read(json.dumps(entry).encode(), door=Door.HTTP, now=now, settings=SETTINGS, privileges=privileges,
                     caller="somebody")  # fmt: skip
        both = read(json.dumps([entry]).encode(), door=Door.HTTP, now=now, settings=SETTINGS, privileges=privileges,
                    caller="somebody")  # fmt: skip
        assert repr(alone) == repr(both)


def test_the_way_of_looking_things_up_is_taken():
    builder = Builder(settings=SETTINGS, now=NOW)
    entry = {"value": "evil.example", "type": "DomainName", "title": "T", "generateAlert": True}
    assert builder.again(entry) is None
    assert builder.anew(entry).indicator == builder.again(entry)[0]
    other = builder.again(entry | {"value": "worse.example"})
    assert other[0].value == "worse.example" and other[0].title == "T"
    for change in ({"generateAlert": 1}, {"title": "U"}, {"value": "Worse.example"}, {"value": 1}, {"title": []}):
        assert builder.again(entry | change) is None


def test_suggestions_are_each_messages_own():
    # A builder makes so many of them; one that served messages before must not have spent them.
    for number in range(60):
        body = json.dumps({"value": "evil.example", "tittle": str(number), "title2": "x"}).encode()
        message = read(body, door=Door.QUEUE, now=NOW, settings=SETTINGS)
        assert "Did you mean title?" in message.items[0].problem.text


def test_a_name_twice_is_seen_in_short_and_in_long_texts():
    item = '{"value": "evil.example", "title": "a", "title" : "b"}'
    for body in (item, f"[{item}]", "[" + ", ".join([item] * 40) + "]", f'{{"indicators": [{item}]}}'):
        message = read(body.encode(), door=Door.QUEUE, now=NOW, settings=SETTINGS)
        assert {each.problem.reason for each in message.items} == {"duplicate_field"}


LABELS = st.text(alphabet="ab-_.019x", max_size=8)
ADDRESSES = ["0.0.0.0", "10.0.9.1", "01.0.0.0", "1.0.0", "1.1.1.1.1", "1.1.1.256", "1.1.1.0x1"]


@given(
    st.lists(LABELS, min_size=1, max_size=4).map(".".join)
    | st.sampled_from(["a" * 63 + ".b", "b." + "a" * 64, *ADDRESSES])
)
def test_expressions_for_names_say_what_the_rule_says(name):
    labels = name.split(".")
    last = labels[-1]
    number = last.isdigit() or (last.startswith("0x") and set(last[2:]) <= set("0123456789abcdef"))
    right = not number and all(0 < len(a) <= 63 and a[0] != "-" and a[-1] != "-" for a in labels)
    assert bool(normalising.LDH(name)) == right
    # A URL may also name an address, as everybody writes it: four numbers without leading zeros.
    parts = [part for part in labels if part.isdigit() and str(int(part)) == part and int(part) < 256]
    address = len(parts) == len(labels) == 4
    url = f"https://{name}/x"
    assert bool(normalising.PLAIN[normalising.IndicatorType.URL](url)) == (right or address)


@given(st.ip_addresses(v=4))
def test_the_first_number_of_an_address_tells_no_lies(address):
    number = int(address)
    special = any(first <= number <= last for first, last, _ in guard.addresses._V4)
    assert (guard.addresses.special_ipv4(str(address)) is not None) == special
