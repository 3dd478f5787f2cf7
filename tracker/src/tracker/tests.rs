//! The freeze in every order of steps: real passes and real freezes, driven on one thread (law 10).

use super::*;
use crate::phases::{Divided, Doubled};
use crate::{BlockSize, Error, Extractor, LsnRange};
use pitr_format::log::WholeRecord;
use pitr_format::record::{Record, RecordKind};
use pitr_format::{FileId, PartitionId, TxId};
use proptest::prelude::*;

const F: FileId = FileId::FIRST;
/// Block size of the images below.
const SIZE: BlockSize = BlockSize::DEFAULT;

/// A log in memory: record payloads, each 10 positions long, and the number of durable ones.
#[derive(Debug, Default)]
struct Log {
    records: Vec<Vec<u8>>,
    durable: usize,
}

impl Log {
    fn append(&mut self, record: &Record<'_>) -> usize {
        let mut payload = vec![record.kind() as u8];
        record.encode(&mut payload);
        self.records.push(payload);
        self.records.len()
    }

    fn durable(&self) -> Lsn {
        lsn(self.durable)
    }

    /// The changes of the records in this range.
    fn extract(&self, range: LsnRange) -> Changes {
        let mut extractor = Extractor::new(range);
        for (nth, bytes) in self.records[..self.durable].iter().enumerate() {
            let (partition, tx) = (PartitionId::FIRST, TxId::NONE);
            let (lsn, end) = (lsn(nth), lsn(nth + 1));
            let record = WholeRecord { lsn, end, kind: bytes[0], partition, tx, payload: &bytes[1..] };
            extractor.push(&record).unwrap();
        }
        extractor.finish(LsnRange::new(Lsn::ORIGIN, self.durable()).unwrap()).unwrap()
    }
}

fn lsn(nth: usize) -> Lsn {
    Lsn::new(nth as u64 * 10)
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The writer begins a pass, appends an image, marks its next image, or ends: whichever is
    /// possible in its state.
    Enter(usize),
    Append(usize),
    Mark(usize),
    End(usize),
    /// The log becomes durable to its end.
    Sync,
    /// The freeze takes its next step, unless it has to wait.
    Freeze,
    /// A freeze receives a position that is too low.
    Misled,
}

#[derive(Debug, Default)]
struct Writer {
    pass: Option<Pass>,
    /// For each image of this pass: the number of log records up to it, its block, and whether it
    /// is marked.
    images: Vec<(usize, u64, bool)>,
}

/// The freeze, step by step.
impl Tracker {
    pub(crate) fn double(&self) -> Doubled<'_, Epoch> {
        self.phases.double(|| self.new_epoch())
    }
}

impl Divided<'_, Epoch> {
    pub(crate) fn read(self) -> Changes {
        self.end().into()
    }
}

enum Freeze<'t> {
    Rests,
    Doubled(Doubled<'t, Epoch>),
    Divided(Divided<'t, Epoch>),
}

struct Run<'t> {
    tracker: &'t Tracker,
    log: Log,
    writers: [Writer; 3],
    freeze: Freeze<'t>,
    frozen: Vec<Changes>,
    next_block: u64,
}

