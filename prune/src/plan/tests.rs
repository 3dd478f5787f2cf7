use super::*;
use pitr_archive::{ForkReason, Found, Timeline};
use pitr_codec::Codec;
use pitr_format::{Epoch, SourceName, TxId};
use pitr_snapshot::{Sizes, SnapshotId, SnapshotKind, SnapshotMeta};
use proptest::prelude::*;
use std::time::Duration;

fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(second * 1_000_000)
}

fn snapshot(timeline: u32, redo_from: u64, consistent_at: u64, second: i64) -> Snapshot {
    Snapshot {
        id: SnapshotId([consistent_at as u8; 16]),
        kind: SnapshotKind::Full,
        parent: None,
        meta: SnapshotMeta {
            source: SourceName::new("a").unwrap(),
            engine: "test".to_owned(),
            timeline: TimelineId::new(timeline),
            epoch: Epoch::FIRST,
            redo_from: Lsn::new(redo_from),
            consistent_at: Lsn::new(consistent_at),
            time: at(second),
            tx: TxId::NONE,
            codec: Codec::None,
            created: at(second),
            attributes: None,
        },
        sizes: Sizes::default(),
    }
}

fn log(timeline: u32, from: u64, to: u64) -> (LogName, u64) {
    let (from, to) = (Lsn::new(from), Lsn::new(to));
    (LogName { timeline: TimelineId::new(timeline), epoch: Epoch::FIRST, from, to, level: 0 }, 1)
}

fn timeline(id: u32, parent: u32, fork: u64, second: i64) -> (TimelineId, Timeline) {
    let timeline = Timeline {
        parent: (parent > 0).then(|| TimelineId::new(parent)),
        fork: Lsn::new(fork),
        reason: ForkReason::Restored,
        created: at(second),
        ambiguous: None,
        root: None,
    };
    (TimelineId::new(id), timeline)
}

fn point(timeline: TimelineId, lsn: Lsn) -> NamedPoint {
    let name = PointName::new(format!("{timeline}/{lsn}")).unwrap();
    let (tx, note) = (TxId::NONE, String::new());
    NamedPoint { name, timeline, lsn, tx, time: at(0), created: at(0), note }
}

fn catalog(logs: Vec<(LogName, u64)>, timelines: Vec<(TimelineId, Timeline)>) -> Catalog {
    let epochs = [(Epoch::FIRST, None)].into_iter().collect();
    let timelines = timelines.into_iter().collect();
    Catalog::new(Found { logs, epochs, timelines, ..Found::default() }).unwrap()
}

fn within(seconds: u64) -> Policy {
    Policy { keep_within: Some(Duration::from_secs(seconds)), ..Policy::default() }
}

/// The listing of a source with one instance and without points.
fn listed<'a>(
    catalog: &'a Catalog,
    snapshots: &'a [Snapshot],
    newest: &'a BTreeMap<TimelineId, Timestamp>,
) -> Listed<'a> {
    Listed { catalog, snapshots, newest, points: &[], heads: &[], followed: None }
}

/// Kept snapshots and deleted log, by position.
fn run(catalog: &Catalog, snapshots: &[Snapshot], policy: &Policy, now: i64) -> (Vec<u64>, Vec<u64>) {
    let newest = [(TimelineId::FIRST, at(0)), (TimelineId::new(2), at(now))].into();
    let plan = plan(listed(catalog, snapshots, &newest), policy, at(now)).unwrap();
    let kept = snapshots.iter().zip(&plan.reasons).filter(|(_, why)| !why.is_empty());
    let logs = plan.logs.iter().map(|(name, _)| name.from.get()).collect();
    (kept.map(|(s, _)| s.meta.consistent_at.get()).collect(), logs)
}

#[test]
fn calendars_count_days_weeks_and_months_of_utc() {
    // 1970-01-01 was a Thursday.
    let day = 86_400;
    let snapshots: Vec<Snapshot> =
        (0..70).map(|n| snapshot(1, n as u64 + 1, n as u64 + 1, n * day / 2 + day / 4)).collect();
    let catalog = catalog(vec![], vec![]);
    let kept = |policy| run(&catalog, &snapshots, &policy, 35 * day).0;
    let count = NonZeroU32::new(3);
    // The later snapshot of each day: half past noon.
    let daily = kept(Policy { keep_daily: count, ..Policy::default() });
    assert_eq!(daily, [66, 68, 70]);
    // The 35th day is Wednesday, the 4th of February; before it the Sundays of the 1st and the
    // 25th.
    let weekly = kept(Policy { keep_weekly: count, ..Policy::default() });
    assert_eq!(weekly, [50, 64, 70]);
    // February has begun; January ended on the 31st day.
    let monthly = kept(Policy { keep_monthly: count, ..Policy::default() });
    assert_eq!(monthly, [62, 70]);
}

