//! Reads a source while worker threads process the extents already read.
//!
//! Some threads read stretches of a few extents, one after the other, into a fixed number of
//! buffers. The disk therefore always has a next request. One of these threads reads and cuts a
//! file without blocks. As many workers as rayon has threads process the extents. The caller
//! receives the results, in any order, together with the bytes. A buffer is reused once the caller
//! has received all its extents. So the source never waits for a processor, and the buffers bound
//! the memory.

use crate::cut::Cutter;
use crate::shape::{EXTENT_BYTES, extents};
use crate::{BlockSource, Error, FileShape, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use pitr_vfs::{Buffer, Spawn};
use std::iter::repeat_n;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Extents per stretch: 4 MiB are one request to the disk (`pitr_vfs::Buffer`).
const STRETCH_EXTENTS: u64 = 4;
/// Number of stretches read ahead per worker thread.
const AHEAD: usize = 4;
/// Number of reader threads. If the workers leave no core idle, a reader waits for its turn.
/// `docs/choices.md` has the measured alternatives.
const READERS: usize = 4;

/// An extent of a source.
#[derive(Debug)]
pub(crate) struct Extent<'a> {
    pub(crate) shape: &'a FileShape,
    /// Index of the shape among those of the source.
    pub(crate) file: usize,
    pub(crate) number: u64,
    /// The buffer of the whole stretch, and the extent's range in it.
    stretch: Arc<Buffer>,
    range: Range<usize>,
}

impl Extent<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.stretch[self.range.clone()]
    }
}

/// Extents of a file that are read together; all extents of a file without blocks.
#[derive(Debug, Clone, Copy)]
struct Stretch<'a> {
    file: usize,
    shape: &'a FileShape,
    first: u64,
    count: u64,
}

/// Reads the wanted extents of these files, runs `work` on each, and passes the result to `take`.
///
/// `wanted` receives the index of a file and the number of an extent. A file without blocks is read
/// whole if its extent 0 is wanted.
pub(crate) fn each_extent<T: Send>(
    spawn: Spawn,
    source: &dyn BlockSource,
    shapes: &[FileShape],
    wanted: impl Fn(usize, u64) -> bool + Sync,
    work: impl Fn(&Extent<'_>) -> Result<T> + Sync,
    mut take: impl FnMut(&Extent<'_>, T) -> Result<()>,
) -> Result<()> {
    if spawn.is_inline() {
        return each_extent_inline(source, shapes, &wanted, work, take);
    }
    let workers = rayon::current_num_threads();
    let buffers = workers * AHEAD;
    let (give_back, empty) = bounded(buffers);
    let extents = buffers * STRETCH_EXTENTS as usize;
    let (read, to_do) = bounded(extents);
    let (done, results) = bounded(extents);
    for _ in 0..buffers {
        let _ = give_back.send(Buffer::default()); // the channel has room for all of them
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (read, empty) = (read, empty);
            read_all(source, shapes, &wanted, &stop, &empty, &read);
        });
        for _ in 0..workers {
            let (to_do, done, work, stop) = (to_do.clone(), done.clone(), &work, &stop);
            scope.spawn(move || {
                for extent in to_do {
                    let result = extent.and_then(|extent| {
                        let goes_on = !stop.load(Ordering::Relaxed);
                        let worked = if goes_on { Some(work(&extent)?) } else { None };
                        Ok((extent, worked))
                    });
                    let _ = done.send(result); // the caller receives until the end
                }
            });
        }
        drop((to_do, done));
        let give_back = give_back; // dropped when this closure ends, which also ends the readers
        let mut outcome = Ok(());
        for result in results {
            let taken = result.and_then(|(extent, worked)| {
                if let (Some(worked), true) = (worked, outcome.is_ok()) {
                    take(&extent, worked)?;
                }
                Ok(extent)
            });
            match taken {
                // The last extent of a stretch returns the buffer.
                Ok(extent) => drop(Arc::into_inner(extent.stretch).map(|buffer| give_back.try_send(buffer))),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    outcome = outcome.and(Err(error));
                    // The error dropped the buffer. A reader must not wait for it, so return
                    // another one.
                    let _ = give_back.try_send(Buffer::default());
                }
            }
        }
        outcome
    })
}

