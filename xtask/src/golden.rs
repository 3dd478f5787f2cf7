//! Makes the golden repositories of the format's present version: what this version wrote must be read by every later one.
//!
//! Below `pitr/tests/golden/VERSION`: a repository in clear and an encrypted one with its key, each with a database that was
//! watched between two snapshots and with a folder; and what the database was after each transaction. A version that stands
//! there already is never made again.

use crate::Result;
use crate::application::Application;
use crate::drill::settle;
use crate::program::Program;
use crate::world;
use std::fs;
use std::path::Path;

const VERSION: &str = "v1";
const KEY: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0\n";

/// Makes them; an error if they are there.
pub(crate) fn run() -> Result<bool> {
    let golden = world::root().join("pitr/tests/golden").join(VERSION);
    if golden.exists() {
        return Err(format!("{} is there, and is what that version wrote", golden.display()).into());
    }
    fs::create_dir_all(&golden)?;
    fs::write(golden.join("key"), KEY)?;
    let key = golden.join("key");
    for name in ["plain", "encrypted"] {
        let folder = golden.join(name);
        fs::create_dir(&folder)?;
        let repo = folder.join("repo");
        let program =
            if name == "plain" { Program::with_repository(&repo)? } else { Program::with_key(&repo, &key)? };
        fill(&program, &folder)?;
        println!("{}: {} bytes", folder.display(), world::bytes_below(&folder)?);
    }
    Ok(true)
}

fn fill(program: &Program, folder: &Path) -> Result<()> {
    // A snapshot of a folder knows where it stood: the repository is not to name this checkout.
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
    application.tell("go")?;
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