#[test]
fn a_timeline_superseded_before_the_window_keeps_only_its_shared_part() {
    let logs = vec![log(1, 0, 10), log(1, 10, 20), log(1, 20, 30), log(2, 15, 40), log(2, 40, 50)];
    let catalog = catalog(logs, vec![timeline(1, 0, 0, 0), timeline(2, 1, 15, 100)]);
    let snapshots =
        [snapshot(1, 5, 5, 50), snapshot(1, 12, 12, 60), snapshot(1, 25, 25, 90), snapshot(2, 35, 35, 200)];
    // The old timeline before the fork is the past of the new one. The rest was superseded in
    // second 100.
    assert_eq!(run(&catalog, &snapshots, &within(120), 210), (vec![12, 25, 35], vec![0]));
    assert_eq!(run(&catalog, &snapshots, &within(110), 210), (vec![12, 25, 35], vec![0]));
    // The window starts after the old timeline was superseded.
    assert_eq!(run(&catalog, &snapshots, &within(105), 215), (vec![12, 35], vec![0]));
}

#[test]
fn the_newest_state_of_each_instance_is_kept() {
    // FAILURES 8: a copy is archived beside the original, which goes on.
    let logs = vec![log(1, 0, 20), log(1, 20, 40), log(1, 40, 60), log(2, 20, 50), log(2, 50, 70)];
    let timelines = vec![timeline(1, 0, 0, 0), timeline(2, 1, 20, 20)];
    let without = logs.iter().filter(|(name, _)| name.timeline == TimelineId::FIRST || name.from.get() > 20);
    let holey = catalog(without.copied().collect(), timelines.clone());
    let catalog = catalog(logs, timelines);
    let snapshots = [snapshot(1, 10, 10, 10), snapshot(1, 45, 45, 45), snapshot(2, 60, 60, 60)];
    let newest = [(TimelineId::FIRST, at(70)), (TimelineId::new(2), at(70))].into();
    let policy = Policy { keep_snapshots: NonZeroU32::new(1), ..Policy::default() };
    let kept = |heads: &[TimelineId]| {
        let listed = Listed { heads, ..listed(&catalog, &snapshots, &newest) };
        let plan = plan(listed, &policy, at(70)).unwrap();
        plan.reasons.iter().map(|why| !why.is_empty()).collect::<Vec<bool>>()
    };
    assert_eq!(kept(&[TimelineId::FIRST, TimelineId::new(2)]), [false, true, true]);
    // The first timeline was continued by the second.
    assert_eq!(kept(&[TimelineId::new(2)]), [false, false, true]);
    // A period must be restorable on the followed timeline.
    let must = Policy { must_remain_since: Some(at(50)), ..Policy::default() };
    let refused = |followed| {
        let listed = Listed { followed, ..listed(&holey, &snapshots[1..2], &newest) };
        plan(listed, &must, at(70)).is_err()
    };
    assert!(!refused(Some(TimelineId::FIRST)) && refused(None));
}

#[test]
fn the_newest_state_is_kept_under_any_policy() {
    let logs = vec![log(1, 0, 10), log(1, 10, 20), log(1, 20, 30)];
    let catalog = catalog(logs, vec![timeline(1, 0, 0, 0)]);
    let snapshots = [snapshot(1, 5, 5, 50), snapshot(1, 12, 12, 60)];
    assert_eq!(run(&catalog, &snapshots, &within(1), 70), (vec![12], vec![0]));
    // The last object of a timeline is kept too: its writer continues after it.
    let snapshots = [snapshot(1, 30, 30, 50)];
    assert_eq!(run(&catalog, &snapshots, &within(1), 60), (vec![30], vec![0, 10]));
    assert_eq!(
        run(&catalog, &[], &within(1), 60),
        (vec![], vec![]),
        "without a snapshot the log is all there is"
    );
}

