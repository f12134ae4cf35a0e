module wasmgate.dev/tools/noderelay

go 1.26.0

tool wasmgate.dev/tools/noderelay

require golang.org/x/sys v0.48.0
