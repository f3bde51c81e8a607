//! TLS: who is let in, who is believed, and what happens when files change.

use std::{sync::Arc, time::Duration};

use holdfast_runtime::{
    client,
    config::ServerConfig,
    tls::{ClientTlsConfig, Current, File, PeerNames, ServerTlsConfig, shown_until},
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tonic::{Request, Response, Status, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_client::HealthClient,
    health_server::{self, HealthServer},
};

use crate::{
    bench::{Bench, PATIENCE, Waiting, client_config, config, request},
    pki::{Authority, Folder, Pair},
};

/// A server's files, and those of whoever calls it.
struct Site {
    folder: Folder,
    authority: Authority,
}

impl Site {
    fn new() -> Self {
        let site = Self { folder: Folder::new(), authority: Authority::new() };
        site.folder.put("ca.pem", &site.authority.pem);
        site.serve_as(&site.authority.pair(&["127.0.0.1", "queue.test"]));
        site.call_as(&site.authority.pair(&["intake.test"]));
        site
    }

    fn serve_as(&self, pair: &Pair) {
        self.folder.put_pair("server", pair);
    }

    fn call_as(&self, pair: &Pair) {
        self.folder.put_pair("client", pair);
    }

    fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig {
            cert_file: self.folder.path("server.pem"),
            key_file: self.folder.path("server.key"),
            client_ca_file: self.folder.path("ca.pem"),
        }
    }

    fn config(&self) -> ServerConfig {
        ServerConfig { tls: self.server(), ..config() }
    }

    fn client(&self) -> ClientTlsConfig {
        let path = |name| self.folder.path(name);
        ClientTlsConfig::of(path("ca.pem"), path("client.pem"), path("client.key"))
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.authority.pem.as_bytes()).unwrap()).unwrap();
        roots
    }

    async fn start(&self) -> Bench {
        Bench::standard(self.config()).await
    }
}

fn call(bench: &Bench, name: Option<&str>, tls: ClientTlsConfig) -> HealthClient<Channel> {
    call_at(&format!("https://{}", bench.address), name, tls)
}

fn call_at(address: &str, name: Option<&str>, tls: ClientTlsConfig) -> HealthClient<Channel> {
    let mut config = client_config();
    config.tls = tls;
    HealthClient::new(client::channel_to(address, name, &config).unwrap())
}