proptest! {
    /// Law 7: every restorable state in a window stays restorable.
    #[test]
    fn what_a_rule_covers_can_still_be_restored(
        cuts in prop::collection::btree_set(0..100u64, 2..20), holes: u32,
        raw in prop::collection::vec((0..100u64, 0..9u64), 0..8),
        length in 0..120u64, count in 1..5u32, since in 0..120i64, which in 0..3usize, fork in 0..100u64, began in 0..100i64,
        named in prop::collection::vec((1..=2u32, 0..130u64), 0..3),
    ) {
        // One commit each second: positions equal seconds.
        let cuts: Vec<u64> = cuts.into_iter().collect();
        let mut logs: Vec<(LogName, u64)> = cuts.windows(2).enumerate()
            .filter(|(no, _)| holes >> no & 1 == 0).map(|(_, w)| log(1, w[0], w[1])).collect();
        logs.extend((0..3).map(|n| log(2, fork + n * 10, fork + n * 10 + 10)));
        let catalog = catalog(logs, vec![timeline(1, 0, 0, 0), timeline(2, 1, fork, began)]);
        let mut seen = BTreeSet::new();
        let snapshots: Vec<Snapshot> = raw.iter().filter(|(at, _)| seen.insert(*at))
            .map(|(at, back)| snapshot(1, at.saturating_sub(*back), *at, *at as i64)).collect();
        let mut policy = Policy::default();
        match which {
            0 => policy.keep_within = Some(Duration::from_secs(length)),
            1 => policy.keep_snapshots = NonZeroU32::new(count),
            _ => policy.must_remain_since = Some(at(since)),
        }
        let now = 130;
        let newest = [(TimelineId::FIRST, at(100)), (TimelineId::new(2), at(now))].into();
        let point = |(id, lsn): (u32, u64)| point(TimelineId::new(id), Lsn::new(lsn));
        let points: Vec<NamedPoint> = named.into_iter().map(point).collect();
        let listed =
            Listed { points: &points, ..listed(&catalog, &snapshots, &newest) };
        let plan = match plan(listed, &policy, at(now)) {
            Ok(plan) => plan,
            Err(Refusal::Since(_)) => return Ok(()),
            Err(Refusal::Point(_)) => {
                let bases: Vec<Base> = snapshots.iter().map(base).collect();
                let is_lost = |point: &NamedPoint| {
                    let line = catalog.lineage(point.timeline).unwrap();
                    coverage(&line, &catalog.pieces(&line), &bases).interval_at(point.lsn).is_none()
                };
                prop_assert!(points.iter().any(is_lost), "{points:?}");
                return Ok(());
            }
        };
        let begin = match which {
            0 => now - length as i64,
            1 => {
                let mut ages: Vec<i64> = snapshots.iter().map(|s| s.meta.time.micros() / 1_000_000).collect();
                ages.sort_unstable();
                if ages.len() < count as usize { 0 } else { ages[ages.len() - count as usize] }
            }
            _ => since,
        };
        for id in [1, 2] {
            let line = catalog.lineage(TimelineId::new(id)).unwrap();
            let before: Vec<Base> = snapshots.iter().map(base).collect();
            let after: Vec<Base> = snapshots.iter().zip(&plan.reasons)
                .filter(|(_, why)| !why.is_empty()).map(|(s, _)| base(s)).collect();
            let pieces = catalog.pieces(&line);
            let left: Vec<_> = pieces.iter()
                .filter(|piece| !plan.logs.iter().any(|(gone, _)| *gone == piece.name)).copied().collect();
            let (had, has) = (coverage(&line, &pieces, &before), coverage(&line, &left, &after));
            // The first timeline was superseded in second 100. Its window has ended then.
            let counts = id == 2 || begin <= 100 && which != 1;
            for lsn in (0..140u64).filter(|lsn| counts && *lsn as i64 >= begin) {
                let lsn = Lsn::new(lsn);
                prop_assert!(had.interval_at(lsn).is_none() || has.interval_at(lsn).is_some(), "{}", lsn);
            }
            for point in points.iter().filter(|point| point.timeline == TimelineId::new(id)) {
                prop_assert!(has.interval_at(point.lsn).is_some(), "{point:?}");
            }
            // The newest state.
            if let (2, Some(last)) = (id, had.intervals.last()) {
                prop_assert!(has.interval_at(last.to).is_some());
            }
        }
        // FAILURES 25: what a point holds back is what goes if it is deleted.
        let bytes = |plan: &SourcePlan| plan.logs.iter().map(|(_, bytes)| bytes).sum::<u64>();
        let gone = |plan: &SourcePlan| plan.reasons.iter().filter(|why| why.is_empty()).count();
        for (no, needs) in plan.points.iter().enumerate() {
            let mut others = points.clone();
            others.remove(no);
            let without = Listed { points: &others, ..self::listed(&catalog, &snapshots, &newest) };
            let without = super::plan(without, &policy, at(now)).unwrap();
            prop_assert_eq!(bytes(&without) - bytes(&plan), needs.log_bytes);
            prop_assert_eq!(gone(&without) - gone(&plan), usize::from(needs.holds_base));
        }
        for range in &plan.ranges {
            prop_assert!(catalog.logs(range.timeline).iter().filter(|(name, _)| range.holds(name))
                .all(|held| plan.logs.contains(held)));
        }
    }
}
