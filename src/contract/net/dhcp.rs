//! DHCP (RFC 2131, options of RFC 2132): what a client that wants an address says, and what it is told.

use std::net::Ipv4Addr;

/// The port of servers.
pub const SERVER_PORT: u16 = 67;
/// The port of clients.
pub const CLIENT_PORT: u16 = 68;

const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Bytes before the options: the fields of BOOTP, and the cookie.
const FIXED: usize = 240;

const MASK: u8 = 1;
const ROUTER: u8 = 3;
const DNS: u8 = 6;
const DOMAIN: u8 = 15;
const MTU: u8 = 26;
const REQUESTED: u8 = 50;
const OVERLOAD: u8 = 52;
const KIND: u8 = 53;
const SERVER: u8 = 54;
const WANTED: u8 = 55;
const MAX_SIZE: u8 = 57;
const CLIENT: u8 = 61;
const ROUTES: u8 = 121;

/// A hardware address of Ethernet.
pub type Hardware = [u8; 6];

/// A client's side of one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// A number that replies repeat.
    pub transaction: u32,
    /// Its hardware address.
    pub hardware: Hardware,
    /// Seconds since it began.
    pub seconds: u16,
}

/// What a reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A server offers an address.
    Offer,
    /// The address is the client's.
    Ack,
    /// It is not.
    Nak,
}

/// A route to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The network.
    pub to: Ipv4Addr,
    /// Bits of its mask, at most 32.
    pub bits: u8,
    /// The router, 0.0.0.0 for a network on the link itself.
    pub by: Ipv4Addr,
}

/// A reply of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What it is.
    pub kind: Kind,
    /// The client's address.
    pub address: Ipv4Addr,
    /// The server, which a request names.
    pub server: Option<Ipv4Addr>,
    /// The mask of the network.
    pub mask: Option<Ipv4Addr>,
    /// The routes: those of option 121 (RFC 3442) if there are any, otherwise one by the first router.
    pub routes: Vec<Route>,
    /// The name servers.
    pub dns: Vec<Ipv4Addr>,
    /// The domain of names without a dot.
    pub domain: Option<String>,
    /// The size of a packet on this network.
    pub mtu: Option<u16>,
}

impl Client {
    /// A message to all servers: who has an address?
    #[must_use]
    pub fn discover(&self) -> Vec<u8> {
        self.message(1, &[])
    }

    /// A message to all servers: this client takes what one of them offered.
    #[must_use]
    pub fn request(&self, offer: &Reply) -> Vec<u8> {
        let mut options = vec![REQUESTED, 4];
        options.extend(offer.address.octets());
        if let Some(server) = offer.server {
            options.extend([SERVER, 4]);
            options.extend(server.octets());
        }
        self.message(3, &options)
    }

    fn message(&self, kind: u8, options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; FIXED];
        // BOOTREQUEST, Ethernet, length of its addresses.
        bytes[..3].copy_from_slice(&[1, 1, 6]);
        bytes[4..8].copy_from_slice(&self.transaction.to_be_bytes());
        bytes[8..10].copy_from_slice(&self.seconds.to_be_bytes());
        // Broadcast: without an address, no unicast arrives.
        bytes[10] = 0x80;
        bytes[28..34].copy_from_slice(&self.hardware);
        bytes[236..240].copy_from_slice(&COOKIE);
        bytes.extend([KIND, 1, kind, CLIENT, 7, 1]);
        bytes.extend(self.hardware);
        bytes.extend([MAX_SIZE, 2]);
        bytes.extend(1472_u16.to_be_bytes());
        bytes.extend(options);
        bytes.extend([WANTED, 6, MASK, ROUTER, DNS, DOMAIN, MTU, ROUTES, 255]);
        // Some relays drop what is shorter than a message of BOOTP.
        bytes.resize(bytes.len().max(300), 0);
        bytes
    }

    /// Reads a reply to this client; `None` for anything else.
    #[must_use]
    pub fn reply(&self, bytes: &[u8]) -> Option<Reply> {
        let ours = bytes.first() == Some(&2)
            && bytes.get(4..8)? == self.transaction.to_be_bytes()
            && bytes.get(28..34)? == self.hardware
            && bytes.get(236..240)? == COOKIE;
        if !ours {
            return None;
        }
        let options = options(bytes);
        let option = |number: u8| value(&options, number);
        let kind = match option(KIND) {
            [2] => Kind::Offer,
            [5] => Kind::Ack,
            [6] => Kind::Nak,
            _ => return None,
        };
        let mut routes = routes(option(ROUTES));
        if routes.is_empty() {
            let by = addresses(option(ROUTER)).next();
            routes.extend(by.map(|by| Route { to: Ipv4Addr::UNSPECIFIED, bits: 0, by }));
        }
        let domain = String::from_utf8_lossy(option(DOMAIN)).trim_end_matches('\0').to_owned();
        Some(Reply {
            kind,
            address: address(bytes.get(16..20)?)?,
            server: address(option(SERVER)),
            mask: address(option(MASK)),
            routes,
            dns: addresses(option(DNS)).collect(),
            domain: (!domain.is_empty()).then_some(domain),
            mtu: <[u8; 2]>::try_from(option(MTU)).ok().map(u16::from_be_bytes),
        })
    }
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

