//! All objects of a kind, page by page, as the API server wrote them: for what is read once and never followed.

use std::pin::pin;
use std::time::Duration;

use futures::AsyncReadExt as _;
use kube::Client;
use kube::Resource as _;
use kube::api::{ListParams, Request};
use kube::core::{ApiResource, DynamicObject, Status};
use kube::discovery;
use kube::error::DiscoveryError;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::task::spawn_blocking;

use super::Error;
use super::client::chain;
use crate::text;

/// Objects per page, as in client-go.
const PAGE: u32 = 500;

/// Objects on the first page where it is not known yet how large they are.
const FIRST: u32 = 8;

/// Attempts for one page. Their waits add up to 7.5 s.
const ATTEMPTS: u32 = 5;

/// Wait after the first failed attempt; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// A list in parts.
#[derive(Debug)]
pub struct Pages {
    resource: ApiResource,
    namespace: Option<String>,
    /// Where the next page begins; `None` before the first one, and empty after the last one.
    token: Option<String>,
    /// Objects on the next page.
    size: u32,
    /// Most objects on a page.
    largest: u32,
    /// Labels that the objects must have, as `kubectl --selector` takes them.
    labels: Option<String>,
    /// Whether only the metadata of the objects is asked for.
    is_metadata_only: bool,
    /// Whether a page of one object is bounded too.
    is_strict: bool,
}

/// One page, with what the gate reads of its head. Servers that are written in Go send `null` for a list without items: the API server does
/// for metadata alone (`kubernetes:staging/src/k8s.io/apiserver/pkg/endpoints/handlers/response.go`, `asPartialObjectMetadataList`).
#[derive(Deserialize)]
struct Page {
    metadata: Option<Head>,
    items: Option<Vec<Box<RawValue>>>,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "continue")]
    token: Option<String>,
}

impl Pages {
    /// The objects of a kind, in a namespace or in all. Sends no request yet.
    pub const fn new(resource: ApiResource, namespace: Option<String>) -> Self {
        let (token, labels) = (None, None);
        let (is_metadata_only, is_strict) = (false, false);
        Self { resource, namespace, token, size: PAGE, largest: PAGE, labels, is_metadata_only, is_strict }
    }

    /// Asks for pages of so many objects, and not of 500.
    #[must_use]
    pub const fn of_size(mut self, size: u32) -> Self {
        (self.size, self.largest) = (size, size);
        self
    }

    /// Asks for a small first page, and larger ones while they are small, so that no API server has to write a large one in vain.
    #[must_use]
    pub const fn growing(mut self) -> Self {
        if self.size > FIRST && !self.is_metadata_only {
            self.size = FIRST;
        }
        self
    }

    /// The metadata alone, of the objects with these labels.
    #[must_use]
    pub fn metadata_of(mut self, labels: &str) -> Self {
        (self.labels, self.is_metadata_only) = (Some(labels.to_owned()), true);
        self
    }

    /// Lets a page with one object be no larger than others either: some servers send all objects whatever is asked for.
    #[must_use]
    pub const fn strict(mut self) -> Self {
        self.is_strict = true;
        self
    }

    /// The kind that is listed.
    pub const fn resource(&self) -> &ApiResource {
        &self.resource
    }

    /// The next objects as text, which takes a small part of the memory that they take as values; see [`Self::complete`]. `None` after
    /// the last one. A page of several objects has at most `most` bytes: the users who create objects say how large they are.
    pub async fn next_raw(
        &mut self,
        client: &Client,
        most: usize,
    ) -> Result<Option<Vec<Box<RawValue>>>, Error> {
        if self.token.as_deref() == Some("") {
            return Ok(None);
        }
        let page = self.patiently(client, most).await?;
        self.token = Some(page.metadata.and_then(|head| head.token).unwrap_or_default());
        Ok(Some(page.items.unwrap_or_default()))
    }

    /// Whether only the metadata of the objects is listed.
    pub const fn is_of_metadata(&self) -> bool {
        self.is_metadata_only
    }

