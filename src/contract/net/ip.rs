//! `ip=` on the kernel's command line, as the kernel (Documentation/admin-guide/nfs/nfsroot.rst) and dracut
//! (dracut.cmdline(7)) write it, and `BOOTIF=`.

use std::net::Ipv4Addr;

use super::dhcp::{Hardware, mask};

/// How a link gets its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// By DHCP.
    Dhcp,
    /// It is given.
    Static {
        /// The address.
        address: Ipv4Addr,
        /// The mask of the network.
        mask: Ipv4Addr,
        /// The router.
        router: Option<Ipv4Addr>,
    },
    /// It gets none.
    Off,
}

/// One `ip=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The name of the link; any if there is none.
    pub link: Option<String>,
    /// How it gets its address.
    pub how: How,
    /// The size of a packet.
    pub mtu: Option<u16>,
    /// The name servers.
    pub dns: Vec<Ipv4Addr>,
}

impl Setting {
    /// DHCP on any link: what happens without `ip=`.
    pub const DHCP: Self = Self { link: None, how: How::Dhcp, mtu: None, dns: Vec::new() };

    /// Reads the value of `ip=`: `dhcp`, `LINK:dhcp[:MTU]`, or `ADDRESS:PEER:ROUTER:MASK:HOST:LINK:HOW[:MTU | :DNS[:DNS]]`.
    /// A hardware address at the end is ignored.
    ///
    /// # Errors
    /// What of it is not understood.
    pub fn parse(value: &str) -> Result<Self, String> {
        let fields: Vec<&str> = value.split(':').collect();
        let field = |number: usize| fields.get(number).copied().unwrap_or_default();
        let named = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        if value.contains('[') {
            return Err(format!("ip={value}: this boot initramfs has no IPv6"));
        }
        let strange = |what: &str| format!("ip={value}: {what}");
        match fields.len() {
            1 => Ok(Self { how: without_address(value).ok_or_else(|| strange("unknown"))?, ..Self::DHCP }),
            2.. if !field(1).is_empty() && without_address(field(1)).is_some() => Ok(Self {
                link: named(field(0)),
                how: without_address(field(1)).unwrap_or(How::Off),
                mtu: field(2).parse().ok(),
                dns: Vec::new(),
            }),
            _ => {
                let how = if field(0).is_empty() {
                    without_address(field(6)).ok_or_else(|| strange("unknown"))?
                } else {
                    fixed(field(0), field(2), field(3)).map_err(strange)?
                };
                let addresses =
                    |fields: &[&str]| fields.iter().filter_map(|text| text.parse().ok()).collect();
                let dns: Vec<Ipv4Addr> = addresses(fields.get(7..fields.len().min(9)).unwrap_or_default());
                Ok(Self { link: named(field(5)), how, mtu: field(7).parse().ok(), dns })
            }
        }
    }
}

/// A word for a link whose address is not given. The kernel tries BOOTP and RARP for `any` too.
fn without_address(word: &str) -> Option<How> {
    match word {
        "dhcp" | "on" | "any" | "single-dhcp" | "both" | "" => Some(How::Dhcp),
        "off" | "none" => Some(How::Off),
        _ => None,
    }
}

fn fixed(address: &str, router: &str, netmask: &str) -> Result<How, &'static str> {
    let (address, bits) = address.split_once('/').unwrap_or((address, ""));
    let netmask = if netmask.is_empty() { bits } else { netmask };
    let address: Ipv4Addr = address.parse().map_err(|_| "its address is not one of IPv4")?;
    let mask = match (netmask, netmask.parse::<u8>()) {
        // As the kernel takes it from the class of the address (net/ipv4/ipconfig.c, ic_defaults).
        ("", _) => mask(match address.octets()[0] {
            0..=127 => 8,
            128..=191 => 16,
            _ => 24,
        }),
        (_, Ok(bits @ 0..=32)) => mask(bits),
        _ => netmask.parse().map_err(|_| "its mask is not one of IPv4")?,
    };
    let router = match router {
        "" => None,
        router => Some(router.parse().map_err(|_| "its router is not an address of IPv4")?),
    };
    Ok(How::Static { address, mask, router })
}

/// The hardware address in `BOOTIF=`, which PXELINUX and GRUB write behind the type of the hardware: `01-52-54-00-12-34-56`.
#[must_use]
pub fn boot_link(value: &str) -> Option<Hardware> {
    let parts: Vec<u8> =
        value.split(['-', ':']).map(|part| u8::from_str_radix(part, 16)).collect::<Result<_, _>>().ok()?;
    let address = if parts.len() == 7 { parts.get(1..)? } else { &parts };
    address.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_the_kernel_and_of_dracut() {
        let dhcp = |link: Option<&str>| Setting { link: link.map(str::to_owned), ..Setting::DHCP };
        for value in ["dhcp", "on", "any", "::::::dhcp", ":::::"] {
            assert_eq!(Setting::parse(value), Ok(dhcp(None)), "{value}");
        }
        for value in ["eth0:dhcp", "eth0:on", "::::host:eth0:dhcp", ":::::eth0:"] {
            assert_eq!(Setting::parse(value), Ok(dhcp(Some("eth0"))), "{value}");
        }
        for value in ["eth0:dhcp:9000", "eth0:dhcp:9000:52:54:00:12:34:56"] {
            let expected = Setting { mtu: Some(9000), ..dhcp(Some("eth0")) };
            assert_eq!(Setting::parse(value), Ok(expected), "{value}");
        }
        assert_eq!(Setting::parse("none").unwrap().how, How::Off);
        let (address, router) = (Ipv4Addr::new(10, 0, 2, 20), Some(Ipv4Addr::new(10, 0, 2, 2)));
        let fixed = How::Static { address, mask: mask(24), router };
        for value in [
            "10.0.2.20::10.0.2.2:255.255.255.0:host:eth0:none:1400",
            "10.0.2.20:10.0.2.9:10.0.2.2:24::eth0:off:1400",
            "10.0.2.20/24::10.0.2.2:::eth0:none:1400",
        ] {
            let expected =
                Setting { link: Some("eth0".into()), how: fixed.clone(), mtu: Some(1400), dns: Vec::new() };
            assert_eq!(Setting::parse(value), Ok(expected), "{value}");
        }
        let named = Setting::parse("10.0.2.20:::::eth0:off:10.0.2.3:9.9.9.9").unwrap();
        assert_eq!(named.how, How::Static { address, mask: mask(8), router: None });
        assert_eq!(named.dns, [Ipv4Addr::new(10, 0, 2, 3), Ipv4Addr::new(9, 9, 9, 9)]);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for value in
            ["auto6", "dhcp6", "x", "[fe80::1]::::64:eth0:none", "1.2.3:::::e:none", "1.2.3.4::x:24::e:none"]
        {
            assert!(Setting::parse(value).unwrap_err().starts_with(&format!("ip={value}: ")), "{value}");
        }
    }

    #[test]
    fn the_link_that_was_booted_from() {
        let address = Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(boot_link("01-52-54-00-12-34-56"), address);
        assert_eq!(boot_link("52:54:00:12:34:56"), address);
        assert_eq!(boot_link("01-52-54"), None);
        assert_eq!(boot_link("eth0"), None);
    }
}