/// Does the same in the calling thread, extent by extent in order.
fn each_extent_inline<T>(
    source: &dyn BlockSource,
    shapes: &[FileShape],
    wanted: &(impl Fn(usize, u64) -> bool + Sync),
    work: impl Fn(&Extent<'_>) -> Result<T>,
    mut take: impl FnMut(&Extent<'_>, T) -> Result<()>,
) -> Result<()> {
    let mut outcome = Ok(());
    let send = |extent: Result<Extent<'_>>| {
        outcome = extent.and_then(|extent| take(&extent, work(&extent)?));
        outcome.is_ok().then_some(())
    };
    let mut reader = Reader { source, room: || Some(Buffer::default()), send };
    shapes
        .iter()
        .enumerate()
        .flat_map(|(file, shape)| stretches(file, shape, wanted))
        .try_for_each(|stretch| reader.stretch(stretch));
    outcome
}

/// Reads all files. The last one is read after all others.
fn read_all<'a>(
    source: &dyn BlockSource,
    shapes: &'a [FileShape],
    wanted: &(impl Fn(usize, u64) -> bool + Sync),
    stop: &AtomicBool,
    empty: &Receiver<Buffer>,
    read: &Sender<Result<Extent<'a>>>,
) {
    let numbered: Vec<(usize, &FileShape)> = shapes.iter().enumerate().collect();
    let (others, last) = numbered.split_at(numbered.len().saturating_sub(1));
    for files in [others, last] {
        let next = Mutex::new(files.iter().flat_map(|(file, shape)| stretches(*file, shape, wanted)));
        std::thread::scope(|scope| {
            for _ in 0..READERS {
                scope.spawn(|| {
                    let room = || empty.recv().ok().filter(|_| !stop.load(Ordering::Relaxed));
                    let mut reader = Reader { source, room, send: |extent| read.send(extent).ok() };
                    loop {
                        let next = next.lock().map_or(None, |mut next| next.next());
                        let Some(stretch) = next else { return };
                        if reader.stretch(stretch).is_none() {
                            return;
                        }
                    }
                });
            }
        });
    }
}

/// The stretches of a file that hold wanted extents.
fn stretches<'a>(
    file: usize,
    shape: &'a FileShape,
    wanted: &impl Fn(usize, u64) -> bool,
) -> impl Iterator<Item = Stretch<'a>> {
    let is_wanted = move |extent: &u64| wanted(file, *extent);
    let all = if shape.has_blocks() { extents(shape.len) } else { 1 };
    let mut next = 0;
    std::iter::from_fn(move || {
        let first = (next..all).find(is_wanted)?;
        let count = (first..all.min(first + STRETCH_EXTENTS)).take_while(is_wanted).count() as u64;
        next = first + count;
        Some(Stretch { file, shape, first, count })
    })
}

/// Reads extents into the buffers that `room` returns, and passes them to `send`. `room` and `send`
/// return `None` when no more extents are wanted; then the methods return `None` too.
struct Reader<'r, Room, Sink> {
    source: &'r dyn BlockSource,
    room: Room,
    send: Sink,
}

