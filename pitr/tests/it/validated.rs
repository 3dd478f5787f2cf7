//! Continuous validation for a simulated week.

use crate::world::World;
use pitr::objects::Objects;
use pitr::prune::Policy;
use pitr::verify::RehearsalOptions;
use pitr::vfs::sim::{Rng, SimClock, SimFs};
use pitr::vfs::{Env, FileSystem};
use pitr::{Hint, PruneOptions, RehearsalRequest, ValidationOptions};
use pitr_testkit::{Answer, Request, TestStore};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const DAYS: u64 = 7;
const SNAPSHOTS: usize = 100;

#[test]
fn a_week_of_validation_beside_writes_prunes_and_faults_covers_everything_and_finds_nothing() {
    let dice = Mutex::new(Rng::new(5));
    // Of 4,000 requests one or two fail, with or without effect, after all attempts of a client.
    let store = TestStore::memory().answering(move |request| {
        let draw = dice.lock().unwrap().draw() % 4000;
        match (request, draw) {
            (Request::Put(_), 0) => Answer::Break,
            (Request::Put(_), 1) => Answer::LoseReply,
            (Request::Get(_), 0 | 1) => Answer::Break,
            _ => Answer::Serve,
        }
    });
    let (fs, clock) = (SimFs::new(), Arc::new(SimClock::new(pitr::format::Timestamp::from_micros(1))));
    let env = Env::simulated(Arc::new(fs.clone()), clock.clone(), 1);
    fs.create_dir_all(Path::new("/sandbox")).unwrap();
    let mut world = World::on(fs, clock, &Objects::over(Arc::new(store), &env).unwrap());
    let attached = world.pitr.attach(world.store.wal(), &world.source, world.options()).unwrap();
    let options = ValidationOptions {
        at_most: 3,
        ..ValidationOptions::new(RehearsalRequest::new(RehearsalOptions::within("/sandbox")))
    };

    let (mut taken, mut rounds, mut failed, mut rehearsals) = (0, 0, 0, 0);
    for hour in 0..DAYS * 24 {
        world.clock.pass(HOUR);
        world.put([hour, hour % 7], (hour % 250) as u8);
        let _ = attached.ship(); // the next one ships what this one could not
        while taken * (DAYS as usize * 24) < SNAPSHOTS * (hour as usize + 1) {
            let snapshot = world.store.begin_snapshot().unwrap();
            taken += usize::from(attached.snapshot(&snapshot, Hint::Full).is_ok());
        }
        if hour % 24 == 23 {
            let policy = Policy { keep_within: Some(4 * 24 * HOUR), ..Policy::default() };
            let _ = world.pitr.prune(PruneOptions::dry_run(policy).execute(true));
        }
        if hour % 2 == 1 {
            rounds += 1;
            match world.pitr.validation_round(&options, &mut |_, _| {}) {
                Ok(round) => {
                    assert_eq!(round.findings(), 0, "hour {hour}: {round:?}");
                    rehearsals += round.rehearsals.iter().filter(|(_, done)| done.is_ok()).count();
                }
                Err(_) => failed += 1, // the repository did not answer
            }
        }
    }
    let (coverage, health) = world.pitr.health(&world.source, options.window).unwrap();
    assert!(taken == SNAPSHOTS && coverage.snapshots > 40, "{taken} {coverage:?}");
    assert!(coverage.rehearsed * 100 > coverage.snapshots * 95, "{coverage:?}");
    assert!(coverage.objects_checked.is_some() && health.score >= 97, "{health:?}");
    assert!(
        failed > 0 && failed * 2 < rounds && rehearsals > SNAPSHOTS,
        "{failed} of {rounds}, {rehearsals}"
    );
    attached.stop().unwrap();
}
