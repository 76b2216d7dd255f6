//! Where pictures come from: each camera has one running source, a task or thread of its own.
//!
//! In: a checked camera, demands. Out: [`SourceEvent`]s over a bounded channel.
//! Not here: who watches (gateway), fan-out (hub).

pub mod encode;
pub mod pattern;

use tokio::sync::mpsc;

use crate::media::{CameraId, Demand, SourceEvent};

/// What the loop receives from all sources.
pub type Events = mpsc::Receiver<(CameraId, SourceEvent)>;

/// The loop's end of one source. Dropping it stops the source.
#[derive(Debug)]
pub struct SourceHandle {
    demands: mpsc::UnboundedSender<Demand>,
}

impl SourceHandle {
    /// Passes a demand on. A source that is gone takes none.
    pub fn demand(&self, demand: Demand) {
        let _ = self.demands.send(demand);
    }
}