impl<'a, Room, Sink> Reader<'_, Room, Sink>
where
    Room: FnMut() -> Option<Buffer>,
    Sink: FnMut(Result<Extent<'a>>) -> Option<()>,
{
    fn stretch(&mut self, stretch: Stretch<'a>) -> Option<()> {
        if stretch.shape.has_blocks() { self.read(stretch) } else { self.cut(stretch) }
    }

    fn read(&mut self, stretch: Stretch<'a>) -> Option<()> {
        let Stretch { file, shape, first, count } = stretch;
        let mut bytes = (self.room)()?;
        // No overflow: the extents are within the file's length, which is bounded.
        let (offset, end) = (first * EXTENT_BYTES, ((first + count) * EXTENT_BYTES).min(shape.len));
        let len = (end - offset) as usize;
        bytes.set_len(len);
        if let Err(source) = self.source.read_at(shape.file, offset, &mut bytes) {
            return (self.send)(Err(Error::Source { file: shape.file, offset, source }));
        }
        // Only the extents hold the buffer after the last of them is sent.
        for (nth, stretch) in repeat_n(Arc::new(bytes), count as usize).enumerate() {
            let start = nth * EXTENT_BYTES as usize;
            let range = start..len.min(start + EXTENT_BYTES as usize);
            (self.send)(Ok(Extent { shape, file, number: first + nth as u64, stretch, range }))?;
        }
        Some(())
    }

    fn cut(&mut self, Stretch { file, shape, .. }: Stretch<'a>) -> Option<()> {
        let mut cutter = Cutter::new(self.source, shape);
        for number in 0.. {
            if cutter.is_done() {
                break;
            }
            let mut bytes = (self.room)()?;
            let extent = cutter.next_into(&mut bytes).map(|()| {
                let range = 0..bytes.len();
                Extent { shape, file, number, stretch: Arc::new(bytes), range }
            });
            let has_failed = extent.is_err();
            (self.send)(extent)?;
            if has_failed {
                return None; // the next cut is unknown
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BoxError;
    use crate::shape::extent_len;
    use pitr_format::FileId;

    const BOTH: [Spawn; 2] = [Spawn::Threads, Spawn::Inline];

    /// Every byte holds the number of its extent. The file ends in the middle of the last extent.
    /// One extent cannot be read.
    struct Numbered {
        extents: u64,
        broken: Option<u64>,
    }

    impl BlockSource for Numbered {
        fn files(&self) -> Vec<FileShape> {
            let len = self.extents * EXTENT_BYTES - EXTENT_BYTES / 2;
            vec![FileShape { file: FileId::FIRST, name: "numbered".to_owned(), len, block_bytes: 4096 }]
        }

        fn read_at(&self, _: FileId, offset: u64, buf: &mut [u8]) -> std::result::Result<(), BoxError> {
            for (extent, bytes) in (offset / EXTENT_BYTES..).zip(buf.chunks_mut(EXTENT_BYTES as usize)) {
                if self.broken == Some(extent) {
                    return Err("broken".into());
                }
                bytes.fill(extent as u8);
            }
            Ok(())
        }
    }

    fn run(spawn: Spawn, source: &Numbered, fails: Option<u64>, refuses: Option<u64>) -> Result<Vec<u64>> {
        let mut seen = Vec::new();
        let fail = |at: Option<u64>, extent: &Extent<'_>| match at == Some(extent.number) {
            true => Err(Error::Died),
            false => Ok(()),
        };
        let shapes = source.files();
        let work = |extent: &Extent<'_>| fail(fails, extent).map(|()| extent.bytes()[0]);
        let all = |_, _| true;
        let done = each_extent(spawn, source, &shapes, all, work, |extent, first| {
            fail(refuses, extent)?;
            assert!(extent.bytes().iter().all(|byte| *byte == first) && first == extent.number as u8);
            assert_eq!(extent.bytes().len(), extent_len(extent.shape.len, extent.number));
            seen.push(extent.number);
            Ok(())
        });
        seen.sort_unstable();
        done.map(|()| seen)
    }

    #[test]
    fn every_extent_is_delivered_once() {
        let source = Numbered { extents: 50, broken: None };
        for spawn in BOTH {
            assert_eq!(run(spawn, &source, None, None).unwrap(), (0..50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn unwanted_extents_are_not_read() {
        let broken = |at| Numbered { extents: 30, broken: Some(at) };
        for (at, spawn) in [0, 1, 14, 29].into_iter().flat_map(|at| BOTH.map(|spawn| (at, spawn))) {
            let (source, mut seen) = (broken(at), Vec::new());
            let wanted = |_, extent| extent != at && extent % 7 != 2;
            each_extent(
                spawn,
                &source,
                &source.files(),
                wanted,
                |_| Ok(()),
                |extent, ()| {
                    seen.push(extent.number);
                    Ok(())
                },
            )
            .unwrap();
            seen.sort_unstable();
            assert_eq!(seen, (0..30).filter(|extent| wanted(0, *extent)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn any_failure_ends_the_pipeline() {
        for (at, spawn) in [0, 1, 25, 49].into_iter().flat_map(|at| BOTH.map(|spawn| (at, spawn))) {
            let source = Numbered { extents: 50, broken: None };
            assert!(matches!(run(spawn, &source, Some(at), None), Err(Error::Died)));
            assert!(matches!(run(spawn, &source, None, Some(at)), Err(Error::Died)));
            let source = Numbered { extents: 50, broken: Some(at) };
            let stretch = at / STRETCH_EXTENTS * STRETCH_EXTENTS * EXTENT_BYTES;
            assert!(
                matches!(run(spawn, &source, None, None), Err(Error::Source { offset, .. }) if offset == stretch)
            );
        }
    }
}
