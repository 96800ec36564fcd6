package main

import (
	"fmt"
	"sort"
	"strings"

	"github.com/IBM/sarama"

	. "highwater/tests/clients/go/scenario"
)

func adminTopics(bootstrap string) {
	admin := adminOf(bootstrap)
	defer admin.Close()
	topic := Unique("sarama-admin")
	wanted := detail(3, 1, map[string]string{"retention.ms": "3600000"})
	exists := func() bool {
		topics, err := admin.ListTopics()
		Must(err, "list topics")
		_, ok := topics[topic]
		return ok
	}
	Must(admin.CreateTopic(topic, wanted, true), "validate")
	Check(!exists(), "validation made a topic")
	Must(admin.CreateTopic(topic, wanted, false), "create")
	refused("the same topic twice", admin.CreateTopic(topic, wanted, false), sarama.ErrTopicAlreadyExists)
	wide := admin.CreateTopic(Unique("wide"), detail(1, 3, nil), false)
	refused("replication factor 3 on one node", wide, sarama.ErrInvalidReplicationFactor)
	refused("an illegal name", admin.CreateTopic("no spaces", wanted, false), sarama.ErrInvalidTopic)
	partitions := func() int {
		described, err := admin.DescribeTopics([]string{topic})
		Must(err, "describe")
		for _, each := range described[0].Partitions {
			Equal(len(each.Isr), 1, "in-sync replicas")
			Equal(each.Leader, each.Isr[0], "leader")
		}
		return len(described[0].Partitions)
	}
	Equal(partitions(), 3, "partitions")
	Must(admin.CreatePartitions(topic, 5, nil, false), "add partitions")
	Eventually("five partitions", func() bool { return partitions() == 5 })
	refused("shrinking", admin.CreatePartitions(topic, 2, nil, false), sarama.ErrInvalidPartitions)
	Must(admin.DeleteTopic(topic), "delete")
	Eventually("the topic is gone", func() bool { return !exists() })
	refused("deleting it again", admin.DeleteTopic(topic), sarama.ErrUnknownTopicOrPartition)
}

func adminConfigs(bootstrap string) {
	admin := adminOf(bootstrap)
	defer admin.Close()
	topic := newTopic(bootstrap, "configs", 1, map[string]string{"retention.ms": "3600000"})
	described := func() map[string]sarama.ConfigEntry {
		listed, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic})
		Must(err, "describe configs")
		entries := map[string]sarama.ConfigEntry{}
		for _, entry := range listed {
			entries[entry.Name] = entry
		}
		return entries
	}
	alter := func(operation sarama.IncrementalAlterConfigsOperation, name, value string) error {
		change := sarama.IncrementalAlterConfigsEntry{Operation: operation, Value: &value}
		if operation == sarama.IncrementalAlterConfigsOperationDelete {
			change.Value = nil
		}
		changes := map[string]sarama.IncrementalAlterConfigsEntry{name: change}
		return admin.IncrementalAlterConfig(sarama.TopicResource, topic, changes, false)
	}
	entries := described()
	Check(len(entries) > 20, "only %d configs are described", len(entries))
	Equal(entries["retention.ms"].Value, "3600000", "retention.ms")
	Equal(entries["retention.ms"].Source, sarama.SourceTopic, "source of a set value")
	Equal(entries["segment.bytes"].Source, sarama.SourceDefault, "source of a value never set")
	Must(alter(sarama.IncrementalAlterConfigsOperationSet, "segment.bytes", "2097152"), "set")
	Must(alter(sarama.IncrementalAlterConfigsOperationAppend, "cleanup.policy", "compact"), "append")
	entries = described()
	Equal(entries["segment.bytes"].Value, "2097152", "segment.bytes")
	policies := strings.Split(entries["cleanup.policy"].Value, ",")
	sort.Strings(policies)
	Equal(policies, []string{"compact", "delete"}, "cleanup.policy")
	Equal(entries["retention.ms"].Value, "3600000", "retention.ms, untouched")
	Must(alter(sarama.IncrementalAlterConfigsOperationSubtract, "cleanup.policy", "delete"), "subtract")
	Must(alter(sarama.IncrementalAlterConfigsOperationDelete, "retention.ms", ""), "delete")
	entries = described()
	Equal(entries["cleanup.policy"].Value, "compact", "cleanup.policy")
	Equal(entries["retention.ms"].Source, sarama.SourceDefault, "source of a value reset")
	err := alter(sarama.IncrementalAlterConfigsOperationSet, "segment.bytes", "-7")
	refused("a value out of range", err, sarama.ErrInvalidConfig)
	_, node, err := admin.DescribeCluster()
	Must(err, "describe the cluster")
	resource := sarama.ConfigResource{Type: sarama.BrokerResource, Name: fmt.Sprint(node)}
	listed, err := admin.DescribeConfig(resource)
	Must(err, "describe the broker")
	Check(len(listed) > 20, "only %d broker configs", len(listed))
}

