//! The machine of a check, its repository, and a store on it.

use crate::{Failure, Limits, Rows, Rule, Subject, Suite};
use pitr::codec::Codec;
use pitr::format::{SourceName, Timestamp};
use pitr::objects::{Location, Objects};
use pitr::recovery::Target;
use pitr::vfs::Env;
use pitr::vfs::sim::{SimClock, SimFs};
use pitr::{AttachOptions, Attached, Pitr};
use std::path::Path;
use std::sync::Arc;

/// Folder of the store.
pub(crate) const STORE: &str = "/store";

pub(crate) struct Lab<'t, S: Subject> {
    pub(crate) subject: &'t S,
    pub(crate) fs: SimFs,
    pub(crate) env: Env,
    pub(crate) pitr: Pitr,
    pub(crate) source: SourceName,
}

/// A simulated machine with this disk.
pub(crate) fn machine(fs: &SimFs, seed: u64) -> Env {
    Env::simulated(Arc::new(fs.clone()), clock(), seed)
}

fn clock() -> Arc<SimClock> {
    Arc::new(SimClock::new(Timestamp::from_micros(1_000_000)))
}

impl<'t, S: Subject> Lab<'t, S> {
    /// Everything in one thread.
    pub(crate) fn new(suite: &Suite<'t, S>) -> Result<Self, Failure> {
        let fs = SimFs::new();
        let env = machine(&fs, suite.seed);
        Self::on(suite, fs, env)
    }

    /// A simulated disk, and threads.
    pub(crate) fn threaded(suite: &Suite<'t, S>) -> Result<Self, Failure> {
        let fs = SimFs::new();
        let env = Env::system().with_fs(Arc::new(fs.clone())).with_clock(clock());
        Self::on(suite, fs, env)
    }

    fn on(suite: &Suite<'t, S>, fs: SimFs, env: Env) -> Result<Self, Failure> {
        let Limits { keys, value_bytes, .. } = suite.subject.limits();
        if keys < 8 || value_bytes < 9 {
            let what = "at least 8 keys and values of 9 bytes are needed";
            return Err(Failure::new(Rule::Exact, "the limits of the subject", what));
        }
        let opened = || -> pitr::Result<Pitr> {
            let objects = Objects::open(&Location::Memory, &env)?;
            objects.init_repository(env.clock.now())?;
            let mut pitr = Pitr::with_objects(objects, Codec::default())?;
            pitr.register_default(suite.subject.engine())?;
            Ok(pitr)
        };
        let pitr = opened().map_err(|error| Failure::new(Rule::Exact, "registering the engine", error))?;
        let source =
            SourceName::from_lossy("suite").ok_or_else(|| Failure::new(Rule::Exact, "", "no name"))?;
        Ok(Lab { subject: suite.subject, fs, env, pitr, source })
    }

    pub(crate) fn create(&self) -> Result<S::Store, Failure> {
        let created = self.subject.create(&self.env, Path::new(STORE));
        created.map_err(|error| Failure::new(Rule::Durable, "creating a store", error))
    }

    pub(crate) fn reopen(&self) -> Result<S::Store, Failure> {
        let opened = self.subject.open(&self.env, Path::new(STORE));
        opened.map_err(|error| Failure::new(Rule::Durable, "opening a store after a clean end", error))
    }

    pub(crate) fn checkpoint(&self, store: &S::Store) -> Result<(), Failure> {
        self.subject.checkpoint(store).map_err(|error| Failure::new(Rule::Durable, "a checkpoint", error))
    }

    /// Archives the log of a store, when asked.
    pub(crate) fn attach(&self, store: &S::Store) -> Result<Attached, Failure> {
        let options = AttachOptions::new(self.subject.engine().name()).ship_every(None);
        let attached = self.pitr.attach(self.subject.wal(store), &self.source, options);
        attached.map_err(|error| failed(Rule::Exact, "archiving the log", &error))
    }

    /// Restores to a path, and returns the rows of the result and its last transaction.
    pub(crate) fn restore(&self, target: &Target, output: &str, rule: Rule) -> Result<(Rows, u64), Failure> {
        let place = format!("the restore to {target}");
        let restored = self.pitr.restore_to(&self.source, target, output);
        let restored = restored.map_err(|error| failed(rule, &place, &error))?;
        let store = self.subject.open(&self.env, Path::new(output));
        let rows = store.and_then(|store| self.subject.rows(&store));
        Ok((rows.map_err(|error| Failure::new(rule, &place, error))?, restored.reached().tx.get()))
    }

    pub(crate) fn rows(&self, store: &S::Store, rule: Rule, place: &str) -> Result<Rows, Failure> {
        self.subject.rows(store).map_err(|error| Failure::new(rule, place, error))
    }
}

/// The rule that an error of the library shows.
pub(crate) fn failed(rule: Rule, place: &str, error: &pitr::Error) -> Failure {
    use pitr::archive::Error::Logical;
    let rule = match error {
        pitr::Error::Archive(Logical { .. })
        | pitr::Error::Recovery(pitr::recovery::Error::Archive(Logical { .. })) => Rule::WholeBlocks,
        _ => rule,
    };
    Failure::new(rule, place, error)
}
