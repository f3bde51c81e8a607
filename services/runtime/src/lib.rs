//! The life of a process: configuration, telemetry, serving, draining. Knows nothing of crisis lines.
