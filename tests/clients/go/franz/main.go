// The scenarios of SCENARIOS.md with franz-go.
//
// usage: franz BOOTSTRAP [SCENARIO...]
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	. "highwater/tests/clients/go/scenario"
)

func main() {
	Main("franz-go", "github.com/twmb/franz-go", []Scenario{
		{"produce-codecs", produceCodecs},
		{"acks", acks},
		{"idempotent-produce", idempotentProduce},
		{"keys-and-values", keysAndValues},
		{"headers", headers},
		{"timestamps", timestamps},
		{"large-message", largeMessage},
		{"group-rebalance", groupRebalance},
		{"cooperative-sticky", cooperativeSticky},
		{"static-membership", staticMembership},
		{"consumer-protocol", consumerProtocol},
		{"commits", commits},
		{"offset-resets", offsetResets},
		{"read-committed", readCommitted},
		{"list-offsets", listOffsets},
		{"admin-topics", adminTopics},
		{"admin-configs", adminConfigs},
		{"admin-groups", adminGroups},
		{"delete-records", deleteRecords},
		{"describe-cluster", describeCluster},
		{"sasl-plain", saslPlain},
		{"sasl-scram-sha-256", saslScramSha256},
		{"sasl-scram-sha-512", saslScramSha512},
		{"sasl-oauthbearer", saslOauthbearer},
		{"tls-client-certificate", tlsClientCertificate},
	})
}

func client(bootstrap string, options ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append(options, kgo.SeedBrokers(bootstrap))...)
	Must(err, "client")
	return cl
}

// within gives a context that ends with the scenario's patience.
func within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), Limit)
}

func newTopic(bootstrap, name string, partitions int32, configs map[string]string) string {
	topic := Unique("franz-" + name)
	admin := kadm.NewClient(client(bootstrap))
	defer admin.Close()
	ctx, cancel := within()
	defer cancel()
	values := map[string]*string{}
	for key, value := range configs {
		values[key] = &value
	}
	_, err := admin.CreateTopic(ctx, partitions, 1, values, topic)
	Must(err, "create topic")
	return topic
}

func produce(bootstrap, topic string, records []*kgo.Record, options ...kgo.Opt) error {
	manual := kgo.RecordPartitioner(kgo.ManualPartitioner())
	cl := client(bootstrap, append([]kgo.Opt{kgo.DefaultProduceTopic(topic), manual}, options...)...)
	defer cl.Close()
	ctx, cancel := within()
	defer cancel()
	return cl.ProduceSync(ctx, records...).FirstErr()
}

func mustProduce(bootstrap, topic string, records []*kgo.Record, options ...kgo.Opt) {
	Must(produce(bootstrap, topic, records, options...), "produce")
}

// numbers are numbered records dealt out over partitions.
func numbers(start, end, partitions int) []*kgo.Record {
	var records []*kgo.Record
	for n := start; n < end; n++ {
		record := &kgo.Record{Value: fmt.Append(nil, n), Partition: int32(n % partitions)}
		records = append(records, record)
	}
	return records
}

func readFrom(bootstrap, topic string, partition int32, offset kgo.Offset, count int, options ...kgo.Opt) []*kgo.Record {
	at := map[string]map[int32]kgo.Offset{topic: {partition: offset}}
	cl := client(bootstrap, append(options, kgo.ConsumePartitions(at))...)
	defer cl.Close()
	return read(cl, count)
}

// read polls until `count` records have come; a fetch error ends the scenario.
func read(cl *kgo.Client, count int) []*kgo.Record {
	records, err := poll(cl, count, Limit)
	Must(err, fmt.Sprintf("%d of %d records came", len(records), count))
	return records
}

func poll(cl *kgo.Client, count int, limit time.Duration) ([]*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var records []*kgo.Record
	for len(records) < count {
		fetches := cl.PollRecords(ctx, count-len(records))
		if err := fetches.Err(); err != nil {
			return records, err
		}
		records = append(records, fetches.Records()...)
	}
	return records, nil
}

func nothingComes(cl *kgo.Client, when string) {
	records, err := poll(cl, 1, time.Second)
	Check(len(records) == 0 && errors.Is(err, context.DeadlineExceeded), "%s: %d records, %v", when, len(records), err)
}

func values(records []*kgo.Record) []string {
	var values []string
	for _, record := range records {
		values = append(values, string(record.Value))
	}
	return values
}

// describeBytes tells null from empty.
func describeBytes(bytes []byte) string {
	if bytes == nil {
		return "null"
	}
	return fmt.Sprintf("%q", bytes)
}

