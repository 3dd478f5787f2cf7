//! Creates the golden repositories of the current format version. Every later version must read
//! what this version wrote.
//!
//! Below `cli/tests/golden/VERSION` are a plain repository, and an encrypted one with its key.
//! Each holds a database that was watched between two snapshots, and a folder; and copies of the
//! database after each transaction. Another repository holds a text, which is cut by its content,
//! before and after the insertion of a line. A fourth holds a folder of many files, before and
//! after one of them changed. An existing repository is never created again.

use crate::Result;
use crate::application::Application;
use crate::drill::settle;
use crate::program::Program;
use crate::world;
use std::fs;
use std::path::Path;

const VERSION: &str = "v1";
const KEY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0\n";

/// Creates the missing repositories; an error if none is missing.
pub(crate) fn run() -> Result<bool> {
    let golden = world::root().join("cli/tests/golden").join(VERSION);
    let missing: Vec<&str> = ["plain", "encrypted", "text", "many"]
        .into_iter()
        .filter(|name| !golden.join(name).exists())
        .collect();
    if missing.is_empty() {
        return Err(
            format!("{} is complete; golden repositories are never created again", golden.display()).into()
        );
    }
    fs::create_dir_all(&golden)?;
    let key = golden.join("key");
    if !key.exists() {
        fs::write(&key, KEY)?;
    }
    for name in missing {
        let folder = golden.join(name);
        fs::create_dir(&folder)?;
        let repo = folder.join("repo");
        match name {
            "plain" => fill(&Program::with_repository(&repo)?, &folder)?,
            "encrypted" => fill(&Program::with_key(&repo, &key)?, &folder)?,
            "text" => fill_with_text(&Program::with_repository(&repo)?)?,
            _ => fill_with_many(&Program::with_repository(&repo)?)?,
        }
        println!("{}: {} bytes", folder.display(), world::bytes_below(&folder)?);
    }
    Ok(true)
}

fn fill_with_text(program: &Program) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let texts = dir.path().join("texts");
    fs::create_dir(&texts)?;
    let lines: Vec<String> = (0..150_000).map(|number| format!("line {}\n", number % 997)).collect();
    let (front, back) = (lines[..75_000].concat(), lines[75_000..].concat());
    for put_in in ["", "put in\n"] {
        fs::write(texts.join("text"), [&front, put_in, &back].concat())?;
        program.call([Path::new("backup"), &texts, "--compress".as_ref(), "gzip".as_ref()])?.done()?;
    }
    Ok(())
}

fn fill_with_many(program: &Program) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let many = dir.path().join("many");
    fs::create_dir(&many)?;
    for number in 0..100 {
        fs::write(many.join(number.to_string()), format!("{number}\n"))?;
    }
    for of_file_50 in ["50\n", "another 50\n"] {
        fs::write(many.join("50"), of_file_50)?;
        program.call([Path::new("backup"), &many, "--compress".as_ref(), "gzip".as_ref()])?.done()?;
    }
    Ok(())
}

fn fill(program: &Program, folder: &Path) -> Result<()> {
    // A snapshot of a folder records its location: keep the path of this checkout out of the
    // repository.
    let dir = tempfile::tempdir()?;
    let (app, pictures) = (dir.path().join("app"), dir.path().join("pictures"));
    fs::create_dir(&app)?;
    fs::create_dir_all(pictures.join("old"))?;
    fs::write(pictures.join("one"), "one picture\n".repeat(500))?;
    fs::write(pictures.join("old/two"), b"")?;
    std::os::unix::fs::symlink("../one", pictures.join("old/link"))?;
    let mut application = Application::start("golden.py", &[&app.to_string_lossy()])?;
    application.event("ready")?;
    let database = app.join("app.db");
    let watch = program.watch(&database, &["--compress", "gzip"])?;
    settle();
    application.send("go")?;
    let done = application.event("done")?;
    settle();
    watch.stop()?;
    for what in [&database, &pictures] {
        program.call([Path::new("backup"), what, "--compress".as_ref(), "gzip".as_ref()])?.done()?;
    }
    for copy in done["copies"].as_array().into_iter().flatten().filter_map(|copy| copy.as_str()) {
        let name = Path::new(copy).file_name().unwrap_or_default();
        fs::copy(copy, folder.join(name))?;
    }
    application.end()
}
