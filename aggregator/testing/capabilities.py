"""What stores promise that can do more than every store must: history, fields, backups."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from aggregator.core import json_values
from aggregator.core.identity import DEFAULT_KEY_SPEC, PayloadKind
from aggregator.errors import SettingError
from aggregator.store import (
    MOST_CONFLICTS,
    BacksUp,
    ChecksItself,
    ConflictingContent,
    ConflictStats,
    Counters,
    FieldIs,
    HistoryTransaction,
    IndexesFields,
    KeepsHistory,
    Redelivery,
    RedeliveryStats,
)
from aggregator.testing.making import make_event, stored, walk

_NAMES: list[tuple[int, Any]] = list(enumerate(["ada", 1, True, "ada", None, {"ada": "ada"}]))


def _named(name: Any) -> dict[str, Any]:
    return {"payload": msgspec.json.encode({"user": {"name": name}, "n": 7})}


class HistoryContract:
    """What every store promises that `KeepsHistory`."""

    async def test_transaction_can_keep_a_history(self, store: KeepsHistory) -> None:
        async with store.transaction() as tx:
            assert isinstance(tx, HistoryTransaction)

    async def test_what_came_again_is_told_by_source_and_by_content(
        self, store: KeepsHistory
    ) -> None:
        one, two = (
            ConflictingContent(b"1" * 17, ("/source", "/payload/a")),
            ConflictingContent(b"2" * 17, ()),
        )
        async with store.transaction() as tx:
            seq, other = await tx.append([make_event("1"), make_event("2")])
            await tx.record(
                [Redelivery(seq, "b", 50), Redelivery(seq, "b", 70), Redelivery(other, "b", 1)]
            )
            await tx.record([Redelivery(seq, "a", 60, one), Redelivery(seq, "b", 90, one)])
        async with store.transaction() as tx:
            await tx.record([Redelivery(seq, "a", 80), Redelivery(seq, "c", 40, two)])
        history = await store.history(seq, 10)
        assert history.redeliveries == [
            RedeliveryStats("c", 0, 1, 40, 40),
            RedeliveryStats("b", 2, 1, 50, 90),
            RedeliveryStats("a", 1, 1, 60, 80),
        ]
        assert history.conflicts == [
            ConflictStats(two.digest, (), "c", 1, 40, 40),
            ConflictStats(one.digest, ("/source", "/payload/a"), "a", 2, 60, 90),
        ]
        short = await store.history(seq, 1)
        assert (short.redeliveries, short.conflicts) == (
            history.redeliveries[:1],
            history.conflicts[:1],
        )
        assert (await store.history(other, 10)).redeliveries == [RedeliveryStats("b", 1, 0, 1, 1)]

    async def test_no_more_contents_are_remembered_than_fit(self, store: KeepsHistory) -> None:
        conflicts = [
            ConflictingContent(b"%017d" % number, ("/payload",))
            for number in range(MOST_CONFLICTS + 5)
        ]
        async with store.transaction() as tx:
            (seq,) = await tx.append([make_event("1")])
            for at, conflict in enumerate([*conflicts, conflicts[0], conflicts[-1]]):
                await tx.record([Redelivery(seq, "tests", at, conflict)])
        history = await store.history(seq, 1000)
        assert [conflict.digest for conflict in history.conflicts] == [
            c.digest for c in conflicts[:MOST_CONFLICTS]
        ]
        assert (history.conflicts[0].times, history.conflicts[1].times) == (2, 1)
        assert history.redeliveries == [
            RedeliveryStats("tests", 0, MOST_CONFLICTS + 7, 0, MOST_CONFLICTS + 6)
        ]

    async def test_unknown_event_has_no_history(self, store: KeepsHistory) -> None:
        history = await store.history(7, 10)
        assert (history.redeliveries, history.conflicts) == ([], [])


class FieldsContract:
    """What every store promises that `IndexesFields`."""

    @pytest.mark.parametrize("indexed", [(), ("/user/name", "/n")])
    async def test_events_are_found_by_a_field_with_and_without_index(
        self, store: IndexesFields, indexed: Sequence[str]
    ) -> None:
        long = "ada" * 100
        before = [make_event(f"old-{number}", **_named(name)) for number, name in _NAMES]
        await stored(store, *before, make_event("old-long", **_named(long)))
        await store.close()
        await store.open(DEFAULT_KEY_SPEC)
        await store.index(indexed)
        before = [make_event(f"new-{number}", **_named(name)) for number, name in _NAMES]
        await stored(store, *before, make_event("new-long", **_named(long)))
        await stored(
            store,
            make_event("text", payload_kind=PayloadKind.BYTES, payload=b'{"user":{"name":"ada"}}'),
            make_event("broken", payload=b'{"user":{"name":"ada"}'),
            make_event("deep", payload=b"[" * 200_000),
            make_event("b", "orders", source="x", timestamp="", received_at=5, **_named("ada")),
        )

        def by(value: Any, where: str = "/user/name") -> FieldIs:
            return FieldIs(where, json_values.scalar_of(msgspec.json.encode(value).decode()))

        ada = ["old-0", "old-3", "new-0", "new-3", "b"]
        assert await walk(store, field=by("ada")) == ada
        for limit in (1, 2, 5):
            found = await walk(store, field=by("ada"), limit=limit, descending=True)
            assert found == ada[::-1]
        assert await walk(store, field=by("ada"), topic="logins") == ada[:-1]
        assert await walk(store, field=by("ada"), topic="nobody's") == []
        assert await walk(store, field=by("ada"), source="x") == ["b"]
        assert await walk(store, field=by("ada"), since=0) == ada[:-1]
        assert await walk(store, field=by("ada"), received_until=6) == ["b"]
        assert await walk(store, field=by(long)) == ["old-long", "new-long"]
        assert await walk(store, field=by(1.0)) == ["old-1", "new-1"]
        assert await walk(store, field=by(True)) == ["old-2", "new-2"]
        assert await walk(store, field=by("nobody")) == []
        assert await walk(store, field=by("ada", "/user")) == []
        assert await walk(store, field=by(7, "/n"), limit=3) == [
            f"{age}-{name}" for age in ("old", "new") for name in (*range(6), "long")
        ] + ["b"]

    async def test_field_is_found_after_it_is_indexed_no_more(self, store: IndexesFields) -> None:
        await stored(store, make_event("1"), make_event("2", payload=b'{"user":"bob"}'))
        ada = FieldIs("/user", b"sada")
        for number, indexed in enumerate([["/user"], [], ["/user", "/other"], ["/other"]], 3):
            await store.close()
            await store.open(DEFAULT_KEY_SPEC)
            others = [one for one in await store.indexed() if one not in indexed]
            await store.drop_index([*others, "/never"])
            await store.index(indexed)
            assert sorted(await store.indexed()) == sorted(indexed)
            await stored(store, make_event(str(number)))
            wanted = ["1", *(str(each) for each in range(3, number + 1))]
            assert await walk(store, field=ada) == wanted
            await store.reopen()
            assert await walk(store, field=ada, limit=2) == wanted

    async def test_index_stays_where_the_next_start_does_not_name_it(
        self, store: IndexesFields
    ) -> None:
        await stored(store, make_event("1"))
        await store.index(["/user", "/other"])
        await store.close()
        await store.open(DEFAULT_KEY_SPEC)
        await store.index(["/other"])
        await stored(store, make_event("2"))
        assert sorted(await store.indexed()) == ["/other", "/user"]
        assert await walk(store, field=FieldIs("/user", b"sada")) == ["1", "2"]


class BackupContract:
    """What every store promises that `BacksUp`."""

    async def test_backup_is_made_of_what_is_committed(
        self, store: BacksUp, new_store: Callable[[], BacksUp], tmp_path: Path
    ) -> None:
        counted = Counters(stored=1)
        async with store.transaction() as tx:
            await tx.append([make_event("1")])
            await tx.count(counted, {"logins": counted})
        destination = tmp_path / "backup"
        made = await new_store().backup(destination)
        assert (made.events, made.last_seq) == (1, (await store.span()).newest)
        assert made.size == destination.stat().st_size
        with pytest.raises(SettingError):
            await new_store().backup(destination)
        assert made.size == destination.stat().st_size


class CheckContract:
    """What every store promises that `ChecksItself`."""

    async def test_nothing_is_found_in_what_it_has_written_itself(
        self, store: ChecksItself, new_store: Callable[[], ChecksItself]
    ) -> None:
        counted = Counters(stored=1)
        async with store.transaction() as tx:
            (seq,) = await tx.append([make_event("1")])
            await tx.count(counted, {"logins": counted})
        running = await new_store().check()
        assert (running.events, running.last_seq, running.findings) == (1, seq, [])
        await store.close()
        assert (await new_store().check()).findings == []
