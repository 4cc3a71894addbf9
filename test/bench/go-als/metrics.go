package main

import (
	"time"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"github.com/prometheus/client_golang/prometheus"
)

// In the order of filter/vocabulary/labels.ts.
var labelNames = []string{
	"reporter",
	"source_workload", "source_canonical_service", "source_canonical_revision", "source_workload_namespace",
	"source_principal", "source_app", "source_version", "source_cluster",
	"destination_workload", "destination_workload_namespace", "destination_principal", "destination_app",
	"destination_version", "destination_service", "destination_canonical_service", "destination_canonical_revision",
	"destination_service_name", "destination_service_namespace", "destination_cluster",
	"request_protocol", "response_code", "grpc_response_status", "response_flags", "connection_security_policy",
}

var bounds = []float64{
	0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000,
}

type metrics struct {
	registry      *prometheus.Registry
	requests      *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	requestBytes  *prometheus.HistogramVec
	responseBytes *prometheus.HistogramVec
}

func newMetrics() *metrics {
	histogram := func(name string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Buckets: bounds}, labelNames)
	}
	m := &metrics{
		registry:      prometheus.NewRegistry(),
		requests:      prometheus.NewCounterVec(prometheus.CounterOpts{Name: "istio_requests_total"}, labelNames),
		duration:      histogram("istio_request_duration_milliseconds"),
		requestBytes:  histogram("istio_request_bytes"),
		responseBytes: histogram("istio_response_bytes"),
	}
	m.registry.MustRegister(m.requests, m.duration, m.requestBytes, m.responseBytes)
	return m
}

// observe counts one entry under the values of labelNames.
func (m *metrics) observe(labels []string, entry *accesslog.HTTPAccessLogEntry) {
	request, response := entry.GetRequest(), entry.GetResponse()
	duration := entry.GetCommonProperties().GetDuration().AsDuration()
	m.requests.WithLabelValues(labels...).Inc()
	m.duration.WithLabelValues(labels...).Observe(float64(duration) / float64(time.Millisecond))
	m.requestBytes.WithLabelValues(labels...).
		Observe(float64(request.GetRequestHeadersBytes() + request.GetRequestBodyBytes()))
	m.responseBytes.WithLabelValues(labels...).
		Observe(float64(response.GetResponseHeadersBytes() + response.GetResponseBodyBytes()))
}
