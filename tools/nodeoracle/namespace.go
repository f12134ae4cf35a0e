package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/archive"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// How the node's folders are mounted.
const (
	rootNamespace = "root"
	userNamespace = "user"
)

// inside tells the process in the namespace that it is there, and which namespace it is.
const inside = "NODEORACLE_NAMESPACE"

// enterNamespace runs this program again in a mount namespace of its own, and says in which one it runs: mounts end
// with the process. Without root, a user namespace of its own grants the right to mount.
func enterNamespace() (string, error) {
	if mode := os.Getenv(inside); mode != "" {
		return mode, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	err := again(rootNamespace, &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL})
	if errors.Is(err, unix.EPERM) {
		err = again(userNamespace, &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWNS | unix.CLONE_NEWUSER,
			Pdeathsig:   syscall.SIGKILL,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		})
	}
	return "", fmt.Errorf("could not get a mount namespace: %w; run it as root, or allow user namespaces (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)", err)
}

// again exits with the code of its child, or says why there is no child.
func again(mode string, attributes *syscall.SysProcAttr) error {
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	// Always the same decompressor: containerd uses igzip or unpigz if they are installed.
	child.Env = append(os.Environ(), inside+"="+mode, "CONTAINERD_DISABLE_IGZIP=1", "CONTAINERD_DISABLE_PIGZ=1")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = attributes
	if err := child.Start(); err != nil {
		return err
	}
	_ = child.Wait()
	os.Exit(child.ProcessState.ExitCode())
	return nil
}

// prepareWork mounts a tmpfs over the folder, which holds the folders of overlays.
func prepareWork(folder string) (string, func(), error) {
	folder, err := filepath.Abs(folder)
	if err != nil {
		return "", nil, err
	}
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "mode=0700"); err != nil {
		return "", nil, fmt.Errorf("could not mount a tmpfs on %s: %w", folder, err)
	}
	return folder, func() { _ = unix.Unmount(folder, unix.MNT_DETACH) }, nil
}

// substitute unpacks like containerd's applier as root, but in a user namespace: it marks an opaque folder in the
// `user.` namespace of attributes, which the mount option `userxattr` reads, and skips owners. What only root may do,
// such as setting an attribute of `trusted.`, fails here but not there.
type substitute struct{ store content.Provider }

func (s *substitute) Apply(ctx context.Context, desc ocispec.Descriptor, mounts []mount.Mount, _ ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	none := ocispec.Descriptor{}
	reader, err := s.store.ReaderAt(ctx, desc)
	if err != nil {
		return none, err
	}
	defer reader.Close()
	processor := diff.NewProcessorChain(desc.MediaType, content.NewReader(reader))
	for {
		if processor, err = diff.GetProcessor(ctx, processor, nil); err != nil {
			return none, fmt.Errorf("failed to get stream processor for %s: %w", desc.MediaType, err)
		}
		if processor.MediaType() == ocispec.MediaTypeImageLayer {
			break
		}
	}
	defer processor.Close()
	digester := desc.Digest.Algorithm().Digester()
	stream := io.TeeReader(processor, digester.Hash())
	upper, options := folders(mounts)
	if _, err := archive.Apply(ctx, upper, stream, options...); err != nil {
		return none, err
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return none, err
	}
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digester.Digest()}, nil
}

// folders says where a layer is unpacked: the lowest one into a folder, the others into the upper folder of an overlay
// (`containerd:core/diff/apply/apply_linux.go`).
func folders(mounts []mount.Mount) (string, []archive.ApplyOpt) {
	options := []archive.ApplyOpt{archive.WithNoSameOwner()}
	if mounts[0].Type != "overlay" {
		return mounts[0].Source, options
	}
	upper := ""
	for _, option := range mounts[0].Options {
		if value, found := strings.CutPrefix(option, "upperdir="); found {
			upper = value
		} else if value, found := strings.CutPrefix(option, "lowerdir="); found {
			options = append(options, archive.WithParents(strings.Split(value, ":")))
		}
	}
	return upper, append(options, archive.WithConvertWhiteout(convertWhiteout))
}
