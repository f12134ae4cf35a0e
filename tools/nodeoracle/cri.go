package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/internal/cri/opts"
	"github.com/containerd/containerd/v2/pkg/oci"
	osinterface "github.com/containerd/containerd/v2/pkg/os"
	securejoin "github.com/cyphar/filepath-securejoin"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	runtimespec "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// mountWhole makes every mount of a container, in the order and with the default ones that the CRI plugin's own code says.
func mountWhole(ctx context.Context, folder, root string, asked *question, image ocispec.ImageConfig) (map[string]string, error) {
	sources := filepath.Join(folder, "sources")
	if err := os.Mkdir(sources, 0o755); err != nil {
		return nil, err
	}
	// Each holds its name, by which it is known wherever it is found.
	for _, file := range []string{"file-hostname", "file-hosts", "file-resolv", "file-log"} {
		if err := os.WriteFile(filepath.Join(sources, file), []byte(file), 0o644); err != nil {
			return nil, err
		}
	}
	volumes := ofPod(sources, asked)
	added, err := ofContainerd(root, sources, volumes, image)
	if err != nil {
		return nil, err
	}
	spec := &runtimespec.Spec{}
	container := &containers.Container{ID: "oracle"}
	config := &runtime.ContainerConfig{Mounts: volumes}
	for _, opt := range []oci.SpecOpts{
		oci.WithDefaultSpecForPlatform("linux/amd64"),
		oci.WithoutRunMount,
		opts.WithMounts(osinterface.RealOS{}, config, added, "", nil),
	} {
		if err := opt(ctx, nil, container, spec); err != nil {
			return nil, err
		}
	}
	places := map[string]string{}
	for number, mounted := range spec.Mounts {
		place, err := securejoin.SecureJoin(root, mounted.Destination)
		if err == nil {
			err = mountOne(folder, root, place, number, mounted, asked)
		}
		if err != nil {
			return nil, fmt.Errorf("mount at %s: %w", mounted.Destination, err)
		}
		places[mounted.Destination] = within(root, place)
	}
	return places, nil
}

// ofPod has the mounts that the kubelet asks for: the volumes as they are written, then its own (`kubernetes:pkg/kubelet/kubelet_pods.go`,
// `makeMounts`; `…/pkg/kubelet/kuberuntime/kuberuntime_container.go`, `makeMounts`). The source says which it is.
func ofPod(sources string, asked *question) []*runtime.Mount {
	var mounts []*runtime.Mount
	for number, path := range asked.Mounts {
		mounts = append(mounts, from(filepath.Join(sources, "volume"+strconv.Itoa(number)), path))
	}
	if !slices.Contains(asked.Mounts, "/etc/hosts") {
		mounts = append(mounts, from(filepath.Join(sources, "file-hosts"), "/etc/hosts"))
	}
	log := asked.TerminationLog
	if log == "" {
		log = "/dev/termination-log"
	}
	return append(mounts, from(filepath.Join(sources, "file-log"), log))
}

// ofContainerd has those that the CRI plugin adds, where the pod has none at that path
// (`containerd:internal/cri/server/container_create.go`, `linuxContainerMounts`, `volumeMounts`). A volume of the image gets a copy
// of what the image has there (`…/internal/cri/opts/container.go`, `WithVolumes`).
func ofContainerd(root, sources string, pod []*runtime.Mount, image ocispec.ImageConfig) ([]*runtime.Mount, error) {
	var mounts []*runtime.Mount
	add := func(source, path string) {
		same := func(mount *runtime.Mount) bool {
			return filepath.Clean(mount.ContainerPath) == filepath.Clean(path)
		}
		if !slices.ContainsFunc(pod, same) {
			mounts = append(mounts, from(filepath.Join(sources, source), path))
		}
	}
	add("file-hostname", "/etc/hostname")
	add("file-hosts", "/etc/hosts")
	add("file-resolv", "/etc/resolv.conf")
	add("folder-shm", "/dev/shm")
	number := 0
	for volume := range image.Volumes {
		name := "folder-image" + strconv.Itoa(number)
		number++
		place, err := securejoin.SecureJoin(root, volume)
		if err != nil {
			return nil, err
		}
		if info, err := os.Stat(place); err == nil && info.IsDir() {
			if err := os.CopyFS(filepath.Join(sources, name), os.DirFS(place)); err != nil {
				return nil, err
			}
		}
		add(name, path.Join("/", volume))
	}
	return mounts, nil
}

func from(source, path string) *runtime.Mount {
	return &runtime.Mount{HostPath: source, ContainerPath: path, Propagation: runtime.MountPropagation_PROPAGATION_PRIVATE}
}

// mountOne makes one mount as runc does: over a folder or a file, which it makes where there is none, and over nothing in `/proc`
// (`runc:libcontainer/rootfs_linux.go`, `mountToRootfs`, `checkProcMount`). What the kernel mounts is an empty folder here.
func mountOne(folder, root, place string, number int, mounted runtimespec.Mount, asked *question) error {
	source := mounted.Source
	if mounted.Type != "bind" {
		source = filepath.Join(folder, "kernel"+strconv.Itoa(number))
		if err := os.Mkdir(source, 0o755); err != nil {
			return err
		}
	} else if strings.HasPrefix(within(root, place), "/proc/") {
		return errors.New("it is inside of /proc")
	}
	name := filepath.Base(source)
	if volume, is := strings.CutPrefix(name, "volume"); is {
		number, err := strconv.Atoi(volume)
		if err != nil {
			return err
		}
		return mountVolume(folder, place, number, asked)
	}
	make := func() error { return os.MkdirAll(place, 0o755) }
	if strings.HasPrefix(name, "file-") {
		make = func() error { return errors.Join(os.MkdirAll(filepath.Dir(place), 0o755), touch(place)) }
	}
	if err := make(); err != nil {
		return err
	}
	return unix.Mount(source, place, "", unix.MS_BIND, "")
}

// touch makes an empty file where there is none.
func touch(place string) error {
	file, err := os.OpenFile(place, os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return file.Close()
}
