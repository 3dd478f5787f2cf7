//! Each mistake is found, under the rule that it breaks.

use crate::buckets::{Buckets, Fault};
use pitr_engine_test::{Failure, Rule, Suite};

/// The failure that the check of this rule finds.
fn failure(fault: Fault, rule: Rule, is_logical: bool) -> Failure {
    match Suite::new(&Buckets { fault: Some(fault), is_logical }).check(rule) {
        Ok(()) => panic!("{fault:?} passes {rule:?}"),
        Err(failure) => failure,
    }
}

#[test]
fn each_mistake_is_found_by_the_check_of_its_rule() {
    for (fault, rule) in [
        (Fault::NoSync, Rule::Durable),
        (Fault::AbortWrites, Rule::Aborted),
        (Fault::EarlyWrites, Rule::Uncommitted),
        (Fault::OthersChanges, Rule::OwnChanges),
        (Fault::Deltas, Rule::WholeBlocks),
        (Fault::Logical, Rule::WholeBlocks),
        (Fault::Partitions, Rule::OnePartition),
        (Fault::OtherTime, Rule::Commits),
        (Fault::Unlogged, Rule::Logged),
        (Fault::Untracked, Rule::Tracked),
        (Fault::StaleRead, Rule::Exact),
        (Fault::EarlyEnd, Rule::Exact),
        (Fault::ForgetsRestored, Rule::Continues),
        (Fault::NoMark, Rule::Unfinished),
        (Fault::Unequal, Rule::Workers),
    ] {
        let failure = failure(fault, rule, false);
        assert_eq!(failure.rule, rule, "{fault:?}: {failure}");
        assert!(!failure.place.is_empty() && !failure.what.is_empty(), "{fault:?}: {failure:?}");
    }
}

#[test]
fn each_mistake_of_a_replay_is_found_by_the_check_of_its_rule() {
    // FAILURES 16, 32 and 52
    for (fault, rule) in [
        (Fault::KeepsDeleted, Rule::Replayed),
        (Fault::ForgetsOpen, Rule::Replayed),
        (Fault::RecoversOpen, Rule::LoggedEarly),
        (Fault::SharedProgress, Rule::PartitionOrder),
        (Fault::OneLsn, Rule::RunAgain),
        (Fault::SkipsUnknown, Rule::UnknownRecord),
        (Fault::OpensUnknown, Rule::UnknownRecord),
    ] {
        let failure = failure(fault, rule, true);
        assert_eq!(failure.rule, rule, "{fault:?}: {failure}");
        assert!(!failure.place.is_empty() && !failure.what.is_empty(), "{fault:?}: {failure:?}");
    }
}

#[test]
fn a_report_names_the_rule_and_the_place() {
    let report = Suite::new(&Buckets { fault: Some(Fault::Partitions), is_logical: false }).run();
    assert_eq!(report.failures.len(), 1, "{report}");
    let text = report.to_string();
    assert!(text.contains("OnePartition") && text.contains("block"), "{text}");
    assert!(report.passed.contains(&Rule::Durable) && report.passed.len() == Rule::ALL.len() - 1);
}

#[test]
fn a_record_that_nothing_can_apply_is_named_by_a_restore_too() {
    // FAILURES 52
    let failure = failure(Fault::Logical, Rule::Exact, false);
    assert_eq!(failure.rule, Rule::WholeBlocks, "{failure}");
}