fn addresses(bytes: &[u8]) -> impl Iterator<Item = Ipv4Addr> + '_ {
    bytes.chunks_exact(4).filter_map(address)
}

type Options = Vec<(u8, Vec<u8>)>;

fn value(options: &Options, number: u8) -> &[u8] {
    options.iter().find(|(n, _)| *n == number).map_or(&[], |(_, value)| value)
}

/// The options of a message by number; one that is there several times is one in pieces (RFC 3396).
fn options(bytes: &[u8]) -> Options {
    let mut found = Options::new();
    let mut read = |mut bytes: &[u8]| {
        while let Some((&number, rest)) = bytes.split_first() {
            match number {
                0 => bytes = rest,
                255 => break,
                _ => {
                    let Some((&length, rest)) = rest.split_first() else { break };
                    let Some((value, rest)) = rest.split_at_checked(length.into()) else { break };
                    match found.iter_mut().find(|(n, _)| *n == number) {
                        Some((_, before)) => before.extend(value),
                        None => found.push((number, value.to_vec())),
                    }
                    bytes = rest;
                }
            }
        }
        value(&found, OVERLOAD).first().copied().unwrap_or(0)
    };
    let overload = read(bytes.get(FIXED..).unwrap_or_default());
    // The fields of the file and of the server's name may hold more of them.
    if overload & 1 != 0 {
        read(bytes.get(108..236).unwrap_or_default());
    }
    if overload & 2 != 0 {
        read(bytes.get(44..108).unwrap_or_default());
    }
    found
}

/// Option 121: bits of the mask, as many bytes of the network as these need, the router.
fn routes(mut bytes: &[u8]) -> Vec<Route> {
    let mut routes = Vec::new();
    while let Some((&bits, rest)) = bytes.split_first() {
        let length = usize::from(bits).div_ceil(8);
        let Some((network, rest)) = rest.split_at_checked(length).filter(|_| bits <= 32) else { break };
        let Some((by, rest)) = rest.split_at_checked(4) else { break };
        let mut to = [0; 4];
        to[..length].copy_from_slice(network);
        let to = Ipv4Addr::from_bits(Ipv4Addr::from(to).to_bits() & mask(bits).to_bits());
        routes.extend(address(by).map(|by| Route { to, bits, by }));
        bytes = rest;
    }
    routes
}

