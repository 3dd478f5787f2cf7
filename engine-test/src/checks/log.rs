//! What the log of an engine must look like for a restore of blocks.

use crate::lab::Lab;
use crate::writer::{States, Writer};
use crate::{Failure, Rule, Subject, Suite};
use pitr::format::record::Record;
use pitr::format::{FileId, Lsn, PartitionId, Timestamp, TxId};
use pitr::snapshot::FileShape;
use std::collections::BTreeMap;
use std::fmt;

const STEPS: u64 = 20;

/// A record of the log, without its data.
struct Logged {
    lsn: Lsn,
    end: Lsn,
    tx: TxId,
    partition: PartitionId,
    what: What,
}

enum What {
    Image { file: FileId, block: u64, bytes: usize },
    Logical,
    Commit { time: Timestamp },
    Other,
}

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the record at {} of transaction {}", self.lsn, self.tx)?;
        match self.what {
            What::Image { file, block, .. } => write!(f, " (block {block} of file {file})"),
            _ => Ok(()),
        }
    }
}

/// A run, its log and its files.
struct Run {
    records: Vec<Logged>,
    shapes: Vec<FileShape>,
    states: States,
}

fn run<S: Subject>(suite: &Suite<'_, S>, rule: Rule) -> Result<Run, Failure> {
    let lab = Lab::new(suite)?;
    let store = lab.create()?;
    let _holds_the_log = lab.attach(&store)?;
    let mut writer = Writer::new(lab.subject, &store, &lab.env, suite.seed, States::new());
    for step in 1..=STEPS {
        writer.step()?;
        if step % 8 == 0 {
            lab.checkpoint(&store)?;
        }
    }
    let states = std::mem::take(&mut writer.states);
    drop(writer);
    let source =
        lab.subject.begin_snapshot(&store).map_err(|error| Failure::new(rule, "a snapshot", error))?;
    let (wal, mut records) = (lab.subject.wal(&store), Vec::new());
    let scanned = wal.scan(wal.first(), wal.durable()).and_then(|scan| {
        scan.for_each::<pitr::wal::Error>(|record| {
            let what = match Record::decode(record.kind, record.payload) {
                Ok(Record::Image { file, block, data }) => What::Image { file, block, bytes: data.len() },
                Ok(Record::Data(_)) => What::Logical,
                Ok(Record::Commit(commit)) => What::Commit { time: commit.time },
                _ => What::Other,
            };
            let (lsn, end, tx, partition) = (record.lsn, record.end, record.tx, record.partition);
            records.push(Logged { lsn, end, tx, partition, what });
            Ok(())
        })
    });
    scanned.map_err(|error| Failure::new(rule, "reading the log", error))?;
    Ok(Run { records, shapes: source.files(), states })
}

pub(crate) fn whole_blocks<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let rule = Rule::WholeBlocks;
    let (Run { records, shapes, .. }, is_logical) = (run(suite, rule)?, suite.subject.limits().is_logical);
    let mut images = 0;
    for record in &records {
        match record.what {
            What::Image { file, bytes, .. } => {
                images += 1;
                let Some(shape) = shapes.iter().find(|shape| shape.file == file) else {
                    return Err(Failure::new(rule, record, "no snapshot has this file"));
                };
                if shape.block_bytes as usize != bytes {
                    let what = format!("{bytes} bytes; a block of the file has {}", shape.block_bytes);
                    return Err(Failure::new(rule, record, what));
                }
            }
            What::Logical if !is_logical => {
                return Err(Failure::new(
                    rule,
                    record,
                    "only the engine could apply it, and a restore can't",
                ));
            }
            _ => {}
        }
    }
    match images {
        0 if !is_logical => Err(Failure::new(rule, "the log", "it has no image of a block")),
        _ => Ok(()),
    }
}

pub(crate) fn one_partition<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let mut partitions = BTreeMap::new();
    for record in run(suite, Rule::OnePartition)?.records {
        let What::Image { file, block, .. } = record.what else { continue };
        let first = *partitions.entry((file, block)).or_insert(record.partition);
        if first != record.partition {
            let what = format!("it is in partition {}, and an earlier image in {first}", record.partition);
            return Err(Failure::new(Rule::OnePartition, &record, what));
        }
    }
    Ok(())
}

pub(crate) fn commits<S: Subject>(suite: &Suite<'_, S>) -> Result<(), Failure> {
    let Run { records, states, .. } = run(suite, Rule::Commits)?;
    for committed in states.iter().filter_map(|state| state.committed) {
        let is_there = records.iter().any(|record| {
            let is_it = record.tx == committed.tx && record.end == committed.lsn;
            is_it && matches!(record.what, What::Commit { time } if time == committed.time)
        });
        if !is_there {
            let place = format!("transaction {}", committed.tx);
            let what =
                format!("the log has no commit of it at {} with the time {}", committed.lsn, committed.time);
            return Err(Failure::new(Rule::Commits, place, what));
        }
    }
    Ok(())
}
