"""Events as publishers might send them, most of them good ones."""

import base64
import json

from hypothesis import strategies as st

from spellings import objects, values

_texts = st.text(max_size=8)
_blank = st.sampled_from(["", " ", "\n\t"])
_wrong = st.sampled_from(["null", "1", "[]", '"\\ud800"', "NaN", '""', "nope"])


def _object(members: dict[str, str], blank: str) -> bytes:
    inner = (f"{blank}{json.dumps(name)}{blank}:{blank}{text}" for name, text in members.items())
    return ("{" + ",".join(inner) + blank + "}").encode(errors="surrogatepass")


@st.composite
def plain(draw: st.DrawFn) -> bytes:
    """A plain event, most often a good one."""
    names = ("topic", "event_id", "timestamp", "source")
    members = {name: json.dumps(draw(_texts)) for name in names}
    members["payload"] = draw(objects)
    return _mostly(draw, members)


@st.composite
def cloud(draw: st.DrawFn) -> bytes:
    """A CloudEvent, most often a good one."""
    names = ("specversion", "type", "id", "source")
    members = {name: json.dumps(draw(_texts)) for name in names}
    members |= draw(st.dictionaries(st.sampled_from(["time", "a", "subject", "é"]), values))
    encoded = draw(st.binary(max_size=9))
    data = st.sampled_from([None, "data", "data_base64"])
    match draw(data):
        case "data":
            members["data"] = draw(values)
        case "data_base64":
            members["data_base64"] = json.dumps(base64.b64encode(encoded).decode())
    return _mostly(draw, members)


def _mostly(draw: st.DrawFn, members: dict[str, str]) -> bytes:
    if draw(st.integers(0, 4)) == 0:
        members[draw(st.sampled_from([*members, "odd"]))] = draw(_wrong)
    if draw(st.integers(0, 9)) == 0:
        members.pop(draw(st.sampled_from(list(members))))
    order = draw(st.permutations(list(members)))
    return _object({name: members[name] for name in order}, draw(_blank))
