"""What every store promises."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from aggregator.core.identity import DEFAULT_KEY_SPEC, PayloadKind
from aggregator.errors import KeyHeld, KeySpecDiffers
from aggregator.store import (
    CONTENTS_BYTES,
    PAGE_BYTES,
    BacksUp,
    ChecksItself,
    Content,
    Counters,
    FieldIs,
    IndexesFields,
    KeepsHistory,
    KeepsQuarantine,
    OpensReadOnly,
    Page,
    Query,
    Span,
    Store,
    StoredEvent,
    Topic,
)
from aggregator.testing.capabilities import (
    BackupContract,
    CheckContract,
    FieldsContract,
    HistoryContract,
    ReadOnlyContract,
)
from aggregator.testing.commits import CommitContract
from aggregator.testing.making import Rollback, make_event, stored, walk
from aggregator.testing.quarantine import QuarantineContract

_LATE = 5.0  # seconds after which what should be told at once never will be
_SOON = 0.05  # seconds in which something that must wait is given the chance not to


async def _only(store: Store) -> StoredEvent:
    (event,) = (await store.events(Query())).events
    return event


_SUITES: Mapping[Any, type] = {
    KeepsHistory: HistoryContract,
    KeepsQuarantine: QuarantineContract,
    IndexesFields: FieldsContract,
    OpensReadOnly: ReadOnlyContract,
    BacksUp: BackupContract,
    ChecksItself: CheckContract,
}
"""Of what a store can do beyond what every store must."""


class StoreContract(CommitContract):
    """What every store promises."""

    @pytest.fixture
    def new_store(self) -> Callable[[], Store]:
        """Override: makes a store object, each time on the same data; nothing is stored yet."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, new_store: Callable[[], Store]) -> Any:
        """An open store."""
        store = new_store()
        await store.open(DEFAULT_KEY_SPEC)
        yield store
        await store.close()

    async def test_committed_event_is_read_back_as_it_was(self, store: Store) -> None:
        event = make_event("1", payload=b'{ "n": 1.50 }', timestamp="2026-01-31T12:00:00+05:30")
        (seq,) = await stored(store, event)
        (found,) = await store.find(event.key, 10)
        assert (found.seq, found.topic, found.event_id) == (seq, "logins", "1")
        assert (found.source, found.payload) == ("tests", b'{ "n": 1.50 }')
        assert found.timestamp == "2026-01-31T12:00:00+05:30"
        assert found.received_at == event.received_at
        assert (found.key, found.digest) == (event.key, event.digest)
        assert (await store.events(Query())).events == [found]

    async def test_claim_leaves_nothing_behind(self, store: Store) -> None:
        key = make_event("1").key
        for _ in range(2):
            async with store.transaction() as tx:
                assert await tx.claim([key, key]) == [None, None]

    async def test_claim_names_the_first_holder(self, store: Store) -> None:
        first, new = make_event("1", received_at=7), make_event("2")
        (seq,) = await stored(store, first)
        async with store.transaction() as tx:
            owner, nobody = await tx.claim([first.key, new.key])
        assert nobody is None
        assert owner
        assert (owner.seq, owner.digest, owner.received_at) == (seq, first.digest, 7)

    async def test_claim_sees_events_of_its_own_transaction(self, store: Store) -> None:
        event = make_event("1")
        async with store.transaction() as tx:
            (seq,) = await tx.append([event])
            (owner,) = await tx.claim([event.key])
            assert owner
            assert owner.seq == seq

    async def test_claim_takes_many_keys(self, store: Store) -> None:
        events = [make_event(str(number)) for number in range(3000)]
        seqs = await stored(store, *events[::2])
        async with store.transaction() as tx:
            owners = await tx.claim([event.key for event in events])
        assert [owner.seq for owner in owners[::2] if owner] == seqs
        assert set(owners[1::2]) == {None}

    async def test_contents_come_in_the_order_asked_for(self, store: Store) -> None:
        one = make_event("1", payload=b'{"a":1}', source="x")
        two = make_event("2", payload=b'{"b":2}', source="y")
        async with store.transaction() as tx:
            first, second = await tx.append([one, two])
            asked = await tx.contents([second, first, second])
        two_, one_ = Content("y", b'{"b":2}'), Content("x", b'{"a":1}')
        assert asked == [two_, one_, two_]

    async def test_contents_come_no_more_at_a_time_than_fit(self, store: Store) -> None:
        payload = b'{"filler":"' + b"x" * (CONTENTS_BYTES // 3) + b'"}'
        events = [make_event(str(number), payload=payload) for number in range(7)]
        seqs = await stored(store, *events)
        async with store.transaction() as tx:
            assert len(await tx.contents(seqs)) == 3
            assert len(await tx.contents(seqs[-1:])) == 1
        assert len(await store.contents(seqs)) == 3
        assert len(await store.contents(seqs[-1:])) == 1

    async def test_contents_of_what_is_committed_are_read_beside_a_transaction(
        self, store: Store
    ) -> None:
        one = make_event("1", payload=b'{"a":1}', source="x")
        two = make_event("2", payload=b"", payload_kind=PayloadKind.NOTHING, attributes=b"{}")
        first, second = await stored(store, one, two)
        async with store.transaction() as tx:
            (third,) = await tx.append([make_event("3")])
            asked = await store.contents([second, third, first])
        one_, two_ = Content("x", b'{"a":1}'), Content("tests", b"", PayloadKind.NOTHING)
        assert asked == [two_, Content("", None), one_]

    async def test_seqs_only_grow(self, store: Store) -> None:
        seqs = await stored(store, make_event("1"), make_event("2"))
        with suppress(Rollback):
            async with store.transaction() as tx:
                await tx.append([make_event("3")])
                raise Rollback
        seqs += await stored(store, make_event("4"))
        assert seqs == sorted(set(seqs))

    @pytest.mark.parametrize("twice", [("1", "1"), ("new", "held")])
    async def test_append_under_a_held_key_stores_nothing(
        self, store: Store, twice: tuple[str, str]
    ) -> None:
        await stored(store, make_event("held"))
        with pytest.raises(KeyHeld):
            await stored(store, *(make_event(event_id) for event_id in twice))
        assert await walk(store) == ["held"]

    async def test_counters_add_up_and_topics_are_counted_once(self, store: Store) -> None:
        async with store.transaction() as tx:
            await tx.append([make_event("1", "b"), make_event("2", "a"), make_event("3", "a")])
            await tx.count(
                Counters(stored=3, duplicate=1, invalid=4),
                {"b": Counters(stored=1), "a": Counters(stored=2, duplicate=1)},
            )
        assert tx.counters == Counters(stored=3, duplicate=1, invalid=4, topics=2)
        async with store.transaction() as tx:
            await tx.append([make_event("4", "a")])
            await tx.count(
                Counters(stored=1, conflict=1, filtered=2, refused=3, failed_async=5),
                {"a": Counters(stored=1, conflict=1)},
            )
        assert await store.counters() == Counters(4, 1, 1, 4, 2, 3, 5, topics=2)

    async def test_many_topics_are_told_apart(self, store: Store) -> None:
        names = [f"{number:04}" for number in range(1367)]
        counted = {name: Counters(stored=1) for name in names}
        for first in (1, len(names) + 1):
            async with store.transaction() as tx:
                await tx.append([make_event(f"{first}", name) for name in names])
                await tx.count(Counters(stored=len(names)), counted)
            assert tx.counters.topics == len(names)
        told = await store.topics("", len(names) + 1)
        assert [(topic.name, topic.stored, topic.first_seq, topic.last_seq) for topic in told] == [
            (name, 2, seq, seq + len(names)) for seq, name in enumerate(names, 1)
        ]
        for place in (0, 700, 1366):
            assert await walk(store, topic=names[place]) == ["1", f"{len(names) + 1}"]

    async def test_topic_on_which_nothing_is_stored_is_passed_over(self, store: Store) -> None:
        for number in (1, 2):
            async with store.transaction() as tx:
                await tx.append([make_event(str(number), "a")])
                await tx.count(
                    Counters(stored=1, duplicate=2, conflict=2),
                    {"b": Counters(0, 1, 1), "a": Counters(1, 1, 1)},
                )
            assert tx.counters.topics == 1
            assert [topic.name for topic in await store.topics("", 10)] == ["a"]
        (a,) = await store.topics("", 10)
        assert (a.stored, a.duplicate, a.conflict) == (2, 2, 2)
        assert await store.counters() == Counters(2, 4, 4, topics=1)
        async with store.transaction() as tx:
            await tx.append([make_event("1", "b")])
            await tx.count(Counters(stored=1), {"b": Counters(stored=1)})
        assert tx.counters.topics == 2
        _, b = await store.topics("", 10)
        assert (b.stored, b.duplicate, b.conflict) == (1, 0, 0)

    async def test_second_transaction_waits_and_gets_later_seqs(self, store: Store) -> None:
        first_has_appended, may_end = asyncio.Event(), asyncio.Event()

        async def first() -> list[int]:
            async with store.transaction() as tx:
                seqs = await tx.append([make_event("1")])
                first_has_appended.set()
                await may_end.wait()
                return seqs

        async def second() -> tuple[bool, list[int]]:
            async with store.transaction() as tx:
                (owner,) = await tx.claim([make_event("1").key])
                return owner is not None, await tx.append([make_event("2")])

        one = asyncio.create_task(first())
        await first_has_appended.wait()
        two = asyncio.create_task(second())
        done, _ = await asyncio.wait({two}, timeout=_SOON)
        assert not done
        assert (await store.events(Query())).events == []
        may_end.set()
        saw_the_first, later = await two
        assert saw_the_first
        assert await one < later
        assert await walk(store) == ["1", "2"]

    async def test_events_are_found_by_topic_source_and_time(self, store: Store) -> None:
        await stored(
            store,
            make_event("1", "a", timestamp="2026-01-01T00:00:00Z"),
            make_event("2", "b", timestamp="2026-01-02T00:00:00Z", source="x"),
            make_event("3", "a", timestamp="2026-01-03T00:00:00Z", source="x"),
            make_event("4", "a", timestamp="2026-01-03T01:00:00+02:00"),
        )
        second, third = 1_767_312_000_000_000, 1_767_398_400_000_000
        assert await walk(store, topic="a") == ["1", "3", "4"]
        assert await walk(store, source="x") == ["2", "3"]
        assert await walk(store, since=second, until=third) == ["2", "4"]
        assert await walk(store, topic="a", since=second, descending=True) == ["4", "3"]
        assert await walk(store, topic="nobody's") == []

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("limit", [1, 3, 10, 11])
    async def test_pages_hold_every_event_once(
        self, store: Store, limit: int, descending: bool
    ) -> None:
        ids = [str(number) for number in range(10)]
        await stored(store, *(make_event(event_id) for event_id in ids))
        wanted = list(reversed(ids)) if descending else ids
        assert await walk(store, limit=limit, descending=descending) == wanted
        page = await store.events(Query(limit=limit, descending=descending))
        assert len(page.events) <= limit
        assert (page.next is None) == (limit >= len(ids))

    @pytest.mark.parametrize("descending", [False, True])
    async def test_page_of_large_events_ends_early(self, store: Store, descending: bool) -> None:
        payload = b'{"filler":"' + b"x" * (PAGE_BYTES // 3) + b'"}'
        ids = [str(number) for number in range(7)]
        await stored(store, *(make_event(event_id, payload=payload) for event_id in ids))
        page = await store.events(Query(descending=descending))
        assert len(page.events) == 3
        assert page.next == page.events[-1].seq
        found = await walk(store, descending=descending)
        assert found == (list(reversed(ids)) if descending else ids)

    async def test_nothing_comes_before_the_first_event(self, store: Store) -> None:
        (seq,) = await stored(store, make_event("1"))
        assert await store.events(Query(after=seq)) == Page([], None)
        assert await store.events(Query(after=seq, descending=True)) == Page([], None)
        assert await store.events(Query(after=0, descending=True)) == Page([], None)

    async def test_other_key_spec_is_kept_only_in_place_of_the_one_that_is_named(
        self, store: Store
    ) -> None:
        await store.close()
        for replaces in (None, "source,event_id"):
            with pytest.raises(KeySpecDiffers) as raised:
                await store.open("topic,source", replaces=replaces)
            assert raised.value.kept == DEFAULT_KEY_SPEC
            await store.close()
        await store.open("topic,source", replaces=DEFAULT_KEY_SPEC)
        await store.close()
        with pytest.raises(KeySpecDiffers):
            await store.open(DEFAULT_KEY_SPEC)
        await store.close()
        await store.open("topic,source")

    @pytest.mark.parametrize(
        ("form", "payload"),
        [
            (PayloadKind.JSON, b"[1]"),
            (PayloadKind.BYTES, b"\x00\xff"),
            (PayloadKind.BYTES, b""),
            (PayloadKind.NOTHING, b""),
        ],
    )
    async def test_payload_of_every_form_is_read_back(
        self, store: Store, form: PayloadKind, payload: bytes
    ) -> None:
        event = make_event(
            "1", payload_kind=form, payload=payload, timestamp="", attributes=b'{"a":"b"}'
        )
        async with store.transaction() as tx:
            (seq,) = await tx.append([event])
            assert await tx.contents([seq]) == [Content("tests", payload, form)]
        found = await _only(store)
        assert (found.payload, found.payload_kind, found.digest) == (payload, form, event.digest)
        assert (found.timestamp, found.attributes) == (None, b'{"a":"b"}')

    async def test_event_without_a_timestamp_is_at_no_time(self, store: Store) -> None:
        await stored(store, make_event("1", timestamp=""))
        assert await walk(store, since=0) == []
        assert await walk(store, until=2**62) == []
        assert await walk(store) == ["1"]

    async def test_events_are_found_by_key_and_by_name(self, store: Store) -> None:
        name = make_event("1").key
        events = [make_event(str(number), key=b"%016d" % number, name=name) for number in range(3)]
        usual = make_event("1")
        await stored(store, events[0], make_event("other"), events[1], usual, events[2])
        found = await store.find(name, 10)
        assert [event.event_id for event in found] == ["0", "1", "1", "2"]
        assert [event.key for event in found] == [*(e.key for e in events[:2]), name, events[2].key]
        assert await store.find(name, 2) == found[:2]
        assert await store.find(events[2].key, 10) == found[3:]
        assert await store.find(b"", 10) == []

    async def test_events_of_a_name_are_found_by_source_however_many_come_before(
        self, store: Store
    ) -> None:
        name = make_event("1").key
        others = [
            make_event("1", key=b"%016d" % number, name=name, source="other")
            for number in range(30)
        ]
        meant = [
            make_event("1", key=b"meant %10d" % number, name=name, source="meant")
            for number in range(3)
        ]
        usual = make_event("1", source="meant")
        await stored(store, *others, *meant, usual)
        found = await store.find(name, 10, "meant")
        assert [event.seq for event in found] == [31, 32, 33, 34]
        assert await store.find(name, 2, "meant") == found[:2]
        assert await store.find(usual.key, 10, "nobody") == []
        assert await store.find(meant[0].key, 10, "meant") == found[:1]
        assert await store.find(meant[0].key, 10, "other") == []

    async def test_events_are_found_by_their_arrival(self, store: Store) -> None:
        await stored(store, *(make_event(str(at), received_at=at) for at in (10, 20, 30)))
        assert await walk(store, received_since=20) == ["20", "30"]
        assert await walk(store, received_since=10, received_until=30) == ["10", "20"]
        assert await walk(store, received_until=10) == []

    async def test_events_are_found_by_their_arrival_wherever_the_clock_jumped(
        self, store: Store
    ) -> None:
        times = [50, 60, 10, 20, 90, 30, 70, 80, 75, 95]
        await stored(store, *(make_event(str(at), received_at=at) for at in times[:4]))
        for at in times[4:]:
            await stored(store, make_event(str(at), received_at=at))
        for since in range(5, 105, 10):
            assert await walk(store, received_since=since) == [
                str(at) for at in times if since <= at
            ]
            assert await walk(store, received_until=since, descending=True) == [
                str(at) for at in reversed(times) if at < since
            ]
            assert await walk(store, received_since=since, received_until=75, topic="logins") == [
                str(at) for at in times if since <= at < 75
            ]

    async def test_page_of_a_rare_field_ends_early(self, store: Store) -> None:
        # The value stands in each of them, so that no store can pass them over unread.
        payload = b'{"user":"bob","by":"ada","filler":"' + b"x" * (PAGE_BYTES // 3) + b'"}'
        events = [make_event(str(number), payload=payload) for number in range(7)]
        await stored(store, *events, make_event("rare"))
        page = await store.events(Query(field=FieldIs("/user", b"sada")))
        assert page.events == []
        assert page.next is not None
        for descending in (False, True):
            found = await walk(store, field=FieldIs("/user", b"sada"), descending=descending)
            assert found == ["rare"]

    async def test_span_goes_from_the_oldest_event_to_the_newest(self, store: Store) -> None:
        assert await store.span() == Span(0, 0)
        seqs = await stored(store, make_event("1"), make_event("2"), make_event("3"))
        assert await store.span() == Span(seqs[0], seqs[-1])

    async def test_topics_are_told_with_their_ends(self, store: Store) -> None:
        async with store.transaction() as tx:
            seqs = await tx.append(
                [
                    make_event("1", "b", received_at=10),
                    make_event("2", "a", received_at=20),
                    make_event("3", "c", received_at=30),
                    make_event("4", "a", received_at=40),
                ]
            )
            await tx.count(
                Counters(stored=4, duplicate=2, conflict=1),
                {
                    "a": Counters(stored=2, duplicate=2),
                    "b": Counters(stored=1, conflict=1),
                    "c": Counters(stored=1),
                },
            )
        a = Topic("a", 2, 2, 0, seqs[1], 20, seqs[3], 40)
        b = Topic("b", 1, 0, 1, seqs[0], 10, seqs[0], 10)
        c = Topic("c", 1, 0, 0, seqs[2], 30, seqs[2], 30)
        assert await store.topics("", 10) == [a, b, c]
        assert await store.topics("", 2) == [a, b]
        assert await store.topics("a", 2) == [b, c]
        assert await store.topics("bb", 2) == [c]
        assert await store.topics("c", 2) == []

    async def test_reopened_store_goes_on(self, store: Store) -> None:
        await stored(store, make_event("1"))
        await store.reopen()
        await stored(store, make_event("2"))
        assert await walk(store) == ["1", "2"]

    async def test_who_waits_for_news_hears_of_it_after_a_reopen(self, store: Store) -> None:
        """Or who follows the events would be told of none until they come again."""
        await stored(store, make_event("1"))
        waiting = asyncio.create_task(store.changed(1))
        await asyncio.sleep(0)
        await store.reopen()
        await stored(store, make_event("2"))
        done, _ = await asyncio.wait({waiting}, timeout=_LATE)
        assert done
        assert waiting.result() == 2

    async def test_store_can_be_closed_twice(self, store: Store) -> None:
        await store.close()
        await store.close()

    async def test_store_tells_what_it_is(self, store: Store) -> None:
        assert store.about()


def contract_of(store: type[Store]) -> Any:
    """The suite for that class of stores: of every store, and of each mixin that it has."""
    suites = [suite for mixin, suite in _SUITES.items() if issubclass(store, mixin)]
    return type(f"{store.__name__}Contract", (StoreContract, *suites), {})
