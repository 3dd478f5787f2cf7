//! Runs the suite against a small store, whole and with a mistake.

#[path = "../tests/it/buckets.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "the tests use more of it")]
mod buckets;

use buckets::{Buckets, Fault};
use pitr_engine_test::Suite;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let report = Suite::new(&Buckets::default()).run();
    print!("{report}");
    if !report.failures.is_empty() {
        return Err("the store should pass".into());
    }
    print!(
        "with a commit that does not wait for the disk: {}",
        Suite::new(&Buckets { fault: Some(Fault::NoSync), is_logical: false }).run()
    );
    Ok(())
}