    /// Gives an object its `apiVersion` and `kind`, which a list leaves out.
    pub fn complete(&self, item: &mut Value) {
        if let Some(item) = item.as_object_mut() {
            item.insert("apiVersion".into(), Value::String(self.resource.api_version.clone()));
            item.insert("kind".into(), Value::String(self.resource.kind.clone()));
        }
    }

    /// The next page, asked for again where the API server was only busy, and with fewer objects where they are too large together.
    async fn patiently(&mut self, client: &Client, most: usize) -> Result<Page, Error> {
        let mut wait = FIRST_RETRY;
        let mut attempts = 1;
        loop {
            let limit = if self.size > 1 || self.is_strict { most } else { usize::MAX };
            let error = match read(client, self.request()?, limit).await {
                Ok(Some(body)) => {
                    let bytes = body.len();
                    // Not on a thread that answers reviews: it takes time in proportion to what others wrote.
                    match spawn_blocking(move || serde_json::from_slice::<Page>(&body)).await {
                        Ok(Ok(page)) => {
                            self.grow(bytes, most);
                            return Ok(page);
                        }
                        Ok(Err(error)) => kube::Error::SerdeError(error),
                        Err(error) => kube::Error::Service(error.into()),
                    }
                }
                Ok(None) if self.size <= 1 => {
                    let message = format!("an answer has more than {most} bytes");
                    return Err(Error::ListKind { name: name(&self.resource), message });
                }
                Ok(None) => {
                    self.size = (self.size / 2).max(1);
                    continue;
                }
                Err(error) => error,
            };
            let resumed = self.resume(&error);
            if attempts >= ATTEMPTS || !(resumed || is_passing(&error)) {
                return Err(self.failed(&error));
            }
            if !resumed {
                tokio::time::sleep(wait).await;
                wait = wait.saturating_mul(2);
            }
            attempts += 1;
        }
    }

    /// Makes the next page larger where twice as much would still be little.
    fn grow(&mut self, bytes: usize, most: usize) {
        if bytes < most / 4 {
            self.size = self.size.saturating_mul(2).min(self.largest);
        }
    }

    fn request(&self) -> Result<axum::http::Request<Vec<u8>>, Error> {
        let path = DynamicObject::url_path(&self.resource, self.namespace.as_deref());
        let token = self.token.clone().filter(|token| !token.is_empty());
        let page = ListParams {
            limit: Some(self.size),
            continue_token: token,
            label_selector: self.labels.clone(),
            ..ListParams::default()
        };
        let request = Request::new(path);
        if self.is_metadata_only { request.list_metadata(&page) } else { request.list(&page) }
            .map_err(|error| Error::ListKind { name: name(&self.resource), message: chain(&error) })
    }

    /// A page that is asked for too late has expired with its version. The API server then says where to go on with the
    /// present version: what changed in between may be missing or old, and nothing comes twice
    /// (`kubernetes:staging/src/k8s.io/apiserver/pkg/storage/errors.go`, `handleCompactedErrorForPaging`).
    fn resume(&mut self, error: &kube::Error) -> bool {
        let kube::Error::Api(status) = error else { return false };
        let token = status.metadata.as_ref().and_then(|metadata| metadata.continue_.clone());
        let token = token.filter(|token| status.code == 410 && !token.is_empty());
        let resumes = token.is_some();
        if resumes {
            self.token = token;
        }
        resumes
    }

    fn failed(&self, error: &kube::Error) -> Error {
        let message = match error {
            kube::Error::Api(status) => refusal(status, &self.resource),
            error => chain(error),
        };
        Error::ListKind { name: name(&self.resource), message }
    }
}

/// The body of an answer; `None` where it has more than `most` bytes. The rest is not read then.
async fn read(
    client: &Client,
    request: axum::http::Request<Vec<u8>>,
    most: usize,
) -> Result<Option<Vec<u8>>, kube::Error> {
    let answer = pin!(client.request_stream(request).await?);
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut body = Vec::new();
    let read = answer.take(limit).read_to_end(&mut body).await;
    read.map_err(|error| error.downcast::<kube::Error>().unwrap_or_else(kube::Error::ReadEvents))?;
    Ok(Some(body).filter(|body| body.len() <= most))
}

