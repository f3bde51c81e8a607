//! A whole process: it runs until SIGTERM, and says how it ended.

use std::process::{Command, ExitCode};

use holdfast_runtime::config::{LogFormat, TelemetryConfig};

fn telemetry() -> TelemetryConfig {
    TelemetryConfig {
        log_format: LogFormat::Text,
        log_filter: "off".to_owned(),
        otlp_endpoint: None,
        trace_sample_ratio: 0.0,
        service_instance: String::new(),
    }
}

#[test]
fn a_process_drains_on_the_first_signal_and_stops_on_the_second() {
    let code = holdfast_runtime::run("test", telemetry(), 2, |context| async move {
        send("-TERM")?;
        context.stop.draining().await;
        assert!(!context.stop.is_stopping());
        send("-INT")?;
        context.stop.stopping().await;
        Ok::<(), std::io::Error>(())
    });
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
}

fn send(signal: &str) -> std::io::Result<()> {
    let own = std::process::id().to_string();
    assert!(Command::new("kill").args([signal, &own]).status()?.success());
    Ok(())
}

#[test]
fn a_service_that_fails_makes_its_process_fail() {
    let code = holdfast_runtime::run("test", telemetry(), 0, |_| async { Err("cannot open the store") });
    assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::FAILURE));
}
