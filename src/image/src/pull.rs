//! One pull: from a name to a visible image.

use crate::commit::{self, Candidate};
use crate::config;
use crate::digest;
use crate::error::PullFailure;
use crate::layers::Wanted;
use crate::manifest::{Descriptor, ImageManifest, Manifest};
use crate::registry::session::{Document, Session};
use crate::registry::{Credentials, Stage, hosts};
use crate::state::{Lease, Store};
use cringle_domain::image::{ImageRecord, Layer};
use cringle_domain::reference::{Algorithm, Digest, Reference};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// An index may lead to an index; more steps than this are no honest image.
const MOST_INDEXES: usize = 3;

/// What a name led to.
struct Resolved {
    /// The digest that the name has now: of an index, if it is one.
    top: Digest,
    /// The manifest of the image for this machine.
    document: Document,
    manifest: ImageManifest,
}

/// Pulls an image and returns its id.
pub(crate) async fn pull(
    store: Arc<Store>,
    reference: Reference,
    credentials: Option<Credentials>,
) -> Result<Digest, PullFailure> {
    let endpoints = hosts::endpoints(&store.settings, reference.repository().registry())?;
    let session = Session::new(&store.settings, &reference, endpoints, credentials.as_ref());
    let session = Arc::new(session);
    let resolved = resolve(&store, &session, &reference).await?;
    let mut names = vec![reference.with_digest(resolved.top.clone())];
    if !names.contains(&reference) {
        names.push(reference.clone());
    }
    let mut candidate = candidate(&store, &session, resolved, names, &reference).await?;
    let leases = fetch_layers(&store, &session, &candidate.record, &reference).await?;
    candidate.record = with_keys(candidate.record, &leases);
    let id = candidate.record.id.clone();
    // In a task of its own, because a commit that has begun must come to its end.
    tokio::task::spawn_blocking(move || {
        let committed = commit::commit(&store, &candidate);
        drop(leases);
        committed
    })
    .await
    .map_err(PullFailure::Lost)??;
    Ok(id)
}

/// Finds the manifest for this machine. The registry is always asked, so that it can refuse who may not have the image.
async fn resolve(
    store: &Store,
    session: &Session,
    reference: &Reference,
) -> Result<Resolved, PullFailure> {
    let mut document = session.manifest(None).await?;
    let top = document.digest.clone();
    let mut led_by: Option<Descriptor> = None;
    for _ in 0..=MOST_INDEXES {
        let expected = led_by.as_ref().map(|descriptor| descriptor.media_type.as_str());
        let manifest = Manifest::parse(&document, expected, &store.platform).map_err(|source| {
            PullFailure::Manifest {
                digest: document.digest.clone(),
                reference: reference.to_string(),
                source,
            }
        })?;
        match manifest {
            Manifest::Image(manifest) => return Ok(Resolved { top, document, manifest }),
            Manifest::Index(descriptor) => {
                document = session.manifest(Some(&descriptor.digest)).await?;
                check_size(&document, &descriptor, reference)?;
                led_by = Some(descriptor);
            }
        }
    }
    Err(malformed(&document, reference, "an index of indexes of indexes"))
}

fn check_size(
    document: &Document,
    descriptor: &Descriptor,
    reference: &Reference,
) -> Result<(), PullFailure> {
    if u64::try_from(document.bytes.len()) == Ok(descriptor.size) {
        Ok(())
    } else {
        Err(malformed(document, reference, "it does not have the size that the index says"))
    }
}

fn malformed(document: &Document, reference: &Reference, problem: &str) -> PullFailure {
    let source = crate::manifest::ManifestError::Malformed(problem.to_owned());
    PullFailure::Manifest {
        digest: document.digest.clone(),
        reference: reference.to_string(),
        source,
    }
}