/// Resource and group, such as `deployments.apps`, as in RBAC.
fn name(resource: &ApiResource) -> String {
    let ApiResource { plural, group, .. } = resource;
    if group.is_empty() { plural.clone() } else { format!("{plural}.{group}") }
}

fn refusal(status: &Status, resource: &ApiResource) -> String {
    match status.code {
        401 => "unauthorized: the API server does not accept this user's token or certificate".into(),
        403 => format!("forbidden: the ClusterRole lacks list on {}", name(resource)),
        404 => format!("not found: this API server does not serve {}", resource.api_version),
        code => format!("the API server answered list with {code}: {}", text::excerpt(&status.message, 200)),
    }
}

/// Whether the same request may succeed soon.
fn is_passing(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => status.code == 429 || status.code >= 500,
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => true,
        _ => false,
    }
}

/// The resource of a kind in the version that the API server prefers; `None` where it does not have the kind.
pub async fn resource_of(client: &Client, group: &str, kind: &str) -> Result<Option<ApiResource>, Error> {
    match discovery::group(client, group).await {
        Ok(found) => Ok(found.recommended_kind(kind).map(|(resource, _)| resource)),
        Err(kube::Error::Discovery(DiscoveryError::MissingApiGroup(_))) => Ok(None),
        Err(error) => Err(Error::ListKind { name: format!("{kind}.{group}"), message: chain(&error) }),
    }
}

