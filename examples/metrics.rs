//! The counters of an index as metrics, through the facade of the `metrics` crate: what an exporter of Prometheus or
//! StatsD would take from there is printed here.
//!
//! ```sh
//! cargo run --release --example metrics
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::FixedSizeListArray;
use arrow_array::types::Float32Type;
use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, counter, gauge,
};
use pennon::{BuildParams, DistanceType, Index, RowMask, SearchParams};

/// What a service calls every few seconds: cumulative counters as they are, the rest as gauges.
fn export(index: &Index) {
    let counters = index.counters();
    counter!("pennon_searches_total", "way" => "graph").absolute(counters.graph_searches);
    counter!("pennon_searches_total", "way" => "filtered_graph").absolute(counters.filtered_searches);
    counter!("pennon_searches_total", "way" => "scan").absolute(counters.scans);
    counter!("pennon_searches_incomplete_total").absolute(counters.incomplete_searches);
    counter!("pennon_distances_total").absolute(counters.distances);
    counter!("pennon_estimates_total").absolute(counters.estimates);
    counter!("pennon_rows_appended_total").absolute(counters.appended_rows);
    counter!("pennon_rows_deleted_total").absolute(counters.deleted_rows);
    let skipped = counters.skipped;
    counter!("pennon_rows_skipped_total", "reason" => "null").absolute(skipped.null);
    counter!("pennon_rows_skipped_total", "reason" => "null_element").absolute(skipped.null_element);
    counter!("pennon_rows_skipped_total", "reason" => "non_finite").absolute(skipped.non_finite);
    counter!("pennon_rows_skipped_total", "reason" => "zero_norm").absolute(skipped.zero_norm);
    counter!("pennon_writer_waits_total").absolute(counters.writer_waits);
    counter!("pennon_writer_wait_nanoseconds_total").absolute(counters.writer_wait_nanos);
    counter!("pennon_compactions_total").absolute(counters.compactions);
    gauge!("pennon_rows").set(index.len() as f64);
    gauge!("pennon_tombstones").set(index.tombstones() as f64);
    gauge!("pennon_resident_bytes").set(index.resident_bytes() as f64);
}

/// Runs the example.
pub fn main() -> Result<(), Box<dyn Error>> {
    let printed = Printed::default();
    let index = Index::hnsw(2, DistanceType::L2, BuildParams::default())?;
    let mut points: Vec<_> = (0..500_u16).map(|x| Some([Some(f32::from(x)), Some(1.0)])).collect();
    points.push(None);
    index.append(&FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(points, 2), 0)?;
    let ten = SearchParams::new(10);
    for x in 0..20_u8 {
        let _ = index.search(&[f32::from(x), 0.0], &ten)?;
    }
    index.delete_batch(&[1, 2, 3])?;
    let _ = index.search(&[7.0, 0.0], &ten.mask(RowMask::row_id_range(100..103)))?;

    // A service installs its exporter once: `metrics::set_global_recorder`.
    metrics::with_local_recorder(&printed, || export(&index));
    println!("{printed}");
    assert_eq!(printed.value("pennon_searches_total way=graph"), Some(20));
    assert_eq!(printed.value("pennon_searches_total way=scan"), Some(1));
    assert_eq!(printed.value("pennon_rows_skipped_total reason=null"), Some(1));
    assert_eq!(printed.value("pennon_rows"), Some(497));
    Ok(())
}

/// Keeps the last value of each metric, to print it.
#[derive(Default)]
struct Printed(Mutex<BTreeMap<String, Arc<Value>>>);

/// A counter, or a gauge as the bits of an `f64`.
struct Value {
    bits: AtomicU64,
    is_gauge: bool,
}

impl Value {
    fn get(&self) -> u64 {
        let bits = self.bits.load(Ordering::Relaxed);
        if self.is_gauge { f64::from_bits(bits) as u64 } else { bits }
    }
}

impl Printed {
    fn value_of(&self, key: &Key, is_gauge: bool) -> Arc<Value> {
        let labels = key.labels().map(|label| format!(" {}={}", label.key(), label.value()));
        let name: String = [key.name().to_string()].into_iter().chain(labels).collect();
        let mut values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Value { bits: AtomicU64::new(0), is_gauge });
        Arc::clone(values.entry(name).or_insert_with(new))
    }

    fn value(&self, name: &str) -> Option<u64> {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        values.get(name).map(|value| value.get())
    }
}

impl Recorder for Printed {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.value_of(key, false))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.value_of(key, true))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

impl metrics::CounterFn for Value {
    fn increment(&self, by: u64) {
        self.bits.fetch_add(by, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.bits.store(value, Ordering::Relaxed);
    }
}

impl metrics::GaugeFn for Value {
    fn increment(&self, by: f64) {
        self.set(f64::from_bits(self.bits.load(Ordering::Relaxed)) + by);
    }

    fn decrement(&self, by: f64) {
        metrics::GaugeFn::increment(self, -by);
    }

    fn set(&self, value: f64) {
        self.bits.store(value.to_bits(), Ordering::Relaxed);
    }
}

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        values.iter().try_for_each(|(name, value)| writeln!(f, "{name} {}", value.get()))
    }
}
