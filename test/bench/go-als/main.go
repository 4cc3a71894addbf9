// Envoy's access-log service (ALS v3) as one writes it in Go, with go-control-plane and Prometheus' client: it counts each entry in Istio's
// four HTTP metrics, the labels derived from the entry's fields. It has no indicators, no log store, and merges nothing.
//
// Prints one line of JSON with the addresses it listens on.
package main

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"

	als "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
)

const loopback = "127.0.0.1:0"

func main() {
	service := &service{metrics: newMetrics(), peers: newPeers()}
	grpcListener, httpListener := listen(), listen()

	server := grpc.NewServer()
	als.RegisterAccessLogServiceServer(server, service)
	go func() { log.Fatal(server.Serve(grpcListener)) }()

	http.Handle("/metrics", promhttp.HandlerFor(service.metrics.registry, promhttp.HandlerOpts{}))
	http.HandleFunc("/entries", service.writeEntries)
	http.HandleFunc("/livez", func(out http.ResponseWriter, _ *http.Request) { io.WriteString(out, "ok\n") })
	go func() { log.Fatal(http.Serve(httpListener, nil)) }()

	line := map[string]string{"msg": "listening", "grpc": grpcListener.Addr().String(), "http": httpListener.Addr().String()}
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		log.Fatal(err)
	}
	select {}
}

func listen() net.Listener {
	listener, err := net.Listen("tcp", loopback)
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

type service struct {
	als.UnimplementedAccessLogServiceServer
	metrics *metrics
	peers   *peers
	entries atomic.Uint64
}

// StreamAccessLogs counts what one logger of one proxy sends; its first message says which.
func (s *service) StreamAccessLogs(stream als.AccessLogService_StreamAccessLogsServer) error {
	var sender *sender
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&als.StreamAccessLogsResponse{})
		}
		if err != nil {
			return err
		}
		if identifier := message.GetIdentifier(); identifier != nil {
			sender = newSender(identifier)
		}
		entries := message.GetHttpLogs().GetLogEntry()
		for _, entry := range entries {
			s.metrics.observe(labelsOf(entry, sender, s.peers), entry)
		}
		s.entries.Add(uint64(len(entries)))
	}
}

func (s *service) writeEntries(out http.ResponseWriter, _ *http.Request) {
	io.WriteString(out, strconv.FormatUint(s.entries.Load(), 10))
}
