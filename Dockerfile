# The gate's own image: `docker build -t registry.example.com/wasmgate:0.1.0 .` (or podman, buildah). None is published
# yet.
# The Rust version is that of Cargo.toml; both stages are of the same Debian, so that the C library fits.
FROM rust:1.95-trixie AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release --bin wasmgate

# The C library, time zones and CA certificates, and nothing else: no shell, no package manager, an unprivileged user.
FROM gcr.io/distroless/cc-debian13:nonroot
COPY --from=build /src/target/release/wasmgate /usr/local/bin/wasmgate
# By number, since a kubelet cannot tell from a name that it is not root.
USER 65532:65532
EXPOSE 8443 8080
ENTRYPOINT ["/usr/local/bin/wasmgate"]
CMD ["serve"]
