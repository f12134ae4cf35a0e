//! A component that answers HTTP runs behind a server of the shim, as runwasi's own wasmtime shim does it: an instance
//! for each request, with the variables of the container and outgoing requests, and without files, sockets, arguments and
//! standard streams.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, anyhow};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::net::TcpListener;
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Variables that configure the server; the program does not see them.
const ADDRESS: &str = "WASMTIME_HTTP_PROXY_SOCKET_ADDR";
const BACKLOG: &str = "WASMTIME_HTTP_BACKLOG";

const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 8080);

struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: Default::default() }
    }
}

/// Whether a component answers HTTP.
pub fn answers(engine: &Engine, component: &Component) -> bool {
    component.component_type().exports(engine).any(|(name, _)| name.starts_with("wasi:http/incoming-handler@"))
}

struct Server {
    program: ProxyPre<State>,
    variables: Vec<(String, String)>,
    requests: AtomicU64,
}

/// Answers requests until the container is stopped.
pub async fn serve(engine: &Engine, component: &Component, envs: &[String]) -> Result<i32> {
    let mut linker: Linker<State> = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(|e| anyhow!("{e:?}"))?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker).map_err(|e| anyhow!("{e:?}"))?;
    let program = linker.instantiate_pre(component).and_then(ProxyPre::new);
    let program = program.map_err(|e| anyhow!("instantiate: {e:?}"))?;
    let all = envs.iter().map(|variable| variable.split_once('=').unwrap_or((variable, "")));
    let all: Vec<(String, String)> = all.map(|(name, value)| (name.into(), value.into())).collect();
    let address = match all.iter().find(|(name, _)| name == ADDRESS) {
        Some((_, address)) => address.parse().map_err(|e| anyhow!("{ADDRESS}: {e}"))?,
        None => DEFAULT_ADDRESS,
    };
    let variables = all.into_iter().filter(|(name, _)| name != ADDRESS && name != BACKLOG).collect();
    let server = Arc::new(Server { program, variables, requests: AtomicU64::new(0) });
    let listener = TcpListener::bind(address).await.map_err(|e| anyhow!("listen on {address}: {e}"))?;
    log::info!("answering HTTP on {address}");
    loop {
        let (client, _) = listener.accept().await?;
        let server = server.clone();
        tokio::task::spawn(async move {
            let service = service_fn(move |request| {
                let server = server.clone();
                async move { server.answer(request).await }
            });
            if let Err(e) = http1::Builder::new().serve_connection(TokioIo::new(client), service).await {
                log::warn!("serve a client: {e}");
            }
        });
    }
}

impl Server {
    fn state(&self) -> State {
        let mut wasi = WasiCtx::builder();
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        wasi.envs(&self.variables).env("REQUEST_ID", number.to_string());
        State { wasi: wasi.build(), http: WasiHttpCtx::new(), table: ResourceTable::new() }
    }

    async fn answer(&self, request: Request<Incoming>) -> wasmtime::Result<Response<HyperOutgoingBody>> {
        let mut store = Store::new(self.program.engine(), self.state());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
        let response = store.data_mut().http().new_response_outparam(sender)?;
        let program = self.program.clone();
        // A program may go on after its answer has begun.
        let running = tokio::task::spawn(async move {
            let proxy = program.instantiate_async(&mut store).await?;
            proxy.wasi_http_incoming_handler().call_handle(store, request, response).await
        });
        match receiver.await {
            Ok(answer) => answer.map_err(wasmtime::Error::from),
            Err(_) => {
                running.await??;
                Err(wasmtime::Error::msg("the program gave no answer"))
            }
        }
    }
}
