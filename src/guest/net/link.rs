//! Network cards: /sys/class/net, and the ioctls of netdevice(7).

use std::fs;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

use btrsquash::contract::net::dhcp::{Hardware, Route, mask};

use crate::sys;

const SIOCGIFFLAGS: u32 = 0x8913;
const SIOCSIFFLAGS: u32 = 0x8914;
const SIOCGIFADDR: u32 = 0x8915;
const SIOCSIFADDR: u32 = 0x8916;
const SIOCSIFNETMASK: u32 = 0x891c;
const SIOCSIFMTU: u32 = 0x8922;
const IFF_UP: i16 = 1;
/// ARPHRD_ETHER of include/uapi/linux/if_arp.h.
const ETHERNET: &str = "1";
const CLASS: &str = "/sys/class/net";

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) hardware: Hardware,
}

/// The Ethernet cards of the machine, by name.
pub(super) fn all() -> Vec<Link> {
    let mut links: Vec<Link> = fs::read_dir(CLASS)
        .map(|directory| directory.flatten().filter_map(|entry| of(&entry.path())).collect())
        .unwrap_or_default();
    links.sort_by(|a, b| a.name.cmp(&b.name));
    links
}

fn of(path: &Path) -> Option<Link> {
    let read = |file: &str| fs::read_to_string(path.join(file)).ok();
    // What is not a device is made by software: bridges, tunnels.
    if read("type")?.trim() != ETHERNET || !path.join("device").exists() {
        return None;
    }
    let address = read("address")?;
    let bytes: Option<Vec<u8>> =
        address.trim().split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    Some(Link { name: path.file_name()?.to_str()?.to_owned(), hardware: bytes?.try_into().ok()? })
}

/// A `struct ifreq` of include/uapi/linux/if.h: 16 bytes of name, and a union of 16 bytes, or 24 on 64-bit machines.
type Request = [u8; 40];

/// A `struct sockaddr_in`.
fn socket_address(address: Ipv4Addr) -> [u8; 16] {
    const AF_INET: u16 = 2;
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&AF_INET.to_ne_bytes());
    bytes[4..8].copy_from_slice(&address.octets());
    bytes
}

fn any_socket() -> io::Result<UdpSocket> {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
}

impl Link {
    fn request(&self) -> Request {
        let mut request = [0; 40];
        // The kernel's names have at most 15 bytes (IFNAMSIZ).
        let length = self.name.len().min(15);
        request[..length].copy_from_slice(&self.name.as_bytes()[..length]);
        request
    }

    /// Makes the card work, or stops it.
    pub(super) fn set_up(&self, up: bool) -> io::Result<()> {
        let socket = any_socket()?;
        let mut request = self.request();
        sys::ioctl_socket(&socket, SIOCGIFFLAGS, &mut request)?;
        let flags = i16::from_ne_bytes([request[16], request[17]]);
        let flags = if up { flags | IFF_UP } else { flags & !IFF_UP };
        request[16..18].copy_from_slice(&flags.to_ne_bytes());
        sys::ioctl_socket(&socket, SIOCSIFFLAGS, &mut request)
    }

    /// Whether the cable is plugged in at both ends.
    pub(super) fn has_carrier(&self) -> bool {
        let file = PathBuf::from(CLASS).join(&self.name).join("carrier");
        fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
    }

    /// Whether it has an IPv4 address already.
    pub(super) fn has_address(&self) -> bool {
        any_socket().and_then(|socket| sys::ioctl_socket(&socket, SIOCGIFADDR, &mut self.request())).is_ok()
    }

    fn set_address_at(&self, socket: &UdpSocket, ioctl: u32, address: Ipv4Addr) -> io::Result<()> {
        let mut request = self.request();
        request[16..32].copy_from_slice(&socket_address(address));
        sys::ioctl_socket(socket, ioctl, &mut request)
    }

    /// Gives the card an address and the routes.
    pub(super) fn configure(&self, address: Ipv4Addr, netmask: Ipv4Addr, routes: &[Route]) -> io::Result<()> {
        let socket = any_socket()?;
        self.set_address_at(&socket, SIOCSIFADDR, address)?;
        self.set_address_at(&socket, SIOCSIFNETMASK, netmask)?;
        let on_link = |to: Ipv4Addr| (to.to_bits() ^ address.to_bits()) & netmask.to_bits() == 0;
        for route in routes {
            let add = |to: Ipv4Addr, bits: u8, by: Option<Ipv4Addr>| {
                let (to, mask) = (socket_address(to), socket_address(mask(bits)));
                match sys::add_route(&socket, &self.name, to, mask, by.map(socket_address)) {
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    result => result,
                }
            };
            let by = Some(route.by).filter(|by| !by.is_unspecified());
            // Clouds have routers outside of the network, which the kernel takes only if a route leads to them.
            if let Some(by) = by.filter(|by| !on_link(*by)) {
                add(by, 32, None)?;
            }
            add(route.to, route.bits, by)?;
        }
        Ok(())
    }

    /// Sets the size of a packet.
    pub(super) fn set_mtu(&self, mtu: u16) -> io::Result<()> {
        let mut request = self.request();
        request[16..20].copy_from_slice(&i32::from(mtu).to_ne_bytes());
        sys::ioctl_socket(&any_socket()?, SIOCSIFMTU, &mut request)
    }

    /// Takes the address and the routes away, and stops the card.
    pub(super) fn take_down(&self) {
        let cleared =
            any_socket().and_then(|socket| self.set_address_at(&socket, SIOCSIFADDR, Ipv4Addr::UNSPECIFIED));
        drop((cleared, self.set_up(false)));
    }
}
