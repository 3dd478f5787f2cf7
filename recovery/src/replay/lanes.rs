//! The workers of a replay, and the commands on their way to them.

use super::at;
use crate::error::{Error, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use pitr_format::{Lsn, PartitionId, Severity, TxId};
use pitr_redo::{LogicalRecord, Redo};
use pitr_vfs::Spawn;
use std::sync::{Mutex, PoisonError};

/// Size at which commands go to their worker, bytes.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait for a worker. It has another one, and one is being filled: 4 MiB.
const CHUNKS_AHEAD: usize = 14;

/// What a worker does next.
pub(super) enum Command {
    Begin {
        partition: PartitionId,
        lsn: Lsn,
    },
    /// The payload is the next `len` bytes of the chunk.
    Apply {
        partition: PartitionId,
        lsn: Lsn,
        commit: Lsn,
        tx: TxId,
        len: usize,
    },
    End {
        partition: PartitionId,
        upto: Lsn,
    },
    /// All commands before it are done.
    Arrived(Sender<()>),
}

/// Commands and the payloads of their records.
#[derive(Default)]
struct Chunk {
    commands: Vec<Command>,
    payloads: Vec<u8>,
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.payloads.len() + self.commands.len() * size_of::<Command>() >= CHUNK_BYTES
    }
}

struct Lane {
    sender: Sender<Chunk>,
    filling: Chunk,
}

/// The workers. With one, its commands are carried out at once.
pub(super) struct Lanes<'a> {
    redo: &'a dyn Redo,
    lanes: Vec<Lane>,
}

/// Calls `own` with this number of workers, and returns when all of them have ended. The first
/// error of a worker ends the others.
pub(super) fn with<T>(
    redo: &dyn Redo,
    spawn: Spawn,
    workers: usize,
    own: impl FnOnce(Lanes<'_>) -> Result<T>,
) -> Result<T> {
    if workers <= 1 {
        return own(Lanes { redo, lanes: Vec::new() });
    }
    let failed = Mutex::new(None);
    let (mut lanes, mut receivers) = (Vec::new(), Vec::new());
    for _ in 0..workers {
        let (sender, receiver) = bounded(CHUNKS_AHEAD);
        lanes.push(Lane { sender, filling: Chunk::default() });
        receivers.push(receiver);
    }
    let (mut own, mut done) = (Some((own, lanes)), None);
    beside(spawn, receivers, &|receiver| work(redo, receiver, &failed), &mut || {
        done = own.take().map(|(own, lanes)| own(Lanes { redo, lanes }));
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    match (failed, done) {
        (Some(error), _) => Err(error),
        (None, Some(done)) => done,
        (None, None) => Err(stopped()),
    }
}

/// Runs one worker for each receiver, and `own` in the calling thread.
fn beside(
    spawn: Spawn,
    mut receivers: Vec<Receiver<Chunk>>,
    work: &(dyn Fn(Receiver<Chunk>) + Sync),
    own: &mut dyn FnMut(),
) {
    match receivers.pop() {
        None => own(),
        Some(receiver) => drop(spawn.beside(move || work(receiver), || beside(spawn, receivers, work, own))),
    }
}

/// The work of one worker: until there are no more commands, or the first error. The receiver is
/// dropped after the error is stated.
fn work(redo: &dyn Redo, receiver: Receiver<Chunk>, failed: &Mutex<Option<Error>>) {
    for chunk in &receiver {
        if let Err(error) = carry_out(redo, chunk) {
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            return;
        }
    }
}

fn carry_out(redo: &dyn Redo, chunk: Chunk) -> Result<()> {
    let mut rest = chunk.payloads.as_slice();
    for command in chunk.commands {
        match command {
            Command::Apply { partition, lsn, commit, tx, len } => {
                let (payload, later) = rest.split_at(len); // the chunk has all payloads
                rest = later;
                let record = LogicalRecord { lsn, commit, tx, partition, payload };
                redo.apply(&record).map_err(at(partition, lsn))?;
            }
            Command::Begin { partition, lsn } => redo.begin(partition).map_err(at(partition, lsn))?,
            Command::End { partition, upto } => redo.end(partition, upto).map_err(at(partition, upto))?,
            // Nobody waits if the replay has failed.
            Command::Arrived(sender) => drop(sender.send(())),
        }
    }
    Ok(())
}

/// A worker ended early, and its error is reported in place of this one.
fn stopped() -> Error {
    Error::engine(Severity::Fatal, "a worker of the replay ended early")
}

impl Lanes<'_> {
    /// Number of workers.
    pub(super) fn count(&self) -> usize {
        self.lanes.len().max(1)
    }

    /// Gives a record to a worker.
    pub(super) fn apply(&mut self, lane: usize, record: &LogicalRecord<'_>) -> Result<()> {
        let LogicalRecord { lsn, commit, tx, partition, payload } = *record;
        match self.lanes.get_mut(lane) {
            None => self.redo.apply(record).map_err(at(partition, lsn)),
            Some(to) => {
                to.filling.payloads.extend_from_slice(payload);
                self.give(lane, Command::Apply { partition, lsn, commit, tx, len: payload.len() })
            }
        }
    }

    /// Gives a command to a worker.
    pub(super) fn give(&mut self, lane: usize, command: Command) -> Result<()> {
        match self.lanes.get_mut(lane) {
            None => carry_out(self.redo, Chunk { commands: vec![command], payloads: Vec::new() }),
            Some(to) => {
                to.filling.commands.push(command);
                if to.filling.is_full() { to.send() } else { Ok(()) }
            }
        }
    }

    /// Waits until all workers have carried out everything that they were given.
    pub(super) fn drain(&mut self) -> Result<()> {
        let (sender, arrived) = bounded(self.lanes.len());
        for lane in &mut self.lanes {
            lane.filling.commands.push(Command::Arrived(sender.clone()));
            lane.send()?;
        }
        drop(sender);
        let waited = self.lanes.iter().try_for_each(|_| arrived.recv());
        waited.map_err(|_| stopped())
    }

    /// Gives the workers the rest.
    pub(super) fn finish(mut self) -> Result<()> {
        self.lanes.iter_mut().try_for_each(Lane::send)
    }
}

impl Lane {
    fn send(&mut self) -> Result<()> {
        let chunk = std::mem::take(&mut self.filling);
        self.sender.send(chunk).map_err(|_| stopped())
    }
}
