package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	. "highwater/tests/clients/go/scenario"
)

func adminTopics(bootstrap string) {
	admin := kadm.NewClient(client(bootstrap))
	defer admin.Close()
	ctx, cancel := within()
	defer cancel()
	topic, hour := Unique("franz-admin"), "3600000"
	configs := map[string]*string{"retention.ms": &hour}
	exists := func() bool {
		topics, err := admin.ListTopics(ctx)
		Must(err, "list topics")
		return topics.Has(topic)
	}
	validated, err := admin.ValidateCreateTopics(ctx, 3, 1, configs, topic)
	Must(err, "validate")
	Must(validated.Error(), "validate")
	Check(!exists(), "validation made a topic")
	created, err := admin.CreateTopic(ctx, 3, 1, configs, topic)
	Must(err, "create")
	Equal(created.NumPartitions, 3, "partitions in the answer")
	_, err = admin.CreateTopic(ctx, 3, 1, nil, topic)
	refused("the same topic twice", err, kerr.TopicAlreadyExists)
	_, err = admin.CreateTopic(ctx, 1, 3, nil, Unique("wide"))
	refused("replication factor 3 on one node", err, kerr.InvalidReplicationFactor)
	_, err = admin.CreateTopic(ctx, 1, 1, nil, "no spaces")
	refused("an illegal name", err, kerr.InvalidTopicException)
	described, err := admin.ListTopics(ctx, topic)
	Must(err, "describe")
	Equal(described[topic].Partitions.Numbers(), []int32{0, 1, 2}, "partitions")
	Check(created.ID == described[topic].ID, "the topic id changed")
	grown, err := admin.UpdatePartitions(ctx, 5, topic)
	Must(err, "add partitions")
	Must(grown.Error(), "add partitions")
	Eventually("five partitions", func() bool {
		topics, err := admin.ListTopics(ctx, topic)
		return err == nil && len(topics[topic].Partitions) == 5
	})
	shrunk, err := admin.UpdatePartitions(ctx, 2, topic)
	if err == nil {
		err = shrunk.Error()
	}
	Check(err != nil, "shrinking was not refused")
	_, err = admin.DeleteTopic(ctx, topic)
	Must(err, "delete")
	Eventually("the topic is gone", func() bool { return !exists() })
	_, err = admin.DeleteTopic(ctx, topic)
	refused("deleting it again", err, kerr.UnknownTopicOrPartition)
}

func adminConfigs(bootstrap string) {
	admin := kadm.NewClient(client(bootstrap))
	defer admin.Close()
	ctx, cancel := within()
	defer cancel()
	topic := newTopic(bootstrap, "configs", 1, map[string]string{"retention.ms": "3600000"})
	described := func() map[string]*kadm.Config {
		resources, err := admin.DescribeTopicConfigs(ctx, topic)
		Must(err, "describe configs")
		entries := map[string]*kadm.Config{}
		for _, entry := range resources[0].Configs {
			entries[entry.Key] = &entry
		}
		return entries
	}
	alter := func(op kadm.IncrementalOp, name, value string) error {
		change := kadm.AlterConfig{Op: op, Name: name, Value: &value}
		if op == kadm.DeleteConfig {
			change.Value = nil
		}
		answers, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{change}, topic)
		Must(err, "alter configs")
		return answers[0].Err
	}
	entries := described()
	Check(len(entries) > 20, "only %d configs are described", len(entries))
	Equal(entries["retention.ms"].MaybeValue(), "3600000", "retention.ms")
	Check(isDefault(entries["segment.bytes"]), "a value never set says it is not the default")
	Check(!isDefault(entries["retention.ms"]), "a set value says it is the default")
	Must(alter(kadm.SetConfig, "segment.bytes", "2097152"), "set")
	Must(alter(kadm.AppendConfig, "cleanup.policy", "compact"), "append")
	entries = described()
	Equal(entries["segment.bytes"].MaybeValue(), "2097152", "segment.bytes")
	policies := strings.Split(entries["cleanup.policy"].MaybeValue(), ",")
	sort.Strings(policies)
	Equal(policies, []string{"compact", "delete"}, "cleanup.policy")
	Equal(entries["retention.ms"].MaybeValue(), "3600000", "retention.ms, untouched")
	Must(alter(kadm.SubtractConfig, "cleanup.policy", "delete"), "subtract")
	Must(alter(kadm.DeleteConfig, "retention.ms", ""), "delete")
	entries = described()
	Equal(entries["cleanup.policy"].MaybeValue(), "compact", "cleanup.policy")
	Check(isDefault(entries["retention.ms"]), "retention.ms was not reset")
	refused("a value out of range", alter(kadm.SetConfig, "segment.bytes", "-7"), kerr.InvalidConfig)
	brokers, err := admin.ListBrokers(ctx)
	Must(err, "list brokers")
	of, err := admin.DescribeBrokerConfigs(ctx, brokers[0].NodeID)
	Must(err, "describe the broker")
	Check(len(of[0].Configs) > 20, "only %d broker configs", len(of[0].Configs))
}

