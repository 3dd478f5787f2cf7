//! The program `xtask` itself. Because of this test, `cargo test` builds it.
#![allow(clippy::unwrap_used, reason = "a test that can't continue fails")]

use std::process::Command;

#[test]
fn the_workspace_is_tidy() {
    let tidy = Command::new(env!("CARGO_BIN_EXE_xtask")).arg("tidy").output().unwrap();
    let said = String::from_utf8_lossy(&tidy.stdout);
    assert!(tidy.status.success(), "{said}");
    assert!(said.contains("0 problems"), "{said}");
}
