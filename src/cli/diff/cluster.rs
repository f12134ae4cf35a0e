//! The objects of a cluster that manifests would replace.

use kube::Client;
use kube::Resource as _;
use kube::api::{GetParams, Request};
use kube::core::{ApiResource, DynamicObject};
use serde_json::Value;

use crate::cli::Error;
use crate::cli::manifest::Manifest;
use crate::review::GroupVersionKind;
use crate::scan::kinds::built_in;
use crate::text;
use crate::watch::{self, resource_of};
use crate::workload::Kinds;

/// Those of the manifests that the cluster has, in the state in which it has them. Of a kind that the gate does not judge nothing is asked: what
/// is said of the manifest is all that can be.
pub async fn present(
    client: &Client,
    kinds: &Kinds,
    manifests: &[Manifest],
    namespace: &str,
) -> Result<Vec<Manifest>, Error> {
    let mut present = Vec::new();
    for manifest in manifests {
        let kind = manifest.kind();
        // The API server generates the name of an object without one, so there is none like it.
        if manifest.name().is_empty() || kinds.of(&kind).is_none() {
            continue;
        }
        let Some(resource) = resource(client, &kind).await? else { continue };
        let namespace = manifest.namespace_or(namespace);
        if let Some(object) = get(client, &resource, namespace, manifest.name()).await? {
            let origin = format!("the cluster, for {}", manifest.origin);
            present.push(Manifest { origin, object });
        }
    }
    Ok(present)
}

/// The resource of a kind; `None` where the cluster has no such kind, and so no object of it.
async fn resource(client: &Client, kind: &GroupVersionKind) -> Result<Option<ApiResource>, watch::Error> {
    let known = built_in().find(|one| one.group == kind.group && one.kind == kind.kind);
    match known {
        Some(resource) => Ok(Some(resource)),
        None => resource_of(client, &kind.group, &kind.kind).await,
    }
}

/// An object as the API server has it; `None` if there is none of this name.
async fn get(
    client: &Client,
    resource: &ApiResource,
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, Error> {
    let failed = |why: String| Error::ReadObject {
        object: format!("{} `{}`", resource.kind, text::visible(&format!("{namespace}/{name}"))),
        message: why,
    };
    let path = DynamicObject::url_path(resource, Some(namespace));
    let request = Request::new(path).get(name, &GetParams::default());
    let request = request.map_err(|error| failed(text::chain(&error)))?;
    match client.request::<Value>(request).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            Err(failed(format!("forbidden; a role needs `get` on {}", resource.plural)))
        }
        Err(error) => Err(failed(text::chain(&error))),
    }
}
