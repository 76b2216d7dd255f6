//! The stage histograms of `/metrics`, as they grew between two readings.

use std::collections::BTreeMap;

/// Per stage: cumulative counts by upper bound in seconds, and the sum.
#[derive(Clone, Debug, Default)]
pub struct Stages(BTreeMap<String, Stage>);

#[derive(Clone, Debug, Default)]
struct Stage {
    buckets: Vec<(f64, f64)>,
    sum: f64,
}

impl Stages {
    /// Reads the text of `/metrics`.
    pub fn read(metrics: &str) -> Self {
        let mut stages = Self::default();
        for line in metrics.lines() {
            let Some(rest) = line.strip_prefix("pinhole_stage_seconds_") else {
                continue;
            };
            let label = |name: &str| {
                let (_, rest) = rest.split_once(&format!("{name}=\""))?;
                rest.split_once('"').map(|(value, _)| value)
            };
            let value = rest.rsplit(' ').next().and_then(|v| v.parse().ok());
            let (Some(name), Some(value)) = (label("stage"), value) else {
                continue;
            };
            let stage = stages.0.entry(name.to_owned()).or_default();
            if rest.starts_with("sum") {
                stage.sum = value;
            } else if rest.starts_with("bucket") {
                let bound = label("le").and_then(|le| le.parse().ok());
                stage.buckets.push((bound.unwrap_or(f64::INFINITY), value));
            }
        }
        stages
    }

    /// Mean, and the share of all pictures that `shares` name, in milliseconds: as Prometheus'
    /// `histogram_quantile`, evenly spread within a bucket.
    pub fn figures(&self, before: &Self, stage: &str, shares: [f64; 2]) -> Option<(f64, [f64; 2])> {
        let now = self.0.get(stage)?;
        let before = before.0.get(stage).cloned().unwrap_or_default();
        let old = |n: usize| before.buckets.get(n).map_or(0.0, |bucket| bucket.1);
        let grown: Vec<(f64, f64)> = now
            .buckets
            .iter()
            .enumerate()
            .map(|(n, (bound, count))| (*bound, count - old(n)))
            .collect();
        let total = grown.last()?.1;
        if total == 0.0 {
            return None;
        }
        let quantile = |share: f64| {
            let wanted = total * share;
            let at = grown.iter().position(|(_, count)| *count >= wanted);
            let at = at.unwrap_or(grown.len() - 1);
            let (from, less) = at.checked_sub(1).map_or((0.0, 0.0), |n| grown[n]);
            let (to, count) = grown[at];
            if to.is_infinite() || count <= less {
                return from * 1e3;
            }
            (from + (to - from) * (wanted - less) / (count - less)) * 1e3
        };
        Some(((now.sum - before.sum) / total * 1e3, shares.map(quantile)))
    }
}
