//! Packs that are being filled: as many as there are threads that compress.

use crate::pack::OpenPack;
use crate::{Error, Result};
use std::sync::{Condvar, Mutex, PoisonError};

/// A fixed number of places, each with a pack or with none yet. Whoever finds no place free waits for one: so memory is what the
/// places take, however many callers there are. The place that was used last is taken first: a single caller fills one pack.
#[derive(Debug)]
pub(crate) struct Filling {
    free: Mutex<Vec<Option<OpenPack>>>,
    came_back: Condvar,
}

impl Filling {
    pub(crate) fn new(places: usize) -> Self {
        let free = std::iter::repeat_with(|| None).take(places).collect();
        Filling { free: Mutex::new(free), came_back: Condvar::new() }
    }

    /// A place for its holder alone, once one is free.
    pub(crate) fn place(&self) -> Result<Place<'_>> {
        let free = self.free.lock().map_err(|_| Error::Died)?;
        let mut free = self.came_back.wait_while(free, |free| free.is_empty()).map_err(|_| Error::Died)?;
        Ok(Place { pack: free.pop().flatten(), of: self })
    }

    /// Takes the packs out of all places that are free now.
    pub(crate) fn take(&self) -> Result<Vec<OpenPack>> {
        let mut free = self.free.lock().map_err(|_| Error::Died)?;
        Ok(free.iter_mut().filter_map(Option::take).collect())
    }
}

/// What is in here when it is dropped is what the next one finds.
#[derive(Debug)]
pub(crate) struct Place<'f> {
    pub(crate) pack: Option<OpenPack>,
    of: &'f Filling,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.of.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.pack.take());
        self.of.came_back.notify_one();
    }
}