/// Whether the API server serves this kind in this very version.
pub async fn is_served(client: &Client, resource: &ApiResource) -> Result<bool, Error> {
    match discovery::group(client, &resource.group).await {
        Ok(found) => {
            let served = found.versioned_resources(&resource.version);
            Ok(served.iter().any(|(served, _)| served.kind == resource.kind))
        }
        Err(kube::Error::Discovery(DiscoveryError::MissingApiGroup(_))) => Ok(false),
        Err(error) => Err(Error::ListKind { name: name(resource), message: chain(&error) }),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn pages() -> Pages {
        let resource = ApiResource {
            group: "apps".into(),
            version: "v1".into(),
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            plural: "deployments".into(),
        };
        Pages::new(resource, Some("shop".into()))
    }

    fn refused(code: u16, token: &str) -> kube::Error {
        let status =
            serde_json::json!({"code": code, "message": "m", "reason": "r", "metadata": {"continue": token}});
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    #[test]
    fn a_page_is_asked_for_by_size_and_token() {
        let mut pages = pages();
        assert_eq!(pages.request().unwrap().uri(), "/apis/apps/v1/namespaces/shop/deployments?&limit=500");
        pages.token = Some("a b".into());
        let uri = pages.request().unwrap().uri().to_string();
        assert!(uri.ends_with("&limit=500&continue=a+b"), "{uri}");
    }

    #[test]
    fn an_expired_page_goes_on_where_the_server_says() {
        let mut pages = pages();
        assert!(pages.resume(&refused(410, "on")));
        assert_eq!(pages.token.as_deref(), Some("on"));
        assert!(!pages.resume(&refused(410, "")) && !pages.resume(&refused(500, "other")));
        assert_eq!(pages.token.as_deref(), Some("on"));
    }

    /// Twenty objects, of which the first ten are small.
    fn answer(uri: &axum::http::Uri) -> (u32, String) {
        let query = uri.query().unwrap_or_default();
        let number = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.parse().ok());
        let (limit, from): (u32, u32) = (number("limit=").unwrap(), number("continue=").unwrap_or_default());
        let end = from.saturating_add(limit).min(20);
        let object = |n: u32| {
            let text = "x".repeat(if n < 10 { 10 } else { 1_000 });
            serde_json::json!({"metadata": {"name": n.to_string()}, "text": text})
        };
        let items: Vec<Value> = (from..end).map(object).collect();
        let token = if end < 20 { end.to_string() } else { String::new() };
        (limit, serde_json::json!({"items": items, "metadata": {"continue": token}}).to_string())
    }

    #[tokio::test]
    async fn pages_grow_while_they_are_small_and_one_that_is_too_large_is_not_taken() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let router: axum::Router = axum::Router::new().fallback(move |uri: axum::http::Uri| {
            let (limit, body) = answer(&uri);
            noted.lock().unwrap().push(limit);
            async move { body }
        });
        let client = Client::new(router, "default");
        let mut pages = pages().of_size(16).growing();
        let mut names = Vec::new();
        while let Some(page) = pages.next_raw(&client, 3_000).await.unwrap() {
            assert!(page.iter().map(|item| item.get().len()).sum::<usize>() <= 3_000);
            for item in page {
                let object: Value = serde_json::from_str(item.get()).unwrap();
                names.push(object["metadata"]["name"].as_str().unwrap().parse::<u32>().unwrap());
            }
        }
        assert_eq!(names, (0..20).collect::<Vec<_>>(), "nothing is missing or there twice");
        assert_eq!(*asked.lock().unwrap(), [8, 16, 8, 4, 4, 2, 2, 2, 2]);
        let mut single = self::pages().of_size(1);
        let page = single.next_raw(&client, 10).await.unwrap();
        assert_eq!(page.map(|page| page.len()), Some(1), "one object is taken whatever its size");
        let error = self::pages().strict().next_raw(&client, 10).await.unwrap_err().to_string();
        assert!(error.ends_with("an answer has more than 10 bytes"), "{error}");
    }

    #[tokio::test]
    async fn a_list_without_items_is_empty_in_every_way_to_write_it() {
        for body in [
            r#"{"metadata": {"resourceVersion": "390"}, "items": null}"#,
            r#"{"metadata": {"continue": null}, "items": []}"#,
            r#"{"metadata": null}"#,
            "{}",
        ] {
            let router: axum::Router = axum::Router::new().fallback(move || async move { body });
            let client = Client::new(router, "default");
            let mut pages = pages().metadata_of("app=x");
            let page = pages.next_raw(&client, 1_000).await.unwrap();
            assert_eq!(page.map(|page| page.len()), Some(0), "{body}");
            assert!(pages.next_raw(&client, 1_000).await.unwrap().is_none(), "{body}");
        }
    }

    #[tokio::test]
    async fn a_kind_that_is_there_in_another_version_alone_is_not_served() {
        let router: axum::Router = axum::Router::new().fallback(|uri: axum::http::Uri| async move {
            let version = serde_json::json!({"groupVersion": "apps/v2", "version": "v2"});
            let group = serde_json::json!({"name": "apps", "versions": [version], "preferredVersion": version});
            let kind = serde_json::json!({"name": "deployments", "singularName": "", "namespaced": true,
                "kind": "Deployment", "verbs": ["list"]});
            let answer = match uri.path() {
                "/apis" => serde_json::json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}),
                _ => serde_json::json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "apps/v2",
                    "resources": [kind]}),
            };
            answer.to_string()
        });
        let client = Client::new(router, "default");
        let mut wanted = pages().resource;
        assert!(!is_served(&client, &wanted).await.unwrap(), "v1");
        wanted.version = "v2".into();
        assert!(is_served(&client, &wanted).await.unwrap(), "v2");
        wanted.kind = "Report".into();
        assert!(!is_served(&client, &wanted).await.unwrap(), "another kind");
        wanted.group = "other".into();
        assert!(!is_served(&client, &wanted).await.unwrap(), "another group");
    }

    #[test]
    fn only_what_may_pass_is_tried_again_and_a_missing_right_is_named() {
        assert!(is_passing(&refused(429, "")) && is_passing(&refused(503, "")));
        assert!(!is_passing(&refused(403, "")) && !is_passing(&refused(404, "")));
        let said = pages().failed(&refused(403, "")).to_string();
        assert_eq!(
            said,
            "could not list deployments.apps: forbidden: the ClusterRole lacks list on deployments.apps"
        );
    }
}
