//! Power loss during puts into a folder: every cut of a recorded run, in every survival mode.

use pitr_format::Timestamp;
use pitr_objects::object_store::ObjectStore;
use pitr_objects::{Error, ErrorKind, LocalStore, Objects};
use pitr_vfs::sim::{Disk, Fault, Mode, Op, SimClock, SimFs, Survivors};
use pitr_vfs::{Env, FileSystem};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

const ROOT: &str = "/repo";

fn on(fs: &SimFs) -> Objects {
    fs.create_dir_all(ROOT.as_ref()).unwrap();
    let store = LocalStore::new(Arc::new(fs.clone()), PathBuf::from(ROOT), ROOT.to_owned());
    let clock = Arc::new(SimClock::new(Timestamp::from_micros(1)));
    Objects::over(Arc::new(store) as Arc<dyn ObjectStore>, &Env::simulated(Arc::new(fs.clone()), clock, 1))
        .unwrap()
}

fn path(no: u64) -> String {
    format!("packs/{:02x}/{no}", no % 3)
}

fn content(no: u64) -> Vec<u8> {
    vec![no as u8 + 1; 700 * no as usize]
}

#[test]
fn a_returned_put_survives_a_power_loss_and_no_object_is_partial() {
    // FAILURES 23; law 3
    const PUTS: u64 = 7;
    let fs = SimFs::new();
    let objects = on(&fs);
    for no in 0..PUTS {
        objects.put_new(&path(no), content(no)).unwrap();
        fs.ack(no);
    }
    let trace = fs.trace();
    let (mut survivors, mut returned) = (Survivors::new(&trace), BTreeSet::new());
    loop {
        for mode in Mode::ALL {
            check(survivors.disk(mode, survivors.cut() as u64), &returned, PUTS);
        }
        match survivors.advance() {
            Some(Op::Ack(no)) => drop(returned.insert(*no)),
            Some(_) => {}
            None => break,
        }
    }
    assert_eq!(returned.len() as u64, PUTS);
}

fn check(disk: Disk, returned: &BTreeSet<u64>, puts: u64) {
    let objects = on(&SimFs::on(disk));
    let listed: BTreeSet<String> = objects.list("").unwrap().into_iter().map(|entry| entry.path).collect();
    for no in 0..puts {
        match objects.get(&path(no)) {
            Ok(bytes) => assert!(bytes == content(no) && listed.contains(&path(no)), "{no} is partial"),
            Err(Error::Missing { .. }) => assert!(!returned.contains(&no), "{no} is lost"),
            Err(error) => panic!("{no}: {error}"),
        }
        // The put can be repeated, and a temporary file of the crashed process is no obstacle.
        objects.put_new(&path(no), content(no)).unwrap();
    }
}

#[test]
fn a_put_whose_sync_failed_is_made_durable_by_the_next_one() {
    // FAILURES 18, 26
    for nth in 0..6 {
        let fs = SimFs::new();
        let objects = on(&fs);
        fs.inject(Fault::Sync { nth });
        let put = objects.put_new("packs/a", content(3));
        fs.mend();
        match put {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unreachable),
        }
        // The next put makes the object durable, even if the first one left it visible.
        objects.put_new("packs/a", content(3)).unwrap();
        let after = on(&SimFs::on(fs.durable_disk()));
        assert!(after.get("packs/a").unwrap() == content(3), "sync {nth}");
    }
}
