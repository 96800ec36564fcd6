//! The moment to stop: SIGINT or SIGTERM.

/// Waits for the first signal to stop. A second one ends the process at once.
pub(crate) async fn requested() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        eprintln!("stopping at once, as asked twice; the next start recovers");
        std::process::exit(130);
    });
    Ok(())
}
