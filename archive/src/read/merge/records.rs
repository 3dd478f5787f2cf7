//! The pass over logical records, oldest first: reads the frames that may have some, drops those of
//! aborted, unfinished and later transactions, and passes on the others in LSN order.
//!
//! The first pass knows every commit, so each record is decided at once: no transaction is held in
//! memory. Frames are fetched, verified and decoded on rayon some runs ahead, while the runs before
//! them are passed on. A record that continues in the next frame or object is joined here.

mod extract;
mod join;

use super::logical::Logical;
use super::{Merged, OBJECTS_AHEAD};
use crate::error::{Error, Result};
use crate::history::Piece;
use extract::{Extracted, Run, Source, extract};
use join::Joiner;
use pitr_format::Lsn;
use pitr_objects::parallel;
use pitr_redo::{CommitSpan, LogicalRecord};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Number of frames that are fetched and decoded together: about 2 MiB.
const RUN_FRAMES_MAX: usize = 2;

impl Merged {
    /// Passes every logical record of the span whose transaction committed in it to `each`, in LSN
    /// order. See [`logical`](Self::logical). With threads, `each` is called from one of its own.
    ///
    /// # Errors
    /// Errors of reading, and the first error of `each`.
    pub fn for_each_logical<E>(
        &self,
        mut each: impl FnMut(&LogicalRecord<'_>) -> Result<(), E> + Send,
    ) -> Result<(), E>
    where
        E: From<Error> + Send,
    {
        let (spawn, mut joiner) = (self.archive.spawn(), Joiner::default());
        if spawn.is_inline() {
            self.for_each_extracted(|some| {
                some.into_iter().try_for_each(|run| joiner.take(run, &mut each)).map(|()| true)
            })?;
            return joiner.finish().map_err(E::from);
        }
        let (sender, receiver): (SyncSender<Vec<Extracted>>, Receiver<_>) = sync_channel(1);
        let joining = || -> Result<Joiner, E> {
            for run in receiver.into_iter().flatten() {
                joiner.take(run, &mut each)?;
            }
            Ok(joiner)
        };
        // The receiver is dropped when `each` fails.
        let reading = || self.for_each_extracted::<E>(move |some| Ok(sender.send(some).is_ok()));
        let (joined, read) = spawn.beside(joining, reading);
        let joiner = joined?;
        read?;
        joiner.finish().map_err(E::from)
    }

    /// Passes the records of some runs of frames at a time to `give`, until it returns false.
    fn for_each_extracted<E: From<Error>>(
        &self,
        mut give: impl FnMut(Vec<Extracted>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let (spawn, mut commits) = (self.archive.spawn(), LongCommits::new(&self.logical));
        let ahead = 2 * parallel::threads(spawn);
        for some in self.logical.objects.chunks(OBJECTS_AHEAD) {
            let opened = self.archive.open_all(some.iter().map(|(piece, _)| &piece.name)).map_err(E::from)?;
            let objects = opened.iter().zip(some);
            let sources: Vec<Source<'_>> = objects
                .map(|(object, (piece, _))| {
                    Source::new(object, piece, &self.logical.range, commits.at(piece))
                })
                .collect();
            let runs: Vec<Run<'_>> =
                sources.iter().zip(some).flat_map(|(source, (_, range))| runs(source, range)).collect();
            for some in runs.chunks(ahead) {
                let read = |run: &Run<'_>| {
                    extract(run, &self.archive.frames(run.source.object, run.frames.clone())?)
                };
                if !give(parallel::map::<_, _, Result<_>>(spawn, some, read)?)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The frames of an object that have a range of LSNs.
fn runs<'a>(source: &'a Source<'a>, range: &Range<Lsn>) -> impl Iterator<Item = Run<'a>> {
    let footer = &source.object.footer;
    let first = footer.frame_of(range.start).unwrap_or(0);
    let end = footer.frame_of(range.end.before()).map_or(0, |last| last + 1);
    (first..end).step_by(RUN_FRAMES_MAX).map(move |no| Run {
        source,
        frames: no..end.min(no + RUN_FRAMES_MAX),
        begins: no == first,
    })
}

/// The commits whose transactions began before the object of the commit. Goes through objects in
/// ascending order, and holds those that concern the current one.
struct LongCommits<'a> {
    later: std::iter::Peekable<std::slice::Iter<'a, CommitSpan>>,
    current: Vec<CommitSpan>,
}

impl<'a> LongCommits<'a> {
    fn new(logical: &'a Logical) -> Self {
        LongCommits { later: logical.long.iter().peekable(), current: Vec::new() }
    }

    /// The commits after an object of transactions that began in it or before it.
    fn at(&mut self, piece: &Piece) -> &[CommitSpan] {
        while let Some(span) = self.later.next_if(|span| span.first < piece.name.to) {
            self.current.push(*span);
        }
        self.current.retain(|span| span.commit > piece.from());
        &self.current
    }
}
