//! How does PureLB get addresses from a system of mine?
//!
//! A sidecar for ServiceGroups with `spec.external`: it answers the allocator on a Unix socket, out of
//! one range for each family, and keeps its book in a file, so that it gives the same addresses after
//! a restart. Replace the book by your IPAM.
//!
//! ```console
//! $ cargo run -p purelb-examples --example ipam_sidecar -- ipam.sock book 10.20.30.0/24 fd00:20::/112
//! answering on ipam.sock
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use purelb_cli::ipam::server::{Ipam, serve};
use purelb_cli::ipam::wire::{
    AllocateRequest, AllocateResponse, AllocatedIp, ReleaseRequest, Selector, StatsRequest,
    StatsResponse, Target,
};
use purelb_core::host::Family;
use purelb_core::range::AddressRange;
use tokio::net::UnixListener;
use tonic::Status;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(socket), Some(book)) = (args.next(), args.next()) else {
        return Err("usage: ipam_sidecar SOCKET BOOK RANGE…".into());
    };
    let ranges = args.map(|text| text.parse()).collect::<Result<Vec<AddressRange>, _>>()?;
    let sidecar = Sidecar { ranges, book: Mutex::new(Book::open(book.into())?) };
    // A socket that a previous process left is in the way.
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&socket)?;
    println!("answering on {socket}");
    serve(listener, sidecar).await;
    Ok(())
}

struct Sidecar {
    ranges: Vec<AddressRange>,
    book: Mutex<Book>,
}

impl Sidecar {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address of a family for a Service: the one it has, the one that is shared under its key, or
    /// the lowest that is free. The first address of a range is the network's own.
    fn choose(
        &self,
        book: &Book,
        request: &AllocateRequest,
        family: Family,
    ) -> Result<IpAddr, Status> {
        let is_of_family = |entry: &&Entry| Family::of(entry.ip) == family;
        let own = book.of(&request.pool, &request.service).find(is_of_family);
        let shared = book.shared(&request.pool, &request.sharing_key).find(is_of_family);
        if let Some(entry) = own.or(shared) {
            return Ok(entry.ip);
        }
        let range = self.ranges.iter().find(|range| range.family() == family);
        let range = range.ok_or_else(|| {
            Status::failed_precondition(format!("there is no {family} range: start me with one"))
        })?;
        let candidates = (1..range.size()).map_while(|offset| range.nth(offset));
        let free = candidates.into_iter().find(|ip| !book.is_taken(*ip));
        free.ok_or_else(|| Status::resource_exhausted(format!("{range} is full")))
    }
}

impl Ipam for Sidecar {
    fn allocate(&self, request: &AllocateRequest) -> Result<AllocateResponse, Status> {
        let Some(Selector::Families(wanted)) = &request.selector else {
            return Err(Status::invalid_argument("ask by families"));
        };
        let mut families = Vec::new();
        families.extend(wanted.want_ipv4.then_some(Family::V4));
        families.extend(wanted.want_ipv6.then_some(Family::V6));
        let mut book = self.book();
        let chosen: Result<Vec<IpAddr>, Status> =
            families.into_iter().map(|family| self.choose(&book, request, family)).collect();
        let chosen = chosen?;
        for ip in &chosen {
            book.write(&request.pool, &request.service, &request.sharing_key, *ip);
        }
        book.save()
            .map_err(|error| Status::unavailable(format!("cannot keep the book: {error}")))?;
        let ips = chosen.iter().map(|ip| AllocatedIp { ip: ip.to_string() }).collect();
        Ok(AllocateResponse { ips })
    }

    fn release(&self, request: &ReleaseRequest) -> Result<(), Status> {
        let only = match &request.target {
            Some(Target::Ip(text)) => {
                let ip = text.parse::<IpAddr>();
                Some(ip.map_err(|_| Status::invalid_argument(format!("{text:?} is no address")))?)
            }
            Some(Target::All(_)) | None => None,
        };
        let mut book = self.book();
        book.strike(&request.pool, &request.service, only);
        book.save().map_err(|error| Status::unavailable(format!("cannot keep the book: {error}")))
    }

    fn stats(&self, request: &StatsRequest) -> Result<StatsResponse, Status> {
        let book = self.book();
        let used = |family| book.used(&request.pool, family);
        let size = |family| {
            let range = self.ranges.iter().find(|range| range.family() == family);
            range.map_or(0, |range| u64::try_from(range.size() - 1).unwrap_or(u64::MAX))
        };
        Ok(StatsResponse {
            in_use_v4: used(Family::V4),
            in_use_v6: used(Family::V6),
            size_v4: size(Family::V4),
            size_v6: size(Family::V6),
            has_known_capacity: true,
            display_addresses: self.ranges.iter().map(ToString::to_string).collect(),
        })
    }
}

/// Who has what, by group, Service and family; on disk a line for each.
struct Book {
    path: PathBuf,
    entries: BTreeMap<(String, String, Family), Entry>,
}

struct Entry {
    key: String,
    ip: IpAddr,
}

impl Book {
    fn open(path: PathBuf) -> io::Result<Self> {
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        let mut book = Self { path, entries: BTreeMap::new() };
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split('\t').collect();
            let [pool, service, key, ip] = words[..] else { return Err(book.damaged(number)) };
            let ip = ip.parse().map_err(|_| book.damaged(number))?;
            book.write(pool, service, key, ip);
        }
        Ok(book)
    }

    fn damaged(&self, line: usize) -> io::Error {
        io::Error::other(format!("{}, line {}: no entry", self.path.display(), line + 1))
    }

    /// Replaces the file at once: a crash leaves the old one or the new one.
    fn save(&self) -> io::Result<()> {
        let lines = self.entries.iter().map(|((pool, service, _), entry)| {
            format!("{pool}\t{service}\t{}\t{}\n", entry.key, entry.ip)
        });
        let next = self.path.with_extension("next");
        fs::write(&next, lines.collect::<String>())?;
        fs::rename(next, &self.path)
    }

    fn write(&mut self, pool: &str, service: &str, key: &str, ip: IpAddr) {
        let place = (pool.to_owned(), service.to_owned(), Family::of(ip));
        self.entries.insert(place, Entry { key: key.to_owned(), ip });
    }

    fn strike(&mut self, pool: &str, service: &str, only: Option<IpAddr>) {
        self.entries.retain(|(its_pool, its_service, _), entry| {
            its_pool != pool || its_service != service || only.is_some_and(|ip| entry.ip != ip)
        });
    }

    fn of(&self, pool: &str, service: &str) -> impl Iterator<Item = &Entry> {
        let is_its = move |place: &(String, String, Family)| place.0 == pool && place.1 == service;
        self.entries.iter().filter(move |(place, _)| is_its(place)).map(|(_, entry)| entry)
    }

    fn shared(&self, pool: &str, key: &str) -> impl Iterator<Item = &Entry> {
        let entries = self.entries.iter().filter(move |(place, _)| place.0 == pool);
        entries.map(|(_, entry)| entry).filter(move |entry| !key.is_empty() && entry.key == key)
    }

    fn is_taken(&self, ip: IpAddr) -> bool {
        self.entries.values().any(|entry| entry.ip == ip)
    }

    /// Addresses in use; one that is shared counts once.
    fn used(&self, pool: &str, family: Family) -> u64 {
        let its = self.entries.iter().filter(|((its, _, of), _)| its == pool && *of == family);
        let ips: std::collections::BTreeSet<IpAddr> = its.map(|(_, entry)| entry.ip).collect();
        ips.len() as u64
    }
}
