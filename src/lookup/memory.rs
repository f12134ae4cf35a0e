//! The memory budget of all look-ups: what a layer needs is reserved before the layer is fetched, and released when its
//! bytes are dropped.
//!
//! A look-up holds one reservation for each layer that it reads, has all of it before the first byte arrives, and needs
//! no other one to finish. So look-ups wait for each other, but never in a circle. Small documents that every look-up
//! reads are not reserved, because the number of slots bounds them: manifests, configs, a Spin application's own file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::SizeLimits;
use crate::image::archive::{Compression, MAX_WINDOW};
use crate::image::descriptor::Descriptor;
use crate::image::manifest::compression;
use crate::image::module;
use crate::shares::{Share, Shares};

/// What the tables of a binary may take while it is read.
const TABLES: u64 = module::MAX_TABLES;
/// The window of a Zstandard frame, as much again while its buffer grows, a block, and the tables of the decoder.
const ZSTD: u64 = 2 * MAX_WINDOW + (1 << 20);

/// Bytes per permit of the semaphore.
const UNIT: u64 = 64 << 10;

/// Memory for the layers of all look-ups.
#[derive(Debug)]
pub(super) struct LayerMemory {
    shares: Shares,
    total: u64,
    held: AtomicU64,
    peak: AtomicU64,
}

/// Memory that is reserved until it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    memory: Arc<LayerMemory>,
    bytes: u64,
    _share: Option<Share>,
}

impl LayerMemory {
    /// A budget of so many bytes.
    pub(super) fn new(bytes: u64) -> Arc<Self> {
        let shares = Shares::new(u32::try_from(bytes / UNIT).unwrap_or(u32::MAX));
        Arc::new(Self { shares, total: bytes, held: AtomicU64::new(0), peak: AtomicU64::new(0) })
    }

    /// The whole budget, in bytes.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Bytes that are reserved now, and the most that ever were.
    pub(super) fn held_and_peak(&self) -> (u64, u64) {
        (self.held.load(Ordering::Relaxed), self.peak.load(Ordering::Relaxed))
    }

    /// Waits for memory for an image of a pod in this namespace; `None` when it exceeds the whole budget.
    pub(super) async fn reserve(self: &Arc<Self>, namespace: &Arc<str>, bytes: u64) -> Option<Reservation> {
        if bytes > self.total {
            return None;
        }
        // The last unit is rounded down, so that the whole budget can be reserved at once.
        let units = bytes.div_ceil(UNIT).min(self.total / UNIT);
        let share = self.shares.take(namespace, u32::try_from(units).unwrap_or(u32::MAX)).await;
        let held = self.held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        self.peak.fetch_max(held, Ordering::Relaxed);
        Some(Reservation { memory: Arc::clone(self), bytes, _share: share })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.memory.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Reservation {
    /// Ties the reservation to the bytes: it is released when the last reference to them is dropped, on any thread.
    pub(super) fn hold(self, bytes: Bytes) -> Bytes {
        struct Held {
            bytes: Bytes,
            _reservation: Reservation,
        }
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.bytes
            }
        }
        Bytes::from_owner(Held { bytes, _reservation: self })
    }
}

/// The most memory that reading a layer takes, in bytes: the layer as transferred, what is held of it unpacked, and the tables
/// of a binary. A layer of files is unpacked as a stream, and holds one Wasm file at a time, which in an uncompressed layer is
/// no larger than the layer; a Zstandard frame holds its window too. A Wasm layer is parsed in place.
pub(super) fn need(layer: &Descriptor, limits: &SizeLimits) -> u64 {
    taken(layer.size, compression(&layer.media_type), limits)
}

/// The same of the layer that takes the most of all that these limits admit. A budget below it refuses some of them.
pub fn largest_need(limits: &SizeLimits) -> u64 {
    taken(limits.layer, Some(Compression::Any), limits)
}

/// `packed` is `None` for a Wasm layer.
fn taken(size: u64, packed: Option<Compression>, limits: &SizeLimits) -> u64 {
    let file = limits.layer.min(limits.unpacked);
    let unpacked = match packed {
        None => 0,
        Some(Compression::Plain) => size,
        Some(Compression::Gzip) => file,
        Some(Compression::Zstd | Compression::Any) => file.saturating_add(ZSTD),
    };
    size.saturating_add(unpacked).saturating_add(TABLES)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::image::Digest;

    fn layer(media_type: &str, size: u64) -> Descriptor {
        Descriptor { media_type: media_type.into(), digest: Digest::of(b"layer"), size }
    }

    #[test]
    fn a_layer_needs_its_size_plus_what_is_built_from_it() {
        let limits = SizeLimits { layer: 100, unpacked: 500, ..SizeLimits::default() };
        for (media_type, needed) in [
            ("application/wasm", 20),
            ("application/vnd.wasm.content.layer.v1+wasm", 20),
            ("application/vnd.oci.image.layer.v1.tar", 40),
            ("application/vnd.oci.image.layer.v1.tar+gzip", 120),
            ("application/vnd.oci.image.layer.v1.tar+zstd", 120 + ZSTD),
            ("application/vnd.docker.image.rootfs.diff.tar", 120 + ZSTD),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", 120),
        ] {
            assert_eq!(need(&layer(media_type, 20), &limits), needed + TABLES, "{media_type}");
        }
        assert_eq!(need(&layer("application/wasm", u64::MAX), &limits), u64::MAX);
    }

    #[tokio::test]
    async fn bytes_hold_their_reservation_until_the_last_clone_is_dropped() {
        let memory = LayerMemory::new(10 * UNIT);
        let namespace: Arc<str> = "shop".into();
        let reservation = memory.reserve(&namespace, 4 * UNIT).await.unwrap();
        let bytes = reservation.hold(Bytes::from_static(b"layer"));
        let (clone, slice) = (bytes.clone(), bytes.slice(1..3));
        drop(bytes);
        drop(clone);
        assert_eq!((&slice[..], memory.held_and_peak()), (&b"ay"[..], (4 * UNIT, 4 * UNIT)));
        drop(slice);
        assert_eq!(memory.held_and_peak(), (0, 4 * UNIT));
    }

    #[tokio::test]
    async fn the_total_is_never_exceeded() {
        let memory = LayerMemory::new(10 * UNIT);
        let (one, other): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        assert!(memory.reserve(&one, 10 * UNIT + 1).await.is_none(), "never so many");
        let all = memory.reserve(&one, 10 * UNIT).now_or_never().flatten().unwrap();
        assert!(memory.reserve(&other, 1).now_or_never().is_none(), "it waits");
        drop(all);
        let half = memory.reserve(&one, 5 * UNIT).now_or_never().flatten().unwrap();
        assert!(memory.reserve(&one, UNIT).now_or_never().is_none(), "half is left to other namespaces");
        assert!(memory.reserve(&other, 5 * UNIT).now_or_never().flatten().is_some());
        drop(half);
        assert_eq!(memory.held_and_peak(), (0, 10 * UNIT));
    }
}
