// Two programs for the bench. `serve ROOT SOCKET` serves containerd's own overlay snapshotter on a socket, with no containerd around it.
// `measure SOCKET SNAPSHOTTER ROUNDS CLIENTS` prepares, mounts, commits and removes snapshots over a socket, as containerd's client does,
// and prints what each call took, in milliseconds, as JSON. `scale SOCKET SNAPSHOTTER COUNT PARENT…` prepares snapshots of images that were
// pulled by CRI, mounts them, asks for the usage of all and for their list, and removes them.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/contrib/snapshotservice"
	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/overlay"
	"github.com/containerd/containerd/snapshots/proxy"
	"google.golang.org/grpc"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		serve(os.Args[2], os.Args[3])
		return
	}
	if len(os.Args) > 5 && os.Args[1] == "scale" {
		count, err := strconv.Atoi(os.Args[4])
		check(err)
		json.NewEncoder(os.Stdout).Encode(scale(connect(os.Args[2], os.Args[3]), count, os.Args[5:]))
		return
	}
	if len(os.Args) != 6 || os.Args[1] != "measure" {
		log.Fatal("usage: snapshots serve ROOT SOCKET | measure SOCKET SNAPSHOTTER ROUNDS CLIENTS | scale SOCKET SNAPSHOTTER COUNT PARENT...")
	}
	rounds, err := strconv.Atoi(os.Args[4])
	check(err)
	clients, err := strconv.Atoi(os.Args[5])
	check(err)
	json.NewEncoder(os.Stdout).Encode(measure(os.Args[2], os.Args[3], rounds, clients))
}

func serve(root, socket string) {
	snapshotter, err := overlay.NewSnapshotter(root, overlay.AsynchronousRemove)
	check(err)
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	listener, err := net.Listen("unix", socket)
	check(err)
	check(server.Serve(listener))
}

type latency struct {
	P50       float64 `json:"p50"`
	P99       float64 `json:"p99"`
	PerSecond float64 `json:"perSecond"`
}

// measure runs rounds of each client, all clients at once.
func measure(socket, name string, rounds, clients int) map[string]latency {
	ctx := namespaces.WithNamespace(context.Background(), "bench")
	// Without it containerd collects what no image and no container needs.
	kept := snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "bench"})
	base := connect(socket, name)
	prefix := fmt.Sprintf("%d-%d", os.Getpid(), clients)
	_, err := base.Prepare(ctx, prefix+"-base-active", "", kept)
	check(err)
	check(base.Commit(ctx, prefix+"-base", prefix+"-base-active", kept))

	var mutex sync.Mutex
	took := map[string][]float64{}
	note := func(call string, start time.Time) {
		mutex.Lock()
		defer mutex.Unlock()
		took[call] = append(took[call], float64(time.Since(start).Microseconds())/1000)
	}
	var group sync.WaitGroup
	begin := time.Now()
	for client := 0; client < clients; client++ {
		group.Add(1)
		go func(client int) {
			defer group.Done()
			snapshotter := connect(socket, name)
			for round := 0; round < rounds; round++ {
				key := fmt.Sprintf("%s-%d-%d", prefix, client, round)
				start := time.Now()
				_, err := snapshotter.Prepare(ctx, key, prefix+"-base", kept)
				check(err)
				note("Prepare", start)
				start = time.Now()
				mounts, err := snapshotter.Mounts(ctx, key)
				check(err)
				note("Mounts", start)
				check(os.WriteFile(filepath.Join(upper(mounts), "file"), make([]byte, 4096), 0o644))
				start = time.Now()
				check(snapshotter.Commit(ctx, key+"-committed", key, kept))
				note("Commit", start)
				start = time.Now()
				check(snapshotter.Remove(ctx, key+"-committed"))
				note("Remove", start)
			}
		}(client)
	}
	group.Wait()
	seconds := time.Since(begin).Seconds()
	check(base.Remove(ctx, prefix+"-base"))
	result := map[string]latency{}
	for call, list := range took {
		sort.Float64s(list)
		result[call] = latency{
			P50:       list[len(list)/2],
			P99:       list[len(list)*99/100],
			PerSecond: float64(len(list)) / seconds,
		}
	}
	return result
}

// scale returns the median of each call, and of the whole list and the usage of all snapshots, as CRI asks for them every ten seconds.
func scale(snapshotter snapshots.Snapshotter, count int, parents []string) map[string]float64 {
	ctx := namespaces.WithNamespace(context.Background(), "k8s.io")
	kept := snapshots.WithLabels(map[string]string{"containerd.io/gc.root": "bench"})
	took := map[string][]float64{}
	timed := func(call string, run func() error) {
		start := time.Now()
		check(run())
		took[call] = append(took[call], float64(time.Since(start).Microseconds())/1000)
	}
	key := func(index int) string { return fmt.Sprintf("scale-%d", index) }
	for index := 0; index < count; index++ {
		timed("prepare", func() error {
			_, err := snapshotter.Prepare(ctx, key(index), parents[index%len(parents)], kept)
			return err
		})
	}
	folder, err := os.MkdirTemp("", "scale-")
	check(err)
	defer os.Remove(folder)
	for index := 0; index < count; index++ {
		var mounts []mount.Mount
		timed("mounts", func() (err error) {
			mounts, err = snapshotter.Mounts(ctx, key(index))
			return err
		})
		check(mount.All(mounts, folder))
		check(os.WriteFile(filepath.Join(folder, "written"), make([]byte, 4096), 0o644))
		check(mount.UnmountAll(folder, 0))
	}
	for round := 0; round < 11; round++ {
		var names []string
		timed("list", func() error {
			names = names[:0]
			return snapshotter.Walk(ctx, func(_ context.Context, info snapshots.Info) error {
				names = append(names, info.Name)
				return nil
			})
		})
		timed("usage", func() error {
			for _, name := range names {
				if _, err := snapshotter.Usage(ctx, name); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for index := 0; index < count; index++ {
		timed("remove", func() error { return snapshotter.Remove(ctx, key(index)) })
	}
	result := map[string]float64{}
	for call, list := range took {
		sort.Float64s(list)
		result[call] = list[len(list)/2]
	}
	return result
}

func connect(socket, name string) snapshots.Snapshotter {
	conn, err := grpc.Dial("unix://"+socket, grpc.WithInsecure())
	check(err)
	return proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(conn), name)
}

func upper(mounts []mount.Mount) string {
	for _, option := range mounts[0].Options {
		if path := strings.TrimPrefix(option, "upperdir="); path != option {
			return path
		}
	}
	return mounts[0].Source
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
