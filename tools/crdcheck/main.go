// crdcheck judges custom resources by their CustomResourceDefinition like an API server: structural schema, OpenAPI
// validation and CEL rules, with the API server's own code.
//
//	crdcheck CRDS-FOLDER FILE...
//
// Prints one line per document: `ok FILE` or `bad FILE: reasons`; `broken` if the definition itself is refused. The
// exit code is 2 for a broken definition.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	structuralpruning "k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

// definition is what a CustomResourceDefinition says of one kind.
type definition struct {
	structural *structuralschema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: crdcheck CRDS-FOLDER FILE...")
		os.Exit(2)
	}
	definitions, err := load(os.Args[1])
	if err != nil {
		fmt.Printf("broken %v\n", err)
		os.Exit(2)
	}
	for _, file := range os.Args[2:] {
		if err := judge(definitions, file); err != nil {
			fmt.Printf("bad %s: %s\n", file, strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Printf("ok %s\n", file)
		}
	}
}

func load(folder string) (map[string]definition, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	decoder := serializer.NewCodecFactory(scheme).UniversalDeserializer()
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return nil, err
	}
	definitions := map[string]definition{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		object, _, err := decoder.Decode(text, nil, &v1.CustomResourceDefinition{})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		crd, isCRD := object.(*v1.CustomResourceDefinition)
		if !isCRD {
			return nil, fmt.Errorf("%s: not a CustomResourceDefinition", file)
		}
		scheme.Default(crd)
		known, err := define(scheme, crd)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		definitions[crd.Spec.Names.Kind] = known
	}
	return definitions, nil
}

func define(scheme *runtime.Scheme, crd *v1.CustomResourceDefinition) (definition, error) {
	internal := &apiextensions.CustomResourceDefinition{}
	if err := scheme.Convert(crd, internal, nil); err != nil {
		return definition{}, err
	}
	// The API server writes what it serves as stored before it checks.
	for _, version := range crd.Spec.Versions {
		if version.Storage {
			internal.Status.StoredVersions = []string{version.Name}
		}
	}
	if found := crdvalidation.ValidateCustomResourceDefinition(context.Background(), internal); len(found) > 0 {
		return definition{}, found.ToAggregate()
	}
	schema := internal.Spec.Validation
	if schema == nil {
		schema = internal.Spec.Versions[0].Schema
	}
	structural, err := structuralschema.NewStructural(schema.OpenAPIV3Schema)
	if err != nil {
		return definition{}, err
	}
	validator, _, err := validation.NewSchemaValidator(schema.OpenAPIV3Schema)
	if err != nil {
		return definition{}, err
	}
	rules := cel.NewValidator(structural, true, celconfig.PerCallLimit)
	return definition{structural: structural, schema: validator, rules: rules}, nil
}

func judge(definitions map[string]definition, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	documents := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	var all []error
	for {
		object := map[string]any{}
		if err := documents.Decode(&object); errors.Is(err, io.EOF) {
			return errors.Join(all...)
		} else if err != nil {
			return err
		}
		if len(object) > 0 {
			all = append(all, judgeOne(definitions, object))
		}
	}
}

func judgeOne(definitions map[string]definition, object map[string]any) error {
	kind, _ := object["kind"].(string)
	known, found := definitions[kind]
	if !found {
		return fmt.Errorf("no definition for kind %q", kind)
	}
	// `kubectl apply` requests strict field validation.
	options := structuralschema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	unknown := structuralpruning.PruneWithOptions(object, known.structural, true, options)
	if len(unknown) > 0 {
		return fmt.Errorf("unknown field %s", strings.Join(unknown, ", "))
	}
	wrong := validation.ValidateCustomResource(nil, object, known.schema)
	if len(wrong) == 0 && known.rules != nil {
		broken, _ := known.rules.Validate(context.Background(), field.NewPath(""), known.structural, object, nil,
			celconfig.RuntimeCELCostBudget)
		wrong = append(wrong, broken...)
	}
	return wrong.ToAggregate()
}