func refused(what string, err, expected error) {
	Check(errors.Is(err, expected), "%s: %v", what, err)
}

func produceCodecs(bootstrap string) {
	codecs := map[string]kgo.CompressionCodec{
		"none":   kgo.NoCompression(),
		"gzip":   kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(),
		"lz4":    kgo.Lz4Compression(),
		"zstd":   kgo.ZstdCompression(),
	}
	for name, codec := range codecs {
		topic := newTopic(bootstrap, "codec-"+name, 1, nil)
		var records []*kgo.Record
		for n := range 200 {
			records = append(records, kgo.StringRecord(strings.Repeat(fmt.Sprintf("highwater %d ", n), 20)))
		}
		mustProduce(bootstrap, topic, records, kgo.ProducerBatchCompression(codec))
		stored := readFrom(bootstrap, topic, 0, kgo.NewOffset().AtStart(), 200)
		Equal(values(stored), values(records), name)
		if name != "none" {
			Check(stored[0].Attrs.CompressionType() != 0, "%s came back uncompressed", name)
		}
	}
}

func acks(bootstrap string) {
	topic := newTopic(bootstrap, "acks", 1, nil)
	levels := map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()}
	for _, name := range []string{"0", "1", "all"} {
		options := []kgo.Opt{kgo.RequiredAcks(levels[name]), kgo.DisableIdempotentWrite()}
		mustProduce(bootstrap, topic, []*kgo.Record{kgo.StringRecord(name)}, options...)
	}
	Equal(values(readFrom(bootstrap, topic, 0, kgo.NewOffset().AtStart(), 3)), []string{"0", "1", "all"}, "values")
}

func idempotentProduce(bootstrap string) {
	topic := newTopic(bootstrap, "idempotent", 4, nil)
	sent := numbers(0, 2000, 4)
	mustProduce(bootstrap, topic, sent, kgo.ProducerBatchMaxBytes(2000))
	for partition := range int32(4) {
		stored := readFrom(bootstrap, topic, partition, kgo.NewOffset().AtStart(), 500)
		for i, record := range stored {
			Equal(record.Offset, int64(i), "offset")
			Equal(string(record.Value), fmt.Sprint(int(partition)+4*i), "order")
			Check(record.ProducerID >= 0, "a batch without producer id")
		}
	}
}

func keysAndValues(bootstrap string) {
	topic := newTopic(bootstrap, "nulls", 1, nil)
	var sent []*kgo.Record
	var wanted, got []string
	for _, pair := range [][2][]byte{{nil, nil}, {nil, {}}, {{}, nil}, {{}, {}}, {[]byte("k"), []byte("v")}} {
		sent = append(sent, &kgo.Record{Key: pair[0], Value: pair[1]})
		wanted = append(wanted, describeBytes(pair[0])+describeBytes(pair[1]))
	}
	mustProduce(bootstrap, topic, sent)
	for _, record := range readFrom(bootstrap, topic, 0, kgo.NewOffset().AtStart(), 5) {
		got = append(got, describeBytes(record.Key)+describeBytes(record.Value))
	}
	Equal(got, wanted, "pairs")
}

func headers(bootstrap string) {
	topic := newTopic(bootstrap, "headers", 1, nil)
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	wanted := []kgo.RecordHeader{
		{Key: "a", Value: []byte("1")},
		{Key: "b", Value: nil},
		{Key: "a", Value: []byte("2")},
		{Key: "empty", Value: []byte{}},
		{Key: "binary", Value: binary},
	}
	mustProduce(bootstrap, topic, []*kgo.Record{{Value: []byte("v"), Headers: wanted}, {Value: []byte("w")}})
	stored := readFrom(bootstrap, topic, 0, kgo.NewOffset().AtStart(), 2)
	Equal(len(stored[0].Headers), len(wanted), "headers")
	for i, header := range stored[0].Headers {
		Equal(header.Key, wanted[i].Key, "header key")
		Equal(describeBytes(header.Value), describeBytes(wanted[i].Value), "value of header "+header.Key)
	}
	Equal(len(stored[1].Headers), 0, "no headers")
}

