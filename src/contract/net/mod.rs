//! What the built-in boot initramfs says and understands on a network: addresses, DHCP, DNS, HTTP and TFTP.
//!
//! Only bytes go in and out. The sockets are in the guest, so the library's tests reach everything that reads what a
//! stranger sent. None of it panics, and what it keeps is bounded by the size of the packet.

pub mod dhcp;
pub mod dns;
pub mod http;
pub mod ip;
pub mod tftp;
pub mod url;
