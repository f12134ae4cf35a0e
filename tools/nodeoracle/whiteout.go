package main

import (
	"archive/tar"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// convertWhiteout is `containerd:pkg/archive/tar_opts_linux.go`, `OverlayConvertWhiteout`, in a user namespace.
func convertWhiteout(_ *tar.Header, path string) (bool, error) {
	folder, base := filepath.Dir(path), filepath.Base(path)
	if base == ".wh..wh..opq" {
		return false, unix.Setxattr(folder, "user.overlay.opaque", []byte{'y'}, 0)
	}
	if name, isWhiteout := strings.CutPrefix(base, ".wh."); isWhiteout {
		return false, unix.Mknod(filepath.Join(folder, name), unix.S_IFCHR, 0)
	}
	return true, nil
}
