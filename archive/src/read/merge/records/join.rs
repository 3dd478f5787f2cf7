//! Joins the parts of records, and checks that nothing is missing.

use super::extract::{Extracted, Head};
use crate::error::Error;
use pitr_format::Lsn;
use pitr_format::log::Part;
use pitr_objects::layout::LogName;
use pitr_redo::LogicalRecord;
use std::cmp::Ordering;

/// Takes extracted records in LSN order.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    /// The current object; `None` before the first.
    object: Option<LogName>,
    /// Records that the object's footer lists and that were not passed on yet.
    listed: std::vec::IntoIter<Lsn>,
    /// A record whose last part is still to come.
    open: Option<(Head, Vec<u8>)>,
}

impl Joiner {
    /// Passes on the records that end in the next run of frames.
    pub(super) fn take<E: From<Error>>(
        &mut self,
        run: Extracted,
        each: &mut dyn FnMut(&LogicalRecord<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if let Some(listed) = run.listed {
            self.check_listed()?;
            (self.object, self.listed) = (Some(run.object), listed.into_iter());
        }
        let mut rest = run.bytes.as_slice();
        for head in run.heads {
            let (bytes, later) = rest.split_at(head.len); // the bytes have all parts
            rest = later;
            match head.part {
                Part::Full => {
                    self.check_whole()?;
                    self.give(&head, bytes, each)?;
                }
                Part::First => {
                    self.check_whole()?;
                    self.open = Some((head, bytes.to_vec()));
                }
                Part::Middle | Part::Last => self.add(&head, bytes, each)?,
            }
        }
        Ok(())
    }

    /// Adds a later part of a record.
    fn add<E: From<Error>>(
        &mut self,
        head: &Head,
        bytes: &[u8],
        each: &mut dyn FnMut(&LogicalRecord<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        // Without a first part, the record began before the span: the base has it.
        let Some((first, mut joined)) = self.open.take() else { return Ok(()) };
        joined.extend_from_slice(bytes);
        let continues =
            (first.tx, first.partition, first.total_len) == (head.tx, head.partition, head.total_len);
        match (head.part, joined.len().cmp(&first.total_len)) {
            (Part::Last, Ordering::Equal) if continues => self.give(&first, &joined, each),
            (Part::Middle, Ordering::Less) if continues => {
                self.open = Some((first, joined));
                Ok(())
            }
            _ => Err(self.missing(first.lsn).into()),
        }
    }

    fn give<E>(
        &mut self,
        head: &Head,
        payload: &[u8],
        each: &mut dyn FnMut(&LogicalRecord<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.listed.as_slice().first() == Some(&head.lsn) {
            self.listed.next();
        }
        let Head { lsn, commit, tx, partition, .. } = *head;
        each(&LogicalRecord { lsn, commit, tx, partition, payload })
    }

    /// Fails if a record is incomplete or missing after the last run.
    pub(super) fn finish(&self) -> Result<(), Error> {
        self.check_whole()?;
        self.check_listed()
    }

    fn check_whole(&self) -> Result<(), Error> {
        self.open.as_ref().map_or(Ok(()), |(first, _)| Err(self.missing(first.lsn)))
    }

    fn check_listed(&self) -> Result<(), Error> {
        self.listed.as_slice().first().map_or(Ok(()), |lsn| Err(self.missing(*lsn)))
    }

    fn missing(&self, lsn: Lsn) -> Error {
        match self.object {
            Some(object) => Error::Index { object, lsn },
            None => Error::WalGap { from: lsn, to: lsn },
        }
    }
}
