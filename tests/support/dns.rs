//! A real name server on loopback, and a network of the test's own in which the operating system uses it: a namespace
//! with its own `resolv.conf`, and with addresses that belong to other hosts everywhere else.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "WASMGATE_TEST_NAMESPACE";

/// Set if the machine is known to allow no namespaces; tests that need one then say that they did nothing.
const WITHOUT: &str = "WASMGATE_TEST_NO_NAMESPACES";

/// Advice for users whose machine cannot do it.
const NEEDS: &str = "install util-linux (`unshare`) and iproute2 (`ip`) and allow user namespaces \
                     (`sysctl kernel.unprivileged_userns_clone=1`, and on Ubuntu \
                     `kernel.apparmor_restrict_unprivileged_userns=0`), or set WASMGATE_TEST_NO_NAMESPACES=1 to go without";

/// Sets up the network and becomes the test: `$1` is a folder with the two files, `$2` the test binary, `$3` the test,
/// and the rest are the machine's addresses besides loopback.
const ENTER: &str = r#"set -e
mount --bind "$1/resolv.conf" /etc/resolv.conf
test ! -e /etc/nsswitch.conf || mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
ip link set lo up
binary=$2 name=$3
shift 3
for address in "$@"; do ip address add "$address" dev lo nodad; done
exec "$binary" --exact "$name" --nocapture --test-threads 1"#;

/// Whether this process is the one inside. Any other process runs the named test again, in a network where the machine
/// has these addresses, and fails if that test fails or cannot run.
pub fn inside(name: &str, addresses: &[&str]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if std::env::var_os(WITHOUT).is_some() {
        eprintln!("{name}: not run, because {WITHOUT} is set");
        return false;
    }
    let folder = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
    write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    write("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
    let output = command(folder.path(), name, addresses).output();
    let output = output.unwrap_or_else(|error| panic!("{name}: could not start `unshare`: {error}; {NEEDS}"));
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{name} failed inside a namespace, or there can be none here; {NEEDS}. It said:\n{said}"
    );
    assert!(said.contains("1 passed"), "{name} is no test of this binary:\n{said}");
    false
}

fn command(folder: &Path, name: &str, addresses: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "--net", "sh", "-c", ENTER, "sh"]);
    command.arg(folder).arg(std::env::current_exe().unwrap()).arg(name).args(addresses).env(INSIDE, "1");
    command
}

/// A question's type (RFC 1035, 3.2.2; RFC 3596, 2.1).
const A: u16 = 1;
const AAAA: u16 = 28;

/// A name server on port 53 of loopback. Each name has a list of answers, used one after the other, the last one for
/// ever. They must not be cached (TTL 0).
pub struct Dns {
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl Dns {
    /// Answers until the process ends.
    pub fn start(names: &[(&str, &[&[&str]])]) -> Self {
        let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 53))).unwrap();
        let addresses = |texts: &&[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let names: HashMap<String, Vec<Vec<IpAddr>>> = names
            .iter()
            .map(|(name, answers)| ((*name).to_string(), answers.iter().map(addresses).collect()))
            .collect();
        let asked: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                if let Some(answer) = answer(&packet[..length], &names, &log) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { asked }
    }

    /// How often the IPv4 addresses of a name were asked for; clients ask for IPv6 at the same time.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or_default()
    }
}

/// The answer to a packet with one question (RFC 1035, 4.1).
fn answer(
    packet: &[u8],
    names: &HashMap<String, Vec<Vec<IpAddr>>>,
    asked: &Mutex<HashMap<String, usize>>,
) -> Option<Vec<u8>> {
    let (name, end) = question(packet)?;
    let kind = u16::from_be_bytes(packet.get(end..end + 2)?.try_into().ok()?);
    let addresses = names.get(&name).map(|answers| {
        let mut asked = asked.lock().unwrap();
        let count = asked.entry(name.clone()).or_default();
        // A and AAAA of one look-up belong together. glibc sends A first; whichever arrives first, A counts.
        let round = if kind == A { *count } else { count.saturating_sub(1) };
        *count += usize::from(kind == A);
        &answers[round.min(answers.len() - 1)]
    });
    let records: Vec<Vec<u8>> = addresses.into_iter().flatten().filter_map(|ip| record(*ip, kind)).collect();
    // A response, authoritative, recursion available; 3 means that there is no such name.
    let flags: u16 = 0x8580 | if addresses.is_none() { 3 } else { 0 };
    let mut answer = packet.get(..2)?.to_vec();
    answer.extend(flags.to_be_bytes());
    for count in [1, u16::try_from(records.len()).ok()?, 0, 0] {
        answer.extend(count.to_be_bytes());
    }
    answer.extend(packet.get(12..end + 4)?);
    answer.extend(records.concat());
    Some(answer)
}

/// The name in the question, in lower case, and where it ends.
fn question(packet: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), 12);
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8(packet.get(at..at + length)?.to_ascii_lowercase()).ok()?);
        at += length;
    }
}

/// A record for the name of the question, if the address is of the requested type.
fn record(ip: IpAddr, kind: u16) -> Option<Vec<u8>> {
    let data = match (ip, kind) {
        (IpAddr::V4(ip), A) => ip.octets().to_vec(),
        (IpAddr::V6(ip), AAAA) => ip.octets().to_vec(),
        _ => return None,
    };
    // A pointer to the question's name, the type, class IN, TTL 0.
    let mut record = vec![0xc0, 12];
    record.extend(kind.to_be_bytes());
    record.extend([0, 1, 0, 0, 0, 0]);
    record.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    record.extend(data);
    Some(record)
}
