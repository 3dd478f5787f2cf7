//! The engine as its team ships it.

use crate::buckets::Buckets;
use pitr_engine_test::{Rule, Suite};

#[test]
fn an_engine_that_keeps_the_rules_passes() {
    for (seed, is_logical) in (1..4).flat_map(|seed| [(seed, false), (seed, true)]) {
        let report = Suite::new(&Buckets { fault: None, is_logical }).seed(seed).run();
        report.assert_passed();
        assert_eq!(report.passed, Rule::ALL);
    }
}
