// The scenarios of SCENARIOS.md with sarama.
//
// usage: sarama BOOTSTRAP [SCENARIO...]
package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/IBM/sarama"

	. "highwater/tests/clients/go/scenario"
)

func main() {
	Main("sarama", "github.com/IBM/sarama", []Scenario{
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

// change is one deviation from the settings that all scenarios share.
type change func(*sarama.Config)

func config(changes ...change) *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Consumer.MaxWaitTime = 200 * time.Millisecond
	config.Consumer.Return.Errors = true
	for _, each := range changes {
		each(config)
	}
	return config
}

func newTopic(bootstrap, name string, partitions int32, entries map[string]string) string {
	topic := Unique("sarama-" + name)
	admin := adminOf(bootstrap)
	defer admin.Close()
	Must(admin.CreateTopic(topic, detail(partitions, 1, entries), false), "create topic")
	return topic
}

func detail(partitions int32, factor int16, entries map[string]string) *sarama.TopicDetail {
	values := map[string]*string{}
	for key, value := range entries {
		values[key] = &value
	}
	return &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: factor, ConfigEntries: values}
}

func adminOf(bootstrap string) sarama.ClusterAdmin {
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, config())
	Must(err, "admin client")
	return admin
}

func produce(bootstrap string, messages []*sarama.ProducerMessage, changes ...change) error {
	producer, err := sarama.NewSyncProducer([]string{bootstrap}, config(changes...))
	Must(err, "producer")
	defer producer.Close()
	err = producer.SendMessages(messages)
	var all sarama.ProducerErrors
	if errors.As(err, &all) {
		return all[0].Err
	}
	return err
}

func mustProduce(bootstrap string, messages []*sarama.ProducerMessage, changes ...change) {
	Must(produce(bootstrap, messages, changes...), "produce")
}

func message(topic, value string) *sarama.ProducerMessage {
	return &sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)}
}

// numbers are numbered messages dealt out over partitions.
func numbers(topic string, start, end, partitions int) []*sarama.ProducerMessage {
	var messages []*sarama.ProducerMessage
	for n := start; n < end; n++ {
		each := message(topic, fmt.Sprint(n))
		each.Partition = int32(n % partitions)
		messages = append(messages, each)
	}
	return messages
}

// reader reads one partition without a group.
type reader struct {
	consumer  sarama.Consumer
	partition sarama.PartitionConsumer
}

func openAt(bootstrap, topic string, partition int32, offset int64, changes ...change) (*reader, error) {
	consumer, err := sarama.NewConsumer([]string{bootstrap}, config(changes...))
	Must(err, "consumer")
	opened, err := consumer.ConsumePartition(topic, partition, offset)
	if err != nil {
		_ = consumer.Close()
		return nil, err
	}
	return &reader{consumer, opened}, nil
}

func (r *reader) close() {
	_ = r.partition.Close()
	_ = r.consumer.Close()
}

func (r *reader) read(count int) []*sarama.ConsumerMessage {
	var messages []*sarama.ConsumerMessage
	limit := time.After(Limit)
	for len(messages) < count {
		select {
		case each := <-r.partition.Messages():
			messages = append(messages, each)
		case err := <-r.partition.Errors():
			Must(err, "read")
		case <-limit:
			Check(false, "%d of %d messages came", len(messages), count)
		}
	}
	return messages
}

func (r *reader) nothingComes(when string) {
	select {
	case each := <-r.partition.Messages():
		Check(false, "%s: offset %d came", when, each.Offset)
	case <-time.After(time.Second):
	}
}

func readFrom(
	bootstrap, topic string, partition int32, offset int64, count int, changes ...change,
) []*sarama.ConsumerMessage {
	r, err := openAt(bootstrap, topic, partition, offset, changes...)
	Must(err, "open partition")
	defer r.close()
	return r.read(count)
}

