//! The services with two helplines, north and south, and the credentials of everybody who comes.

use std::{net::SocketAddr, time::Duration};

use holdfast_access::{
    Grant,
    issuer::{For, Issuer},
};
use holdfast_runtime::clock::wall_ms;
use holdfast_tests::in_process::{Guard, Services};
use tonic::transport::Channel;

use crate::wire::to;

pub const NORTH: &str = "helpline = \"north\"\nname = \"North\"\n[[tags]]\nname = \"lang:es\"\n[[tags]]\nname = \"skill:minors\"\nlevels = 3\n";
pub const SOUTH: &str = "helpline = \"south\"\nname = \"South\"\n";

pub struct World {
    pub services: Services,
    pub guard: Guard,
}

pub fn now_s() -> u64 {
    wall_ms() / 1000
}

/// Somebody at north.
pub const fn at_north<'a>(subject: &'a str, grants: &'a [Grant]) -> For<'a> {
    For { subject, helplines: &["north"], grants, capabilities: None, life: Duration::from_secs(600) }
}

impl World {
    pub async fn start() -> Self {
        let (services, guard) = Services::start_guarded(&[NORTH, SOUTH]).await;
        Self { services, guard }
    }

    /// Where a call is served.
    pub fn address(&self, rpc: &str) -> SocketAddr {
        match rpc.split('/').next().unwrap() {
            "holdfast.v1.IntakeService" => self.services.intake,
            "holdfast.v1.QueueService" => self.services.queue,
            _ => self.services.dispatch,
        }
    }

    pub fn door(&self, rpc: &str) -> Channel {
        to(self.address(rpc))
    }

    pub fn token(&self, whom: &For<'_>) -> String {
        self.guard.issuer.token(whom, now_s()).unwrap()
    }

    /// A good credential of ana, at north, that has this grant and no other.
    pub fn credential(&self, grant: Grant) -> String {
        match grant {
            Grant::Intake => self.guard.doors[0].clone(),
            Grant::Dispatch => self.guard.doors[1].clone(),
            person => self.token(&at_north("ana", &[person])),
        }
    }

    /// A token that has just expired, and that was good.
    pub fn expired(&self, whom: &For<'_>) -> String {
        self.guard.issuer.token(whom, now_s() - whom.life.as_secs() - 31).unwrap()
    }
}

/// An issuer that nobody believes, with the same name.
pub fn impostor() -> Issuer {
    Issuer::generate("https://id.test", "holdfast").unwrap()
}
