//! Addresses of files on a network.

use std::fmt;

/// How a file is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP/1.1 without encryption.
    Http,
    /// TFTP (RFC 1350).
    Tftp,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tftp => "tftp",
        }
    }

    /// The port unless the address names one.
    #[must_use]
    pub const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Tftp => 69,
        }
    }
}

/// Why an address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// Another scheme than http or tftp.
    Scheme(String),
    /// It names no host, or a user.
    Host,
    /// The host is an IPv6 address.
    Ipv6,
    /// The port is not a number from 1 to 65535.
    Port,
    /// It has no path to a file.
    Path,
    /// It has blanks or control characters.
    Characters,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme(scheme) => {
                write!(f, "{scheme:?} is not fetched by this boot initramfs: only http and tftp are")
            }
            Self::Host => f.write_str("it has to name a host, and no user"),
            Self::Ipv6 => f.write_str("this boot initramfs has no IPv6"),
            Self::Port => f.write_str("its port is not a number from 1 to 65535"),
            Self::Path => f.write_str("it names no file"),
            Self::Characters => f.write_str("it has a blank or a control character: write %20 for a blank"),
        }
    }
}

/// An address of a file, `http://HOST[:PORT]/PATH` or the same with tftp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// How it is fetched.
    pub scheme: Scheme,
    /// A name or an IPv4 address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path with its leading `/`, and the query if there is one.
    pub path: String,
}

impl Url {
    /// Reads an address. What follows `#` is left out, as it never reaches a server.
    ///
    /// # Errors
    /// Says why it cannot be used.
    pub fn parse(text: &str) -> Result<Self, Unusable> {
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Unusable::Characters);
        }
        let (scheme, rest) = text.split_once("://").ok_or(Unusable::Host)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "tftp" => Scheme::Tftp,
            other => return Err(Unusable::Scheme(other.to_owned())),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find('/').ok_or(Unusable::Path)?);
        if path.len() < 2 {
            return Err(Unusable::Path);
        }
        if authority.starts_with('[') {
            return Err(Unusable::Ipv6);
        }
        let (host, port) = match authority.split_once(':') {
            None => (authority, scheme.port()),
            Some((host, port)) => {
                let port = port.parse().ok().filter(|&port| port > 0).ok_or(Unusable::Port)?;
                (host, port)
            }
        };
        if host.is_empty() || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
            return Err(Unusable::Host);
        }
        Ok(Self { scheme, host: host.to_owned(), port, path: path.to_owned() })
    }

    /// The address that a server's `Location:` leads to: a whole address, a path on the same server, or one next to this.
    ///
    /// # Errors
    /// As [`Url::parse`].
    pub fn join(&self, location: &str) -> Result<Self, Unusable> {
        if location.split(['/', '?']).next().is_some_and(|start| start.contains(':')) {
            return Self::parse(location);
        }
        let location = location.split('#').next().unwrap_or_default();
        if let Some(rest) = location.strip_prefix("//") {
            return Self::parse(&format!("{}://{rest}", self.scheme.name()));
        }
        let directory = self.path.split('?').next().unwrap_or_default();
        let directory = &directory[..directory.rfind('/').map_or(0, |at| at + 1)];
        let path =
            if location.starts_with('/') { location.to_owned() } else { format!("{directory}{location}") };
        Self::parse(&Self { path, ..self.clone() }.to_string())
    }

    /// What `Host:` of an HTTP request says.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.port == self.scheme.port() {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let url = Url::parse("HTTP://10.0.2.2:8080/a/b.img?x=1#y").unwrap();
        assert_eq!((url.scheme, url.host.as_str(), url.port), (Scheme::Http, "10.0.2.2", 8080));
        assert_eq!(url.to_string(), "http://10.0.2.2:8080/a/b.img?x=1");
        assert_eq!(Url::parse("tftp://host:69/x").unwrap().to_string(), "tftp://host/x");
        for (text, why) in [
            ("https://h/x", Unusable::Scheme("https".into())),
            ("http:///x", Unusable::Host),
            ("http://user@h/x", Unusable::Host),
            ("http://h/", Unusable::Path),
            ("http://h", Unusable::Path),
            ("http://h:0/x", Unusable::Port),
            ("http://h:99999/x", Unusable::Port),
            ("http://[::1]/x", Unusable::Ipv6),
            ("http://h/a b", Unusable::Characters),
            ("/x", Unusable::Host),
        ] {
            assert_eq!(Url::parse(text), Err(why), "{text}");
        }
    }

    #[test]
    fn redirections_lead_where_a_browser_would_go() {
        let url = Url::parse("http://h:81/a/b?q=/c").unwrap();
        let to = |location: &str| url.join(location).map(|url| url.to_string());
        assert_eq!(to("http://other/x").as_deref(), Ok("http://other/x"));
        assert_eq!(to("/x/y").as_deref(), Ok("http://h:81/x/y"));
        assert_eq!(to("x").as_deref(), Ok("http://h:81/a/x"));
        assert_eq!(to("//other/x").as_deref(), Ok("http://other/x"));
        assert_eq!(to("https://h/x"), Err(Unusable::Scheme("https".into())));
        assert_eq!(to(""), Ok("http://h:81/a/".into()));
    }
}