func adminGroups(bootstrap string) {
	admin := adminOf(bootstrap)
	defer admin.Close()
	topic, group := newTopic(bootstrap, "groups", 2, nil), Unique("sarama-group")
	mustProduce(bootstrap, numbers(topic, 0, 20, 2))
	m := join(bootstrap, group, topic)
	Eventually("all is read", func() bool { return seen(m) == 20 })
	describe := func() *sarama.GroupDescription {
		groups, err := admin.DescribeConsumerGroups([]string{group})
		Must(err, "describe")
		return groups[0]
	}
	stable := describe()
	Equal(stable.State, "Stable", "state")
	Equal(len(stable.Members), 1, "members")
	for _, each := range stable.Members {
		assignment, err := each.GetMemberAssignment()
		Must(err, "decode the assignment")
		Equal(len(assignment.Topics[topic]), 2, "described assignment")
	}
	listed := func() bool {
		groups, err := admin.ListConsumerGroups()
		Must(err, "list")
		_, ok := groups[group]
		return ok
	}
	Check(listed(), "the group is not listed")
	refused("deleting a live group", admin.DeleteConsumerGroup(group), sarama.ErrNonEmptyGroup)
	m.leave()
	Eventually("the group is empty", func() bool { return describe().State == "Empty" })
	commitAt(bootstrap, group, topic, 0, 7, "")
	commitAt(bootstrap, group, topic, 1, 8, "")
	found := committed(bootstrap, group, topic, 0, 1)
	Equal([]int64{found[0].Offset, found[1].Offset}, []int64{7, 8}, "offsets")
	Must(admin.DeleteConsumerGroupOffset(group, topic, 1), "delete an offset")
	found = committed(bootstrap, group, topic, 0, 1)
	Equal([]int64{found[0].Offset, found[1].Offset}, []int64{7, -1}, "offsets left")
	Must(admin.DeleteConsumerGroup(group), "delete")
	Check(!listed(), "the deleted group is listed")
	refused("deleting it again", admin.DeleteConsumerGroup(group), sarama.ErrGroupIDNotFound)
}

func deleteRecords(bootstrap string) {
	admin := adminOf(bootstrap)
	defer admin.Close()
	topic := newTopic(bootstrap, "delete", 1, nil)
	mustProduce(bootstrap, numbers(topic, 0, 10, 1))
	Must(admin.DeleteRecords(topic, map[int32]int64{0: 4}), "delete records")
	Equal(offsetAt(bootstrap, topic, sarama.OffsetOldest), 4, "earliest")
	Equal(readFrom(bootstrap, topic, 0, sarama.OffsetOldest, 6)[0].Offset, 4, "first message left")
	err := admin.DeleteRecords(topic, map[int32]int64{0: 99})
	// The client keeps only the text of a partition's error.
	Check(err != nil && strings.Contains(err.Error(), "outside the range"), "deleting past the end: %v", err)
	Must(admin.DeleteRecords(topic, map[int32]int64{0: -1}), "delete all records")
	Equal(offsetAt(bootstrap, topic, sarama.OffsetOldest), 10, "all gone")
}

func describeCluster(bootstrap string) {
	admin := adminOf(bootstrap)
	defer admin.Close()
	brokers, controller, err := admin.DescribeCluster()
	Must(err, "describe the cluster")
	Equal(len(brokers), 1, "nodes")
	Equal(brokers[0].Addr(), bootstrap, "address")
	Equal(brokers[0].ID(), controller, "controller")
}
