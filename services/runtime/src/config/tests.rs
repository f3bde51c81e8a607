//! What a person who configures a service may rely on.

use super::*;

const DEFAULTS: &str = r#"
    name = "door"
    code = "00000"
    peers = ["http://a"]
    [server]
    listen = "127.0.0.1:50051"
    admin_listen = "127.0.0.1:9090"
    max_connections = 100
    max_connections_per_source = 0
    max_concurrent_streams = 100
    max_decoding_bytes = 65536
    max_encoding_bytes = 65536
    request_timeout_ms = 5000
    keepalive_interval_ms = 20000
    keepalive_timeout_ms = 10000
    max_connection_idle_ms = 0
    unread_timeout_ms = 20000
    max_connection_age_ms = 0
    max_connection_age_grace_ms = 0
    drain_wait_ms = 0
    drain_deadline_ms = 1000
    reflection = true
    [server.tls]
    cert_file = ""
    key_file = ""
    client_ca_file = ""
    [telemetry]
    log_format = "json"
    log_filter = "info"
    otlp_endpoint = ""
    trace_sample_ratio = 0.1
    service_instance = ""
"#;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    name: String,
    code: String,
    peers: Vec<String>,
    server: ServerConfig,
    telemetry: TelemetryConfig,
}

fn env(pairs: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
    let own = |(k, v): &(&str, &str)| (OsString::from(k), OsString::from(v));
    pairs.iter().map(own).collect::<Vec<_>>().into_iter()
}