/// Everything that was said about why, from the outside to the inside.
fn why(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

async fn refused(bench: &Bench, name: Option<&str>, tls: ClientTlsConfig) -> String {
    why(&call(bench, name, tls).check(request("")).await.unwrap_err())
}

/// Asks on new connections until one is answered, or refused, as wanted.
async fn until_new_connections(bench: &Bench, tls: impl Fn() -> ClientTlsConfig, are_let_in: bool) {
    let begun = Instant::now();
    while call(bench, None, tls()).check(request("")).await.is_ok() != are_let_in {
        assert!(begun.elapsed() < PATIENCE, "new connections are never let in: {are_let_in}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn both_sides_show_certificates_and_speak() {
    let site = Site::new();
    let bench = site.start().await;

    assert!(call(&bench, None, site.client()).check(request("")).await.is_ok());
    assert!(call(&bench, Some("queue.test"), site.client()).check(request("")).await.is_ok());
}

/// Answers only whoever has the name.
struct For(&'static str);

#[tonic::async_trait]
impl health_server::Health for For {
    async fn check(&self, asked: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let names = asked.extensions().get::<PeerNames>().ok_or_else(|| Status::internal("no names"))?;
        assert_eq!(format!("{names:?}"), "PeerNames(1)", "what is printed names nobody");
        let is_known = names.iter().any(|name| name == self.0);
        if is_known {
            Ok(Response::new(HealthCheckResponse { status: 1 }))
        } else {
            Err(Status::internal("another"))
        }
    }

    type WatchStream = futures::stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(futures::stream::empty()))
    }
}

#[tokio::test]
async fn a_service_learns_the_verified_names_of_its_peer() {
    let site = Site::new();
    let health = Bench::standard(config()).await.health;
    let routes = tonic::service::Routes::new(HealthServer::new(For("intake.test")));
    let bench = Bench::start(site.config(), routes, health).await;

    let answer = call(&bench, None, site.client()).check(request("")).await;

    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test]
async fn whoever_shows_no_certificate_or_anothers_is_refused() {
    let site = Site::new();
    let bench = site.start().await;
    let (elsewhere, ca) = (Folder::new(), site.folder.path("ca.pem"));
    let (cert, key) = elsewhere.put_pair("client", &Authority::new().pair(&["intake.test"]));
    let (old_cert, old_key) = elsewhere.put_pair("old", &site.authority.pair(&["intake.test"]));

    let nobody = ClientTlsConfig::of(ca.clone(), "".into(), "".into());
    let stranger = ClientTlsConfig::of(ca.clone(), cert, key);

    assert!(call(&bench, None, nobody).check(request("")).await.is_err());
    assert!(call(&bench, None, stranger).check(request("")).await.is_err());
    assert!(call(&bench, None, ClientTlsConfig::of(ca, old_cert, old_key)).check(request("")).await.is_ok());
}

#[tokio::test]
async fn a_server_with_another_name_or_authority_is_not_believed() {
    let site = Site::new();
    let bench = site.start().await;
    let other = Folder::new();
    let other_ca = other.put("ca.pem", &Authority::new().pem);
    let (cert, key) = (site.folder.path("client.pem"), site.folder.path("client.key"));

    let wrong_name = refused(&bench, Some("dispatch.test"), site.client()).await;
    let wrong_authority = refused(&bench, None, ClientTlsConfig::of(other_ca, cert, key)).await;

    assert!(wrong_name.contains("not valid for name"), "{wrong_name}");
    assert!(wrong_authority.contains("invalid peer certificate"), "{wrong_authority}");
}

/// A client that shows whatever it has; what the server says to that, before it says anything else.
async fn answer_to(bench: &Bench, site: &Site, pair: &Pair) -> Result<u8, String> {
    let with_versions = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
    let with_versions = with_versions.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let with_roots = with_versions.with_root_certificates(site.roots());
    let mut client = with_roots.with_client_auth_cert(vec![pair.certificate()], pair.private_key()).unwrap();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(bench.address).await.unwrap();
    let name = ServerName::try_from("queue.test").unwrap();
    let mut stream = TlsConnector::from(Arc::new(client)).connect(name, socket).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let first = timeout(PATIENCE, stream.read_u8()).await.expect("an answer in time");
    first.map_err(|refusal| refusal.to_string())
}

#[tokio::test]
async fn a_client_whose_certificate_is_not_good_now_is_refused() {
    let site = Site::new();
    let bench = site.start().await;
    let names = ["intake.test"];

    let good = answer_to(&bench, &site, &site.authority.pair(&names)).await;
    let expired = answer_to(&bench, &site, &site.authority.expired(&names)).await.unwrap_err();
    let not_yet = answer_to(&bench, &site, &site.authority.not_yet_good(&names)).await.unwrap_err();

    assert!(good.is_ok(), "{good:?}");
    assert!(expired.contains("CertificateExpired"), "{expired}");
    // In the words of TLS that is the same.
    assert!(not_yet.contains("CertificateExpired"), "{not_yet}");
}

/// A server that shows whatever it has, to one caller, and says nothing; where it is.
async fn shows(pair: &Pair) -> String {
    let with_versions =
        rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
    let with_versions = with_versions.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let nobody_asked = with_versions.with_no_client_auth();
    let mut server = nobody_asked.with_single_cert(vec![pair.certificate()], pair.private_key()).unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(server));
        // What a caller who was convinced finds is no server of ours.
        drop(acceptor.accept(socket).await);
    });
    address
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_good_now_is_not_believed() {
    let site = Site::new();
    let names = ["127.0.0.1"];
    let refusal = async |pair: Pair| {
        let address = shows(&pair).await;
        why(&call_at(&address, None, site.client()).check(request("")).await.unwrap_err())
    };

    let good = refusal(site.authority.pair(&names)).await;
    let expired = refusal(site.authority.expired(&names)).await;
    let not_yet = refusal(site.authority.not_yet_good(&names)).await;

    assert!(!good.contains("invalid peer certificate"), "{good}");
    assert!(expired.contains("invalid peer certificate: certificate expired"), "{expired}");
    assert!(not_yet.contains("invalid peer certificate: certificate not valid yet"), "{not_yet}");
}

