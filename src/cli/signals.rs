//! SIGINT and SIGTERM: the first stops cleanly, the second at once.

use std::future::Future;
use std::io::{self, Write};
use std::process;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// The exit code after the second signal: what was under way did not finish.
const EXIT_AT_ONCE: i32 = 1;

/// Ready at the first signal. The signals are taken over when this returns, and watched by a task of this runtime.
pub(super) fn stop() -> io::Result<impl Future<Output = ()>> {
    let mut signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(async move {
        next(&mut signals).await;
        tell("stopping; once more to stop at once");
        // Where nobody waits, the cluster has ended by itself.
        let _ = stop.send(());
        next(&mut signals).await;
        tell("stopped before all was done");
        process::exit(EXIT_AT_ONCE);
    });
    Ok(async {
        // The task sends before it ends.
        let _ = stopped.await;
    })
}

/// Ready at the first signal, for a command that has nothing to finish.
pub(super) fn interrupt() -> io::Result<impl Future<Output = ()>> {
    let mut signals = [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?];
    Ok(async move { next(&mut signals).await })
}

async fn next([interrupt, terminate]: &mut [Signal; 2]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn tell(what: &str) {
    // Where stderr is gone, the signal works all the same.
    let _ = writeln!(io::stderr(), "primacy: {what}");
}
