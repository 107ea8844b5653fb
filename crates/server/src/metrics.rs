//! What `/metrics` shows, in Prometheus' text form: names use the same nouns as everything else.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// An endpoint and how its requests ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    endpoint: &'static str,
    status: Code,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    endpoint: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Code(u16);

impl EncodeLabelValue for Code {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&u64::from(self.0), encoder)
    }
}

/// One view of one project, of one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfView {
    pub(crate) project: String,
    pub(crate) view: String,
}

/// One source of one project, of one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfSource {
    pub(crate) project: String,
    pub(crate) source: String,
}

/// One sort of long operation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfOperation {
    pub(crate) operation: &'static str,
}

/// The counters of one node. No process globals: many nodes fit in one process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Ended, Counter>,
    seconds: Family<Of, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    pub(crate) age: Family<OfView, Gauge<f64, AtomicU64>>,
    pub(crate) failed: Family<OfView, Gauge>,
    pub(crate) behind: Family<OfView, Gauge>,
    pub(crate) behind_age: Family<OfView, Gauge<f64, AtomicU64>>,
    pub(crate) past_retention: Family<OfView, Gauge>,
    pub(crate) null_keys: Family<OfView, Gauge>,
    pub(crate) rows: Family<OfView, Gauge>,
    pub(crate) running: Family<OfOperation, Gauge>,
    pub(crate) waiting: Family<OfOperation, Gauge>,
    pub(crate) refused: Counter,
    pub(crate) pushed: Family<OfSource, Counter>,
    pub(crate) live_log: Gauge,
    pub(crate) live_tables: Gauge,
    pub(crate) live_memory: Gauge,
    pub(crate) live_waiting: Gauge,
    pub(crate) live_position: Gauge,
    pub(crate) flush_lag: Gauge<f64, AtomicU64>,
    pub(crate) flush_failed: Gauge,
    pub(crate) logged: Counter,
    pub(crate) not_logged: Counter,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("asof");
        let seconds: Family<Of, Histogram, fn() -> Histogram> = Family::new_with_constructor(|| {
            Histogram::new([
                0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
                5.0, 10.0, 60.0,
            ])
        });
        let metrics = Metrics {
            requests: Family::default(),
            seconds,
            in_flight: Gauge::default(),
            age: Family::default(),
            failed: Family::default(),
            behind: Family::default(),
            behind_age: Family::default(),
            past_retention: Family::default(),
            null_keys: Family::default(),
            rows: Family::default(),
            running: Family::default(),
            waiting: Family::default(),
            refused: Counter::default(),
            pushed: Family::default(),
            live_log: Gauge::default(),
            live_tables: Gauge::default(),
            live_memory: Gauge::default(),
            live_waiting: Gauge::default(),
            live_position: Gauge::default(),
            flush_lag: Gauge::default(),
            flush_failed: Gauge::default(),
            logged: Counter::default(),
            not_logged: Counter::default(),
            registry: Registry::default(),
        };
        registry.register("requests", "Requests answered, by endpoint and status", metrics.requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from a request's head to the head of its answer",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register("requests_in_flight", "Requests being answered", metrics.in_flight.clone());
        registry.register_with_unit(
            "view_materialized_age",
            "Time since a view was last materialised",
            Unit::Seconds,
            metrics.age.clone(),
        );
        registry.register(
            "view_materialize_failed",
            "1 where the last materialisation of a view failed, or its source cannot be read",
            metrics.failed.clone(),
        );
        registry.register(
            "view_rows_behind",
            "Rows of its source a view had not materialised when that was last looked at",
            metrics.behind.clone(),
        );
        registry.register_with_unit(
            "view_rows_behind_age",
            "Time since the source of a view was looked at for rows behind",
            Unit::Seconds,
            metrics.behind_age.clone(),
        );
        registry.register(
            "view_rows_past_retention",
            "Rows that were older than a view keeps online when they came or were read; they are kept offline",
            metrics.past_retention.clone(),
        );
        registry.register(
            "view_rows_null_keys",
            "Rows that belong to no entity of a view, a key being null",
            metrics.null_keys.clone(),
        );
        registry.register("view_rows_online", "Rows of a view in the online store", metrics.rows.clone());
        registry.register(
            "operations_running",
            "Long operations that go on, by sort",
            metrics.running.clone(),
        );
        registry.register(
            "operations_waiting",
            "Long operations that wait for others to end, by sort",
            metrics.waiting.clone(),
        );
        registry.register(
            "operations_refused",
            "Long operations that were refused, as many waiting already",
            metrics.refused.clone(),
        );
        registry.register(
            "pushed_rows",
            "Rows that were pushed and stored, by source",
            metrics.pushed.clone(),
        );
        let live = [
            ("live_log", "The intake log of pushed rows", &metrics.live_log),
            ("live_tables", "The tables behind the intake log", &metrics.live_tables),
            ("live_memory", "Pushed rows in memory that the intake log alone keeps", &metrics.live_memory),
        ];
        for (name, help, gauge) in live {
            registry.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        }
        let waiting = "Pushed batches that wait to be acknowledged";
        registry.register("live_batches_waiting", waiting, metrics.live_waiting.clone());
        let position = "The last position given to a pushed row";
        registry.register("live_position", position, metrics.live_position.clone());
        let lag = "Time that a pushed row waits to be moved from the log into its source's table";
        registry.register_with_unit("flush_lag", lag, Unit::Seconds, metrics.flush_lag.clone());
        let failed = "Tables that did not get their pushed rows the last time";
        registry.register("flush_tables_failed", failed, metrics.flush_failed.clone());
        let logged = "Rows of answers that were written to the serving log";
        registry.register("serving_log_rows", logged, metrics.logged.clone());
        let dropped = "Rows of answers in the sample of the serving log that were not written";
        registry.register("serving_log_dropped_rows", dropped, metrics.not_logged.clone());
        Metrics { registry, ..metrics }
    }
}

impl Metrics {
    /// A request began; the answer counts it down.
    pub(crate) fn began(&self) {
        self.in_flight.inc();
    }

    /// A request of this endpoint was answered.
    pub(crate) fn ended(&self, endpoint: &'static str, status: u16, took: Duration) {
        self.in_flight.dec();
        self.requests.get_or_create(&Ended { endpoint, status: Code(status) }).inc();
        self.seconds.get_or_create(&Of { endpoint }).observe(took.as_secs_f64());
    }

    /// The text of all of them.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        if let Err(error) = encode(&mut text, &self.registry) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
}
