// grafanacheck judges Grafana dashboards by the types that Grafana generates from its own schemas: no field that they do
// not have, none missing that they require, and values within their bounds, in panels and queries too.
//
//	grafanacheck FILE...
//
// Prints one line per file: `ok FILE` or `bad FILE: reasons`. The exit code is 1 if one is bad.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: grafanacheck FILE...")
		os.Exit(2)
	}
	// The options of panels and the queries of data sources are types of their own.
	plugins.RegisterDefaultPlugins()
	bad := false
	for _, file := range os.Args[1:] {
		if err := judge(file); err != nil {
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

func judge(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := real(new(dashboard.Dashboard).UnmarshalJSONStrict(raw)); err != nil {
		return err
	}
	// The strict reader keeps no panels (it takes its own empty list of errors for one), so they are read again.
	found := dashboard.Dashboard{}
	if err := json.Unmarshal(raw, &found); err != nil {
		return err
	}
	for _, panel := range found.Panels {
		if panel.Panel == nil {
			continue
		}
		// Of a kind of panel that they do not know, the readers take any options.
		if _, known := cog.ConfigForPanelcfgVariant(panel.Panel.Type); !known {
			return fmt.Errorf("the type `%s` of a panel is not one of Grafana's own", panel.Panel.Type)
		}
	}
	return real(found.Validate())
}

// real is the error, unless it is an empty list of errors, which the strict readers return for what is right.
func real(err error) error {
	var all cog.BuildErrors
	if errors.As(err, &all) && len(all) == 0 {
		return nil
	}
	return err
}