impl<'t> Run<'t> {
    fn new(tracker: &'t Tracker) -> Self {
        let (log, writers, freeze) = (Log::default(), Default::default(), Freeze::Rests);
        Run { tracker, log, writers, freeze, frozen: Vec::new(), next_block: 0 }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Enter(nth) => {
                self.writers[nth].pass.get_or_insert_with(|| self.tracker.enter());
            }
            Step::Append(nth) if self.writers[nth].pass.is_some() => {
                let (block, data) = (self.next_block, [0; 4096]);
                // Each record has its own block, so that no other mark hides a lost one.
                self.next_block += 1;
                let image = Record::Image { file: F, block, data: &data };
                let end = self.log.append(&image);
                self.writers[nth].images.push((end, block, false));
            }
            Step::Mark(nth) => {
                let Writer { pass: Some(pass), images } = &mut self.writers[nth] else { return };
                let durable = self.log.durable;
                if let Some(next) = images.iter_mut().find(|(end, _, marked)| !marked && *end <= durable) {
                    pass.file(F, SIZE).mark(next.1);
                    next.2 = true;
                }
            }
            Step::End(nth) => {
                let writer = &mut self.writers[nth];
                if writer.images.iter().all(|image| image.2)
                    && let Some(pass) = writer.pass.take()
                {
                    pass.done(writer.images.last().map_or(Lsn::ORIGIN, |image| lsn(image.0)));
                    writer.images.clear();
                }
            }
            Step::Sync => self.log.durable = self.log.records.len(),
            Step::Freeze => self.freeze_on(),
            Step::Misled => self.mislead(),
            Step::Append(_) => {}
        }
    }

    fn freeze_on(&mut self) {
        self.freeze = match std::mem::replace(&mut self.freeze, Freeze::Rests) {
            Freeze::Rests => Freeze::Doubled(self.tracker.double()),
            Freeze::Doubled(mut doubled) if doubled.is_drained() => {
                doubled.wait();
                Freeze::Divided(doubled.divide(|| self.log.durable()).unwrap())
            }
            Freeze::Divided(mut divided) if divided.is_drained() => {
                divided.wait();
                self.frozen.push(divided.read());
                Freeze::Rests
            }
            kept => kept,
        };
    }

    /// A position below what was tracked is refused, and the epoch continues.
    fn mislead(&mut self) {
        match std::mem::replace(&mut self.freeze, Freeze::Rests) {
            Freeze::Doubled(mut doubled) if doubled.is_drained() => {
                doubled.wait();
                let tracked = self.tracker.phases.shared.done_to();
                if tracked > Lsn::ORIGIN {
                    let too_low = doubled.divide(|| tracked.before());
                    assert!(matches!(too_low, Err(Error::Behind { .. })));
                } else {
                    self.freeze = Freeze::Doubled(doubled);
                }
            }
            kept => self.freeze = kept,
        }
    }

    /// Ends all writers, then freezes the rest.
    fn end(mut self) -> (Log, Vec<Changes>) {
        self.step(Step::Sync);
        for nth in 0..3 {
            (0..self.writers[nth].images.len()).for_each(|_| self.step(Step::Mark(nth)));
            self.step(Step::End(nth));
        }
        if !matches!(self.freeze, Freeze::Rests) {
            while !matches!(self.freeze, Freeze::Rests) {
                self.step(Step::Freeze);
            }
        }
        (0..3).for_each(|_| self.step(Step::Freeze));
        (self.log, self.frozen)
    }
}

/// Checks that each epoch holds the changes of its range, and that the epochs are contiguous.
fn check(log: &Log, frozen: &[Changes]) {
    let mut at = Lsn::ORIGIN;
    for changes in frozen {
        assert_eq!(changes.range.from(), at);
        at = changes.range.to();
        let truth = log.extract(changes.range);
        assert!(
            changes.set.is_superset(&truth.set),
            "{}: {:?} lacks changes of {truth:?}",
            changes.range,
            changes.set
        );
    }
    assert_eq!(at, log.durable());
}

/// Few under miri, where each step takes a second.
const STEPS_MAX: usize = if cfg!(miri) { 24 } else { 120 };

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0usize..3).prop_map(Step::Enter),
        4 => (0usize..3).prop_map(Step::Append),
        5 => (0usize..3).prop_map(Step::Mark),
        3 => (0usize..3).prop_map(Step::End),
        3 => Just(Step::Sync),
        4 => Just(Step::Freeze),
        1 => Just(Step::Misled),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 4_000 }))]

    #[test]
    fn a_frozen_epoch_matches_the_log_in_every_order_of_steps(steps in prop::collection::vec(step(), 0..STEPS_MAX)) {
        let tracker = Tracker::new(Lsn::ORIGIN);
        let mut run = Run::new(&tracker);
        steps.into_iter().for_each(|step| run.step(step));
        let (log, frozen) = run.end();
        check(&log, &frozen);
    }
}

#[test]
fn a_record_that_becomes_durable_during_a_freeze_is_in_the_right_epochs() {
    use Step::{Append, End, Enter, Freeze, Mark, Sync};
    // A writer begins before the freeze. Its record becomes durable after the freeze has asked the
    // log for its durable LSN. Both epochs have the record's mark.
    let orders: [&[Step]; 3] = [
        &[Enter(0), Append(0), Sync, Freeze, Mark(0), End(0), Freeze, Freeze],
        &[Enter(0), Freeze, Append(0), Sync, Mark(0), Freeze, End(0), Freeze, Freeze],
        &[
            Freeze,
            Enter(0),
            Enter(1),
            Append(0),
            Sync,
            Freeze,
            Append(1),
            Mark(0),
            End(0),
            Sync,
            Mark(1),
            End(1),
        ],
    ];
    for order in orders {
        let tracker = Tracker::new(Lsn::ORIGIN);
        let mut run = Run::new(&tracker);
        order.iter().for_each(|step| run.step(*step));
        let (log, frozen) = run.end();
        check(&log, &frozen);
    }
}

