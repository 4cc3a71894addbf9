package main

import (
	"strconv"
	"strings"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	als "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
)

const unknown = "unknown"

// workload is what the labels say of one side of a call.
type workload struct {
	name, namespace, app, version, canonicalName, canonicalRevision, cluster string
}

// sender is the proxy that a stream comes from.
type sender struct {
	own       workload
	isInbound bool
}

func newSender(identifier *als.StreamAccessLogsMessage_Identifier) *sender {
	fields := identifier.GetNode().GetMetadata().GetFields()
	labels := fields["LABELS"].GetStructValue().GetFields()
	text := func(key string) string { return labels[key].GetStringValue() }
	own := workload{
		name:              fields["WORKLOAD_NAME"].GetStringValue(),
		namespace:         fields["NAMESPACE"].GetStringValue(),
		cluster:           fields["CLUSTER_ID"].GetStringValue(),
		app:               text("app"),
		version:           text("version"),
		canonicalName:     text("service.istio.io/canonical-name"),
		canonicalRevision: text("service.istio.io/canonical-revision"),
	}
	return &sender{own: own, isInbound: identifier.GetLogName() == "inbound"}
}

// labelsOf derives the values of labelNames, by the plain fields of an entry.
func labelsOf(entry *accesslog.HTTPAccessLogEntry, sender *sender, peers *peers) []string {
	if sender.isInbound {
		return inboundCall(entry, sender, peers).labels(entry)
	}
	return outboundCall(entry, sender, peers).labels(entry)
}

// call is what an entry says of both sides.
type call struct {
	reporter                              string
	source, destination                   *workload
	sourcePrincipal, destinationPrincipal string
	host, name, namespace                 string
	policy                                string
}

func inboundCall(entry *accesslog.HTTPAccessLogEntry, sender *sender, peers *peers) *call {
	common := entry.GetCommonProperties()
	tls := common.GetTlsProperties()
	own := &sender.own
	return &call{
		reporter:             "destination",
		source:               peers.of(common.GetFilterStateObjects()["wasm.downstream_peer"]),
		destination:          own,
		sourcePrincipal:      firstURI(tls.GetPeerCertificateProperties()),
		destinationPrincipal: firstURI(tls.GetLocalCertificateProperties()),
		host:                 own.canonicalName,
		name:                 own.canonicalName,
		namespace:            own.namespace,
		policy:               "mutual_tls",
	}
}

func outboundCall(entry *accesslog.HTTPAccessLogEntry, sender *sender, peers *peers) *call {
	common := entry.GetCommonProperties()
	tags := common.GetCustomTags()
	destination := peers.of(common.GetFilterStateObjects()["wasm.upstream_peer"])
	// outbound|9080||reviews.default.svc.cluster.local
	host := common.GetUpstreamCluster()[strings.LastIndexByte(common.GetUpstreamCluster(), '|')+1:]
	name, _, _ := strings.Cut(host, ".")
	return &call{
		reporter:             "source",
		source:               &sender.own,
		destination:          destination,
		sourcePrincipal:      tags["upstream_local_uri_san"],
		destinationPrincipal: tags["upstream_peer_uri_san"],
		host:                 host,
		name:                 name,
		namespace:            destination.namespace,
		policy:               unknown,
	}
}

func (c *call) labels(entry *accesslog.HTTPAccessLogEntry) []string {
	protocol, grpcStatus := "http", ""
	if strings.HasPrefix(entry.GetRequest().GetRequestHeaders()["content-type"], "application/grpc") {
		protocol, grpcStatus = "grpc", entry.GetResponse().GetResponseTrailers()["grpc-status"]
	}
	source, destination := c.source, c.destination
	return []string{
		c.reporter,
		source.name, source.canonicalName, source.canonicalRevision, source.namespace,
		c.sourcePrincipal, source.app, source.version, source.cluster,
		destination.name, destination.namespace, c.destinationPrincipal, destination.app,
		destination.version, c.host, destination.canonicalName, destination.canonicalRevision,
		c.name, c.namespace, destination.cluster,
		protocol, strconv.FormatUint(uint64(entry.GetResponse().GetResponseCode().GetValue()), 10), grpcStatus,
		flagsOf(entry.GetCommonProperties().GetResponseFlags()), c.policy,
	}
}

func firstURI(certificate *accesslog.TLSProperties_CertificateProperties) string {
	for _, name := range certificate.GetSubjectAltName() {
		if uri := name.GetUri(); uri != "" {
			return uri
		}
	}
	return ""
}

// flagsOf names those flags that the load has.
func flagsOf(flags *accesslog.ResponseFlags) string {
	var names []string
	if flags.GetUpstreamRequestTimeout() {
		names = append(names, "UT")
	}
	if flags.GetUpstreamConnectionTermination() {
		names = append(names, "UC")
	}
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ",")
}
