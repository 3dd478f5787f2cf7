//! Tests under miri, which sees every use of memory that Rust doesn't allow.

use crate::Result;
use crate::verdict::Verdict;
use crate::world;

/// Packages with the tests of theirs to run: all that do arithmetic on bytes or share memory between threads, and what stands
/// directly over a mapped file, there on held bytes.
const PACKAGES: [(&str, &str); 4] =
    [("pitr-format", ""), ("pitr-tracker", ""), ("pitr-vfs", "view"), ("pitr-wal", "sealed")];

/// Tests of sizes: they do the same to more memory than an interpreter gets through in an hour.
const OF_SIZES: [&str; 4] = [
    "files_beyond_the_memory_limit_mark_everything",
    "one_hundred_gigabytes_take_about_three_megabytes",
    "many_small_pages_stay_within_the_memory_limit",
    "the_largest_set_fits_into_a_file",
];

/// Cases of each property, others in each run: an interpreted one takes a minute.
const CASES: &str = "1";

/// Runs them; whether all pass.
pub(crate) fn run() -> Result<bool> {
    let command = "cargo xtask miri";
    println!("{command}");
    let mut verdict = Verdict::default();
    for (package, filter) in PACKAGES {
        let mut miri = world::nightly_cargo();
        miri.args(["miri", "test", "--package", package, "--lib", "--", filter]);
        OF_SIZES.iter().for_each(|name| _ = miri.args(["--skip", name]));
        // Properties ask for the working folder, tests of files for real ones.
        miri.env("MIRIFLAGS", "-Zmiri-disable-isolation")
            .env("PROPTEST_CASES", CASES)
            .env("CARGO_TARGET_DIR", world::target().join("miri"));
        let passed = verdict.tests(package, &mut miri, "see above")?;
        verdict.figure(format_args!("{passed} tests of {package}"));
    }
    verdict.close(command)
}
