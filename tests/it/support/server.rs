//! A web server of the tests' own, which serves one file in many ways.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The server; QEMU's own network reaches it as 10.0.2.2.
pub struct Server {
    pub port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves `file`, which need not exist yet, under its name, and
    ///
    /// * `/moved`: leads to `/interrupted`;
    /// * `/interrupted`: ends the connection after half of the file, but goes on from there if asked to;
    /// * `/chunked`: in chunks;
    /// * `/changed`: with another last byte; `/longer`: with one more.
    ///
    /// Nothing else is there. It runs until the tests end.
    pub fn of(file: PathBuf) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (file, log) = (file.clone(), Arc::clone(&log));
                std::thread::spawn(move || answer(stream, &file, &log));
            }
        });
        Self { port, requests }
    }

    /// The address of `path`, as a guest of QEMU writes it.
    pub fn url(&self, path: &str) -> String {
        format!("http://10.0.2.2:{}/{path}", self.port)
    }

    /// The requests so far: path, a blank, and the range that was asked for.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(mut stream: TcpStream, file: &Path, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = head.iter().find_map(|line| line.strip_prefix("Range: bytes=")).unwrap_or_default();
    log.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{path} {range}").trim().to_owned());
    let mut bytes = std::fs::read(file).unwrap_or_default();
    let name = format!("/{}", file.file_name().unwrap().to_string_lossy());
    let from: usize = range.trim_end_matches('-').parse().unwrap_or(0);
    let whole = |bytes: &[u8]| {
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len()).as_bytes(), bytes].concat()
    };
    let answer = match path.as_str() {
        path if path == name => whole(&bytes),
        "/moved" => b"HTTP/1.1 302 Found\r\nLocation: interrupted\r\n\r\n".to_vec(),
        "/interrupted" if from > 0 => {
            let (size, rest) = (bytes.len(), &bytes[from..]);
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{size}\r\nContent-Length: {}\r\n\r\n",
                size - 1,
                rest.len()
            );
            [head.as_bytes(), rest].concat()
        }
        "/interrupted" => {
            let answer = whole(&bytes);
            answer[..answer.len() / 2].to_vec()
        }
        "/chunked" => {
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in bytes.chunks(100_000) {
                answer.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
            }
            answer.extend(b"0\r\n\r\n");
            answer
        }
        "/changed" => {
            if let Some(last) = bytes.last_mut() {
                *last ^= 1;
            }
            whole(&bytes)
        }
        "/longer" => {
            bytes.push(0);
            whole(&bytes)
        }
        _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec(),
    };
    let _ = stream.write_all(&answer);
}
