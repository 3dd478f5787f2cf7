//! Four workers share a folder and take each job once, without a server.
//!
//! A worker claims a job by creating an object. Creation is the only way to write, and only one
//! worker can create an object of a name. The claim of a worker is never replaced.

use pitr_objects::{Error, ErrorKind, Objects};
use std::collections::BTreeMap;
use std::path::Path;
use std::thread;

const JOBS: u32 = 12;

/// Claims as many jobs as it can. Returns their number.
fn work(folder: &Path, worker: u32) -> Result<u32, Error> {
    let objects = Objects::local(folder)?; // each worker could be a process of its own
    let mut claimed = 0;
    for job in (0..JOBS).map(|nth| (nth + worker * 3) % JOBS) {
        match objects.put_new(&format!("claims/{job:04}"), format!("worker {worker}")) {
            Ok(()) => claimed += 1,
            Err(Error::Foreign { .. }) => {} // another worker has it
            Err(error) => return Err(error),
        }
    }
    Ok(claimed)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temp = tempfile::tempdir()?;
    let folder = &temp.path().join("jobs");
    let objects = Objects::create_local(folder)?;
    let claimed: u32 = thread::scope(|scope| {
        let start = |worker| (worker, scope.spawn(move || work(folder, worker)));
        let workers: Vec<_> = (1..=4).map(start).collect();
        let mut sum = 0;
        for (worker, thread) in workers {
            let claimed = thread.join().expect("no worker panics")?;
            println!("worker {worker} claimed {claimed} jobs");
            sum += claimed;
        }
        Ok::<u32, Error>(sum)
    })?;
    assert_eq!(claimed, JOBS);

    let mut jobs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in objects.list("claims")? {
        let worker = String::from_utf8(objects.get(&entry.path)?.to_vec())?;
        jobs.entry(worker).or_default().push(entry.path);
    }
    println!("claims in the folder: {}", jobs.values().map(Vec::len).sum::<usize>());

    let again = objects.put_new("claims/0000", "somebody else").expect_err("the job is taken");
    println!("a later claim: {again}");
    objects.put_new("claims/0000", objects.get("claims/0000")?)?;
    println!("a put of the same bytes succeeds: it may be our own, repeated");
    assert_eq!(objects.get("claims/9999").expect_err("there is no such job").kind(), ErrorKind::Missing);
    Ok(())
}