#[tokio::test]
async fn plaintext_and_older_tls_are_refused() {
    let site = Site::new();
    let bench = site.start().await;
    let older = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
    let older = older.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
    let older = TlsConnector::from(Arc::new(older.with_root_certificates(site.roots()).with_no_client_auth()));
    let socket = TcpStream::connect(bench.address).await.unwrap();
    let name = ServerName::try_from("queue.test").unwrap();

    let refusal = older.connect(name, socket).await.unwrap_err().to_string();

    assert!(refusal.contains("ProtocolVersion"), "{refusal}");
    assert!(bench.client().check(request("")).await.is_err(), "plaintext");
}

#[tokio::test]
async fn new_certificates_count_for_new_connections_and_streams_go_on() {
    let site = Site::new();
    let service = Waiting::new();
    let bench = Bench::with(site.config(), &service).await;
    let mut begun_before = call(&bench, None, site.client());
    let mut stream = begun_before.watch(request("")).await.unwrap().into_inner();
    service.go.add_permits(1);
    assert!(stream.message().await.unwrap().is_some());
    let old_certificates = Folder::new();
    let copy = |name: &str| old_certificates.put(name, &std::fs::read_to_string(site.folder.path(name)).unwrap());
    let of_before = ClientTlsConfig::of(site.folder.path("ca.pem"), copy("client.pem"), copy("client.key"));

    let next = Authority::new();
    site.folder.put("ca.pem", &next.pem);
    site.serve_as(&next.pair(&["127.0.0.1"]));
    site.call_as(&next.pair(&["intake.test"]));

    let begun = Instant::now();
    while shown_until(&format!("https://{}", bench.address), &site.client()).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "the new certificate is never shown");
        sleep(Duration::from_millis(50)).await;
    }
    let whoever_did_not_change = call(&bench, None, of_before).check(request("")).await;
    assert!(whoever_did_not_change.is_err(), "the old authority is believed no more");
    service.go.add_permits(1);
    assert!(stream.message().await.unwrap().is_some(), "the stream goes on");
}

#[tokio::test]
async fn a_channel_dials_with_what_is_in_force_then() {
    let site = Site::new();
    let bench = site.start().await;
    let mut config = client_config();
    config.tls = site.client();
    let address = format!("https://{}", bench.address);
    let made_before = client::channel(&address, &config).unwrap();
    let next = Authority::new();
    site.folder.put("ca.pem", &next.pem);
    site.serve_as(&next.pair(&["127.0.0.1"]));
    site.call_as(&next.pair(&["intake.test"]));
    until_new_connections(&bench, || site.client(), true).await;

    let begun = Instant::now();
    let mut client = HealthClient::new(made_before);
    while client.check(request("")).await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "the channel never takes the new files");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_change_nothing_and_later_ones_do() {
    let folder = Folder::new();
    let file = File::new("a.setting", &folder.put("file", "good"));
    let (looked, mut looks) = tokio::sync::mpsc::unbounded_channel();
    let mut live = Current::follow("test", vec![file], move |read| {
        let (file, bytes) = &read[0];
        looked.send(()).unwrap();
        if bytes.starts_with(b"good") { Ok(bytes.clone()) } else { Err(file.wrong("not good")) }
    })
    .unwrap();

    folder.put("file", "bad");
    for _at_start_and_twice_since in 0..3 {
        looks.recv().await.unwrap();
    }
    let after_the_bad_one = live.now();
    folder.put("file", "good again");
    live.changed().await;

    assert_eq!(*after_the_bad_one, b"good");
    assert_eq!(*live.now(), b"good again");
}