func timestamps(bootstrap string) {
	topic := newTopic(bootstrap, "timestamps", 1, nil)
	base := int64(1_700_000_000_000)
	var records []*kgo.Record
	for n := range int64(10) {
		records = append(records, &kgo.Record{Value: []byte("v"), Timestamp: time.UnixMilli(base + n*1000)})
	}
	mustProduce(bootstrap, topic, records)
	for n, record := range readFrom(bootstrap, topic, 0, kgo.NewOffset().AtStart(), 10) {
		Equal(record.Timestamp.UnixMilli(), base+int64(n)*1000, "timestamp")
		Equal(record.Attrs.TimestampType(), 0, "timestamp type")
	}
	for stamp, offset := range map[int64]int64{0: 0, base + 4000: 4, base + 4001: 5, base + 9001: 10} {
		// The client itself turns "none" into the end.
		Equal(listed(bootstrap, topic, func(ctx context.Context, admin *kadm.Client) (kadm.ListedOffsets, error) {
			return admin.ListOffsetsAfterMilli(ctx, stamp, topic)
		}), offset, fmt.Sprintf("offset for %d", stamp-base))
	}
	appended := newTopic(bootstrap, "appended", 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	mustProduce(bootstrap, appended, []*kgo.Record{{Value: []byte("v"), Timestamp: time.UnixMilli(base)}})
	record := readFrom(bootstrap, appended, 0, kgo.NewOffset().AtStart(), 1)[0]
	Equal(record.Attrs.TimestampType(), 1, "timestamp type")
	Check(time.Since(record.Timestamp).Abs() < time.Minute, "append time %v", record.Timestamp)
}

// listed is the offset of partition 0 that a ListOffsets call of the admin client gives.
func listed(
	bootstrap, topic string,
	call func(context.Context, *kadm.Client) (kadm.ListedOffsets, error),
) int64 {
	admin := kadm.NewClient(client(bootstrap))
	defer admin.Close()
	ctx, cancel := within()
	defer cancel()
	offsets, err := call(ctx, admin)
	Must(err, "list offsets")
	found, ok := offsets.Lookup(topic, 0)
	Check(ok && found.Err == nil, "list offsets: %v", found.Err)
	return found.Offset
}

func largeMessage(bootstrap string) {
	topic := newTopic(bootstrap, "large", 1, nil)
	value := make([]byte, 1_000_000)
	_, err := rand.Read(value)
	Must(err, "random bytes")
	mustProduce(bootstrap, topic, []*kgo.Record{{Value: value}, kgo.StringRecord("small")},
		kgo.ProducerBatchMaxBytes(1_048_588))
	stored := readFrom(bootstrap, topic, 0, kgo.NewOffset().AtStart(), 2)
	Check(slices.Equal(stored[0].Value, value), "the large value differs")
	Equal(string(stored[1].Value), "small", "the record after it")
	more := kgo.ProducerBatchMaxBytes(8_000_000)
	double := []*kgo.Record{{Value: make([]byte, 2_000_000)}}
	plain := kgo.ProducerBatchCompression(kgo.NoCompression())
	refused("2 MB under the default limit", produce(bootstrap, topic, double, more, plain), kerr.MessageTooLarge)
	wide := newTopic(bootstrap, "wide", 1, map[string]string{"max.message.bytes": "8000000"})
	mustProduce(bootstrap, wide, []*kgo.Record{{Value: make([]byte, 5_000_000)}}, more, plain)
	limits := []kgo.Opt{kgo.FetchMaxBytes(100_000), kgo.FetchMaxPartitionBytes(100_000)}
	large := readFrom(bootstrap, wide, 0, kgo.NewOffset().AtStart(), 1, limits...)[0]
	Equal(len(large.Value), 5_000_000, "size past the fetch limit")
}

func commits(bootstrap string) {
	topic, group := newTopic(bootstrap, "commits", 2, nil), Unique("group")
	mustProduce(bootstrap, topic, numbers(0, 20, 2))
	admin := kadm.NewClient(client(bootstrap))
	defer admin.Close()
	ctx, cancel := within()
	defer cancel()
	first := consumer(bootstrap, group, topic, kgo.DisableAutoCommit())
	read(first, 20)
	Must(first.CommitRecords(ctx, &kgo.Record{Topic: topic, Partition: 0, Offset: 3, LeaderEpoch: 0}), "commit")
	first.Close()
	committed := func() kadm.OffsetResponses {
		found, err := admin.FetchOffsetsForTopics(ctx, group, topic)
		Must(err, "fetch offsets")
		return found
	}
	found := committed()
	zero, _ := found.Lookup(topic, 0)
	one, _ := found.Lookup(topic, 1)
	Equal([]int64{zero.At, one.At}, []int64{4, -1}, "committed offsets")
	var marked kadm.Offsets
	marked.Add(kadm.Offset{Topic: topic, Partition: 0, At: 4, LeaderEpoch: -1, Metadata: "mark"})
	Must(admin.CommitAllOffsets(ctx, group, marked), "commit with metadata")
	zero, _ = committed().Lookup(topic, 0)
	Equal(zero.Metadata, "mark", "metadata")
	second := consumer(bootstrap, group, topic, kgo.DisableAutoCommit())
	for _, record := range read(second, 16) {
		Check(record.Partition == 1 || record.Offset >= 4, "read %d again", record.Offset)
	}
	Must(second.CommitUncommittedOffsets(ctx), "commit the position")
	second.Close()
	found = committed()
	zero, _ = found.Lookup(topic, 0)
	one, _ = found.Lookup(topic, 1)
	Equal([]int64{zero.At, one.At}, []int64{10, 10}, "committed positions")
}

func offsetResets(bootstrap string) {
	topic := newTopic(bootstrap, "resets", 1, nil)
	mustProduce(bootstrap, topic, numbers(0, 10, 1))
	start := map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}
	cl := client(bootstrap, kgo.ConsumePartitions(start))
	defer cl.Close()
	read(cl, 10)
	seek := func(offset int64) {
		cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {0: {Epoch: -1, Offset: offset}}})
	}
	seek(3)
	Equal(read(cl, 1)[0].Offset, 3, "after seek")
	ends := func(ctx context.Context, admin *kadm.Client) (kadm.ListedOffsets, error) {
		return admin.ListEndOffsets(ctx, topic)
	}
	seek(0)
	Equal(read(cl, 1)[0].Offset, 0, "after seek to the beginning")
	seek(listed(bootstrap, topic, ends))
	nothingComes(cl, "after seek to the end")
	mustProduce(bootstrap, topic, numbers(10, 11, 1))
	Equal(read(cl, 1)[0].Offset, 10, "after the end")
	// An offset past the end, under each policy.
	past := kgo.NewOffset().At(99)
	earliest := kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())
	Equal(readFrom(bootstrap, topic, 0, past, 1, earliest)[0].Offset, 0, "earliest")
	partitions := kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: past}})
	latest := client(bootstrap, partitions, kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()))
	defer latest.Close()
	nothingComes(latest, "after the reset to latest")
	mustProduce(bootstrap, topic, numbers(11, 12, 1))
	Equal(read(latest, 1)[0].Offset, 11, "latest")
	none := client(bootstrap, partitions, kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	defer none.Close()
	_, err := poll(none, 1, Limit)
	refused("no reset policy", err, kerr.OffsetOutOfRange)
}

