"""`GET /metrics`: the numbers of this process and its store, in the text format of Prometheus.

What a process counts is a counter or a histogram, what the store has is a gauge: else several
replicas would multiply it. Nothing is asked of the database. docs/metrics.md lists the names.
OpenMetrics would say nothing more, and takes the library three times as long to write.
"""

import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from aiohttp import web

from aggregator import __version__
from aggregator.core.metrics import Gauges, Histogram, Metrics
from aggregator.errors import NotFound
from aggregator.route import Route, RouteContext, Routes, Scope

if TYPE_CHECKING:
    from prometheus_client import Metric

_PREFIX = "aggregator"
_BOUNDED = {
    "queue_events": "Events accepted and not settled",
    "queue_bytes": "Bytes of requests under way",
    "answer_bytes": "Bytes of pages and exports that wait to be read",
    "streams": "Readers who follow the stream",
    "connections": "Open connections",
}
_HEADERS = {
    "Content-Type": "text/plain; version=0.0.4; charset=utf-8",
    "Cache-Control": "no-store",
}


class MetricsRoute(Routes):
    """Serves the numbers, if prometheus_client is installed."""

    def __init__(self, context: RouteContext) -> None:
        super().__init__(context)
        self._render: Callable[[], bytes] | None = None

    def routes(self) -> Sequence[Route]:
        """The one route."""
        return [Route("GET", "/metrics", self.metrics, _OPERATION, scope=Scope.METRICS)]

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """What the service does, in numbers for Prometheus."""
        # Without asking for room: it is small, and where answers pile up it is looked at most.
        if self._render is None:
            self._render = _renderer(self.context)
        return await self.context.send(request, web.Response(body=self._render(), headers=_HEADERS))


def _renderer(context: RouteContext) -> Callable[[], bytes]:
    """What writes the numbers of the moment. Raises NotFound."""
    try:
        # Not before somebody asks: most starts never need it.
        from prometheus_client import CollectorRegistry, generate_latest  # noqa: PLC0415
    except ImportError:
        raise NotFound(
            "The numbers are not installed: pip install 'event-aggregator[metrics]'."
        ) from None
    registry = CollectorRegistry()
    registry.register(_Collector(context))
    return partial(generate_latest, registry)


class _Collector:
    def __init__(self, context: RouteContext) -> None:
        self._context = context

    def describe(self) -> Iterable["Metric"]:
        """None beforehand: nothing is collected until somebody asks."""
        return ()

    def collect(self) -> Iterator["Metric"]:
        """Everything, as it is now."""
        yield from _of_process(self._context.metrics)
        yield from _of_moment(self._context.gauges())


def _of_process(metrics: Metrics) -> Iterator["Metric"]:
    """What has been added up since the start."""
    yield _counter(
        "http_requests", "Requests answered.", ("route", "method", "code"), metrics.requests
    )
    yield _histogram(
        "http_request_duration_seconds",
        "How long requests took until their answer; not those of streams.",
        "route",
        metrics.request_seconds,
    )
    yield _counter(
        "rejected", "Requests refused, by status and reason.", ("code", "reason"), metrics.rejected
    )
    yield _counter(
        "events",
        "Events settled by this process, by outcome.",
        ("outcome",),
        {(outcome,): count for outcome, count in metrics.events.items()},
    )
    yield _histogram(
        "queue_wait_seconds",
        "How long submissions waited until a batch took them.",
        None,
        {"": metrics.queue_wait_seconds},
    )
    yield _histogram(
        "commit_duration_seconds",
        "How long commits took, until they were durable.",
        None,
        {"": metrics.commit_seconds},
    )
    yield _histogram("batch_events", "Events of a batch.", None, {"": metrics.batch_events})
    yield _histogram(
        "stage_duration_seconds",
        "How long one call of a stage took.",
        "stage",
        metrics.stage_seconds,
    )
    yield _counter(
        "stage_failures",
        "Calls in which a stage broke its contract.",
        ("stage",),
        {(stage,): count for stage, count in metrics.stage_failures.items()},
    )
    yield _counter(
        "log_messages",
        "Messages in the log, by level.",
        ("level",),
        {(level,): count for level, count in metrics.log_messages.items()},
    )
    yield _counter(
        "store_failures",
        "How often the store failed, attempts to open it again included.",
        (),
        {(): metrics.moments.store_failures},
    )
    yield _gauge(
        "event_loop_lag_seconds",
        "By how much the event loop was late at most, within the last minute.",
        max(metrics.moments.loop_lags, default=0.0),
    )
    if metrics.moments.last_commit is not None:
        yield _gauge(
            "last_commit_timestamp_seconds",
            "When a batch was committed last, since 1970.",
            metrics.moments.last_commit,
        )


