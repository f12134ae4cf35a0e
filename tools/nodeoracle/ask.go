package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/platforms"
	securejoin "github.com/cyphar/filepath-securejoin"
	"golang.org/x/sys/unix"
)

// ask answers one question on a node of its own. An error is this program's; a refusal by the node is in the answer.
func ask(ctx context.Context, work, mode string, number int, asked *question) (*answer, error) {
	platform, err := platforms.Parse(asked.Platform)
	if err != nil {
		return nil, err
	}
	folder := filepath.Join(work, strconv.Itoa(number))
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, err
	}
	defer os.RemoveAll(folder)
	ctx = namespaces.WithNamespace(ctx, "k8s.io")
	node, err := newNode(ctx, folder, mode, platform)
	if err != nil {
		return nil, err
	}
	defer node.close()
	for _, layout := range asked.Before {
		if _, err := node.pull(ctx, layout, asked.Pull); err != nil {
			return nil, fmt.Errorf("%s: %w", layout, err)
		}
	}
	pulled, err := node.pull(ctx, asked.Layout, asked.Pull)
	if err != nil {
		return &answer{Refused: err.Error()}, nil
	}
	root := filepath.Join(folder, "root")
	defer mount.UnmountRecursive(root, unix.MNT_DETACH)
	if err := node.start(ctx, pulled, root); err != nil {
		return &answer{Refused: err.Error()}, nil
	}
	given := describe(pulled)
	if asked.Whole {
		given.Mounted, err = mountWhole(ctx, folder, root, asked, pulled.config.Config)
	} else {
		given.Mounted, err = mountVolumes(folder, root, asked)
	}
	if err != nil {
		return &answer{Refused: err.Error()}, nil
	}
	if err := makeWorkingDir(root, asked.WorkingDir); err != nil {
		return &answer{Refused: err.Error()}, nil
	}
	given.Files, err = look(root, asked.Ask)
	return given, err
}

func describe(pulled *image) *answer {
	config := pulled.config.Config
	given := &answer{
		Config:  pulled.manifest.Config.Digest.String(),
		Program: &program{config.Entrypoint, config.Cmd, config.WorkingDir, config.Env},
	}
	for _, layer := range pulled.manifest.Layers {
		given.Layers = append(given.Layers, layer.Digest.String())
	}
	return given
}

// mountVolumes puts a volume at each path, with links followed inside the root, as runc does
// (`runc:libcontainer/rootfs_linux.go`).
func mountVolumes(folder, root string, asked *question) (map[string]string, error) {
	places := map[string]string{}
	for number, path := range asked.Mounts {
		place, err := securejoin.SecureJoin(root, path)
		if err != nil {
			return nil, fmt.Errorf("volume at %s: %w", path, err)
		}
		if err := mountVolume(folder, place, number, asked); err != nil {
			return nil, fmt.Errorf("volume at %s: %w", path, err)
		}
		places[path] = within(root, place)
	}
	return places, nil
}

// mountVolume puts one volume at a place: a file over a file, else a folder.
func mountVolume(folder, place string, number int, asked *question) error {
	content := ""
	if number < len(asked.Contents) {
		content = asked.Contents[number]
	}
	volume := filepath.Join(folder, "volume"+strconv.Itoa(number))
	if number < len(asked.SubPaths) && asked.SubPaths[number] != "" {
		return mountPart(volume, content, asked.SubPaths[number], place)
	}
	if info, err := os.Lstat(place); err == nil && !info.IsDir() {
		if err := fileVolume(volume, content); err != nil {
			return err
		}
	} else if err := errors.Join(os.MkdirAll(place, 0o755), folderVolume(volume, content)); err != nil {
		return err
	}
	return unix.Mount(volume, place, "", unix.MS_BIND, "")
}

