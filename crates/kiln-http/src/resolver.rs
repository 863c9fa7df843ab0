//! From the names of servers to their addresses: as the system says, but for the one name that no system needs to know.

use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec::IntoIter;
use tower_service::Service;

/// Looks names up. `localhost` is this machine whatever anybody says (RFC 6761, section 6.3), also where there is no
/// `/etc/hosts`, as in small containers; curl, and so Nix, does the same.
#[derive(Clone)]
pub(crate) struct Resolver(GaiResolver);

impl Resolver {
    pub(crate) fn new() -> Self {
        Self(GaiResolver::new())
    }
}

impl Service<Name> for Resolver {
    type Response = IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<IntoIter<SocketAddr>>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Service::poll_ready(&mut self.0, context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        if is_this_machine(name.as_str()) {
            let addresses = vec![(Ipv6Addr::LOCALHOST, 0).into(), (Ipv4Addr::LOCALHOST, 0).into()];
            return Box::pin(async { Ok(addresses.into_iter()) });
        }
        let lookup = Service::call(&mut self.0, name);
        Box::pin(async { Ok(lookup.await?.collect::<Vec<_>>().into_iter()) })
    }
}

fn is_this_machine(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    #[test]
    fn only_localhost_is_known_without_asking() {
        for name in ["localhost", "LocalHost.", "cache.localhost", "a.b.LOCALHOST."] {
            assert!(is_this_machine(name), "{name}");
        }
        for name in ["", ".", "localhost.org", "mylocalhost", "localhost6", "127.0.0.1", "localhost.."] {
            assert!(!is_this_machine(name), "{name}");
        }
    }

    #[tokio::test]
    async fn localhost_is_both_loopback_addresses() {
        let name = "localhost".parse().unwrap();
        let found: Vec<_> = Resolver::new().call(name).await.unwrap().map(|found| found.ip()).collect();
        let expected: [IpAddr; 2] = [Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
        assert_eq!(found, expected);
    }
}
