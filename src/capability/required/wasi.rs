//! The functions of the interfaces of WASI 0.2 and 0.3, as published, without `[method]` and the like and without `async`: those of
//! all versions from 0.2.0 to 0.2.12, and of 0.3.0 (`WASI:wasip2`, `WASI:proposals`, `WASI:proposals/*/wit-0.3.0-draft`).

/// Whether the interface is listed, and has no such function in any of the versions.
pub(super) fn lacks(package: &str, interface: &str, function: &str) -> bool {
    functions(package, interface).is_some_and(|all| all.split_whitespace().all(|known| known != function))
}

/// The functions of an interface, with a space between them. `None` for an interface that is not listed.
fn functions(package: &str, interface: &str) -> Option<&'static str> {
    Some(match (package, interface) {
        ("wasi:cli", "environment") => "get-arguments get-environment get-initial-cwd initial-cwd",
        ("wasi:cli", "exit") => "exit exit-with-code",
        ("wasi:cli", "run") => "run",
        ("wasi:cli", "stdin") => "get-stdin read-via-stream",
        ("wasi:cli", "stdout") => "get-stdout write-via-stream",
        ("wasi:cli", "stderr") => "get-stderr write-via-stream",
        ("wasi:cli", "terminal-input" | "terminal-output" | "types") | ("wasi:clocks", "types") => "",
        ("wasi:cli", "terminal-stdin") => "get-terminal-stdin",
        ("wasi:cli", "terminal-stdout") => "get-terminal-stdout",
        ("wasi:cli", "terminal-stderr") => "get-terminal-stderr",
        ("wasi:clocks", "monotonic-clock") => {
            "get-resolution now resolution subscribe-duration subscribe-instant wait-for wait-until"
        }
        ("wasi:clocks", "wall-clock") => "now resolution",
        ("wasi:clocks", "timezone") => "display iana-id to-debug-string utc-offset",
        ("wasi:clocks", "system-clock") => "get-resolution now",
        ("wasi:random", "insecure-seed") => "get-insecure-seed insecure-seed",
        ("wasi:random", "insecure") => "get-insecure-random-bytes get-insecure-random-u64",
        ("wasi:random", "random") => "get-random-bytes get-random-u64",
        ("wasi:io", "error") => "error.to-debug-string",
        ("wasi:io", "poll") => "poll pollable.block pollable.ready",
        ("wasi:io", "streams") => STREAMS,
        ("wasi:filesystem", "types") => FILES,
        ("wasi:filesystem", "preopens") => "get-directories",
        ("wasi:sockets", "network") => "network-error-code",
        ("wasi:sockets", "instance-network") => "instance-network",
        ("wasi:sockets", "ip-name-lookup") => {
            "resolve-address-stream.resolve-next-address resolve-address-stream.subscribe resolve-addresses"
        }
        ("wasi:sockets", "tcp") => TCP,
        ("wasi:sockets", "tcp-create-socket") => "create-tcp-socket",
        ("wasi:sockets", "udp") => UDP,
        ("wasi:sockets", "udp-create-socket") => "create-udp-socket",
        ("wasi:sockets", "types") => SOCKETS,
        ("wasi:http", "types") => HTTP,
        ("wasi:http", "outgoing-handler" | "handler") => "handle",
        ("wasi:http", "client") => "send",
        _ => return None,
    })
}

/// `wasi:filesystem/types`.
const FILES: &str = "
    descriptor.advise descriptor.append-via-stream descriptor.create-directory-at descriptor.get-flags
    descriptor.get-type descriptor.is-same-object descriptor.link-at descriptor.metadata-hash
    descriptor.metadata-hash-at descriptor.open-at descriptor.read descriptor.read-directory
    descriptor.read-via-stream descriptor.readlink-at descriptor.remove-directory-at descriptor.rename-at
    descriptor.set-size descriptor.set-times descriptor.set-times-at descriptor.stat descriptor.stat-at
    descriptor.symlink-at descriptor.sync descriptor.sync-data descriptor.unlink-file-at descriptor.write
    descriptor.write-via-stream directory-entry-stream.read-directory-entry filesystem-error-code
";

