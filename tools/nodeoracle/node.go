package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/diff/apply"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/unpack"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.etcd.io/bbolt"
)

// node is a containerd without its services: content store, overlay snapshotter, their metadata, and the applier.
type node struct {
	platform    ocispec.Platform
	content     content.Store
	snapshotter snapshots.Snapshotter
	applier     diff.Applier
	close       func() error
}

const snapshotterName = "overlayfs"

func newNode(ctx context.Context, folder, mode string, platform ocispec.Platform) (*node, error) {
	blobs, err := local.NewLabeledStore(filepath.Join(folder, "content"), newLabels())
	if err != nil {
		return nil, err
	}
	var options []overlay.Opt
	if mode == userNamespace {
		// containerd does not check for it on a tmpfs, where older kernels had no such attributes.
		options = append(options, overlay.WithMountOptions([]string{"userxattr"}))
	}
	layers, err := overlay.NewSnapshotter(filepath.Join(folder, "snapshots"), options...)
	if err != nil {
		return nil, err
	}
	bolt, err := bbolt.Open(filepath.Join(folder, "metadata.db"), 0o600, &bbolt.Options{NoSync: true})
	if err != nil {
		return nil, err
	}
	// Its metadata lets containerd find the snapshot that another image left.
	database := metadata.NewDB(bolt, blobs, map[string]snapshots.Snapshotter{snapshotterName: layers})
	if err := database.Init(ctx); err != nil {
		return nil, err
	}
	store := database.ContentStore()
	var applier diff.Applier = apply.NewFileSystemApplier(store)
	if mode == userNamespace {
		applier = &substitute{store: store}
	}
	return &node{platform, store, database.Snapshotter(snapshotterName), applier, database.Close}, nil
}

// image is the result of a pull.
type image struct {
	manifest ocispec.Manifest
	config   ocispec.Image
	chain    digest.Digest
}

// pull does what `containerd:core/transfer/local/pull.go` and the CRI plugin's image store do. Its errors are the
// node's.
func (n *node) pull(ctx context.Context, layout, how string) (*image, error) {
	target, err := entry(layout)
	if err != nil {
		return nil, err
	}
	matcher := platforms.Only(n.platform)
	unpacker, err := unpack.NewUnpacker(ctx, n.content, unpack.WithUnpackPlatform(unpack.Platform{
		Platform: matcher, SnapshotterKey: snapshotterName, Snapshotter: n.snapshotter, Applier: n.applier,
	}))
	if err != nil {
		return nil, err
	}
	children := images.FilterPlatforms(images.ChildrenHandler(n.content), platforms.Ordered(n.platform))
	if how == "client" {
		children = images.LimitManifests(images.FilterPlatforms(images.ChildrenHandler(n.content), matcher), matcher, 1)
	}
	handler := images.Handlers(remotes.FetchHandler(n.content, registry{layout}), children)
	dispatched := images.Dispatch(ctx, unpacker.Unpack(handler), nil, target)
	if _, err := unpacker.Wait(); dispatched == nil && err != nil {
		dispatched = err
	}
	if dispatched != nil {
		return nil, fmt.Errorf("pull: %w", dispatched)
	}
	return n.stored(ctx, target)
}

// stored reads an image from the content store, as the CRI plugin does before it creates a container
// (`containerd:internal/cri/store/image/image.go`).
func (n *node) stored(ctx context.Context, target ocispec.Descriptor) (*image, error) {
	chosen, err := images.Manifest(ctx, n.content, target, platforms.Only(n.platform))
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	diffs, err := images.RootFS(ctx, n.content, chosen.Config)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	found := &image{manifest: chosen, chain: identity.ChainID(diffs)}
	text, err := content.ReadBlob(ctx, n.content, chosen.Config)
	if err == nil {
		err = json.Unmarshal(text, &found.config)
	}
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return found, nil
}

// start mounts the root file system of a container, as the CRI plugin requests it from the snapshotter.
func (n *node) start(ctx context.Context, image *image, target string) error {
	mounts, err := n.snapshotter.Prepare(ctx, "container", image.chain.String())
	if err != nil {
		return fmt.Errorf("container: %w", err)
	}
	if err := os.Mkdir(target, 0o700); err != nil {
		return err
	}
	if err := mount.All(mounts, target); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}

// entry is the image of a layout.
func entry(layout string) (ocispec.Descriptor, error) {
	text, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	var index ocispec.Index
	if err := json.Unmarshal(text, &index); err != nil {
		return ocispec.Descriptor{}, err
	}
	if len(index.Manifests) == 0 {
		return ocispec.Descriptor{}, fmt.Errorf("%s: index.json is empty", layout)
	}
	return index.Manifests[0], nil
}

// registry serves the blobs of a layout.
type registry struct{ layout string }

func (r registry) Fetch(_ context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := desc.Digest.Validate(); err != nil {
		return nil, err
	}
	return os.Open(filepath.Join(r.layout, "blobs", desc.Digest.Algorithm().String(), desc.Digest.Encoded()))
}

// labels of blobs, in memory.
type labels struct {
	lock sync.Mutex
	of   map[digest.Digest]map[string]string
}

func newLabels() *labels { return &labels{of: map[digest.Digest]map[string]string{}} }

func (l *labels) Get(of digest.Digest) (map[string]string, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return maps.Clone(l.of[of]), nil
}

func (l *labels) Set(of digest.Digest, set map[string]string) error {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.of[of] = maps.Clone(set)
	return nil
}

func (l *labels) Update(of digest.Digest, update map[string]string) (map[string]string, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.of[of] == nil {
		l.of[of] = map[string]string{}
	}
	maps.Copy(l.of[of], update)
	return maps.Clone(l.of[of]), nil
}