fn read(
    file: Option<&Path>,
    variables: &[(&str, &str)],
    flags: &[(&str, String)],
) -> Result<Settings, ConfigError> {
    load_with(DEFAULTS, file, "HF_T", env(variables), flags)
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn later_layers_win() {
    let file = file("name = 'file'\ncode = 'file'\n[server]\nmax_connections = 7\nreflection = false\n");
    let variables = [("HF_T__CODE", "env"), ("HF_T__SERVER__MAX_CONNECTIONS", "8")];
    let flags = [("server.max_connections", "9".to_owned())];

    let settings = read(Some(file.path()), &variables, &flags).unwrap();

    assert_eq!((settings.name.as_str(), settings.code.as_str()), ("file", "env"));
    assert_eq!(settings.server.max_connections, 9);
    assert!(!settings.server.reflection);
    assert_eq!(settings.server.listen, "127.0.0.1:50051".parse().unwrap());
    assert_eq!(settings.telemetry.otlp_endpoint, None);
}

#[test]
fn values_of_the_environment_are_not_rewritten() {
    let variables = [("HF_T__CODE", "00123"), ("HF_T__SERVER__REFLECTION", "false")];
    let settings = read(None, &variables, &[]).unwrap();
    assert_eq!(settings.code, "00123");
    assert!(!settings.server.reflection);
}

#[test]
fn a_list_is_set_with_commas() {
    let settings = read(None, &[("HF_T__PEERS", "http://b, http://c")], &[]).unwrap();
    assert_eq!(settings.peers, ["http://b", "http://c"]);
    let settings = read(None, &[], &[("peers", String::new())]).unwrap();
    assert!(settings.peers.is_empty());
}

#[test]
fn a_key_in_the_wrong_section_is_named_with_its_section() {
    let file = file("[server]\nlisten = '127.0.0.1:1'\n[telemetry]\nlisten = 'x'\n");
    let error = read(Some(file.path()), &[], &[]).unwrap_err().to_string();
    assert!(error.contains(": telemetry.listen: unknown field"), "{error}");
}

#[test]
fn foreign_variables_are_left_alone() {
    let service_link = [("HF_T_PORT", "tcp://10.0.0.1:80"), ("HF_TABLE__X", "1"), ("PATH", "/")];
    assert!(read(None, &service_link, &[]).is_ok());
}

#[test]
fn an_unknown_key_in_the_file_is_named_with_the_file() {
    let file = file("[server]\nlisen = '127.0.0.1:1'\n");
    let error = read(Some(file.path()), &[], &[]).unwrap_err().to_string();
    let start =
        format!("{}: server.lisen: unknown field `lisen`, expected one of `listen`", file.path().display());
    assert!(error.starts_with(&start), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn of_several_mistakes_in_the_file_one_is_named_with_the_file() {
    let file =
        file("[server]\nlisen = '127.0.0.1:1'\nreflexion = true\n[telemetry]\nlog = 'x'\nlevel = 1\nrate = 0\n");
    for _ in 0..20 {
        let error = read(Some(file.path()), &[], &[]).unwrap_err().to_string();
        assert!(error.starts_with(&file.path().display().to_string()), "{error}");
    }
}

#[test]
fn an_unknown_variable_is_named() {
    let error = read(None, &[("HF_T__SERVER__LISEN", "x")], &[]).unwrap_err().to_string();
    let start = "environment HF_T__SERVER__LISEN: server.lisen: unknown field `lisen`";
    assert!(error.starts_with(start), "{error}");
}

#[test]
fn an_unknown_section_and_an_unknown_flag_are_named() {
    let error = read(None, &[("HF_T__SERVR__LISTEN", "x")], &[]).unwrap_err().to_string();
    assert!(error.starts_with("environment HF_T__SERVR__LISTEN: servr.listen: unknown field `servr`"), "{error}");
    let error = read(None, &[], &[("colour", "red".to_owned())]).unwrap_err().to_string();
    assert!(error.starts_with("command line: colour: unknown field `colour`"), "{error}");
}

#[test]
fn a_value_of_another_type_is_named() {
    let error = read(None, &[("HF_T__SERVER__MAX_CONNECTIONS", "many")], &[]).unwrap_err().to_string();
    let start = "environment HF_T__SERVER__MAX_CONNECTIONS: server.max_connections: invalid type: string \"many\"";
    assert!(error.starts_with(start), "{error}");
}

#[test]
fn a_value_out_of_range_is_named_with_its_range() {
    let error = read(None, &[], &[("server.max_connections", "0".to_owned())]).unwrap_err().to_string();
    assert_eq!(error, "command line: server.max_connections: 0 is not within 1 to 1000000");
    let error = read(None, &[], &[("telemetry.trace_sample_ratio", "2".to_owned())]).unwrap_err().to_string();
    assert_eq!(error, "command line: telemetry.trace_sample_ratio: 2 is not within 0.0 to 1.0");
    let error = read(None, &[], &[("server.drain_wait_ms", "-1".to_owned())]).unwrap_err().to_string();
    assert_eq!(error, "command line: server.drain_wait_ms: -1 is not within 0 to 600000");
}

#[test]
fn a_file_that_is_not_toml_or_not_there_is_named() {
    let file = file("name = 'x'\nserver = [\n");
    let error = read(Some(file.path()), &[], &[]).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{} line ", file.path().display())), "{error}");
    let error = read(Some(Path::new("/nowhere/x.toml")), &[], &[]).unwrap_err().to_string();
    assert!(error.starts_with("cannot read /nowhere/x.toml: "), "{error}");
}

#[test]
fn a_secret_loses_one_newline_and_never_prints() {
    let secret = read_secret(file("00123 \n\n").path()).unwrap();
    assert_eq!(secret.expose(), "00123 \n");
    assert_eq!(format!("{secret:?}"), "Secret([REDACTED])");
}

#[test]
fn a_secret_file_that_is_empty_or_huge_is_refused() {
    let error = read_secret(file("\n").path()).unwrap_err().to_string();
    assert!(error.ends_with(": empty"), "{error}");
    let huge = "x".repeat(64 * 1024 + 1);
    let error = read_secret(file(&huge).path()).unwrap_err().to_string();
    assert!(error.ends_with(": larger than 64 KiB"), "{error}");
    assert!(read_secret(file(&huge[1..]).path()).is_ok());
}
