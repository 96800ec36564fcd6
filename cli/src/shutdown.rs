//! The moment to stop: SIGINT or SIGTERM.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// Supervisors often signal a process and its group, so the same wish may arrive twice.
const ECHO: Duration = Duration::from_secs(1);

/// Waits for the wish to stop. When it is repeated later, the process ends at once.
pub(crate) async fn requested() -> anyhow::Result<()> {
    one_signal().await?;
    tokio::spawn(async {
        tokio::time::sleep(ECHO).await;
        if one_signal().await.is_ok() {
            eprintln!("stopping at once, as asked twice; the next start recovers");
            std::process::exit(130);
        }
    });
    Ok(())
}

async fn one_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
