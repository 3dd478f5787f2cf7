//! The short forms: a restore of one file with the machine of the repository's handle.

use pitr_archive::{Archive, ShipOptions, Shipper};
use pitr_dedup::ChunkStore;
use pitr_format::{Lsn, SourceName, Timestamp, TxId};
use pitr_objects::Objects;
use pitr_recovery::{Error, History, RecoveryTarget, RestoreOptions, Restorer, SingleFile, Target};
use pitr_testkit::PageEngine;
use pitr_vfs::Env;
use std::path::Path;

#[test]
fn every_transaction_is_restored_with_defaults() {
    let dir = tempfile::tempdir().unwrap();
    let mut engine = PageEngine::create(&Env::system(), &dir.path().join("log"), 8, 512, 7);
    let archive = Archive::new(Objects::memory().unwrap(), SourceName::new("app").unwrap());
    let mut shipper = Shipper::claim(&archive, engine.wal(), ShipOptions::default()).unwrap();
    let states: Vec<_> = (0..5)
        .map(|_| {
            let commit = engine.commit();
            (commit, engine.pages().to_vec())
        })
        .collect();
    shipper.ship(engine.wal()).unwrap();

    let history = History::load(archive.objects(), archive.source(), None).unwrap();
    let archived = history.transactions().map(|found| found.unwrap().commit.tx);
    assert!(archived.eq(states.iter().map(|(commit, _)| commit.tx)));
    let chunks = ChunkStore::open(archive.objects().clone()).unwrap();
    let restorer = Restorer::new(&history, &chunks, &SingleFile);
    let restored = |name: &str, target: Target| -> Result<Vec<u8>, Error> {
        let output = dir.path().join(name);
        restorer.restore(&history.plan_for(&target)?, &RestoreOptions::to(&output))?;
        Ok(std::fs::read(&output).unwrap())
    };
    for (commit, pages) in &states {
        // Pages at the end that no transaction wrote are not in the log.
        let bytes = restored(&commit.tx.to_string(), Target::at(commit.tx)).unwrap();
        let (written, rest) = pages.split_at(bytes.len());
        assert!(bytes == written && rest.iter().all(|byte| *byte == 0));
    }
    let last = &states[4].0;
    let (latest, at) = (restored("latest", Target::latest()), restored("at", Target::at(last.lsn)));
    assert_eq!(latest.unwrap(), at.unwrap());
    // The output is never replaced, and no other state takes the place of a missing one.
    assert!(matches!(restored("latest", Target::latest()), Err(Error::Exists { .. })));
    let missing = restored("missing", Target::at(TxId::new(77)));
    assert!(matches!(missing, Err(Error::TargetUnreachable(_))) && !dir.path().join("missing").exists());
}

#[test]
fn a_moment_is_made_from_what_names_it() {
    let (time, lsn, tx) = (Timestamp::from_micros(5), Lsn::new(6), TxId::new(7));
    let id = pitr_snapshot::SnapshotId([8; 16]);
    let targets = [Target::at(time), Target::at(lsn), Target::at(tx), Target::at(id), Target::latest()];
    let moments = [
        RecoveryTarget::Timestamp(time),
        RecoveryTarget::Lsn(lsn),
        RecoveryTarget::Transaction(tx),
        RecoveryTarget::Snapshot(id),
        RecoveryTarget::Latest,
    ];
    assert_eq!(targets.clone().map(|target| target.moment), moments);
    assert!(Target::just_before(tx).exclusive && !targets[2].exclusive);
    let options = RestoreOptions::to("a.db");
    assert_eq!((options.output.as_path(), options.force, options.delta), (Path::new("a.db"), false, false));
}
