//! Gives the machine an address: as `ip=` says, by DHCP otherwise.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use btrsquash::contract::cmdline::Arguments;
use btrsquash::contract::net::dhcp::{self, Client, Kind, Reply, Route};
use btrsquash::contract::net::ip::{self, How, Setting};

use super::link::{self, Link};
use crate::arguments::detail;
use crate::console::{Failure, Result, failed, failure, say};
use crate::modules::Loaded;
use crate::{sys, wait};

/// How long to ask for an address.
const FOR_LEASE: Duration = Duration::from_secs(60);
/// How long a server may take to confirm.
const FOR_ACK: Duration = Duration::from_secs(4);

/// The network as it was set up.
#[derive(Default)]
pub(super) struct Network {
    pub(super) dns: Vec<Ipv4Addr>,
    pub(super) domain: Option<String>,
    /// The cards that work now and did not before.
    links: Vec<Link>,
}

impl Network {
    /// Leaves the cards as the kernel had them: the runtime's own programs set them up.
    pub(super) fn take_down(&self) {
        self.links.iter().for_each(Link::take_down);
    }
}

/// Sets the network up.
pub(super) fn configure(arguments: &Arguments, loaded: &Loaded) -> Result<Network> {
    let mut settings = Vec::new();
    for value in arguments.values("ip") {
        settings.push(Setting::parse(value).map_err(|what| {
            failure(what, "write ip=dhcp, ip=LINK:dhcp, or ip=ADDRESS::ROUTER:MASK::LINK:none")
        })?);
    }
    settings.retain(|setting| setting.how != How::Off);
    if settings.is_empty() {
        settings.push(Setting::DHCP);
    }
    let wanted = arguments.value("BOOTIF").and_then(ip::boot_link);
    let patience = wait::patience(arguments);
    let mut network = Network::default();
    network.dns.extend(arguments.values("nameserver").filter_map(|text| text.parse::<Ipv4Addr>().ok()));
    for setting in settings {
        let fits = |link: &Link| match (&setting.link, wanted) {
            (Some(name), _) => link.name == *name,
            (None, Some(hardware)) => link.hardware == hardware,
            (None, None) => true,
        };
        let links = find(&fits, &setting, patience, loaded)?;
        if let Some(link) = links.iter().find(|link| link.has_address()) {
            detail(arguments, format!("{} has an address already", link.name));
            network.dns.extend(of_the_kernel());
            continue;
        }
        network.links.extend(links.iter().cloned());
        apply(&setting, &links, patience, arguments, &mut network)?;
    }
    Ok(network)
}

/// Waits for network cards that fit.
fn find(
    fits: &dyn Fn(&Link) -> bool,
    setting: &Setting,
    patience: Duration,
    loaded: &Loaded,
) -> Result<Vec<Link>> {
    let found = wait::until(patience, Duration::from_millis(100), || {
        let links: Vec<Link> = link::all().into_iter().filter(fits).collect();
        (!links.is_empty()).then_some(links)
    });
    if let Some(links) = found {
        return Ok(links);
    }
    let others: Vec<String> = link::all().into_iter().map(|link| link.name).collect();
    let which = setting.link.as_deref().unwrap_or("that BOOTIF= names");
    Err(if others.is_empty() {
        failure(
            format!("no network card appeared in {} seconds{}", patience.as_secs(), loaded.why()),
            "a driver may be missing: convert the image with --drivers net or --drivers NAME",
        )
    } else {
        failure(
            format!(
                "no network card {which} appeared in {} seconds; there are {}",
                patience.as_secs(),
                others.join(", ")
            ),
            "correct ip= or BOOTIF= on the kernel's command line, or leave it out",
        )
    })
}

/// Sets one of `links` up as `setting` says.
fn apply(
    setting: &Setting,
    links: &[Link],
    patience: Duration,
    arguments: &Arguments,
    network: &mut Network,
) -> Result<()> {
    for link in links {
        if let Err(e) = link.set_up(true) {
            say(&format!("{} does not start: {e}", link.name));
        }
    }
    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    let carrier = || links.iter().any(Link::has_carrier).then_some(());
    wait::until(patience, Duration::from_millis(50), carrier).ok_or_else(|| {
        failure(
            format!("no link: {} got no carrier in {} seconds", names.join(", "), patience.as_secs()),
            "check the cable and the port of the switch",
        )
    })?;
    let (link, address, mask, routes, mtu) = match &setting.how {
        How::Static { address, mask, router } => {
            let link = links.iter().find(|link| link.has_carrier()).unwrap_or(&links[0]);
            let routes = router.map(|by| Route { to: Ipv4Addr::UNSPECIFIED, bits: 0, by });
            network.dns.extend(&setting.dns);
            (link, *address, *mask, routes.into_iter().collect(), None)
        }
        How::Dhcp | How::Off => {
            let (link, reply) = lease(links, &names)?;
            let mask = reply.mask.unwrap_or(Ipv4Addr::new(255, 255, 255, 0));
            network.dns.extend(&reply.dns);
            network.domain = network.domain.take().or(reply.domain);
            (link, reply.address, mask, reply.routes, reply.mtu)
        }
    };
    let hint = "check what ip= or the DHCP server says";
    if let Some(mtu) = setting.mtu.or(mtu).filter(|mtu| *mtu >= 576) {
        link.set_mtu(mtu).map_err(failed(format!("setting the MTU of {} to {mtu}", link.name), hint))?;
    }
    link.configure(address, mask, &routes)
        .map_err(failed(format!("giving {} the address {address} and its routes", link.name), hint))?;
    say(&format!("{} has the address {address}", link.name));
    detail(arguments, format!("its network has the mask {mask}"));
    for route in &routes {
        detail(arguments, format!("route to {}/{} by {}", route.to, route.bits, route.by));
    }
    Ok(())
}

