// Command opacases writes OPA's own compliance cases, those of Rego v1 and of v0, as bundles that the gate can load: many
// cases to a module, each in a package of its own, with what OPA says that comes out.
//
//	opacases [-refuse name,name] DIRECTORY
package main

import (
	"context"
	"embed"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/compile"
	"github.com/open-policy-agent/opa/v1/test/cases"
	"github.com/open-policy-agent/opa/v1/test/cases/testdata"
	"github.com/open-policy-agent/opa/v1/util"
)

// Cases in one module. More of them make one function of OPA's compiler too large, fewer compile its library more often.
const perModule = 250

// The cases of Rego v0, which OPA's module has no code for: `needs` puts them here for the build.
//
//go:embed v0
var v0 embed.FS

// language is a version of Rego, with OPA's cases in it.
type language struct {
	name  string
	files fs.FS
	rego  ast.RegoVersion
	// Makes a rule of a query.
	rule string
}

var languages = []language{
	{"v1", testdata.V1, ast.RegoV1, "result contains {} if { true }"},
	{"v0", v0, ast.RegoV0, "result[{}] { true }"},
}

// capabilities are all that OPA has in the language.
func (in language) capabilities(experimental bool) *ast.Capabilities {
	return ast.CapabilitiesForThisVersion(ast.CapabilitiesRegoVersion(in.rego), ast.CapabilitiesExperimentalKeywords(experimental))
}

// Case is one case as the test reads it.
type Case struct {
	Rego       string            `json:"rego"`
	Note       string            `json:"note"`
	Builtins   []string          `json:"builtins"`
	Skipped    string            `json:"skipped,omitempty"`
	Bundle     string            `json:"bundle,omitempty"`
	Entrypoint string            `json:"entrypoint,omitempty"`
	Input      *any              `json:"input,omitempty"`
	Want       *[]map[string]any `json:"want,omitempty"`
	WantError  bool              `json:"want_error,omitempty"`
	Strict     bool              `json:"strict,omitempty"`
	Sort       bool              `json:"sort,omitempty"`

	modules []*ast.Module
	data    map[string]any
}

func main() {
	refuse := flag.String("refuse", "", "built-in functions that the gate refuses, separated by commas")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: opacases [-refuse name,name] DIRECTORY")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), strings.Split(*refuse, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "opacases:", err)
		os.Exit(1)
	}
}

func run(directory string, refused []string) error {
	var all []*Case
	for _, language := range languages {
		sources, err := language.load()
		if err != nil {
			return err
		}
		read := make([]*Case, 0, len(sources))
		for index, source := range sources {
			read = append(read, language.prepare(fmt.Sprintf("case%d", index), source, refused))
		}
		if err := language.writeAll(directory, read); err != nil {
			return err
		}
		all = append(all, read...)
	}
	text, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, "cases.json"), text, 0o644)
}

