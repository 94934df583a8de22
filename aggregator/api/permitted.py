"""What of the store a reader may read: for tokens of some topics the rest is as if it were not.

It is cut here, of every store: one that did not know of tokens would tell everything.
"""

from collections.abc import AsyncIterator

from aiohttp import web

from aggregator.access import Access
from aggregator.api.sending import ReadLimiter
from aggregator.errors import InsufficientScope
from aggregator.store import Page, Query, Topic

_PLACE = frozenset({"topic", "after", "limit", "descending"})
_CONTENT = [name for name in Query.__struct_fields__ if name not in _PLACE]
_TOPICS_AT_ONCE = 1000


def check_query(wanted: Query, access: Access) -> None:
    """Raise InsufficientScope unless the token may ask that.

    Where a page ends, or a stream stands, tells which events have matched, those that are left out
    of it too. So whoever may not read all topics names one, to ask by anything but the place.
    """
    if wanted.topic is not None:
        access.check_topic(wanted.topic)
    elif not access.is_of_all_topics and any(
        getattr(wanted, name) is not None for name in _CONTENT
    ):
        assert access.token
        raise InsufficientScope(
            f"The token {access.token.name} is not for all topics: to ask by anything but after, "
            "limit and order, name one of its topics too."
        )


def permitted(page: Page, access: Access) -> Page:
    """The page without the events on topics that its reader may not read."""
    if access.is_of_all_topics:
        return page
    return Page([event for event in page.events if access.covers(event.topic)], page.next)


async def permitted_topics(
    limiter: ReadLimiter,
    request: web.Request,
    access: Access,
    after: str = "",
    at_once: int = _TOPICS_AT_ONCE,
) -> AsyncIterator[Topic]:
    """Topics that may be read, by name, from the one after that name; a turn for each page."""
    at_once = at_once if access.is_of_all_topics else _TOPICS_AT_ONCE
    is_end = False
    while not is_end:
        async with limiter.acquire(request) as store:
            page = await store.topics(after, at_once)
        for topic in page:
            if access.covers(topic.name):
                yield topic
        is_end = len(page) < at_once
        after = page[-1].name if page else after
