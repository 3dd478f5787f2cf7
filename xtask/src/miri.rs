//! Runs tests under miri, which detects every use of memory that Rust doesn't allow.

use crate::Result;
use crate::verdict::Verdict;
use crate::world;

/// Packages, with a filter for their tests: all that do arithmetic on bytes or share memory between
/// threads, and the code directly above a mapped file, here with bytes in memory.
const PACKAGES: [(&str, &str); 4] =
    [("pitr-format", ""), ("pitr-tracker", ""), ("pitr-vfs", "view"), ("pitr-wal", "sealed")];

/// Tests of large sizes. They repeat the same operations on more memory than an interpreter can
/// process in an hour.
const OF_SIZES: [&str; 4] = [
    "files_beyond_the_memory_limit_mark_everything",
    "one_hundred_gigabytes_take_about_three_megabytes",
    "many_small_pages_stay_within_the_memory_limit",
    "the_largest_set_fits_into_a_file",
];

/// Cases of each property, different in each run: an interpreted case takes a minute.
const CASES: &str = "1";

/// Runs the tests. True if all pass.
pub(crate) fn run() -> Result<bool> {
    let command = "cargo xtask miri";
    println!("{command}");
    let mut verdict = Verdict::default();
    for (package, filter) in PACKAGES {
        let mut miri = world::nightly_cargo();
        miri.args(["miri", "test", "--package", package, "--lib", "--", filter]);
        OF_SIZES.iter().for_each(|name| _ = miri.args(["--skip", name]));
        // Property tests read the working folder, and file tests use real files.
        miri.env("MIRIFLAGS", "-Zmiri-disable-isolation")
            .env("PROPTEST_CASES", CASES)
            .env("CARGO_TARGET_DIR", world::target().join("miri"));
        let passed = verdict.tests(package, &mut miri, "a test fails; see the output above")?;
        verdict.figure(format_args!("{passed} tests of {package}"));
    }
    verdict.close(command)
}
