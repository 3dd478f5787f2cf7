//! Ending on SIGINT and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::failure::{CliError, Exit};

/// A flag that SIGINT and SIGTERM set. A second signal ends the program at once.
pub(super) fn on_signals() -> Result<Arc<AtomicBool>, CliError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let handlers = flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)));
        handlers.map_err(|e| CliError::new(Exit::Failed, e).at("installing the signal handlers"))?;
    }
    Ok(stop)
}
