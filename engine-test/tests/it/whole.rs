//! The engine as its team ships it.

use crate::buckets::Buckets;
use pitr_engine_test::{Rule, Suite};

#[test]
fn an_engine_that_keeps_the_rules_passes() {
    for seed in 1..4 {
        let report = Suite::new(&Buckets(None)).seed(seed).run();
        report.assert_passed();
        assert_eq!(report.passed, Rule::ALL);
    }
}