#[tokio::test]
async fn a_peer_that_never_finishes_its_handshake_is_cut() {
    let site = Site::new();
    let bench = site.start().await;
    let mut slow = TcpStream::connect(bench.address).await.unwrap();
    slow.write_all(&[0x16, 0x03, 0x01]).await.unwrap();

    let begun = Instant::now();
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, slow.read_to_end(&mut rest)).await;

    assert!(ended.is_ok(), "never cut");
    assert!(begun.elapsed() >= Duration::from_secs(4), "cut for another reason: {rest:?}");
}

#[tokio::test]
async fn what_a_port_shows_can_be_looked_at() {
    let site = Site::new();
    let bench = site.start().await;

    let until = shown_until(&format!("https://{}", bench.address), &site.client()).await.unwrap();

    assert_eq!(until, 67_090_118_400, "the end of what rcgen makes: the year 4096");
}

#[test]
fn files_that_are_wrong_are_named_with_their_setting() {
    let site = Site::new();
    let name = |name: &str| site.folder.dir().join(name);
    let refusal = |change: &dyn Fn(&mut ServerTlsConfig)| {
        let mut tls = site.server();
        change(&mut tls);
        tls.check(false).unwrap_err().to_string()
    };
    let other = site.authority.pair(&["a.test"]);
    site.folder.put("other.key", &other.key);
    site.folder.put("expired.pem", &site.authority.expired(&["a.test"]).cert);
    site.folder.put("empty.pem", "");

    let missing = refusal(&|tls| tls.cert_file = name("none.pem"));
    let empty = refusal(&|tls| tls.client_ca_file = name("empty.pem"));
    let no_key = refusal(&|tls| tls.key_file = name("empty.pem"));
    let other_key = refusal(&|tls| tls.key_file = name("other.key"));
    let expired = refusal(&|tls| tls.cert_file = name("expired.pem"));
    let half = refusal(&|tls| tls.key_file = "".into());
    let only_ca = refusal(&|tls| (tls.cert_file, tls.key_file) = ("".into(), "".into()));

    let file = |file: &str| name(file).display().to_string();
    assert!(
        missing.starts_with(&format!("server.tls.cert_file: {}: cannot be read: ", file("none.pem"))),
        "{missing}"
    );
    assert_eq!(empty, format!("server.tls.client_ca_file: {}: holds no certificate in PEM", file("empty.pem")));
    assert_eq!(no_key, format!("server.tls.key_file: {}: holds no private key in PEM", file("empty.pem")));
    assert_eq!(
        other_key,
        format!("server.tls.key_file: {}: this key is not the one of the certificate", file("other.key"))
    );
    assert_eq!(expired, format!("server.tls.cert_file: {}: the certificate has expired", file("expired.pem")));
    assert_eq!(half, "server.tls.key_file is empty, and server.tls.cert_file needs it");
    assert_eq!(only_ca, "server.tls.cert_file is empty, and server.tls.client_ca_file needs it");
}

#[test]
fn plaintext_is_refused_until_it_is_asked_for() {
    let (server, client) = (ServerTlsConfig::default(), ClientTlsConfig::default());
    let addresses = || ["https://queue:1", "http://queue:2"];

    let port = server.check(false).unwrap_err().to_string();
    let address = client.check("queue.addresses", addresses(), false).unwrap_err().to_string();

    assert!(port.starts_with("server.tls.cert_file: empty"), "{port}");
    assert!(address.starts_with("queue.addresses: http://queue:2 would"), "{address}");
    assert!(port.ends_with("set security.insecure_no_tls = true"), "{port}");
    assert!(server.check_internal(true).is_ok());
    assert!(ClientTlsConfig::of(Site::new().folder.path("x"), "".into(), "".into()).check("x", [], true).is_err());
}

#[test]
fn a_port_for_services_asks_for_certificates() {
    let site = Site::new();
    let mut tls = site.server();
    tls.client_ca_file = "".into();

    let refusal = tls.check_internal(false).unwrap_err().to_string();

    assert!(refusal.starts_with("server.tls.client_ca_file: empty"), "{refusal}");
    assert!(site.server().check_internal(false).is_ok());
    assert!(tls.check(false).is_ok());
}
