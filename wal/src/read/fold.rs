//! A pass over a range of the log by several threads.
//!
//! Each segment is read, verified and folded on its own; the results are joined in the order of the
//! log. At most a few segments for each thread are in flight, which bounds the mapped memory and
//! the results that wait to be joined.

use super::log_scan::{LogScan, Seams};
use crate::{Error, Result};
use pitr_format::log::{SegmentHeader, WholeRecord};
use rayon::prelude::*;

/// Segments in flight for each thread.
const AHEAD: usize = 8;

impl LogScan {
    /// Folds the records that start in each segment into a value made by `new`, and joins the
    /// values by `merge` in the order of the log. `merge` must be associative: then any number of
    /// threads gives the same result (law 6). Runs in the caller's rayon pool. `None` for an empty
    /// range. Records are those of [`LogScan::for_each`]; of several errors the first in the log is
    /// returned.
    pub fn fold<T, E>(
        &self,
        new: impl Fn(&SegmentHeader) -> T + Sync,
        each: impl Fn(&mut T, &WholeRecord<'_>) -> Result<(), E> + Sync,
        merge: impl Fn(T, T) -> T,
    ) -> Result<Option<T>, E>
    where
        T: Send,
        E: From<Error> + Send,
    {
        let (mut seams, mut whole) = (Seams::default(), None);
        let ahead = AHEAD * rayon::current_num_threads();
        for begin in (0..self.len()).step_by(ahead) {
            let wave = begin..self.len().min(begin + ahead);
            let one = |nth: usize| {
                let mut part = new(self.pieces()[nth].header());
                let seam = self.visit(nth, |record| each(&mut part, record))?;
                Ok((part, seam))
            };
            let parts: Vec<Result<_, E>> = wave.clone().into_par_iter().with_max_len(1).map(one).collect();
            for (nth, part) in wave.zip(parts) {
                let (part, seam) = part?;
                seams.join(&self.pieces()[nth], seam)?;
                whole = Some(match whole {
                    Some(before) => merge(before, part),
                    None => part,
                });
            }
        }
        Ok(whole)
    }
}
