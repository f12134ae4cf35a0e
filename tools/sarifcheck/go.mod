module wasmgate.dev/tools/sarifcheck

go 1.26.0

tool wasmgate.dev/tools/sarifcheck

require (
	github.com/owenrumney/go-sarif/v3 v3.3.1
	github.com/santhosh-tekuri/jsonschema/v6 v6.0.3
	github.com/xeipuuv/gojsonschema v1.2.0
)

require golang.org/x/text v0.14.0 // indirect

replace github.com/xeipuuv/gojsonschema => ./gojsonschema
