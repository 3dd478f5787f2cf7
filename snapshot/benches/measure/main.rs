//! The measurements behind `cargo xtask measure snapshot, metadata, duplicates`.

mod duplicates;
mod growth;
mod made;
mod metadata;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    match (args.first().map(String::as_str), &numbers[..]) {
        (Some("snapshot"), [changed, sizes @ ..]) => growth::run(*changed, sizes),
        (Some("metadata"), [gigabytes, per_mille]) => metadata::run(*gigabytes, *per_mille),
        (Some("duplicates"), [megabytes]) => duplicates::run(*megabytes),
        _ => Ok(()), // `cargo test` runs benches too
    }
}
