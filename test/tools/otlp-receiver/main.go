// OpenTelemetry's own receiver of metrics: the collector's otlpreceiver, over gRPC and HTTP, before its Prometheus exporter. What it took it
// writes to standard output as OTLP's JSON, a line for each request.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"os/signal"
	"sync"

	"github.com/open-telemetry/opentelemetry-collector-contrib/exporter/prometheusexporter"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/exporter/exportertest"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

var (
	grpcAddress       = flag.String("grpc", "", "address of OTLP over gRPC")
	httpAddress       = flag.String("http", "", "address of OTLP over HTTP")
	prometheusAddress = flag.String("prometheus", "", "address of /metrics")
	refuse            = flag.Int("refuse", 0, "every so many requests one is refused for now; 0: none")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	exporters := prometheusexporter.NewFactory()
	exporterConfig := exporters.CreateDefaultConfig().(*prometheusexporter.Config)
	exporterConfig.NetAddr.Endpoint = *prometheusAddress
	exporter, err := exporters.CreateMetrics(ctx, exportertest.NewNopSettings(exporters.Type()), exporterConfig)
	if err != nil {
		return err
	}
	next, err := consumer.NewMetrics(taker(exporter))
	if err != nil {
		return err
	}

	receivers := otlpreceiver.NewFactory()
	config := receivers.CreateDefaultConfig().(*otlpreceiver.Config)
	config.Protocols.GRPC.GetOrInsertDefault().NetAddr.Endpoint = *grpcAddress
	config.Protocols.HTTP.GetOrInsertDefault().ServerConfig.NetAddr.Endpoint = *httpAddress
	receiver, err := receivers.CreateMetrics(ctx, receivertest.NewNopSettings(receivers.Type()), config, next)
	if err != nil {
		return err
	}

	host := componenttest.NewNopHost()
	if err := exporter.Start(ctx, host); err != nil {
		return err
	}
	if err := receiver.Start(ctx, host); err != nil {
		return err
	}
	<-ctx.Done()
	return errors.Join(receiver.Shutdown(context.Background()), exporter.Shutdown(context.Background()))
}

func taker(exporter consumer.Metrics) consumer.ConsumeMetricsFunc {
	var lock sync.Mutex
	requests := 0
	return func(ctx context.Context, metrics pmetric.Metrics) error {
		lock.Lock()
		defer lock.Unlock()
		requests++
		if *refuse > 0 && requests%*refuse == 0 {
			return errors.New("not now")
		}
		text, err := (&pmetric.JSONMarshaler{}).MarshalMetrics(metrics)
		if err != nil {
			return err
		}
		if _, err := os.Stdout.Write(append(text, '\n')); err != nil {
			return err
		}
		return exporter.ConsumeMetrics(ctx, metrics)
	}
}