// writeAll compiles all cases of a language that can be run, those in strict mode apart.
func (in language) writeAll(directory string, all []*Case) error {
	for _, strict := range []bool{false, true} {
		var some []*Case
		for _, one := range all {
			if one.Skipped == "" && one.Strict == strict {
				some = append(some, one)
			}
		}
		for start := 0; start < len(some); start += perModule {
			part := some[start:min(start+perModule, len(some))]
			name := fmt.Sprintf("cases-%s-%t-%d", in.name, strict, start/perModule)
			if err := in.write(directory, name, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// load reads the cases in the order of their notes.
func (in language) load() ([]cases.TestCase, error) {
	var all []cases.TestCase
	err := fs.WalkDir(in.files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(in.files, path)
		if err != nil {
			return err
		}
		var set cases.Set
		if err := util.Unmarshal(text, &set); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, set.Cases...)
		return nil
	})
	return cases.Set{Cases: all}.Sorted().Cases, err
}

// prepare parses a case and moves it into a package of its own.
func (in language) prepare(name string, source cases.TestCase, refused []string) *Case {
	one := &Case{
		Rego:      in.name,
		Note:      source.Note,
		Want:      source.WantResult,
		WantError: source.WantError != nil || source.WantErrorCode != nil,
		Strict:    source.StrictError,
		Sort:      source.SortBindings,
		Input:     source.Input,
		data:      map[string]any{},
	}
	if source.Data != nil {
		one.data = *source.Data
	}
	if reason := in.parse(one, name, source); reason != "" {
		one.Skipped = reason
		return one
	}
	for _, builtin := range one.Builtins {
		for _, name := range refused {
			if builtin == name {
				one.Skipped = "refused: " + name
			}
		}
	}
	return one
}

// parse returns why the case cannot be run, or nothing.
func (in language) parse(one *Case, name string, source cases.TestCase) string {
	capabilities := in.capabilities(source.ExperimentalKeywords)
	options := ast.ParserOptions{RegoVersion: in.rego, Capabilities: capabilities, ProcessAnnotation: true}
	if len(source.Env) > 0 {
		return "it sets the environment"
	}
	for index, text := range source.Modules {
		module, err := ast.ParseModuleWithOpts(fmt.Sprintf("%s-%d.rego", name, index), text, options)
		if err != nil {
			return "it does not parse"
		}
		if err := move(module, name); err != nil {
			return "it cannot be moved"
		}
		one.modules = append(one.modules, module)
	}
	query, err := ast.ParseBodyWithOpts(source.Query, options)
	if err != nil {
		return "its query does not parse"
	}
	if source.InputTerm != nil {
		term, err := ast.ParseTerm(*source.InputTerm)
		if err != nil {
			return "its input is not readable"
		}
		// It may hold sets, which JSON does not.
		for _, expression := range query {
			expression.With = append(expression.With, &ast.With{Target: ast.NewTerm(ast.InputRootRef), Value: term})
		}
	}
	module, err := in.asRule(name, query)
	if err != nil {
		return "its query is no rule"
	}
	one.modules = append(one.modules, module)
	one.Entrypoint = name + "_query/result"
	compiler := ast.NewCompiler().WithDefaultRegoVersion(in.rego).WithCapabilities(capabilities)
	if compiler.Compile(one.named(name)); compiler.Failed() {
		return "it does not compile: " + strings.Split(compiler.Errors[0].Message, "\n")[0]
	}
	if conflicts := ast.CheckPathConflicts(compiler, one.hasData(name)); len(conflicts) > 0 {
		return "OPA takes no bundle with it: " + strings.ReplaceAll(conflicts[0].Message, name+"/", "")
	}
	for _, builtin := range compiler.Required.Builtins {
		one.Builtins = append(one.Builtins, builtin.Name)
	}
	// Those that `with` replaces are not required, and named by the module all the same.
	for _, module := range one.modules {
		ast.WalkRefs(module, func(ref ast.Ref) bool {
			if _, ok := ast.BuiltinMap[ref.String()]; ok && !slices.Contains(one.Builtins, ref.String()) {
				one.Builtins = append(one.Builtins, ref.String())
			}
			return false
		})
	}
	sort.Strings(one.Builtins)
	return ""
}

// hasData tells whether the data has a value at a path, or one above it that is no object, as OPA's store does.
func (one *Case) hasData(name string) func([]string) (bool, error) {
	return func(path []string) (bool, error) {
		var value any = map[string]any{name: one.data}
		for _, part := range path {
			members, ok := value.(map[string]any)
			if !ok {
				return true, nil
			}
			if value, ok = members[part]; !ok {
				return false, nil
			}
		}
		return true, nil
	}
}

func (one *Case) named(name string) map[string]*ast.Module {
	modules := map[string]*ast.Module{}
	for index, module := range one.modules {
		modules[fmt.Sprintf("%s-%d.rego", name, index)] = module.Copy()
	}
	return modules
}

// move puts `data.name` where `data` was.
func move(x any, name string) error {
	moved := func(ref ast.Ref) (ast.Value, error) {
		if len(ref) == 0 || !ref[0].Equal(ast.DefaultRootDocument) {
			return ref, nil
		}
		return append(ast.Ref{ref[0], ast.StringTerm(name)}, ref[1:]...), nil
	}
	if _, err := ast.TransformRefs(x, moved); err != nil {
		return err
	}
	// What `some … in` declares is left out by the transformation.
	var failed error
	ast.WalkNodes(x, func(node ast.Node) bool {
		declaration, ok := node.(*ast.SomeDecl)
		if !ok {
			return false
		}
		for index, symbol := range declaration.Symbols {
			value, err := ast.TransformRefs(symbol.Value, moved)
			if err != nil {
				failed = err
			} else if value, ok := value.(ast.Value); ok {
				declaration.Symbols[index] = ast.NewTerm(value)
			}
		}
		return false
	})
	return failed
}

// asRule makes a rule of a query: its bindings are the members of a set.
func (in language) asRule(name string, query ast.Body) (*ast.Module, error) {
	module, err := ast.ParseModuleWithOpts(name+"-query.rego",
		"package "+name+"_query\n\n"+in.rule+"\n", ast.ParserOptions{RegoVersion: in.rego})
	if err != nil {
		return nil, err
	}
	declared := ast.NewVarSet()
	bound := ast.NewVarSet()
	for _, expression := range query {
		if some, ok := expression.Terms.(*ast.SomeDecl); ok {
			for _, symbol := range some.Symbols {
				if variable, ok := symbol.Value.(ast.Var); ok {
					declared.Add(variable)
				}
			}
		}
	}
	visitor := ast.NewVarVisitor().WithParams(ast.VarVisitorParams{SkipRefCallHead: true, SkipClosures: true})
	visitor.Walk(query)
	for variable := range visitor.Vars() {
		if !ast.ReservedVars.Contains(variable) && !variable.IsWildcard() && !variable.IsGenerated() && !declared.Contains(variable) {
			bound.Add(variable)
		}
	}
	var pairs [][2]*ast.Term
	for _, variable := range bound.Sorted() {
		pairs = append(pairs, ast.Item(ast.StringTerm(string(variable)), ast.NewTerm(variable)))
	}
	if err := move(query, name); err != nil {
		return nil, err
	}
	rule := module.Rules[0]
	rule.Head.Key = ast.ObjectTerm(pairs...)
	rule.Body = query
	return module, nil
}

// write compiles some cases to one bundle. A case that cannot be planned is left out.
func (in language) write(directory, name string, some []*Case) error {
	built, err := in.build(some)
	if err != nil {
		if len(some) == 1 {
			some[0].Skipped = "it is not planned: " + strings.Split(err.Error(), "\n")[0]
			return nil
		}
		half := len(some) / 2
		if err := in.write(directory, name+"a", some[:half]); err != nil {
			return err
		}
		return in.write(directory, name+"b", some[half:])
	}
	folder := filepath.Join(directory, name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	data := map[string]any{}
	for _, one := range some {
		one.Bundle = name
		data[strings.TrimSuffix(one.Entrypoint, "_query/result")] = one.data
	}
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "data.json"), text, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "policy.wasm"), built, 0o644)
}

func (in language) build(some []*Case) ([]byte, error) {
	capabilities := in.capabilities(true)
	entry, err := ast.ParseModuleWithOpts("gate.rego", "package wasmgate\n\nviolations := set()\n", ast.ParserOptions{RegoVersion: in.rego})
	if err != nil {
		return nil, err
	}
	source := &bundle.Bundle{Data: map[string]any{}}
	source.Manifest.Init()
	source.Modules = []bundle.ModuleFile{{URL: "gate.rego", Path: "gate.rego", Parsed: entry}}
	entrypoints := []string{"wasmgate/violations"}
	for _, one := range some {
		for path, module := range one.named(strings.TrimSuffix(one.Entrypoint, "_query/result")) {
			source.Modules = append(source.Modules, bundle.ModuleFile{URL: path, Path: path, Parsed: module})
		}
		entrypoints = append(entrypoints, one.Entrypoint)
	}
	compiler := compile.New().WithTarget(compile.TargetWasm).WithEntrypoints(entrypoints...).WithBundle(source).
		WithCapabilities(capabilities).WithRegoVersion(in.rego)
	if err := compiler.Build(context.Background()); err != nil {
		return nil, err
	}
	return compiler.Bundle().WasmModules[0].Raw, nil
}
