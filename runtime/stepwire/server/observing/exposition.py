# SPDX-License-Identifier: BSD-3-Clause
"""The answer to `GET /metrics`. Needs `prometheus_client`; imported with the first request."""

from collections.abc import Iterable, Iterator
from functools import partial
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder

from stepwire.server.observing.metrics import (
    CODES,
    COUNTS,
    EPISODES,
    HISTOGRAMS,
    MOST,
    OPEN,
    OPENED,
    PROCESS,
    REASONS,
    RECEIVED,
    SENT,
    STOPPING,
    SUM,
    read,
)

_OPEN_METRICS = "application/openmetrics-text"
_PARTS = ("waiting", "environment", "encoding")
# The bounds that are shown are powers of two of a nanosecond: 1 µs to a minute, and 1 ms (timers
# are no finer) to a minute.
_STEP_BITS, _LAG_BITS = range(10, 37), range(20, 37)


def encode(accept: str) -> tuple[bytes, str]:
    """The figures of the server's workers as text, and its media type."""
    # Without the client's `version`, which `choose_encoder` takes as it is.
    encoder, media_type = choose_encoder(_OPEN_METRICS if _OPEN_METRICS in accept else "")
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(read()))
    return encoder(registry), media_type


class _Collector:
    """The figures of all workers; those of workers that have died count in sums."""

    def __init__(self, workers: dict[int, list[int]]) -> None:
        self._workers = workers
        self._total = list(map(sum, zip(*workers.values(), strict=True)))
        counts = {row: each[COUNTS:] for row, each in workers.items()}
        self._living = {row: each for row, each in counts.items() if each[PROCESS]}

    def collect(self) -> Iterator[Metric]:
        """Everything that `/metrics` shows."""
        yield from self._counters()
        yield from self._gauges()
        step = HistogramMetricFamily(
            "stepwire_step_seconds",
            "Time of a step: waiting for the server, in the environment, encoding the reply",
            labels=["part"],
        )
        for part in _PARTS:
            _add(step, part, self._total[HISTOGRAMS[part]], _STEP_BITS)
        yield step
        lag = HistogramMetricFamily(
            "stepwire_event_loop_lag_seconds",
            "How late the event loop of a worker was, measured twice a second",
            labels=["worker"],
        )
        for row, each in self._workers.items():
            _add(lag, str(row), each[HISTOGRAMS["lag"]], _LAG_BITS)
        yield lag
        yield from self._processes()

    def _counters(self) -> Iterator[Metric]:
        total = self._total[COUNTS:]
        steps = sum(self._total[HISTOGRAMS["encoding"]][:SUM])
        for name, value, text in (
            ("steps", steps, "Steps that were answered with an observation"),
            ("episodes", total[EPISODES], "Resets"),
            ("sessions_opened", total[OPENED], "Sessions that were opened"),
            ("received_bytes", total[RECEIVED], "Bytes of requests"),
            ("sent_bytes", total[SENT], "Bytes of replies"),
        ):
            yield CounterMetricFamily(f"stepwire_{name}", text, value=value)
        refused = CounterMetricFamily(
            "stepwire_sessions_refused", "Sessions that were refused", labels=["reason"]
        )
        for reason, place in REASONS.items():
            refused.add_metric([reason], total[place])
        yield refused
        errors = CounterMetricFamily("stepwire_errors", "Errors that clients got", labels=["code"])
        for code, place in CODES.items():
            errors.add_metric([str(code.value)], total[place])
        yield errors

    def _gauges(self) -> Iterator[Metric]:
        living, total = self._living.values(), self._total[COUNTS:]
        for name, value, text in (
            ("sessions_open", total[OPEN], "Sessions that are open"),
            # Workers share their places, so it is the same in each that knows it.
            ("sessions_max", max(each[MOST] for each in living), "Sessions that may be open"),
            ("workers", len(living), "Worker processes"),
            ("workers_stopping", total[STOPPING], "Worker processes that open no sessions"),
        ):
            yield GaugeMetricFamily(f"stepwire_{name}", text, value=value)

    def _processes(self) -> Iterable[Metric]:
        """CPU, memory and files of each worker, under the names that all exporters use."""
        families: dict[str, Metric] = {}
        for row, each in self._living.items():
            process = ProcessCollector(pid=partial(int, each[PROCESS]), registry=None)
            for found in process.collect():
                family = families.setdefault(
                    found.name, Metric(found.name, found.documentation, found.type)
                )
                for sample in found.samples:
                    family.add_sample(sample.name, {"worker": str(row)}, sample.value)
        return families.values()


def _add(family: HistogramMetricFamily, label: str, histogram: list[int], bits: range) -> None:
    *numbers, nanoseconds = histogram
    below = list(accumulate(numbers))
    buckets = [(str(2**bit / 1e9), below[bit]) for bit in bits]
    family.add_metric([label], [*buckets, ("+Inf", below[-1])], nanoseconds / 1e9)
