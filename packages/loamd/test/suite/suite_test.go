// containerd's own suite of snapshotters, over the socket of a loamd of its own for each test.
package suite

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"github.com/containerd/containerd/snapshots/testsuite"
	"google.golang.org/grpc"
)

func newSnapshotter(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
	socket := filepath.Join(root, "loam.sock")
	daemon := exec.Command(os.Getenv("LOAM_NODE"), os.Getenv("LOAMD"),
		"--root", filepath.Join(root, "store"), "--state", filepath.Join(root, "state"), "--grpc-socket", socket, "--log-level", "error")
	daemon.Stderr = os.Stderr
	if err := daemon.Start(); err != nil {
		return nil, nil, err
	}
	for tries := 0; ; tries++ {
		probe, err := net.Dial("unix", socket)
		if err == nil {
			probe.Close()
			break
		}
		if tries == 200 {
			return nil, nil, fmt.Errorf("loamd does not listen: %w", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	target := socket
	stop := func() {}
	if os.Getenv("LOAM_THROUGH") == "containerd" {
		target = filepath.Join(root, "containerd.sock")
		stop = startContainerd(root, socket, target)
	}
	conn, err := grpc.Dial("unix://"+target, grpc.WithInsecure())
	if err != nil {
		return nil, nil, err
	}
	clean := func() error {
		conn.Close()
		stop()
		daemon.Process.Signal(syscall.SIGTERM)
		return daemon.Wait()
	}
	// containerd wants to know whose snapshots they are; the daemon does not mind.
	return proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), "loam"), clean, nil
}

// startContainerd runs a containerd whose snapshotter "loam" is the daemon, and returns what ends it.
func startContainerd(root, socket, target string) func() {
	config := fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = %q
[proxy_plugins.loam]
  type = "snapshot"
  address = %q
`, filepath.Join(root, "containerd"), filepath.Join(root, "containerd-state"), target, socket)
	path := filepath.Join(root, "containerd.toml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		panic(err)
	}
	daemon := exec.Command("containerd", "-c", path, "-l", "error")
	if err := daemon.Start(); err != nil {
		panic(err)
	}
	for tries := 0; tries < 200; tries++ {
		if probe, err := net.Dial("unix", target); err == nil {
			probe.Close()
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return func() {
		daemon.Process.Signal(syscall.SIGTERM)
		daemon.Wait()
	}
}

func TestLoam(t *testing.T) {
	testsuite.SnapshotterSuite(t, "loam", newSnapshotter)
}