/// One card's exchange with a server.
struct Exchange<'a> {
    link: &'a Link,
    socket: UdpSocket,
    client: Client,
}

impl<'a> Exchange<'a> {
    fn new(link: &'a Link) -> io::Result<Self> {
        let socket = sys::udp_on_link(&link.name, dhcp::CLIENT_PORT)?;
        socket.set_broadcast(true)?;
        let transaction = u32::from_ne_bytes(super::random()?);
        let client = Client { transaction, hardware: link.hardware, seconds: 0 };
        Ok(Self { link, socket, client })
    }

    fn send(&self, message: &[u8]) {
        // A card that lost its link comes again in the next round.
        let _ = self.socket.send_to(message, (Ipv4Addr::BROADCAST, dhcp::SERVER_PORT));
    }

    /// The next reply, waited for as long as `patience`.
    fn receive(&self, patience: Duration) -> Option<Reply> {
        super::receive(&self.socket, patience, |bytes| self.client.reply(bytes))
    }

    /// Takes what was offered.
    fn take(&self, offer: &Reply) -> Option<Reply> {
        let start = Instant::now();
        let mut wait = Duration::from_secs(1);
        while start.elapsed() < FOR_ACK {
            self.send(&self.client.request(offer));
            match self.receive(wait) {
                Some(reply) if reply.kind == Kind::Ack => return Some(reply),
                Some(reply) if reply.kind == Kind::Nak => return None,
                // Another server's offer.
                _ => {}
            }
            wait *= 2;
        }
        None
    }
}

/// An address for the first of the cards that gets one.
fn lease<'a>(links: &'a [Link], names: &[&str]) -> Result<(&'a Link, Reply)> {
    let start = Instant::now();
    let mut exchanges: Vec<Exchange<'a>> = Vec::new();
    let mut pause = Duration::from_secs(1);
    let mut offered = false;
    while start.elapsed() < FOR_LEASE {
        for link in links.iter().filter(|link| link.has_carrier()) {
            if exchanges.iter().all(|exchange| exchange.link != link) {
                exchanges.push(Exchange::new(link).map_err(failed(
                    format!("opening a socket for DHCP on {}", link.name),
                    "report this: it should not happen",
                ))?);
            }
        }
        for exchange in &mut exchanges {
            exchange.client.seconds = u16::try_from(start.elapsed().as_secs()).unwrap_or(u16::MAX);
            exchange.send(&exchange.client.discover());
        }
        let round = Instant::now();
        while round.elapsed() < pause {
            for exchange in &exchanges {
                let offer = exchange.receive(Duration::from_millis(50));
                let Some(offer) = offer.filter(|offer| offer.kind == Kind::Offer) else { continue };
                offered = true;
                if let Some(reply) = exchange.take(&offer) {
                    return Ok((exchange.link, reply));
                }
            }
            if exchanges.is_empty() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        pause = (pause * 2).min(Duration::from_secs(8));
    }
    Err(no_lease(names, offered))
}

fn no_lease(names: &[&str], offered: bool) -> Failure {
    let what = if offered {
        "a DHCP server offered an address, but did not confirm it"
    } else {
        "no DHCP server answered"
    };
    failure(
        format!("no lease: {what} on {} in {} seconds", names.join(", "), FOR_LEASE.as_secs()),
        "check the DHCP server, or give an address: ip=ADDRESS::ROUTER:MASK::LINK:none on the kernel's command line",
    )
}

/// The name servers that the kernel's own DHCP client found (net/ipv4/ipconfig.c).
fn of_the_kernel() -> Vec<Ipv4Addr> {
    let text = fs::read_to_string("/proc/net/pnp").unwrap_or_default();
    text.lines().filter_map(|line| line.strip_prefix("nameserver ")?.trim().parse().ok()).collect()
}
