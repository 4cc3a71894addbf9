package main

import (
	"encoding/binary"
	"sync"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Slots of FlatNode (istio/proxy, extensions/common/node_info.fbs).
const (
	slotNamespace    = 1
	slotLabels       = 2
	slotWorkloadName = 4
	slotClusterID    = 9
	slotKey          = 0
	slotValue        = 1
)

// maxPeers bounds the cache; when there are more, all are forgotten and read again.
const maxPeers = 16_384

// peers reads the peers of filter state, each distinct one once.
type peers struct {
	mutex sync.RWMutex
	known map[string]*workload
}

func newPeers() *peers {
	return &peers{known: map[string]*workload{}}
}

func (p *peers) of(state *anypb.Any) *workload {
	p.mutex.RLock()
	peer, isKnown := p.known[string(state.GetValue())]
	p.mutex.RUnlock()
	if isKnown {
		return peer
	}
	peer = readPeer(state)
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if len(p.known) >= maxPeers {
		clear(p.known)
	}
	p.known[string(state.GetValue())] = peer
	return peer
}

func readPeer(state *anypb.Any) *workload {
	var bytes wrapperspb.BytesValue
	if state == nil || state.UnmarshalTo(&bytes) != nil || len(bytes.GetValue()) < 4 {
		return &workload{name: unknown, canonicalName: unknown, namespace: unknown, app: unknown, version: unknown}
	}
	return readFlatNode(bytes.GetValue())
}

func readFlatNode(bytes []byte) *workload {
	node := table{bytes, int(binary.LittleEndian.Uint32(bytes))}
	labels := map[string]string{}
	for _, label := range node.tables(slotLabels) {
		labels[label.text(slotKey)] = label.text(slotValue)
	}
	return &workload{
		name:              node.text(slotWorkloadName),
		namespace:         node.text(slotNamespace),
		cluster:           node.text(slotClusterID),
		app:               labels["app"],
		version:           labels["version"],
		canonicalName:     labels["service.istio.io/canonical-name"],
		canonicalRevision: labels["service.istio.io/canonical-revision"],
	}
}

// table is a FlatBuffers table: https://flatbuffers.dev/internals. It trusts its bytes, as they are the load generator's.
type table struct {
	bytes []byte
	at    int
}

// target is where the slot's offset leads, 0 of an absent one.
func (t table) target(slot int) int {
	vtable := t.at - int(int32(binary.LittleEndian.Uint32(t.bytes[t.at:])))
	entry := 4 + 2*slot
	if entry >= int(binary.LittleEndian.Uint16(t.bytes[vtable:])) {
		return 0
	}
	field := int(binary.LittleEndian.Uint16(t.bytes[vtable+entry:]))
	if field == 0 {
		return 0
	}
	return t.follow(t.at + field)
}

func (t table) follow(at int) int {
	return at + int(binary.LittleEndian.Uint32(t.bytes[at:]))
}

func (t table) text(slot int) string {
	at := t.target(slot)
	if at == 0 {
		return ""
	}
	length := int(binary.LittleEndian.Uint32(t.bytes[at:]))
	return string(t.bytes[at+4 : at+4+length])
}

func (t table) tables(slot int) []table {
	at := t.target(slot)
	if at == 0 {
		return nil
	}
	tables := make([]table, binary.LittleEndian.Uint32(t.bytes[at:]))
	for i := range tables {
		tables[i] = table{t.bytes, t.follow(at + 4 + 4*i)}
	}
	return tables
}
