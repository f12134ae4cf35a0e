// nodeoracle answers what a node makes of an image, with containerd's own packages: which manifest of an index it
// selects, what its layers leave in the overlay snapshotter's folders, and which file a path of the container leads to.
//
//	nodeoracle WORK-FOLDER
//
// Reads one question per line from standard input and writes one answer per line, both in JSON. The first line of
// output says how it runs. It needs the right to mount: as root, or in a user namespace of its own, in which a
// substitute writes containerd's whiteouts (see namespace.go).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/containerd/log"
)

// question is one image in an OCI image layout, and what to find out about it.
type question struct {
	// Layout is the folder of the image layout; the first entry of its `index.json` is pulled.
	Layout string `json:"layout"`
	// Before are layouts that the same node ran earlier, whose snapshots are still there.
	Before []string `json:"before,omitempty"`
	// Platform of the node, such as `linux/amd64`.
	Platform string `json:"platform"`
	// Pull is `transfer`, the CRI plugin's default, or `client`, as with `use_local_image_pull`.
	Pull string `json:"pull,omitempty"`
	// Mounts are mount paths of the pod's volumes; each is an empty folder, or an empty file over a file.
	Mounts []string `json:"mounts,omitempty"`
	// Contents are folders that the volumes are copies of, in the order of Mounts; over a file, a volume is a copy of the
	// folder's `app.wasm`.
	Contents []string `json:"contents,omitempty"`
	// SubPaths are the parts of the volumes that are mounted, in the order of Mounts; an empty one is the whole volume.
	SubPaths []string `json:"subPaths,omitempty"`
	// Whole says that the mounts are made as the CRI plugin makes them: in its order, with its own among them, those of the
	// kubelet and the volumes of the image. Without it the volumes are mounted as they are written, and nothing else is.
	Whole bool `json:"whole,omitempty"`
	// TerminationLog is the container's `terminationMessagePath`.
	TerminationLog string `json:"terminationLog,omitempty"`
	// WorkingDir is the container's; the runtime makes it where there is none.
	WorkingDir string `json:"workingDir,omitempty"`
	// Ask are absolute paths inside the container.
	Ask []string `json:"ask"`
}

// answer is the node's view of the image. Either Refused is set, or the rest.
type answer struct {
	Refused string `json:"refused,omitempty"`
	// Config is the digest of the chosen manifest's config, Layers those of its layers.
	Config string   `json:"config,omitempty"`
	Layers []string `json:"layers,omitempty"`
	// Program is what the image itself starts.
	Program *program `json:"program,omitempty"`
	// Files are keyed by the asked path; Mounted has the real places of the volumes by their mount path.
	Files   map[string]file   `json:"files,omitempty"`
	Mounted map[string]string `json:"mounted,omitempty"`
}

// program is what the CRI plugin takes from the image's config.
type program struct {
	Entrypoint []string `json:"entrypoint"`
	Cmd        []string `json:"cmd"`
	WorkingDir string   `json:"workingDir"`
	Env        []string `json:"env"`
}

// file is what a path leads to, with links followed inside the container.
type file struct {
	// Kind is `file`, `folder`, `absent`, `loop`, `other`.
	Kind string `json:"kind"`
	// Path is its real path.
	Path string `json:"path,omitempty"`
	// Digest of its content, `sha256:…`, and its first bytes, in hexadecimal digits.
	Digest string `json:"digest,omitempty"`
	Head   string `json:"head,omitempty"`
	Size   int64  `json:"size,omitempty"`
	// Mode are its permission bits, in octal.
	Mode string `json:"mode,omitempty"`
	// Link is the target, if the last part of the path is a symbolic link.
	Link string `json:"link,omitempty"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: nodeoracle WORK-FOLDER")
		os.Exit(2)
	}
	// containerd logs much that is not an error here.
	_ = log.SetLevel("panic")
	mode, err := enterNamespace()
	if err == nil {
		err = serve(context.Background(), os.Args[1], mode, os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "nodeoracle: %v\n", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, work string, mode string, input io.Reader, output io.Writer) error {
	work, unmount, err := prepareWork(work)
	if err != nil {
		return err
	}
	defer unmount()
	answers := json.NewEncoder(output)
	if err := answers.Encode(map[string]string{"containerd": version(), "namespace": mode}); err != nil {
		return err
	}
	lines := bufio.NewReader(input)
	for number := 0; ; number++ {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		} else if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		var asked question
		if err := json.Unmarshal(line, &asked); err != nil {
			return fmt.Errorf("question %d: %w", number, err)
		}
		given, err := ask(ctx, work, mode, number, &asked)
		if err != nil {
			return fmt.Errorf("question %d: %w", number, err)
		}
		if err := answers.Encode(given); err != nil {
			return err
		}
	}
}

// version of containerd that this was built with.
func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/containerd/containerd/v2" {
			return module.Version
		}
	}
	return "unknown"
}