/// `wasi:sockets/types` of WASI 0.3.
const SOCKETS: &str = "
    tcp-socket.bind tcp-socket.connect tcp-socket.create tcp-socket.get-address-family
    tcp-socket.get-hop-limit tcp-socket.get-is-listening tcp-socket.get-keep-alive-count
    tcp-socket.get-keep-alive-enabled tcp-socket.get-keep-alive-idle-time tcp-socket.get-keep-alive-interval
    tcp-socket.get-local-address tcp-socket.get-receive-buffer-size tcp-socket.get-remote-address
    tcp-socket.get-send-buffer-size tcp-socket.listen tcp-socket.receive tcp-socket.send
    tcp-socket.set-hop-limit tcp-socket.set-keep-alive-count tcp-socket.set-keep-alive-enabled
    tcp-socket.set-keep-alive-idle-time tcp-socket.set-keep-alive-interval
    tcp-socket.set-listen-backlog-size tcp-socket.set-receive-buffer-size tcp-socket.set-send-buffer-size
    udp-socket.bind udp-socket.connect udp-socket.create udp-socket.disconnect udp-socket.get-address-family
    udp-socket.get-local-address udp-socket.get-receive-buffer-size udp-socket.get-remote-address
    udp-socket.get-send-buffer-size udp-socket.get-unicast-hop-limit udp-socket.receive udp-socket.send
    udp-socket.set-receive-buffer-size udp-socket.set-send-buffer-size udp-socket.set-unicast-hop-limit
";

/// `wasi:sockets/tcp` of WASI 0.2.
const TCP: &str = "
    tcp-socket.accept tcp-socket.address-family tcp-socket.finish-bind tcp-socket.finish-connect
    tcp-socket.finish-listen tcp-socket.hop-limit tcp-socket.is-listening tcp-socket.keep-alive-count
    tcp-socket.keep-alive-enabled tcp-socket.keep-alive-idle-time tcp-socket.keep-alive-interval
    tcp-socket.local-address tcp-socket.receive-buffer-size tcp-socket.remote-address
    tcp-socket.send-buffer-size tcp-socket.set-hop-limit tcp-socket.set-keep-alive-count
    tcp-socket.set-keep-alive-enabled tcp-socket.set-keep-alive-idle-time tcp-socket.set-keep-alive-interval
    tcp-socket.set-listen-backlog-size tcp-socket.set-receive-buffer-size tcp-socket.set-send-buffer-size
    tcp-socket.shutdown tcp-socket.start-bind tcp-socket.start-connect tcp-socket.start-listen
    tcp-socket.subscribe
";

/// `wasi:sockets/udp` of WASI 0.2.
const UDP: &str = "
    incoming-datagram-stream.receive incoming-datagram-stream.subscribe outgoing-datagram-stream.check-send
    outgoing-datagram-stream.send outgoing-datagram-stream.subscribe udp-socket.address-family
    udp-socket.finish-bind udp-socket.local-address udp-socket.receive-buffer-size udp-socket.remote-address
    udp-socket.send-buffer-size udp-socket.set-receive-buffer-size udp-socket.set-send-buffer-size
    udp-socket.set-unicast-hop-limit udp-socket.start-bind udp-socket.stream udp-socket.subscribe
    udp-socket.unicast-hop-limit
";

/// `wasi:http/types`.
const HTTP: &str = "
    fields fields.append fields.clone fields.copy-all fields.delete fields.entries fields.from-list
    fields.get fields.get-and-delete fields.has fields.set future-incoming-response.get
    future-incoming-response.subscribe future-trailers.get future-trailers.subscribe http-error-code
    incoming-body.finish incoming-body.stream incoming-request.authority incoming-request.consume
    incoming-request.headers incoming-request.method incoming-request.path-with-query
    incoming-request.scheme incoming-response.consume incoming-response.headers incoming-response.status
    outgoing-body.finish outgoing-body.write outgoing-request outgoing-request.authority
    outgoing-request.body outgoing-request.headers outgoing-request.method outgoing-request.path-with-query
    outgoing-request.scheme outgoing-request.set-authority outgoing-request.set-method
    outgoing-request.set-path-with-query outgoing-request.set-scheme outgoing-response
    outgoing-response.body outgoing-response.headers outgoing-response.set-status-code
    outgoing-response.status-code request-options request-options.between-bytes-timeout
    request-options.clone request-options.connect-timeout request-options.first-byte-timeout
    request-options.get-between-bytes-timeout request-options.get-connect-timeout
    request-options.get-first-byte-timeout request-options.set-between-bytes-timeout
    request-options.set-connect-timeout request-options.set-first-byte-timeout request.consume-body
    request.get-authority request.get-headers request.get-method request.get-options
    request.get-path-with-query request.get-scheme request.new request.set-authority request.set-method
    request.set-path-with-query request.set-scheme response-outparam.send-informational
    response-outparam.set response.consume-body response.get-headers response.get-status-code response.new
    response.set-status-code
";

/// `wasi:io/streams` of WASI 0.2.
const STREAMS: &str = "
    input-stream.blocking-read input-stream.blocking-skip input-stream.read input-stream.skip
    input-stream.subscribe output-stream.blocking-flush output-stream.blocking-splice
    output-stream.blocking-write-and-flush output-stream.blocking-write-zeroes-and-flush
    output-stream.check-write output-stream.flush output-stream.splice output-stream.subscribe
    output-stream.write output-stream.write-zeroes
";
