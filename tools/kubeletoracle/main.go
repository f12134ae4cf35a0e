// kubeletoracle answers what the kubelet makes of a text in which variables stand, with its own package.
//
// Reads one question per line from standard input and writes one answer per line, both in JSON.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// question is one text of `command`, `args` or `env`, and the variables of its container.
type question struct {
	Text      string            `json:"text"`
	Variables map[string]string `json:"variables"`
}

// answer is what becomes of the text, and the names that were asked for on the way.
type answer struct {
	Text  string   `json:"text"`
	Asked []string `json:"asked"`
}

func main() {
	if err := serve(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "kubeletoracle: %v\n", err)
		os.Exit(1)
	}
}

func serve(input io.Reader, output io.Writer) error {
	questions, answers := json.NewDecoder(bufio.NewReader(input)), json.NewEncoder(output)
	for {
		var asked question
		if err := questions.Decode(&asked); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := answers.Encode(expand(asked)); err != nil {
			return err
		}
	}
}

func expand(asked question) answer {
	given := answer{Asked: []string{}}
	value := expansion.MappingFuncFor(asked.Variables)
	given.Text = expansion.Expand(asked.Text, func(name string) string {
		given.Asked = append(given.Asked, name)
		return value(name)
	})
	return given
}
