//! Addresses of names, by the name servers of the network.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use btrsquash::contract::net::dns::{self, Answer};

use super::Trouble;
use super::lease::Network;

const PATIENCE: Duration = Duration::from_secs(3);

/// An address of `host`.
pub(super) fn resolve(network: &Network, host: &str) -> Result<Ipv4Addr, Trouble> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    if network.dns.is_empty() {
        return Err(Trouble::last(
            format!("the address of {host} is not known: the network names no name server"),
            "add nameserver=ADDRESS to the kernel's command line, or write the server's address instead of its name",
        ));
    }
    // A name without a dot is one of the network's domain first.
    let long =
        network.domain.as_deref().filter(|_| !host.contains('.')).map(|domain| format!("{host}.{domain}"));
    let mut unknown = None;
    for name in long.iter().map(String::as_str).chain([host]) {
        for server in &network.dns {
            match ask(*server, name) {
                Some(Answer::Addresses(addresses)) => {
                    if let Some(first) = addresses.first() {
                        return Ok(*first);
                    }
                    unknown = Some(format!("{name} has no IPv4 address, according to {server}"));
                }
                Some(Answer::NoSuchName) => unknown = Some(format!("{name} is not known to {server}")),
                Some(Answer::Refused(code)) => {
                    unknown = Some(format!("{server} does not answer (error {code})"))
                }
                None => {}
            }
        }
    }
    let servers: Vec<String> = network.dns.iter().map(ToString::to_string).collect();
    Err(Trouble::Passing(
        unknown.unwrap_or_else(|| format!("no answer from {} for {host}", servers.join(", "))),
    ))
}

fn ask(server: Ipv4Addr, name: &str) -> Option<Answer> {
    let question = dns::question(u16::from_ne_bytes(super::random().ok()?), name)?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((server, dns::PORT)).ok()?;
    socket.send(&question).ok()?;
    super::receive(&socket, PATIENCE, |bytes| dns::answer(&question, bytes))
}
