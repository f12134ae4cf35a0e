module wasmgate.dev/tools/grafanacheck

go 1.26.0

tool wasmgate.dev/tools/grafanacheck

require github.com/grafana/grafana-foundation-sdk/go v0.0.22
