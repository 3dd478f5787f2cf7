//! Packs that are being filled: at most as many as there are threads that compress.

use crate::pack::OpenPack;
use crate::{Error, Result};
use std::sync::{Condvar, Mutex, PoisonError};

/// A fixed number of slots, each with an open pack or empty. A caller without a free slot waits. So
/// the number of slots bounds the memory, however many callers there are. The slot that was used
/// last is taken first: a single caller fills one pack.
#[derive(Debug)]
pub(crate) struct OpenPacks {
    free: Mutex<Vec<Option<OpenPack>>>,
    returned: Condvar,
}

impl OpenPacks {
    pub(crate) fn new(slots: usize) -> Self {
        let free = std::iter::repeat_with(|| None).take(slots).collect();
        OpenPacks { free: Mutex::new(free), returned: Condvar::new() }
    }

    /// Waits for a free slot and takes it.
    pub(crate) fn slot(&self) -> Result<Slot<'_>> {
        let free = self.free.lock().map_err(|_| Error::Died)?;
        let mut free = self.returned.wait_while(free, |free| free.is_empty()).map_err(|_| Error::Died)?;
        Ok(Slot { pack: free.pop().flatten(), of: self })
    }

    /// Takes the packs out of all slots that are free now.
    pub(crate) fn take(&self) -> Result<Vec<OpenPack>> {
        let mut free = self.free.lock().map_err(|_| Error::Died)?;
        Ok(free.iter_mut().filter_map(Option::take).collect())
    }
}

/// A slot of one caller. On drop the slot returns to the others, with its pack.
#[derive(Debug)]
pub(crate) struct Slot<'o> {
    pub(crate) pack: Option<OpenPack>,
    of: &'o OpenPacks,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.of.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.pack.take());
        self.of.returned.notify_one();
    }
}