/// The mask with so many bits.
#[must_use]
pub fn mask(bits: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT_OF_TEST: Client =
        Client { transaction: 0x1234_5678, hardware: [0x52, 0x54, 0, 0x12, 0x34, 0x56], seconds: 3 };

    fn reply(kind: u8, options: &[u8]) -> Vec<u8> {
        let mut bytes = CLIENT_OF_TEST.discover();
        bytes.truncate(FIXED);
        bytes[0] = 2;
        bytes[16..20].copy_from_slice(&[10, 0, 2, 15]);
        bytes.extend([KIND, 1, kind]);
        bytes.extend(options);
        bytes.push(255);
        bytes
    }

    #[test]
    fn an_offer_is_read_and_requested() {
        let options = [
            SERVER, 4, 10, 0, 2, 2, MASK, 4, 255, 255, 255, 0, 0, 0, ROUTER, 8, 10, 0, 2, 2, 10, 0, 2, 9,
            DNS, 4, 10, 0, 2, 3, DNS, 4, 9, 9, 9, 9, DOMAIN, 3, b'l', b'a', b'n', MTU, 2, 5, 0xdc,
        ];
        let offer = CLIENT_OF_TEST.reply(&reply(2, &options)).unwrap();
        let expected = Reply {
            kind: Kind::Offer,
            address: Ipv4Addr::new(10, 0, 2, 15),
            server: Some(Ipv4Addr::new(10, 0, 2, 2)),
            mask: Some(Ipv4Addr::new(255, 255, 255, 0)),
            routes: vec![Route { to: Ipv4Addr::UNSPECIFIED, bits: 0, by: Ipv4Addr::new(10, 0, 2, 2) }],
            dns: vec![Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(9, 9, 9, 9)],
            domain: Some("lan".into()),
            mtu: Some(1500),
        };
        assert_eq!(offer, expected);
        let request = CLIENT_OF_TEST.request(&offer);
        let options = super::options(&request);
        let option = |number| super::value(&options, number);
        assert_eq!((option(KIND), option(REQUESTED)), (&[3][..], &[10, 0, 2, 15][..]));
        assert_eq!((option(SERVER), option(CLIENT).len()), (&[10, 0, 2, 2][..], 7));
    }

    #[test]
    fn what_is_for_others_or_cut_short_is_no_reply() {
        let other = Client { transaction: 1, ..CLIENT_OF_TEST };
        assert_eq!(other.reply(&reply(2, &[])), None);
        let other = Client { hardware: [1; 6], ..CLIENT_OF_TEST };
        assert_eq!(other.reply(&reply(2, &[])), None);
        assert_eq!(CLIENT_OF_TEST.reply(&CLIENT_OF_TEST.discover()), None);
        let whole = reply(5, &[MASK, 4, 255, 0, 0, 0]);
        for end in 0..FIXED + 3 {
            assert_eq!(CLIENT_OF_TEST.reply(&whole[..end]), None, "{end}");
        }
        assert_eq!(CLIENT_OF_TEST.reply(&whole[..whole.len() - 3]).unwrap().mask, None);
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let options =
            [ROUTER, 4, 1, 1, 1, 1, ROUTES, 14, 32, 169, 254, 0, 1, 0, 0, 0, 0, 0, 169, 254, 0, 1, 25, 1];
        let reply = CLIENT_OF_TEST.reply(&reply(5, &options)).unwrap();
        let by = Ipv4Addr::new(169, 254, 0, 1);
        let expected = [
            Route { to: by, bits: 32, by: Ipv4Addr::UNSPECIFIED },
            Route { to: Ipv4Addr::UNSPECIFIED, bits: 0, by },
        ];
        assert_eq!(reply.routes, expected);
        assert_eq!(
            (mask(0), mask(24), mask(32)),
            (Ipv4Addr::UNSPECIFIED, [255, 255, 255, 0].into(), Ipv4Addr::BROADCAST)
        );
    }

    #[test]
    fn options_continue_in_the_fields_of_bootp() {
        let mut bytes = reply(5, &[OVERLOAD, 1, 3]);
        bytes[108..115].copy_from_slice(&[MASK, 4, 255, 255, 0, 0, 255]);
        bytes[44..51].copy_from_slice(&[DNS, 4, 1, 2, 3, 4, 255]);
        let reply = CLIENT_OF_TEST.reply(&bytes).unwrap();
        assert_eq!((reply.mask, reply.dns), (Some([255, 255, 0, 0].into()), vec![[1, 2, 3, 4].into()]));
    }
}