/// Reads the configuration and makes the record.
async fn candidate(
    store: &Store,
    session: &Session,
    resolved: Resolved,
    names: Vec<Reference>,
    reference: &Reference,
) -> Result<Candidate, PullFailure> {
    let Resolved { document, manifest, .. } = resolved;
    let known = store.state().records.get(&manifest.config.digest).cloned();
    if let Some(record) = known.filter(|record| record.manifest == document.digest) {
        return Ok(Candidate { record, names, blobs: Vec::new() });
    }
    let config = &manifest.config;
    let bytes = session.blob_bytes(Stage::Config, &config.digest, config.size).await?;
    let parsed = config::parse(&bytes, manifest.layers.len(), &store.platform)
        .map_err(|source| PullFailure::Config { reference: reference.to_string(), source })?;
    let layers: Vec<Layer> = parsed
        .diff_ids
        .into_iter()
        .zip(&manifest.layers)
        .map(|(diff_id, layer)| {
            let blob = layer.digest.clone();
            Layer { diff_id, blob, size: layer.size, chain: None }
        })
        .collect();
    let of_layers = layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
    let of_manifest = u64::try_from(document.bytes.len()).unwrap_or(u64::MAX);
    let record = ImageRecord {
        id: config.digest.clone(),
        manifest: document.digest.clone(),
        layers,
        size: of_layers.saturating_add(config.size).saturating_add(of_manifest),
        config: parsed.config,
    };
    let blobs = vec![(config.digest.clone(), bytes), (document.digest, document.bytes)];
    Ok(Candidate { record: Arc::new(record), names, blobs })
}

/// Fetches all layers, some at a time; the largest first, so that it isn't the one waited for at the end.
/// The leases are in the order of the layers.
async fn fetch_layers(
    store: &Arc<Store>,
    session: &Arc<Session>,
    record: &ImageRecord,
    reference: &Reference,
) -> Result<Vec<Lease>, PullFailure> {
    let mut layers: Vec<_> =
        record.layers.iter().cloned().zip(chains(record)).enumerate().collect();
    layers.sort_by_key(|(_, (layer, _))| std::cmp::Reverse(layer.size));
    let permits = Arc::new(Semaphore::new(store.settings.concurrent_downloads.max(1)));
    // Dropping the set ends its tasks, and with them their workers.
    let mut tasks = JoinSet::new();
    for (place, (layer, chain)) in layers {
        let permits = Arc::clone(&permits);
        let wanted = Wanted {
            store: Arc::clone(store),
            session: Arc::clone(session),
            reference: reference.to_string(),
            layer,
            chain,
        };
        tasks.spawn(async move {
            // The semaphore is never closed.
            let _permit = permits.acquire().await;
            Ok::<_, PullFailure>((place, wanted.fetch().await?))
        });
    }
    let mut leases = BTreeMap::new();
    while let Some(fetched) = tasks.join_next().await {
        match fetched.map_err(PullFailure::Lost).flatten() {
            Ok((place, lease)) => leases.insert(place, lease),
            Err(failure) => {
                // What the others have begun is gone before the client hears of it.
                tasks.shutdown().await;
                return Err(failure);
            }
        };
    }
    Ok(leases.into_values().collect())
}

/// For each layer the digest of it and all below, as the image specification's chain id.
pub(crate) fn chains(record: &ImageRecord) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::new();
    for layer in &record.layers {
        let chain = match chains.last() {
            None => layer.diff_id.clone(),
            Some(below) => {
                let text = format!("{below} {}", layer.diff_id);
                digest::of(Algorithm::Sha256, text.as_bytes())
            }
        };
        chains.push(chain);
    }
    chains
}

/// The record with what its layers are kept by, which is known once they are here.
fn with_keys(record: Arc<ImageRecord>, leases: &[Lease]) -> Arc<ImageRecord> {
    if record.layers.iter().zip(leases).all(|(layer, lease)| layer.key() == lease.key()) {
        return record;
    }
    let mut record = Arc::unwrap_or_clone(record);
    for (layer, lease) in record.layers.iter_mut().zip(leases) {
        layer.chain = (layer.diff_id != *lease.key()).then(|| lease.key().clone());
    }
    Arc::new(record)
}