func readCommitted(bootstrap string) {
	topic := newTopic(bootstrap, "committed", 1, nil)
	mustProduce(bootstrap, topic, numbers(0, 5, 1))
	for _, level := range []kgo.IsolationLevel{kgo.ReadCommitted(), kgo.ReadUncommitted()} {
		readFrom(bootstrap, topic, 0, kgo.NewOffset().AtStart(), 5, kgo.FetchIsolationLevel(level))
	}
	end := func(ctx context.Context, admin *kadm.Client) (kadm.ListedOffsets, error) {
		return admin.ListEndOffsets(ctx, topic)
	}
	stable := func(ctx context.Context, admin *kadm.Client) (kadm.ListedOffsets, error) {
		return admin.ListCommittedOffsets(ctx, topic)
	}
	Equal([]int64{listed(bootstrap, topic, end), listed(bootstrap, topic, stable)}, []int64{5, 5}, "ends")
}

func listOffsets(bootstrap string) {
	topic := newTopic(bootstrap, "offsets", 1, nil)
	base := int64(1_700_000_000_000)
	var records []*kgo.Record
	for _, n := range []int64{0, 30, 10, 20} {
		records = append(records, &kgo.Record{Value: []byte("v"), Timestamp: time.UnixMilli(base + n)})
	}
	mustProduce(bootstrap, topic, records)
	type call = func(context.Context, *kadm.Client) (kadm.ListedOffsets, error)
	wanted := map[string]struct {
		call   call
		offset int64
	}{
		"earliest": {func(ctx context.Context, admin *kadm.Client) (kadm.ListedOffsets, error) {
			return admin.ListStartOffsets(ctx, topic)
		}, 0},
		"latest": {func(ctx context.Context, admin *kadm.Client) (kadm.ListedOffsets, error) {
			return admin.ListEndOffsets(ctx, topic)
		}, 4},
		"largest timestamp": {func(ctx context.Context, admin *kadm.Client) (kadm.ListedOffsets, error) {
			return admin.ListMaxTimestampOffsets(ctx, topic)
		}, 1},
		"by time": {func(ctx context.Context, admin *kadm.Client) (kadm.ListedOffsets, error) {
			return admin.ListOffsetsAfterMilli(ctx, base+5, topic)
		}, 1},
	}
	for name, each := range wanted {
		Equal(listed(bootstrap, topic, each.call), each.offset, name)
	}
}