def _of_moment(gauges: Gauges) -> Iterator["Metric"]:
    """How things are now."""
    yield _gauge("ready", "1 if it can store, or where it only reads, read.", int(gauges.is_ready))
    for name, (held, most) in gauges.bounded.items():
        yield _gauge(name, f"{_BOUNDED.get(name, name)}, now.", held)
        yield _gauge(f"{name}_limit", f"{_BOUNDED.get(name, name)}, at most.", most)
    yield _gauge(
        "queue_oldest_seconds",
        "How long the oldest submission that is not settled has waited.",
        gauges.queue_oldest_seconds,
    )
    yield _gauges(
        "store_events",
        "Events that the store has counted, by outcome.",
        "outcome",
        gauges.store_events,
    )
    for name, about, value in (
        ("topics", "Topics with stored events.", gauges.topics),
        ("quarantine_events", "Events in quarantine.", gauges.quarantined),
        ("last_seq", "The seq of the last committed event.", gauges.last_seq),
    ):
        if value is not None:
            yield _gauge(name, about, value)
    yield _gauges("store_bytes", "Bytes of the store, by part.", "part", gauges.store_bytes)
    if gauges.disk_free is not None:
        yield _gauge("disk_free_bytes", "Bytes left where the store is.", gauges.disk_free)
    yield _info(
        "build",
        "What runs.",
        {
            "version": __version__,
            "python": platform.python_version(),
            "implementation": sys.implementation.name,
            "store": gauges.store,
        },
    )


_Labels = tuple[object, ...]


def _counter(name: str, about: str, labels: Sequence[str], counts: Mapping[Any, float]) -> "Metric":
    from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415

    family = CounterMetricFamily(f"{_PREFIX}_{name}", about, labels=labels)
    for values, count in list(counts.items()):
        family.add_metric([str(value) for value in values], count)
    return family


def _gauge(name: str, about: str, value: float) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

    return GaugeMetricFamily(f"{_PREFIX}_{name}", about, value=value)


def _gauges(name: str, about: str, label: str, values: Mapping[str, float]) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415

    family = GaugeMetricFamily(f"{_PREFIX}_{name}", about, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


def _info(name: str, about: str, values: Mapping[str, str]) -> "Metric":
    from prometheus_client.core import InfoMetricFamily  # noqa: PLC0415

    return InfoMetricFamily(f"{_PREFIX}_{name}", about, value=dict(values))


def _histogram(
    name: str, about: str, label: str | None, by_label: Mapping[str, Histogram]
) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily  # noqa: PLC0415

    family = HistogramMetricFamily(f"{_PREFIX}_{name}", about, labels=[label] if label else [])
    for value, histogram in list(by_label.items()):
        bounds = [*map(_bound, histogram.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
        family.add_metric([value] if label else [], buckets, histogram.sum)
    return family


def _bound(bound: float) -> str:
    return str(float(bound))  # as the client library spells it


_OPERATION: dict[str, Any] = {
    "operationId": "readMetrics",
    "tags": ["state"],
    "responses": {
        "200": {
            "description": "The numbers, in the text format of Prometheus.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **{status: status for status in ("404", "500", "503")},
    },
}
