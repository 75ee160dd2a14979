//! Ctrl-C and SIGTERM as a wish to stop at the next good place.

use std::sync::{Arc, atomic::AtomicBool};

use anyhow::{Context, Result};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

/// From here on Ctrl-C or SIGTERM sets the flag; a second one ends the process at once.
pub(crate) fn on_signal() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    // SIGTERM is what schedulers send. SIGHUP is left alone, so that `nohup` works.
    for signal in [SIGINT, SIGTERM] {
        // In this order: the second signal finds the flag set and ends the process at once.
        flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)))
            .context("Ctrl-C cannot be caught")?;
    }
    Ok(stop)
}