#[test]
fn a_freeze_waits_only_for_passes_that_began_before_it() {
    let tracker = Tracker::new(Lsn::ORIGIN);
    let early = tracker.enter();
    let doubled = tracker.double();
    let late = tracker.enter();
    assert!(!doubled.is_drained());
    early.done(Lsn::ORIGIN);
    assert!(doubled.is_drained(), "the late pass marks both epochs");
    let divided = doubled.divide(|| Lsn::new(5)).unwrap();
    let later = tracker.enter();
    assert!(!divided.is_drained());
    late.done(Lsn::ORIGIN);
    assert!(divided.is_drained());
    assert_eq!(divided.read().range, LsnRange::new(Lsn::ORIGIN, Lsn::new(5)).unwrap());
    later.done(Lsn::new(9));
    assert_eq!(RecordKind::Image as u8, 1);
}

#[test]
fn a_freeze_waits_for_passes_of_earlier_freezes() {
    // However the earlier freeze ended, a pass of each of its phases may be open.
    let tracker = Tracker::new(Lsn::ORIGIN);
    let single = tracker.enter();
    drop(tracker.double());
    let both = tracker.enter();
    assert!(!tracker.double().is_drained());
    single.done(Lsn::ORIGIN);
    let divided = tracker.double().divide(|| Lsn::new(5)).unwrap();
    drop(divided);
    let doubled = tracker.double();
    assert!(!doubled.is_drained());
    both.done(Lsn::new(6));
    assert!(doubled.is_drained());
}

#[test]
fn after_a_dropped_pass_everything_counts_as_changed() {
    // FAILURES 18: the log refused the records, but they may be in it nevertheless.
    let tracker = Tracker::new(Lsn::ORIGIN);
    assert!(tracker.freeze(|| Lsn::new(1)).unwrap().set.is_empty());
    drop(tracker.enter());
    assert!(tracker.freeze(|| Lsn::new(2)).unwrap().set.is_whole());
    tracker.enter().done(Lsn::new(3));
    assert!(tracker.freeze(|| Lsn::new(3)).unwrap().set.is_whole(), "the position of its records is unknown");

    let panicked = std::thread::scope(|scope| {
        let tracker = Tracker::new(Lsn::ORIGIN);
        let pass = tracker.enter();
        let writer = scope.spawn(move || {
            let _pass = pass;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(writer.join().is_err());
        tracker.freeze(|| Lsn::new(1)).unwrap().set
    });
    assert!(panicked.is_whole());
}

#[test]
fn a_durable_lsn_below_the_tracked_one_is_refused() {
    let tracker = Tracker::new(Lsn::new(100));
    assert!(matches!(tracker.freeze(|| Lsn::new(99)), Err(Error::Behind { .. })));
    let pass = tracker.enter();
    pass.file(F, SIZE).mark(4);
    pass.done(Lsn::new(110));
    let too_low = tracker.freeze(|| Lsn::new(109)).unwrap_err();
    assert!(matches!(too_low, Error::Behind { to, tracked } if (to.get(), tracked.get()) == (109, 110)));
    let pass = tracker.enter();
    pass.file(F, SIZE).mark(5);
    pass.done(Lsn::new(120));
    let changes = tracker.freeze(|| Lsn::new(120)).unwrap();
    assert_eq!(changes.range, LsnRange::new(Lsn::new(100), Lsn::new(120)).unwrap());
    assert!(changes.set.blocks(F, SIZE, 9 * 4096).eq([4, 5]));
}

#[test]
fn a_tracker_resumes_from_known_changes() {
    let mut set = ChangeSet::new();
    set.mark(F, SIZE, 2);
    let known = Changes { range: LsnRange::new(Lsn::new(10), Lsn::new(30)).unwrap(), set };
    let tracker = Tracker::resume(&known);
    assert!(tracker.freeze(|| Lsn::new(29)).is_err());
    let pass = tracker.enter();
    pass.file(F, SIZE).mark(6);
    pass.done(Lsn::new(40));
    let changes = tracker.freeze(|| Lsn::new(40)).unwrap();
    assert_eq!(changes.range.from(), Lsn::new(10));
    assert!(changes.set.blocks(F, SIZE, 9 * 4096).eq([2, 6]));
    let whole = Changes { set: ChangeSet::whole(), ..known };
    assert!(Tracker::resume(&whole).freeze(|| Lsn::new(40)).unwrap().set.is_whole());
}