// mountPart puts a part of a volume at a place. The kubelet makes a folder where the volume has none
// (`kubernetes:pkg/kubelet/kubelet_pods.go`, `makeMounts`).
func mountPart(volume, content, part, place string) error {
	if err := folderVolume(volume, content); err != nil {
		return err
	}
	source := filepath.Join(volume, part)
	if info, err := os.Stat(source); err == nil && !info.IsDir() {
		if err := errors.Join(os.MkdirAll(filepath.Dir(place), 0o755), touch(place)); err != nil {
			return err
		}
	} else if err := errors.Join(os.MkdirAll(source, 0o755), os.MkdirAll(place, 0o755)); err != nil {
		return err
	}
	return unix.Mount(source, place, "", unix.MS_BIND, "")
}

// makeWorkingDir makes the folder in which the program starts, as runc does (`runc:libcontainer/rootfs_linux.go`,
// `prepareRootfs`).
func makeWorkingDir(root, path string) error {
	place, err := securejoin.SecureJoin(root, path)
	if err != nil {
		return err
	}
	return os.MkdirAll(place, 0o755)
}

func fileVolume(volume, content string) error {
	if content == "" {
		return os.WriteFile(volume, nil, 0o600)
	}
	bytes, err := os.ReadFile(filepath.Join(content, "app.wasm"))
	return errors.Join(err, os.WriteFile(volume, bytes, 0o755))
}

func folderVolume(volume, content string) error {
	if content == "" {
		return os.Mkdir(volume, 0o755)
	}
	return os.CopyFS(volume, os.DirFS(content))
}

func within(root, path string) string { return filepath.Clean("/" + strings.TrimPrefix(path, root)) }

// look says what each path leads to. The kernel follows the links, as in a container.
func look(root string, paths []string) (map[string]file, error) {
	top, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(top)
	found := map[string]file{}
	for _, path := range paths {
		if found[path], err = lookAt(top, root, path); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return found, nil
}

func lookAt(top int, root, path string) (file, error) {
	link := ""
	if own, err := open(top, path, unix.O_NOFOLLOW); err == nil {
		target := make([]byte, unix.PathMax)
		// Only links have one.
		if length, err := unix.Readlinkat(own, "", target); err == nil {
			link = string(target[:length])
		}
		unix.Close(own)
	}
	opened, err := open(top, path, 0)
	switch {
	case errors.Is(err, unix.ELOOP):
		return file{Kind: "loop", Link: link}, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG), errors.Is(err, unix.EINVAL):
		return file{Kind: "absent", Link: link}, nil
	case err != nil:
		return file{}, err
	}
	defer unix.Close(opened)
	return describeFile(opened, root, link)
}

// The kernel answers EAGAIN if anything was renamed or mounted meanwhile, and asks to try again (openat2(2)).
func open(top int, path string, flags uint64) (opened int, err error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC | flags, Resolve: unix.RESOLVE_IN_ROOT}
	for range mostTries {
		opened, err = unix.Openat2(top, path, &how)
		if !errors.Is(err, unix.EAGAIN) {
			break
		}
	}
	return opened, err
}

// Most tries per path.
const mostTries = 1000

func describeFile(opened int, root, link string) (file, error) {
	var status unix.Stat_t
	if err := unix.Fstat(opened, &status); err != nil {
		return file{}, err
	}
	own := fmt.Sprintf("/proc/self/fd/%d", opened)
	place, err := os.Readlink(own)
	if err != nil {
		return file{}, err
	}
	found := file{Path: within(root, place), Link: link, Mode: fmt.Sprintf("%04o", status.Mode&0o7777)}
	switch status.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		found.Kind, found.Size = "file", status.Size
	case unix.S_IFDIR:
		found.Kind = "folder"
		return found, nil
	default:
		found.Kind = "other"
		return found, nil
	}
	content, err := os.Open(own)
	if err != nil {
		return file{}, err
	}
	defer content.Close()
	hash, head := sha256.New(), &bytes.Buffer{}
	if _, err := io.Copy(hash, io.TeeReader(io.LimitReader(content, 4), head)); err != nil {
		return file{}, err
	}
	if _, err := io.Copy(hash, content); err != nil {
		return file{}, err
	}
	found.Head = fmt.Sprintf("%x", head.Bytes())
	found.Digest = fmt.Sprintf("sha256:%x", hash.Sum(nil))
	return found, nil
}