func values(messages []*sarama.ConsumerMessage) []string {
	var values []string
	for _, each := range messages {
		values = append(values, string(each.Value))
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
	codecs := []sarama.CompressionCodec{
		sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4,
		sarama.CompressionZSTD,
	}
	for _, codec := range codecs {
		topic := newTopic(bootstrap, "codec-"+codec.String(), 1, nil)
		var messages []*sarama.ProducerMessage
		var wanted []string
		for n := range 200 {
			wanted = append(wanted, strings.Repeat(fmt.Sprintf("highwater %d ", n), 20))
			messages = append(messages, message(topic, wanted[n]))
		}
		mustProduce(bootstrap, messages, func(c *sarama.Config) { c.Producer.Compression = codec })
		Equal(values(readFrom(bootstrap, topic, 0, sarama.OffsetOldest, 200)), wanted, codec.String())
	}
}

func acks(bootstrap string) {
	topic := newTopic(bootstrap, "acks", 1, nil)
	levels := []sarama.RequiredAcks{sarama.NoResponse, sarama.WaitForLocal, sarama.WaitForAll}
	for _, level := range levels {
		sent := []*sarama.ProducerMessage{message(topic, fmt.Sprint(level))}
		mustProduce(bootstrap, sent, func(c *sarama.Config) { c.Producer.RequiredAcks = level })
	}
	Equal(values(readFrom(bootstrap, topic, 0, sarama.OffsetOldest, 3)), []string{"0", "1", "-1"}, "values")
}

func idempotent(c *sarama.Config) {
	c.Producer.Idempotent = true
	c.Net.MaxOpenRequests = 1
	c.Producer.Flush.MaxMessages = 50
}

func idempotentProduce(bootstrap string) {
	topic := newTopic(bootstrap, "idempotent", 4, nil)
	sent := numbers(topic, 0, 2000, 4)
	mustProduce(bootstrap, sent, idempotent)
	for n, each := range sent {
		Equal(each.Offset, int64(n/4), "delivered offset")
	}
	for partition := range int32(4) {
		for i, stored := range readFrom(bootstrap, topic, partition, sarama.OffsetOldest, 500) {
			Equal(stored.Offset, int64(i), "offset")
			Equal(string(stored.Value), fmt.Sprint(int(partition)+4*i), "order")
		}
	}
}

func keysAndValues(bootstrap string) {
	topic := newTopic(bootstrap, "nulls", 1, nil)
	var sent []*sarama.ProducerMessage
	var wanted, got []string
	for _, pair := range [][2][]byte{{nil, nil}, {nil, {}}, {{}, nil}, {{}, {}}, {[]byte("k"), []byte("v")}} {
		each := &sarama.ProducerMessage{Topic: topic}
		if pair[0] != nil {
			each.Key = sarama.ByteEncoder(pair[0])
		}
		if pair[1] != nil {
			each.Value = sarama.ByteEncoder(pair[1])
		}
		sent = append(sent, each)
		wanted = append(wanted, describeBytes(pair[0])+describeBytes(pair[1]))
	}
	mustProduce(bootstrap, sent)
	for _, each := range readFrom(bootstrap, topic, 0, sarama.OffsetOldest, 5) {
		got = append(got, describeBytes(each.Key)+describeBytes(each.Value))
	}
	Equal(got, wanted, "pairs")
}

func headers(bootstrap string) {
	topic := newTopic(bootstrap, "headers", 1, nil)
	binary := make([]byte, 256)
	for i := range binary {
		binary[i] = byte(i)
	}
	wanted := []sarama.RecordHeader{
		{Key: []byte("a"), Value: []byte("1")},
		{Key: []byte("b"), Value: nil},
		{Key: []byte("a"), Value: []byte("2")},
		{Key: []byte("empty"), Value: []byte{}},
		{Key: []byte("binary"), Value: binary},
	}
	sent := []*sarama.ProducerMessage{message(topic, "v"), message(topic, "w")}
	sent[0].Headers = wanted
	mustProduce(bootstrap, sent)
	stored := readFrom(bootstrap, topic, 0, sarama.OffsetOldest, 2)
	Equal(len(stored[0].Headers), len(wanted), "headers")
	for i, header := range stored[0].Headers {
		Equal(string(header.Key), string(wanted[i].Key), "header key")
		Equal(describeBytes(header.Value), describeBytes(wanted[i].Value), "value of header "+string(header.Key))
	}
	Equal(len(stored[1].Headers), 0, "no headers")
}

func timestamps(bootstrap string) {
	topic := newTopic(bootstrap, "timestamps", 1, nil)
	base := int64(1_700_000_000_000)
	var sent []*sarama.ProducerMessage
	for n := range int64(10) {
		each := message(topic, "v")
		each.Timestamp = time.UnixMilli(base + n*1000)
		sent = append(sent, each)
	}
	mustProduce(bootstrap, sent)
	for n, each := range readFrom(bootstrap, topic, 0, sarama.OffsetOldest, 10) {
		Equal(each.Timestamp.UnixMilli(), base+int64(n)*1000, "timestamp")
	}
	for stamp, offset := range map[int64]int64{0: 0, base + 4000: 4, base + 4001: 5, base + 9001: -1} {
		Equal(offsetAt(bootstrap, topic, stamp), offset, fmt.Sprintf("offset for %d", stamp-base))
	}
	appended := newTopic(bootstrap, "appended", 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	late := message(appended, "v")
	late.Timestamp = time.UnixMilli(base)
	mustProduce(bootstrap, []*sarama.ProducerMessage{late})
	stored := readFrom(bootstrap, appended, 0, sarama.OffsetOldest, 1)[0]
	Check(time.Since(stored.Timestamp).Abs() < time.Minute, "append time %v", stored.Timestamp)
}

func offsetAt(bootstrap, topic string, stamp int64) int64 {
	client, err := sarama.NewClient([]string{bootstrap}, config())
	Must(err, "client")
	defer client.Close()
	offset, err := client.GetOffset(topic, 0, stamp)
	Must(err, "list offsets")
	return offset
}

func largeMessage(bootstrap string) {
	topic := newTopic(bootstrap, "large", 1, nil)
	value := make([]byte, 1_000_000)
	_, err := rand.Read(value)
	Must(err, "random bytes")
	sized := func(bytes []byte, topic string) []*sarama.ProducerMessage {
		return []*sarama.ProducerMessage{{Topic: topic, Value: sarama.ByteEncoder(bytes)}}
	}
	more := func(c *sarama.Config) { c.Producer.MaxMessageBytes = 8_000_000 }
	mustProduce(bootstrap, sized(value, topic))
	mustProduce(bootstrap, sized([]byte("small"), topic))
	stored := readFrom(bootstrap, topic, 0, sarama.OffsetOldest, 2)
	Check(bytes.Equal(stored[0].Value, value), "the large value differs")
	Equal(string(stored[1].Value), "small", "the message after it")
	err = produce(bootstrap, sized(make([]byte, 2_000_000), topic), more)
	refused("2 MB under the default limit", err, sarama.ErrMessageSizeTooLarge)
	wide := newTopic(bootstrap, "wide", 1, map[string]string{"max.message.bytes": "8000000"})
	mustProduce(bootstrap, sized(make([]byte, 5_000_000), wide), more)
	large := readFrom(bootstrap, wide, 0, sarama.OffsetOldest, 1, func(c *sarama.Config) {
		c.Consumer.Fetch.Default = 100_000
	})[0]
	Equal(len(large.Value), 5_000_000, "size past the fetch limit")
}

func offsetResets(bootstrap string) {
	topic := newTopic(bootstrap, "resets", 1, nil)
	mustProduce(bootstrap, numbers(topic, 0, 10, 1))
	// A partition is read from where it is opened: the client's way to seek.
	for start, first := range map[int64]int64{3: 3, sarama.OffsetOldest: 0} {
		Equal(readFrom(bootstrap, topic, 0, start, 1)[0].Offset, first, "first offset read")
	}
	r, err := openAt(bootstrap, topic, 0, sarama.OffsetNewest)
	Must(err, "open at the end")
	defer r.close()
	r.nothingComes("at the end")
	mustProduce(bootstrap, numbers(topic, 10, 11, 1))
	Equal(r.read(1)[0].Offset, 10, "after the end")
	_, err = openAt(bootstrap, topic, 0, 99)
	refused("an offset past the end", err, sarama.ErrOffsetOutOfRange)
	// A group whose commit is out of range follows its policy.
	for policy, first := range map[int64]int64{sarama.OffsetOldest: 0, sarama.OffsetNewest: 11} {
		group := Unique("group")
		commitAt(bootstrap, group, topic, 0, 99, "")
		m := join(bootstrap, group, topic, func(c *sarama.Config) { c.Consumer.Offsets.Initial = policy })
		Eventually("the partition is owned", func() bool { return len(m.partitions()) == 1 })
		if policy == sarama.OffsetNewest {
			// The member opens the partition at the end a moment after it owns it.
			time.Sleep(500 * time.Millisecond)
			mustProduce(bootstrap, numbers(topic, 11, 12, 1))
		}
		Eventually("a message", func() bool { return m.first() >= 0 })
		Equal(m.first(), first, "first offset after the reset")
		m.leave()
	}
}

func readCommitted(bootstrap string) {
	topic := newTopic(bootstrap, "committed", 1, nil)
	mustProduce(bootstrap, numbers(topic, 0, 5, 1))
	admin := adminOf(bootstrap)
	defer admin.Close()
	for _, level := range []sarama.IsolationLevel{sarama.ReadCommitted, sarama.ReadUncommitted} {
		readFrom(bootstrap, topic, 0, sarama.OffsetOldest, 5, func(c *sarama.Config) {
			c.Consumer.IsolationLevel = level
		})
		asked := map[string]map[int32]int64{topic: {0: sarama.OffsetNewest}}
		found, err := admin.ListOffsets(asked, &sarama.ListOffsetsOptions{IsolationLevel: level})
		Must(err, "list offsets")
		Equal(found[topic][0].Offset, 5, "end")
	}
}

func listOffsets(bootstrap string) {
	topic := newTopic(bootstrap, "offsets", 1, nil)
	base := int64(1_700_000_000_000)
	var sent []*sarama.ProducerMessage
	for _, n := range []int64{0, 30, 10, 20} {
		each := message(topic, "v")
		each.Timestamp = time.UnixMilli(base + n)
		sent = append(sent, each)
	}
	mustProduce(bootstrap, sent)
	wanted := map[int64]int64{sarama.OffsetOldest: 0, sarama.OffsetNewest: 4, base + 5: 1, base + 31: -1}
	admin := adminOf(bootstrap)
	defer admin.Close()
	for stamp, offset := range wanted {
		found, err := admin.ListOffsets(map[string]map[int32]int64{topic: {0: stamp}}, nil)
		Must(err, "list offsets")
		Equal(found[topic][0].Offset, offset, fmt.Sprint("offset for ", stamp))
	}
}