func isDefault(entry *kadm.Config) bool {
	return strings.Contains(entry.Source.String(), "DEFAULT")
}

func adminGroups(bootstrap string) {
	admin := kadm.NewClient(client(bootstrap))
	defer admin.Close()
	ctx, cancel := within()
	defer cancel()
	topic, group := newTopic(bootstrap, "groups", 2, nil), Unique("franz-group")
	mustProduce(bootstrap, topic, numbers(0, 20, 2))
	m := join(bootstrap, group, topic)
	Eventually("all is read", func() bool { return seen(m) == 20 })
	describe := func() kadm.DescribedGroup {
		groups, err := admin.DescribeGroups(ctx, group)
		Must(err, "describe")
		Must(groups.Error(), "describe")
		return groups[group]
	}
	stable := describe()
	Equal(stable.State, "Stable", "state")
	Equal(len(stable.Members), 1, "members")
	Equal(len(stable.AssignedPartitions()[topic]), 2, "described assignment")
	listedGroup := func() bool {
		groups, err := admin.ListGroups(ctx)
		Must(err, "list")
		_, ok := groups[group]
		return ok
	}
	Check(listedGroup(), "the group is not listed")
	_, err := admin.DeleteGroup(ctx, group)
	refused("deleting a live group", err, kerr.NonEmptyGroup)
	m.leave()
	Eventually("the group is empty", func() bool { return describe().State == "Empty" })
	var wanted kadm.Offsets
	wanted.Add(kadm.Offset{Topic: topic, Partition: 0, At: 7, LeaderEpoch: -1})
	wanted.Add(kadm.Offset{Topic: topic, Partition: 1, At: 8, LeaderEpoch: -1})
	Must(admin.CommitAllOffsets(ctx, group, wanted), "alter offsets")
	offsets := func() string {
		found, err := admin.FetchOffsets(ctx, group)
		Must(err, "list offsets")
		at := map[int32]int64{}
		for partition, offset := range found[topic] {
			at[partition] = offset.At
		}
		return fmt.Sprint(at)
	}
	Equal(offsets(), "map[0:7 1:8]", "offsets")
	var one kadm.TopicsSet
	one.Add(topic, 1)
	deleted, err := admin.DeleteOffsets(ctx, group, one)
	Must(err, "delete offsets")
	Must(deleted.Error(), "delete offsets")
	Equal(offsets(), "map[0:7]", "offsets left")
	_, err = admin.DeleteGroup(ctx, group)
	Must(err, "delete")
	Check(!listedGroup(), "the deleted group is listed")
	_, err = admin.DeleteGroup(ctx, group)
	refused("deleting it again", err, kerr.GroupIDNotFound)
}

func deleteRecords(bootstrap string) {
	admin := kadm.NewClient(client(bootstrap))
	defer admin.Close()
	ctx, cancel := within()
	defer cancel()
	topic := newTopic(bootstrap, "delete", 1, nil)
	mustProduce(bootstrap, topic, numbers(0, 10, 1))
	deleteTo := func(offset int64) error {
		var to kadm.Offsets
		to.Add(kadm.Offset{Topic: topic, Partition: 0, At: offset})
		deleted, err := admin.DeleteRecords(ctx, to)
		if err != nil {
			return err
		}
		return deleted.Error()
	}
	earliest := func() int64 {
		offsets, err := admin.ListStartOffsets(ctx, topic)
		Must(err, "list offsets")
		found, _ := offsets.Lookup(topic, 0)
		return found.Offset
	}
	Must(deleteTo(4), "delete records")
	Equal(earliest(), 4, "earliest")
	left := readFrom(bootstrap, topic, 0, kgo.NewOffset().AtStart(), 6)
	Equal(left[0].Offset, 4, "first record left")
	refused("deleting past the end", deleteTo(99), kerr.OffsetOutOfRange)
	Must(deleteTo(-1), "delete all records")
	Equal(earliest(), 10, "all gone")
}

func describeCluster(bootstrap string) {
	admin := kadm.NewClient(client(bootstrap))
	defer admin.Close()
	ctx, cancel := within()
	defer cancel()
	cluster, err := admin.BrokerMetadata(ctx)
	Must(err, "metadata")
	Check(cluster.Cluster != "", "no cluster id")
	Equal(len(cluster.Brokers), 1, "nodes")
	node := cluster.Brokers[0]
	Equal(fmt.Sprintf("%s:%d", node.Host, node.Port), bootstrap, "address")
	Equal(cluster.Controller, node.NodeID, "controller")
}
