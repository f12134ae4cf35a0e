//! The API server as seen by a client library: the output of `kubectl` is not enough to compare warnings and objects.

use std::path::Path;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde_json::Value;

use crate::support::control_plane::ControlPlane;
use crate::support::tls::{Answer, Client, Http, Session};

/// An open connection as the administrator.
pub struct Api {
    session: Session,
    token: String,
}

/// The answer: the object or the status, and the warnings.
#[derive(Debug)]
pub struct Reply {
    pub code: u16,
    pub body: Value,
    pub warnings: Vec<String>,
}

impl Api {
    pub async fn open(plane: &ControlPlane) -> Self {
        let config = plane.kubectl(&["config", "view", "--raw", "--output=json"]).json();
        let cluster = &config["clusters"][0]["cluster"];
        let ca = Path::new(cluster["certificate-authority"].as_str().unwrap());
        let port = cluster["server"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();
        let client = Client::trusting(&[ca], Http::Two).expecting("127.0.0.1");
        let session = client.open(([127, 0, 0, 1], port).into()).await.unwrap();
        let token = config["users"][0]["user"]["token"].as_str().unwrap().to_string();
        Self { session, token }
    }

    /// Creates an object without storing it.
    pub async fn dry_run(&mut self, namespace: &str, object: &Value) -> Reply {
        let path = format!("{}?dryRun=All", collection(namespace, object));
        let request = Request::post(path)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(object.to_string())))
            .unwrap();
        reply(&self.session.send(request).await.unwrap())
    }
}

fn reply(answer: &Answer) -> Reply {
    let warnings = answer.headers.get_all("warning").iter();
    let texts = warnings.filter_map(|header| unquoted(std::str::from_utf8(header.as_bytes()).unwrap()));
    Reply { code: answer.status.as_u16(), body: answer.json(), warnings: texts.collect() }
}

/// The text of `299 - "TEXT"` (`rfc7234:5.5`).
fn unquoted(header: &str) -> Option<String> {
    let (_, quoted) = header.split_once('"')?;
    let quoted = quoted.strip_suffix('"')?;
    let mut text = String::new();
    let mut chars = quoted.chars();
    while let Some(next) = chars.next() {
        text.extend(if next == '\\' { chars.next() } else { Some(next) });
    }
    Some(text)
}

/// Path of the collection that an object belongs to.
fn collection(namespace: &str, object: &Value) -> String {
    let version = object["apiVersion"].as_str().unwrap();
    let root = if version.contains('/') { "apis" } else { "api" };
    let kind = object["kind"].as_str().unwrap().to_lowercase();
    format!("/{root}/{version}/namespaces/{namespace}/{kind}s")
}
