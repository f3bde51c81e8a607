//! How nodes are spoken to: addresses, passwords, certificates, patience.

use super::{RedisSettings, store_error};
use crate::store::StoreError;
use holdfast_runtime::tls::Current;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, TlsCertificates, Value,
};
use std::time::Duration;
use tokio::time::timeout;

/// A node, and everything that is needed to speak to it.
#[derive(Clone)]
pub(super) struct Dial {
    info: ConnectionInfo,
    /// With TLS: whom to believe, what to show.
    tls: Option<Current<TlsCertificates>>,
    connect_timeout: Duration,
    response_timeout: Duration,
}

impl Dial {
    pub(super) fn new(url: &str, password: Option<&str>, settings: &RedisSettings) -> Result<Self, StoreError> {
        let info =
            url.into_connection_info().map_err(|_| StoreError::Unreachable("not a redis address".to_owned()))?;
        let info = match password {
            Some(password) => {
                let redis = info.redis_settings().clone().set_password(password);
                info.set_redis_settings(redis)
            }
            None => info,
        };
        let RedisSettings { tls, connect_timeout, response_timeout, .. } = settings;
        Ok(Self { info, tls: tls.clone(), connect_timeout: *connect_timeout, response_timeout: *response_timeout })
    }

    /// Another node that is spoken to in the same way.
    pub(super) fn at(&self, to_host: String, to_port: u16) -> Self {
        let addr = if let ConnectionAddr::TcpTls { insecure, tls_params, .. } = self.info.addr() {
            let (insecure, tls_params) = (*insecure, tls_params.clone());
            ConnectionAddr::TcpTls { host: to_host, port: to_port, insecure, tls_params }
        } else {
            ConnectionAddr::Tcp(to_host, to_port)
        };
        Self { info: self.info.clone().set_addr(addr), ..self.clone() }
    }

    /// The same node, asked with more patience.
    pub(super) fn with_response_timeout(&self, response_timeout: Duration) -> Self {
        Self { response_timeout, ..self.clone() }
    }

    /// Where it is.
    pub(super) fn address(&self) -> String {
        self.info.addr().to_string()
    }

    /// Its host, without the port.
    pub(super) fn host(&self) -> String {
        if let ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } = self.info.addr() {
            host.clone()
        } else {
            String::new()
        }
    }

    pub(super) fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// With the certificates that are in force now.
    pub(super) fn client(&self) -> Result<Client, StoreError> {
        let client = match &self.tls {
            Some(tls) if matches!(self.info.addr(), ConnectionAddr::TcpTls { .. }) => {
                Client::build_with_tls(self.info.clone(), tls.now().as_ref().clone())
            }
            _ => Client::open(self.info.clone()),
        };
        client.map_err(store_error)
    }

    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, StoreError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.response_timeout));
        let client = self.client()?;
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        // Being let in is a part of connecting: a frozen node is dialled with success and then says nothing.
        timeout(self.connect_timeout, connecting).await.map_err(|_| too_late())?.map_err(store_error)
    }

    /// Connects, and makes sure that it is a primary.
    pub(super) async fn connect_to_primary(&self) -> Result<MultiplexedConnection, StoreError> {
        let mut connection = self.connect().await?;
        let ask = redis::cmd("ROLE");
        let asking = ask.query_async(&mut connection);
        let role: Vec<Value> =
            timeout(self.connect_timeout, asking).await.map_err(|_| too_late())?.map_err(store_error)?;
        let role: Option<String> = role.into_iter().next().and_then(|word| redis::from_redis_value(word).ok());
        match role.as_deref() {
            Some("master") => Ok(connection),
            _ => Err(StoreError::Unreachable("it is not the primary".to_owned())),
        }
    }
}

fn too_late() -> StoreError {
    StoreError::Unreachable("no connection in time".to_owned())
}
