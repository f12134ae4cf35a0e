// sarifcheck judges SARIF logs by the JSON schema of the standard (OASIS SARIF 2.1.0): no field that it does not have, none
// missing that it requires, and values within their bounds, formats too.
//
//	sarifcheck FILE...
//
// Prints one line per file: `ok FILE` or `bad FILE: reasons`. The exit code is 1 if one is bad.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/xeipuuv/gojsonschema"
)

// place stands for the address of the schema; nothing is asked there.
const place = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: sarifcheck FILE...")
		os.Exit(2)
	}
	schema, err := standard()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sarifcheck:", err)
		os.Exit(2)
	}
	bad := false
	for _, file := range os.Args[1:] {
		if err := judge(schema, file); err != nil {
			bad = true
			fmt.Printf("bad %s: %s\n", file, strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Printf("ok %s\n", file)
		}
	}
	if bad {
		os.Exit(1)
	}
}

// standard is the schema that go-sarif holds its own logs to.
func standard() (*jsonschema.Schema, error) {
	if err := sarif.NewReport().Validate(); err != nil {
		return nil, err
	}
	if !strings.Contains(gojsonschema.Schema, "Static Analysis Results Format (SARIF) Version 2.1.0") {
		return nil, errors.New("go-sarif did not show its schema; what stands in for its validator has to change with it")
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(gojsonschema.Schema))
	if err != nil {
		return nil, err
	}
	compiler := jsonschema.NewCompiler()
	compiler.DefaultDraft(jsonschema.Draft4)
	compiler.AssertFormat()
	if err := compiler.AddResource(place, document); err != nil {
		return nil, err
	}
	return compiler.Compile(place)
}

func judge(schema *jsonschema.Schema, file string) error {
	raw, err := os.Open(file)
	if err != nil {
		return err
	}
	defer raw.Close()
	log, err := jsonschema.UnmarshalJSON(raw)
	if err != nil {
		return err
	}
	return schema.Validate(log)
}
