//! Peers that mean harm, one attack each: they are cut within bounds, and whoever else is there is served meanwhile.

use std::time::Duration;

use holdfast_runtime::{config::ServerConfig, server};
use tokio::time::{Instant, sleep, timeout};
use tonic::{
    service::{Routes, RoutesBuilder},
    transport::Channel,
};
use tonic_health::pb::{health_client::HealthClient, health_server::HealthServer};

use crate::{
    bench::{Bench, PATIENCE, Waiting, config, request},
    rogue::*,
};

/// The server under attack, and somebody honest who was there before.
struct Door {
    bench: Bench,
    service: Waiting,
    seen: Seen,
    honest: HealthClient<Channel>,
}

impl Door {
    async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let (mut config, service, socket) = (config(), Waiting::new(), Watched::bind());
        change(&mut config);
        let health = server::standard_services(&mut RoutesBuilder::default(), &config, &[]).unwrap();
        let limited = HealthServer::new(service.clone()).max_decoding_message_size(config.max_decoding_bytes);
        let seen = socket.seen.clone();
        let bench = Bench::serve(socket, config, Routes::new(limited), health);
        let door = Self { honest: bench.client(), bench, service, seen };
        door.serves().await;
        door
    }

    async fn standard() -> Self {
        Self::with(|_| {}).await
    }

    /// Somebody honest is answered.
    async fn serves(&self) {
        let mut honest = self.honest.clone();
        let answer = timeout(PATIENCE, honest.check(request("at once"))).await;
        answer.expect("somebody honest is answered").unwrap();
    }

    async fn rogue(&self) -> Rogue {
        Rogue::greeting(self.bench.address, &[]).await
    }

    /// In the end only the honest are connected, and no call goes on.
    async fn is_quiet(&self) {
        let quiet = || self.seen.open() <= 1 && self.service.going() == 0;
        let begun = Instant::now();
        while !quiet() {
            let left = (self.seen.open(), self.service.going());
            assert!(begun.elapsed() < PATIENCE, "connections and calls are left: {left:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test]
async fn more_streams_than_agreed_are_refused_one_by_one() {
    let door = Door::with(|config| config.max_concurrent_streams = 8).await;
    let mut rogue = door.rogue().await;

    let mut refused = 0;
    for stream in (1..41).step_by(2) {
        rogue.call("Watch", stream).await;
    }
    while refused < 12 {
        let reset = rogue.until(|frame| frame.kind == RST_STREAM).await.unwrap();
        assert_eq!(reset.reason(), REFUSED);
        refused += 1;
    }

    assert_eq!(door.service.going(), 8);
    door.serves().await;
    drop(rogue);
    door.is_quiet().await;
}

#[tokio::test]
async fn streams_that_are_reset_as_soon_as_they_are_opened_end_the_connection() {
    let door = Door::standard().await;
    let mut rogue = door.rogue().await;

    let burst: Vec<u8> = (0..5_000)
        .flat_map(|n| {
            let stream = 2 * n + 1;
            [
                frame(HEADERS, END_HEADERS, stream, &call("Watch")),
                frame(RST_STREAM, NO_FLAGS, stream, &CANCEL.to_be_bytes()),
            ]
            .concat()
        })
        .collect();
    rogue.say(&burst).await;

    assert!(matches!(rogue.end().await, Some(CALM) | None));
    assert!(door.seen.read() < burst.len() / 2, "{} of {} bytes were read", door.seen.read(), burst.len());
    door.serves().await;
    door.is_quiet().await;
}

#[tokio::test]
async fn making_the_server_reset_streams_ends_the_connection() {
    let door = Door::standard().await;
    let mut rogue = door.rogue().await;

    let (mut resets, mut stream) = (0, 1);
    let goodbye = loop {
        rogue.call("Watch", stream).await;
        rogue.frame(WINDOW_UPDATE, NO_FLAGS, stream, &i32::MAX.to_be_bytes()).await;
        let frame = rogue.until(|frame| frame.kind == RST_STREAM || frame.kind == GOAWAY).await.unwrap();
        if frame.kind == GOAWAY {
            break frame;
        }
        (resets, stream) = (resets + 1, stream + 2);
        assert!(resets <= 1024, "{resets} mistakes");
        assert!(door.service.going() <= 2, "{} calls go on", door.service.going());
    };

    assert_eq!((goodbye.reason(), resets), (CALM, 1024));
    door.serves().await;
    door.is_quiet().await;
}

#[tokio::test]
async fn headers_without_an_end_end_the_connection() {
    let door = Door::standard().await;
    for piece in [field("x", "y"), field("x", &"y".repeat(16_000)), vec![]] {
        let before = door.seen.read();
        let mut rogue = door.rogue().await;
        rogue.frame(HEADERS, END_STREAM, 1, &call("Check")).await;

        let mut sent = 0;
        while sent < 10_000 && rogue.frame(CONTINUATION, NO_FLAGS, 1, &piece).await {
            sent += 1;
        }

        let reason = rogue.end().await;
        assert!(matches!(reason, Some(CALM | COMPRESSION) | None), "{reason:?}");
        let read = door.seen.read() - before;
        assert!(read < 256 * 1024, "{read} bytes were read of pieces with {}", piece.len());
        door.serves().await;
    }
    door.is_quiet().await;
}

#[tokio::test]
async fn too_many_headers_are_refused_and_far_too_many_end_the_connection() {
    let door = Door::standard().await;
    let mut rogue = door.rogue().await;

    let large = [call("Check"), field("x", &"y".repeat(15_900)), field("z", &"y".repeat(400))].concat();
    let (first, rest) = large.split_at(16_000);
    rogue.frame(HEADERS, END_STREAM, 1, first).await;
    rogue.frame(CONTINUATION, END_HEADERS, 1, rest).await;
    let refusal = rogue.until(|frame| frame.kind == HEADERS).await.unwrap();
    assert_eq!(refusal.stream, 1);
    let status_431 = [0x69, 0x90, 0xff]; // as HPACK writes these figures
    assert!(refusal.payload.windows(3).any(|window| window == status_431), "{:?}", refusal.payload);

    // A field of 4,000 bytes is remembered, and named 40 times with a byte each.
    let remembered = [&[0x40][..], &length(1), b"x", &length(4_000), "y".repeat(4_000).as_bytes()].concat();
    let bomb = [call("Check"), remembered, vec![0x80 | 62; 40]].concat();
    rogue.frame(HEADERS, END_STREAM | END_HEADERS, 3, &bomb).await;

    assert_eq!(rogue.end().await, Some(CALM));
    door.serves().await;
    door.is_quiet().await;
}

#[tokio::test]
async fn frames_that_say_nothing_end_the_connection() {
    let door = Door::standard().await;
    let mut rogue = door.rogue().await;
    rogue.frame(HEADERS, END_HEADERS, 1, &call("Check")).await;

    let mut sent = 0;
    while sent < 100_000 && rogue.say(&frame(DATA, NO_FLAGS, 1, &[]).repeat(100)).await {
        sent += 100;
    }

    assert!(matches!(rogue.end().await, Some(CALM) | None));
    assert!(door.seen.read() < 64 * 1024, "{} bytes were read", door.seen.read());
    door.serves().await;
    door.is_quiet().await;
}

#[tokio::test]
async fn a_frame_that_is_too_large_ends_the_connection_before_it_is_read() {
    let door = Door::standard().await;
    let mut rogue = door.rogue().await;
    rogue.frame(HEADERS, END_HEADERS, 1, &call("Check")).await;

    rogue.frame(DATA, NO_FLAGS, 1, &vec![0; 1 << 20]).await;

    assert!(matches!(rogue.end().await, Some(FRAME_SIZE) | None));
    assert!(door.seen.read() < 64 * 1024, "{} bytes were read", door.seen.read());
    door.serves().await;
    door.is_quiet().await;
}

#[tokio::test]
async fn what_may_wait_unread_is_announced() {
    let door = Door::with(|config| config.max_concurrent_streams = 8).await;
    let mut rogue = door.rogue().await;

    let settings = rogue.until(|frame| frame.kind == SETTINGS && frame.flags == NO_FLAGS).await.unwrap();
    let said = |id: u16| {
        let pairs = settings.payload.chunks_exact(6).find(|pair| pair[..2] == id.to_be_bytes());
        pairs.map(|pair| u32::from_be_bytes(pair[2..].try_into().unwrap()))
    };
    let more = rogue.until(|frame| frame.kind == WINDOW_UPDATE && frame.stream == 0).await.unwrap();

    let (streams, window, headers) = (said(3), said(4), said(6));
    assert_eq!((streams, window, headers), (Some(8), Some(256 * 1024), Some(16 * 1024)));
    assert!(matches!(said(5), None | Some(16_384)), "frames");
    assert_eq!(more.reason() + 65_535, 256 * 1024, "all streams together");
}

#[tokio::test]
async fn whoever_never_calls_is_cut_soon_and_may_have_said_half_a_word() {
    let door = Door::standard().await;
    let half =
        [PREFACE, &frame(SETTINGS, NO_FLAGS, 0, &[]), &frame(HEADERS, END_STREAM, 1, &call("Check"))].concat();
    let openings: [&[u8]; 6] = [
        b"",
        &PREFACE[..10],
        PREFACE,
        &half[..PREFACE.len() + 9],
        &half,
        b"POST / HTTP/1.1\r\nhost: x\r\nx-slow: ",
    ];
    let begun = Instant::now();
    let mut rogues = Vec::new();
    for opening in openings {
        let mut rogue = Rogue::connect(door.bench.address).await;
        rogue.say(opening).await;
        rogues.push(rogue);
    }

    for rogue in &mut rogues {
        rogue.is_cut().await;
    }

    assert!(begun.elapsed() >= Duration::from_secs(9), "cut for another reason after {:?}", begun.elapsed());
    door.serves().await;
    door.is_quiet().await;
}

#[tokio::test]
async fn half_a_request_cannot_answer_the_ping_and_is_cut() {
    let door = Door::with(|config| (config.keepalive_interval_ms, config.keepalive_timeout_ms) = (200, 200)).await;
    let mut rogue = door.rogue().await;
    assert!(rogue.is_served(1).await);

    rogue.frame(HEADERS, END_STREAM, 3, &call("Check")).await;

    rogue.is_cut().await;
    door.serves().await;
    door.is_quiet().await;
}

#[tokio::test]
async fn a_request_whose_body_never_comes_is_given_up() {
    let door = Door::with(|config| config.request_timeout_ms = 300).await;
    let mut rogue = door.rogue().await;
    rogue.frame(HEADERS, END_HEADERS, 1, &call("Check")).await;
    rogue.frame(DATA, NO_FLAGS, 1, &MESSAGE[..3]).await;

    let answer = rogue.until(|frame| frame.kind == HEADERS && frame.stream == 1).await.unwrap();

    assert_ne!(answer.flags & END_STREAM, 0, "an answer, and no more");
    door.serves().await;
}

#[tokio::test]
async fn a_connection_without_calls_is_asked_to_go_and_one_with_a_call_stays() {
    let door = Door::with(|config| config.max_connection_idle_ms = 500).await;
    let (mut idle, mut watching) = (door.rogue().await, door.rogue().await);
    assert!(idle.is_served(1).await);
    watching.call("Watch", 1).await;

    assert_eq!(idle.end().await, Some(0), "without reproach");
    sleep(Duration::from_secs(2)).await;
    door.service.go.add_permits(1);
    let told = watching.until(|frame| [DATA, GOAWAY].contains(&frame.kind)).await;
    assert_eq!(told.map(|frame| frame.kind), Some(DATA), "a stream may be quiet");
    door.serves().await;
}

#[tokio::test]
async fn a_window_that_never_opens_costs_that_call_and_no_other() {
    const INITIAL_WINDOW: u16 = 4;
    let door = Door::with(|config| config.unread_timeout_ms = 300).await;
    let mut rogue = Rogue::greeting(door.bench.address, &[(INITIAL_WINDOW, 0)]).await;
    rogue.call("Watch", 1).await;
    rogue.call("Check", 3).await;
    rogue.call("Watch", 5).await;
    rogue.frame(WINDOW_UPDATE, NO_FLAGS, 5, &10_000_u32.to_be_bytes()).await;
    for _call in 0..3 {
        door.service.has_begun().await;
    }
    door.service.go.add_permits(3);

    for _unread in [1, 3] {
        let reset = rogue.until(|frame| frame.kind == RST_STREAM).await.unwrap();
        assert!(reset.stream != 5 && reset.reason() == CANCEL, "{reset:?}");
    }

    assert_eq!(door.service.going(), 1, "whoever reads goes on");
    door.service.go.add_permits(1);
    assert!(rogue.until(|frame| frame.kind == DATA && frame.stream == 5).await.is_some());
    door.serves().await;
    drop(rogue);
    door.is_quiet().await;
}

#[tokio::test]
async fn a_socket_that_is_never_read_is_cut() {
    let door = Door::with(|config| config.unread_timeout_ms = 500).await;
    let mut rogue = Rogue::narrow(door.bench.address).await;
    rogue.call("Watch", 1).await;
    let pings = frame(PING, NO_FLAGS, 0, &[7; 8]).repeat(10_000);

    let mut sent = 0;
    while sent < 100_000_000 && rogue.say(&pings).await {
        sent += pings.len();
    }

    assert!(sent < 100_000_000, "it is read for ever");
    door.serves().await;
    door.is_quiet().await;
}

#[tokio::test]
async fn one_source_has_so_many_connections_and_others_have_theirs() {
    let door = Door::with(|config| config.max_connections_per_source = 3).await;
    let opened = async |from: &str| {
        door.seen.come_from(from);
        let mut rogue = door.rogue().await;
        let served = rogue.is_served(1).await;
        (rogue, served)
    };
    let mut crowd = Vec::new();
    for _within in 0..3 {
        let (rogue, served) = opened("192.0.2.7").await;
        assert!(served);
        crowd.push(rogue);
    }

    assert!(!opened("192.0.2.7").await.1, "one too many");
    assert!(opened("198.51.100.9").await.1, "another source");
    door.serves().await;

    for _more_than_three in 0..4 {
        let (rogue, served) = opened("127.0.0.1").await;
        assert!(served, "a neighbour");
        crowd.push(rogue);
    }
    let left = door.seen.open();
    drop(crowd.remove(0));
    while door.seen.open() >= left {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(opened("192.0.2.7").await.1, "a place is free again");
}
